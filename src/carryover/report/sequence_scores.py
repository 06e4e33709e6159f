"""What the sequence study's tables and figures are made of: numbers by run, moment and set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from carryover.errors import DataError
from carryover.report.sequence_paired import Right
from carryover.rows import Row

ZERO_SHOT, FINETUNE, ZSCL = "zero-shot", "finetune", "zscl"
METHODS = (  # in the order that they stand in
    *(ZERO_SHOT, FINETUNE, "joint", "ncm", "ridge"),
    *("lwf", "lwf-vr", "icarl", "wc", "zscl-star", "zscl-plain", ZSCL),
    *("feature-mse", "image-similarity"),
    *("ogd", "zscl-ogd", "zscl-sfao"),
    *("finetune-lora", "zscl-lora", "zscl-lora-shared", "zscl-lora-shared-split"),
    *("wise-ft", "wise-at-test", "running-mean", "running-mean-wise"),
    *("moving-average", "ema", "task-mean"),
)
SEEDLESS = (ZERO_SHOT, "ncm", "ridge")  # draw nothing: every seed has the same numbers


class Run(NamedTuple):
    """One method on one order of the sets: a line of a figure or a table.

    Attributes:
        rest: every other axis that tells runs apart, ``train text``.
    """

    order: str
    method: str
    item: str
    rest: str = ""

    @property
    def name(self) -> str:
        """The method, and what else tells it apart."""
        return f"{self.method}, {self.rest}" if self.rest else self.method


class At(NamedTuple):
    """The place of a number within a run; None where it has no such axis.

    Attributes:
        after: sets trained, 0 before any; task: place of the tested set, from 1.
        mix: share of the tuned weights, where they are mixed with the start's for a test.
        step: updates of the set that trains, where it is tested on the way.
    """

    after: int | None = None
    task: int | None = None
    dataset: str | None = None
    mix: float | None = None
    step: int | None = None


class Number(NamedTuple):
    """A value and the images that it is over."""

    value: float
    n: int


BySeed = Mapping[int, Number]
Metric = tuple[str, str]  # split and metric
Matrix = dict[tuple[int, int], Number]  # by sets trained and task
KINDS: dict[str, Any] = {"after": int, "task": int, "dataset": str, "mix": float, "step": int}


@dataclass(frozen=True, eq=False)
class Scores:
    """Numbers of one preset's rows.

    Attributes:
        preset: the preset that the rows started from.
        numbers: by run, split and metric, and place: one a seed, seeds ascending.
        orders: the sets of each order, as far as its rows have tasks.
        right: which test images each test had right, as far as predictions are at hand.
    """

    preset: str
    numbers: Mapping[Run, Mapping[Metric, Mapping[At, BySeed]]]
    orders: Mapping[str, tuple[str, ...]]
    right: Right = field(default_factory=dict)


def from_rows(rows: Iterable[Row]) -> Scores:
    """Numbers of one preset's rows.

    Raises:
        DataError: rows of several presets or none, two numbers for one cell, or two sets in one
            place of an order.
    """
    rows = list(rows)
    presets = sorted({row.preset for row in rows})
    if len(presets) != 1:
        raise DataError(
            f"sequence: expected rows of one preset, got {presets}; run all items of one"
        )
    found: dict[Run, dict[Metric, dict[At, dict[int, Number]]]] = {}
    for row in rows:
        cell = row.cell
        at = At(*(kind(cell[axis]) if axis in cell else None for axis, kind in KINDS.items()))
        metrics = found.setdefault(_run(row), {})
        seeds = metrics.setdefault((row.split, row.metric), {}).setdefault(at, {})
        number, seed = Number(row.value, row.n), int(cell.get("seed") or 0)
        if seeds.setdefault(seed, number) != number:
            raise DataError(
                f"sequence: expected one {row.split} {row.metric} of {row.item} {cell}, got "
                f"{seeds[seed].value} and {row.value}; take one file of rows an item"
            )
    return Scores(
        presets[0],
        {
            run: {
                metric: {at: dict(sorted(ats[at].items())) for at in sorted(ats, key=_place)}
                for metric, ats in found[run].items()
            }
            for run in sorted(found, key=_order)
        },
        _orders(rows),
    )


def _run(row: Row) -> Run:
    known = {*At._fields, "seed", "method", "order"}
    rest = ", ".join(f"{axis} {value}" for axis, value in row.cell.items() if axis not in known)
    return Run(str(row.cell.get("order", "")), str(row.cell.get("method", "")), row.item, rest)


def _place(at: At) -> list[tuple[bool, Any]]:
    return [(value is not None, value or 0) for value in (*at[:2], at.mix, at.step)] + [
        (at.dataset is not None, at.dataset or "")
    ]


def _order(run: Run) -> tuple[object, ...]:
    place = METHODS.index(run.method) if run.method in METHODS else len(METHODS)
    return run.order, place, run.method, run.item, run.rest


def _orders(rows: Iterable[Row]) -> dict[str, tuple[str, ...]]:
    places: dict[str, dict[int, str]] = {}
    for row in rows:
        order, task, name = (row.cell.get(axis) for axis in ("order", "task", "dataset"))
        if task is None or name is None:
            continue
        known = places.setdefault(str(order), {}).setdefault(int(task), str(name))
        if known != name:
            raise DataError(
                f"sequence: expected one set as task {task} of order {order}, got {known} and "
                f"{name}; run all items anew"
            )
    return {order: tuple(each[i] for i in sorted(each)) for order, each in sorted(places.items())}


def numbers(scores: Scores, run: Run, split: str, metric: str) -> Mapping[At, BySeed]:
    """Numbers of one metric by place; none where the run has none."""
    return scores.numbers[run].get((split, metric), {})


def runs(scores: Scores) -> list[Run]:
    """Runs that were tested after whole sets."""
    return [run for run in scores.numbers if _tested(scores, run, "accuracy")]


def by_order(found: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by order of the sets."""
    grouped: dict[str, list[Run]] = {}
    for run in found:
        grouped.setdefault(run.order, []).append(run)
    return grouped


