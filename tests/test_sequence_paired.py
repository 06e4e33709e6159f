"""Differences of the sequence study paired by test image."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

import sequence_rows
from carryover.errors import DataError
from carryover.report import sequence_differences, sequence_gains, sequence_paired, sequence_tables
from carryover.report.sequence_paired import Place
from carryover.report.sequence_scores import Run, Scores, from_rows, matrix

FINETUNE, ZSCL = Run("1", "finetune", "plain"), Run("1", "zscl", "distill")
ZERO_SHOT = Run("1", "zero-shot", "plain")


def right_of(scores: Scores, seed: int) -> dict[Place, np.ndarray]:
    """Images in one order for every test, so that a better run has all that a worse one has."""
    found = {}
    for run in (ZERO_SHOT, FINETUNE, ZSCL):
        sets = scores.orders[run.order]
        for (after, task), number in matrix(scores, run, seed).items():
            time = 0 if run is ZERO_SHOT else after
            right = np.arange(number.n) < round(number.value * number.n)
            found[Place(run.order, run.method, seed, time, sets[task - 1])] = right
    return found


@pytest.fixture(name="single")
def of_one_seed() -> Scores:
    runs = (("plain", "zero-shot"), ("plain", "finetune"), ("distill", "zscl"))
    scores = from_rows([row for each in runs for row in sequence_rows.run(*each, seeds=1)])
    return replace(scores, right=right_of(scores, 0))


def test_two_paired_proportions_are_those_of_agresti_and_min() -> None:
    a = np.array([1] * 40 + [0] * 60, dtype=bool)
    b = np.array([1] * 30 + [0] * 10 + [1] * 4 + [0] * 56, dtype=bool)
    interval, p = sequence_paired.over_images(
        sequence_paired.added([(a, "digits", 1.0), (b, "digits", -1.0)])
    )
    n, only_a, only_b = 100, int((a & ~b).sum()), int((b & ~a).sum())
    assert (only_a, only_b) == (10, 4)
    d = (only_a - only_b) / n
    squares = (only_a + 0.5) + (only_b + 0.5) - n * d * d  # half an image more on either side
    off = math.sqrt(squares / (n * (n + 1)))
    assert interval.value == pytest.approx(0.06)
    assert (interval.low, interval.high) == pytest.approx((d - 1.959964 * off, d + 1.959964 * off))
    assert p == pytest.approx(2 * stats.norm.sf(d / off))


def test_equal_runs_differ_by_nothing_but_not_for_certain() -> None:
    a = np.arange(50) < 20
    interval, p = sequence_paired.over_images(
        sequence_paired.added([(a, "digits", 1.0), (a, "digits", -1.0)])
    )
    assert (interval.value, p) == (0.0, 1.0)
    assert -0.05 < interval.low < 0 < interval.high < 0.05


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Two networks that err together, on two sets, each tested with two seeds."""
    draw = np.random.default_rng(0)
    truth = 0.5 * (0.8 - 0.7) + 0.5 * (0.6 - 0.55)
    inside, widths = 0, []
    for _ in range(600):
        tests = []
        for name, n, of_a, of_b in (("digits", 150, 0.8, 0.7), ("letters", 90, 0.6, 0.55)):
            hard = draw.random(n)  # of an image, for all
            for _ in range(2):
                own = 0.15 * draw.standard_normal((2, n))
                tests += [
                    (stats.norm.cdf(stats.norm.ppf(hard) + own[i]) < of, name, sign / 4)
                    for i, (of, sign) in enumerate(((of_a, 1), (of_b, -1)))
                ]
        interval, _ = sequence_paired.over_images(sequence_paired.added(tests))
        inside += interval.low <= truth <= interval.high
        widths.append(interval.high - interval.low)
    assert 0.92 <= inside / 600 <= 0.985
    assert np.mean(widths) < 0.11  # as if on different images 0.17


def test_a_run_beside_another_is_paired_where_predictions_are_known(single: Scores) -> None:
    for run, other in ((ZSCL, FINETUNE), (ZSCL, ZERO_SHOT)):
        told = sequence_differences.difference(single, run, other, "transfer")
        plain = sequence_differences.difference(replace(single, right={}), run, other, "transfer")
        assert told
        assert plain
        assert (told.paired, plain.paired) == (True, False)
        assert told.images.value == pytest.approx(plain.images.value)
        assert told.images.high - told.images.low < 0.7 * (plain.images.high - plain.images.low)
        assert told.p < plain.p
    gains = sequence_gains.gains(single)
    assert "paired by image" in sequence_tables.differences(single, gains, "finetune").title
    without = replace(single, right={})
    gains = sequence_gains.gains(without)
    assert "too wide" in sequence_tables.differences(without, gains, "finetune").title


def test_several_seeds_are_crossed_with_the_images() -> None:
    runs = (("plain", "finetune"), ("distill", "zscl"))
    rows = [row for each in runs for row in sequence_rows.run(*each, seeds=3)]
    scores = from_rows([*rows, *sequence_rows.run("plain", "zero-shot", seeds=3)])
    without = sequence_differences.difference(scores, ZSCL, FINETUNE, "average")
    scores = replace(scores, right={k: v for s in range(3) for k, v in right_of(scores, s).items()})
    told = sequence_differences.difference(scores, ZSCL, FINETUNE, "average")
    assert told
    assert without
    assert told.whole
    assert without.whole
    assert told.value == pytest.approx(without.value) == pytest.approx(told.whole.value)
    over, images = (each.high - each.value for each in (without.whole, told.images))
    reach = told.whole.high - told.value
    assert max(over, images) < reach < math.hypot(over, images) * 1.001
    assert told.p > without.p
    gains = sequence_gains.gains(scores)
    assert "paired by both" in sequence_tables.differences(scores, gains, "finetune").title


def test_predictions_of_other_rows_are_refused(single: Scores) -> None:
    place = next(place for place in single.right if place.method == "zscl" and place.after == 1)
    flipped = single.right[place].copy()
    flipped[:3] = ~flipped[:3]
    wrong = replace(single, right={**single.right, place: flipped})
    with pytest.raises(DataError, match="dvc repro sequence"):
        sequence_differences.difference(wrong, ZSCL, FINETUNE, "average")


def test_tests_after_whole_sets_are_read(tmp_path: Path) -> None:
    lines = [
        ("1", "zscl", 0, 1, None, None, "digits", 3, 3),
        ("1", "zscl", 0, 1, None, None, "digits", 4, 1),
        ("1", "zscl", 0, 1, None, None, "letters", 2, 2),
        ("1", "zscl", 0, 1, 0.5, None, "letters", 2, 2),
        ("1", "zscl", 0, 2, None, None, "letters", 2, 0),
        ("1", "zscl", 0, 1, None, 5, "letters", 2, 2),
    ]
    names = ("order", "method", "seed", "after", "mix", "step", "dataset", "label", "prediction")
    columns = dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))
    path = tmp_path / sequence_paired.FILE
    pq.write_table(pa.table(columns), path)
    found = sequence_paired.read([path, tmp_path / "none.parquet"])
    assert {place: right.tolist() for place, right in found.items()} == {
        Place("1", "zscl", 0, 1, "digits"): [True, False],
        Place("1", "zscl", 0, 1, "letters"): [True],
        Place("1", "zscl", 0, 2, "letters"): [False],
    }
