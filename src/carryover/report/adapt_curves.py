"""What figures over partitions share: a line a method with its intervals, legends, counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from carryover.measure.statistics import Interval
from carryover.report.adapt_scores import PROBE, AdaptScores, family, title
from carryover.report.figures import GREY, MARKERS, ramp

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cell = Callable[[str, float], Interval]

SPREAD = 0.5  # of the way to the next partition, that lines are set side by side over
DASHED: Any = {"color": "black", "linestyle": "--", "linewidth": 0.9}  # zero-shot, before adapting
REFERENCE: Any = {"color": GREY, "marker": "x", "linestyle": ":"}  # the probe beside other families
LOOKS: dict[str, dict[str, Any]] = {
    PROBE: {"color": "#0072b2", "marker": "o"},
    "probe-logistic": {"color": "#d55e00", "marker": "s"},
    "unfreeze-norm": {"color": "#0072b2", "marker": "o"},
    "unfreeze-attention": {"color": "#d55e00", "marker": "s"},
    "unfreeze-mlp": {"color": "#009e73", "marker": "^"},
    "unfreeze-embedding": {"color": "#cc79a7", "marker": "D"},
    "unfreeze-all": {"color": "black", "marker": "v"},
    "llrd": {"color": "#e69f00", "marker": "<"},
    "llrd-blocks": {"color": "#e69f00", "marker": ">"},
}
REST: Any = {"color": "#56b4e9", "marker": ">"}


def curves(
    axis: Axes, scores: AdaptScores, members: Sequence[str], cell: Cell, spread: float = SPREAD
) -> None:
    """One line a method with its intervals, side by side."""
    looks = _looks(members)
    for i, (method, look) in enumerate(looks.items()):
        points = [cell(method, partition) for partition in scores.images]
        shift = spread * ((i + 0.5) / len(looks) - 0.5)
        bars(axis, [place + shift for place in range(len(points))], points, title(method), look)
    ticks(axis, list(scores.images))


def bars(
    axis: Axes, places: Sequence[float], points: Sequence[Interval], label: str, look: Any
) -> None:
    """A line of points with their intervals."""
    axis.errorbar(
        places,
        [p.value for p in points],
        yerr=[[p.value - p.low for p in points], [p.high - p.value for p in points]],
        linewidth=0.9,
        elinewidth=0.8,
        label=label,
        **{"markersize": 3.5, "markeredgewidth": 0} | look,
    )


def _looks(members: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each method: depths from dark to light, the probe grey as a guest."""
    deep = [method for method in members if family(method) == "unfrozen by depth"]
    looks = {
        method: {"color": colour, "marker": MARKERS[i % len(MARKERS)]}
        for i, (method, colour) in enumerate(zip(deep, ramp(len(deep)), strict=True))
    }
    if any(family(method) != "encoder frozen" for method in members):
        looks[PROBE] = REFERENCE | {"markeredgewidth": 0.9}
    return {method: looks.get(method, LOOKS.get(method, REST)) for method in members}


def ticks(axis: Axes, partitions: Sequence[float]) -> None:
    """Partitions at equal distances: on a scale of their own those above 50 % would be one blot."""
    axis.set_xticks(range(len(partitions)), [f"{100 * p:.4g}" for p in partitions])
    axis.set_xlim(-0.6, len(partitions) - 0.4)


def above(axis: Axes, name: str, columns: int = 3) -> None:
    """The panel's legend above it, below its name."""
    axis.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        title=name,
        borderaxespad=0.2,
        columnspacing=1.0,
        handlelength=1.8,
    )


def dashed(axis: Axes, found: Interval, label: str) -> None:
    axis.axhline(found.value, label=label, **DASHED)
    axis.axhspan(found.low, found.high, color="black", alpha=0.08, linewidth=0)


def counted(scores: AdaptScores) -> str:
    """Seeds, and training images of each partition; a line never breaks within one."""
    seeds = f"{len(scores.seeds)} seeds" if len(scores.seeds) > 1 else "1 seed"
    space = "\N{NO-BREAK SPACE}"
    counts = ", ".join(f"{100 * p:.4g} %:{space}{n}" for p, n in scores.images.items())
    return f"{seeds}; training images at {counts}"


def over(scores: AdaptScores) -> str:
    """What an interval of an accuracy is over."""
    return "test images and seeds" if len(scores.seeds) > 1 else "test images (1 seed)"
