"""Tables of the adaptation study: a line a method, a column a partition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from carryover.measure.statistics import Interval
from carryover.report import adapt_intervals
from carryover.report.adapt_gains import Compared
from carryover.report.adapt_scores import (
    HELD_AGAINST,
    ZERO_SHOT,
    AdaptScores,
    methods,
    share,
    tuned,
)
from carryover.report.cells import in_parts
from carryover.report.tables import Table, percent

ON_A_PAGE = 4  # partitions beside each other in LaTeX

DIVERGED = "diverged"  # in place of a number that such a training does not have


def accuracy_table(scores: AdaptScores) -> Table:
    """Accuracy; zero-shot stands under 0 %."""
    lines = [["training images", "0", *map(str, scores.images.values())]]
    if "accuracy" in scores.zero_shot:
        lines.append([ZERO_SHOT, percent(adapt_intervals.zero_shot(scores)), *_blank(scores)])
    for method in methods(scores):
        cells = [percent(adapt_intervals.accuracy(scores, method, p)) for p in scores.images]
        lines.append([method, "", *cells])
    return Table(
        f"Accuracy in per cent on {scores.n} test images of {scores.dataset}; mean over "
        f"{_seeds(scores)}, 95 % interval over {_over(scores)}.",
        ["method", "0 %", *map(share, scores.images)],
        lines,
    )


def gains_table(
    scores: AdaptScores, over: str, compared: Sequence[Compared], means: Sequence[Compared]
) -> Table:
    """Gains over a probe, by partition and over all of them."""
    whole = {each.method: _told(each) for each in means}
    by_place = {(each.method, each.places[0]): _told(each) for each in compared}
    return Table(
        f"Accuracy minus that of {HELD_AGAINST[over]}, points [95 %], p after Holm's correction; "
        f"{_seeds(scores)}, {scores.n} test images.",
        ["method", "mean", *map(share, scores.images)],
        [
            [method, told, *(by_place[method, p] for p in scores.images)]
            for method, told in whole.items()
        ],
    )


def changes_table(scores: AdaptScores, compared: Sequence[Compared]) -> Table:
    """What the step from each partition to the next changes."""
    steps = list(itertools.pairwise(scores.images))
    by_place = {(each.method, each.places): _told(each) for each in compared}
    return Table(
        f"Accuracy minus that at the partition before, points [95 %], p after Holm's correction "
        f"within a line; {_seeds(scores)}, {scores.n} test images.",
        ["method", *(f"{share(start)} to {share(end)}" for start, end in steps)],
        [[method, *(by_place[method, step] for step in steps)] for method in methods(scores)],
    )


def calibration_table(scores: AdaptScores) -> Table:
    """Expected calibration error."""
    lines = []
    if "ece" in scores.zero_shot:
        lines.append([ZERO_SHOT, f"{100 * scores.zero_shot['ece']:.1f}", *_blank(scores)])
    for method in methods(scores):
        found = [adapt_intervals.calibration(scores, method, p) for p in scores.images]
        lines.append([method, "", *map(_sized, found)])
    return Table(
        f"Expected calibration error in per cent on {scores.n} test images; mean over "
        f"{_seeds(scores)}, 95 % interval over seeds alone.",
        ["method", "0 %", *map(share, scores.images)],
        lines,
    )


def retention_tables(scores: AdaptScores) -> list[Table]:
    """Zero-shot accuracy after adapting: the set itself, the others' mean, and each at the end."""
    made = []
    for name, sets in adapt_intervals.groups(scores).items():
        start = percent(adapt_intervals.before(scores, sets))
        lines = [
            [
                method,
                start,
                *(_left(adapt_intervals.kept(scores, method, p, sets)[0]) for p in scores.images),
            ]
            for method in tuned(scores)
        ]
        counts = ", ".join(str(scores.sets[each]) for each in sets)
        title = f"Zero-shot accuracy in per cent [95 %], {name}; n = {counts}, {_seeds(scores)}."
        made.append(Table(title, ["method", "before", *map(share, scores.images)], lines))
    if made:
        last = max(scores.images)
        starts = [percent(adapt_intervals.before(scores, [name])) for name in scores.before]
        lines = [["before", *starts]]
        for method in tuned(scores):
            found = [adapt_intervals.kept(scores, method, last, [s])[0] for s in scores.before]
            lines.append([method, *map(_left, found)])
        heads = [f"{name} (n = {scores.sets[name]})" for name in scores.before]
        title = f"Zero-shot accuracy by set after adapting on {share(last)}, per cent [95 %]."
        made.append(Table(title, ["method", *heads], lines))
    return made


def for_paper(table: Table) -> list[Table]:
    """The table in parts that a page is wide enough for; the first column is in each."""
    return in_parts(table, [0], ON_A_PAGE)


def _blank(scores: AdaptScores) -> list[str]:
    return [""] * len(scores.images)


def _seeds(scores: AdaptScores) -> str:
    return f"{len(scores.seeds)} seeds" if len(scores.seeds) > 1 else "1 seed"


def _over(scores: AdaptScores) -> str:
    return "test images and seeds" if len(scores.seeds) > 1 else "test images (1 seed)"


def _told(each: Compared) -> str:
    return f"{percent(each.difference, signed=True)}, {each.chance}"


def _left(interval: Interval) -> str:
    return DIVERGED if math.isnan(interval.value) else percent(interval)


def _sized(interval: Interval) -> str:
    """With bounds where there are any."""
    if math.isnan(interval.value):
        return DIVERGED
    if interval.low == interval.high:
        return f"{100 * interval.value:.1f}"
    return percent(interval)
