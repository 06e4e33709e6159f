"""Which cuts, layers or settings differ: signed-rank tests of every pair, ranks and letters.

A column holds the repeats of one key (a cut, a layer); columns are paired by position. Two forms
stand side by side. ``published_…`` does what the original study did, defects included: each test
at its own level however many there are, and groups in which one cut stands for all. The others
correct for the number of tests and never call two cuts alike that a test tells apart.

Source: ``tusharmanekar/mp-tl-study`` at 8c95619 for the published forms.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from carryover.errors import DataError
from carryover.measure.statistics import TIES, holm, signed_rank_p, smallest_signed_rank_p

K = TypeVar("K")

EXACT_UP_TO = 25  # pairs, in the SciPy 1.7.3 that printed the original's tables


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's two-sided signed-rank test of two paired columns.

    Attributes:
        statistic: the smaller of the rank sums of positive and of negative differences.
        p: 1 where the columns are equal.
        n: pairs, those without a difference included.
    """

    statistic: float
    p: float
    n: int

    @property
    def smallest_p(self) -> float:
        """The least p that this many pairs can give; above the level, nothing can differ."""
        return smallest_signed_rank_p(self.n)


Test = Callable[[Sequence[float], Sequence[float]], SignedRank]


# --- one pair of columns -----------------------------------------------------------------------


def signed_rank(a: Sequence[float], b: Sequence[float]) -> SignedRank:
    """Whether paired repeats differ, with ties and equal pairs treated as today's SciPy does.

    Raises:
        DataError: different lengths, fewer than two pairs, or a value that is not finite.
    """
    p = signed_rank_p(a, b)
    return SignedRank(min(_rank_sums(np.round(np.asarray(a) - np.asarray(b), TIES))), p, len(a))


def published_signed_rank(a: Sequence[float], b: Sequence[float]) -> SignedRank:
    """The test that printed the original's tables.

    The longer column is cut to the length of the shorter. Up to 25 pairs that all differ, p is
    exact for ranks without ties, read at the positive rank sum rounded down; otherwise it is the
    normal approximation. Columns without pairs or without differences give p = 1.

    Raises:
        DataError: a value that is not finite.
    Source: SciPy 1.7.3, ``scipy.stats.wilcoxon``.
    """
    n = min(len(a), len(b))
    x = np.asarray(a[:n], dtype=np.float64) - np.asarray(b[:n], dtype=np.float64)
    if not np.isfinite(x).all():
        raise DataError(
            f"expected finite values, got {x[~np.isfinite(x)][0]} as a difference; leave that "
            "repeat out or mend it"
        )
    plus, minus = _rank_sums(x)
    if not x.any():
        p = 1.0
    elif n <= EXACT_UP_TO and x.all():
        p = _exact_p(int(plus), n)
    else:
        p = _normal_p(x, min(plus, minus))
    return SignedRank(min(plus, minus), p, n)


def _rank_sums(x: NDArray[Any]) -> tuple[float, float]:
    """Rank sums of the positive and of the negative differences; equal sizes share their rank."""
    x = x[x != 0]
    sizes = np.abs(x)
    ranks = [(np.sum(sizes < size) + np.sum(sizes <= size) + 1) / 2 for size in sizes]
    return (
        float(sum(rank for rank, sign in zip(ranks, x, strict=True) if sign > 0)),
        float(sum(rank for rank, sign in zip(ranks, x, strict=True) if sign < 0)),
    )


def _exact_p(plus: int, n: int) -> float:
    """Twice the smaller tail at a positive rank sum, all 2^n signs of the ranks 1..n alike."""
    ways = np.ones(1)
    for rank in range(1, n + 1):
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    return min(1.0, 2 * float(min(ways[: plus + 1].sum(), ways[plus:].sum())) / 2**n)


def _normal_p(x: NDArray[np.float64], statistic: float) -> float:
    """P from the normal approximation without continuity correction, variance less its ties."""
    _, ties = np.unique(np.abs(x[x != 0]), return_counts=True)
    n = int(ties.sum())
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((ties**3 - ties).sum()) / 48
    return float(2 * special.ndtr((statistic - n * (n + 1) / 4) / np.sqrt(variance)))


# --- all pairs of columns ----------------------------------------------------------------------


def between(
    columns: Mapping[K, Sequence[float]], test: Test = signed_rank
) -> dict[tuple[K, K], SignedRank]:
    """The test of every pair of columns, pairs in the order of the keys.

    Raises:
        DataError: as the test.
    """
    return {(a, b): test(columns[a], columns[b]) for a, b in combinations(columns, 2)}


def holm_p(tests: Mapping[K, SignedRank]) -> dict[K, float]:
    """Their p-values, adjusted for how many tests there are (Holm)."""
    return dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))


