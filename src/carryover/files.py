"""Files written whole or not at all, and short digests of values and files."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from carryover.errors import KitError

LEFT_LETTERS = 8  # that tempfile puts at the end of a name
DIGEST_LETTERS = 16  # 64 bits: enough to tell versions apart, short enough to read


def digest(value: Any) -> str:
    """Short SHA-256 of a JSON-like value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LETTERS]


def digest_of_files(paths: Iterable[Path]) -> str:
    """Short SHA-256 of files' bytes, in the order given."""
    state = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()[:DIGEST_LETTERS]


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and move it: readers see the old file or the new one.

    Raises:
        KitError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """As `write_text`, for bytes. What killed processes left of the same file is deleted."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _delete_left(path)
        file, name = _temporary(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise cannot_write(path, error) from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _temporary(path: Path) -> tuple[BinaryIO, str]:
    """A new file beside `path`, locked for as long as it is open: nobody takes it for left."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        file = os.fdopen(handle, "wb")
        with contextlib.suppress(OSError):  # without locks nothing is deleted either
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(name):  # it was not deleted just before it was locked
            return file, name
        file.close()


def _delete_left(path: Path) -> None:
    """Delete what killed writers of this file left beside it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'?' * LEFT_LETTERS}"):
        with contextlib.suppress(OSError), left.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one that writes holds it
            left.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write JSON that is byte-equal for equal values: sorted keys, indent 2, final newline."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def cannot_write(path: Path, error: OSError) -> KitError:
    """What to say when a file cannot be written: the disk is full, or the folder closed."""
    return KitError(
        f"{path}: expected to write this file, got {error.strerror!r}; nothing was changed: "
        "free space or mend the folder's permissions, then run again"
    )
