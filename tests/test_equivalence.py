from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from carryover.errors import DataError
from carryover.measure.equivalence import equivalence_p, welch_difference

A, B = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def test_welch_by_hand() -> None:
    found = welch_difference(A, B)
    half = 2.7764451 * (0.01 / 3 + 0.01 / 3) ** 0.5  # Student's t, 4 degrees of freedom
    assert found.value == pytest.approx(-0.4)
    assert (found.low, found.high) == pytest.approx((-0.4 - half, -0.4 + half))


def test_welch_and_equivalence_agree_with_scipy() -> None:
    generator = np.random.default_rng(3)
    for n, m, spread in ((5, 25, 0.3), (25, 5, 3.0), (2, 7, 1.0)):
        a, b = generator.normal(0.1, 1, n), generator.normal(0, spread, m)
        result = stats.ttest_ind(a, b, equal_var=False)
        low, high = result.confidence_interval(0.9)
        found = welch_difference(a, b, level=0.9)
        assert (found.low, found.high) == pytest.approx((low, high))
        margin = 2.5
        larger = stats.ttest_ind(a, b - margin, equal_var=False, alternative="greater").pvalue
        smaller = stats.ttest_ind(a, b + margin, equal_var=False, alternative="less").pvalue
        assert equivalence_p(a, b, margin) == pytest.approx(max(larger, smaller))
        assert (equivalence_p(a, b, margin) < 0.05) == (-margin < low and high < margin)


def test_the_sides_swap_the_sign_alone() -> None:
    x, y = welch_difference(A, B), welch_difference(B, A)
    assert (x.value, x.low, x.high) == pytest.approx((-y.value, -y.high, -y.low))
    assert equivalence_p(A, B, 0.5) == pytest.approx(equivalence_p(B, A, 0.5))


def test_rounding_gives_equal_repeats_a_width() -> None:
    equal = (0.5, 0.5, 0.5)
    certain = welch_difference(equal, equal)
    assert (certain.low, certain.high) == (0.0, 0.0)
    rounded = welch_difference(equal, equal, steps=(0.12, 0.12))
    assert rounded.high == pytest.approx(2.7764451 * 0.12 * (2 / 3 / 12) ** 0.5)
    assert equivalence_p(equal, equal, 0.01) == 0.0
    assert equivalence_p(equal, (0.6, 0.6), 0.01) == 1.0
    assert 0 < equivalence_p(equal, equal, 0.01, (0.12, 0.12)) < 0.5


@pytest.mark.parametrize(
    ("a", "message"), [((0.1,), "two repeats on each side"), ((0.1, np.nan), "finite values")]
)
def test_refuses_what_has_no_interval(a: tuple[float, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        welch_difference(a, B)


def test_refuses_a_level_or_margin_out_of_range() -> None:
    with pytest.raises(DataError, match="level: expected a share"):
        welch_difference(A, B, level=95)
    with pytest.raises(DataError, match="margin: expected a number above 0"):
        equivalence_p(A, B, 0.0)
