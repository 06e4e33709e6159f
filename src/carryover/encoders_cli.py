"""What `carryover encoders`, `carryover layers` and `carryover weights convert` print."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

from torch import nn

from carryover.adapt import ogd_published
from carryover.adapt.ogd import Scope
from carryover.config import params as config
from carryover.config.encoders import EncoderEntry
from carryover.errors import ConfigError, DataError, pick
from carryover.models import archives, openclip
from carryover.models.encoders import OWN, RANDOM_SEED, SOURCES, Encoder, load
from carryover.models.layers import parameter_kinds
from carryover.models.simclr import RESNETS
from carryover.models.vision import TORCHVISION
from carryover.stages import PARAMS

SCOPES: dict[str, Scope] = {"joint": "joint", "tensor": "tensor"}


def table(base: Path = Path()) -> str:
    """Every family of encoders with the formats of its weights, and the names it takes."""
    own = sorted(path.parent.name for path in (base / OWN).glob("*/card.json"))
    names = {
        "open-clip": f"{len(openclip.architectures())} architectures, ViT-B-32 and RN50x16 among "
        "them; -quickgelu behind a name for OpenAI's weights",
        "timm": "any model of timm",
        "torchvision": ", ".join(TORCHVISION),
        "simclr": ", ".join(RESNETS),
        "cifar-resnet": "20, 32, 44, 56, 110",
        "pretrain": ", ".join(own) or "none yet: `dvc repro` makes them",
    }
    rows = [("source", "weights", "names")]
    for family, source in SOURCES.items():
        form = f"{family}:{source.argument}" if source.argument else family
        rows.append((form, source.formats, names.get(family, "")))
    note = f"without weights: random ones from seed {RANDOM_SEED}, but for pretrain:NAME"
    listed = [("of params.yaml", "source", "weights", "embeds")]
    for name, entry in _entries(base).items():
        listed.append((name, entry.source, entry.weights or "", ", ".join(entry.datasets)))
    return f"{_columns(rows)}\n{note}\n\n{_columns(listed)}"


def _entries(base: Path) -> dict[str, EncoderEntry]:
    """The encoders of ``params.yaml``; none where there is no such file."""
    return config.read(base / PARAMS).encoders if (base / PARAMS).exists() else {}


def layers(name: str, groups: bool = False, linear_only: bool = False, params: bool = False) -> str:
    """The depth of an encoder: its layer groups, its linear layers, or its parameters.

    Args:
        name: an encoder of ``params.yaml``, or a source of `encoders`; weights play no part.
        groups: each group with what of it is norm, attention and so on (also the default).
        linear_only: linear layers and their shapes, as low-rank adapters take them.
        params: every parameter with group, kind and shape.
    Raises:
        ConfigError: more than one of the three.
    """
    if groups + linear_only + params > 1:
        raise ConfigError("layers: expected one of --groups, --linear-only, --params, got several")
    entry = _entries(Path()).get(name)
    encoder = load(entry.source if entry else name)
    if linear_only:
        return _linear(encoder.image)
    return _parameters(encoder) if params else _groups(encoder)


def convert(file: Path, out: Path, basis: str = "") -> Path:
    """Write an archive of OpenAI's as ``.safetensors``; returns the file written.

    Args:
        basis: the file holds OGD's raw gradients instead, which become a basis of this scope.
    Raises:
        ConfigError: an unknown scope.
        DataError: a file that is none of gradients.
    """
    if not basis:
        return archives.convert(file, out)
    if file.suffix == ".safetensors":
        raise DataError(
            f"{file}: expected raw gradients in PyTorch's format (grad_NAME.pth), got a "
            ".safetensors file; name the original one"
        )
    ogd_published.convert(file, out, pick(SCOPES, basis, "weights convert --basis"))
    return out


def _groups(encoder: Encoder) -> str:
    sizes = {name: p.numel() for name, p in encoder.image.named_parameters()}
    kinds = parameter_kinds(encoder.image)
    found = sorted(set(kinds.values()))
    rows = [("group", "tensors", "parameters", *found)]
    for group, names in encoder.groups.items():
        of_kind = [sum(sizes[n] for n in names if kinds[n] == kind) for kind in found]
        counts = [len(names), sum(sizes[n] for n in names), *of_kind]
        rows.append((group, *(f"{count:,}" for count in counts)))
    features = ", ".join(encoder.kinds)
    return f"{_columns(rows)}\n{sum(sizes.values()):,} parameters; features: {features}"


def _parameters(encoder: Encoder) -> str:
    kinds = parameter_kinds(encoder.image)
    shapes = {name: tuple(p.shape) for name, p in encoder.image.named_parameters()}
    rows = [("parameter", "group", "kind", "shape", "size")]
    for group, names in encoder.groups.items():
        rows += [(n, group, kinds[n], _by(shapes[n]), f"{prod(shapes[n]):,}") for n in names]
    return _columns(rows)


def _linear(image: nn.Module) -> str:
    rows = [("linear layer", "out by in")]
    for name, module in image.named_modules():
        if isinstance(module, nn.Linear):
            rows.append((name, _by(module.weight.shape)))
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            # query, key and value in one matrix that is no layer of its own
            rows.append((f"{name}.in_proj_weight", _by(module.in_proj_weight.shape)))
    kinds = parameter_kinds(image)
    owners = dict(image.named_modules())
    for name, weight in image.named_parameters():
        owner = owners[name.rpartition(".")[0]]
        if kinds[name] == "projection" and weight.dim() == 2 and not isinstance(owner, nn.Linear):
            rows.append((name, _by(weight.shape[::-1])))  # as in open_clip: x @ proj
    return _columns(rows)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "1"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
