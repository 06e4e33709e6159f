"""Tensors in single files that are whole or absent, written as a stream and verified on read.

The format is safetensors, so that any reader opens them. The metadata hold a SHA-256 of all bytes
of the file (with zeros in the digest's own place): header, shapes and values are covered alike.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch import Tensor

from carryover.files import cannot_write

if TYPE_CHECKING:
    from _hashlib import HASH

UNSET = b"0" * 64
BLOCK = 2**20  # bytes read at once
TEXT = "text"  # folder of shards of prompts
HEADER_LIMIT = 2**20  # bytes: a length beyond it is damage
NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}

Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]


@contextmanager
def written(path: Path, layout: Layout, about: Mapping[str, str]) -> Iterator[Stream]:
    """A file to write tensors into, row by row; it appears when the block ends without an error.

    Args:
        layout: name, dtype and shape of each tensor, in the order their rows will be added.
        about: what else the metadata say.
    Raises:
        KitError: the disk is full or the folder cannot be written; an old file is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            stream = Stream(file, layout, about)
            yield stream
            stream.finish()
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        Path(name).unlink(missing_ok=True)


class Stream:
    """The file behind `written`: what was added is on its way to the disk, not in memory."""

    def __init__(self, file: BinaryIO, layout: Layout, about: Mapping[str, str]) -> None:
        header, self.left = _header(layout, about)
        self.file, self.place = file, header.index(UNSET)
        self.state = hashlib.sha256(header)
        file.write(header)

    def add(self, rows: Tensor) -> None:
        """The next rows, in the dtype of their tensor."""
        content = rows.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
        self.left -= content.nbytes
        self.state.update(content)
        self.file.write(content)

    def finish(self) -> None:
        assert not self.left, f"{self.left} bytes of the layout were not added"
        self.file.seek(self.place)
        self.file.write(self.state.hexdigest().encode())
        self.file.flush()
        os.fsync(self.file.fileno())


def _header(layout: Layout, about: Mapping[str, str]) -> tuple[bytes, int]:
    """Length and text of a safetensors header, and the bytes of values to follow."""
    tensors, end = {}, 0
    for name, (dtype, shape) in layout.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        tensors[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": [start, end]}
    # the digest first: no other text can stand before it and be taken for it
    metadata = {"sha256": UNSET.decode()} | dict(about)
    text = json.dumps({"__metadata__": metadata} | tensors, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, end


def opened(path: Path, about: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a file, memory mapped, after all of its bytes were verified.

    Args:
        about: what its metadata must say.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its bytes are not those that were written, or it is another file.
    """
    with path.open("rb") as file:
        try:
            found = _verified(file)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"its header says no {error}") from error
    if found is None or found != dict(about):
        raise ValueError("its digest differs" if found is None else f"it is of {found}")
    return mapped(path)


def fault(path: Path) -> str:
    """What is wrong with a shard of the bank, by its bytes and its place; "" where nothing is."""
    key = path.stem if path.parent.name == TEXT else path.parent.name
    try:
        with path.open("rb") as file:
            found = _verified(file) or {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found = {}
    if not found:
        return "got others"
    own = {"key": key, "shard": path.stem}
    return "" if own.items() <= found.items() else f"got those of {found}"


def mapped(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that was verified, memory mapped."""
    from safetensors import safe_open

    with safe_open(path, "pt") as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118


def _verified(file: BinaryIO) -> dict[str, str] | None:
    """The metadata of an unaltered file, None for another."""
    length = file.read(8)
    size = int.from_bytes(length, "little")
    if size > HEADER_LIMIT:
        return None
    text = file.read(size)
    about: dict[str, str] = json.loads(text)["__metadata__"]
    said = about.pop("sha256")
    state = hashlib.sha256(length + text.replace(said.encode(), UNSET, 1))
    return about if said == _of_rest(file, state) else None


def _of_rest(file: BinaryIO, state: HASH) -> str:
    while block := file.read(BLOCK):
        state.update(block)
    return state.hexdigest()


@dataclass(frozen=True)
class Shard:
    """One file of the bank: some rows of one feature."""

    path: Path
    key: str
    rows: int

    @property
    def about(self) -> dict[str, str]:
        return {"key": self.key, "shard": self.path.stem, "rows": str(self.rows)}

    def read(self) -> Tensor:
        return opened(self.path, self.about)["values"]

    def usable(self) -> Tensor | None:
        """Its rows when the file is there and unaltered."""
        try:
            return self.read()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            print(
                f"{self.path}: expected the bytes that were written, got others ({error}); "
                "these embeddings are computed again",
                file=sys.stderr,
            )
            return None


@contextmanager
def filling(shards: Sequence[Shard]) -> Iterator[None]:
    """Let one process at a time fill these shards; what killed ones left is deleted.

    It spares two processes the same work; files are safe without it. The locks go with the
    process, however it ends.

    Raises:
        KitError: the folder cannot be written.
    """
    with ExitStack() as stack:
        for shard in sorted(shards, key=lambda shard: shard.path):  # one order: no deadlock
            stack.enter_context(_held(shard.path.parent / f".{shard.path.stem}.lock"))
            for left in shard.path.parent.glob(f".{shard.path.name}.*"):
                left.unlink(missing_ok=True)
        yield


@contextmanager
def _held(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
