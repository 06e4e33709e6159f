"""Sums over repeats tested on the same images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from carryover.errors import DataError
from carryover.measure.combined import student
from carryover.measure.crossed import crossed


def tables(seed: int = 0, repeats: int = 3, images: int = 200) -> np.ndarray:
    """What one network has right and another has not: -1, 0 or 1."""
    random = np.random.default_rng(seed)
    hard = random.standard_normal(images)
    by_image = 0.5 * random.standard_normal(images)
    first, second = 0.2 * random.standard_normal((2, repeats, images))
    return (hard + by_image + first > -0.6).astype(float) - (hard + second > -0.5)


def test_the_variance_is_that_of_the_crossed_model() -> None:
    table = tables()
    s, n = table.shape
    m = table.mean()
    repeats = n * ((table.mean(1) - m) ** 2).sum() / (s - 1)  # mean squares
    images = s * ((table.mean(0) - m) ** 2).sum() / (n - 1)
    whole = ((table - m) ** 2).sum()
    rest = (whole - (s - 1) * repeats - (n - 1) * images) / ((s - 1) * (n - 1))
    interval, p = crossed([table], [0.0])
    # without half images the divisor is n (n + 1), with n (n - 1) it is the mean square's
    images *= (n - 1) / (n + 1)
    variance = max(repeats, images, repeats + images - rest) / (s * n)
    df = (s * n * variance) ** 2 / (
        repeats**2 / (s - 1) + images**2 / (n - 1) + rest**2 / ((s - 1) * (n - 1))
    )
    assert interval.value == pytest.approx(m)
    assert interval.high - m == pytest.approx(stats.t.ppf(0.975, df) * variance**0.5)
    assert p == pytest.approx(2 * stats.t.sf(abs(m) / variance**0.5, df))


def test_one_repeat_is_over_images_alone() -> None:
    table = tables(repeats=1)
    n, d = table.shape[1], table.mean()
    interval, p = crossed([table], [1.0])
    off = (((table - d) ** 2).sum() + 1) ** 0.5 / (n * (n + 1)) ** 0.5
    assert interval.high - d == pytest.approx(stats.t.ppf(0.975, n - 1) * off)
    assert (p < 0.05) == (interval.low > 0 or interval.high < 0)


def test_sets_of_their_own_images_add_their_variances() -> None:
    one, two = tables(1, 1) / 2, tables(2, 1, 300) / 2
    both, _ = crossed([one, two], [0.5, 0.5])
    widths = []
    for table in (one, two):
        n = table.shape[1]
        widths.append((((table - table.mean()) ** 2).sum() + 0.25) / (n * (n + 1)))
    assert both.value == pytest.approx(one.mean() + two.mean())
    assert (both.high - both.value) / 1.96 == pytest.approx(sum(widths) ** 0.5, rel=0.01)


def test_equal_tests_differ_by_nothing_but_not_for_certain() -> None:
    interval, p = crossed([np.zeros((3, 100))], [1.0], step=0.01)
    assert (interval.value, p) == (0.0, 1.0)
    assert interval.low == pytest.approx(-interval.high)
    assert 0.01 < interval.high < 0.1


def test_the_interval_holds_the_truth_where_students_over_repeats_does_not() -> None:
    truth = float(np.mean([tables(seed, 20, 2000).mean() for seed in range(1000, 1100)]))
    held = {"crossed": 0, "student": 0}
    for seed in range(400):
        table = tables(seed)
        found = {"crossed": crossed([table], [1.0])[0], "student": student(table.mean(1))[0]}
        for name, interval in found.items():
            held[name] += interval.low <= truth <= interval.high
    assert 0.92 * 400 <= held["crossed"] <= 0.99 * 400
    assert held["student"] < 0.85 * 400


@pytest.mark.parametrize(
    ("sets", "most"),
    [
        ([], []),
        ([np.zeros((3, 10)), np.zeros((2, 10))], [1.0, 1.0]),
        ([np.zeros((3, 1))], [1.0]),
        ([np.zeros((3, 10))], []),
    ],
)
def test_tests_that_do_not_belong_together_are_refused(
    sets: list[np.ndarray], most: list[float]
) -> None:
    with pytest.raises(DataError, match="same repeats"):
        crossed(sets, most)
