"""What training more of the encoder, or another strategy, adds at the end of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from carryover.measure.statistics import Interval, holm
from carryover.report import continual_intervals
from carryover.report.continual_scores import ITEMS, Run, Scores, runs

FROZEN, NAIVE = "frozen", "naive"


class Gain(NamedTuple):
    """Accuracy at the end of a run minus that of another.

    Attributes:
        axis: what the two differ in, ``item`` or ``strategy``.
        over: what the interval is over; see `continual_intervals.Difference`.
        p_holm: p after Holm's correction over all gains of one axis.
    """

    run: Run
    other: Run
    axis: str
    difference: Interval
    p: float
    over: str
    p_holm: float


def gains(scores: Scores) -> list[Gain]:
    """Each run beside the frozen one of the same head and strategy, and beside naive training.

    Runs with several frozen ones to be held against, or with none, have no gain.
    """
    found = runs(scores)
    return [
        *_gains(scores, [(run, _frozen(found, run)) for run in found], "item"),
        *_gains(scores, [(run, _naive(found, run)) for run in found], "strategy"),
    ]


def _frozen(found: Sequence[Run], run: Run) -> Run | None:
    if run.item not in ITEMS[1:]:
        return None
    same = [each for each in found if each == run._replace(item=FROZEN, rest=each.rest)]
    return same[0] if len(same) == 1 else None


def _naive(found: Sequence[Run], run: Run) -> Run | None:
    other = run._replace(strategy=NAIVE)
    return other if run != other and other in found else None


def _gains(scores: Scores, pairs: Sequence[tuple[Run, Run | None]], axis: str) -> list[Gain]:
    told = []
    for run, other in pairs:
        found = continual_intervals.difference(scores, run, other) if other else None
        if other and found:
            told.append((run, other, found))
    adjusted = holm([found.p for *_, found in told]) if told else []
    return [
        Gain(run, other, axis, *found, p_holm)
        for (run, other, found), p_holm in zip(told, adjusted, strict=True)
    ]
