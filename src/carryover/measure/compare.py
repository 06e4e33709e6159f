"""Whether two sets of rows say the same, within a tolerance and within chance.

Rows of one quantity (study, item, cell, split, metric) form a group; its repeats are paired by
``repeat`` and ``seed`` of the cell. A group has changed significantly when its mean moved by more
than its tolerance and chance would move it so far, in any of the groups, less often than 1 - level.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carryover.errors import DataError
from carryover.measure.statistics import (
    Interval,
    holm,
    paired_difference,
    paired_p,
    proportions_difference,
    proportions_p,
)
from carryover.rows import Row

REPEAT_AXES = ("repeat", "seed")  # axes of a cell that number its repeats


@dataclass(frozen=True)
class Tolerance:
    """How far the means of some groups may move.

    Attributes:
        match: pattern of ``study/item/metric``; ``*`` stands for any text, slashes too.
        absolute, relative: the larger of `absolute`, in the metric's unit, and `relative` times
            the size of the mean before; 0 or more.
    """

    match: str
    absolute: float
    relative: float

    def of(self, mean: float) -> float:
        return max(self.absolute, self.relative * abs(mean))


NONE = Tolerance("*", 0.0, 0.0)


@dataclass(frozen=True)
class Change:
    """A group that both sides have and that is not equal in every repeat.

    Attributes:
        cell: the axes without those that number repeats.
        before, after: means over the paired repeats.
        difference: after - before, with its interval (not widened for the number of groups).
        p: Holm-adjusted over all changes.
        n_pairs: repeats that both sides have.
        tolerance: how far the mean may move.
        significant: beyond the tolerance and beyond chance.
        reason: why it is, or is not.
    """

    study: str
    item: str
    cell: dict[str, Any]
    split: str
    metric: str
    before: float
    after: float
    difference: Interval
    p: float
    n_pairs: int
    tolerance: float
    significant: bool
    reason: str


@dataclass(frozen=True)
class Unpaired:
    """Rows of a group that one side lacks.

    Attributes:
        cell: the axes without those that number repeats.
        n_rows: how many rows.
        whole: the other side has no row at all of this group.
    """

    study: str
    item: str
    cell: dict[str, Any]
    split: str
    metric: str
    n_rows: int
    whole: bool


@dataclass(frozen=True)
class Comparison:
    """What differs between two sets of rows.

    Attributes:
        level: of the intervals and tests.
        n_groups: groups that were compared, equal ones included.
        changes: groups that differ at all, worst first.
        only_before, only_after: rows that the other side lacks.
    """

    level: float
    n_groups: int
    changes: list[Change]
    only_before: list[Unpaired]
    only_after: list[Unpaired]

    @property
    def significant(self) -> bool:
        """Whether a change is significant or rows have gone."""
        return bool(self.only_before) or any(change.significant for change in self.changes)


# --- comparing ---------------------------------------------------------------------------------

Place = tuple[str, str, str, str, str]  # study, item, cell as JSON, split, metric
Group = dict[str, Row]  # by repeat and seed, as JSON
Values = NDArray[np.float64]


def compare(
    before: list[Row], after: list[Row], tolerances: Sequence[Tolerance], level: float = 0.95
) -> Comparison:
    """Compare two sets of rows.

    Two pairs or more: paired t test; accuracies count as rounded to whole images. One pair of
    accuracies: test of two proportions, for which the spread between seeds is not known. One
    pair of anything else: any difference counts as real.

    Args:
        before, after: rows of any studies, in any order.
        tolerances: the first that matches a group counts; a group without one may not move.
        level: 1 - level is the chance of any false alarm where nothing changed.
    Raises:
        DataError: a side has two rows for the same group and repeat, or a tolerance is negative or
            not finite.
    """
    for one in tolerances:
        if not all(0 <= width < math.inf for width in (one.absolute, one.relative)):
            raise DataError(
                f"expected finite tolerances of 0 or more, got {one.absolute} and {one.relative} "
                f"for {one.match}; give numbers"
            )
    old, new = _groups(before, "before"), _groups(after, "after")
    places = [place for place in old if place in new and old[place].keys() & new[place].keys()]
    tested = []
    for place in places:
        pairs = [
            (row, new[place][repeat]) for repeat, row in old[place].items() if repeat in new[place]
        ]
        x, y = (
            np.array([row.value for row in side], dtype=np.float64)
            for side in zip(*pairs, strict=True)
        )
        if not np.array_equal(x, y, equal_nan=True):
            n = min(row.n for pair in pairs for row in pair)
            tested.append((place, x, y, *_tested(place, x, y, n, level)))
    adjusted = holm([p for *_, p in tested])
    ranked = []
    for (place, x, y, difference, _), p in zip(tested, adjusted, strict=True):
        tolerance = _allowed(place, tolerances).of(float(x.mean()))
        change = _change(place, x, y, difference, p, tolerance, 1 - level)
        size = abs(difference.value) / max(tolerance, 1e-12)
        ranked.append((not change.significant, -math.inf if math.isnan(size) else -size, change))
    changes = [change for *_, change in sorted(ranked, key=lambda entry: entry[:2])]
    return Comparison(level, len(places), changes, _unpaired(old, new), _unpaired(new, old))


def _groups(rows: Iterable[Row], side: str) -> dict[Place, Group]:
    groups: dict[Place, Group] = {}
    for row in rows:
        cell = {axis: value for axis, value in row.cell.items() if axis not in REPEAT_AXES}
        repeat = json.dumps([row.cell.get(axis) for axis in REPEAT_AXES])
        place = (row.study, row.item, json.dumps(cell, sort_keys=True), row.split, row.metric)
        group = groups.setdefault(place, {})
        if repeat in group:
            raise DataError(
                f"expected one row for {' '.join(place)} and {REPEAT_AXES} {repeat}, got two "
                f"{side}; run that stage again, or compare with another revision"
            )
        group[repeat] = row
    return groups


def _tested(place: Place, x: Values, y: Values, n: int, level: float) -> tuple[Interval, float]:
    """Difference y - x of the means over n images and its p-value."""
    difference = float(y.mean()) - float(x.mean())
    if not math.isfinite(difference):
        return Interval(math.nan, math.nan, math.nan), 0.0
    in_range = bool(min(x.min(), y.min()) >= 0 and max(x.max(), y.max()) <= 1)
    is_accuracy = "accuracy" in place[-1] and n > 0 and in_range
    if len(x) > 1:
        step = 1 / n if is_accuracy else 0.0
        return paired_difference(y, x, level, step), paired_p(y, x, step)
    if is_accuracy:
        a, b = round(float(y[0]) * n), round(float(x[0]) * n)
        return proportions_difference(a, n, b, n, level), proportions_p(a, n, b, n)
    return Interval(difference, difference, difference), 0.0


def _allowed(place: Place, tolerances: Sequence[Tolerance]) -> Tolerance:
    study, item, _, _, metric = place
    name = f"{study}/{item}/{metric}"
    return next((one for one in tolerances if fnmatchcase(name, one.match)), NONE)


def _change(
    place: Place,
    x: Values,
    y: Values,
    difference: Interval,
    p: float,
    tolerance: float,
    alpha: float,
) -> Change:
    size, limit = abs(difference.value), f"the tolerance of {tolerance:.3g}"
    significant = False
    if math.isnan(size):
        significant, reason = True, "a value is not a finite number"
    elif size <= tolerance * (1 + 1e-9):  # 0.71 - 0.7 is within 0.01
        reason = f"within {limit}"
    elif p >= alpha:
        reason = f"beyond {limit}, within chance"
    else:
        significant, reason = True, f"beyond {limit} and beyond chance"
    study, item, cell, split, metric = place
    means = float(x.mean()), float(y.mean())
    about = (study, item, json.loads(cell), split, metric)
    return Change(*about, *means, difference, p, len(x), tolerance, significant, reason)


def _unpaired(mine: dict[Place, Group], other: dict[Place, Group]) -> list[Unpaired]:
    found = []
    for place, group in mine.items():
        n_rows = len(group.keys() - other.get(place, {}).keys())
        if n_rows:
            study, item, cell, split, metric = place
            about = (study, item, json.loads(cell), split, metric)
            found.append(Unpaired(*about, n_rows, place not in other))
    return found