def _tested(scores: Scores, run: Run, metric: str) -> dict[At, BySeed]:
    """Tests after whole sets: neither on the way nor of mixed weights."""
    every = numbers(scores, run, "test", metric)
    return {at: found for at, found in every.items() if (at.mix, at.step) == (None, None)}


def untrained(scores: Scores, run: Run) -> bool:
    """Whether a run was tested before any set alone, as what never trains is."""
    return {at.after for at in _tested(scores, run, "accuracy")} == {0}


def seedless(scores: Scores, run: Run) -> bool:
    """Whether nothing of a run is drawn, so that its seeds are one run and tell no scatter."""
    return run.method in SEEDLESS or untrained(scores, run)


def seeds(scores: Scores, run: Run) -> list[int]:
    """The seeds of a run's test accuracies; where nothing is drawn the first, all being alike."""
    found = sorted({seed for each in _tested(scores, run, "accuracy").values() for seed in each})
    return found[:1] if seedless(scores, run) else found


def matrix(scores: Scores, run: Run, seed: int, metric: str = "accuracy") -> Matrix:
    """A metric by sets trained and task, of one seed; that of what never trains at all times."""
    found = {
        (at.after, at.task): each[seed]
        for at, each in _tested(scores, run, metric).items()
        if at.after is not None and at.task is not None and seed in each
    }
    if untrained(scores, run):
        t = len(scores.orders[run.order])
        return {(after, task): found[0, task] for after in range(t + 1) for _, task in found}
    return found


def others(scores: Scores, run: Run, seed: int, after: int) -> dict[str, Number]:
    """Accuracy on tested sets outside the order after some sets."""
    time = 0 if untrained(scores, run) else after
    return {
        at.dataset: each[seed]
        for at, each in _tested(scores, run, "other_accuracy").items()
        if at.after == time and at.dataset is not None and seed in each
    }


def images(scores: Scores, found: Sequence[Run]) -> list[int]:
    """Test images of every set of some runs, ascending."""
    return sorted({n for run in found for _, n in sizes(scores, run).items()})


def sizes(scores: Scores, run: Run) -> dict[str, int]:
    """Test images by set, those outside the order too."""
    found = {**_tested(scores, run, "accuracy"), **_tested(scores, run, "other_accuracy")}
    return {at.dataset: n for at, each in found.items() if at.dataset for _, n in each.values()}
