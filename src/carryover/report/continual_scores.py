"""What the continual study's tables and figures are made of: numbers by run and moment."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from carryover.errors import DataError
from carryover.report.continual_paired import Tests
from carryover.rows import Row

FEATURES, UNTRAINED = "features", "untrained"  # an item and a protocol that no stream is for
ITEMS = ("frozen", "partly", "unfrozen")
STRATEGIES = (
    *("naive", "ewc", "ewc-online", "ewc-summed", "replay", "lwf", "cumulative", "joint"),
)
PROTOCOLS = ("ni", "ci", "ti", "permuted", "rotated", "domains")  # what a protocol's name starts by
SAME = 1e-5  # how far CKA of equal features may be from 1
CLASSES = {  # outputs a stream's chance level is of
    "s-digits": 10,
    "s-letters": 36,
    "s-mnist": 10,
    "s-cifar-10": 10,
    "s-cifar-100": 100,
    "s-cub-100": 100,
    "s-cub-200": 200,
    "s-pacs": 7,
    "s-3d-printed-or-not": 2,
}


class Run(NamedTuple):
    """What trained on what: one line of a figure or a table; "" where a run has no such axis.

    Attributes:
        item: what of the encoder trains.
        rest: every other axis that tells runs apart, ``freeze children-2``.
    """

    stream: str
    protocol: str
    item: str
    encoder: str
    features: str
    head: str
    rest: str
    strategy: str


class At(NamedTuple):
    """The moment and place of a number within a run; None where it has no such axis."""

    experience: int | None = None
    task: int | None = None
    epoch: int | None = None
    layer: int | None = None
    other: int | None = None


class Number(NamedTuple):
    """A value and the images that it is over."""

    value: float
    n: int


BySeed = Mapping[int, Number]
Metric = tuple[str, str]  # split and metric


@dataclass(frozen=True, eq=False)
class Scores:
    """Numbers of one preset's rows.

    Attributes:
        preset: the preset that the rows started from.
        numbers: by run, split and metric, and moment: one a seed, seeds ascending.
        masked: protocols whose tests leave the classes of a task alone to be predicted.
        repeated: protocols whose tasks are tested on the same photographs, their pixels changed.
        tests: answers to every test image, as far as predictions are at hand.
    """

    preset: str
    numbers: Mapping[Run, Mapping[Metric, Mapping[At, BySeed]]]
    masked: frozenset[str] = frozenset()
    repeated: frozenset[str] = frozenset()
    tests: Tests = field(default_factory=dict)


def from_rows(
    rows: Iterable[Row],
    masked: Iterable[str] = (),
    repeated: Iterable[str] = (),
    tests: Tests | None = None,
) -> Scores:
    """Numbers of one preset's rows, with what predictions are at hand.

    Raises:
        DataError: rows of several presets or none, or two numbers for one cell.
    """
    rows = list(rows)
    presets = sorted({row.preset for row in rows})
    if len(presets) != 1:
        raise DataError(
            f"continual: expected rows of one preset, got {presets}; run all items of one"
        )
    found: dict[Run, dict[Metric, dict[At, dict[int, Number]]]] = {}
    for row in rows:
        run = _run(row)
        metrics = found.setdefault(run, {})
        at = At(*(None if (v := row.cell.get(axis)) is None else int(v) for axis in At._fields))
        seeds = metrics.setdefault((row.split, row.metric), {}).setdefault(at, {})
        number, seed = Number(row.value, row.n), int(row.cell.get("seed") or 0)
        if seeds.setdefault(seed, number) != number:
            raise DataError(
                f"continual: expected one {row.split} {row.metric} of {row.item} {row.cell}, got "
                f"{seeds[seed].value} and {row.value}; take one file of rows an item"
            )
    return Scores(
        presets[0],
        {
            run: {
                metric: {at: dict(sorted(seeds.items())) for at, seeds in sorted_ats(ats)}
                for metric, ats in found[run].items()
            }
            for run in sorted(found, key=_order)
        },
        frozenset(masked),
        frozenset(repeated),
        tests or {},
    )


def _run(row: Row) -> Run:
    cell = row.cell
    known = {*Run._fields, *At._fields, "seed"}
    rest = ", ".join(f"{axis} {value}" for axis, value in cell.items() if axis not in known)
    named = {axis: str(cell.get(axis) or "") for axis in Run._fields}
    return Run(**named | {"item": row.item, "rest": rest})


def sorted_ats(ats: Mapping[At, dict[int, Number]]) -> list[tuple[At, dict[int, Number]]]:
    """Moments in time order, what has no time first."""
    return sorted(ats.items(), key=lambda found: [-2 if v is None else v for v in found[0]])


def _order(run: Run) -> tuple[object, ...]:
    kind = run.protocol.split("-")[0]
    return (
        run.stream,
        _place(kind, PROTOCOLS),
        run.protocol,
        _place(run.item, ITEMS),
        run.features != "tokens",  # the claims are about all tokens
        *(run.features, run.head, run.encoder, run.rest),
        _place(run.strategy, STRATEGIES),
        run.strategy,
    )


def _place(name: str, known: Sequence[str]) -> int:
    return known.index(name) if name in known else len(known)


def numbers(scores: Scores, run: Run, split: str, metric: str) -> Mapping[At, BySeed]:
    """Numbers of one metric in time order; none where the run has none."""
    return scores.numbers[run].get((split, metric), {})


def runs(scores: Scores) -> list[Run]:
    """Runs that trained on a stream and were tested."""
    return [
        run
        for run, found in scores.numbers.items()
        if run.item != FEATURES and run.protocol != UNTRAINED and ("test", "accuracy") in found
    ]


def places(found: Iterable[Run]) -> dict[tuple[str, str], list[Run]]:
    """Runs by stream and protocol."""
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run in found:
        grouped.setdefault((run.stream, run.protocol), []).append(run)
    return grouped


def seeds(scores: Scores, run: Run) -> list[int]:
    """The seeds of a run's test accuracies; 0 where a row names none."""
    every = numbers(scores, run, "test", "accuracy").values()
    return sorted({seed for found in every for seed in found})


