"""Random views of images."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from carryover.data.views import Views, blurred, flipped, recoloured, view, with_colours

NONE = Views(
    crop=1.0,
    flip=0.0,
    jitter=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
    grey=0.0,
    blur=0.0,
)
ALL = Views(
    crop=0.3,
    flip=0.5,
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grey=0.2,
    blur=0.5,
)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 6, size: int = 8) -> Tensor:
    return torch.rand(n, 3, size, size, generator=random(1))


def colours(
    x: Tensor,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
) -> Tensor:
    each = (torch.full((len(x),), value) for value in (brightness, contrast, saturation, hue))
    return with_colours(x, *each)


def test_views_that_change_nothing_draw_nothing() -> None:
    x, generator = images(), random()
    assert torch.equal(view(x, NONE, generator), x)
    assert torch.equal(generator.get_state(), random().get_state())


def test_equal_generators_give_equal_views_and_the_next_is_another() -> None:
    x, generator = images(), random()
    first, second = view(x, ALL, generator), view(x, ALL, generator)
    assert torch.equal(first, view(x, ALL, random()))
    assert not torch.allclose(first, second, atol=0.01)
    assert first.shape == x.shape
    assert 0 <= float(first.min()) < float(first.max()) <= 1


def test_images_of_a_batch_have_draws_of_their_own() -> None:
    found = view(images(1).expand(8, 3, 8, 8), ALL, random())
    assert len(found.flatten(1).unique(dim=0)) == 8


def test_flips_mirror_as_many_as_their_probability_says() -> None:
    x = images(400, 4)
    found = flipped(x, 0.25, random())
    mirrored = (found == x.flip(3)).flatten(1).all(1)
    assert int(mirrored.sum()) == pytest.approx(100, abs=30)
    assert torch.equal(found[~mirrored], x[~mirrored])
    assert torch.equal(flipped(x, 1.0, random()), x.flip(3))


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_colours_are_those_of_torchvision(kind: str) -> None:
    from torchvision.transforms.v2 import functional

    x = images() / 2 + 0.1
    for factor in (0.6, 1.3):
        wanted = getattr(functional, f"adjust_{kind}")(x, factor)
        assert torch.allclose(colours(x, **{kind: factor}), wanted, atol=3e-4)  # 0.2989 for 0.299


def test_a_turn_of_the_hue_keeps_luma_and_a_whole_one_all() -> None:
    x = images() / 4 + 0.4
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    turned = colours(x, hue=0.1)
    assert torch.allclose((turned * luma).sum(1), (x * luma).sum(1), atol=1e-5)
    assert float((turned - x).abs().max()) > 0.02
    assert torch.allclose(colours(x, hue=1.0), x, atol=1e-5)
    grey = x[:, :1].expand_as(x)
    assert torch.allclose(colours(grey, hue=0.3), grey, atol=1e-5)


def test_half_a_turn_of_red_is_its_complement() -> None:
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1)  # luma 0.4598, so 2 * luma - red
    found = colours(red, hue=0.5).flatten()
    assert found.tolist() == pytest.approx([0.3196, 0.5196, 0.5196], abs=1e-4)


def test_colours_are_taken_from_as_many_as_their_probability_says() -> None:
    found = recoloured(images(400, 4), dataclasses.replace(NONE, grey=0.25), random())
    grey = (found.amax(1) - found.amin(1)).flatten(1).amax(1) < 1e-5
    assert int(grey.sum()) == pytest.approx(100, abs=30)


def test_a_jitter_of_nothing_leaves_colours() -> None:
    x = images()
    found = recoloured(x, dataclasses.replace(NONE, jitter=1.0), random())
    assert torch.allclose(found, x, atol=1e-5)


def test_brightness_stays_in_its_range() -> None:
    views = dataclasses.replace(NONE, jitter=1.0, brightness=0.4)
    found = recoloured(torch.full((500, 3, 2, 2), 0.5), views, random())[:, 0, 0, 0]
    assert 0.3 <= float(found.min()) < 0.32
    assert 0.68 < float(found.max()) <= 0.7


def test_a_blur_keeps_even_images_and_lowers_differences() -> None:
    even = torch.full((4, 3, 20, 20), 0.3)
    assert torch.allclose(blurred(even, 1.0, random()), even, atol=1e-6)
    x = images(4, 20)
    found = blurred(x, 1.0, random())
    assert bool((found.std((2, 3)) < x.std((2, 3))).all())
    assert torch.allclose(blurred(x, 1e-9, random()), x, atol=1e-6)


def test_a_blur_of_one_pixel_has_the_normal_weights() -> None:
    x = torch.zeros(1, 3, 20, 20)
    x[:, :, 10, 10] = 1.0
    generator = random()
    torch.rand(1, generator=generator)  # which images
    deviation = 0.1 + 1.9 * float(torch.rand(1, generator=generator))
    side = torch.tensor([1.0, 0.0, 1.0]).mul(-0.5 / deviation**2).exp()
    wanted = torch.outer(side, side) / side.sum() ** 2
    found = blurred(x, 1.0, random())[0, 0, 9:12, 9:12]
    assert torch.allclose(found, wanted, atol=1e-6)
