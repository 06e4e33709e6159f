"""measure/statistics.py: intervals and tests."""

import math

import numpy as np
import pytest
from scipy import stats

from carryover.errors import DataError
from carryover.measure.statistics import (
    Interval,
    holm,
    mean_interval,
    paired_bootstrap,
    paired_difference,
    paired_p,
    proportions_difference,
    proportions_p,
    signed_rank_p,
    smallest_signed_rank_p,
    wilson,
)

A = [0.71, 0.74, 0.69, 0.77, 0.72]
B = [0.70, 0.70, 0.70, 0.71, 0.69]


def parts(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


# --- proportions -------------------------------------------------------------------------------


def test_wilson_of_half_right_is_symmetric_with_the_width_worked_out_by_hand() -> None:
    # n = 4, z^2 = 3.8415: half = 1.96 sqrt(1/16 + 3.8415/64) / (1 + 3.8415/4) = 0.34996
    assert parts(wilson(2, 4)) == pytest.approx((0.5, 0.15004, 0.84996), abs=1e-5)


def test_wilson_stays_in_bounds_and_has_a_width_at_none_and_all() -> None:
    none, every = wilson(0, 20), wilson(20, 20)
    assert (none.low, every.high) == (0.0, 1.0)
    assert none.high == pytest.approx(1 - every.low)
    assert none.high == pytest.approx(3.841459 / 23.841459, abs=1e-6)  # z^2 / (n + z^2)


@pytest.mark.parametrize(("correct", "n", "level"), [(3, 17, 0.9), (300, 448, 0.95), (0, 5, 0.99)])
def test_wilson_agrees_with_scipy(correct: int, n: int, level: float) -> None:
    peer = stats.binomtest(correct, n).proportion_ci(level, method="wilson")
    assert parts(wilson(correct, n, level))[1:] == pytest.approx((peer.low, peer.high), abs=1e-12)


def test_wilson_bounds_are_where_the_score_test_just_rejects() -> None:
    interval = wilson(30, 80)
    for bound in (interval.low, interval.high):
        z = (30 / 80 - bound) / math.sqrt(bound * (1 - bound) / 80)
        assert abs(z) == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (5, 4), (-1, 4)])
def test_wilson_refuses_counts_that_cannot_be(correct: int, n: int) -> None:
    with pytest.raises(DataError, match=rf"expected a count .* got {correct} among {n}"):
        wilson(correct, n)


def test_level_in_per_cent_is_refused() -> None:
    with pytest.raises(DataError, match=r"level: expected a share between 0 and 1, got 95"):
        wilson(1, 2, 95)


def test_proportions_difference_equals_the_published_example() -> None:
    # Newcombe 1998, table II, example (a), method 10: 56/70 - 48/80
    interval = proportions_difference(56, 70, 48, 80)
    assert parts(interval) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_proportions_difference_changes_sign_with_the_order() -> None:
    one, other = proportions_difference(9, 10, 3, 12), proportions_difference(3, 12, 9, 10)
    assert parts(one) == pytest.approx((-other.value, -other.high, -other.low))


def test_proportions_difference_refuses_no_images() -> None:
    with pytest.raises(DataError, match="got 0 among 0"):
        proportions_difference(1, 2, 0, 0)


def test_proportions_p_worked_out_by_hand() -> None:
    # p = 1/2, z = 0.2 / sqrt(0.25 * 2/100) = 2.8284
    assert proportions_p(60, 100, 40, 100) == pytest.approx(0.0046777, abs=1e-7)


def test_proportions_p_is_one_for_equal_proportions() -> None:
    assert proportions_p(3, 10, 30, 100) == 1.0
    assert proportions_p(0, 10, 0, 20) == 1.0
    assert proportions_p(10, 10, 20, 20) == 1.0


def test_proportions_p_agrees_with_the_chi_square_test() -> None:
    table = [[31, 69], [52, 98]]
    assert proportions_p(31, 100, 52, 150) == pytest.approx(
        stats.chi2_contingency(table, correction=False).pvalue, abs=1e-12
    )


def test_proportions_p_refuses_counts_that_cannot_be() -> None:
    with pytest.raises(DataError, match="got 11 among 10"):
        proportions_p(11, 10, 1, 10)


# --- repeats -----------------------------------------------------------------------------------


def test_mean_interval_worked_out_by_hand() -> None:
    # s = 1, n = 3, t(2, 0.975) = 4.30265: 2 ± 4.30265 / sqrt(3)
    assert parts(mean_interval([1.0, 2.0, 3.0])) == pytest.approx((2, -0.48414, 4.48414), abs=1e-5)