def last(scores: Scores, run: Run) -> int:
    """The last experience that a run was tested after."""
    return max(at.experience or 0 for at in numbers(scores, run, "test", "accuracy"))


def matrix(scores: Scores, run: Run, seed: int) -> dict[tuple[int, int], Number]:
    """Accuracy by experience and tested task, of one seed; one test set is a task."""
    every = numbers(scores, run, "test", "task_accuracy")
    every = every or numbers(scores, run, "test", "accuracy")
    return {
        (at.experience, at.task or 0): found[seed]
        for at, found in every.items()
        if at.experience is not None and seed in found
    }


def photographs(scores: Scores, run: Run, n: int) -> int:
    """How many photographs `n` answers are about: fewer where tasks repeat them.

    A run that diverged has no accuracies by task; others of its place have as many photographs.
    """
    if run.protocol not in scores.repeated:
        return n
    place = (run.stream, run.protocol)
    found = [
        each.n
        for other in [run, *(o for o in scores.numbers if (o.stream, o.protocol) == place)]
        for values in numbers(scores, other, "test", "task_accuracy").values()
        for each in values.values()
    ]
    return min(n, found[0]) if found else n


def unchanged(scores: Scores, run: Run) -> bool:
    """Whether CKA finds each layer of a run's encoder as it was before any training."""
    every = numbers(scores, run, "test", "cka").values()
    found = [each.value for values in every for each in values.values()]
    return bool(found) and min(found) > 1 - SAME


def chance(scores: Scores, run: Run) -> float | None:
    """Accuracy of guessing: one in as many classes as are told apart; None where not known."""
    classes, tasks = CLASSES.get(run.stream), re.search(r"-(\d+)$", run.protocol)
    if classes is None:
        return None
    return min(1.0, (int(tasks[1]) if tasks and run.protocol in scores.masked else 1) / classes)


def floor(run: Run) -> float | None:
    """The least cross-entropy of outputs in 0..1: ln(1 + (c - 1) / e), c the classes."""
    classes = CLASSES.get(run.stream)
    return math.log(1 + (classes - 1) / math.e) if classes else None


def variant(run: Run) -> str:
    """What the head reads and what it is, ``tokens, mlp``."""
    return ", ".join(part for part in (run.features, run.head, run.rest) if part)


def arm(run: Run) -> str:
    """What trains, and the head, ``frozen: tokens, mlp``."""
    return f"{run.item}: {variant(run)}" if variant(run) else run.item
