"""Whether two quantities put the same things in the same order."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from carryover.errors import DataError
from carryover.measure.statistics import Interval

Array = NDArray[np.float64]

EXACT_UP_TO = 8  # things whose orders are counted one by one (40,320)


def spearman(a: Array, b: Array) -> Array:
    """Rank correlation along the last axis, equal values sharing their mean rank.

    Returns:
        -1 (reversed) to 1 (the same order); 0 where a side is constant and so has no order.
    Source: Spearman 1904.
    """
    x, y = (ranks - ranks.mean(-1, keepdims=True) for ranks in (_ranks(a), _ranks(b)))
    size = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    return np.divide((x * y).sum(-1), size, out=np.zeros(size.shape), where=size > 0)


def _ranks(x: Array) -> Array:
    smaller = (x[..., None, :] < x[..., :, None]).sum(-1)
    equal = (x[..., None, :] == x[..., :, None]).sum(-1)
    return np.asarray(smaller + (equal + 1) / 2)


def order_agreement(
    scores: Array, outcomes: Array, level: float, draws: int, generator: np.random.Generator
) -> Interval:
    """Rank correlation of the median score and the mean outcome of some things.

    Args:
        scores, outcomes: ``[repeats, things]``, rows paired.
        level, draws: of the percentile bootstrap over repeats; a draw takes whole rows of both.
        generator: moved on by the draws.
    Returns:
        The interval says what other repeats would have given for these same things. It says
        nothing of other things, and its bounds may leave out the value, which no resample has to
        reach: resampled repeats are fewer different ones, and scatter more.
    Raises:
        DataError: other shapes, fewer than two repeats or three things, or a value not finite.
    Source: Efron and Tibshirani 1993, section 13.3.
    """
    if scores.shape != outcomes.shape or scores.ndim != 2 or min(scores.shape) < 2:
        raise DataError(
            f"expected two tables of the same two or more repeats, got {scores.shape} and "
            f"{outcomes.shape}; give the same repeats twice"
        )
    if scores.shape[1] < 3 or not (np.isfinite(scores).all() and np.isfinite(outcomes).all()):
        raise DataError(
            f"expected finite values of three or more things to order, got {scores.shape[1]}; "
            "compare more layers"
        )
    rows = generator.integers(len(scores), size=(draws, len(scores)))
    drawn = spearman(np.median(scores[rows], 1), outcomes[rows].mean(1))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    value = spearman(np.median(scores, 0), outcomes.mean(0))
    return Interval(float(value), float(low), float(high))


def permutation_p(a: Array, b: Array) -> float:
    """Chance of a rank correlation at least as far from 0 if all orders were equally likely.

    Exact up to 8 things: all orders are counted; beyond, Student's t with n - 2 degrees of freedom.

    Returns:
        Two-sided; at the least 2 / n! without ties, so 0.33 for three things, 0.083 for four.
    Raises:
        DataError: fewer than three things.
    """
    n = len(a)
    if n < 3:
        raise DataError(f"expected three or more things to order, got {n}; compare more layers")
    value = abs(float(spearman(a, b)))
    if n > EXACT_UP_TO:
        t = value * np.sqrt((n - 2) / max(1 - value**2, 1e-12))
        return float(2 * special.stdtr(n - 2, -t))
    orders = np.array(list(permutations(range(n))))
    return float(np.mean(np.abs(spearman(a[orders], b[None])) >= value - 1e-12))
