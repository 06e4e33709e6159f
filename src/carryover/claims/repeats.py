"""How sure a quantity is that several repeats gave: for other repeats, and other images."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from carryover.claims.cells import Cells, leaves_of, tested_on, weights_of
from carryover.claims.quantity import Quantity
from carryover.measure.combined import student
from carryover.measure.crossed import crossed
from carryover.measure.statistics import Interval

Table = Float[np.ndarray, "repeats n"]


class Sure(NamedTuple):
    """A mean over repeats.

    Attributes:
        interval: at a level, 0.95 for one that holds the truth in 95 %.
        p: two-sided chance of a mean at least as far from a bound if the truth lay on it.
        test: how both are made.
    """

    value: float
    interval: Callable[[float], Interval]
    p: Callable[[float], float]
    test: str


def over_repeats(
    quantity: Quantity, by_repeat: Sequence[Cells], values: Sequence[float], step: float
) -> Sure:
    """For other repeats, and for other test images too where every prediction is at hand.

    A weighted sum of accuracies of which it is known which images each had right is one of means
    over repeats and images (`measure.crossed`). Everything else has Student's interval, on the same
    test images; of a ratio that of its logarithm.

    Args:
        by_repeat, values: what the quantity is made of, and is, in each repeat; two or more.
        step: what a value is rounded to, as in `statistics.paired_difference`; of ratios 0.
    """
    if quantity.linear and (tables := _by_image(quantity, by_repeat)):
        return _crossed(tables, values, step)
    if is_ratio(quantity.tree) and min(values) > 0:
        return _of_ratio(values)
    return Sure(
        float(np.mean(values)),
        lambda level: student(values, step=step, level=level)[0],
        lambda bound: student(values, bound, step)[1],
        "Student's t over repeats, on these test images",
    )


def _by_image(quantity: Quantity, by_repeat: Sequence[Cells]) -> list[tuple[Table, float]]:
    """Of each set what an image adds in each repeat, and how far from 0 that can be.

    None at all where a prediction is not at hand, or sets differ from repeat to repeat.
    """
    repeats: list[dict[tuple[object, ...], list[tuple[Bool[np.ndarray, " n"], float]]]] = []
    for cells in by_repeat:
        weights = weights_of(quantity, cells)
        repeats.append({})
        for each in leaves_of(cells):
            if not weights[id(each)]:
                continue
            if each.right is None:
                return []
            told = repeats[-1].setdefault(tested_on(each), [])
            told.append((each.right, weights[id(each)]))
    if any(sets.keys() != repeats[0].keys() for sets in repeats):
        return []
    return [
        (
            np.stack([np.sum([w * right for right, w in sets[name]], axis=0) for sets in repeats]),
            max(abs(math.fsum(w for _, w in told if sign * w > 0)) for sign in (1, -1)),
        )
        for name, told in repeats[0].items()
    ]


def _crossed(tables: Sequence[tuple[Table, float]], values: Sequence[float], step: float) -> Sure:
    sets, most = [table for table, _ in tables], [end for _, end in tables]
    value = float(np.mean(values))
    beside = value - math.fsum(float(table.mean()) for table in sets)  # numbers of the quantity

    def interval(level: float) -> Interval:
        found, _ = crossed(sets, most, step, level)
        return Interval(value, found.low + beside, found.high + beside)

    def p(bound: float) -> float:
        return crossed([sets[0] + (beside - bound), *sets[1:]], most, step)[1]

    return Sure(
        value, interval, p, "repeats and test images both samples (crossed), paired by both"
    )


def _of_ratio(values: Sequence[float]) -> Sure:
    """Student's of the logarithm.

    A ratio of two numbers above 0 has no end but 0: the interval of the mean logarithm is one of
    the geometric mean, which lies above 0 and is that of the inverse ratio turned over.

    Source: Bland and Altman 1996, BMJ 312:1153 (a ratio from a difference of mean logarithms).
    """
    logs = [math.log(value) for value in values]

    def interval(level: float) -> Interval:
        found, _ = student(logs, level=level)
        return Interval(*(math.exp(end) for end in (found.value, found.low, found.high)))

    def p(bound: float) -> float:
        return student(logs, math.log(bound))[1] if bound > 0 else 0.0

    return Sure(
        interval(0.95).value,
        interval,
        p,
        "Student's t of the ratio's logarithm over repeats, on these test images",
    )


def is_ratio(tree: ast.expr) -> bool:
    """Whether a quantity is one of its parts divided by another, both with terms of rows."""
    return (
        isinstance(tree, ast.BinOp)
        and isinstance(tree.op, ast.Div)
        and all(
            any(isinstance(node, ast.Call) for node in ast.walk(side))
            for side in (tree.left, tree.right)
        )
    )
