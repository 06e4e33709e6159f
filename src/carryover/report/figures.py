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
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

PAGE, COLUMN = 7.0, 3.3
DPI = 150
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
GREY = "#6b6b6b"
MARKERS = ("o", "s", "^", "D", "v", "<", ">", "*")
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
    """Write ``stem.svg`` and ``stem.png``, small; no date or version inside."""
    made: dict[str, bytes] = {}
    with style():
        for suffix, metadata in (
            ("svg", dict.fromkeys(("Date", "Creator", "Format", "Type"))),
            ("png", {"Software": None}),
        ):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, dpi=DPI, metadata=metadata)
            made[suffix] = buffer.getvalue()
    write_bytes(stem.with_suffix(".svg"), small_svg(made["svg"].decode()).encode())
    write_bytes(stem.with_suffix(".png"), _small_png(made["png"]))


def small_svg(svg: str) -> str:
    """The same picture in fewer bytes: short names, two decimals, no groups that do nothing."""
    ET.register_namespace("", SVG[1:-1])
    ET.register_namespace("xlink", XLINK[1:-1])
    used = dict.fromkeys(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    root = ET.fromstring(svg)
    _tidy(root, {name: f"i{i}" for i, name in enumerate(used)})
    return ET.tostring(root, encoding="unicode")


def _tidy(element: ET.Element, names: Mapping[str, str]) -> None:
    """Shorten an element and everything in it; `names` are those that something refers to."""
    for key, text in element.attrib.items():
        value = re.sub(r"(?<=url\(#)[^)]+|(?<=^#).+", lambda m: names.get(m[0], m[0]), text)
        element.set(key, value)
        if key in ("d", "x", "y"):
            element.set(key, _path(value))
        elif key == "transform":
            element.set(key, re.sub(r"translate\([^)]*\)", lambda found: _path(found[0]), value))
        elif key == "style":
            element.set(key, value.replace(": ", ":").replace("; ", ";"))
    if "id" in element.attrib:
        name = names.get(element.attrib.pop("id"))
        element.attrib |= {"id": name} if name else {}
    moved = re.fullmatch(r"translate\(([^ )]+) ([^ )]+)\)", element.get("transform", ""))
    if element.tag == SVG + "use" and moved and "x" not in element.attrib:
        del element.attrib["transform"]  # one place instead of a transform
        element.attrib |= {"x": moved[1]} | ({"y": moved[2]} if moved[2] != "0" else {})
    children = list(element)
    for child in children:
        _tidy(child, names)
        element.remove(child)
    looks = {(child.tag, child.get("style")) for child in children}
    same = looks.pop() if len(looks) == 1 < len(children) else ("", None)
    if (
        element.tag == SVG + "g"
        and same[0] == SVG + "use"
        and same[1]
        and "style" not in element.attrib
    ):
        element.set("style", same[1])  # children inherit it
        for child in children:
            del child.attrib["style"]
    for child in children:
        element.extend(child if child.tag == SVG + "g" and not child.attrib else [child])
    if element.tag != SVG + "style":
        element.text = None
    element.tail = "\n"


def _path(text: str) -> str:
    """Numbers with two decimals at most, a repeated command once."""
    text = re.sub(
        r"-?\d+\.\d+", lambda m: f"{round(float(m[0]), 2) + 0.0:.2f}".rstrip("0").rstrip("."), text
    )
    if not re.match("[Mm] ", text):
        return text
    parts: list[str] = []
    before = ""
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", text):
        again = command == before and command in "LQC"
        parts.append((" " if again else command) + " ".join(numbers.split()))
        before = command
    return "".join(parts)


def _small_png(png: bytes) -> bytes:
    """The same picture with 256 colours, which is enough for flat colours and their edges."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(
        256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
    ).save(buffer, "png", optimize=True, dpi=(DPI, DPI))
    return buffer.getvalue()


def per_cent() -> Formatter:
    """Writes the numbers of an axis that is in 0..1 in per cent, as the tables do."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(
        lambda x, _: f"{round(100 * x, 6) + 0.0:.6g}".replace("-", "\N{MINUS SIGN}")
    )


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


def nothing(why: str) -> Figure:
    """A figure that says why there is none."""
    with style():
        figure, (axis,) = panels(1, 1, 0.3, width=COLUMN)
        axis.axis("off")
        axis.text(0.5, 0.5, why, ha="center", va="center")
        return figure


def box_plot(axis: Axes, columns: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Boxes of columns at 0, 1, ..., a little to the left to leave room for dots; their parts."""
    return axis.boxplot(
        columns,
        positions=[place - 0.12 for place in range(len(columns))],
        widths=0.5,
        patch_artist=True,
        showfliers=False,
        medianprops={"color": "black", "linewidth": 1.3},
        whiskerprops={"linewidth": 0.7},
        capprops={"linewidth": 0.7},
    )
