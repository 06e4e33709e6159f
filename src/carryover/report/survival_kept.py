"""The figure of what is kept: a line a kind of model, a mark a way to tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from carryover.measure.statistics import Interval
from carryover.report.blocks import key, legend, notes, nothing
from carryover.report.figures import PAGE, style
from carryover.report.survival_scores import (
    Kind,
    Scores,
    mean,
    models,
    origins,
    seeds_of,
    shown_seeds,
    single,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURES: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {  # metric, axes, look
    "answers untaught": ("kept", {"by": "own"}, {"marker": "o", "color": "#0072b2"}),
    "probe on source": ("kept", {"by": "probe"}, {"marker": "s", "color": "#009e73"}),
    "kNN on source": ("kept", {"by": "neighbours"}, {"marker": "^", "color": "#e69f00"}),
    "CKA with the start": ("cka", {"layer": "embedding"}, {"marker": "D", "color": "#cc79a7"}),
}
LEFT = ("adapt", "sequence", "retrieval")  # above each other in the first column
LINE = 0.15  # inches a line
APART = 0.17  # of a line, from one measure to the next
EDGES = (-0.25, 1.25)  # what lies beyond is drawn there

Line = tuple[str, Kind | None]  # a heading where there is no kind


def kept(scores: Scores) -> Figure:
    """What every kind of model kept of its start, from 0, nothing, to 1, all of it."""
    columns = [column for column in columns_of(scores) if column]
    if not columns:
        return nothing("no adapted models")
    from matplotlib.figure import Figure

    with style():
        longest = max(map(len, columns))
        figure = Figure(figsize=(PAGE, 1.5 + LINE * longest), layout="constrained")
        made = figure.subplots(1, len(columns), squeeze=False, sharex=True)
        beyond = False
        for axis, lines in zip(made.flat, columns, strict=True):
            beyond |= _column(axis, scores, lines, longest)
        looks = {"linestyle": "", "markersize": 4}
        legend(figure, [key(name, **look | looks) for name, (*_, look) in MEASURES.items()])
        notes(
            figure,
            "share kept: (adapted \N{MINUS SIGN} chance) / (start \N{MINUS SIGN} chance) of the "
            "accuracy on what the start was pretrained for; CKA as it is. 0: nothing is kept, 1: "
            "all; no mark where a start is not above chance by two standard errors and ten images, "
            "or a cut network has no classifier",
            f"means over {shown_seeds(scores)} seeds (in brackets); bars: 95 % interval "
            "over seeds on the same images"
            + (
                f"; what lies outside {EDGES[0]:g} to {EDGES[1]:g} is drawn at the edge"
                if beyond
                else ""
            ),
            single(scores),
        )
        return figure


def columns_of(scores: Scores) -> list[list[Line]]:
    """Lines of the figure's two columns: the small networks stand by themselves."""
    found: list[list[Line]] = [[], [], []]
    for origin in origins(scores):
        place = 0 if origin in LEFT else 2 if origin == "cuts" else 1
        found[place].append((origin, None))
        kinds = [kind for kind in models(scores) if kind.origin == origin]
        often = Counter(kind.name for kind in kinds)
        for kind in kinds:
            name = kind.name if often[kind.name] == 1 else f"{kind.name}, {kind.target}"
            seeds = seeds_of(scores, kind)
            found[place].append((f"{name} ({seeds})" if seeds else name, kind))
    return [[*found[0], *found[1]], found[2]]


def _column(axis: Axes, scores: Scores, lines: Sequence[Line], longest: int) -> bool:
    """Draw one column; whether something lies beyond its edges."""
    beyond = False
    for place, (_, kind) in enumerate(lines):
        if kind is None:
            continue
        for i, (metric, axes, look) in enumerate(MEASURES.values()):
            told = mean(scores, kind, metric, **axes)
            if told is not None:
                height = place + APART * (i - (len(MEASURES) - 1) / 2)
                beyond |= _mark(axis, told, height, look)
    axis.set_yticks(range(len(lines)), [name for name, _ in lines], fontsize=6.5)
    for tick, (_, kind) in zip(axis.get_yticklabels(), lines, strict=True):
        if kind is None:
            tick.set_fontweight("bold")
    axis.tick_params(axis="y", length=0)
    for place in range(0, len(lines), 2):
        axis.axhspan(place - 0.5, place + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
    axis.grid(axis="x")
    axis.grid(visible=False, axis="y")
    for edge in (0.0, 1.0):
        axis.axvline(edge, color="#6b6b6b", linewidth=0.8, zorder=1)
    axis.set_xlim(EDGES[0] - 0.05, EDGES[1] + 0.05)
    axis.set_ylim(longest - 0.5, -0.5)
    axis.set_xticks([0.0, 0.5, 1.0], ["0\nnothing kept", "0.5", "1\nall kept"])
    return beyond


def _mark(axis: Axes, told: Interval, height: float, look: dict[str, Any]) -> bool:
    low, high = EDGES
    value = min(max(told.value, low), high)
    ends = [min(max(end, low), high) for end in (told.low, told.high)]
    axis.plot(ends, [height, height], color=look["color"], linewidth=0.7, zorder=2)
    axis.plot([value], [height], markersize=3, markeredgewidth=0, zorder=3, **look)
    return value != told.value
