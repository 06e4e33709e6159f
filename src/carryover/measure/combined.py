"""Intervals, tests and verdicts of quantities that are made of several accuracies or repeats.

`statistics` has one proportion, the difference of two, and paired repeats. Here are sums and
differences of any number of proportions, other functions of them, and what follows for a claim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from carryover.errors import DataError
from carryover.measure.statistics import Interval, Values, paired_difference, paired_p, wilson

Proportions = Sequence[tuple[int, int]]  # (correct, n), counts of one test each
Decision = Literal["reproduced", "not reproduced", "inconclusive"]
Side = Literal["above", "below"]

LEAST_P = 1e-12  # a smaller one is lost in the last digits of a level near 1
HALVINGS = 40  # of the logarithm of p: to a billionth of it


# --- proportions -------------------------------------------------------------------------------


def combination(
    proportions: Proportions,
    weights: Sequence[float],
    level: float = 0.95,
    images: Sequence[int] | None = None,
) -> Interval:
    """Interval of a weighted sum of proportions: squares of the Wilson bounds' distances, added.

    theta - sqrt(sum d_i^2) .. theta + sqrt(sum u_i^2), where theta = sum w_i p_i, and d_i and u_i
    are how far w_i times the Wilson bounds of p_i reach below and above w_i p_i.

    Args:
        proportions: counts of tests that are independent, but for those that `images` names.
        weights: one a proportion, of either sign; 1/k each for a mean of k, 1 and -1 for a
            difference.
        images: a number for the images that each test was over. Tests of several networks on the
            same images err together: terms of one sign are then taken to move as one, which is
            the widest that a correlation of 0 or more can make them; terms of different signs are
            still taken as independent, which is too wide. None: all images are different.
    Returns:
        `wilson` for one proportion of weight 1, `proportions_difference` for weights 1 and -1.
    Raises:
        DataError: no proportions, another number of weights or images, a weight that is not
            finite, a count outside 0..n, or a level outside 0..1.
    Source: Newcombe 1998, Statistics in Medicine 17:873; Zou and Donner 2008, Statistics in
        Medicine 27:1693.
    """
    w = _weights(proportions, weights)
    groups = range(len(w)) if images is None else images
    if len(groups) != len(w):
        raise DataError(
            f"expected the images of each of {len(w)} proportions, got {len(groups)}; number them"
        )
    value = 0.0
    below: dict[tuple[int, bool], float] = {}
    above: dict[tuple[int, bool], float] = {}
    for (correct, n), weight, group in zip(proportions, w, groups, strict=True):
        one = wilson(correct, n, level)
        ends = sorted((weight * one.low, weight * one.high))
        middle = weight * one.value
        value += middle
        key = (group, weight > 0)
        below[key] = below.get(key, 0.0) + middle - ends[0]
        above[key] = above.get(key, 0.0) + ends[1] - middle
    return Interval(value, value - math.hypot(*below.values()), value + math.hypot(*above.values()))


def combination_p(
    proportions: Proportions,
    weights: Sequence[float],
    null: float = 0.0,
    images: Sequence[int] | None = None,
) -> float:
    """Chance of a weighted sum at least as far from `null` if that were its true value.

    The p at which the interval of level 1 - p just reaches `null`; intervals of higher levels
    hold those of lower ones, so it is found by halving. It is below 0.05 just where `null` lies
    outside the 95 % interval.

    Args:
        proportions, weights, images: as in `combination`.
    Returns:
        Two-sided; 1 where the sum is `null`, 0 below 1e-12.
    Raises:
        DataError: as `combination`.
    """

    def outside(p: float) -> bool:
        interval = combination(proportions, weights, 1 - p, images)
        return null < interval.low or null > interval.high

    if combination(proportions, weights, images=images).value == null:
        return 1.0
    if outside(LEAST_P):
        return 0.0
    low, high = math.log(LEAST_P), 0.0  # null is inside at low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if math.exp(middle) == 1:  # `null` is the sum but for rounding
            return 1.0
        low, high = (low, middle) if outside(math.exp(middle)) else (middle, high)
    return math.exp(high)


def _weights(proportions: Proportions, weights: Sequence[float]) -> list[float]:
    if not proportions or len(weights) != len(proportions):
        raise DataError(
            f"expected one weight for each of one or more proportions, got {len(weights)} for "
            f"{len(proportions)}; give 1 and -1 for a difference"
        )
    if not all(math.isfinite(weight) for weight in weights):
        raise DataError(f"expected finite weights, got {list(weights)}; leave that term out")
    return [float(weight) for weight in weights]


def drawn_interval(
    value: float, draws: Float[np.ndarray, " draws"], level: float = 0.95
) -> Interval:
    """Interval of a value from draws about it, for functions that are no weighted sum.

    The highest of nearly equal proportions comes out too high, and higher still when drawn again.
    So the interval reaches over that of the percentiles and over its mirror image about the value
    (the basic bootstrap), which takes the same bias out.

    Args:
        draws: the function of proportions drawn from what their counts leave possible.
    Source: Efron and Tibshirani 1993, section 13.3; Davison and Hinkley 1997, section 5.2.
    """
    low, high = map(float, np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]))
    return Interval(value, min(low, 2 * value - high), max(high, 2 * value - low))


def drawn_p(value: float, draws: Float[np.ndarray, " draws"], null: float) -> float:
    """Twice the share of draws, or of their mirror images, on the rarer side of `null`.

    Returns:
        Two-sided, at most 1, at least 2 / (draws + 1): `null` itself counts as one more draw.
    """
    rarer = max(
        min(np.count_nonzero(side <= null), np.count_nonzero(side >= null))
        for side in (draws, 2 * value - draws)
    )
    return min(1.0, 2 * (rarer + 1) / (len(draws) + 1))


def possible(
    correct: float, n: int, draws: int, generator: np.random.Generator
) -> Float[np.ndarray, " draws"]:
    """Proportions that a count leaves possible: beta, with correct + 1/2 and n - correct + 1/2.

    They have a width at 0 and 1 too, where counts drawn anew would always be the same.

    Source: Brown, Cai and DasGupta 2001 (Jeffreys).
    """
    return generator.beta(correct + 0.5, n - correct + 0.5, draws)


# --- repeats -----------------------------------------------------------------------------------


def student(
    values: Values, null: float = 0.0, step: float = 0.0, level: float = 0.95
) -> tuple[Interval, float]:
    """Student's interval of a mean over repeats, and the chance of a mean as far from `null`.

    Args:
        values: the quantity in each repeat; two or more.
        step: what it is rounded to, as in `paired_difference`: equal only because rounded is no
            certainty.
    Returns:
        The interval, and the two-sided p; with step 0 and equal values the value as both bounds,
        and 1 or 0.
    Raises:
        DataError: fewer than two repeats, or a value not finite.
    """
    against = [null] * len(values)
    off = paired_difference(values, against, level, step)
    interval = Interval(off.value + null, off.low + null, off.high + null)
    return interval, paired_p(values, against, step)


# --- verdicts ----------------------------------------------------------------------------------


def decide_value(
    interval90: Interval, interval95: Interval, expected: float, margin: float
) -> Decision:
    """Whether a quantity lies within `margin` of `expected`.

    Reproduced where the 90 % interval lies within, ends included: two one-sided tests at 5 %
    each, so a quantity that is really `margin` off passes in 5 % of cases at most. Not
    reproduced where the 95 % interval lies outside altogether.

    Args:
        interval90, interval95: of the same data.
        margin: >= 0, in the quantity's unit.
    Raises:
        DataError: a negative margin, or intervals in the wrong order.
    Source: Schuirmann 1987.
    """
    if not margin >= 0:
        raise DataError(f"margin: expected 0 or more, got {margin}; give 0.02 for 2 points")
    if interval90.low < interval95.low or interval90.high > interval95.high:
        raise DataError(
            "expected the 90 % interval within the 95 % one, got "
            f"{interval90.low:.4g}..{interval90.high:.4g} and "
            f"{interval95.low:.4g}..{interval95.high:.4g}; give them in this order"
        )
    low, high = expected - margin, expected + margin
    if low <= interval90.low and interval90.high <= high:
        return "reproduced"
    if interval95.high < low or interval95.low > high:
        return "not reproduced"
    return "inconclusive"


def decide_side(interval95: Interval, bound: float, side: Side) -> Decision:
    """Whether a quantity lies above or below `bound`: where its whole 95 % interval lies.

    A quantity that is really at the bound is called reproduced in 2.5 % of cases, and not
    reproduced in as many.
    """
    if interval95.low > bound:
        return "reproduced" if side == "above" else "not reproduced"
    if interval95.high < bound:
        return "reproduced" if side == "below" else "not reproduced"
    return "inconclusive"
