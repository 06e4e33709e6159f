"""Maps of test images' embeddings in the sequence study, before any set and after all of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from carryover.report.blocks import Block, across, blocks, key, legend, notes, nothing
from carryover.report.figures import MARKERS, style
from carryover.report.sequence_scores import METHODS, ZERO_SHOT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 3  # panels in a row


class Dot(NamedTuple):
    """One image on a map: its set, and where it lies."""

    dataset: str
    x: float
    y: float


Maps = Mapping[str, Sequence[Dot]]  # by method


def read_maps(paths: Iterable[Path]) -> Maps:
    """Maps of several ``tsne.csv`` by method, in the order that methods stand in."""
    found: dict[str, list[Dot]] = {}
    for path in paths:
        for line in csv.DictReader(io.StringIO(path.read_text())):
            dot = Dot(line["dataset"], float(line["x"]), float(line["y"]))
            found.setdefault(line["method"], []).append(dot)
    known = [name for name in METHODS if name in found]
    return {name: found[name] for name in [*known, *sorted(set(found) - set(known))]}


def maps(found: Maps) -> Figure:
    """A panel a method, a dot an image in the colour of its set."""
    from matplotlib import colormaps

    if not found:
        return nothing("no maps: sequence.curves.map_images is 0")
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    sets = sorted({dot.dataset for dots in found.values() for dot in dots})
    looks = {
        name: {"color": colours[i % len(colours)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(sets)
    }
    with style():
        titles = [f"{_title(name)} (n = {len(dots)})" for name, dots in found.items()]
        figure, (axes,) = blocks([Block("", titles)], across([len(found)], MOST), [1.9])
        for axis, dots in zip(axes, found.values(), strict=True):
            for name, look in looks.items():
                own = [dot for dot in dots if dot.dataset == name]
                axis.scatter(
                    [dot.x for dot in own],
                    [dot.y for dot in own],
                    s=7,
                    linewidths=0.2,
                    edgecolors="white",
                    **look,
                )
            axis.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
            axis.spines[:].set(visible=True, color="#c9c9c9")
        legend(
            figure,
            [key(name, linestyle="", markersize=4, **look) for name, look in looks.items()],
        )
        notes(
            figure,
            "t-SNE (perplexity 30, or a third of the images) of unit embeddings of the same test "
            "images, first order and seed; n: images",
            "each panel is a map of its own: axes have no unit and cannot be compared, distances "
            "between far groups mean nothing",
        )
        return figure


def _title(method: str) -> str:
    return "before any set" if method == ZERO_SHOT else f"{method}, after all sets"
