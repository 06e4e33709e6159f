"""Dot plots of the sequence study: transfer against last accuracy, and backward transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from carryover.report import sequence_published
from carryover.report.blocks import HOLLOW, Block, blocks, key, legend, notes, nothing, reach
from carryover.report.figures import GREY, per_cent, style
from carryover.report.sequence_grid import heading, look, method_keys
from carryover.report.sequence_intervals import change, measure
from carryover.report.sequence_scores import Run, Scores, by_order, runs
from carryover.report.sequence_tables import over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BACKWARD = {
    "backward_transfer": "mean over all sets but the last",
    "backward_transfer_with_last": "with the last, which adds a 0",
}


def transfer_last(
    scores: Scores, published: Scores | None = None, kept: Sequence[Scores] = ()
) -> Figure:
    """What is kept of zero-shot against what is known at the end: a point a method, a panel an
    order; behind ours the rows that are kept and the released matrices, in panels of their own.
    """
    shown: list[tuple[str, str, Scores, list[Run]]] = []
    for origin in (scores, *kept):
        shown += [
            (f"preset {origin.preset}", heading(origin, order, found), origin, found)
            for order, every in by_order(runs(origin)).items()
            if (found := _both(origin, every))
        ]
    if published:
        known = _both(published, sequence_published.methods(published))
        shown += [
            (
                "released with ZSCL, CLIP ViT-B/16",
                heading(published, order, found),
                published,
                found,
            )
            for order, found in by_order(known).items()
        ]
    if not shown:
        return nothing("no transfer of any method")
    heads = list(dict.fromkeys(head for head, *_ in shown))
    groups = [[each for each in shown if each[0] == head] for head in heads]
    with style():
        figure, made = blocks(
            [
                Block(head, [title for _, title, _, _ in group])
                for head, group in zip(heads, groups, strict=True)
            ],
            2,
            [2.7] * len(groups),
        )
        for axes, group in zip(made, groups, strict=True):
            for axis, (_, _, origin, found) in zip(axes, group, strict=True):
                _points(axis, origin, found)
        legend(figure, method_keys((run for *_, found in shown for run in found), linestyle=""))
        figure.supylabel("last: mean accuracy on all sets at the end, %")
        notes(
            figure,
            "transfer: mean accuracy on sets before they are trained, %",
            f"bars: 95 % interval over {over(scores, runs(scores))}"
            + ("; released: one run, over test images" if published else "")
            + ". Scales differ from panel to panel",
        )
        return figure


def _both(scores: Scores, found: Sequence[Run]) -> list[Run]:
    return [
        run for run in found if measure(scores, run, "transfer") and measure(scores, run, "last")
    ]


def _points(axis: Axes, scores: Scores, found: Sequence[Run]) -> None:
    for run in found:
        x, y = measure(scores, run, "transfer"), measure(scores, run, "last")
        if x and y:
            axis.errorbar(
                [x.value],
                [y.value],
                xerr=reach([x]),
                yerr=reach([y]),
                elinewidth=0.7,
                **{"markersize": 4.5, "markeredgewidth": 0} | look(run.method) | {"linestyle": ""},
            )
    axis.grid(visible=True, axis="both")
    axis.xaxis.set_major_formatter(per_cent())
    axis.yaxis.set_major_formatter(per_cent())


def backward(scores: Scores) -> Figure:
    """Change of each set from right after its training to the end: means with intervals."""
    groups = by_order(run for run in runs(scores) if measure(scores, run, "backward_transfer"))
    if not groups:
        return nothing("no backward transfer of any method")
    with style():
        names = list(dict.fromkeys(run.name for found in groups.values() for run in found))
        figure, made = blocks(
            [Block("", [heading(scores, order, found) for order, found in groups.items()])],
            min(2, len(groups)),
            [0.6 + 0.26 * len(names)],
        )
        for i, (axis, found) in enumerate(zip(made[0], groups.values(), strict=True)):
            for run in found:
                _backward(axis, scores, run, names.index(run.name))
            axis.axvline(0, color="black", linewidth=0.7)
            axis.set_yticks(range(len(names)), names)
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.grid(visible=False)
            axis.grid(visible=True, axis="x")
            axis.tick_params(axis="y", length=0, labelleft=i % 2 == 0)
            axis.xaxis.set_major_formatter(per_cent())
        looks = {"linestyle": "", "color": "black", "marker": "o", "markersize": 4}
        ticks = {"linestyle": "", "color": GREY, "marker": "|", "markersize": 6}
        legend(
            figure,
            [
                *(key(BACKWARD[name], **looks | more) for name, more in _marks().items()),
                key("single sets but the last", **ticks),
            ],
        )
        every = [run for found in groups.values() for run in found]
        notes(
            figure,
            "backward transfer, points: the end minus right after training; below 0: forgotten",
            f"bars: 95 % interval over {over(scores, every)}, as if the two tests were on other "
            "images, which is too wide. The published averages are with the last set",
        )
        return figure


def _marks() -> dict[str, dict[str, object]]:
    return {"backward_transfer": {}, "backward_transfer_with_last": HOLLOW}


def _backward(axis: Axes, scores: Scores, run: Run, place: int) -> None:
    for offset, (name, more) in zip((-0.15, 0.15), _marks().items(), strict=True):
        told = measure(scores, run, name)
        if told:
            axis.errorbar(
                [told.value],
                [place + offset],
                xerr=reach([told]),
                linestyle="",
                elinewidth=0.8,
                **{"markersize": 3.8, "markeredgewidth": 0, "color": look(run.method)["color"]}
                | {"marker": "o"}
                | more,
            )
    sets = range(1, len(scores.orders[run.order]))
    single = [told.value for task in sets if (told := change(scores, run, task))]
    axis.plot(single, [place] * len(single), "|", color=GREY, markersize=7, markeredgewidth=0.7)
