"""What the originals of the sequence study released, in the form of our own numbers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from carryover.errors import DataError
from carryover.report.sequence_scores import At, Run, Scores, from_rows, runs
from carryover.rows import Row

RELEASED = "released"  # in place of a preset
THESIS = ("dtd", "mnist", "eurosat", "flowers")  # the order of `sequence-thesis.csv`
COLLAPSED = "-imagenet"  # matrices near zero whose protocol is not known


def read(folder: Path) -> Scores:
    """The released matrices, and what the thesis plots; one run each.

    Raises:
        DataError: not those tables.
    """
    rows = [*_matrices(folder / "sequence.csv"), *_plotted(folder / "sequence-thesis.csv")]
    found = from_rows(rows)
    return Scores(found.preset, found.numbers, {**found.orders, "thesis": THESIS})


def _matrices(path: Path) -> list[Row]:
    return [
        _row(
            "released",
            {
                "order": line["order"],
                "method": line["method"],
                "after": int(line["after"]),
                "task": int(line["task"]),
                "dataset": line["dataset"],
            },
            "accuracy",
            float(line["correct"]) / int(line["images"]),
            int(line["images"]),
        )
        for line in _lines(path, "correct")
    ]


def _plotted(path: Path) -> list[Row]:
    found = []
    for line in _lines(path, "cell"):
        cell = dict(axis.split("=") for axis in line["cell"].split(";"))
        typed = {axis: int(v) if axis in At._fields[:2] else v for axis, v in cell.items()}
        found.append(_row("released", typed, line["metric"], float(line["value"]), int(line["n"])))
    return found


def _lines(path: Path, column: str) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    if not lines or column not in lines[0]:
        raise DataError(
            f"{path}: expected released numbers with a column {column}, found none; restore it"
        )
    return lines


def _row(item: str, cell: dict[str, str | int], metric: str, value: float, n: int) -> Row:
    return Row(
        study="sequence",
        item=item,
        preset=RELEASED,
        cell=cell,
        split="test",
        metric=metric,
        value=value,
        n=n,
        data="",
        weights="",
        params="",
        source="",
        precision="",
    )


def same_order(published: Scores, sets: Sequence[str]) -> list[Run]:
    """Released runs on just these sets in this order."""
    return [run for run in published.numbers if published.orders[run.order] == tuple(sets)]


def beside(published: Scores, sets: Sequence[str], method: str) -> Run | None:
    """The released run of a method on just these sets in this order."""
    return next((run for run in same_order(published, sets) if run.method == method), None)


def methods(published: Scores) -> list[Run]:
    """Released matrices of the originals' methods, zero-shot's too."""
    return [run for run in runs(published) if COLLAPSED not in run.method]
