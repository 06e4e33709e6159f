"""A quantity's value with its interval: over repeats, or over the images of single runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import factorial
from typing import Any

import numpy as np

from carryover.claims.functions import Field, Key, Values
from carryover.claims.lookup import look_up
from carryover.claims.observations import Observation
from carryover.claims.quantity import Quantity
from carryover.claims.repeats import over_repeats
from carryover.claims.runs import NotRun
from carryover.measure.combined import (
    combination,
    combination_p,
    drawn_interval,
    drawn_p,
    possible,
)
from carryover.measure.ordering import permutation_p
from carryover.measure.statistics import Interval

DRAWS = 2000
SEED = 0  # of every bootstrap, so that equal rows give equal verdicts
FEW = 6  # equal values of fewer repeats say nothing of the scatter
IMAGE_AXES = ("pair", "dataset", "task", "stream")  # axes that say which images were tested on

Cells = dict[str, dict[Key, Observation]]


@dataclass(frozen=True)
class Estimate:
    """A quantity as rows have it.

    Attributes:
        value: the quantity.
        interval: value and 95 % interval; None where nothing says how sure it is.
        inner: the same at 90 %, for two one-sided tests.
        p: two-sided chance of a value at least as far from a bound if the bound were true; None
            with the interval.
        n: repeats and images, in words.
        test: how the interval was made.
        values: the quantity in each repeat; one where there are none.
        blur: how far rounding or reading may have moved the value.
        origins: where the numbers lie.
        beyond: where else the truth may lie, since some numbers are the least that is possible:
            "above" the value, "below" it, or either.
    """

    value: float
    interval: Interval | None
    inner: Interval | None
    p: Callable[[float], float] | None
    n: str
    test: str
    values: tuple[float, ...]
    blur: float
    origins: tuple[str, ...]
    beyond: frozenset[str] = frozenset()


def estimate(
    quantity: Quantity, observations: list[Observation], repeat_axes: tuple[str, ...]
) -> Estimate:
    """The quantity from observations.

    Two repeats or more that all terms share: Student's interval of the quantity's values by
    repeat (`repeats`); repeats that lack a cell are left out. Single runs: square-and-add of
    Wilson's intervals of the accuracies, those of one sign over the same images taken to move as
    one; where the quantity is no weighted sum, a parametric bootstrap. Rounding and reading are
    added as they are. No interval where it is unknown over how many images a single run is. It ends
    where the quantity does (an accuracy at 1). Numbers that are the least that is possible count as
    they are.

    Raises:
        NotRun: rows that it needs.
        ConfigError: an axis is left open.
    """
    terms = {
        text: look_up(term, observations, repeat_axes) for text, term in quantity.terms.items()
    }
    if not terms:
        raise NotRun(f"a metric in {quantity.text}")
    repeats = set.intersection(*(_whole(found) for found in terms.values()))
    if not repeats:
        raise NotRun("repeats that all terms have: " + ", ".join(map(str, quantity.terms.values())))
    by_repeat: list[Cells] = [
        {text: found[repeat] for text, found in terms.items()}
        for repeat in sorted(repeats, key=str)
    ]
    beyond = frozenset(side for cells in by_repeat for side in _beyond(quantity, cells))
    found = _estimated(quantity, by_repeat)
    interval, inner = (_within(each, *quantity.ends) for each in (found.interval, found.inner))
    return replace(found, interval=interval, inner=inner, beyond=beyond)


def _within(interval: Interval | None, least: float, most: float) -> Interval | None:
    """The part of an interval that can be."""
    if interval is None:
        return None
    return Interval(interval.value, max(interval.low, least), min(interval.high, most))


def _estimated(quantity: Quantity, by_repeat: list[Cells]) -> Estimate:
    if len(by_repeat) > 1:
        return _over_repeats(quantity, by_repeat)
    unknown = [each for each in _leaves(by_repeat[0]) if not each.n]
    if unknown:
        return _unsure(quantity, by_repeat[0])
    return (_weighted_sum if quantity.linear else _drawn)(quantity, by_repeat[0])


def _beyond(quantity: Quantity, cells: Cells) -> Iterator[str]:
    """Sides to which the quantity moves when a number that is a least one grows."""
    value = float(quantity.values(_numbers(cells))[0])
    for least in (each for each in _leaves(cells) if each.least):
        grown = {
            text: {
                key: np.array([each.value + (abs(each.value) + 1 if each is least else 0)])
                for key, each in found.items()
            }
            for text, found in cells.items()
        }
        moved = float(quantity.values(grown)[0]) - value
        if moved:
            yield "above" if moved > 0 else "below"


def _whole(found: dict[Any, dict[Key, Observation]]) -> set[Any]:
    """Repeats that have every cell that any of them has."""
    cells = {key for some in found.values() for key in some}
    return {repeat for repeat, some in found.items() if some.keys() == cells}


def _over_repeats(quantity: Quantity, by_repeat: list[Cells]) -> Estimate:
    values = [float(quantity.values(_numbers(cells))[0]) for cells in by_repeat]
    step = max((1 / o.n for o in _leaves(by_repeat[0]) if o.n), default=0.0)
    step = step if quantity.stepped else 0.0
    n, origins = _counted(len(values), by_repeat[0]), _origins(by_repeat[0])
    if step == 0 and len(values) < FEW and len(set(values)) == 1:
        test, value = "equal in few repeats: no interval", float(np.mean(values))
        return Estimate(value, None, None, None, n, test, tuple(values), 0.0, origins)
    found = over_repeats(quantity.tree, values, step)
    return Estimate(
        found.value,
        found.interval(0.95),
        found.interval(0.9),
        found.p,
        n,
        found.test,
        tuple(values),
        0.0,
        origins,
    )


def _unsure(quantity: Quantity, cells: Cells) -> Estimate:
    """A single run of which nothing says over how many images it is, or what it scatters by."""
    numbers = _numbers(cells)
    value = float(quantity.values(numbers)[0])
    blur = 0.0
    if quantity.linear:
        weights = _weights(quantity, cells)
        blur = math.fsum(abs(weights[id(o)]) * o.plus_minus for o in _leaves(cells))
    test = "one run, images unknown: no interval"
    test += f"; rounding or reading moves it by up to {blur:.2g}" if blur else ""
    n, origins = _counted(1, cells), _origins(cells)
    return Estimate(value, None, None, None, n, test, (value,), blur, origins)


def _weighted_sum(quantity: Quantity, cells: Cells) -> Estimate:
    value = float(quantity.values(_numbers(cells))[0])
    weights = _weights(quantity, cells)
    leaves = [(each, weights[id(each)]) for each in _leaves(cells) if weights[id(each)]]
    blur = math.fsum(abs(w) * o.plus_minus for o, w in leaves)
    proportions = [(round(o.value * o.n), o.n) for o, _ in leaves]
    images = [_images(o) for o, _ in leaves]
    parts = (proportions, [w for _, w in leaves])
    same = [images.index(each) for each in images]

    def interval(level: float) -> Interval:
        found = combination(*parts, level, same)
        low, high = value + found.low - found.value, value + found.high - found.value
        return Interval(value, low - blur, high + blur)

    def p(bound: float) -> float:
        if abs(value - bound) <= blur:
            return 1.0
        middle = combination(*parts, images=same).value
        nearer = bound + blur if bound < value else bound - blur
        return combination_p(*parts, nearer + middle - value, same)

    return Estimate(
        value,
        interval(0.95),
        interval(0.9),
        p,
        _counted(1, cells),
        "square-and-add of Wilson intervals over images",
        (value,),
        blur,
        _origins(cells),
    )


def _images(each: Observation) -> tuple[object, ...]:
    """What tells the images that an accuracy is over from others."""
    return (each.split, each.n, *(each.cell.get(axis) for axis in IMAGE_AXES))


def _weights(quantity: Quantity, cells: Cells) -> dict[int, float]:
    """How much the quantity moves with each observation; constant, since it is a weighted sum."""
    places = {id(each): i for i, each in enumerate(_leaves(cells))}
    moved = np.eye(len(places) + 1)[:-1]  # observation i is moved in case i, none in the last
    values = quantity.values(
        {
            text: {key: each.value + moved[places[id(each)]] for key, each in found.items()}
            for text, found in cells.items()
        }
    )
    values = np.broadcast_to(values, len(places) + 1)
    return {name: round(float(values[i] - values[-1]), 12) for name, i in places.items()}


def _drawn(quantity: Quantity, cells: Cells) -> Estimate:
    """Parametric bootstrap: every accuracy is drawn, and what rounding may have moved."""
    value = float(quantity.values(_numbers(cells))[0])
    random = np.random.default_rng(SEED)
    drawn: dict[int, Values] = {}
    for each in _leaves(cells):
        values = np.full(DRAWS, each.value)
        if each.n:
            values = possible(each.value * each.n, each.n, DRAWS, random)
        drawn[id(each)] = values + random.uniform(-each.plus_minus, each.plus_minus, DRAWS)
    draws = quantity.values(
        {
            text: {key: drawn[id(each)] for key, each in found.items()}
            for text, found in cells.items()
        }
    )
    test = f"parametric bootstrap over images, {DRAWS} draws, the wider of percentile and basic"
    ordered, by_order = quantity.ordered(_numbers(cells)), 0.0
    if ordered is not None:
        k = len(ordered[0])
        by_order = permutation_p(*ordered)
        test += f"; {k} places in order: no p below {2 / factorial(k):.2g}"
    return Estimate(
        value,
        drawn_interval(value, draws),
        drawn_interval(value, draws, 0.9),
        lambda bound: max(drawn_p(value, draws, bound), by_order),
        _counted(1, cells),
        test,
        (value,),
        0.0,
        _origins(cells),
    )


def _numbers(cells: Cells) -> Mapping[str, Field]:
    return {
        text: {key: np.array([each.value]) for key, each in found.items()}
        for text, found in cells.items()
    }


def _leaves(cells: Cells) -> list[Observation]:
    """Observations of all terms, each once."""
    found = {id(each): each for cells_of in cells.values() for each in cells_of.values()}
    return list(found.values())


def _counted(repeats: int, cells: Cells) -> str:
    """``25 repeats x 4861 images``."""
    images = sorted({each.n for each in _leaves(cells) if each.n})
    over = f"{images[0]}" if len(images) == 1 else f"{images[0]} to {images[-1]}" if images else ""
    runs = f"{repeats} repeats" if repeats > 1 else "1 run"
    return f"{runs} x {over} images" if over else runs


def _origins(cells: Cells) -> tuple[str, ...]:
    return tuple(sorted({each.origin for each in _leaves(cells) if each.origin}))
