"""Weights in the official file formats, read without running a line of what is in the file."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carryover.errors import DataError
from carryover.files import DIGEST_LETTERS

WRAPPERS = ("state_dict", "model")  # keys under which checkpoints hold the tensors
PARALLEL = "module."  # put before every name by a data-parallel wrapper
COUNTER = "num_batches_tracked"  # batch norm's count of batches; old files lack it
NAMED = 3  # names in a message
UNREADABLE = (  # raised by torch for bytes that are no file of its own
    *(OSError, EOFError, ValueError, KeyError, RuntimeError, IndexError, TypeError),
    *(AttributeError, AssertionError),
)
ANSI = re.compile(r"\x1b\[[0-9;]*m")  # colours of a terminal


@dataclass(frozen=True)
class State:
    """The tensors of a file by name, and what safetensors files say beside them."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> State:
    """Read ``.safetensors``, or PyTorch's format with nothing but tensors in it.

    A wrapping ``{"state_dict": ...}`` and ``module.`` before every name are taken off.

    Raises:
        DataError: no such file, a truncated one, a TorchScript archive, a pickle of anything but
            tensors, or tensors that are sparse, complex or without values.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a file of weights, found none; see docs/encoders.md")
    state = _safetensors(path) if path.name.endswith(".safetensors") else _torch(path)
    tensors = state.tensors
    odd = [f"{name}: {form}" for name, t in tensors.items() if (form := _odd(t))]
    if odd:
        raise DataError(
            f"{path}: expected dense tensors of real numbers, got {len(odd)} others "
            f"({first(odd)}); save them as such"
        )
    if tensors and all(name.startswith(PARALLEL) for name in tensors):
        tensors = {name.removeprefix(PARALLEL): tensor for name, tensor in tensors.items()}
    return State(path, tensors, state.metadata)


def _odd(tensor: Tensor) -> str:
    """What keeps a tensor from being copied into a network; "" for nothing."""
    if tensor.is_nested or tensor.layout != torch.strided:
        return "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
    if tensor.is_meta or tensor.is_quantized:
        return "meta, without values" if tensor.is_meta else "quantized"
    return str(tensor.dtype).removeprefix("torch.") if tensor.is_complex() else ""


def _safetensors(path: Path) -> State:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return State(path, tensors, dict(file.metadata() or {}))
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path}: expected a whole .safetensors file, cannot read it ({error}); fetch it again"
        ) from error


def _torch(path: Path) -> State:
    content = unpickled(path)
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise DataError(
            f"{path}: expected a state dict (names to tensors), got {type(content).__name__}; "
            "save the network's state_dict()"
        )
    return State(path, dict(content))


def unpickled(path: Path) -> Any:
    """What a file in PyTorch's format holds; nothing in it is run.

    Raises:
        DataError: no whole such file, a TorchScript archive, or one with anything but tensors and
            plain values.
    """
    if is_torchscript(path):
        raise DataError(
            f"{path}: expected a file of tensors, got a TorchScript archive, which is a program; "
            "`carryover weights convert` takes OpenAI's"
        )
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on pickles of another form
            # not by its name: torch reads whatever ends in .safetensors as that
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose text is a page of advice
        raise DataError(
            f"{path}: expected nothing but tensors, got a pickle that holds other objects or is "
            "damaged; save its state dict as .safetensors"
        ) from error
    except UNREADABLE as error:
        told = isinstance(error, RuntimeError | OSError | EOFError)  # others mean no word of theirs
        reason = f" ({ANSI.sub('', str(error)).splitlines()[0]})" if told and str(error) else ""
        raise DataError(
            f"{path}: expected a whole PyTorch file, cannot read it{reason}; fetch it again"
        ) from error


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive with code in it; only its list of contents is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def load_(module: nn.Module, tensors: Mapping[str, Tensor], origin: Path | str) -> None:
    """Copy tensors into a module, in its own precision; every name and shape must fit.

    Raises:
        DataError: missing or unexpected names, or other shapes; the message names the first.
    """
    own = module.state_dict()
    faults = []
    for what, names in (
        ("missing", [n for n in own if n not in tensors and not n.endswith(COUNTER)]),
        ("unexpected", [n for n in tensors if n not in own]),
    ):
        if names:
            faults.append(f"{len(names)} {what} ({first(names)})")
    shapes = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if shapes:
        faults.append(f"{len(shapes)} of another shape ({first(shapes)})")
    if faults:
        raise DataError(
            f"{origin}: expected the {len(own)} tensors of {type(module).__name__}, got "
            f"{', '.join(faults)}; name the architecture that these weights are of"
        )
    module.load_state_dict(tensors, strict=False)  # only counters may be absent


def first(names: Iterable[str]) -> str:
    """The first few names, and dots where there are more."""
    listed = list(names)
    return ", ".join(listed[:NAMED]) + (", ..." if len(listed) > NAMED else "")


def digest(tensors: Mapping[str, Tensor], form: Any) -> str:
    """Digest of a network: its tensors whatever file they came from, and its form.

    Args:
        tensors: a module's state by name. Batch norm's counters change no output and are left out.
        form: what the tensors do not say and outputs depend on (activation, heads, stride).
    """
    state = hashlib.sha256(json.dumps(form, sort_keys=True).encode())
    for name in sorted(tensors):
        if name.endswith(COUNTER):
            continue
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()[:DIGEST_LETTERS]
