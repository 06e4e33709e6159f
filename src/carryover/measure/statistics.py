"""Intervals and tests for accuracies and for repeats of an experiment.

Every function is pure. A level is the share of intervals that hold the true value, 0.95 for
95 %; every p-value is two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from carryover.errors import DataError

Values = Sequence[float] | NDArray[Any]

TIES = 9  # decimals to which differences of accuracies are equal: 0.9 - 0.8 ties with 0.8 - 0.7
DRAWN_AT_ONCE = 4_000_000  # counts that the bootstrap holds in memory (32 MB)


@dataclass(frozen=True)
class Interval:
    """A value and the bounds of its confidence interval, in the value's unit."""

    value: float
    low: float
    high: float


# --- proportions -------------------------------------------------------------------------------


def wilson(correct: int, n: int, level: float = 0.95) -> Interval:
    """Score interval of a proportion; it stays in 0..1 and has a width at 0 and 1 too.

    (p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z the normal quantile of the level.

    Args:
        correct, n: hits among n independent trials.
    Raises:
        DataError: n is 0, or correct is not in 0..n.
    Source: Wilson 1927; Brown, Cai and DasGupta 2001, eq. 4.
    """
    p = _proportion(correct, n)
    z = _normal_quantile(level)
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    scale = 1 + z * z / n
    low = 0.0 if correct == 0 else (middle - half) / scale
    high = 1.0 if correct == n else (middle + half) / scale
    return Interval(p, low, high)


def proportions_difference(
    correct_a: int, n_a: int, correct_b: int, n_b: int, level: float = 0.95
) -> Interval:
    """Interval of the difference a - b of two independent proportions.

    d - sqrt((p_a - l_a)^2 + (u_b - p_b)^2) .. d + sqrt((u_a - p_a)^2 + (p_b - l_b)^2), where
    l and u are the Wilson bounds. Wider than needed where both are over the same images.

    Raises:
        DataError: as `wilson`.
    Source: Newcombe 1998, Statistics in Medicine 17:873, method 10.
    """
    a, b = wilson(correct_a, n_a, level), wilson(correct_b, n_b, level)
    difference = a.value - b.value
    low = difference - math.hypot(a.value - a.low, b.high - b.value)
    high = difference + math.hypot(a.high - a.value, b.value - b.low)
    return Interval(difference, low, high)


def proportions_p(correct_a: int, n_a: int, correct_b: int, n_b: int) -> float:
    """Chance of a difference at least as large between two equal proportions.

    z = (p_a - p_b) / sqrt(p (1-p) (1/n_a + 1/n_b)), p the proportion of both together.

    Returns:
        1 where the proportions are equal.
    Raises:
        DataError: as `wilson`.
    Source: Fleiss, Levin and Paik 2003, section 3.3 (without continuity correction).
    """
    difference = _proportion(correct_a, n_a) - _proportion(correct_b, n_b)
    if difference == 0:
        return 1.0
    p = (correct_a + correct_b) / (n_a + n_b)
    z = abs(difference) / math.sqrt(p * (1 - p) * (1 / n_a + 1 / n_b))
    return float(2 * special.ndtr(-z))


def _proportion(correct: int, n: int) -> float:
    if n < 1 or not 0 <= correct <= n:
        raise DataError(
            f"expected a count of 0..n among n >= 1, got {correct} among {n}; count again"
        )
    return correct / n


def _normal_quantile(level: float) -> float:
    return float(special.ndtri(_upper(level)))


def _upper(level: float) -> float:
    if not 0 < level < 1:
        raise DataError(
            f"level: expected a share between 0 and 1, got {level}; write 0.95 for 95 %"
        )
    return (1 + level) / 2


# --- repeats -----------------------------------------------------------------------------------


def mean_interval(values: Values, level: float = 0.95) -> Interval:
    """Student's interval of the mean over independent repeats: mean ± t s / sqrt(n).

    Equal values give their value as both bounds.

    Raises:
        DataError: fewer than two repeats, or a value that is not finite.
    """
    return _student_interval(_repeats(values), level, 0.0)


def paired_difference(a: Values, b: Values, level: float = 0.95, step: float = 0.0) -> Interval:
    """Mean of a - b with Student's interval over paired repeats.

    Args:
        a, b: one value a repeat, the same repeats in the same order.
        step: what the values are rounded to, 1/n for an accuracy over n images. The variance of
            a - b is taken to be at least step^2 / 6, which rounding alone gives it: differences
            that are equal only because they were rounded are no certainty.
    Returns:
        With step 0 the difference as both bounds where it is the same in every repeat.
    Raises:
        DataError: different lengths, fewer than two pairs, or a value that is not finite.
    """
    return _student_interval(_differences(a, b), level, step)


def paired_p(a: Values, b: Values, step: float = 0.0) -> float:
    """Chance of a mean of a - b at least as far from 0: paired t test.

    Args:
        a, b, step: as in `paired_difference`.
    Returns:
        1 where the mean is 0; with step 0, 0 where all differences are the same other number.
    Raises:
        DataError: as `paired_difference`.
    """
    x = _differences(a, b)
    middle, error = abs(float(x.mean())), _standard_error(x, step)
    if middle == 0 or error == 0:
        return 1.0 if middle == 0 else 0.0
    return float(2 * special.stdtr(len(x) - 1, -middle / error))


