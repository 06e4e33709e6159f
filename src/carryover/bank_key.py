"""What an embedding depends on, as the key that it is stored under.

A network is taken as it stands in memory: its parameters, the classes and plain settings of its
modules. So one that was trained on since it was loaded, or that differs in an activation alone, has
keys of its own. Code, library versions, device and threads are in the key too: sums in another
order differ in their last bits, and stages promise equal bytes.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from carryover.bank_out import Precision
from carryover.data.images import Encoded, Images
from carryover.files import DIGEST_LETTERS, digest
from carryover.models.encoders import Encoder
from carryover.models.features import Feature
from carryover.provenance import source_digest

FORMAT = 1  # of the bank's files


def image_keys(
    encoder: Encoder,
    images: Images,
    wanted: Sequence[Feature],
    *,
    precision: Precision,
    tokens: Precision,
    batch_size: int,
    shard_rows: int,
    device: torch.device,
) -> dict[Feature, str]:
    """The key of each feature of these images, in this order, by this encoder."""
    common = {
        "network": network_digest(encoder.image),
        "weights": encoder.weights,
        "name": encoder.name,
        "preprocess": encoder.preprocess.digest(),
        "images": images.digest,
        "rows": [len(images), batch_size, shard_rows],
        "decoder": _version("PIL") if isinstance(images.pixels, Encoded) else "",
        "arithmetic": _arithmetic(encoder.image, precision, device),
        "code": _code(),
        "format": FORMAT,
    }
    return {
        feature: digest(
            [feature.kind, feature.layer, common, tokens if feature.kind == "tokens" else ""]
        )
        for feature in wanted
    }


def text_key(encoder: Encoder, prompts: Sequence[str], precision: Precision, size: int) -> str:
    """The key of prompts embedded by the text network of an encoder that has one.

    Args:
        size: prompts embedded at once.
    """
    text = encoder.text
    assert text is not None
    module = _text_module(encoder)
    return digest(
        {
            "network": network_digest(module, encoder.image),
            "text": text.digest,
            "prompts": [*prompts],
            "batch": size,
            "arithmetic": _arithmetic(module, precision, text_device(encoder)),
            "code": _code(),
            "format": FORMAT,
        }
    )


def text_device(encoder: Encoder) -> torch.device:
    """Where an encoder's text network is; the image network may be elsewhere."""
    image = {id(parameter) for parameter in encoder.image.parameters()}
    module = _text_module(encoder)
    devices = (p.device for p in module.parameters() if id(p) not in image)
    return next(devices, torch.device("cpu"))


def _text_module(encoder: Encoder) -> nn.Module:
    assert encoder.text is not None
    return encoder.text.module or encoder.model


def network_digest(network: nn.Module, without: nn.Module | None = None) -> str:
    """Digest of a network as it stands: classes, plain settings and state of its modules.

    Args:
        without: a part of it whose own parameters, buffers and settings do not count.
    """
    apart = set(without.modules()) if without is not None and without is not network else set()
    state = hashlib.sha256()
    for name, module in network.named_modules():
        if module in apart:
            continue
        kind = type(module)
        plain = {key: value for key, value in sorted(vars(module).items()) if _is_plain(value)}
        state.update(repr((name, kind.__module__, kind.__qualname__, plain)).encode())
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for key, value in own:
            state.update(repr((key, str(value.dtype), tuple(value.shape))).encode())
            state.update(_bytes(value))
    return state.hexdigest()[:DIGEST_LETTERS]


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str | None)


def _bytes(value: Tensor) -> Any:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _arithmetic(network: nn.Module, precision: Precision, device: torch.device) -> list[Any]:
    """What decides the last bits of a sum: precision, library versions, processor and threads."""
    roots = {type(module).__module__.split(".")[0] for module in network.modules()} | {"torch"}
    common = [precision, {root: _version(root) for root in sorted(roots)}]
    if device.type == "cuda":
        short = [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]
        return [*common, torch.cuda.get_device_name(device), *short]
    capability = torch.backends.cpu.get_cpu_capability()
    return [*common, device.type, capability, torch.get_num_threads()]


def _version(package: str) -> str:
    return str(getattr(sys.modules.get(package), "__version__", ""))


@functools.cache
def _code() -> str:
    return source_digest("carryover.bank")
