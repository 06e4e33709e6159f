"""measure/combined.py: sums and functions of proportions, and verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from carryover.errors import DataError
from carryover.measure.combined import (
    combination,
    combination_p,
    decide_side,
    decide_value,
    drawn_interval,
    drawn_p,
    possible,
    student,
)
from carryover.measure.statistics import (
    Interval,
    mean_interval,
    paired_difference,
    proportions_difference,
    wilson,
)

HALF = 0.349961  # of the Wilson interval of 2 among 4
COUNTS = [(56, 70), (48, 80), (0, 12), (30, 30)]
WEIGHTS = [0.5, -1.0, 0.25, 2.0]


def parts(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


# --- combination -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [*COUNTS, (3, 17)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_one_proportion_of_weight_one_has_the_wilson_interval(
    count: tuple[int, int], level: float
) -> None:
    assert parts(combination([count], [1], level)) == pytest.approx(parts(wilson(*count, level)))


def test_weights_one_and_minus_one_give_the_difference_of_two_proportions() -> None:
    for a in COUNTS:
        for b in COUNTS:
            expected = parts(proportions_difference(*a, *b))
            assert parts(combination([a, b], [1, -1])) == pytest.approx(expected, abs=1e-15)


def test_mean_of_two_halves_worked_out_by_hand() -> None:
    # each bound is HALF / 2 away, and sqrt(2) of that together
    both = combination([(2, 4), (2, 4)], [0.5, 0.5])
    half = HALF / math.sqrt(2)
    assert parts(both) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-6)


def test_tests_of_the_same_images_add_their_bounds_where_they_have_one_sign() -> None:
    mean = combination([(2, 4), (2, 4)], [0.5, 0.5], images=[7, 7])
    assert parts(mean) == pytest.approx((0.5, 0.5 - HALF, 0.5 + HALF), abs=1e-6)
    difference = combination([(2, 4), (2, 4)], [1, -1], images=[7, 7])
    assert difference == combination([(2, 4), (2, 4)], [1, -1])
    three = combination([(2, 4)] * 3, [1, 1, 1], images=[0, 0, 1])
    assert three.high - 1.5 == pytest.approx(math.hypot(2 * HALF, HALF), abs=1e-6)


def test_turning_all_signs_turns_the_interval() -> None:
    one = combination(COUNTS, WEIGHTS)
    other = combination(COUNTS, [-weight for weight in WEIGHTS])
    assert parts(other) == pytest.approx((-one.value, -one.high, -one.low))


def test_order_of_the_terms_and_terms_of_weight_zero_do_not_matter() -> None:
    one = combination(COUNTS, WEIGHTS)
    other = combination([*COUNTS[::-1], (1, 3)], [*WEIGHTS[::-1], 0.0])
    assert parts(other) == pytest.approx(parts(one))


def test_interval_of_many_images_is_that_of_the_normal_distribution() -> None:
    p, n = np.array([0.3, 0.8, 0.55]), np.array([400_000, 900_000, 250_000])
    w = np.array([0.5, -2.0, 1.0])
    half = 1.959964 * math.sqrt(float(w**2 @ (p * (1 - p) / n)))
    counts = [(round(a * b), int(b)) for a, b in zip(p, n, strict=True)]
    found = combination(counts, list(w))
    middle = float(w @ p)
    assert parts(found) == pytest.approx((middle, middle - half, middle + half), abs=0.01 * half)


@pytest.mark.parametrize(
    ("counts", "weights", "said"),
    [
        ([], [], "expected one weight for each of one or more proportions, got 0 for 0"),
        ([(1, 2)], [1, 2], "expected one weight for each .* got 2 for 1; give 1 and -1"),
        ([(1, 2)], [math.inf], r"expected finite weights, got \[inf\]"),
        ([(3, 2)], [1], "expected a count .* got 3 among 2"),
    ],
)
def test_sums_that_cannot_be_are_refused(
    counts: list[tuple[int, int]], weights: list[float], said: str
) -> None:
    for function in (combination, combination_p):
        with pytest.raises(DataError, match=said):
            function(counts, weights)


def test_another_number_of_images_is_refused() -> None:
    with pytest.raises(DataError, match="the images of each of 2 proportions, got 1; number them"):
        combination([(1, 2), (1, 2)], [1, 1], images=[0])


# --- combination_p -----------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("images", [None, [0, 0, 1, 1]])
def test_p_at_the_bound_of_an_interval_is_one_minus_its_level(
    level: float, images: list[int] | None
) -> None:
    interval = combination(COUNTS, WEIGHTS, level, images)
    for bound in (interval.low, interval.high):
        found = combination_p(COUNTS, WEIGHTS, bound, images)
        assert found == pytest.approx(1 - level, rel=1e-6)


def test_p_is_below_five_per_cent_just_where_the_interval_leaves_the_null_out() -> None:
    generator = np.random.default_rng(0)
    outside = 0
    for _ in range(60):
        n = generator.integers(5, 60, size=3)
        counts = [(int(generator.integers(0, k + 1)), int(k)) for k in n]
        weights = list(generator.normal(size=3))
        interval = combination(counts, weights)
        null = interval.value + generator.uniform(-1.8, 1.8) * (interval.high - interval.value)
        is_out = not interval.low <= null <= interval.high
        assert (combination_p(counts, weights, null) < 0.05) == is_out
        outside += is_out
    assert 10 < outside < 50


def test_p_of_one_proportion_is_that_of_the_score_test() -> None:
    # z = (30/80 - 1/2) / sqrt(1/4 / 80)
    z = (30 / 80 - 0.5) / math.sqrt(0.25 / 80)
    expected = 2 * stats.norm.cdf(z)
    assert combination_p([(30, 80)], [1], 0.5) == pytest.approx(expected, rel=1e-6)


def test_p_is_one_at_the_sum_and_zero_far_from_it() -> None:
    assert combination_p([(1, 2)], [1], 0.5) == 1.0
    assert combination_p([(1, 10)] * 3, [1, 1, 1], 0.3) == pytest.approx(1.0, abs=1e-6)
    assert combination_p([(1, 2)], [1], 1.5) == 0.0


# --- draws -------------------------------------------------------------------------------------


def test_what_a_count_leaves_possible_has_the_quantiles_of_its_beta_distribution() -> None:
    draws = possible(9, 40, 40_000, np.random.default_rng(0))
    expected = stats.beta.ppf([0.05, 0.95], 9.5, 31.5)
    assert np.quantile(draws, [0.05, 0.95]) == pytest.approx(expected, abs=0.002)
    assert 0.9 < possible(40, 40, 4000, np.random.default_rng(0)).mean() < 0.999


def test_the_interval_of_draws_reaches_over_their_mirror_image_too() -> None:
    draws = np.linspace(0.0, 1.0, 1001)
    assert parts(drawn_interval(0.5, draws, 0.9)) == pytest.approx((0.5, 0.05, 0.95))
    assert parts(drawn_interval(0.3, draws, 0.9)) == pytest.approx((0.3, -0.35, 0.95))


def test_the_interval_of_a_sums_draws_agrees_with_the_squares_that_are_added() -> None:
    counts, weights = [(300, 448), (350, 448), (120, 400)], [0.5, 0.5, -1.0]
    random = np.random.default_rng(1)
    drawn = sum(w * possible(*c, 40_000, random) for c, w in zip(counts, weights, strict=True))
    expected = combination(counts, weights)
    found = drawn_interval(expected.value, np.asarray(drawn))
    assert parts(found) == pytest.approx(parts(expected), abs=0.005)


def test_the_p_of_draws_is_small_where_the_interval_leaves_the_null_out() -> None:
    draws = possible(9, 40, 2000, np.random.default_rng(0))
    interval = drawn_interval(9 / 40, draws)
    for bound in (interval.low, interval.high):
        assert drawn_p(9 / 40, draws, bound) == pytest.approx(0.05, abs=0.002)
    assert drawn_p(9 / 40, draws, 0.23) > 0.8
    assert drawn_p(9 / 40, draws, 0.99) == 2 / 2001


# --- student -----------------------------------------------------------------------------------


def test_student_worked_out_by_hand() -> None:
    # t = 2 sqrt(3) on two degrees of freedom: p = 1 - t / sqrt(t^2 + 2)
    interval, p = student([1.0, 2.0, 3.0])
    assert parts(interval) == pytest.approx((2, -0.48414, 4.48414), abs=1e-5)
    assert p == pytest.approx(1 - math.sqrt(12 / 14))


def test_student_of_a_null_moves_the_p_and_not_the_interval() -> None:
    values = [0.71, 0.74, 0.69, 0.77, 0.72]
    interval, p = student(values, 0.7)
    assert parts(interval) == pytest.approx(parts(mean_interval(values)))
    assert p == pytest.approx(stats.ttest_1samp(values, 0.7).pvalue)


def test_student_takes_equal_values_for_rounded_ones() -> None:
    exact, sure = student([0.5, 0.5, 0.5], 0.4)
    assert (parts(exact), sure) == ((pytest.approx(0.5),) * 3, pytest.approx(0.0))
    rounded, p = student([0.5, 0.5, 0.5], 0.4, step=0.1)
    expected = paired_difference([0.5] * 3, [0.4] * 3, step=0.1)
    assert rounded.high - rounded.low == pytest.approx(expected.high - expected.low)
    assert 0 < p < 0.1


def test_student_of_one_repeat_is_refused() -> None:
    with pytest.raises(DataError, match="expected at least two repeats, got 1"):
        student([0.5], 0.4)


# --- verdicts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("middle", "verdict"),
    [
        (0.50, "reproduced"),
        (0.51, "reproduced"),  # 90 %: 0.50 to 0.52, up to the margin
        (0.515, "inconclusive"),
        (0.53, "inconclusive"),  # 95 %: 0.518 to 0.542, still touches
        (0.533, "not reproduced"),
        (0.467, "not reproduced"),
    ],
)
def test_value_is_decided_by_where_its_intervals_lie(middle: float, verdict: str) -> None:
    inner = Interval(middle, middle - 0.01, middle + 0.01)
    outer = Interval(middle, middle - 0.012, middle + 0.012)
    assert decide_value(inner, outer, 0.5, 0.02) == verdict


def test_wide_interval_decides_nothing() -> None:
    wide = Interval(0.5, 0.1, 0.9)
    assert decide_value(wide, wide, 0.5, 0.02) == "inconclusive"
    assert decide_side(wide, 0.4, "above") == "inconclusive"


def test_a_point_decides_with_no_margin() -> None:
    point = Interval(0.0, 0.0, 0.0)
    assert decide_value(point, point, 0.0, 0.0) == "reproduced"
    assert decide_value(point, point, 0.1, 0.0) == "not reproduced"


def test_value_refuses_a_negative_margin_and_swapped_intervals() -> None:
    narrow, wide = Interval(0.5, 0.4, 0.6), Interval(0.5, 0.3, 0.7)
    with pytest.raises(DataError, match=r"margin: expected 0 or more, got -0.1; give 0.02"):
        decide_value(narrow, wide, 0.5, -0.1)
    with pytest.raises(DataError, match=r"the 90 % interval within .* got 0.3..0.7 and 0.4..0.6"):
        decide_value(wide, narrow, 0.5, 0.1)


@pytest.mark.parametrize(
    ("bound", "above", "below"),
    [
        (0.39, "reproduced", "not reproduced"),
        (0.4, "inconclusive", "inconclusive"),
        (0.61, "not reproduced", "reproduced"),
    ],
)
def test_side_is_decided_where_the_whole_interval_lies(
    bound: float, above: str, below: str
) -> None:
    interval = Interval(0.5, 0.4, 0.6)
    assert decide_side(interval, bound, "above") == above
    assert decide_side(interval, bound, "below") == below
