"""State of unfinished work in single files: whole or absent, and verified when read.

A file ends with the SHA-256 of all bytes before. torch looks at no sums of its own, so a byte that
flipped on the disk would go on into results; and nothing but what `write` wrote is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import torch

from carryover.files import write_bytes

SUM = hashlib.sha256().digest_size  # bytes at the end


def write(path: Path, state: dict[str, Any]) -> None:
    """Keep tensors and plain values: readers see the old file or the new one.

    Raises:
        KitError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with buffer.getbuffer() as content:  # no copy: a state may be as large as memory bears
        total = hashlib.sha256(content).digest()
    buffer.seek(0, io.SEEK_END)
    buffer.write(total)
    with buffer.getbuffer() as content:
        write_bytes(path, content)


def read(path: Path, device: torch.device) -> dict[str, Any] | None:
    """What `write` kept; None where no file is, or a damaged one, which standard error tells."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    content, total = whole[:-SUM], whole[-SUM:]
    del whole
    if not _is_sum(content, total):
        print(
            f"{path}: expected the bytes that were written, got others; what it was kept for "
            "starts anew",
            file=sys.stderr,
        )
        return None
    return dict(torch.load(io.BytesIO(content), weights_only=True, map_location=device))


def is_whole(path: Path) -> bool:
    """Whether a file's bytes are those that were written."""
    whole = memoryview(path.read_bytes())
    return _is_sum(whole[:-SUM], bytes(whole[-SUM:]))


def _is_sum(content: bytes | memoryview, said: bytes) -> bool:
    return hashlib.sha256(content).digest() == said
