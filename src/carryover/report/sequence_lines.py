"""Line plots of the sequence study: accuracy over sets trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from carryover.measure.statistics import Interval
from carryover.report import sequence_published
from carryover.report.blocks import HOLLOW, Block, blocks, key, legend, notes, nothing, reach
from carryover.report.figures import per_cent, style
from carryover.report.sequence_grid import families, heading, look, method_keys
from carryover.report.sequence_intervals import over_sets
from carryover.report.sequence_scores import Run, Scores, by_order, runs, sizes
from carryover.report.sequence_tables import over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = {
    "all": "all tested sets",
    "order": "sets of the order",
    "trained": "sets trained so far",
    "other": "sets not trained so far",
}
SPREAD = 0.5  # of the way to the next set, that methods are set side by side over


def tasks(scores: Scores, published: Scores | None = None) -> Figure:
    """Mean accuracy over sets by sets trained, one line a method.

    Args:
        published: drawn hollow and dotted where sets and order are the same.
    """
    groups = by_order(runs(scores))
    if not groups:
        return nothing("no accuracies of any method")
    shown = [
        (order, name, found) for order, every in groups.items() for name, found in families(every)
    ]
    more = any(set(sizes(scores, run)) - set(scores.orders[run.order]) for run in runs(scores))
    kinds = [kind for kind in SHOWN if more or kind != "order"]
    with style():
        figure, made = blocks(
            [
                Block(
                    heading(scores, order, found) + (f": {name}" if name else ""),
                    [SHOWN[kind] for kind in kinds],
                )
                for order, name, found in shown
            ],
            len(kinds),
            [1.75] * len(shown),
        )
        theirs = False
        for axes, (order, _, found) in zip(made, shown, strict=True):
            other = (
                sequence_published.same_order(published, scores.orders[order]) if published else []
            )
            other = [run for run in other if run.method in {each.method for each in found}]
            for i, (axis, kind) in enumerate(zip(axes, kinds, strict=True)):
                if i:
                    axis.sharey(axes[0])
                _panel(axis, scores, found, kind, published, other)
                axis.tick_params(labelleft=i == 0)
                t = len(scores.orders[order])
                axis.set_xticks(range(t + 1))
                axis.set_xlim(-0.5, t + 0.5)
            axes[0].set_ylim(bottom=0)
            theirs = theirs or bool(other)
        keys = method_keys(run for _, _, found in shown for run in found)
        keys += [key("released (one run)", color="black", marker="o", **_theirs())] * theirs
        legend(figure, keys)
        figure.supylabel("mean accuracy, %")
        notes(
            figure,
            "sets trained; which sets the means of the last two panels are over changes with them",
            f"bars: 95 % interval over {over(scores, runs(scores))}; methods are set side by side; "
            "each set counts alike; zero-shot never trains",
        )
        return figure


def _theirs() -> dict[str, Any]:
    return HOLLOW | {"linestyle": ":", "markersize": 3.2}


def _panel(
    axis: Axes,
    scores: Scores,
    found: Sequence[Run],
    kind: str,
    published: Scores | None,
    other: Sequence[Run],
) -> None:
    series = [(_curve(scores, run, kind), look(run.method)) for run in found]
    if published:
        series += [(_curve(published, run, kind), look(run.method) | _theirs()) for run in other]
    for i, (curve, looks) in enumerate(series):
        shift = SPREAD * ((i + 0.5) / len(series) - 0.5)
        if set(curve) != set(range(min(curve, default=0), max(curve, default=-1) + 1)):
            looks = looks | {"linestyle": ""}  # not tested in between
        axis.errorbar(
            [time + shift for time in curve],
            [each.value for each in curve.values()],
            yerr=reach(list(curve.values())),
            linewidth=0.8,
            elinewidth=0.7,
            **{"markersize": 3.2, "markeredgewidth": 0} | looks,
        )
    axis.yaxis.set_major_formatter(per_cent())


def _curve(scores: Scores, run: Run, kind: str) -> dict[int, Interval]:
    """Mean accuracy by sets trained."""
    t = len(scores.orders[run.order])
    found = {time: over_sets(scores, run, time, kind) for time in range(t + 1)}
    return {time: told for time, told in found.items() if told}
