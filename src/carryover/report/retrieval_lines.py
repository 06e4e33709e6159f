"""What the retrieval study's line plots share: lines with intervals, keys, what they are over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carryover.measure.statistics import Interval
from carryover.report.blocks import key, reach
from carryover.report.retrieval_names import UNTRAINED, look, name, ordered
from carryover.report.retrieval_scores import (
    CLEAN,
    NEAREST,
    RANDOM,
    Arm,
    Place,
    Scores,
    arms,
    images,
    main,
    numbers,
    seeds,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Mapping[float, Interval]


def at_main(scores: Scores, place: Place, controls: Sequence[str]) -> list[Arm]:
    """Arms with one of some controls, those that retrieve at the main number of entries."""
    mains = [main(scores, place, access) for access in (NEAREST, RANDOM)]
    ks = {arm.k for arm in mains if arm} | {None}
    return ordered([arm for arm in arms(scores, place) if arm.control in controls and arm.k in ks])


def banded(axis: Axes, curve: Curve, looks: Mapping[str, Any]) -> None:
    """A line with its interval as a band."""
    looks = {"markersize": 2.6, "markeredgewidth": 0, "linewidth": 0.9} | dict(looks)
    told = list(curve.values())
    axis.plot(list(curve), [each.value for each in told], **looks)
    axis.fill_between(
        list(curve),
        [each.low for each in told],
        [each.high for each in told],
        color=looks["color"],
        alpha=0.13,
        linewidth=0,
    )


def barred(axis: Axes, curve: Curve, looks: Mapping[str, Any], shift: float = 0.0) -> None:
    """A line with its intervals as bars."""
    if curve:
        axis.errorbar(
            [x + shift for x in curve],
            [each.value for each in curve.values()],
            yerr=reach(list(curve.values())),
            elinewidth=0.7,
            **{"markersize": 3.4, "markeredgewidth": 0, "linewidth": 0.9} | dict(looks),
        )


def share_heights(axes: Sequence[Axes]) -> None:
    """Panels beside each other have one vertical axis, as long as the longest."""
    ends = [axis.get_ylim() for axis in axes]
    for axis in axes[1:]:
        axis.sharey(axes[0])
    axes[0].set_ylim(min(low for low, _ in ends), max(high for _, high in ends))


def arm_keys(every: Sequence[Arm]) -> list[Any]:
    """Legend entries, one a name, in the order of arms whatever their items."""
    anywhere = {arm._replace(item="", dataset="") for arm in every}
    made = {name(arm): look(arm) for arm in ordered(list(anywhere))}
    looks = {"linewidth": 0.9, "markersize": 4}
    return [key(said, **looks | each) for said, each in made.items()]


def over(scores: Scores, every: Sequence[Arm], kept: Sequence[Scores] = ()) -> str:
    """What intervals are over, with the numbers of images and seeds; of kept rows too."""
    counted = {count for each in (scores, *kept) for count in images(each, every)}
    n = " or ".join(map(str, sorted(counted)))
    counts = seeds(scores, [arm for arm in every if arm.control not in UNTRAINED])
    if counts in ([], [1]):
        return f"{n} test images (1 seed)"
    return f"{n} test images and {' or '.join(map(str, counts))} seeds"


def diverged_said(scores: Scores) -> str:
    """A sentence on trainings that diverged; "" where none did."""
    said = []
    for arm in ordered(arms(scores)):
        flags = numbers(scores, arm, "diverged", "train").get(CLEAN, {})
        count = sum(flag.value > 0 for flag in flags.values())
        if count:
            said.append(f"{arm.item}, {arm.dataset}, {name(arm)} ({count} of {len(flags)} seeds)")
    if not said:
        return ""
    return (
        f"Diverged: {'; '.join(said)}. From there on such a network counts as one that names the "
        "first class for every image, and it has no loss and no ECE."
    )


def over_seeds_alone(counts: Iterable[int], scale: str = "") -> str:
    """What intervals of numbers that are no shares of images are over; `scale`: of what."""
    known = sorted(set(counts) - {0})
    if known in ([], [1]):
        return "no bars: one seed"
    return f"bars: 95 % interval{scale} over {' or '.join(map(str, known))} seeds alone"


def apart(known: Iterable[float], factor: float) -> list[float]:
    """Numbers that have room on a logarithmic axis: each at least so many times the one before."""
    kept: list[float] = []
    for each in sorted(known):
        if not kept or each >= factor * kept[-1]:
            kept.append(each)
    return kept
