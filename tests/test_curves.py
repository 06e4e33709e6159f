from __future__ import annotations

import pytest
import torch
from torch import Tensor

from carryover.errors import DataError
from carryover.measure.curves import Reached, area, running_maximum, steps_to

STEPS = [0, 10, 20, 40]
CURVE = [0.1, 0.5, 0.8, 0.7]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rights(accuracies: list[float], n: int) -> Tensor:
    """Which of n images are right, the first ones."""
    return torch.stack([torch.arange(n) < round(a * n) for a in accuracies])


def test_the_first_step_at_or_above_the_threshold_counts() -> None:
    assert steps_to(STEPS, CURVE, 0.8) == Reached(20, True)  # equal is enough
    assert steps_to(STEPS, CURVE, 0.6) == Reached(20, True)  # not drawn back to 12.5 or so
    assert steps_to(STEPS, CURVE, 0.7) == Reached(20, True)
    assert steps_to(STEPS, CURVE, 0.05) == Reached(0, True)


def test_a_threshold_never_reached_gives_the_last_step_and_says_so() -> None:
    assert steps_to(STEPS, CURVE, 0.81) == Reached(40, False)
    assert steps_to([5], [0.2], 0.3) == Reached(5, False)


def test_reaching_it_at_the_last_step_is_reached() -> None:
    assert steps_to([1, 2], [0.2, 0.9], 0.9) == Reached(2, True)


def test_area_by_hand() -> None:
    # (0.3 * 10 + 0.65 * 10 + 0.75 * 20) / 40
    assert area(STEPS, CURVE) == pytest.approx(24.5 / 40)
    assert area([3, 8], [0.0, 1.0]) == 0.5


def test_area_of_a_level_curve_is_its_height_whatever_the_steps() -> None:
    assert area([2, 3, 50, 51], [0.3] * 4) == pytest.approx(0.3)
    longer = [7 * s + 3 for s in STEPS]
    assert area(longer, CURVE) == pytest.approx(area(STEPS, CURVE))


@pytest.mark.parametrize(
    ("steps", "curve", "said"),
    [
        ([], [], "got 0 steps and 0 values"),
        ([1, 2], [0.5], "got 2 steps and 1 values"),
        ([1, 1], [0.5, 0.5], "got 2 steps that do not grow and 2 values"),
        ([2, 1], [0.5, 0.5], "got 2 steps that do not grow and 2 values"),
    ],
)
def test_curves_that_are_none_are_refused(steps: list[int], curve: list[float], said: str) -> None:
    with pytest.raises(DataError, match=said):
        steps_to(steps, curve, 0.8)
    with pytest.raises(DataError, match=said):
        area(steps, curve)


def test_the_area_of_one_point_is_refused() -> None:
    with pytest.raises(DataError, match=r"expected 2 or more growing steps .* got 1 steps and 1"):
        area([4], [0.5])


def test_the_running_maximum_is_of_its_epoch_alone() -> None:
    # all images are drawn, so nothing is left to chance; an epoch has 10 steps
    found = running_maximum(
        rights([0.2, 0.6, 0.4, 0.3, 0.5, 0.1], 10), [0, 5, 9, 10, 15, 25], 10, draws(), images=10
    )
    assert found == pytest.approx([0.2, 0.6, 0.6, 0.3, 0.5, 0.1])


def test_the_running_maximum_lies_above_the_accuracy() -> None:
    # 39 evaluations of an epoch, 768 of 10,000 images, all at 0.94
    right = rights([0.94] * 39, 10_000)
    found = running_maximum(right, list(range(0, 195, 5)), 195, draws())
    assert found == sorted(found)
    # the largest of 39 normals lies 2.1 standard errors (0.0086) above their mean
    assert found[-1] - 0.94 == pytest.approx(2.1 * 0.0086, abs=0.008)


def test_the_running_maximum_draws_other_images_each_time() -> None:
    right = rights([0.5] * 30, 100)
    each = running_maximum(right, list(range(30)), 1, draws(), images=20)  # every step an epoch
    assert len(set(each)) > 4
    assert all(round(a * 20, 6) == int(round(a * 20, 6)) for a in each)
    assert each == running_maximum(right, list(range(30)), 1, draws(), images=20)
    assert each != running_maximum(right, list(range(30)), 1, draws(1), images=20)


def test_all_images_count_where_there_are_fewer_than_a_sample() -> None:
    found = running_maximum(rights([0.25, 0.75], 40), [0, 1], 1, draws())
    assert found == [0.25, 0.75]


def test_a_running_maximum_wants_a_step_for_each_evaluation() -> None:
    with pytest.raises(DataError, match="got 2 steps and 3 values"):
        running_maximum(rights([0.5] * 3, 10), [0, 1], 5, draws())
