"""How the sequence study's figures are laid out: blocks of panels, and how a method looks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from carryover.measure.statistics import Interval
from carryover.report.figures import GREY, PAGE, below, panels, style
from carryover.report.sequence_scores import FINETUNE, METHODS, ZERO_SHOT, Run, Scores, images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {  # of families
    "black": (ZERO_SHOT,),
    "#d55e00": (FINETUNE, "finetune-lora", "joint"),
    "#8c6d31": ("ncm", "ridge", "wc"),
    "#e69f00": ("lwf", "lwf-vr", "icarl"),
    "#0072b2": ("zscl", "zscl-star", "zscl-plain", "feature-mse", "image-similarity"),
    "#cc79a7": ("zscl-ogd", "ogd", "zscl-sfao"),
    "#009e73": ("zscl-lora", "zscl-lora-shared", "zscl-lora-shared-split"),
    "#56b4e9": (
        *("wise-ft", "wise-at-test", "running-mean", "running-mean-wise"),
        *("moving-average", "ema", "task-mean"),
    ),
}
SHAPES = ("o", "s", "^", "D", "v", "<", ">")
DASHES = ("-", "--", "-.", ":", (0, (6, 1)), (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))
LOOKS: dict[str, dict[str, Any]] = {
    name: {"color": colour, "marker": SHAPES[i], "linestyle": DASHES[i]}
    for colour, names in COLOURS.items()
    for i, name in enumerate(names)
}
OTHER: Any = {"color": GREY, "marker": "P", "linestyle": "-"}  # a method that is not listed
HOLLOW: Any = {"markerfacecolor": "white", "markeredgewidth": 0.9}
TOGETHER = 8  # methods that one panel has room for
FAMILIES = ("plain", "distill", "ogd", "lora", "average")


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


def heading(scores: Scores, order: str, found: Sequence[Run]) -> str:
    """An order and its test images, ``order 1: 5 sets of 36 to 898 test images``."""
    counts = images(scores, found)
    n = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"order {order}: {len(scores.orders[order])} sets of {n} test images"


def look(method: str) -> dict[str, Any]:
    """Colour, marker and line of a method."""
    return LOOKS.get(method, OTHER)


def families(found: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Runs of one order together, or, if many, by item with zero-shot and fine-tuning in each."""
    if len(found) <= TOGETHER:
        return [("", list(found))]
    always = [run for run in found if run.method in (ZERO_SHOT, FINETUNE)]
    rest = [run for run in found if run not in always]
    known = [item for item in FAMILIES if any(run.item == item for run in rest)]
    items = [*known, *sorted({run.item for run in rest} - set(FAMILIES))]
    return [(item, [*always, *(run for run in rest if run.item == item)]) for item in items]


def method_keys(found: Iterable[Run], **more: Any) -> list[Any]:
    """Legend entries of the methods, in their order."""
    names = {run.method for run in found}
    known = [*(n for n in METHODS if n in names), *sorted(names - set(METHODS))]
    return [key(name, **{"linewidth": 0.9, "markersize": 4} | look(name) | more) for name in known]


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
