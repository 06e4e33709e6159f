"""Dot plots of the continual study: forgetting, and test accuracy beside training accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from carryover.measure.statistics import Interval
from carryover.report import continual_intervals, continual_published
from carryover.report.blocks import Block, key, legend, notes, nothing
from carryover.report.continual_grid import (
    CHANCE,
    HIGH,
    across,
    arm_looks,
    arm_names,
    blocks,
    by_arm,
    counted,
    heading,
    share_y,
)
from carryover.report.continual_scores import (
    STRATEGIES,
    Run,
    Scores,
    chance,
    numbers,
    places,
    runs,
)
from carryover.report.figures import GREY, per_cent, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AVALANCHES = "stream_forgetting"  # where all experiences are tested on one set
SHOWN: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {  # accuracies after the last experience
    ("train", "train_accuracy_replayed"): ("training: replayed images", {"marker": "s"}),
    ("train", "train_accuracy_current"): ("training: images of the experience", {"marker": "^"}),
    ("train", "train_accuracy"): ("training: all images shown", {"marker": "x"}),
    ("test", "accuracy"): ("test", {"marker": "o"}),
}
Dot = tuple[Interval, float, dict[str, Any]]  # with its place from above, and how it looks
PUBLISHED: Any = {"color": GREY, "markerfacecolor": "white", "markeredgewidth": 0.9}
COLOURS = {"s": "#e69f00", "^": "#009e73", "x": "#d55e00", "o": "#0072b2"}


def forgetting(scores: Scores) -> Figure:
    """Forgetting at the end of each stream by strategy, a mark an arm; a panel a protocol."""
    known = {run: told for run in runs(scores) if (told := _forgot(scores, run)) is not None}
    if not known:
        return nothing("no forgetting of any stream")
    groups = list(places(known).values())
    looks, arms = arm_looks(known), arm_names(known)
    strategies = [_strategies(found) for found in groups]
    with style():
        columns = across([len(groups)], 3)
        titles = [
            f"{heading(found[0])} ({counted(scores, found)}"
            + (")" if _tasks(scores, found[0]) else ", one test set)")
            for found in groups
        ]
        tall = [
            0.2 + len(names) * (0.14 + 0.075 * len(by_arm(found)))
            for found, names in zip(groups, strategies, strict=True)
        ]
        rows = [slice(i, i + columns) for i in range(0, len(groups), columns)]
        figure, made = blocks(
            [Block("", titles[row]) for row in rows], columns, [max(tall[row]) for row in rows]
        )
        panels = [axis for axes in made for axis in axes]
        for axis, found, names in zip(panels, groups, strategies, strict=True):
            looked = [name for name in looks if name in {arms[run] for run in found}]
            for run in found:
                place = names.index(run.strategy) + _shift(looked.index(arms[run]), len(looked))
                _dot(axis, known[run], place, **looks[arms[run]])
            _named(axis, names)
            axis.axvline(0, color="black", linewidth=0.7)
        legend(
            figure,
            [key(name, linestyle="", markersize=4, **look) for name, look in looks.items()],
        )
        over = continual_intervals.over(scores, known)
        alone = over.startswith("test images (")
        notes(
            figure,
            "forgetting at the end of the stream, points; above 0: what was learnt is lost",
            "mean over tasks before the last of the best accuracy since trained minus the last; "
            "one test set: Avalanche's, accuracy after the first experience minus the last",
            f"bars: 95 % interval over {over if alone else over.split('and ')[-1]}"
            + (", as if both ends were on other images" if alone else ", on the same test images"),
        )
        return figure


def _forgot(scores: Scores, run: Run) -> Interval | None:
    metric = "forgetting" if _tasks(scores, run) else AVALANCHES
    times = {at.experience for at in numbers(scores, run, "test", "accuracy")} - {-1}
    return continual_intervals.end(scores, run, metric) if len(times) > 1 else None


def _tasks(scores: Scores, run: Run) -> bool:
    """Whether a run was tested on two tasks or more."""
    return len({at.task for at in numbers(scores, run, "test", "task_accuracy")}) > 1


def final(scores: Scores, published: Scores | None = None) -> Figure:
    """Accuracy after the last experience: on test images, and on training images as counted.

    Args:
        published: drawn hollow where stream, protocol, arm and strategy are the same.
    """
    groups = places(runs(scores))
    if not groups:
        return nothing("no accuracies of any stream")
    with style():
        shown = [by_arm(found) for found in groups.values()]
        strategies = [_strategies(found) for found in groups.values()]
        columns = across(map(len, shown), 5)
        figure, made = blocks(
            [
                Block(f"{heading(found[0])} ({counted(scores, found)})", list(arms))
                for found, arms in zip(groups.values(), shown, strict=True)
            ],
            columns,
            [0.15 + 0.27 * len(names) for names in strategies],
        )
        theirs = guess = False
        for axes, arms, names in zip(made, shown, strategies, strict=True):
            share_y(axes, columns)
            dots = [_dots(scores, published, members, names) for members in arms.values()]
            for axis, members, found in zip(axes, arms.values(), dots, strict=True):
                for told, place, looks in found:
                    _dot(axis, told, place, **looks)
                least = _least(dots) if _is_high(found) else 0.0
                axis.set_xlim(1 - 1.02 * (1 - least), 1 + 0.05 * (1 - least))
                level = chance(scores, members[0])
                if least:
                    axis.set_xticks([least, (1 + least) / 2, 1])
                elif level is not None:
                    axis.axvline(level, **CHANCE)
                    guess = True
                theirs = theirs or any(PUBLISHED.items() <= looks.items() for *_, looks in found)
                _named(axis, names)
        keys = [
            key(name, linestyle="", markersize=4, color=COLOURS[look["marker"]], **look)
            for name, look in reversed(SHOWN.values())
        ]
        keys += [
            key("published, likewise", linestyle="", markersize=4, marker="o", **PUBLISHED)
        ] * (theirs)
        legend(figure, [*keys, *[key("chance", **CHANCE)] * guess])
        notes(
            figure,
            "accuracy after the last experience, %",
            "training: of the last epoch while it trained; all images shown is what a log of "
            "training accuracy says where stored images are replayed",
            f"bars: 95 % interval, of test over {continual_intervals.over(scores, runs(scores))}, "
            "of training accuracies over seeds" + ("; published: one run" if theirs else ""),
        )
        return figure


def _dots(
    scores: Scores, published: Scores | None, members: Sequence[Run], names: Sequence[str]
) -> list[Dot]:
    """The accuracies of a panel's runs and of the published ones, strategies from above."""
    found = []
    for run in members:
        place = names.index(run.strategy)
        found += _rows(scores, run, place, {})
        other = continual_published.beside(published, scores, run) if published else None
        if other and published:
            found += _rows(published, other, place, PUBLISHED)
    return found


