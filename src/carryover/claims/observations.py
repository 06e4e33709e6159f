"""Numbers that claims are decided from: our rows, or facts released by the originals.

The originals' results lie in ``claims/released/*.csv`` as compact facts; files of theirs are not
kept. An observation is one number with what it is over.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carryover.errors import DataError
from carryover.rows import Row

GENERIC = ("item", "cell", "split", "metric", "value", "n", "plus_minus", "source")
SPLITS = ("train", "validation", "test")
CAME_OF = {"steps_to_080": "reached_080"}  # metrics that count until something comes: 0 if never
CAME = set(CAME_OF.values())
MATRIX = ("order", "method", "after", "task", "dataset", "correct", "images")


@dataclass(frozen=True)
class Observation:
    """One number of a study.

    Attributes:
        cell: axes and their values.
        value: accuracies lie in 0..1.
        n: images that an accuracy is over; 0: unknown, or no share of images.
        plus_minus: how far rounding, or reading a plot, may have moved it.
        least: the true value is this or more: what was counted had not come by the end.
    """

    item: str
    cell: dict[str, Any]
    split: str
    metric: str
    value: float
    n: int
    plus_minus: float = 0.0
    origin: str = field(default="", compare=False)
    least: bool = False


def of_rows(rows: list[Row], origin: str) -> list[Observation]:
    """Our rows as observations; only accuracies are shares of images.

    Raises:
        DataError: a value that is not finite, or an accuracy outside 0..1.
    """
    for row in rows:
        _expect_value(row.metric, row.value, origin)
    never = {_place(row, row.metric) for row in rows if row.metric in CAME and not row.value}
    return [
        Observation(
            row.item,
            row.cell,
            row.split,
            row.metric,
            row.value,
            row.n if "accuracy" in row.metric else 0,
            origin=origin,
            least=_place(row, CAME_OF.get(row.metric, "")) in never,
        )
        for row in rows
    ]


def _place(row: Row, metric: str) -> tuple[object, ...]:
    return (row.item, row.split, metric, *sorted((axis, str(v)) for axis, v in row.cell.items()))


def released(folder: Path, study: str) -> list[Observation]:
    """What the original of a study released: all ``<study>*.csv`` of the folder.

    Raises:
        DataError: a table with other columns, or a field that is no number.
    """
    found: list[Observation] = []
    for path in sorted(folder.glob(f"{study}*.csv")):
        with path.open(newline="") as file:
            lines = csv.DictReader(file)
            header = tuple(lines.fieldnames or ())
            readers = {GENERIC: _generic, MATRIX: _matrix}
            if header not in readers:
                raise DataError(
                    f"{path}: expected the columns {', '.join(GENERIC)}, got {', '.join(header)}; "
                    "restore the file by git"
                )
            try:
                for each in readers[header](
                    lines, f"{folder.parent.name}/{folder.name}/{path.name}"
                ):
                    _expect_value(each.metric, each.value, f"{path}:{lines.line_num}")
                    if each.split not in SPLITS:
                        raise ValueError(f"split {each.split!r}")
                    found.append(each)
            except (KeyError, ValueError) as error:
                raise DataError(
                    f"{path}:{lines.line_num}: expected a released number, got {error}; restore "
                    "the file by git"
                ) from error
    return found


def _expect_value(metric: str, value: float, where: str) -> None:
    share = "accuracy" in metric
    if not math.isfinite(value) or (share and not 0 <= value <= 1):
        wanted = "an accuracy in 0..1" if share else "a finite number"
        raise DataError(f"{where}: expected {wanted}, got {metric} {value}; make it again")


def _generic(lines: csv.DictReader[str], origin: str) -> Iterator[Observation]:
    for line in lines:
        pairs = (pair.split("=", 1) for pair in line["cell"].split(";") if pair)
        yield Observation(
            line["item"],
            {axis: _plain(value) for axis, value in pairs},
            line["split"],
            line["metric"],
            float(line["value"]),
            int(line["n"] or 0),
            float(line["plus_minus"] or 0),
            f"{origin} ({line['source']})",
        )


def _matrix(lines: csv.DictReader[str], origin: str) -> Iterator[Observation]:
    for line in lines:
        yield Observation(
            "",
            {
                "order": line["order"],
                "method": line["method"],
                "after": int(line["after"]),
                "task": int(line["task"]),
                "dataset": line["dataset"],
            },
            "test",
            "accuracy",
            int(line["correct"]) / int(line["images"]),
            int(line["images"]),
            origin=origin,
        )


def _plain(text: str) -> Any:
    """A number where it reads as one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