def test_mean_interval_of_equal_values_is_the_point() -> None:
    assert parts(mean_interval([0.1, 0.1, 0.1])) == pytest.approx((0.1, 0.1, 0.1), abs=1e-15)
    interval = mean_interval([0.1, 0.1, 0.1])
    assert interval.low == interval.value == interval.high


def test_mean_interval_agrees_with_scipy() -> None:
    peer = stats.ttest_1samp(A, 0).confidence_interval(0.9)
    assert parts(mean_interval(A, 0.9))[1:] == pytest.approx((peer.low, peer.high), abs=1e-12)


def test_mean_interval_of_one_repeat_is_refused() -> None:
    with pytest.raises(DataError, match="expected at least two repeats, got 1; run more"):
        mean_interval([0.5])


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="expected finite values, got nan"):
        mean_interval([0.5, math.nan])


def test_paired_difference_worked_out_by_hand() -> None:
    # differences 1, 3: mean 2, s = sqrt(2), t(1, 0.975) = 12.7062: 2 ± 12.7062
    assert parts(paired_difference([2, 5], [1, 2])) == pytest.approx(
        (2, -10.7062, 14.7062), abs=1e-4
    )


def test_paired_difference_ignores_what_both_share() -> None:
    shift = np.array([5.0, -3.0, 0.25, 7.0, 100.0])
    shifted = paired_difference(np.array(A) + shift, np.array(B) + shift)
    assert parts(shifted) == pytest.approx(parts(paired_difference(A, B)), abs=1e-9)


def test_paired_difference_of_equal_differences_is_the_point() -> None:
    assert parts(paired_difference([3, 4, 5], [1, 2, 3])) == (2.0, 2.0, 2.0)


def test_rounding_alone_gives_equal_differences_a_width() -> None:
    # step 1: variance 1/6, half = 4.30265 sqrt(1/6) / sqrt(3)
    rounded = paired_difference([3, 4, 5], [1, 2, 3], step=1.0)
    assert parts(rounded) == pytest.approx((2, 0.98585, 3.01415), abs=1e-5)
    assert paired_difference(A, B, step=0.001) == paired_difference(A, B)


def test_paired_difference_agrees_with_scipy() -> None:
    peer = stats.ttest_rel(A, B).confidence_interval(0.95)
    assert parts(paired_difference(A, B))[1:] == pytest.approx((peer.low, peer.high), abs=1e-12)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="expected paired values, got 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])


def test_paired_p_worked_out_by_hand() -> None:
    # differences 1, 3: t = 2 on one degree of freedom, p = 1 - 2 atan(2) / pi
    assert paired_p([2, 5], [1, 2]) == pytest.approx(1 - 2 * math.atan(2) / math.pi, abs=1e-12)


def test_paired_p_without_spread_is_one_or_zero() -> None:
    assert paired_p([1, 2, 3], [1, 2, 3]) == 1.0
    assert paired_p([3, 4, 5], [1, 2, 3]) == 0.0
    assert 0 < paired_p([3, 4, 5], [1, 2, 3], step=1.0) < 0.02


def test_paired_p_is_below_one_minus_level_just_where_the_interval_leaves_zero() -> None:
    p = paired_p(A, B)
    assert paired_difference(A, B, 1 - p).low == pytest.approx(0, abs=1e-12)


def test_paired_p_agrees_with_scipy() -> None:
    assert paired_p(A, B) == pytest.approx(stats.ttest_rel(A, B).pvalue, abs=1e-12)


def test_paired_p_of_one_pair_is_refused() -> None:
    with pytest.raises(DataError, match="expected at least two repeats, got 1"):
        paired_p([1], [2])


# --- bootstrap ---------------------------------------------------------------------------------


def test_paired_bootstrap_of_two_pairs_has_the_bounds_worked_out_by_hand() -> None:
    # resamples of the differences {0, 1} have mean 0, 1/2, 1 with chance 1/4, 1/2, 1/4
    wide = paired_bootstrap([0, 2], [0, 1], 0.8, 4000, np.random.default_rng(0))
    narrow = paired_bootstrap([0, 2], [0, 1], 0.4, 4000, np.random.default_rng(0))
    assert parts(wide) == (0.5, 0.0, 1.0)
    assert parts(narrow) == (0.5, 0.5, 0.5)


