"""Random crops."""

from __future__ import annotations

import pytest
import torch

from carryover.data.crops import random_crop


def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_at_1_nothing_is_cropped_and_nothing_drawn() -> None:
    x, generator = torch.rand(3, 3, 8, 8), random()
    assert torch.equal(random_crop(x, 1.0, generator), x)
    assert torch.equal(generator.get_state(), random().get_state())


def test_an_even_image_stays_even_and_values_stay_in_range() -> None:
    assert torch.allclose(
        random_crop(torch.full((4, 3, 9, 9), 0.3), 0.5, random()), torch.tensor(0.3)
    )
    steep = (torch.arange(8) % 2).float().expand(6, 3, 8, 8)
    found = random_crop(steep, 0.5, random())
    assert 0 <= float(found.min()) < float(found.max()) <= 1


@pytest.mark.parametrize("smallest", [0.9, 0.4])
def test_a_crop_is_a_rectangle_of_at_least_the_smallest_area(smallest: float) -> None:
    n, size = 400, 32
    ramp = (torch.arange(size) + 0.5) / size  # a pixel's value is its place
    x = torch.stack(
        [ramp.expand(size, size), ramp[:, None].expand(size, size), torch.zeros(size, size)]
    )
    found = random_crop(x.expand(n, 3, size, size), smallest, random())
    inner = slice(8, 24)  # away from borders the ramps are straight
    wide = found[:, 0, 16, inner].diff(dim=1).mean(1) * size  # share of the width
    high = found[:, 1, inner, 16].diff(dim=1).mean(1) * size
    area = wide * high
    assert float(area.min()) > smallest - 0.01
    assert float(area.max()) < 1.01
    assert float((wide / high).max()) < 4 / 3 + 0.02
    assert float((wide / high).min()) > 3 / 4 - 0.02
    assert float(area.mean()) == pytest.approx((1 + smallest) / 2, abs=0.08)
    left = found[:, 0, 16, 16] - 0.5  # the middle is off to either side
    assert -0.2 < float(left.min()) < 0 < float(left.max()) < 0.2


def test_draws_do_not_depend_on_the_images() -> None:
    one, other = random(), random()
    random_crop(torch.rand(5, 3, 8, 8), 0.9, one)
    random_crop(torch.rand(5, 1, 20, 30), 0.9, other)
    assert torch.equal(one.get_state(), other.get_state())
