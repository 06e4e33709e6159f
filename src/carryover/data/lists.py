"""What the readers of official layouts share: lists of files, and a `Table` made of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from carryover.data.images import Table
from carryover.errors import DataError

Entry = tuple[Path, int, str]  # file, class id, split
IMAGES = frozenset({".jpg", ".jpeg", ".png"})


def table(path: Path, entries: Sequence[Entry], class_names: Sequence[str]) -> Table:
    """A table of files below `path`, in their order; column ``file`` is relative to it.

    Raises:
        DataError: there is no file.
    """
    if not entries:
        raise DataError(f"{path}: expected images, found none; copy the whole set")
    files, labels, splits = (list(column) for column in zip(*entries, strict=True))
    for file in files:
        if not file.is_relative_to(path) or ".." in file.relative_to(path).parts:
            raise DataError(
                f"{path}: expected a list of files in this folder, got {file}; copy the set again"
            )
    return Table(
        origin=str(path),
        images=files,
        labels=labels,
        splits=splits,
        class_names=tuple(class_names),
        columns={"file": [file.relative_to(path).as_posix() for file in files]},
    )


def of_present(path: Path, entries: Sequence[Entry], class_names: Sequence[str]) -> Table:
    """As `table`, with the classes that have images alone, numbered in their order."""
    present = sorted({label for _, label, _ in entries})
    ids = {label: number for number, label in enumerate(present)}
    kept = [(file, ids[label], split) for file, label, split in entries]
    return table(path, kept, [class_names[label] for label in present])


def lines(path: Path) -> list[str]:
    """Lines of a text file that belongs to a set, without the empty ones.

    Raises:
        DataError: it cannot be read.
    """
    return [line.strip() for line in _text(path).split("\n") if line.strip()]


def values(path: Path) -> Any:
    """A JSON file that belongs to a set.

    Raises:
        DataError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, got {error}; copy the file again") from error


def rows(path: Path, columns: Sequence[str], separator: str = ",") -> Iterator[dict[str, str]]:
    """Rows of a table with a header.

    Raises:
        DataError: it cannot be read, or lacks one of `columns`.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), delimiter=separator)
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"{path}: expected a column {missing[0]}, got {', '.join(reader.fieldnames or ())}; "
            "copy the file again"
        )
    yield from reader


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{path}: expected this list of the set, got {found!r}; copy the whole set"
        ) from error


def folders(path: Path) -> list[Path]:
    """Sub-folders by name; hidden ones are left out.

    Raises:
        DataError: there are none.
    """
    found = sorted(path.iterdir()) if path.is_dir() else []
    kept = [folder for folder in found if folder.is_dir() and folder.name[0] != "."]
    if not kept:
        raise DataError(f"{path}: expected class folders, found none; copy the whole set")
    return kept


def images(folder: Path) -> list[Path]:
    """JPEG and PNG files in a folder by name.

    Raises:
        DataError: there are none.
    """
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    kept = [file for file in found if file.suffix.lower() in IMAGES and file.name[0] != "."]
    if not kept:
        raise DataError(f"{folder}: expected images, found none; copy the whole set")
    return kept


def pick_id(ids: dict[Any, int], key: Any, place: str) -> int:
    """The class id of a name in a list.

    Raises:
        DataError: the name is not among the classes.
    """
    if key not in ids:
        raise DataError(f"{place}: expected one of the set's classes, got {key!r}; copy it again")
    return ids[key]