def test_paired_bootstrap_is_equal_for_equal_generators_and_in_any_portions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = paired_bootstrap(A, B, 0.95, 500, np.random.default_rng(3))
    monkeypatch.setattr("carryover.measure.statistics.DRAWN_AT_ONCE", 60)
    assert paired_bootstrap(A, B, 0.95, 500, np.random.default_rng(3)) == whole
    assert min(np.subtract(A, B)) <= whole.low <= whole.value <= whole.high


def test_paired_bootstrap_agrees_with_a_plain_loop() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.random(300) < 0.8, generator.random(300) < 0.7
    x = a.astype(float) - b.astype(float)
    means = [x[generator.integers(0, 300, 300)].mean() for _ in range(4000)]
    ours = paired_bootstrap(a, b, 0.95, 4000, generator)
    assert parts(ours) == pytest.approx((x.mean(), *np.quantile(means, [0.025, 0.975])), abs=0.007)


def test_paired_bootstrap_refuses_no_draws() -> None:
    with pytest.raises(DataError, match="draws: expected 1 or more, got 0"):
        paired_bootstrap(A, B, 0.95, 0, np.random.default_rng(0))


# --- ranks -------------------------------------------------------------------------------------


def test_signed_rank_p_worked_out_by_hand() -> None:
    # five differences of one sign: 2 of the 32 sign patterns are as lopsided
    assert signed_rank_p([2, 4, 6, 8, 10], [1, 2, 3, 4, 5]) == pytest.approx(2 / 32)


def test_signed_rank_p_is_one_without_differences_and_in_either_order_the_same() -> None:
    assert signed_rank_p(A, A) == 1.0
    assert signed_rank_p(A, B) == pytest.approx(signed_rank_p(B, A))


def test_signed_rank_p_agrees_with_counting_all_signs() -> None:
    x = np.array([1.0, -2.0, 3.0, 4.0, -5.0, 6.0, 7.0])  # ranks are the sizes
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(x))).reshape(len(x), -1)
    sums = np.abs(np.abs(x) @ signs)
    assert signed_rank_p(x, 0 * x) == pytest.approx((sums >= abs(x.sum())).mean())


def test_signed_rank_p_of_ties_and_zeros_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    for n in (1, 4, 8, 8, 10, 10):
        x = np.append(random.integers(-3, 5, size=n), 1.0)
        assert signed_rank_p(x, 0 * x) == pytest.approx(stats.wilcoxon(x).pvalue)


def test_signed_rank_p_of_one_pair_is_refused() -> None:
    with pytest.raises(DataError, match="expected at least two repeats"):
        signed_rank_p([1], [0])


def test_smallest_signed_rank_p_is_reached_by_differences_of_one_sign() -> None:
    assert [smallest_signed_rank_p(n) for n in (0, 1, 5)] == [1.0, 1.0, 0.0625]
    for n in (2, 5, 8):
        x = np.arange(1.0, n + 1)
        assert signed_rank_p(x, 0 * x) == pytest.approx(smallest_signed_rank_p(n))


# --- Holm --------------------------------------------------------------------------------------


def test_holm_worked_out_by_hand_in_the_order_given() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_never_lowers_a_p_value_and_keeps_their_order() -> None:
    p = np.random.default_rng(0).random(50) ** 4
    adjusted = np.array(holm(p))
    assert (adjusted >= p).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    p = list(np.random.default_rng(1).random(30) ** 6)
    rejected = set()
    for i, index in enumerate(sorted(range(30), key=p.__getitem__)):
        if p[index] >= 0.05 / (30 - i):
            break
        rejected.add(index)
    assert 0 < len(rejected) < 30
    assert {i for i, value in enumerate(holm(p)) if value < 0.05} == rejected


@pytest.mark.parametrize("wrong", [1.5, -0.1, math.nan])
def test_holm_refuses_what_is_no_p_value(wrong: float) -> None:
    with pytest.raises(DataError, match=r"expected p-values in 0\.\.1, got"):
        holm([0.5, wrong])


def test_equal_differences_tie_whatever_the_last_bit_says() -> None:
    a, b = [0.9, 0.8, 0.5, 0.7, 0.4], [0.8, 0.7, 0.6, 0.6, 0.3]
    assert 0.9 - 0.8 != 0.8 - 0.7
    counts = [round(10 * x) for x in a], [round(10 * x) for x in b]
    assert signed_rank_p(a, b) == signed_rank_p(*counts)
