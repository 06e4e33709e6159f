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
        p_holm: p after Holm's correction over all arms of the item and set that are held against
            the same reference by the same measure.
    """

    arm: Arm
    other: Arm
    reference: str
    measure: str
    difference: Difference
    p_holm: float


def gains(scores: Scores) -> list[Gain]:
    """Every arm beside each reference that is there; of two references it is held to one."""
    found: list[Gain] = []
    for reference in REFERENCES:
        for measure in MEASURES:
            for place in places(scores):
                other = _reference(scores, place, reference)
                known = [
                    (arm, told)
                    for arm in ordered(arms(scores, place))
                    if other and arm not in (other, plain(place))
                    if (told := difference(scores, arm, other, measure))
                ]
                adjusted = holm([told.p for _, told in known]) if known else []
                found += [
                    Gain(arm, other, reference, measure, told, p)
                    for (arm, told), p in zip(known, adjusted, strict=True)
                    if other
                ]
    return found


def _reference(scores: Scores, place: Place, reference: str) -> Arm | None:
    if reference == "nearest":
        return main(scores, place, NEAREST)
    return plain(place) if plain(place) in scores.numbers else None
