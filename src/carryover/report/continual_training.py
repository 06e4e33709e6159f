"""Figures of the continual study: loss and accuracy on the images shown, by epoch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from carryover.report.blocks import Block, key, legend, notes, nothing
from carryover.report.continual_grid import (
    across,
    blocks,
    by_arm,
    heading,
    look,
    share_y,
    strategy_keys,
    whole_numbers,
)
from carryover.report.continual_scores import Run, Scores, floor, numbers, places, runs, seeds
from carryover.report.figures import GREY, per_cent, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 5
FLOOR: Any = {"color": GREY, "linestyle": "-.", "linewidth": 0.9}
FEW = 4  # lines of a panel
MEASURED = {"epoch_loss": "loss", "epoch_accuracy": "accuracy, %"}
Curve = dict[float, tuple[float, float, float]]  # by epochs since the start: mean, least, most


def training(scores: Scores, metric: str, sigmoid: Collection[str] = ()) -> Figure:
    """Loss or accuracy of every epoch as logged; a panel an arm, a line a strategy.

    Args:
        metric: ``epoch_loss`` or ``epoch_accuracy``.
        sigmoid: heads that end in a sigmoid, which the loss cannot fall below a floor with.
    """
    known = [run for run in runs(scores) if numbers(scores, run, "train", metric)]
    if not known:
        return nothing(f"no {MEASURED[metric].split(',')[0]} by epoch")
    with style():
        groups = places(known).values()
        shown = [_parts(by_arm(found)) for found in groups]
        columns = across(map(len, shown), MOST)
        figure, made = blocks(
            [
                Block(heading(found[0]), list(arms))
                for found, arms in zip(groups, shown, strict=True)
            ],
            columns,
            0.95,
        )
        bounded = False
        for axes, arms in zip(made, shown, strict=True):
            share_y(axes, columns)
            for axis, members in zip(axes, arms.values(), strict=True):
                _panel(axis, scores, members, metric)
                least = floor(members[0]) if members[0].head in sigmoid else None
                if metric == "epoch_loss" and least is not None:
                    axis.axhline(least, **FLOOR)
                    bounded = True
                if metric == "epoch_accuracy":
                    axis.yaxis.set_major_formatter(per_cent())
        keys = strategy_keys(known)
        keys += [key("least loss after a sigmoid", **FLOOR)] * bounded
        legend(figure, keys)
        figure.supylabel(MEASURED[metric])
        several = max(len(seeds(scores, run)) for run in known) > 1
        notes(
            figure,
            "epochs since the start; vertical lines: the next experience begins",
            "means over an epoch's images while it trained, replayed ones included; "
            + ("bands: from the lowest to the highest seed" if several else "1 seed"),
        )
        return figure


def _parts(arms: Mapping[str, Sequence[Run]]) -> dict[str, list[Run]]:
    """Arms of few lines each: one of many strategies has several panels, its first in each."""
    made = {}
    for name, (first, *others) in arms.items():
        parts = [others[i : i + FEW - 1] for i in range(0, len(others), FEW - 1)] or [[]]
        for i, part in enumerate(parts, 1):
            made[f"{name} ({i} of {len(parts)})" if len(parts) > 1 else name] = [first, *part]
    return made


def _panel(axis: Axes, scores: Scores, members: Sequence[Run], metric: str) -> None:
    starts: set[float] = set()
    for run in members:
        curve, begun = _curve(scores, run, metric)
        starts |= begun
        times = list(curve)
        looks = look(run.strategy) | {"markersize": 2.4, "markeredgewidth": 0}
        axis.plot(times, [mean for mean, _, _ in curve.values()], linewidth=0.8, **looks)
        if any(low < high for _, low, high in curve.values()):
            axis.fill_between(
                times,
                [low for _, low, _ in curve.values()],
                [high for _, _, high in curve.values()],
                color=looks["color"],
                alpha=0.12,
                linewidth=0,
            )
    for start in starts:
        axis.axvline(start + 0.5, color="#c9c9c9", linewidth=0.7, zorder=0)
    whole_numbers(axis, 5)


def _curve(scores: Scores, run: Run, metric: str) -> tuple[Curve, set[float]]:
    """Values by epochs since the start, and the epochs after which an experience began."""
    made: Curve = {}
    starts: set[float] = set()
    done, now = 0, None
    length = 0
    for at, values in numbers(scores, run, "train", metric).items():
        if now is not None and at.experience != now:
            done += length
            starts.add(float(done))
            length = 0
        now = at.experience
        length = max(length, (at.epoch or 0) + 1)
        found = [each.value for each in values.values()]
        made[float(done + (at.epoch or 0) + 1)] = (fmean(found), min(found), max(found))
    return made, starts
