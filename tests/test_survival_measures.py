from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from carryover.errors import DataError
from carryover.measure.survival import (
    barrier,
    distance,
    finite,
    in_row_space,
    kept_share,
    standardised,
)


@pytest.mark.parametrize(
    ("adapted", "start", "share"),
    [(0.9, 0.9, 1.0), (0.5, 0.9, 0.5), (0.1, 0.9, 0.0), (0.06, 0.9, -0.05), (0.94, 0.9, 1.05)],
)
def test_the_share_kept_is_of_what_the_start_has_above_chance(
    adapted: float, start: float, share: float
) -> None:
    assert kept_share(adapted, start, 0.1, 100) == pytest.approx(share)


@pytest.mark.parametrize("start", [0.3, 0.7, 0.23456789, 1.0])
def test_an_unchanged_model_keeps_exactly_all(start: float) -> None:
    assert kept_share(start, start, 0.1, 200) == 1.0


def test_a_start_that_is_not_above_chance_has_nothing_to_keep() -> None:
    # chance 0.5 over 100 images: a standard error is 0.05, two are 0.1
    assert kept_share(0.5, 0.6, 0.5, 100) is None
    assert kept_share(0.5, 0.61, 0.5, 100) == 0.0
    # chance 0.02 over 100 images: two standard errors are 0.028, ten images 0.1
    assert kept_share(0.02, 0.11, 0.02, 100) is None
    assert kept_share(0.02, 0.12, 0.02, 100) == 0.0


def test_distance_is_the_norm_of_the_change_over_that_of_the_start() -> None:
    start = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0]), "c": torch.zeros(2)}
    now = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([6.0]), "c": torch.zeros(3)}
    assert distance(now, start, ["a"]) == pytest.approx(1 / 3)
    assert distance(now, start, ["a", "b"]) == pytest.approx(math.sqrt(1 + 4) / 5)
    assert distance(start, start, ["a", "b", "c"]) == 0.0


def test_there_is_no_distance_to_nothing() -> None:
    start = {"a": torch.zeros(2), "b": torch.ones(2)}
    assert distance({"a": torch.ones(2), "b": torch.ones(3)}, start, ["a", "b", "x"]) is None


def test_the_barrier_is_how_far_the_error_rises_above_the_line_of_the_ends() -> None:
    assert barrier([(0, 0.9), (0.5, 0.4), (1, 0.7)]) == pytest.approx(0.8 - 0.4)
    assert barrier([(0, 0.9), (0.25, 0.8), (1, 0.5)]) == pytest.approx(0.0)
    assert barrier([(0, 0.8), (0.5, 0.9), (1, 0.8)]) == pytest.approx(0.0)


def test_ends_that_differ_are_no_barrier() -> None:
    assert barrier([(0, 0.9), (0.5, 0.8), (1, 0.7)]) == pytest.approx(0.0)
    assert barrier([(0, 0.9), (1, 0.7)]) == pytest.approx(0.0)


def test_one_accuracy_is_no_line() -> None:
    with pytest.raises(DataError, match=r"from 0 to 1 of a line, got \[0.0, 0.5\]; give both ends"):
        barrier([(0.0, 0.5), (0.5, 0.5)])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_number_that_is_not_finite_is_found(value: float) -> None:
    assert finite({"a": torch.ones(3), "count": torch.tensor(5)})
    assert not finite({"a": torch.ones(3), "b": torch.tensor([0.0, value])})


def test_features_come_to_one_scale_by_the_training_rows() -> None:
    train, test = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[2.0, 4.0]])
    a, b = standardised(train, test)
    # the middle is (2, 0); squares about it are 1, 0, 1, 0: the scale is sqrt(1/2)
    assert a.flatten().tolist() == pytest.approx([-math.sqrt(2), 0, math.sqrt(2), 0])
    assert b.flatten().tolist() == pytest.approx([0, 4 * math.sqrt(2)])


def test_the_scale_of_features_changes_nothing() -> None:
    random = torch.Generator().manual_seed(0)
    train, test = torch.randn(9, 4, generator=random), torch.randn(5, 4, generator=random)

    def both(factor: float, shift: float) -> tuple[Tensor, Tensor]:
        return standardised(factor * train + shift, factor * test + shift)

    for one, other in zip(both(1.0, 0.0), both(64.0, 3.0), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_features_that_are_all_the_same_stay_finite() -> None:
    a, b = standardised(torch.ones(4, 2), torch.ones(1, 2))
    assert a.abs().sum() == b.abs().sum() == 0


def test_wide_features_keep_their_products_in_fewer_numbers() -> None:
    train, test = torch.tensor([[3.0, 0.0, 4.0], [0.0, 2.0, 0.0]]), torch.tensor([[1.0, 1.0, 1.0]])
    a, b = in_row_space(train, test)
    assert a.shape == (2, 2)
    assert (a @ a.T).flatten().tolist() == pytest.approx([25, 0, 0, 4])
    assert (b @ a.T).flatten().tolist() == pytest.approx([7, 2])


def test_a_ridge_of_wide_features_predicts_the_same() -> None:
    random = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 9, generator=random).double() for n in (5, 4))
    targets = torch.randn(5, 2, generator=random).double()
    train = train - train.mean(0)

    def predicted(x: Tensor, y: Tensor) -> Tensor:
        gram = x.T @ x + 0.3 * torch.eye(x.shape[1], dtype=torch.float64)
        return y @ torch.linalg.solve(gram, x.T @ targets)

    assert torch.allclose(predicted(*in_row_space(train, test)), predicted(train, test))


def test_narrow_features_stay_as_they_are() -> None:
    train, test = torch.ones(3, 2), torch.zeros(1, 2)
    assert in_row_space(train, test) == (train, test)
