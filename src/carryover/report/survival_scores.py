"""Rows of adapted models by kind of model: what was measured, seed by seed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from carryover.errors import DataError, listed
from carryover.measure.statistics import Interval
from carryover.report.adapt_intervals import over_seeds
from carryover.rows import Row

START, SCRATCH = "start", "scratch"
LIMITS = {  # of what a metric can be
    **dict.fromkeys(("accuracy", "corrupted_accuracy", "mixed_accuracy", "ece"), (0.0, 1.0)),
    **dict.fromkeys(("nll", "distance"), (0.0, math.inf)),
    "barrier": (0.0, 1.0),
    "cka": (-math.inf, 1.0),
}
ORDER = ("adapt", "sequence", "continual", "retrieval", "cuts")
WAYS = (
    *("probe", "unfreeze", "llrd", "plain", "average", "distill", "ogd", "lora"),
    *("frozen", "partly", "unfrozen", "ft", "f", "fr", "none", "r", "baseline"),
)


class Kind(NamedTuple):
    """Models that differ in their seed alone; of starts `way` is ``start``.

    Attributes:
        origin: the study; `way` its item; `target` what they were adapted to.
    """

    origin: str
    way: str
    method: str
    target: str

    @property
    def name(self) -> str:
        """What it is called below its study's name."""
        if self.origin == "cuts":
            return self.method if self.way == "baseline" else f"{self.way}, {self.method}"
        if self.origin == "retrieval":
            return f"{self.way}, {self.method}"
        return self.method


class Number(NamedTuple):
    """A value and the images that it is over."""

    value: float
    n: int


Axes = frozenset[tuple[str, Any]]
BySeed = dict[int, Number]
NO_SEED = -1  # starts, and encoders that heads left as they were: there is one of each


@dataclass(frozen=True)
class Scores:
    """Numbers by kind, metric and the axes beside the kind's; of what has no seed under `NO_SEED`.

    Attributes:
        began: the start of each kind that was adapted, by the digests of weights and images; none
            where rows of several starts have the same.
    """

    preset: str
    numbers: dict[Kind, dict[tuple[str, Axes], BySeed]]
    began: dict[Kind, Kind]


def from_rows(rows: Iterable[Row], preset: str) -> Scores:
    """Rows of one preset by kind, kinds in the order of figures.

    Raises:
        DataError: rows of another preset, or none.
    """
    found: dict[Kind, dict[tuple[str, Axes], BySeed]] = {}
    alike: dict[tuple[str, ...], set[Kind]] = {}  # kinds of the same start on the same images
    for row in rows:
        if row.preset != preset:
            raise DataError(
                f"reports/survival/runs: expected rows of preset {preset}, got some of "
                f"{row.preset}; run `dvc repro survival`"
            )
        cell = dict(row.cell)
        kind = Kind(*(str(cell.pop(name)) for name in Kind._fields))
        seed = int(cell.pop("seed", NO_SEED))
        place = (row.metric, frozenset(cell.items()))
        found.setdefault(kind, {}).setdefault(place, {})[seed] = Number(row.value, row.n)
        alike.setdefault((kind.origin, kind.target, row.weights, row.data), set()).add(kind)
    if not found:
        raise DataError(
            "reports/survival/runs: expected rows of adapted models, found none; run `dvc repro "
            "survival`"
        )
    began: dict[Kind, Kind] = {}
    for kinds in alike.values():
        first = [kind for kind in kinds if kind.way == START]
        if len(first) == 1:
            began |= {kind: first[0] for kind in kinds if kind.way != START}
    return Scores(preset, {kind: found[kind] for kind in sorted(found, key=_place)}, began)


def _place(kind: Kind) -> tuple[Any, ...]:
    """Studies and ways in their own order, numbers in names by their size."""
    parts = [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", kind.method)]
    return (
        _index(ORDER, kind.origin),
        _index(WAYS, kind.way),
        [str(part).rjust(6) if isinstance(part, int) else part for part in parts],
        kind.target,
    )


def _index(names: Sequence[str], name: str) -> tuple[int, str]:
    return (names.index(name) if name in names else len(names), name)


def models(scores: Scores) -> list[Kind]:
    """Every kind that was adapted, or trained from scratch."""
    return [kind for kind in scores.numbers if kind.way != START]


def starts(scores: Scores) -> list[Kind]:
    """What they began as."""
    return [kind for kind in scores.numbers if kind.way == START]


def origins(scores: Scores) -> list[str]:
    """Studies with models, in order."""
    return list(dict.fromkeys(kind.origin for kind in models(scores)))


def found(scores: Scores, kind: Kind, metric: str, **axes: Any) -> dict[Axes, BySeed]:
    """Numbers of a metric whose axes have these values, by all their axes."""
    wanted = axes.items()
    return {
        at: seeds
        for (name, at), seeds in scores.numbers[kind].items()
        if name == metric and wanted <= set(at)
    }


def mean(scores: Scores, kind: Kind, metric: str, **axes: Any) -> Interval | None:
    """Mean over seeds of the mean over what the axes leave open, with Student's interval.

    Its bounds are within what the metric can be. Without bounds (both the mean) where there is one
    seed; None where nothing was measured.
    """
    every = list(found(scores, kind, metric, **axes).values())
    if not every:
        return None
    seeds = sorted(set.intersection(*(set(each) for each in every)))
    values = [fmean(each[seed].value for each in every) for seed in seeds]
    if not values:
        return None
    told, (least, most) = over_seeds(values), LIMITS.get(metric, (-math.inf, math.inf))
    return Interval(
        told.value, min(max(told.low, least), told.value), max(min(told.high, most), told.value)
    )


def seeds_of(scores: Scores, kind: Kind) -> int:
    """Seeds of a kind; 0 where it has none, as encoders that heads left as they were."""
    return len({seed for each in scores.numbers[kind].values() for seed in each} - {NO_SEED})


def shown_seeds(scores: Scores) -> str:
    """The numbers of seeds that adapted models have, in words."""
    counts = {seeds_of(scores, kind) for kind in models(scores)} - {0}
    return " or ".join(map(str, sorted(counts))) or "no"


def single(scores: Scores) -> str:
    """A sentence on kinds of which one model is known, for below tables and figures; or ""."""
    alone = [origin for origin in origins(scores) if _one(scores, origin)]
    if not alone:
        return ""
    return (
        f"one seed: n = 1 model, whose spread is not known (some ways of {listed(alone)}: one seed "
        "was trained, or its weights alone are kept)"
    )


def _one(scores: Scores, origin: str) -> bool:
    return any(seeds_of(scores, kind) == 1 for kind in models(scores) if kind.origin == origin)


def images_of(scores: Scores, kind: Kind, metric: str, **axes: Any) -> int:
    """Images that a number is over, of all its sets together."""
    every = found(scores, kind, metric, **axes).values()
    return sum(max(number.n for number in each.values()) for each in every)