def published_ranks(columns: Mapping[K, Sequence[float]], alpha: float = 0.05) -> dict[K, int]:
    """Rank of each column's group as printed in the original's box plots, the best group 1.

    Each column starts as a group of its own, in the order of the keys (the baseline, cut -1,
    first). For distance 1, 2, ... among the groups that are left, from the last group to the
    first: two groups that far apart become one where `published_signed_rank` of their first
    members gives p >= alpha. So a group's members need not be alike, and the order of the keys
    matters. Groups are ranked by the mean of their columns' means.

    Raises:
        DataError: a value that is not finite.
    Source: groups as in the original's tables; the direction within a distance is the one that
        gives all 35 rows of ranks that it printed.
    """
    groups = [[key] for key in columns]
    distance = 1
    while distance < len(groups):
        for i in reversed(range(len(groups) - distance)):
            j = i + distance
            if j < len(groups):
                test = published_signed_rank(columns[groups[i][0]], columns[groups[j][0]])
                if test.p >= alpha:
                    groups[i] += groups.pop(j)
        distance += 1
    means = {key: float(np.mean(values)) for key, values in columns.items()}
    groups.sort(key=lambda group: -float(np.mean([means[key] for key in group])))
    ranks = {key: rank for rank, group in enumerate(groups, 1) for key in group}
    return {key: ranks[key] for key in columns}


def letters(
    columns: Mapping[K, Sequence[float]], alpha: float = 0.05, corrected: bool = True
) -> dict[K, str]:
    """Compact letter display: two columns share a letter where no test tells them apart.

    Every largest set of columns that are all alike, pair by pair, has a letter; ``a`` goes to the
    set with the highest mean. Alike means p >= alpha, so with few repeats all columns may share
    one letter: `smallest_signed_rank_p` says when no test could have told any apart.

    Args:
        corrected: adjust the p-values for the number of pairs (Holm).
    Returns:
        One or more letters a column, in the order of the keys.
    Raises:
        DataError: as `signed_rank`.
    Source: Piepho 2004, insert and absorb.
    """
    tests = between(columns)
    p = holm_p(tests) if corrected else {pair: test.p for pair, test in tests.items()}
    alike = [frozenset(columns)]
    for pair in (pair for pair in tests if p[pair] < alpha):
        split = [part for group in alike for part in _without(group, pair)]
        alike = [g for g in dict.fromkeys(split) if not any(g < other for other in split)]
    best_first = sorted(columns, key=lambda key: -float(np.mean(columns[key])))
    alike.sort(key=lambda group: [i for i, key in enumerate(best_first) if key in group])
    return {
        key: "".join(_letter(i) for i, group in enumerate(alike) if key in group) for key in columns
    }


def _without(group: frozenset[K], pair: tuple[K, K]) -> list[frozenset[K]]:
    """The group, or without either of two members that are told apart."""
    return [group - {key} for key in pair] if group.issuperset(pair) else [group]


def _letter(i: int) -> str:
    """a to z, A to Z, then the same with a prime."""
    rounds, place = divmod(i, len(string.ascii_letters))
    return string.ascii_letters[place] + "'" * rounds


# --- two settings ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contrast:
    """The test of two settings at one key, and which has the higher mean.

    Attributes:
        p: the test's p, adjusted where that was asked for.
        higher: ``none`` where p is not below the level.
    """

    test: SignedRank
    p: float
    higher: Literal["first", "second", "none"]


def settings_test(
    first: Mapping[K, Sequence[float]],
    second: Mapping[K, Sequence[float]],
    alpha: float = 0.05,
    corrected: bool = True,
    test: Test = signed_rank,
) -> dict[K, Contrast]:
    """Whether two settings differ at each key that both have, in the order of `first`.

    Args:
        corrected: adjust the p-values for the number of keys (Holm); as published: False.
        test: `signed_rank`, or `published_signed_rank` as published.
    Raises:
        DataError: no key in both, or as the test.
    """
    tests = {key: test(first[key], second[key]) for key in first if key in second}
    if not tests:
        raise DataError(
            f"expected keys that both settings have, got {list(first)} and {list(second)}; compare "
            "settings with cuts in common"
        )
    p = holm_p(tests) if corrected else {key: test.p for key, test in tests.items()}
    return {
        key: Contrast(test, p[key], _higher(first[key], second[key], p[key] < alpha))
        for key, test in tests.items()
    }


def _higher(
    first: Sequence[float], second: Sequence[float], significant: bool
) -> Literal["first", "second", "none"]:
    if not significant:
        return "none"
    return "first" if np.mean(first) > np.mean(second) else "second"
