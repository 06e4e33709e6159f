"""Kept rows and new ones, joined: a long grid is run in parts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from carryover.continual_drawn import Number, read_drawn, write_drawn
from carryover.errors import DataError
from carryover.rows import Row, read_rows

IMAGES = ("dataset", "stream", "protocol", "order", "task")  # axes that say which are shown
NETWORK = ("encoder", "access", "control")  # and what began


def rows_at(path: Path) -> list[Row]:
    """The rows of a file; none where there is none."""
    return read_rows(path) if path.exists() else []


def merged(target: Path, new: list[Row]) -> list[Row]:
    """Kept rows and new ones, by cell; a cell that was run again is replaced.

    Raises:
        DataError: they cannot be parts of one grid.
    """
    old = rows_at(target)
    if _apart(old, new):
        raise DataError(
            f"{target}: expected rows of the same parameters, source network and images as the "
            "new ones, got others; move that folder away to start anew"
        )
    again = {json.dumps(row.cell) for row in new}
    both = [row for row in old if json.dumps(row.cell) not in again] + new
    # rows that lack an axis may have text where others have a number
    return sorted(both, key=lambda row: [(isinstance(v, str), v) for v in row.cell.values()])


def _apart(old: Iterable[Row], new: Iterable[Row]) -> bool:
    """Whether parameters differ, or what equal places in the grid began from or were shown."""
    if {row.params for row in old} - {row.params for row in new}:
        return True
    before, after = _seen(old), _seen(new)
    both = before.keys() & after.keys()
    return any(before[at] - after[at] and after[at] - before[at] for at in both)


def _seen(rows: Iterable[Row]) -> dict[tuple[Any, ...], set[str]]:
    """Digests of images and of networks, by the places that they are of."""
    found = defaultdict(set)
    for row in rows:
        for axes, digest in ((IMAGES, row.data), (NETWORK, row.weights)):
            at = (axes, row.item, row.split, *(row.cell.get(axis) for axis in axes))
            found[at].add(digest)
    return found


def join_drawn(target: Path, new: Path) -> None:
    """What figures alone read, by training; one that was run again is replaced."""
    both: dict[str, tuple[dict[str, Any], list[Number]]] = {}
    for path in (target, new):
        found: dict[str, tuple[dict[str, Any], list[Number]]] = {}
        for cell, number in read_drawn(path) if path.exists() else ():
            found.setdefault(json.dumps(cell), (cell, []))[1].append(number)
        both |= found
    if both:
        write_drawn(target, both.values())
