"""What the original of the retrieval study published, in the form of our own numbers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from carryover.errors import DataError
from carryover.report.retrieval_scores import Arm, At, Scores, from_rows
from carryover.rows import Row

PUBLISHED = "published"  # in place of a preset
WHOLE = ("k", "step")  # axes that are integers
SETS = {"cifar-10": "cifar10"}  # what the catalogue calls a set


class Printed(NamedTuple):
    """One published number.

    Attributes:
        plus_minus: as printed beside it, or how well it can be read off a figure.
    """

    arm: Arm
    at: At
    metric: str
    value: float
    plus_minus: float


def read(path: Path) -> list[Printed]:
    """Every published number.

    Raises:
        DataError: not that table.
    """
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    if not lines or "plus_minus" not in lines[0]:
        raise DataError(
            f"{path}: expected published numbers with a column plus_minus, found none; restore it"
        )
    found = []
    for line in lines:
        (row,) = _rows([line])
        scores = from_rows([row])
        ((arm, metrics),) = scores.numbers.items()
        ((_, ats),) = metrics.items()
        value, blur = float(line["value"]), float(line["plus_minus"] or 0)
        found.append(Printed(arm, next(iter(ats)), line["metric"], value, blur))
    return found


def scores(path: Path) -> Scores:
    """The same as scores: one run each, over an unknown number of images (0)."""
    with path.open(newline="") as file:
        return from_rows(_rows(list(csv.DictReader(file))))


def _rows(lines: list[dict[str, str]]) -> list[Row]:
    made = []
    for line in lines:
        pairs = [axis.split("=") for axis in line["cell"].split(";")]
        cell = {
            axis: int(v) if axis in WHOLE else float(v) if axis == "noise" else SETS.get(v, v)
            for axis, v in pairs
        }
        made.append(
            Row(
                study="retrieval",
                item=line["item"],
                preset=PUBLISHED,
                cell=cell,
                split=line["split"],
                metric=line["metric"],
                value=float(line["value"]),
                n=int(line["n"]),
                data="",
                weights="",
                params="",
                source="",
                precision="",
            )
        )
    return made
