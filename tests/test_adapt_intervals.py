"""Intervals of the adaptation study, from handmade rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adapt_rows import everything
from carryover.measure.statistics import Interval, paired_p, wilson
from carryover.report import adapt_intervals
from carryover.report.adapt_intervals import Outcome
from carryover.report.adapt_scores import AdaptScores, from_rows

T2 = 4.302652729911275  # Student's quantile for 95 % with 2 degrees of freedom
SPREAD = T2 * 0.02 / 3**0.5  # half the interval over the seeds, which lie 0.02 about the mean


@pytest.fixture(scope="module")
def scores() -> AdaptScores:
    return from_rows(everything())


def test_an_accuracy_has_its_images_and_its_seeds_in_the_interval(scores: AdaptScores) -> None:
    found = adapt_intervals.accuracy(scores, "probe", 0.5)
    parts = [wilson(count, 400) for count in (288, 272, 280)]
    below = sum(part.value - part.low for part in parts) / 3
    above = sum(part.high - part.value for part in parts) / 3
    assert found.value == pytest.approx(0.7)
    assert found.low == pytest.approx(0.7 - (below**2 + SPREAD**2) ** 0.5)
    assert found.high == pytest.approx(0.7 + (above**2 + SPREAD**2) ** 0.5)


def test_one_seed_has_the_interval_of_its_images_and_none_leaves_0_to_1() -> None:
    assert adapt_intervals.mean_accuracy([[Outcome(0.7, 100, "x")]]) == wilson(70, 100)
    wide = adapt_intervals.mean_accuracy([[Outcome(0.2, 50, "x")], [Outcome(0.8, 50, "x")]])
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_a_mean_over_sets_is_narrower_than_over_one() -> None:
    one = adapt_intervals.mean_accuracy([[Outcome(0.7, 100, "x")]])
    two = adapt_intervals.mean_accuracy([[Outcome(0.7, 100, "x"), Outcome(0.7, 100, "y")]])
    assert two.high - two.value == pytest.approx((one.high - one.value) / 2**0.5)


def test_the_interval_holds_the_truth_more_often_than_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        images = random.random(200)  # how hard each is, for all seeds
        means = 0.8 + 0.03 * random.standard_normal(3)
        accuracies = (images < means[:, None]).mean(1)
        found = adapt_intervals.mean_accuracy([[Outcome(float(a), 200, "x")] for a in accuracies])
        held += found.low <= 0.8 <= found.high
    assert held >= 0.95 * 300


def test_gains_are_paired_by_seed(scores: AdaptScores) -> None:
    found, p = adapt_intervals.gain(scores, "unfreeze-norm", [0.1], "probe")
    # all three differences are 0.05: only the rounding of accuracies to 1 / 400 is left
    assert found.value == pytest.approx(0.05)
    assert found.high - found.value == pytest.approx(T2 * (1 / 400) / 18**0.5)
    probe, norm = ([mean + off for off in (0.02, -0.02, 0.0)] for mean in (0.6, 0.65))
    assert p == pytest.approx(paired_p(norm, probe, step=1 / 400))


def test_with_one_seed_a_gain_is_the_difference_of_two_proportions() -> None:
    single = from_rows(everything(seeds=1))
    found, p = adapt_intervals.gain(single, "unfreeze-norm", [0.1], "probe")
    a, b = wilson(268, 400), wilson(248, 400)
    assert found.value == pytest.approx(0.05)
    assert found.low == pytest.approx(0.05 - np.hypot(a.value - a.low, b.high - b.value))
    assert 0.1 < p < 0.2
    assert adapt_intervals.calibration(single, "probe", 0.1) == Interval(0.08, 0.08, 0.08)


def test_what_was_kept_is_a_mean_over_sets(scores: AdaptScores) -> None:
    after, change = adapt_intervals.kept(scores, "llrd", 1.0, ["shapes", "letters"])
    assert after.value == pytest.approx(0.5)
    assert change.value == pytest.approx(-0.2)
    assert change.low == pytest.approx(-0.2 - SPREAD)
    assert adapt_intervals.before(scores, ["letters"]) == wilson(300, 500)


def test_no_bound_of_a_number_is_beyond_what_it_can_be(scores: AdaptScores) -> None:
    wide = replace(scores, tested={("probe", 0.5, "ece"): {0: 0.0, 1: 0.2, 2: 0.01}})
    found = adapt_intervals.calibration(wide, "probe", 0.5)
    assert found.low == 0.0
    assert found.high == adapt_intervals.over_seeds([0.0, 0.2, 0.01]).high
    assert adapt_intervals.number([0.8, 1.0, 0.9], "ece").high == 1.0
    assert adapt_intervals.number([0.8, 1.0, 0.9], "nll").high > 1.0
    assert adapt_intervals.number([1.5, 2.0, 1.9], "brier").high == 2.0
