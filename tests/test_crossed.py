"""Sums over repeats tested on the same images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from carryover.errors import DataError
from carryover.measure.combined import student
from carryover.measure.crossed import LEAST_P, crossed

IMAGES = 200


def tables(seed: int, shift: float, repeats: int = 3, images: int = IMAGES) -> np.ndarray:
    """What one network has right and another has not: -1, 0 or 1.

    Args:
        shift: deviation of what a repeat adds to every image.
    """
    random = np.random.default_rng(seed)
    hard = random.standard_normal(images)
    by_image = 0.5 * random.standard_normal(images)
    first, second = 0.2 * random.standard_normal((2, repeats, images))
    by_repeat = shift * random.standard_normal((repeats, 1))
    return (hard + by_image + by_repeat + first > -0.6).astype(float) - (hard + second > -0.5)


def variances(table: np.ndarray) -> tuple[float, float, float]:
    """Of the mean, from mean squares: over repeats, over images, and of the rest."""
    s, n = table.shape
    m = table.mean()
    repeats = n * ((table.mean(1) - m) ** 2).sum() / (s - 1)
    images = s * ((table.mean(0) - m) ** 2).sum() / (n - 1)
    whole = ((table - m) ** 2).sum()
    rest = (whole - (s - 1) * repeats - (n - 1) * images) / ((s - 1) * (n - 1))
    return repeats / (s * n), images / (s * n), rest / (s * n)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_reaches_are_those_of_the_parts_of_the_crossed_model(shift: float) -> None:
    table = tables(0, shift)
    repeats, images, rest = variances(table)
    n = table.shape[1]
    images = images * (n - 1) / (n + 1) + 1 / (n * (n + 1))  # with half an image more at both ends
    interval, p = crossed([table], [1.0])

    def reach(level: float) -> float:
        t, z = stats.t.ppf(level, 2), stats.norm.ppf(level)
        return float(max(t**2 * repeats + z**2 * max(images - rest, 0), z**2 * images) ** 0.5)

    assert interval.value == pytest.approx(table.mean())
    assert interval.high - interval.value == pytest.approx(reach(0.975))
    assert reach(1 - p / 2) == pytest.approx(abs(table.mean()))


def test_one_repeat_is_over_images_alone() -> None:
    table = tables(0, 0.0, repeats=1)
    n, d = table.shape[1], table.mean()
    interval, p = crossed([table], [1.0])
    off = (((table - d) ** 2).sum() + 1) ** 0.5 / (n * (n + 1)) ** 0.5
    assert interval.high - d == pytest.approx(1.959964 * off)
    assert p == pytest.approx(2 * stats.norm.sf(abs(d) / off))


def test_sets_of_their_own_images_add_their_variances() -> None:
    one, two = tables(1, 0, 1) / 2, tables(2, 0, 1, 300) / 2
    both, _ = crossed([one, two], [0.5, 0.5])
    parts = [
        (((t - t.mean()) ** 2).sum() + 0.25) / (t.shape[1] * (t.shape[1] + 1)) for t in (one, two)
    ]
    assert both.value == pytest.approx(one.mean() + two.mean())
    assert both.high - both.value == pytest.approx(1.959964 * sum(parts) ** 0.5)


def test_it_is_never_narrower_than_over_repeats_or_over_images_alone() -> None:
    for seed in range(30):
        table = tables(seed, 0.1)
        found, p = crossed([table], [1.0])
        alone, p_alone = student(table.mean(1))
        images, _ = crossed([table.mean(0, keepdims=True)], [1.0])
        assert (
            found.high - found.low >= max(alone.high - alone.low, images.high - images.low) - 1e-9
        )
        assert p >= p_alone - 1e-9


def test_equal_tests_differ_by_nothing_but_not_for_certain() -> None:
    interval, p = crossed([np.zeros((3, 100))], [1.0], step=0.01)
    assert (interval.value, p) == (0.0, pytest.approx(1.0))
    assert interval.low == pytest.approx(-interval.high)
    assert 0.01 < interval.high < 0.1
    assert crossed([np.ones((3, 2000))], [1.0])[1] == LEAST_P


def test_no_bound_is_beyond_what_can_be() -> None:
    interval, _ = crossed([np.array([[1.0, 0.0] * 50, [0.0] * 100])], [1.0])
    assert (interval.low, interval.high) == (-1.0, 1.0)


@pytest.mark.parametrize("ratio", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("repeats", [2, 3, 5])
def test_p_is_no_oftener_below_a_level_than_it_says(repeats: int, ratio: float) -> None:
    """Of sums that are 0; `ratio`: of the variance of repeats to that of images."""
    random = np.random.default_rng(repeats)
    draws, below = 1000, {0.05: 0, 0.002: 0}
    for _ in range(draws):
        by_repeat = random.normal(0, (ratio / IMAGES) ** 0.5, (repeats, 1))
        table = by_repeat + random.standard_normal(IMAGES)
        table = table + 0.7 * random.standard_normal((repeats, IMAGES))
        _, p = crossed([table], [1.0])
        for level in below:
            below[level] += p < level
    for level, count in below.items():
        assert count <= stats.binom.ppf(0.999, draws, level)


def test_the_interval_holds_the_truth_where_students_over_repeats_does_not() -> None:
    truth = float(np.mean([tables(seed, 0, 20, 2000).mean() for seed in range(1000, 1100)]))
    held = {"crossed": 0, "student": 0}
    for seed in range(400):
        table = tables(seed, 0.0)
        found = {"crossed": crossed([table], [1.0])[0], "student": student(table.mean(1))[0]}
        for name, interval in found.items():
            held[name] += interval.low <= truth <= interval.high
    assert held["crossed"] >= 0.95 * 400
    assert held["student"] < 0.85 * 400


@pytest.mark.parametrize(
    ("sets", "most"),
    [
        ([], []),
        ([np.zeros((3, 10)), np.zeros((2, 10))], [1.0, 1.0]),
        ([np.zeros((3, 1))], [1.0]),
        ([np.zeros((3, 10))], []),
        ([np.zeros((3, 10))], [0.0]),
    ],
)
def test_tests_that_do_not_belong_together_are_refused(
    sets: list[np.ndarray], most: list[float]
) -> None:
    with pytest.raises(DataError, match="same repeats"):
        crossed(sets, most)
