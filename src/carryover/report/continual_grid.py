"""How the continual study's figures are laid out: blocks of panels, and how a strategy looks."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from carryover.report.blocks import Block, key
from carryover.report.continual_scores import ITEMS, STRATEGIES, Run, Scores, arm, numbers
from carryover.report.figures import GREY, PAGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (*("black", "#d55e00", "#e69f00", "#cc79a7", "#0072b2", "#009e73", "#56b4e9", "#6b6b6b"),)
SHAPES = ("o", "s", "D", "*", "^", "v", "<", "X")
LOOKS: dict[str, dict[str, Any]] = {
    name: {"color": colour, "marker": shape}
    for name, colour, shape in zip(STRATEGIES, COLOURS, SHAPES, strict=True)
}
OTHER: Any = {"color": "#8c6d31", "marker": "P"}  # a strategy that is not listed
ARMS = {"frozen": "#0072b2", "partly": "#009e73", "unfrozen": "#d55e00"}
HOLLOW: Any = {"markerfacecolor": "white", "markeredgewidth": 0.9, "linestyle": ":"}
HIGH = 0.8  # panels of no lower accuracy do not begin at 0, where all of it would be one line
CHANCE: Any = {"color": GREY, "linestyle": "--", "linewidth": 0.8}


def across(counts: Iterable[int], most: int) -> int:
    """Columns for blocks of so many panels: as many as fill the rows of one block evenly."""
    found = list(counts)
    if len(found) > 1:
        return min(most, sum(found))
    return -(-found[0] // -(-found[0] // most))


def blocks(
    found: Sequence[Block], columns: int, height: float | Sequence[float]
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of blocks in rows; one that fits in the rest of a row stands there.

    Args:
        columns: as `across` has them; a block of more panels has its rows for itself.
        height: of a row of panels without its titles, in inches; of each block, if several.
    Returns:
        The figure, and the axes of each block.
    """
    from matplotlib.figure import Figure

    heights = [height] * len(found) if isinstance(height, float) else list(height)
    width = int(13.6 * PAGE / columns)
    begun = _begun(found, columns)
    rows = [0.0] * (begun[-1] // columns + -(-len(found[-1].titles) // columns))
    for block, tall, start in zip(found, heights, begun, strict=True):
        lines = max(len(textwrap.wrap(title, width)) for title in block.titles)
        for place in range(start, start + len(block.titles)):
            row = place // columns
            rows[row] = max(rows[row], tall + 0.35 + 0.13 * (lines + 1))
    figure = Figure(figsize=(PAGE, 1.0 + math.fsum(rows)), layout="constrained")
    grid = figure.add_gridspec(len(rows), columns, height_ratios=rows)
    made: list[list[Axes]] = []
    for block, start in zip(found, begun, strict=True):
        axes = []
        for place, title in enumerate(block.titles, start):
            axis = figure.add_subplot(grid[place // columns, place % columns])
            axis.set_title("\n" + textwrap.fill(title, width), loc="left", fontsize=7)
            axes.append(axis)
        beside = axes[: columns - start % columns]
        _head(axes[0], block.head, max(axis.get_title(loc="left").count("\n") for axis in beside))
        made.append(axes)
    return figure, made


def _begun(found: Sequence[Block], columns: int) -> list[int]:
    """The place of each block's first panel, counted through all rows."""
    begun, free = [], 0
    for block in found:
        room = -(-len(block.head) * columns // int(12 * PAGE))  # its heading may pass its panels
        wide = min(columns, max(room, len(block.titles)))
        if len(block.titles) > columns or free % columns + wide > columns:
            free = -(-free // columns) * columns
        begun.append(free)
        free += max(wide, len(block.titles))
        if len(block.titles) > columns:  # its last row has no heading but the first's
            free = -(-free // columns) * columns
    return begun


def _head(axis: Axes, text: str, lines: int) -> None:
    """The block's heading above the first panel's title; it may pass the panel.

    Args:
        lines: of the longest title in that row.
    """
    head = axis.annotate(
        text,
        (0, 1),
        xytext=(0, 6.5 + 8.6 * lines),
        xycoords="axes fraction",
        textcoords="offset points",
        fontweight="bold",
        fontsize=8,
        annotation_clip=False,
    )
    head.set_in_layout(False)


def heading(run: Run) -> str:
    """Stream and protocol, ``s-digits, ci-5``."""
    return f"{run.stream}, {run.protocol}"


def counted(scores: Scores, found: Iterable[Run]) -> str:
    """Test images of runs of one stream, ``n = 360``."""
    sizes = {
        each.n
        for run in found
        for values in numbers(scores, run, "test", "accuracy").values()
        for each in values.values()
    }
    return f"n = {' or '.join(map(str, sorted(sizes)))}"


def look(strategy: str) -> dict[str, Any]:
    """Colour and marker of a strategy."""
    return LOOKS.get(strategy, OTHER)


def arm_names(found: Iterable[Run]) -> dict[Run, str]:
    """What each run's arm is called, with its encoder where there are several."""
    found = list(found)
    several = len({run.encoder for run in found}) > 1
    return {run: f"{arm(run)}, {run.encoder}" if several else arm(run) for run in found}


def arm_looks(found: Iterable[Run]) -> dict[str, dict[str, Any]]:
    """Colour by what trains, marker by the head, of every arm in the order of the runs."""
    arms: dict[str, list[str]] = {}
    names = arm_names(found)
    for run in sorted(names, key=lambda run: ITEMS.index(run.item) if run.item in ITEMS else 9):
        if names[run] not in arms.setdefault(run.item, []):
            arms[run.item].append(names[run])
    return {
        name: {"color": ARMS.get(item, "black"), "marker": SHAPES[i % len(SHAPES)]}
        for item, each in arms.items()
        for i, name in enumerate(each)
    }


def by_arm(found: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs of one stream and protocol by arm, in the order that arms come."""
    grouped: dict[str, list[Run]] = {}
    for run, name in arm_names(found).items():
        grouped.setdefault(name, []).append(run)
    return grouped


def strategy_keys(found: Iterable[Run]) -> list[Any]:
    """Legend entries of the strategies, in their order."""
    names = {run.strategy for run in found}
    known = [name for name in STRATEGIES if name in names]
    return [
        key(name, linewidth=0.9, markersize=4, **look(name))
        for name in [*known, *sorted(names - set(STRATEGIES))]
    ]


def share_y(axes: Sequence[Axes], columns: int, apart: Sequence[bool] = ()) -> None:
    """One vertical scale for a block; numbers in its first column alone.

    Args:
        apart: which panels share a scale of their own; numbers stand wherever it changes too.
    """
    of_own = list(apart) or [False] * len(axes)
    for i, axis in enumerate(axes):
        first = of_own.index(of_own[i])
        if i != first:
            axis.sharey(axes[first])
        axis.tick_params(labelleft=i % columns == 0 or of_own[i] != of_own[i - 1])


def whole_numbers(axis: Axes, most: int) -> None:
    """A horizontal axis of counts, with at most so many of them written."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(nbins=most, integer=True))
