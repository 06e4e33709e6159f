"""What the original of the continual study logged, in the form of our own numbers."""

from __future__ import annotations

import csv
from pathlib import Path

from carryover.errors import DataError
from carryover.report.continual_scores import At, Run, Scores, from_rows
from carryover.rows import Row

RELEASED = "released"  # in place of a preset


def read(path: Path) -> Scores:
    """The original's logged numbers, one run each, its seed unknown.

    Raises:
        DataError: not that table.
    """
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    try:
        rows = [
            Row(
                study="continual",
                item=line["item"],
                preset=RELEASED,
                cell=_cell(line["cell"]),
                split=line["split"],
                metric=line["metric"],
                value=float(line["value"]),
                n=int(line["n"]),
                data="",
                weights="",
                params="",
                source=line["source"],
                precision="",
            )
            for line in lines
        ]
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: expected released numbers, got {error}; restore it") from error
    return from_rows(rows)


def _cell(text: str) -> dict[str, str | int]:
    cell = dict(axis.split("=") for axis in text.split(";"))
    return {axis: int(v) if axis in At._fields else v for axis, v in cell.items()}


def beside(published: Scores, scores: Scores, run: Run) -> Run | None:
    """The original's run of the same stream, protocol, arm and strategy; of its encoder if any."""
    every = of_arm(published, scores, run)
    return next((each for each in every if each.strategy == run.strategy), None)


def of_arm(published: Scores, scores: Scores, run: Run) -> list[Run]:
    """The original's runs of the same stream, protocol and arm as one of ours, every strategy.

    Of the same encoder, or of any where it has none of that one. None where ours tells a task's
    classes alone apart: the original tells every class from all others.
    """
    if run.protocol in scores.masked:
        return []
    wanted = _arm(run)
    found = [each for each in published.numbers if _arm(each) == wanted]
    return [each for each in found if each.encoder == run.encoder] or found


def _arm(run: Run) -> Run:
    return run._replace(encoder="", rest="", strategy="")
