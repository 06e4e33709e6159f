"""What each arm of the retrieval study has beyond the plain one, and beyond nearest neighbours."""

from __future__ import annotations

from typing import NamedTuple

from carryover.measure.statistics import holm
from carryover.report.retrieval_intervals import Difference, difference
from carryover.report.retrieval_names import ordered
from carryover.report.retrieval_scores import NEAREST, Arm, Place, Scores, arms, main, places, plain

MEASURES = ("accuracy", "area")
REFERENCES = ("plain", "nearest")


class Gain(NamedTuple):
    """A number of one arm minus that of a reference, of the same item and set.

    Attributes:
        p_holm: p after Holm's correction over all arms that are held against the same reference
            by the same measure.
    """

    arm: Arm
    other: Arm
    reference: str
    measure: str
    difference: Difference
    p_holm: float


def gains(scores: Scores) -> list[Gain]:
    """Every arm beside each reference that is there."""
    found: list[Gain] = []
    for reference in REFERENCES:
        pairs = [
            (arm, other)
            for place in places(scores)
            if (other := _reference(scores, place, reference))
            for arm in ordered(arms(scores, place))
            if arm != other
        ]
        for measure in MEASURES:
            known = [
                (arm, other, told)
                for arm, other in pairs
                if (told := difference(scores, arm, other, measure))
            ]
            adjusted = holm([told.p for *_, told in known]) if known else []
            found += [
                Gain(arm, other, reference, measure, told, p)
                for (arm, other, told), p in zip(known, adjusted, strict=True)
            ]
    return found


def _reference(scores: Scores, place: Place, reference: str) -> Arm | None:
    if reference == "nearest":
        return main(scores, place, NEAREST)
    return plain(place) if plain(place) in scores.numbers else None
