"""What the retrieval study's tables and figures are made of: numbers by arm, place and seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from carryover.errors import DataError
from carryover.report.sequence_scores import Number
from carryover.retrieval_predictions import Right, right_of
from carryover.rows import Row

PLAIN, NEAREST, RANDOM = "none", "knn", "sampled"  # what a model has access to
NOT_KNOWN: Right = {}
MEMORY = "memory-"  # of a control: so many entries of each class


class Arm(NamedTuple):
    """One way to train and test a model: a line of a figure or a table.

    Attributes:
        access: ``none``, ``knn`` or ``sampled``; k: entries retrieved for an image.
        control: the one thing in which it differs from the plain arm of its access, or ``none``.
    """

    item: str
    dataset: str
    access: str
    k: int | None = None
    control: str = "none"


class At(NamedTuple):
    """The place of a number within an arm; None where it has no such axis.

    Attributes:
        noise: deviation of the noise on the test pixels; 0 where a row says nothing.
        step: updates done, of curves.
    """

    noise: float = 0.0
    step: int | None = None
    corruption: str | None = None
    severity: int | None = None


CLEAN = At()
BySeed = Mapping[int, Number]
Metric = tuple[str, str]  # split and metric
Place = tuple[str, str]  # item and data set: what a panel is of


@dataclass(frozen=True, eq=False)
class Scores:
    """Numbers of one preset's rows.

    Attributes:
        preset: the preset that the rows started from.
        numbers: by arm, split and metric, and place: one a seed, seeds ascending.
        right: which test images were right, by arm, place and seed, as far as that is known.
    """

    preset: str
    numbers: Mapping[Arm, Mapping[Metric, Mapping[At, BySeed]]]
    right: Mapping[tuple[Arm, At, int], Bool[np.ndarray, " n"]]


def from_rows(rows: Iterable[Row], right: Right = NOT_KNOWN) -> Scores:
    """Numbers of one preset's rows.

    Args:
        right: which images the tests had right, as far as predictions are at hand.
    Raises:
        DataError: rows of several presets or none, two numbers for one cell, an axis that the study
            does not have, or predictions that are not those that the accuracies are of.
    """
    rows = list(rows)
    presets = sorted({row.preset for row in rows})
    if len(presets) != 1:
        raise DataError(
            f"retrieval: expected rows of one preset, got {presets}; run all items of one"
        )
    found: dict[Arm, dict[Metric, dict[At, dict[int, Number]]]] = {}
    known: dict[tuple[Arm, At, int], Bool[np.ndarray, " n"]] = {}
    for row in rows:
        arm, at = _arm(row), _at(row)
        seeds = found.setdefault(arm, {}).setdefault((row.split, row.metric), {})
        number, seed = Number(row.value, row.n), int(row.cell.get("seed") or 0)
        if seeds.setdefault(at, {}).setdefault(seed, number) != number:
            raise DataError(
                f"retrieval: expected one {row.split} {row.metric} of {row.item} {row.cell}, got "
                f"{seeds[at][seed].value} and {row.value}; take one file of rows an item"
            )
        images = right_of(row, right)
        if images is not None:
            known[arm, at, seed] = images
    return Scores(
        presets[0],
        {
            arm: {
                metric: {at: dict(sorted(ats[at].items())) for at in sorted(ats, key=_order)}
                for metric, ats in found[arm].items()
            }
            for arm in sorted(found, key=_arm_order)
        },
        known,
    )


def _arm(row: Row) -> Arm:
    cell = row.cell
    unknown = sorted(set(cell) - AXES)
    if unknown:
        raise DataError(
            f"retrieval: expected the axes {', '.join(sorted(AXES))}, got {', '.join(unknown)}; "
            "run the item anew"
        )
    return Arm(
        row.item,
        str(cell.get("dataset", "")),
        str(cell.get("access", PLAIN)),
        int(cell.get("k") or 0) or None,
        str(cell.get("control", "none")),
    )


def _at(row: Row) -> At:
    given: dict[str, Any] = {axis: row.cell.get(axis) for axis in At._fields}
    return At(**given | {"noise": float(given["noise"] or 0.0)})


def _order(at: At) -> tuple[Any, ...]:
    return at.noise, at.step or 0, at.corruption or "", at.severity or 0


def _arm_order(arm: Arm) -> tuple[Any, ...]:
    return arm.item, arm.dataset, ACCESS.index(arm.access), arm.control, arm.k or 0


ACCESS = (PLAIN, NEAREST, RANDOM)
AXES = {"dataset", "access", "k", "control", "seed", *At._fields}


# --- what there is --------------------------------------------------------------------------------


def numbers(scores: Scores, arm: Arm, metric: str, split: str = "test") -> Mapping[At, BySeed]:
    """Numbers of one metric by place; none where the arm has none."""
    return scores.numbers.get(arm, {}).get((split, metric), {})


def number(scores: Scores, arm: Arm, metric: str, at: At = CLEAN) -> BySeed:
    """One metric's test numbers in one place, by seed."""
    return numbers(scores, arm, metric).get(at, {})


def arms(scores: Scores, place: Place | None = None) -> list[Arm]:
    """Arms that were tested, of one item and set or of all."""
    return [
        arm
        for arm, metrics in scores.numbers.items()
        if place in (None, (arm.item, arm.dataset)) and any(split == "test" for split, _ in metrics)
    ]


def places(scores: Scores) -> list[Place]:
    """Items with the set that each was trained on."""
    return list(dict.fromkeys((arm.item, arm.dataset) for arm in arms(scores)))


def plain(place: Place) -> Arm:
    """The arm without retrieval."""
    return Arm(*place, PLAIN)


def main(scores: Scores, place: Place, access: str) -> Arm | None:
    """The arm of an access at the number of entries that the most numbers are of."""
    counts: dict[int, int] = {}
    for arm in arms(scores, place):
        if arm.access == access and arm.k is not None:
            rows = sum(len(ats) for ats in scores.numbers[arm].values())
            counts[arm.k] = counts.get(arm.k, 0) + rows
    made = [Arm(*place, access, k) for k in sorted(counts, key=lambda k: (-counts[k], k))]
    return next((arm for arm in made if arm in scores.numbers), None)


def memory_size(arm: Arm) -> int | None:
    """Entries of each class in the memory, of a control of its size."""
    size = arm.control.removeprefix(MEMORY)
    return int(size) if arm.control.startswith(MEMORY) and size.isdigit() else None


def seeds(scores: Scores, every: Sequence[Arm]) -> list[int]:
    """How many seeds the test accuracies of some arms have, ascending."""
    counts = {len(number(scores, arm, "accuracy")) for arm in every}
    return sorted(counts - {0})


def images(scores: Scores, every: Sequence[Arm]) -> list[int]:
    """How many test images the accuracies of some arms are over, ascending."""
    return sorted({n for arm in every for _, n in number(scores, arm, "accuracy").values()})
