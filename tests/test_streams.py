"""Measures of a stream of tasks."""

from __future__ import annotations

import numpy as np
import pytest

from carryover.measure import streams

MATRIX = np.array(  # three tasks; rows: before, after one, two, three
    [[0.3, 0.4, 0.5], [0.9, 0.2, 0.4], [0.7, 0.8, 0.3], [0.5, 0.9, 0.6]]
)


def test_measures_by_hand() -> None:
    assert streams.transfer(MATRIX) == pytest.approx((0.2 + (0.4 + 0.3) / 2) / 2)
    assert streams.average(MATRIX) == pytest.approx(5.3 / 9)
    assert streams.last(MATRIX) == pytest.approx(2.0 / 3)
    assert streams.learned(MATRIX) == pytest.approx((0.9 + 0.8 + 0.6) / 3)
    assert streams.forgetting(MATRIX) == pytest.approx((0.9 - 0.5 + 0.8 - 0.9) / 2)
    assert streams.backward_transfer(MATRIX) == pytest.approx((0.5 - 0.9 + 0.9 - 0.8) / 2)


def test_backward_transfer_with_the_last_task_is_diluted_by_its_zero() -> None:
    assert streams.changes(MATRIX) == pytest.approx([0.5 - 0.9, 0.9 - 0.8, 0.0])
    with_last = streams.backward_transfer_with_last(MATRIX)
    assert with_last == pytest.approx((0.5 - 0.9 + 0.9 - 0.8) / 3)
    assert with_last == pytest.approx(2 / 3 * streams.backward_transfer(MATRIX))
    several = np.stack([MATRIX, MATRIX[:, ::-1]])
    assert streams.changes(several).shape == (2, 3)


def test_forgetting_is_negative_when_last_is_best() -> None:
    rising = np.array([[0.1, 0.1], [0.5, 0.1], [0.7, 0.8]])
    assert streams.forgetting(rising) == pytest.approx(-0.2)


def test_a_model_that_never_changes_forgets_nothing() -> None:
    same = np.tile([0.4, 0.6, 0.8], (4, 1))
    assert streams.forgetting(same) == streams.backward_transfer(same) == 0
    assert streams.transfer(same) == pytest.approx(0.7)
    assert streams.average(same) == streams.last(same) == pytest.approx(0.6)


def test_forward_transfer_is_what_was_known_before_training_beyond_the_start() -> None:
    matrix = np.array([[0.1, 0.2, 0.3], [0.9, 0.4, 0.3], [0.8, 0.9, 0.7], [0.7, 0.8, 0.9]])
    assert streams.forward_transfer(matrix) == pytest.approx(((0.4 - 0.2) + (0.7 - 0.3)) / 2)
    both = np.stack([matrix, np.full((4, 3), 0.5)])
    assert streams.forward_transfer(both) == pytest.approx([0.3, 0])
