"""The figure of lines between starts and adapted models: source against target accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from carryover.report.blocks import Block, blocks, notes, nothing
from carryover.report.figures import per_cent, ramp, style
from carryover.report.survival_scores import Kind, Scores, found, models, origins, shown_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#6b6b6b")
SHAPES = ("o", "s", "^", "D", "v", "<", ">", "P")
MOST = 8  # lines that one panel tells apart
CROWD = 6  # lines with names from which on their legend has room of its own below them
LINE = 0.055  # of a panel's height that a name takes
LEAST_SPAN = 0.15  # of an axis of accuracies

Curve = tuple[list[float], list[float]]  # accuracies on source and on target, by mix


def mixing(scores: Scores) -> Figure:
    """Accuracy on source and on target along the line from start to adapted model."""
    drawn = {title: curves for title, curves in panels_of(scores).items() if curves}
    if not drawn:
        return nothing("no models on a line from their start")
    with style():
        figure, (axes,) = blocks([Block("", list(drawn))], min(3, len(drawn)), [2.3])
        for axis, curves in zip(axes, drawn.values(), strict=True):
            _panel(axis, curves)
        figure.supylabel("accuracy on what was adapted to (probe), %")
        notes(
            figure,
            "accuracy on what the start was pretrained for, %: answered untaught, of encoders "
            "without text or classifier by nearest neighbours",
            "from the start (star) to the adapted model (large mark) by equal steps of the share "
            "of its weights; each point has a probe of its own. Means over "
            f"{shown_seeds(scores)} seeds on the same images, shown without intervals, "
            "which the table has for both ends",
        )
        return figure


def panels_of(scores: Scores) -> dict[str, dict[str, Curve]]:
    """Curves by panel: one a study; of small networks and where there are many one a way.

    Where there are still too many to tell apart, one a way and target.
    """
    made: dict[str, dict[str, Curve]] = {}
    for origin in origins(scores):
        kinds = [kind for kind in models(scores) if kind.origin == origin]
        curves = {kind: curve for kind in kinds if (curve := curve_of(scores, kind))}
        apart = origin == "cuts" or len(curves) > MOST
        by_way = Counter(kind.way for kind in curves)
        for kind, curve in curves.items():
            title = f"{origin}: {kind.way}" if apart else origin
            if apart and by_way[kind.way] > MOST:
                title += f", {kind.target}"
            made.setdefault(title, {})[kind.method] = curve
    return made


def curve_of(scores: Scores, kind: Kind) -> Curve | None:
    """Means over seeds by mix; None where the model is its start, or one end is missing."""
    by_role = [_by_mix(scores, kind, role) for role in ("source", "target")]
    mixes = sorted(set(by_role[0]) & set(by_role[1]))
    curve = ([by_role[0][mix] for mix in mixes], [by_role[1][mix] for mix in mixes])
    moves = any(len(set(values)) > 1 for values in curve)
    return curve if len(mixes) > 1 and moves else None


def _by_mix(scores: Scores, kind: Kind, role: str) -> dict[float, float]:
    """A mix's accuracy; several sets are one number already."""
    made: dict[float, list[float]] = {}
    for at, seeds in found(scores, kind, "mixed_accuracy", role=role).items():
        mix = float(dict(at)["mix"])
        made.setdefault(mix, []).extend(number.value for number in seeds.values())
    return {mix: fmean(values) for mix, values in made.items()}


def _panel(axis: Axes, curves: Mapping[str, Curve]) -> None:
    numbered = all(name.startswith("cut ") for name in curves)
    looks = _looks(list(curves), numbered)
    for name, (source, target) in curves.items():
        look = looks[name]
        label = name.removeprefix("cut ") if numbered else name
        axis.plot(source, target, linewidth=0.8, markersize=2, markeredgewidth=0, **look)
        axis.plot(source[-1:], target[-1:], markersize=5, markeredgewidth=0, label=label, **look)
        axis.plot(source[:1], target[:1], marker="*", markersize=6, color="black", zorder=4)
    for drawn in (axis.xaxis, axis.yaxis):
        drawn.set_major_formatter(per_cent())
    axis.set_xlim(*_wide(axis.get_xlim()))
    axis.set_ylim(*_wide(axis.get_ylim()))
    crowded = not numbered and len(curves) > CROWD
    if crowded:
        low, high = axis.get_ylim()
        axis.set_ylim(high - (high - low) / (1 - LINE * len(curves)), high)
    axis.legend(
        fontsize=6 if max(map(len, curves)) < 16 else 5,
        title="cut" if numbered else None,
        title_fontsize=6,
        labelspacing=0.25,
        handletextpad=0.2,
        borderpad=0.1,
        loc="lower right" if crowded else "best",
        ncols=2 if numbered else 1,
    )


def _wide(limits: tuple[float, float]) -> tuple[float, float]:
    """Limits of an axis, so far apart that a few images more or less are seen to be few."""
    low, high = limits
    more = max(0.0, LEAST_SPAN - (high - low)) / 2
    over = max(0.0, high + more - max(high, 1.0))
    return low - more - over, high + more - over


def _looks(names: Sequence[str], numbered: bool) -> dict[str, dict[str, Any]]:
    if numbered:
        colours = ramp(len(names))
        return {n: {"color": c, "marker": "o"} for n, c in zip(names, colours, strict=True)}
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": SHAPES[i % len(SHAPES)]}
        for i, name in enumerate(names)
    }
