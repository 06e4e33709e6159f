"""How sure a quantity is by its values in several repeats; of ratios by their logarithms."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from carryover.measure.combined import student
from carryover.measure.statistics import Interval


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


def over_repeats(tree: ast.expr, values: Sequence[float], step: float) -> Sure:
    """Student's, for other repeats on the same test images; of a ratio that of its logarithm.

    A ratio of two quantities above 0 has no end but 0: the interval of the mean logarithm is one of
    the geometric mean, which lies above 0 and is that of the inverse ratio turned over.

    Args:
        tree: the quantity as Python reads it.
        values: the quantity in each repeat; two or more.
        step: what a value is rounded to, as in `statistics.paired_difference`; of ratios 0.
    Source: Bland and Altman 1996, BMJ 312:1153 (a ratio from a difference of mean logarithms).
    """
    if not (is_ratio(tree) and min(values) > 0):
        return Sure(
            float(np.mean(values)),
            lambda level: student(values, step=step, level=level)[0],
            lambda bound: student(values, bound, step)[1],
            "Student's t over repeats, on these test images",
        )
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
