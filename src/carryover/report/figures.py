"""What all figures share: one style, panels at the width of a page, files equal byte for byte.

Sizes are in inches: a figure is 7 wide, two columns of a paper, or 3.3, one column, and no letter
is below 7 points at that width.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE, COLUMN = 7.0, 3.3
GREY = "#6b6b6b"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: Any = {
    "svg.hashsalt": "carryover",  # together with no date: the same bytes every time
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "figure.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.title_fontsize": 8.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.7,
}


def panels(
    count: int, columns: int, height: float, width: float = PAGE, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """`count` axes in rows of `columns`, each `height` inches tall; the rest of a row stays empty.

    Args:
        shared: as in ``Figure.subplots``: ``sharex``, ``sharey``. A shared horizontal axis has its
            numbers below the lowest panel of each column.
    """
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width, 0.9 + height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for axis in axes[count:]:
        axis.remove()
    for i, axis in enumerate(axes[:count]):
        axis.tick_params(labelbottom=i + columns >= count or "sharex" not in shared)
    return figure, axes[:count]


def save(figure: Figure, stem: Path) -> None:
    """Write ``stem.svg`` and ``stem.png``; no date or version inside."""
    with style():
        for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, dpi=150, metadata=metadata)
            write_bytes(stem.with_suffix(f".{suffix}"), buffer.getvalue())


def ramp(count: int, darkest: float = 0.0) -> list[str]:
    """Colours from dark to light, in grey too; the lightest yellow does not show on white."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    step = (0.9 - darkest) / max(count - 1, 1)
    return [to_hex(colormaps["viridis"](darkest + step * i)) for i in range(count)]


def fraction_axis(axis: Axes, fractions: Sequence[float]) -> None:
    """A logarithmic axis of per cent with a number and a dashed line at each fraction."""
    axis.set_xscale("log")
    axis.set_xticks(list(fractions), [f"{100 * fraction:.4g}" for fraction in fractions])
    axis.minorticks_off()
    for fraction in fractions:
        axis.axvline(fraction, color="#c9c9c9", linewidth=0.6, linestyle="--", zorder=0)


def side_by_side(fractions: Sequence[float], count: int) -> list[float]:
    """Factors that set `count` series beside each other on a logarithmic axis.

    Together they span at most half the way between the two nearest fractions.
    """
    near = min((b / a for a, b in itertools.pairwise(fractions)), default=4.0)
    span = min(near**0.5, 1.06 ** (count - 1))
    return [span ** (i / max(count - 1, 1) - 0.5) for i in range(count)]


def counts_note(images: Mapping[float, int], repeats: Mapping[float, int]) -> str:
    """Training images and repeats of every fraction, for below a figure."""
    parts = [f"{100 * f:.4g} %: {n} ({repeats[f]})" for f, n in images.items()]
    return "training images (repeats) at " + ", ".join(parts)


def below(*notes: str, width: float = PAGE) -> str:
    """Notes for below a figure, one paragraph each, broken to its width, but never in ``n = 5``."""
    whole = (
        re.sub(r"(?<=\d) (?=[%(])| (?==)|(?<==) ", "\N{NO-BREAK SPACE}", note) for note in notes
    )
    return "\n".join(textwrap.fill(note, int(16 * width)) for note in whole)


@contextlib.contextmanager
def style() -> Iterator[None]:
    """This module's style, for the length of a block."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield
