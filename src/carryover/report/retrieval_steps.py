"""Line plots of the retrieval study over updates: accuracy, loss, the published metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from carryover.measure.statistics import Interval
from carryover.report.adapt_intervals import over_seeds
from carryover.report.blocks import Block, across, blocks, key, legend, notes, nothing
from carryover.report.figures import GREY, per_cent, style
from carryover.report.retrieval_intervals import accuracy, alone
from carryover.report.retrieval_lines import apart, arm_keys, banded, over, share_heights
from carryover.report.retrieval_names import look, ordered
from carryover.report.retrieval_scores import (
    NEAREST,
    PLAIN,
    RANDOM,
    Arm,
    Place,
    Scores,
    arms,
    main,
    number,
    numbers,
    places,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALONG = ("none", "parameters", "corpus", "simclr")  # controls that have a line
THRESHOLD = 0.8
MOST = 3  # panels in a row
BEFORE = 0.5  # of the way back to no updates, where the logarithm begins
VOTE: dict[str, Any] = {"color": "#56b4e9", "linestyle": (0, (4, 2)), "linewidth": 0.9}


def steps(scores: Scores, kept: Sequence[Scores] = ()) -> Figure:
    """Accuracy, loss and the published metric over updates; a column an item and data set."""
    shown = [
        (each, place)
        for each in (scores, *kept)
        for place in places(each)
        if any(_by_step(each, arm, "curve_accuracy") for arm in arms(each, place))
    ]
    if not shown:
        return nothing("no accuracies on the way")
    rows: dict[str, Callable[[Axes, Scores, Place], bool]] = {
        "accuracy on all test images, %": _accuracies,
        "loss of a training batch": _losses,
        "as published minus accuracy, points": _published_metric,
    }
    columns = across([len(shown)], MOST)
    with style():
        figure, made = blocks(
            [Block(said, [_titled(each, place, scores) for each, place in shown]) for said in rows],
            columns,
            [1.85, 1.6, 1.6],
        )
        for axes, draw in zip(made, rows.values(), strict=True):
            for axis, (each, place) in zip(axes, shown, strict=True):
                if not draw(axis, each, place):
                    axis.text(0.5, 0.5, "no rows", transform=axis.transAxes, ha="center")
                _over_updates(axis, _steps_of(each, place))
            share_heights(axes)
        every = [arm for each, place in shown for arm in _along(each, place)]
        keys = arm_keys(every)
        if any(_vote(each, place) for each, place in shown):
            keys.append(key("vote of the neighbours, no training", **VOTE))
        legend(figure, keys)
        notes(
            figure,
            "updates; dotted: 80 %. As published: the highest estimate, on 768 random test images "
            "each, since the epoch began",
            f"bands: 95 % interval over {over(scores, every, kept)}; in the lower rows over seeds "
            "alone",
        )
        return figure


def _titled(each: Scores, place: Place, scores: Scores) -> str:
    other = "" if each is scores else f" ({each.preset})"
    return f"{place[0]}, {place[1]}{other}"


def _along(scores: Scores, place: Place) -> list[Arm]:
    """Arms with a line: plain and its controls, nearest and random at their main number."""
    mains = [main(scores, place, access) for access in (NEAREST, RANDOM)]
    found = [
        arm
        for arm in arms(scores, place)
        if (arm.access == PLAIN and arm.control in ALONG) or arm in mains
    ]
    return ordered([arm for arm in found if _by_step(scores, arm, "curve_accuracy")])


def _by_step(scores: Scores, arm: Arm, metric: str) -> dict[float, Interval]:
    """A share of images by updates."""
    return {
        float(at.step): told
        for at in numbers(scores, arm, metric)
        if at.step is not None and at.noise == 0 and (told := accuracy(scores, arm, at, metric))
    }


def _steps_of(scores: Scores, place: Place) -> list[float]:
    return sorted(
        {s for arm in _along(scores, place) for s in _by_step(scores, arm, "curve_accuracy")}
    )


def _accuracies(axis: Axes, scores: Scores, place: Place) -> bool:
    for arm in _along(scores, place):
        banded(axis, _by_step(scores, arm, "curve_accuracy"), look(arm))
    vote = _vote(scores, place)
    if vote:
        axis.axhline(vote.value, **VOTE)
    axis.axhline(THRESHOLD, color=GREY, linewidth=0.7, linestyle=":")
    axis.set_ylim(0, 1.02)
    axis.yaxis.set_major_formatter(per_cent())
    return True


def _vote(scores: Scores, place: Place) -> Interval | None:
    """Accuracy of the vote of as many neighbours as are retrieved."""
    nearest = main(scores, place, NEAREST)
    return accuracy(scores, nearest._replace(control="vote")) if nearest else None


def _losses(axis: Axes, scores: Scores, place: Place) -> bool:
    curves = {arm: _loss(scores, arm) for arm in _along(scores, place)}
    for arm, curve in curves.items():
        banded(axis, curve, look(arm))
    if any(curves.values()):
        axis.set_ylim(bottom=0)
    return any(curves.values())


def _loss(scores: Scores, arm: Arm) -> dict[float, Interval]:
    return {
        float(at.step): alone("curve_loss", [each.value for each in found.values()])
        for at, found in numbers(scores, arm, "curve_loss", "train").items()
        if at.step is not None
    }


def _published_metric(axis: Axes, scores: Scores, place: Place) -> bool:
    drawn = False
    for arm in _along(scores, place):
        curve = _optimism(scores, arm)
        banded(axis, curve, look(arm))
        drawn = drawn or bool(curve)
    axis.axhline(0, color="black", linewidth=0.7)
    axis.yaxis.set_major_formatter(per_cent())
    return drawn


def _optimism(scores: Scores, arm: Arm) -> dict[float, Interval]:
    """The published metric minus the accuracy on all test images, over seeds, paired."""
    found: dict[float, Interval] = {}
    for at, high in numbers(scores, arm, "running_max_accuracy").items():
        true = number(scores, arm, "curve_accuracy", at)
        shared = sorted(set(high) & set(true))
        if at.step is not None and at.noise == 0 and shared:
            found[float(at.step)] = over_seeds([high[s].value - true[s].value for s in shared])
    return found


def _over_updates(axis: Axes, known: Sequence[float]) -> None:
    """Whole updates, logarithmic where the first are tested much more often than the last."""
    later = [step for step in known if step > 0]
    if later and later[-1] / later[0] > 10:
        if later == list(known):
            axis.set_xscale("log")
            axis.set_xlim(later[0] / 1.2, later[-1] * 1.15)
        else:
            axis.set_xscale("symlog", linthresh=later[0], linscale=BEFORE)
            axis.set_xlim(-0.2 * later[0], 1.1 * later[-1])
        ticks = [*(step for step in known if step <= 0), *apart(later, 2)]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
    else:
        axis.locator_params(axis="x", integer=True)
