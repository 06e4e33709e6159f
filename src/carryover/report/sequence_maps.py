"""Heat maps of the sequence study: accuracy on each set after each."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from carryover.report.blocks import Block, across, blocks, heat_map, notes, nothing
from carryover.report.figures import per_cent, style
from carryover.report.sequence_grid import heading
from carryover.report.sequence_scores import (
    Run,
    Scores,
    by_order,
    matrix,
    runs,
    seeds,
    untrained,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 5  # maps in a row
WRITTEN = 6  # sets, beyond which a cell has no room for its number


def maps(scores: Scores) -> Figure:
    """Accuracy on each set (columns) after each was trained (rows), mean over seeds."""
    groups = by_order(run for run in runs(scores) if not untrained(scores, run))
    if not groups:
        return nothing("no accuracies of a method that trains")
    columns = across(map(len, groups.values()), MOST)
    with style():
        figure, made = blocks(
            [
                Block(heading(scores, order, found), [run.name for run in found])
                for order, found in groups.items()
            ],
            columns,
            [0.75 + 0.15 * len(scores.orders[order]) for order in groups],
        )
        for axes, (order, found) in zip(made, groups.items(), strict=True):
            for i, (axis, run) in enumerate(zip(axes, found, strict=True)):
                _draw(axis, scores, run)
                names = scores.orders[order]
                axis.set_xticks(range(len(names)), list(names), rotation=90)
                axis.set_yticks(range(len(names) + 1), ["zero-shot", *names])
                axis.tick_params(
                    length=0,
                    labelleft=i % columns == 0,
                    labelbottom=i // columns == (len(found) - 1) // columns,
                )
        figure.colorbar(
            made[0][0].images[0],
            ax=[axis for axes in made for axis in axes],
            label="accuracy, %",
            location="top",
            fraction=0.15 / figure.get_figheight(),
            pad=0.12 / figure.get_figheight(),
            aspect=40,
            shrink=0.5,
            format=per_cent(),
        )
        figure.supylabel("trained last")
        every = [run for found in groups.values() for run in found]
        counts = sorted({len(seeds(scores, run)) for run in every})
        said = f"{' or '.join(map(str, counts))} seed{'s' * (counts != [1])}"
        notes(
            figure,
            "set tested, in the order that they are trained",
            f"mean over {said}; first row: before any training, zero-shot; right of the white "
            "line: not trained yet; empty: not tested",
        )
        return figure


def _draw(axis: Axes, scores: Scores, run: Run) -> None:
    t = len(scores.orders[run.order])
    values = np.full((t + 1, t), np.nan)
    found = [matrix(scores, run, seed) for seed in seeds(scores, run)]
    for after, task in {at for each in found for at in each}:
        known = [each[after, task].value for each in found if (after, task) in each]
        values[after, task - 1] = fmean(known)
    heat_map(axis, values, written=t <= WRITTEN)
    corners = [place for place in range(t + 1) for _ in (0, 1)]  # of the trained sets' triangle
    axis.plot(
        [place - 0.5 for place in corners[1:]],
        [place + 0.5 for place in corners[:-1]],
        color="white",
        linewidth=1.4,
    )
