from __future__ import annotations

import math

import pytest
import torch

from carryover.errors import DataError
from carryover.measure.spectrum import effective_rank


def test_effective_rank_by_hand() -> None:
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert effective_rank(torch.ones(4, 3, 2, 2)) == pytest.approx(1)
    # singular values 3 and 1: p = 3/4, 1/4
    expected = (4 / 3) ** 0.75 * 4**0.25
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(expected)


def test_effective_rank_depends_on_neither_scale_nor_rotation() -> None:
    weight = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]
    turned = (turn @ weight.flatten(1)).view_as(weight)
    assert effective_rank(-7 * turned) == pytest.approx(effective_rank(weight))
    assert 1 < effective_rank(weight) < 8


def test_weights_without_directions_are_refused() -> None:
    for weight in (torch.zeros(3, 3), torch.tensor([[math.inf, 1.0]])):
        with pytest.raises(DataError, match="expected finite weights that are not all 0"):
            effective_rank(weight)