def _student_interval(x: NDArray[np.float64], level: float, step: float) -> Interval:
    half = float(special.stdtrit(len(x) - 1, _upper(level))) * _standard_error(x, step)
    middle = float(x.mean())
    return Interval(middle, middle - half, middle + half)


def _standard_error(x: NDArray[np.float64], step: float) -> float:
    # the mean of equal numbers may be off by rounding, their variance is 0 all the same
    variance = 0.0 if np.all(x == x[0]) else float(x.var(ddof=1))
    return math.sqrt(max(variance, step**2 / 6) / len(x))


def paired_bootstrap(
    a: Values, b: Values, level: float, draws: int, generator: np.random.Generator
) -> Interval:
    """Mean of a - b with the percentile bootstrap interval over pairs.

    A resample of the pairs is a multinomial draw over the distinct differences, so right-or-wrong
    answers of two models on the same images cost a few counts a draw.

    Args:
        a, b: one value an image, the same images in the same order.
        draws: resamples, >= 1; 2,000 fix a 95 % bound to about a tenth of the interval's width.
        generator: moved on by the draws.
    Raises:
        DataError: different lengths, fewer than two pairs, no draws, or a value not finite.
    Source: Efron and Tibshirani 1993, section 13.3.
    """
    x = _differences(a, b)
    upper = _upper(level)
    if draws < 1:
        raise DataError(f"draws: expected 1 or more, got {draws}; 2000 do for a 95 % interval")
    distinct, counts = np.unique(x, return_counts=True)
    share = counts / len(x)
    at_once = max(1, DRAWN_AT_ONCE // len(distinct))
    means = np.concatenate(
        [
            generator.multinomial(len(x), share, size=min(at_once, draws - done)) @ distinct
            for done in range(0, draws, at_once)
        ]
    ) / len(x)
    low, high = np.quantile(means, [1 - upper, upper])
    return Interval(float(x.mean()), float(low), float(high))


def signed_rank_p(a: Values, b: Values) -> float:
    """Chance of signed ranks at least as lopsided: Wilcoxon's test of paired repeats.

    Exact up to 13 pairs, and up to 50 without ties or zeros; differences equal to nine decimals
    tie. `smallest_signed_rank_p` says how small it can get.

    Returns:
        1 where every difference is 0.
    Raises:
        DataError: as `paired_difference`.
    Source: Wilcoxon 1945, as in ``scipy.stats.wilcoxon`` (pairs that are equal are left out).
    """
    from scipy import stats  # takes a third of a second that the other functions need not pay

    x = np.round(_differences(a, b), TIES)
    if not x.any():
        return 1.0
    return _counted_p(x) if len(x) <= 13 else float(stats.wilcoxon(x).pvalue)


def _counted_p(x: NDArray[np.float64]) -> float:
    """As SciPy up to 13 pairs, in a hundredth of its time: counts signs of the ranks by sum."""
    sizes = np.abs(x[x != 0])
    doubled = [int(np.sum(sizes < size) + np.sum(sizes <= size)) + 1 for size in sizes]
    ways = np.ones(1)
    for rank in doubled:
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    plus = sum(rank for rank, value in zip(doubled, x[x != 0], strict=True) if value > 0)
    return min(1.0, 2 * float(min(ways[: plus + 1].sum(), ways[plus:].sum())) / 2 ** len(sizes))


def smallest_signed_rank_p(n: int) -> float:
    """The least p-value that Wilcoxon's test can give for n pairs: 2^(1-n), at most 1.

    Five pairs cannot get below 0.0625, six not below 0.03125.
    """
    return min(1.0, 2.0 ** (1 - n))


def _differences(a: Values, b: Values) -> NDArray[np.float64]:
    if len(a) != len(b):
        raise DataError(
            f"expected paired values, got {len(a)} and {len(b)}; give the same repeats twice"
        )
    return _repeats(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))


def _repeats(values: Values) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        raise DataError(f"expected at least two repeats, got {len(x)}; run more repeats")
    if not np.isfinite(x).all():
        raise DataError(
            f"expected finite values, got {x[~np.isfinite(x)][0]}; leave that repeat out or mend it"
        )
    return x


# --- many tests at once ------------------------------------------------------------------------


def holm(p_values: Values) -> list[float]:
    """P-values adjusted so that the chance of any false alarm among them stays below the level.

    The i-th smallest of n (i from 0) times n - i, never below the one before it, at most 1.

    Returns:
        Adjusted p-values in the order given; compare each with 1 - level.
    Raises:
        DataError: a value outside 0..1.
    Source: Holm 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    wrong = p[~((p >= 0) & (p <= 1))]
    if len(wrong):
        raise DataError(f"expected p-values in 0..1, got {wrong[0]}; mend the test that made it")
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(value) for value in adjusted]
