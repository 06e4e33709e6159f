"""Differences of the adaptation study: over frozen probes, and from partition to partition."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from carryover.measure.statistics import Interval, holm
from carryover.report import adapt_intervals
from carryover.report.adapt_scores import (
    FAULTS,
    HELD_AGAINST,
    ZERO_SHOT,
    AdaptScores,
    methods,
)

LEAST_P = 0.0001  # that is told as a number; the CSV has all


@dataclass(frozen=True)
class Compared:
    """A difference of accuracies: a method minus a probe, or a partition minus the one before.

    Attributes:
        over: the probe; of a change None.
        places: partitions that it is over; of a change the earlier and the later.
        p_holm: p adjusted within the difference's family.
    """

    method: str
    over: str | None
    places: tuple[float, ...]
    difference: Interval
    p: float
    p_holm: float

    @property
    def chance(self) -> str:
        """The adjusted p in words."""
        return f"p < {LEAST_P}" if self.p_holm < LEAST_P else f"p {self.p_holm:.2g}"


def references(scores: AdaptScores) -> list[str]:
    """The frozen probes that methods are held against: by Adam, and by the solver."""
    return [name for name in HELD_AGAINST if name in methods(scores)]


def gains(scores: AdaptScores, over: str) -> list[Compared]:
    """Every method less those with a fault, and zero-shot, minus a probe at each partition.

    Holm's correction is over all of them.
    """
    names = _against(scores, over)
    return _over_families([[(name, (p,)) for name in names for p in scores.images]], scores, over)


def mean_gains(scores: AdaptScores, over: str) -> list[Compared]:
    """The same, mean over all partitions: one test a method, Holm's correction over them."""
    names = _against(scores, over)
    return _over_families([[(name, tuple(scores.images)) for name in names]], scores, over)


def _against(scores: AdaptScores, over: str) -> list[str]:
    """What is held against a probe."""
    names = [name for name in methods(scores) if name not in (over, *FAULTS)]
    return [ZERO_SHOT, *names] if "accuracy" in scores.zero_shot else names


def changes(scores: AdaptScores) -> list[Compared]:
    """Each partition minus the one before it, by method; Holm's correction within a method."""
    return _over_families(
        [
            [(method, pair) for pair in itertools.pairwise(scores.images)]
            for method in methods(scores)
        ],
        scores,
        None,
    )


def _over_families(
    families: Sequence[Sequence[tuple[str, tuple[float, ...]]]],
    scores: AdaptScores,
    over: str | None,
) -> list[Compared]:
    """The differences of each family, over a probe or along partitions; p adjusted within it."""
    made = []
    for family in families:
        found = [
            adapt_intervals.change(scores, method, *places)
            if over is None
            else adapt_intervals.gain(scores, method, places, over)
            for method, places in family
        ]
        adjusted = holm([p for _, p in found])
        made += [
            Compared(method, over, places, interval, p, p_holm)
            for (method, places), (interval, p), p_holm in zip(family, found, adjusted, strict=True)
        ]
    return made
