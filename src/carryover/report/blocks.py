"""Figures of panels in blocks: what the studies' figures have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from carryover.measure.statistics import Interval
from carryover.report.figures import PAGE, below, panels, style

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HOLLOW: Any = {"markerfacecolor": "white", "markeredgewidth": 0.9}


class Block(NamedTuple):
    """Panels under one heading, a title each."""

    head: str
    titles: Sequence[str]


def blocks(
    found: Sequence[Block], columns: int, heights: Sequence[float]
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of blocks below each other; one block's panels fill rows of its own.

    Args:
        heights: of a row of panels of each block, in inches, with room for numbers and titles.
    """
    from matplotlib.figure import Figure

    counts = [-(-len(block.titles) // columns) for block in found]
    rows = [
        height + (0.2 if i == 0 and block.head else 0.0)
        for block, height, count in zip(found, heights, counts, strict=True)
        for i in range(count)
    ]
    figure = Figure(figsize=(PAGE, 0.9 + math.fsum(rows)), layout="constrained")
    grid = figure.add_gridspec(len(rows), columns, height_ratios=rows)
    made: list[list[Axes]] = []
    first = 0
    for block, count in zip(found, counts, strict=True):
        axes = []
        for i, title in enumerate(block.titles):
            axis = figure.add_subplot(grid[first + i // columns, i % columns])
            room = "\n" if i < columns and block.head else ""
            axis.set_title(room + title, loc="left", fontsize=7)
            axes.append(axis)
        head = axes[0].annotate(
            block.head,
            (0, 1),
            xytext=(0, 15),
            xycoords="axes fraction",
            textcoords="offset points",
            fontweight="bold",
            annotation_clip=False,
        )
        head.set_in_layout(False)
        made.append(axes)
        first += count
    return figure, made


def across(counts: Iterable[int], most: int) -> int:
    """Columns for blocks of so many panels: as many as fill the rows of the largest evenly."""
    largest = max(counts)
    return -(-largest // -(-largest // most))


def key(label: str, **looks: Any) -> Any:
    """One legend entry."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **looks)


def legend(figure: Figure, handles: Sequence[Any]) -> None:
    """One legend above all panels, in as many columns as the page has room for."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=max(1, min(len(handles), int(16 * PAGE) // (longest + 7))),
        columnspacing=1.2,
        handlelength=2.0,
    )


def reach(found: Sequence[Interval]) -> list[list[float]]:
    """How far intervals reach below and above, as error bars take it."""
    return [[each.value - each.low for each in found], [each.high - each.value for each in found]]


def notes(figure: Figure, *said: str) -> None:
    """Notes below a figure, a paragraph each."""
    figure.supxlabel(below(*(each for each in said if each)), fontsize=7)


def nothing(why: str) -> Figure:
    """A figure that says why there is none."""
    with style():
        figure, (axis,) = panels(1, 1, 0.3, width=PAGE)
        axis.axis("off")
        axis.text(0.5, 0.5, why, ha="center", va="center")
        return figure


def heat_map(axis: Axes, values: Float[np.ndarray, "rows columns"], written: bool) -> None:
    """Shares as colours from 0 to 1, and in per cent where there is room; no frame."""
    axis.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if written and not np.isnan(value):
            axis.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if value < 0.55 else "black",
            )
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
