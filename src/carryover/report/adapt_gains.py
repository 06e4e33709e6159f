"""Differences of the adaptation study: over the frozen probe, and from partition to partition."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from carryover.measure.statistics import Interval, holm
from carryover.report import adapt_intervals
from carryover.report.adapt_scores import FAULTS, PROBE, ZERO_SHOT, AdaptScores, methods


@dataclass(frozen=True)
class Compared:
    """A difference of accuracies: a method minus the probe, or a partition minus the one before.

    Attributes:
        places: partitions that it is over; of a change the earlier and the later.
        p_holm: p adjusted within the difference's family.
    """

    method: str
    places: tuple[float, ...]
    difference: Interval
    p: float
    p_holm: float


def gains(scores: AdaptScores) -> list[Compared]:
    """Every method less those with a fault, and zero-shot, minus the probe at each partition.

    Holm's correction is over all of them.
    """
    names = [name for name in methods(scores) if name not in (PROBE, *FAULTS)]
    if "accuracy" in scores.zero_shot:
        names = [ZERO_SHOT, *names]
    return _over_families([[(name, (p,)) for name in names for p in scores.images]], scores)


def mean_gains(scores: AdaptScores, per_partition: Sequence[Compared]) -> list[Compared]:
    """The same, mean over all partitions: one test a method, Holm's correction over them."""
    names = dict.fromkeys(each.method for each in per_partition)
    return _over_families([[(name, tuple(scores.images)) for name in names]], scores)


def changes(scores: AdaptScores) -> list[Compared]:
    """Each partition minus the one before it, by method; Holm's correction within a method."""
    return _over_families(
        [
            [(method, pair) for pair in itertools.pairwise(scores.images)]
            for method in methods(scores)
        ],
        scores,
        along=True,
    )


def _over_families(
    families: Sequence[Sequence[tuple[str, tuple[float, ...]]]],
    scores: AdaptScores,
    along: bool = False,
) -> list[Compared]:
    made = []
    for family in families:
        found = [
            adapt_intervals.change(scores, method, *places)
            if along
            else adapt_intervals.gain(scores, method, places)
            for method, places in family
        ]
        adjusted = holm([p for _, p in found])
        made += [
            Compared(method, places, interval, p, p_holm)
            for (method, places), (interval, p), p_holm in zip(family, found, adjusted, strict=True)
        ]
    return made
