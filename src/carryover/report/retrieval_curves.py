"""Line plots of the retrieval study: over noise, entries retrieved, and the memory's size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from carryover.measure.statistics import Interval
from carryover.report.blocks import HOLLOW, Block, blocks, key, legend, notes, nothing
from carryover.report.figures import per_cent, style
from carryover.report.retrieval_intervals import accuracy
from carryover.report.retrieval_lines import Curve, arm_keys, at_main, barred, over, share_heights
from carryover.report.retrieval_names import look
from carryover.report.retrieval_scores import (
    NEAREST,
    RANDOM,
    Arm,
    At,
    Place,
    Scores,
    arms,
    main,
    memory_size,
    numbers,
    places,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IN_NOISE = (
    "none",
    "corpus",
    "simclr",
    "vote",
    "labels",
    "clean-query",
)  # controls that have a line


def noise(scores: Scores) -> Figure:
    """Accuracy by the deviation of Gaussian noise on the test pixels; a panel an item."""
    found = {place: _in_noise(scores, place) for place in places(scores)}
    found = {place: curves for place, curves in found.items() if curves}
    if not found:
        return nothing("no accuracies under noise")
    with style():
        columns = min(2, len(found))
        figure, (axes,) = blocks(
            [Block("", [f"{item}, {dataset}" for item, dataset in found])], columns, [2.5]
        )
        for axis, curves in zip(axes, found.values(), strict=True):
            widest = max(level for curve in curves.values() for level in curve)
            for i, (arm, curve) in enumerate(curves.items()):
                aside = i / max(len(curves) - 1, 1) - 0.5
                barred(axis, curve, look(arm), 0.024 * (widest or 1) * aside)
            axis.set_ylim(bottom=0)
            axis.yaxis.set_major_formatter(per_cent())
        share_heights(axes)
        every = [arm for curves in found.values() for arm in curves]
        legend(figure, arm_keys(every))
        figure.supylabel("accuracy on all test images, %")
        notes(
            figure,
            "deviation of the Gaussian noise on test pixels in 0..1, the same noise for all arms; "
            "networks were trained without noise",
            f"bars: 95 % interval over {over(scores, every)}; arms are set side by side. The query "
            "is as noisy as the image, but for 'query without noise', which is no classifier of "
            "noisy images",
        )
        return figure


def _in_noise(scores: Scores, place: Place) -> dict[Arm, Curve]:
    found: dict[Arm, Curve] = {}
    for arm in at_main(scores, place, IN_NOISE):
        curve = {
            at.noise: told
            for at in numbers(scores, arm, "accuracy")
            if at == At(at.noise) and (told := accuracy(scores, arm, at))
        }
        if arm.control == "clean-query" and 0.0 not in curve:
            curve = {0.0: told} | curve if (told := _clean(scores, arm)) else curve
        if len(curve) > 1:
            found[arm] = dict(sorted(curve.items()))
    return found


def _clean(scores: Scores, arm: Arm) -> Interval | None:
    """Without noise a clean query is the query."""
    return accuracy(scores, arm._replace(control="none"))


# --- over entries retrieved, and the memory -------------------------------------------------------


def memory(scores: Scores, published: Scores | None = None, size: int = 0) -> Figure:
    """Accuracy by entries retrieved and by entries of each class; a row an item.

    Args:
        published: drawn hollow where it is of the same item and set.
        size: entries of each class where no control says another; 0: not known.
    """
    shown = [place for place in places(scores) if _sizes(scores, place, 0) or _ks(scores, place)]
    if not shown:
        return nothing("no other numbers of entries than one")
    with style():
        figure, made = blocks(
            [
                Block(f"{item}, {dataset}", ["by entries retrieved, k", "by entries of each class"])
                for item, dataset in shown
            ],
            2,
            [1.9] * len(shown),
        )
        theirs = False
        for axes, place in zip(made, shown, strict=True):
            theirs |= _by_k(axes[0], scores, place, published)
            _by_size(axes[1], _sizes(scores, place, size), scores, place)
            for axis in axes:
                axis.yaxis.set_major_formatter(per_cent())
            share_heights(axes)
        looks = {"markersize": 3.6, "linewidth": 0.9}
        keys = [
            key("nearest", **look(Arm("", "", NEAREST)) | looks),
            key("random", **look(Arm("", "", RANDOM)) | looks),
            key("vote of the neighbours", **look(Arm("", "", NEAREST, None, "vote")) | looks),
            key("plain, no memory", color="black", linewidth=0.9),
        ]
        keys += [key("published", color="#0072b2", marker="s", **HOLLOW | {"linestyle": ":"})] * (
            theirs
        )
        legend(figure, keys)
        figure.supylabel("accuracy after the last update, %")
        every = [arm for place in shown for arm in arms(scores, place)]
        notes(
            figure,
            f"bars and band: 95 % interval over {over(scores, every)}. Right: at the number of "
            "entries retrieved of the other figures. The axis does not begin at 0",
        )
        return figure


def _ks(scores: Scores, place: Place) -> dict[Arm, dict[float, Interval]]:
    """Accuracy by k, of nearest, random and the vote; those with two numbers or more."""
    found: dict[Arm, dict[float, Interval]] = {}
    for arm in arms(scores, place):
        if arm.k is not None and arm.control in ("none", "vote"):
            told = accuracy(scores, arm)
            if told:
                found.setdefault(arm._replace(k=None), {})[float(arm.k)] = told
    if not any(len(curve) > 1 for curve in found.values()):
        return {}
    return {arm: dict(sorted(curve.items())) for arm, curve in found.items()}


def _sizes(scores: Scores, place: Place, size: int) -> dict[float, Interval]:
    """Accuracy of the nearest by entries of each class, where there are several sizes."""
    found = {
        float(other): told
        for arm in arms(scores, place)
        if (other := memory_size(arm)) is not None
        and arm.access == NEAREST
        and (told := accuracy(scores, arm))
    }
    nearest = main(scores, place, NEAREST)
    told = accuracy(scores, nearest) if nearest and found and size else None
    found |= {float(size): told} if told else {}
    return dict(sorted(found.items()))


def _by_k(axis: Axes, scores: Scores, place: Place, published: Scores | None) -> bool:
    _reference(axis, scores, place)
    curves = _ks(scores, place)
    for i, (arm, curve) in enumerate(curves.items()):
        factor = 1 + 0.05 * (i - (len(curves) - 1) / 2)
        barred(axis, {k * factor: told for k, told in curve.items()}, look(arm))
    known = _ks(published, place) if published else {}
    for arm, curve in known.items():
        barred(axis, curve, look(arm) | HOLLOW | {"linestyle": ":"})
    places_of = {k for curve in [*curves.values(), *known.values()] for k in curve}
    _numbered(axis, places_of)
    return bool(known)


def _by_size(axis: Axes, curve: Curve, scores: Scores, place: Place) -> None:
    _reference(axis, scores, place)
    barred(axis, curve, look(Arm("", "", NEAREST)))
    _numbered(axis, curve)
    if not curve:
        axis.text(0.5, 0.5, "one size alone", transform=axis.transAxes, ha="center")


def _reference(axis: Axes, scores: Scores, place: Place) -> None:
    told = accuracy(scores, plain(place))
    if told:
        axis.axhline(told.value, color="black", linewidth=0.9)
        axis.axhspan(told.low, told.high, color="black", alpha=0.1, linewidth=0)


def _numbered(axis: Axes, known: Iterable[float]) -> None:
    """A logarithmic axis with a number at each place."""
    ticks = sorted(known)
    if ticks:
        axis.set_xscale("log")
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
