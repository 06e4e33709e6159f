"""OpenAI's TorchScript archives to files of tensors, the only such archives that are opened."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from carryover.errors import DataError
from carryover.files import write_bytes
from carryover.models.origins import OPENAI_KEYS, QUICK


def pinned() -> dict[str, str]:
    """SHA-256 of each of OpenAI's archives and its architecture, from open_clip's own table.

    OpenAI's addresses carry the digest as the last folder.
    """
    import open_clip

    found = {}
    for architecture in open_clip.list_pretrained_models_by_tag("openai"):
        url = open_clip.get_pretrained_url(architecture, "openai")
        if "openaipublic" in url:
            found[url.split("/")[-2]] = architecture.removesuffix(QUICK) + QUICK
    return found


def convert(file: Path, out: Path, known: Mapping[str, str] | None = None) -> Path:
    """Write an OpenAI archive's tensors, float32, as ``.safetensors`` with its architecture.

    An archive is a program, so its digest is compared with the pinned ones before it is opened,
    and the very bytes that were compared are what is opened.

    Args:
        out: the file to write, or a folder for ``<name>.safetensors``.
        known: digests and architectures; `pinned` by default.
    Returns:
        The file written; ``open-clip:ARCHITECTURE`` loads it.
    Raises:
        DataError: no such file, or one that is not OpenAI's.
    """
    from safetensors.torch import save

    known = pinned() if known is None else known
    if file.exists() and not file.is_file():
        raise DataError(f"{file}: expected an archive of OpenAI's, got no file; mend the path")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{file}: expected an archive of OpenAI's, cannot read it ({error.strerror})"
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 not in known:
        raise DataError(
            f"{file}: expected one of OpenAI's {len(known)} archives by their sha256, got "
            f"{sha256[:16]}...; it was not opened: fetch it again, or give a state dict"
        )
    with warnings.catch_warnings():  # loading archives is to go from torch; OpenAI has no others
        warnings.simplefilter("ignore", DeprecationWarning)
        state = torch.jit.load(io.BytesIO(content), map_location="cpu").state_dict()
    tensors = {
        name: tensor.detach().float().contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
        if name not in OPENAI_KEYS
    }
    metadata = {
        "format": "pt",
        "architecture": known[sha256],
        "quickgelu": "true",
        "source_sha256": sha256,
    }
    path = out / f"{file.stem}.safetensors" if out.is_dir() else out
    write_bytes(path, save(tensors, metadata))
    return path
