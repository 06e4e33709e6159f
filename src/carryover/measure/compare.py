"""Whether two sets of rows say the same, within a tolerance and within chance.

Rows of one quantity (study, item, cell, split, metric) form a group; its repeats are paired by
``repeat`` and ``seed`` of the cell. A group has changed significantly when its mean moved by more
than the tolerance and chance would move it so far, in any of the groups, less often than 1 - level.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
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
AXES = ("study", "item", "cell", "split", "metric")
NUMBERS = ("before", "after", "difference", "interval", "p", "pairs")


@dataclass(frozen=True)
class Change:
    """A group that both sides have and that is not equal in every repeat.

    Attributes:
        cell: the axes without those that number repeats.
        before, after: means over the paired repeats.
        difference: after - before, with its interval (not widened for the number of groups).
        p: Holm-adjusted over all changes.
        n_pairs: repeats that both sides have.
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
        n_groups: groups that were compared, equal ones included.
        changes: groups that differ at all, worst first.
        only_before, only_after: rows that the other side lacks.
    """

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
    before: list[Row], after: list[Row], absolute: float, relative: float, level: float = 0.95
) -> Comparison:
    """Compare two sets of rows.

    Two pairs or more: paired t test; accuracies count as rounded to whole images. One pair of
    accuracies: test of two proportions, for which the spread between seeds is not known. One
    pair of anything else: any difference counts as real.

    Args:
        before, after: rows of any studies, in any order.
        absolute, relative: a mean may move by the larger of `absolute` (in the metric's unit)
            and `relative` times its size before.
        level: 1 - level is the chance of any false alarm where nothing changed.
    Raises:
        DataError: a side has two rows for the same group and repeat, or a tolerance is negative.
    """
    if not (absolute >= 0 and relative >= 0):
        raise DataError(
            f"expected tolerances of 0 or more, got {absolute} and {relative}; drop the sign"
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
        tolerance = max(absolute, relative * abs(float(x.mean())))
        change = _change(place, x, y, difference, p, tolerance, 1 - level)
        size = abs(difference.value) / max(tolerance, 1e-12)
        ranked.append((not change.significant, -math.inf if math.isnan(size) else -size, change))
    changes = [change for *_, change in sorted(ranked, key=lambda entry: entry[:2])]
    return Comparison(len(places), changes, _unpaired(old, new), _unpaired(new, old))


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
    is_accuracy = place[-1] == "accuracy" and n > 0 and in_range
    if len(x) > 1:
        step = 1 / n if is_accuracy else 0.0
        return paired_difference(y, x, level, step), paired_p(y, x, step)
    if is_accuracy:
        a, b = round(float(y[0]) * n), round(float(x[0]) * n)
        return proportions_difference(a, n, b, n, level), proportions_p(a, n, b, n)
    return Interval(difference, difference, difference), 0.0


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
    return Change(*about, *means, difference, p, len(x), significant, reason)


def _unpaired(mine: dict[Place, Group], other: dict[Place, Group]) -> list[Unpaired]:
    found = []
    for place, group in mine.items():
        n_rows = len(group.keys() - other.get(place, {}).keys())
        if n_rows:
            study, item, cell, split, metric = place
            about = (study, item, json.loads(cell), split, metric)
            found.append(Unpaired(*about, n_rows, place not in other))
    return found


# --- showing -----------------------------------------------------------------------------------


def as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as a plain dict; numbers that are not finite become null."""
    return {"significant": comparison.significant, **_plain(asdict(comparison))}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_table(comparison: Comparison, limit: int) -> list[list[str]]:
    """A comparison as header and at most `limit` lines of text, worst first.

    Significant changes, rows that have gone, other changes, then rows that are new.
    """
    changes = [_line(change) for change in comparison.changes]
    worst = sum(change.significant for change in comparison.changes)
    gone = [_line_unpaired(rows, "gone") for rows in comparison.only_before]
    new = [_line_unpaired(rows, "new") for rows in comparison.only_after]
    return [
        [*AXES, *NUMBERS, "verdict"],
        *(changes[:worst] + gone + changes[worst:] + new)[:limit],
    ]


def _line(change: Change) -> list[str]:
    verdict = "significant: " if change.significant else ""
    return [
        *_place(change),
        f"{change.before:.4g}",
        f"{change.after:.4g}",
        f"{change.difference.value:+.4g}",
        f"[{change.difference.low:+.4g}, {change.difference.high:+.4g}]",
        f"{change.p:.2g}",
        str(change.n_pairs),
        verdict + change.reason,
    ]


def _line_unpaired(rows: Unpaired, what: str) -> list[str]:
    verdict = f"{what}: {rows.n_rows} row{'s' if rows.n_rows > 1 else ''}"
    return [*_place(rows), *[""] * len(NUMBERS), verdict + ("" if rows.whole else " of this cell")]


def _place(entry: Change | Unpaired) -> list[str]:
    cell = " ".join(f"{axis}={value}" for axis, value in sorted(entry.cell.items()))
    return [entry.study, entry.item, cell, entry.split, entry.metric]
