"""Partitions with a class folder missing or too many beside correct ones and published curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carryover.report import adapt_intervals
from carryover.report.adapt_curves import above, bars, counted, over, ticks
from carryover.report.adapt_published import DATASET, MODELS, Published, partitions
from carryover.report.adapt_scores import CORRECT, FAULTS, PROBE, AdaptScores, methods, title
from carryover.report.figures import GREY, below, panels, per_cent, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#0072b2", "marker": "o"},
    {"color": "#d55e00", "marker": "s"},
    {"color": "#cc79a7", "marker": "^"},
    {"color": "#009e73", "marker": "D"},
    {"color": "black", "marker": "v"},
)


def fault(scores: AdaptScores, published: Published, folders: str = CORRECT) -> Figure:
    """The probe on correct and on faulty partitions; beside it what five models published.

    Args:
        folders: the partitions of methods that have no fault of their own.
    """
    with style():
        figure, (ours, theirs) = panels(2, 2, 2.4)
        names = [method for method in methods(scores) if method in (PROBE, *FAULTS)]
        for i, (method, look) in enumerate(zip(names, LOOKS, strict=False)):
            bars(
                ours,
                [place + 0.12 * (i - (len(names) - 1) / 2) for place in range(len(scores.images))],
                [adapt_intervals.accuracy(scores, method, p) for p in scores.images],
                folders.removesuffix(" partitions") if method == PROBE else title(method),
                look,
            )
        every = partitions(published)
        for (model, curve), look in zip(published.curves.items(), LOOKS, strict=True):
            places = [every.index(partition) for partition in curve]
            bars(theirs, places, list(curve.values()), MODELS[model], look)
        ticks(ours, list(scores.images))
        ticks(theirs, every)
        if scores.fault_from:
            first = list(scores.images).index(min(scores.fault_from.values()))
            ours.axvline(first - 0.5, color=GREY, linewidth=0.9, linestyle=":")
        for axis in (ours, theirs):
            axis.set_ylim(bottom=0)
            axis.yaxis.set_major_formatter(per_cent())
        above(ours, f"ours: {scores.dataset}, frozen probe", 2)
        above(theirs, f"published: {DATASET}", 2)
        figure.supylabel("test accuracy, %")
        figure.supxlabel(
            below(
                "share of the training images (%), at equal distances",
                "dotted line: from there on a class folder is missing or too many, so that all "
                "folders behind it in the alphabet get the label of another class",
                f"ours: bars: 95 % interval over {over(scores)} (n = {scores.n}); lines are set "
                f"side by side; published: one run each, bars over test images (n = "
                f"{published.n}) and what flooring hides, smaller than the markers",
                f"ours, {folders}: {counted(scores)}",
            )
        )
        return figure
