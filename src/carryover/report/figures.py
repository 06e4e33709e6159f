"""Figures: pure functions of summarised rows, drawn the same byte for byte.

Every figure shows its intervals and its n; colours are ordered as the quantity they stand for.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from carryover.files import write_bytes
from carryover.measure.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#6b6b6b"
STYLE: Any = {
    "svg.hashsalt": "carryover",  # together with no date: the same bytes every time
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
}

Boxes = Mapping[str, Mapping[float, Mapping[int, Sequence[float]]]]  # setting, fraction, cut
Gains = Mapping[str, Mapping[float, Mapping[int, Interval]]]  # setting, fraction, cut


def save(figure: Figure, stem: Path) -> None:
    """Write ``stem.svg`` and ``stem.png``; no date or version inside."""
    with _style() as pyplot:
        for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, dpi=150, metadata=metadata)
            write_bytes(stem.with_suffix(f".{suffix}"), buffer.getvalue())
        pyplot.close(figure)


def accuracy_boxes(
    scores: Boxes,
    baseline: Mapping[float, Sequence[float]],
    images: Mapping[float, int],
    n: int,
    tested: str,
) -> Figure:
    """Test accuracy by cut: one column a setting, one row a fraction, a box over repeats.

    Args:
        scores: accuracies of the repeats; settings in the order of the columns.
        baseline: accuracies from scratch.
        images: training images at each fraction.
        n: test images.
        tested: what was measured, for the label.
    """
    with _style() as pyplot:
        figure, axes = pyplot.subplots(
            len(baseline),
            len(scores),
            squeeze=False,
            sharey="row",
            sharex=True,
            figsize=(1.3 + 2.2 * len(scores), 0.8 + 1.75 * len(baseline)),
        )
        for column, (setting, by_fraction) in enumerate(scores.items()):
            axes[0][column].set_title(TITLES[setting])
            for row, fraction in enumerate(baseline):
                axis = axes[row][column]
                _boxes(axis, baseline[fraction], by_fraction[fraction])
                if column == 0:
                    axis.set_ylabel(
                        f"{images[fraction]} images ({100 * fraction:.4g} %)\n"
                        f"{len(baseline[fraction])} repeats"
                    )
        figure.supxlabel(
            "cut: first convolutions kept (FR, R, FT) or frozen (F, FR, FT); "
            "scr and the dotted line (median): from scratch"
        )
        figure.supylabel(f"{tested} (n = {n})")
        return figure


def _boxes(axis: Axes, baseline: Sequence[float], cuts: Mapping[int, Sequence[float]]) -> None:
    values = [baseline, *cuts.values()]
    places = range(len(values))
    drawn = axis.boxplot(
        values,
        positions=list(places),
        widths=0.65,
        patch_artist=True,
        showfliers=False,
        medianprops={"color": "black", "linewidth": 1.2},
        whiskerprops={"linewidth": 0.8},
        capprops={"linewidth": 0.8},
    )
    for patch, colour in zip(drawn["boxes"], ["#d0d0d0", *_ramp(len(cuts))], strict=True):
        patch.set(facecolor=colour, alpha=0.75, linewidth=0.7)
    for place, points in zip(places, values, strict=True):
        axis.plot([place] * len(points), points, ".", color="black", markersize=2.2, alpha=0.6)
    axis.axhline(median(baseline), color=GREY, linewidth=0.8, linestyle=":")
    axis.set_xticks(list(places), ["scr", *map(str, cuts)])


def gain_lines(
    gains: Gains, images: Mapping[float, int], repeats: Mapping[float, int], tested: str
) -> Figure:
    """Mean accuracy minus the baseline's against the fraction, one line a cut, with intervals."""
    with _style() as pyplot:
        columns = min(2, len(gains))
        rows = -(-len(gains) // columns)
        figure, axes = pyplot.subplots(
            rows,
            columns,
            squeeze=False,
            sharey=True,
            sharex=True,
            figsize=(1.2 + 3.6 * columns, 0.9 + 2.5 * rows),
        )
        ticks = [
            f"{100 * fraction:.4g} %\n{n} images\n{repeats[fraction]} repeats"
            for fraction, n in images.items()
        ]
        for i, (setting, by_fraction) in enumerate(gains.items()):
            axis = axes.flat[i]
            _lines(axis, by_fraction)
            axis.set_title(TITLES[setting])
            axis.set_xticks(list(images), ticks)
            axis.tick_params(labelbottom=i + columns >= len(gains))
        for axis in list(axes.flat)[len(gains) :]:
            axis.remove()
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", title="cut", frameon=False)
        figure.supxlabel("share of the target training images")
        figure.supylabel(
            f"{tested} minus training from scratch\n(mean, 95 % interval, not adjusted)"
        )
        return figure


def _lines(axis: Axes, by_fraction: Mapping[float, Mapping[int, Interval]]) -> None:
    cuts = list(next(iter(by_fraction.values())))
    colours: list[Any] = _ramp(len(cuts))
    if all(len(set(by_cut.values())) == 1 for by_cut in by_fraction.values()):
        cuts, colours = cuts[:1], [GREY]  # the same at every cut: one line says it
    for i, (cut, colour) in enumerate(zip(cuts, colours, strict=True)):
        points = [by_fraction[fraction][cut] for fraction in by_fraction]
        shift = 1 + 0.05 * (i - (len(cuts) - 1) / 2)  # side by side, so that bars do not overlap
        axis.errorbar(
            [fraction * shift for fraction in by_fraction],
            [p.value for p in points],
            yerr=[[p.value - p.low for p in points], [p.high - p.value for p in points]],
            color=colour,
            marker="o",
            markersize=3,
            linewidth=1.1,
            elinewidth=0.8,
            label=str(cut),
        )
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.minorticks_off()


def _ramp(count: int) -> list[tuple[float, ...]]:
    """Colours from dark to light; the lightest yellow is left out, it does not show on white."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * i / max(count - 1, 1)) for i in range(count)]


@contextlib.contextmanager
def _style() -> Iterator[Any]:
    """pyplot without a window and with this module's style, for the length of a block."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(STYLE):
        yield pyplot


TITLES = {
    "fr": "FR: keep frozen, reset the rest",
    "f": "F: keep frozen, tune the rest",
    "r": "R: keep, reset the rest, tune all",
    "none": "none: keep and tune all",
    "ft": "FT: keep frozen, remove the rest",
}
