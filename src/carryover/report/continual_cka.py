"""Figures of the continual study: similarity of the trained encoder with itself before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carryover.measure.statistics import Interval
from carryover.report import continual_intervals
from carryover.report.blocks import Block, key, legend, notes, nothing
from carryover.report.continual_grid import (
    across,
    arm_names,
    blocks,
    heading,
    share_y,
    whole_numbers,
)
from carryover.report.continual_scores import (
    UNTRAINED,
    At,
    Run,
    Scores,
    arm,
    numbers,
    places,
    runs,
    seeds,
    unchanged,
)
from carryover.report.figures import COLUMN, GREY, MARKERS, below, panels, per_cent, ramp, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 5
BANDS = ("cka_low", "cka_high")  # bounds over images, of the first seed


def by_depth(scores: Scores, how: str = "") -> Figure:
    """Same-layer CKA with the encoder before training, by depth; a line an experience.

    Args:
        how: which CKA it is, ``linear, debiased``.
    """
    every = [run for run in runs(scores) if _times(scores, run)]
    known = [run for run in every if not unchanged(scores, run)]
    same = [run for run in every if run not in known]
    if not known:
        return nothing(_same(same) if same else "no CKA of any stream")
    with style():
        groups = list(places(known).values())
        arms = arm_names(known)
        columns = across(map(len, groups), MOST)
        figure, made = blocks(
            [
                Block(heading(found[0]), [f"{arms[run]}, {run.strategy}" for run in found])
                for found in groups
            ],
            columns,
            0.8,
        )
        times = sorted({time for run in known for time in _times(scores, run)})
        looks = {
            time: {"color": colour, "marker": MARKERS[i % len(MARKERS)]}
            for i, (time, colour) in enumerate(zip(times, ramp(len(times)), strict=True))
        }
        for axes, found in zip(made, groups, strict=True):
            share_y(axes, columns)
            for axis, run in zip(axes, found, strict=True):
                for time in _times(scores, run):
                    _line(axis, _curve(scores, run, time), looks[time])
                axis.yaxis.set_major_formatter(per_cent())
                whole_numbers(axis, 6)
            low, high = axes[0].get_ylim()
            axes[0].set_ylim(min(low, 0.9), max(1.005, high))
        legend(
            figure,
            [key(f"after experience {t}", linewidth=0.9, markersize=4, **looks[t]) for t in times],
        )
        notes(figure, "layer, from the input", *_told(scores, known, how), _same(same))
        figure.supylabel("CKA with itself before, %")
        return figure


def _times(scores: Scores, run: Run) -> list[int]:
    """Experiences after which a run has CKA."""
    every = numbers(scores, run, "test", "cka")
    return sorted({at.experience for at in every if at.experience is not None} - {-1})


def _curve(scores: Scores, run: Run, time: int) -> dict[int, Interval]:
    """CKA by layer: over seeds, and over images where there are bounds."""
    found = {}
    for at, values in numbers(scores, run, "test", "cka").items():
        if at.experience == time and at.layer is not None:
            told = continual_intervals.of(scores, run, "test", "cka", at)
            if told is None:
                continue
            bounds = [numbers(scores, run, "test", name).get(at) for name in BANDS]
            first = next(iter(values))
            low, high = (None if b is None or first not in b else b[first].value for b in bounds)
            if low is not None and high is not None:
                value = values[first].value
                reach = Interval(told.value, told.value + low - value, told.value + high - value)
                told = continual_intervals.widest(told, reach)
            found[at.layer] = Interval(told.value, told.low, min(told.high, 1.0))
    return found


def _line(axis: Axes, curve: dict[int, Interval], looks: dict[str, Any]) -> None:
    layers = list(curve)
    axis.plot(
        layers,
        [told.value for told in curve.values()],
        linewidth=0.9,
        markersize=2.6,
        markeredgewidth=0,
        **looks,
    )
    axis.fill_between(
        layers,
        [told.low for told in curve.values()],
        [told.high for told in curve.values()],
        color=looks["color"],
        alpha=0.15,
        linewidth=0,
    )


def _same(same: list[Run]) -> str:
    """Which runs left the encoder as it was."""
    arms = dict.fromkeys(arm(run) for run in same)
    return f"not drawn, as CKA is 1 at every layer: {'; '.join(arms)}" if arms else ""


def _told(scores: Scores, known: list[Run], how: str) -> list[str]:
    sizes = {
        each.n
        for run in known
        for values in numbers(scores, run, "test", "cka").values()
        for each in values.values()
    }
    counts = sorted({len(seeds(scores, run)) for run in known})
    drawn = any(numbers(scores, run, "test", BANDS[0]) for run in known)
    over = ["images (bootstrap)"] * drawn
    over += [f"{' or '.join(map(str, counts))} seeds"] * (counts != [1])
    bands = f"bands: 95 % interval over {' and '.join(over)}" if over else "no bands"
    bands += "; 1 seed" * (counts == [1])
    said = f"CKA{f' ({how})' if how else ''} of each layer with the same one before any training"
    return [
        f"{said}; 100: unchanged",
        f"{bands}; n = {' or '.join(map(str, sorted(sizes)))} test images",
    ]


def untrained(scores: Scores, published: Scores) -> Figure:
    """Two encoders as loaded: CKA, and the element-wise score that was published in its place."""
    ours = _loaded(scores)
    with style():
        figure, (axis,) = panels(1, 1, 2.1, width=COLUMN)
        lines = [
            *(
                ("CKA, ours", _values(scores, run, "test", "cka"), "#0072b2", "o", "-")
                for run in ours
            ),
            *(
                (
                    "published formula, ours",
                    _values(scores, run, "train", "published_cka"),
                    "#d55e00",
                    "s",
                    "--",
                )
                for run in ours
            ),
            *(
                (
                    "published (read by eye)",
                    _values(published, run, "train", "published_cka"),
                    GREY,
                    "D",
                    ":",
                )
                for run in _loaded(published)
                if run.protocol == UNTRAINED
            ),
        ]
        for label, curve, colour, marker, line in lines:
            if curve:
                axis.plot(
                    list(curve),
                    list(curve.values()),
                    color=colour,
                    marker=marker,
                    linestyle=line,
                    markersize=4,
                    linewidth=0.9,
                    label=label,
                )
        axis.set_ylim(0, 1.05)
        axis.yaxis.set_major_formatter(per_cent())
        whole_numbers(axis, 6)
        axis.set_ylabel("similarity, %")
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)
        counts = sorted(
            {
                each.n
                for run in ours
                for found in numbers(scores, run, "test", "cka").values()
                for each in found.values()
            }
        )
        said = f"n = {counts[0]} images for CKA; " if counts else "no rows of ours; "
        axis.set_xlabel(
            below(
                "layer or index, from 0",
                f"{said}frozen against partly frozen, both as loaded, so the same network: CKA is "
                "1. |A*B| / (|A*A| |B*B|) is one over the size of A*A, no similarity",
                width=COLUMN,
            ),
            fontsize=7,
        )
        return figure


def _loaded(scores: Scores) -> list[Run]:
    return [run for run in scores.numbers if run.protocol == UNTRAINED]


def _values(scores: Scores, run: Run, split: str, metric: str) -> dict[int, float]:
    """Mean over seeds by layer."""
    found = {}
    for at, values in numbers(scores, run, split, metric).items():
        told = continual_intervals.of(scores, run, split, metric, At(*at))
        if told and at.layer is not None and values:
            found[at.layer] = told.value
    return found
