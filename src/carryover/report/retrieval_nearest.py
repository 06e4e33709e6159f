"""What the memory attends to: test images, the entries retrieved for each, and their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from carryover.report.blocks import key, legend, notes, nothing
from carryover.report.figures import PAGE, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MOST = 6  # entries that are shown of an image
GAP, LINE = 0.35, 1.42  # of an image's side: between query and entries, from row to row
SAME, OTHER = "#009e73", "#d55e00"  # frames: an entry of the query's class, or of another


class Entry(NamedTuple):
    """A retrieved entry: its image by id, its class, and the weight that it was given."""

    id: int
    label: int
    weight: float


class Looked(NamedTuple):
    """A test image and what was retrieved for it, nearest first.

    Attributes:
        k: entries that share the weight of 1, the ones that are not shown too.
    """

    id: int
    label: int
    entries: tuple[Entry, ...]
    k: int


Pictures = Mapping[int, "NDArray[np.float64]"]  # [h, w] or [h, w, 3] in 0..1, by id


def nearest(
    found: Mapping[str, Sequence[Looked]],
    queries: Pictures,
    memory: Pictures,
    names: Sequence[str],
) -> Figure:
    """One column an item, one row a test image.

    Args:
        found: by item; images are the same in each.
        names: of the classes.
    """
    shown = {item: looked for item, looked in found.items() if looked}
    if not shown:
        return nothing("no table of what was attended to")
    from matplotlib.figure import Figure

    rows = max(map(len, shown.values()))
    widest = max(min(MOST, len(each.entries)) for every in shown.values() for each in every)
    side = PAGE / len(shown) / (widest + 1 + GAP + 1.2)
    with style():
        figure = Figure(figsize=(PAGE, 1.3 + side * LINE * rows), layout="constrained")
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for axis, (item, every) in zip(axes, shown.items(), strict=True):
            axis.set_title(item, loc="left", fontweight="bold")
            for i, looked in enumerate(every):
                _row(axis, looked, i * LINE, queries, memory)
            axis.set_xlim(-0.1, widest + 1 + GAP)
            axis.set_ylim(rows * LINE - 0.1, -0.1)
            axis.set_aspect("equal")
            axis.set_yticks(
                [i * LINE + 0.5 for i in range(len(every))], [names[each.label] for each in every]
            )
            axis.set_xticks([])
            axis.tick_params(length=0)
            axis.grid(visible=False)
            axis.spines[:].set_visible(False)
        frames = {"linestyle": "", "marker": "s", "markersize": 7, "markerfacecolor": "white"}
        legend(
            figure,
            [
                key("of the image's class", markeredgecolor=SAME, markeredgewidth=1.5, **frames),
                key("of another class", markeredgecolor=OTHER, markeredgewidth=1.5, **frames),
            ],
        )
        ks = sorted({each.k for every in shown.values() for each in every})
        alike = " or ".join(f"{100 / k:.3g}" for k in ks)
        notes(
            figure,
            "left: the first test image of each class; then its nearest entries, nearest first",
            f"numbers: share of the attention in per cent, {alike} if all {ks[-1]} were alike; "
            "mean over positions, heads and layers, first seed",
        )
        return figure


def _row(axis: Axes, looked: Looked, top: float, queries: Pictures, memory: Pictures) -> None:
    _picture(axis, queries.get(looked.id), 0.0, top, "black")
    for i, entry in enumerate(looked.entries[:MOST]):
        colour = SAME if entry.label == looked.label else OTHER
        left = 1 + GAP + i
        _picture(axis, memory.get(entry.id), left, top, colour)
        axis.text(
            left + 0.5,
            top + 1.02,
            f"{100 * entry.weight:.1f}",
            ha="center",
            va="top",
            fontsize=7,
        )


def _picture(
    axis: Axes, pixels: NDArray[np.float64] | None, left: float, top: float, colour: str
) -> None:
    from matplotlib.patches import Rectangle

    inside = 0.06
    if pixels is not None:
        axis.imshow(
            pixels,
            cmap="gray",
            vmin=0,
            vmax=1,
            extent=(left + inside, left + 1 - inside, top + 1 - inside, top + inside),
            interpolation="nearest",
        )
    axis.add_patch(
        Rectangle(
            (left + inside, top + inside),
            1 - 2 * inside,
            1 - 2 * inside,
            fill=False,
            edgecolor=colour,
            linewidth=1.2,
        )
    )
