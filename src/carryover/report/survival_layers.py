"""The figure of how alike each layer still is to the start's: a map a study, input to output."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from carryover.report.blocks import notes, nothing
from carryover.report.figures import PAGE, per_cent, style
from carryover.report.survival_kept import columns_of
from carryover.report.survival_scores import Kind, Number, Scores, found, single

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT = ("retrieval", "cuts")  # below each other in the second column
FIRST, LAST = ("embed", "stem"), ("output", "embedding")  # the others stand between, by number
SPREAD = 0.2  # seeds further apart are marked
LETTER, LINE = 0.055, 0.15  # inches a letter of a name is wide, and a line high
TITLE, NAMES = 0.22, 0.6  # inches above a map, and below it for the layers' names
ABOVE, BELOW = 0.55, 0.75  # inches for the scale of colours and for the notes
ALIKE = "100"  # not written: it would leave no room between cells
WIDEST = 0.34  # inches of a cell
ROOM = 0.2  # inches that a number takes in a cell
APART = 0.14  # inches from one slanted name to the next; in narrower cells every second is named


class Map(NamedTuple):
    """The kinds of one study whose networks have the same layers.

    Attributes:
        lines: names with their seeds, and the kinds.
        layers: of the deepest, from input to output.
        named: whether they are named below it; they are not where the next map has the same.
    """

    title: str
    lines: list[tuple[str, Kind]]
    layers: list[str]
    named: bool = True

    @property
    def height(self) -> float:
        """With its title and the names below, inches."""
        return TITLE + LINE * len(self.lines) + (NAMES if self.named else 0.0)

    @property
    def margin(self) -> float:
        """Room for the names of its lines, inches."""
        return 0.1 + LETTER * max(len(name) for name, _ in self.lines)


def layers(scores: Scores) -> Figure:
    """CKA of each layer group with the start's, mean over seeds."""
    columns = [column for column in columns_of_maps(scores) if column]
    if not columns:
        return nothing("no layers of adapted models")
    from matplotlib.figure import Figure

    margins = [max(each.margin for each in column) for column in columns]
    widths = [max(len(each.layers) for each in column) for column in columns]
    cell = min((PAGE - sum(margins) - 0.1 * len(columns)) / sum(widths), WIDEST)
    tall = max(sum(each.height for each in column) for column in columns)
    height = ABOVE + tall + BELOW
    with style():
        figure = Figure(figsize=(PAGE, height))
        left = 0.0
        for column, margin, width in zip(columns, margins, widths, strict=True):
            top = height - ABOVE
            for each in column:
                size = (cell * len(each.layers), LINE * len(each.lines))
                corner = (left + margin, top - TITLE - size[1])  # inches
                place = (corner[0] / PAGE, corner[1] / height, size[0] / PAGE, size[1] / height)
                _draw(figure.add_axes(place), scores, each, cell)
                top -= each.height
            left += margin + cell * width + 0.1
        scale = figure.add_axes((0.3, 1 - 0.42 / height, 0.4, 0.1 / height))
        figure.colorbar(
            figure.axes[0].images[0],
            cax=scale,
            orientation="horizontal",
            format=per_cent(),
            label="CKA with the start's layer (linear, debiased), %",
        )
        scale.xaxis.set_label_position("top")
        unwritten = ", no number: it rounds to 100" if cell >= ROOM else ""
        notes(
            figure,
            f"layer groups from input to output, on the same {_images(scores)} images of what the "
            "start was pretrained on, or of the target where those are not at hand; mean over "
            f"seeds (in brackets), dot: seeds more than {100 * SPREAD:.0f} points apart; white: "
            f"no such layer, or one that tells no images apart{unwritten}. Intervals are in "
            "survival.csv",
            single(scores),
        )
        return figure


def columns_of_maps(scores: Scores) -> list[list[Map]]:
    """The maps of the figure's two columns."""
    by_origin: dict[str, list[tuple[str, Kind]]] = {}
    origin = ""
    for name, kind in (line for column in columns_of(scores) for line in column):
        if kind is None:
            origin = name
        elif found(scores, kind, "cka"):
            by_origin.setdefault(origin, []).append((name, kind))
    made: list[list[Map]] = [[], []]
    for origin, lines in by_origin.items():
        made[origin in RIGHT] += _maps(scores, origin, lines)
    return [_named(column) for column in made]


def _named(column: Sequence[Map]) -> list[Map]:
    """The maps with their layers' names below the last of those that have the same."""
    following = [each.layers for each in column[1:]] + [[]]
    return [
        each._replace(named=each.layers != layers)
        for each, layers in zip(column, following, strict=False)
    ]


def _maps(scores: Scores, origin: str, lines: Sequence[tuple[str, Kind]]) -> list[Map]:
    """One for networks whose layers are among those of another, and one for each other form."""
    maps: list[Map] = []
    for line in lines:
        own = set(values_of(scores, line[1]))
        for i, each in enumerate(maps):
            if own <= set(each.layers) or own >= set(each.layers):
                whole = sorted(own | set(each.layers), key=depth_of)
                maps[i] = Map(origin, [*each.lines, line], whole)
                break
        else:
            maps.append(Map(origin, [line], sorted(own, key=depth_of)))
    return maps


def depth_of(layer: str) -> tuple[int, list[str]]:
    """Where a layer group stands from input to output, by its name."""
    place = 0 if layer in FIRST else 2 + LAST.index(layer) if layer in LAST else 1
    return place, [part.rjust(6) if part.isdigit() else part for part in re.split(r"(\d+)", layer)]


def values_of(scores: Scores, kind: Kind) -> dict[str, list[float]]:
    """CKA of each layer, seed by seed."""
    return {
        str(dict(at)["layer"]): [number.value for number in seeds.values()]
        for at, seeds in found(scores, kind, "cka").items()
    }


def _images(scores: Scores) -> str:
    every: list[Number] = [
        number
        for kind in scores.numbers
        for seeds in found(scores, kind, "cka").values()
        for number in seeds.values()
    ]
    counts = sorted({number.n for number in every})
    return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])


def _draw(axis: Axes, scores: Scores, shown: Map, cell: float) -> None:
    every = [values_of(scores, kind) for _, kind in shown.lines]
    cells = np.array(
        [[fmean(each.get(layer) or [np.nan]) for layer in shown.layers] for each in every]
    )
    axis.imshow(cells, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        if np.isnan(value):
            continue
        colour = "white" if value < 0.55 else "black"
        text = f"{100 * value:.0f}".replace("-", "\N{MINUS SIGN}")
        if cell >= ROOM and text != ALIKE:
            axis.text(column, row, text, ha="center", va="center_baseline", fontsize=7, c=colour)
        seeds = every[row][shown.layers[column]]
        if max(seeds) - min(seeds) > SPREAD:
            corner = cell >= ROOM  # beside the number
            place = (column + 0.37 * corner, row - 0.33 * corner)
            axis.plot(*place, marker="o", markersize=1.8, markeredgewidth=0, color=colour)
    axis.set_title(shown.title, loc="left", fontweight="bold", fontsize=7, pad=3)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.set_yticks(range(len(shown.lines)), [name for name, _ in shown.lines])
    slant: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    every_second = 2 if cell < APART else 1
    places = range(len(shown.layers) - 1, -1, -every_second) if shown.named else []
    axis.set_xticks(places, [shown.layers[place] for place in places], **slant)