def _rows(scores: Scores, run: Run, place: int, more: dict[str, Any]) -> list[Dot]:
    """The accuracies of one run in one line of a panel, below each other."""
    found = []
    for i, ((split, metric), (_, look)) in enumerate(SHOWN.items()):
        every = numbers(scores, run, split, metric)
        if not every:
            continue
        at = list(every)[-1]
        if continual_intervals.early(scores, run, at):
            continue
        told = continual_intervals.of(scores, run, split, metric, at)
        looks = {"color": COLOURS[look["marker"]]} | look | more
        if told:
            shift = 0.1 if more else 0.0
            found.append((told, place + shift - _shift(i, len(SHOWN)), looks))
    return found


def _is_high(found: Sequence[Dot]) -> bool:
    """Whether a panel shows no accuracy below `HIGH`."""
    return all(told.value >= HIGH for told, *_ in found)


def _least(panels: Sequence[Sequence[Dot]]) -> float:
    """Where the panels of a block that are high begin: a multiple of 0.1 below all they show."""
    least = min(told.low for found in panels if _is_high(found) for told, *_ in found)
    return math.floor(10 * least) / 10


def _strategies(found: Sequence[Run]) -> list[str]:
    names = {run.strategy for run in found}
    return [*(n for n in STRATEGIES if n in names), *sorted(names - set(STRATEGIES))]


def _shift(i: int, count: int) -> float:
    return 0.8 * ((i + 0.5) / count - 0.5)


def _dot(axis: Axes, told: Interval, place: float, **look: Any) -> None:
    axis.errorbar(
        [told.value],
        [place],
        xerr=[[told.value - told.low], [told.high - told.value]],
        linestyle="",
        elinewidth=0.8,
        **{"markersize": 3.5} | look,
    )


def _named(axis: Axes, names: Sequence[str]) -> None:
    """Strategies from above; lines between them."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(visible=False)
    axis.grid(visible=True, axis="x")
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_formatter(per_cent())
