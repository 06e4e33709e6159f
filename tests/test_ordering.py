from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from carryover.errors import DataError
from carryover.measure.ordering import order_agreement, permutation_p, spearman


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_rank_correlation_by_hand() -> None:
    # ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * 4 / (4 * 15)
    assert spearman(np.array([0.1, 0.2, 0.3, 0.4]), np.array([5.0, 1.0, 9.0, 7.0])) == (
        pytest.approx(0.6)
    )


def test_rank_correlation_is_scipys_with_ties_too() -> None:
    random = draws(1)
    for _ in range(30):
        a, b = random.integers(5, size=(2, 7)).astype(float)
        expected = stats.spearmanr(a, b).statistic if a.std() and b.std() else 0.0
        assert spearman(a, b) == pytest.approx(expected)


def test_rank_correlation_takes_any_increasing_change_and_a_constant_has_no_order() -> None:
    a, b = draws(2).normal(size=(2, 6))
    assert spearman(np.exp(a), 3 * b) == spearman(a, b)
    assert spearman(a, -a) == -1
    assert spearman(a, np.ones(6)) == 0


def test_the_interval_is_over_repeats_of_median_and_mean() -> None:
    things = np.arange(5.0)
    sure = np.tile(things, (6, 1)) + 0.01 * draws(3).normal(size=(6, 5))
    found = order_agreement(sure, sure[:, ::-1], 0.95, 200, draws())
    assert (found.value, found.low, found.high) == (-1, -1, -1)
    loose = things + 3 * draws(4).normal(size=(6, 5))
    found = order_agreement(loose, sure, 0.95, 500, draws())
    assert found.value == spearman(np.median(loose, 0), sure.mean(0))
    assert found.low < found.value <= found.high
    # slow and plain, the same draws
    rows = draws().integers(6, size=(500, 6))
    plain = [
        stats.spearmanr(np.median(loose[index], 0), sure[index].mean(0)).statistic for index in rows
    ]
    assert found.low == pytest.approx(np.quantile(plain, 0.025))


def test_the_order_test_by_hand() -> None:
    a = np.array([1.0, 2.0, 3.0])
    assert permutation_p(a, a) == pytest.approx(2 / 6)  # in order or reversed, of 3! orders
    assert permutation_p(a, np.ones(3)) == 1
    six = np.arange(6.0)
    assert permutation_p(six, -six) == pytest.approx(2 / 720)


def test_the_order_test_keeps_its_level() -> None:
    random = draws(5)
    found = [permutation_p(*random.normal(size=(2, 6))) for _ in range(400)]
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_with_many_things_the_order_test_is_scipys() -> None:
    a, b = draws(6).normal(size=(2, 12))
    assert permutation_p(a, b) == pytest.approx(stats.spearmanr(a, b).pvalue)


def test_what_has_no_order_is_refused() -> None:
    ones = np.ones((3, 4))
    with pytest.raises(DataError, match=r"two or more repeats, got \(3, 4\) and \(2, 4\)"):
        order_agreement(ones, ones[:2], 0.95, 10, draws())
    with pytest.raises(DataError, match="three or more things to order, got 2"):
        order_agreement(ones[:, :2], ones[:, :2], 0.95, 10, draws())
    with pytest.raises(DataError, match="three or more things to order, got 2"):
        permutation_p(np.ones(2), np.ones(2))
