"""What each method of the sequence study has beyond zero-shot, plain fine-tuning and ZSCL."""

from __future__ import annotations

from typing import NamedTuple

from carryover.measure.statistics import holm
from carryover.report.sequence_differences import Difference, difference
from carryover.report.sequence_scores import FINETUNE, ZERO_SHOT, ZSCL, Run, Scores, by_order, runs

REFERENCES = (ZERO_SHOT, FINETUNE, ZSCL)
MEASURES = ("transfer", "average", "last", "forgetting")


class Gain(NamedTuple):
    """A measure of a run minus that of a reference on the same order.

    Attributes:
        p_holm: p after Holm's correction over all runs that are held against the same reference
            by the same measure.
    """

    run: Run
    other: Run
    measure: str
    difference: Difference
    p_holm: float


def gains(scores: Scores) -> list[Gain]:
    """Every run beside each reference of its order that is there."""
    orders = by_order(runs(scores))
    found: list[Gain] = []
    for reference in REFERENCES:
        pairs = [
            (run, other)
            for each in orders.values()
            for other in each
            if other.method == reference and not other.rest
            for run in each
            if run != other
        ]
        for name in MEASURES:
            known = [
                (run, other, told)
                for run, other in pairs
                if (told := difference(scores, run, other, name))
            ]
            adjusted = holm([told.p for *_, told in known]) if known else []
            found += [
                Gain(run, other, name, told, p)
                for (run, other, told), p in zip(known, adjusted, strict=True)
            ]
    return found
