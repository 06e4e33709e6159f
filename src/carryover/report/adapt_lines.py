"""Figures of the adaptation study over partitions: accuracy, calibration, what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from carryover.measure.statistics import Interval
from carryover.report import adapt_intervals
from carryover.report.adapt_curves import (
    DASHED,
    LOOKS,
    above,
    bars,
    counted,
    curves,
    dashed,
    over,
)
from carryover.report.adapt_published import CLIP, Published
from carryover.report.adapt_scores import (
    FAULTS,
    PROBE,
    AdaptScores,
    family,
    methods,
    title,
    tuned,
)
from carryover.report.figures import GREY, below, nothing, panels, per_cent, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


BY_KIND = ("unfrozen by kind", "embedding or everything")  # beside each other in retention


def accuracy(scores: AdaptScores, published: Published | None = None) -> Figure:
    """Test accuracy by partition, a panel a family of methods, zero-shot as a dashed line.

    Args:
        published: drawn beside ours; only where it is of the same data set.
    """
    line = adapt_intervals.zero_shot(scores) if "accuracy" in scores.zero_shot else None

    def cell(method: str, partition: float) -> Interval:
        return adapt_intervals.accuracy(scores, method, partition)

    with style():
        figure, panes = _panes(scores)
        for i, (axis, name, members) in enumerate(panes):
            curves(axis, scores, members, cell)
            if line:
                dashed(axis, line, "" if i else "zero-shot")
            if published:
                _published(axis, scores, [m for m in members if family(m) == name], published)
            axis.yaxis.set_major_formatter(per_cent())
            above(axis, name, 2 if published else 3)
        _below(
            figure,
            scores,
            f"bars: 95 % interval over {over(scores)}"
            + (f"; band: the same over {scores.n} test images alone" if line else "")
            + (
                "; published: one run each, bars over images and what flooring hides"
                if published
                else ""
            ),
        )
        figure.supylabel(f"test accuracy, % (n = {scores.n})")
        figure.suptitle(f"{scores.encoder} adapted to {scores.dataset}", fontsize=9)
        return figure


def calibration(scores: AdaptScores) -> Figure:
    """Expected calibration error by partition, a panel a family of methods."""

    def cell(method: str, partition: float) -> Interval:
        return adapt_intervals.calibration(scores, method, partition)

    with style():
        figure, panes = _panes(scores)
        for i, (axis, name, members) in enumerate(panes):
            curves(axis, scores, members, cell)
            if "ece" in scores.zero_shot:
                axis.axhline(scores.zero_shot["ece"], label="" if i else "zero-shot", **DASHED)
            axis.yaxis.set_major_formatter(per_cent())
            above(axis, name)
        panes[0][0].set_ylim(bottom=0)
        _below(
            figure,
            scores,
            "0: of the answers given with 80 % confidence, 80 % are right",
            "bars: 95 % Student t interval over seeds, none below 0; zero-shot has none"
            if len(scores.seeds) > 1
            else "no intervals with one seed",
        )
        figure.supylabel(f"expected calibration error, % (n = {scores.n})")
        figure.suptitle(f"{scores.encoder} adapted to {scores.dataset}", fontsize=9)
        return figure


def retention(scores: AdaptScores) -> Figure:
    """Zero-shot accuracy after adapting: above the set itself, below the mean of the others."""
    if not scores.kept:
        return nothing("no zero-shot accuracies before and after adapting")
    columns: dict[str, list[str]] = {}  # two, so that one is as wide as in the other figures
    sides: tuple[list[str], list[str]] = ([], [])
    for method in tuned(scores):
        sides[family(method) not in BY_KIND].append(method)
    for members in sides:
        if members:
            columns["; ".join(dict.fromkeys(map(family, members)))] = members
    groups = adapt_intervals.groups(scores)
    with style():
        figure, axes = panels(
            len(groups) * len(columns), len(columns), 2.2, sharex=True, sharey="row"
        )
        places = [(sets, members) for sets in groups.values() for members in columns.values()]
        for i, (axis, (sets, members)) in enumerate(zip(axes, places, strict=True)):

            def cell(method: str, partition: float, sets: list[str] = sets) -> Interval:
                return adapt_intervals.kept(scores, method, partition, sets)[0]

            curves(axis, scores, members, cell)
            dashed(axis, adapt_intervals.before(scores, sets), "" if i else "before adapting")
            axis.yaxis.set_major_formatter(per_cent())
            if i % len(columns) == 0:
                own = sets == [scores.dataset]
                axis.set_ylabel(f"{sets[0]} itself" if own else f"mean of {len(sets)} other sets")
        for axis, name in zip(axes, columns, strict=False):
            above(axis, name)
        counts = ", ".join(f"{name} (n = {n})" for name, n in scores.sets.items())
        _below(
            figure,
            scores,
            f"bars: 95 % interval over {over(scores)}; band: the same over test images alone",
            f"sets: {counts}",
        )
        figure.supylabel("zero-shot accuracy with the text head, %")
        figure.suptitle(f"{scores.encoder} adapted to {scores.dataset}", fontsize=9)
        return figure


def _panes(scores: AdaptScores) -> tuple[Figure, list[tuple[Axes, str, list[str]]]]:
    """A panel a family with its methods; the probe and the norms stand beside others too."""
    shown = [method for method in methods(scores) if method not in FAULTS]
    groups: dict[str, list[str]] = {}
    for method in shown:
        groups.setdefault(family(method), []).append(method)
    for name, members in groups.items():
        if name == "norms, falling rates" and "unfreeze-norm" in shown:
            members.insert(0, "unfreeze-norm")
        if PROBE in shown and PROBE not in members:
            members.insert(0, PROBE)
    figure, axes = panels(len(groups), 2, 2.3, sharex=True, sharey=True)
    return figure, list(zip(axes, groups, groups.values(), strict=True))


def _published(
    axis: Axes, scores: AdaptScores, members: Sequence[str], published: Published
) -> None:
    """What was published of these methods, at our partitions."""
    for method in members:
        curve = published.curves.get((CLIP, method), {})
        places = [i for i, partition in enumerate(scores.images) if partition in curve]
        if places:
            points = [curve[partition] for partition in scores.images if partition in curve]
            hollow = {"markerfacecolor": "white", "markeredgewidth": 0.9, "linestyle": "-."}
            bars(axis, places, points, f"published: {title(method)}", LOOKS[method] | hollow)
        if method == PROBE:
            look = DASHED | {"color": GREY, "linestyle": ":"}
            axis.axhline(published.zero_shot.value, label="published: zero-shot", **look)


def _below(figure: Figure, scores: AdaptScores, *notes: str) -> None:
    """The axis' name and notes; lines are always set side by side."""
    figure.supxlabel(
        below(
            "share of the training images (%), at equal distances",
            *notes,
            f"{counted(scores)}; lines are set side by side",
        )
    )
