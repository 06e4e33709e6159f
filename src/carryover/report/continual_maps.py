"""Heat maps of the continual study: task by time, and layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from carryover.report.blocks import Block, heat_map, notes, nothing
from carryover.report.continual_grid import across, arm_names, blocks, by_arm, heading
from carryover.report.continual_scores import (
    Run,
    Scores,
    numbers,
    places,
    runs,
    seeds,
    unchanged,
)
from carryover.report.figures import per_cent, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 6  # maps in a row
WRITTEN = 6  # rows or columns of a map, beyond which a cell has no room for its number
Cells = tuple[Float[np.ndarray, "_ _"], list[int], list[int]]  # numbers, rows, columns


def matrix(scores: Scores) -> Figure:
    """Accuracy on each task after each experience, mean over seeds; a map a strategy."""

    def cells(run: Run) -> Cells | None:
        found = {
            (at.experience, at.task): fmean(each.value for each in values.values())
            for at, values in numbers(scores, run, "test", "task_accuracy").items()
            if at.experience is not None and at.task is not None
        }
        made = _cells(found)
        return made if made and len(made[2]) > 1 else None

    figure, shown = _maps(scores, cells, "accuracy, %", _by_arm)
    if figure is None:
        return nothing("no accuracies of two or more tasks")
    sizes = sorted(
        {
            each.n
            for run in shown
            for values in numbers(scores, run, "test", "task_accuracy").values()
            for each in values.values()
        }
    )
    counts = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])
    with style():
        notes(
            figure,
            "task tested, from 0",
            f"mean over {_seeds(scores, shown)}; n = {counts} test images a task; rows: the "
            "experience trained last, start: before any; right of the diagonal: not trained yet. "
            "Protocols that test all on one set have no map",
        )
        figure.supylabel("experience trained last")
    return figure


def layers(scores: Scores, how: str = "") -> Figure:
    """CKA of each layer after the stream with each before it; a map a strategy.

    Args:
        how: which CKA it is, ``linear, debiased``.
    """

    def cells(run: Run) -> Cells | None:
        every = numbers(scores, run, "test", "cka_pair")
        final = max((at.experience or 0 for at in every), default=0)
        found = {
            (at.layer, at.other): next(iter(values.values())).value
            for at, values in every.items()
            if at.layer is not None and at.other is not None and (at.experience or 0) == final
        }
        return _cells(found)

    drawn = set(changed(scores))
    figure, shown = _maps(
        scores,
        lambda run: cells(run) if run in drawn else None,
        f"CKA{f' ({how})' if how else ''}, %",
        _by_place,
    )
    if figure is None:
        return nothing("no CKA of pairs of layers")
    counts = {
        each.n
        for run in shown
        for values in numbers(scores, run, "test", "cka_pair").values()
        for each in values.values()
    }
    with style():
        notes(
            figure,
            "layer before any training, from the input",
            f"first seed, n = {' or '.join(map(str, sorted(counts)))} test images, at the end of "
            "the stream (the figure of CKA by depth has the mean over seeds of the diagonal); of "
            "encoders that did not change the first of each stream stands for all",
        )
        figure.supylabel("layer after training")
    return figure


def changed(scores: Scores) -> list[Run]:
    """Runs whose encoder changed, and of the others the first of each stream."""
    kept, seen = [], set()
    for run in runs(scores):
        if unchanged(scores, run):
            if run.stream in seen:
                continue
            seen.add(run.stream)
        kept.append(run)
    return kept


def _cells(found: dict[tuple[int, int], float]) -> Cells | None:
    """A map of numbers by row and column; not a number where there is none."""
    if not found:
        return None
    rows, columns = (sorted({at[i] for at in found}) for i in (0, 1))
    made = np.array([[found.get((row, column), np.nan) for column in columns] for row in rows])
    return made, rows, columns


def _by_arm(found: Sequence[Run]) -> list[tuple[str, dict[Run, str]]]:
    """Runs with their titles by stream, protocol and arm, with a heading each."""
    return [
        (f"{heading(members[0])}, {name}", {run: run.strategy for run in members})
        for group in places(found).values()
        for name, members in by_arm(group).items()
    ]


def _by_place(found: Sequence[Run]) -> list[tuple[str, dict[Run, str]]]:
    """The same by stream and protocol."""
    arms = arm_names(found)
    return [
        (heading(members[0]), {run: f"{arms[run]}, {run.strategy}" for run in members})
        for members in places(found).values()
    ]


def _maps(
    scores: Scores,
    cells: Callable[[Run], Cells | None],
    label: str,
    grouped: Callable[[Sequence[Run]], list[tuple[str, dict[Run, str]]]],
) -> tuple[Figure | None, list[Run]]:
    """One map a run that has cells, a block a group, one scale of colours from 0 to 1."""
    known = {run: found for run in runs(scores) if (found := cells(run)) is not None}
    if not known:
        return None, []
    groups = grouped(list(known))
    columns = across((len(members) for _, members in groups), MOST)
    with style():
        figure, made = blocks(
            [Block(head, list(members.values())) for head, members in groups],
            columns,
            [max(0.5, 0.15 * max(len(known[run][1]) for run in members)) for _, members in groups],
        )
        for axes, (_, members) in zip(made, groups, strict=True):
            times = sorted({time for run in members for time in known[run][1]})
            for i, (axis, run) in enumerate(zip(axes, members, strict=True)):
                _draw(axis, _filled(known[run], times))
                axis.tick_params(labelleft=i % columns == 0)
        figure.colorbar(
            axes[0].images[0],
            ax=[axis for row in made for axis in row],
            label=label,
            location="top",
            fraction=0.15 / figure.get_figheight(),
            pad=0.12 / figure.get_figheight(),
            aspect=40,
            shrink=0.5,
            format=per_cent(),
        )
    return figure, list(known)


def _filled(cells: Cells, rows: Sequence[int]) -> Cells:
    """The same map with empty rows where it has none, so that maps side by side are aligned."""
    values, own, columns = cells
    made = np.full((len(rows), len(columns)), np.nan)
    made[[rows.index(row) for row in own]] = values
    return made, list(rows), columns


def _draw(axis: Axes, cells: Cells) -> None:
    values, rows, columns = cells
    heat_map(axis, values, written=max(len(rows) - 1, len(columns)) <= WRITTEN)
    axis.set_yticks(_some(rows), [_named(rows[i]) for i in _some(rows)])
    axis.set_xticks(_some(columns), [str(columns[i]) for i in _some(columns)])


def _some(names: Sequence[int]) -> list[int]:
    """Places that are named: all, or every second or third of many."""
    return list(range(0, len(names), -(-len(names) // 7)))


def _named(time: int) -> str:
    return "start" if time < 0 else str(time)


def _seeds(scores: Scores, shown: Sequence[Run]) -> str:
    counts = sorted({len(seeds(scores, run)) for run in shown})
    return "1 seed" if counts == [1] else f"{' or '.join(map(str, counts))} seeds"
