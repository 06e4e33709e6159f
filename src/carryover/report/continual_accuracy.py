"""Figure of the continual study: test accuracy after each experience."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from carryover.measure.statistics import Interval
from carryover.report import continual_intervals, continual_published
from carryover.report.blocks import Block, key, legend, notes, nothing
from carryover.report.continual_grid import (
    CHANCE,
    HIGH,
    HOLLOW,
    across,
    blocks,
    by_arm,
    counted,
    heading,
    look,
    share_y,
    strategy_keys,
)
from carryover.report.continual_scores import Run, Scores, chance, numbers, places, runs
from carryover.report.figures import per_cent, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = tuple[dict[int, Interval], dict[str, Any]]  # by experience, and how it looks

MOST = 5  # panels in a row
POINTS: Any = {"markersize": 3.2, "markeredgewidth": 0}
SPREAD = 0.55  # of the way to the next experience, that strategies are set side by side over


def accuracy(scores: Scores, published: Scores | None = None) -> Figure:
    """Accuracy on all test images of the stream by experience; a panel an arm, a line a strategy.

    Args:
        published: drawn hollow where stream, protocol and arm are the same.
    """
    groups = places(runs(scores))
    if not groups:
        return nothing("no test accuracies of any stream")
    with style():
        shown = [by_arm(found) for found in groups.values()]
        columns = across(map(len, shown), MOST)
        figure, made = blocks(
            [
                Block(f"{heading(found[0])} ({counted(scores, found)})", list(arms))
                for found, arms in zip(groups.values(), shown, strict=True)
            ],
            columns,
            1.15,
        )
        guess = theirs = False
        for axes, arms in zip(made, shown, strict=True):
            beside = [
                continual_published.of_arm(published, scores, members[0]) if published else []
                for members in arms.values()
            ]
            lines = [
                _lines(scores, members, published, other)
                for members, other in zip(arms.values(), beside, strict=True)
            ]
            high = [_is_high(each) for each in lines]
            share_y(axes, columns, high)
            for axis, members, each, apart in zip(axes, arms.values(), lines, high, strict=True):
                _panel(axis, each)
                level = chance(scores, members[0])
                if level is not None and not apart:
                    axis.axhline(level, **CHANCE)
                    guess = True
            for axis, apart in zip(axes, high, strict=True):
                if not apart:
                    axis.set_ylim(bottom=0)
            theirs = theirs or any(beside)
        keys = strategy_keys(run for arms in shown for members in arms.values() for run in members)
        keys += [key("published (one run)", color="black", marker="o", markersize=4, **HOLLOW)] * (
            theirs
        )
        legend(figure, [*keys, *[key("chance", **CHANCE)] * guess])
        figure.supylabel("test accuracy, %")
        notes(
            figure,
            "experience trained last, from 0",
            "test images: of the whole stream; joint and cumulative train on all images so far",
            f"bars: 95 % interval over {continual_intervals.over(scores, runs(scores))}"
            + ("; published: over images alone" if theirs else "")
            + "; strategies are set side by side",
        )
        return figure


def _lines(
    scores: Scores, members: Sequence[Run], published: Scores | None, other: Sequence[Run]
) -> list[Line]:
    """One line a strategy, the published ones beside them."""
    found = [(_curve(scores, run), look(run.strategy)) for run in members]
    if published:
        found += [(_curve(published, run), look(run.strategy) | HOLLOW) for run in other]
    return found


def _is_high(lines: Sequence[Line]) -> bool:
    """Whether a panel shows no accuracy below `HIGH`."""
    return all(told.value >= HIGH for curve, _ in lines for told in curve.values())


def _panel(axis: Axes, lines: Sequence[Line]) -> None:
    for i, (curve, looks) in enumerate(lines):
        shift = SPREAD * ((i + 0.5) / len(lines) - 0.5)
        points = list(curve.values())
        axis.errorbar(
            [time + shift for time in curve],
            [p.value for p in points],
            yerr=[[p.value - p.low for p in points], [p.high - p.value for p in points]],
            linewidth=0.8,
            elinewidth=0.7,
            **POINTS | looks,
        )
    times = sorted({time for curve, _ in lines for time in curve})
    axis.set_xticks(times)
    if times:
        axis.set_xlim(times[0] - 0.5, times[-1] + 0.5)
    axis.yaxis.set_major_formatter(per_cent())


def _curve(scores: Scores, run: Run) -> dict[int, Interval]:
    """Accuracy by experience, from the first that was trained."""
    found = {}
    for at in numbers(scores, run, "test", "accuracy"):
        told = continual_intervals.of(scores, run, "test", "accuracy", at)
        if told and at.experience is not None and at.experience >= 0:
            found[at.experience] = told
    return found
