from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from carryover.data.corruptions import CORRUPTIONS, corrupted, gaussian_noise
from carryover.errors import ConfigError, DataError


def pictures(b: int = 6, c: int = 3, size: int = 32, seed: int = 0) -> Tensor:
    """Smooth random images of 8-bit values."""
    coarse = torch.rand(b, c, 5, 5, generator=torch.Generator().manual_seed(seed))
    x = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return (x * 255).round() / 255


def noisy(x: Tensor, ids: list[int], deviation: float = 0.1, **changes: object) -> Tensor:
    options = {"seed": 3, "source": "digits/test", "clip": False} | changes
    return gaussian_noise(x, torch.tensor(ids, dtype=torch.int64), deviation, **options)


def test_the_noise_of_an_image_is_its_own_whatever_the_batch_and_order() -> None:
    x = pictures()
    whole = noisy(x, [4, 9, 2, 7, 0, 1])
    alone = torch.cat([noisy(x[i : i + 1], [n]) for i, n in enumerate([4, 9, 2, 7, 0, 1])])
    assert torch.equal(whole, alone)
    order = torch.tensor([5, 3, 0, 1, 4, 2])
    assert torch.equal(noisy(x[order], [1, 7, 4, 9, 0, 2]), whole[order])


def test_seeds_sources_and_images_have_different_noise() -> None:
    x = torch.zeros(2, 1, 8, 8)
    first = noisy(x, [0, 1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, noisy(x, [0, 1], seed=4))
    assert not torch.equal(first, noisy(x, [0, 1], source="digits/train"))


def test_noise_has_its_deviation_and_levels_are_one_noise_on_two_scales() -> None:
    x = torch.full((50, 3, 16, 16), 0.5)
    ids = list(range(50))
    noise = noisy(x, ids, 0.1) - x
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.002)
    assert torch.allclose(noisy(x, ids, 0.5) - x, 5 * noise, atol=1e-6)


def test_no_noise_changes_nothing_and_no_image_is_no_image() -> None:
    x = pictures(2)
    assert torch.equal(noisy(x, [0, 1], 0.0), x)
    assert noisy(x[:0], []).shape == (0, 3, 32, 32)


def test_clipped_noise_is_the_same_noise_cut_to_the_range_of_pixels() -> None:
    x = pictures(4)
    free = noisy(x, [0, 1, 2, 3], 0.5)
    assert float(free.min()) < 0 < 1 < float(free.max())
    assert torch.equal(noisy(x, [0, 1, 2, 3], 0.5, clip=True), free.clamp(0, 1))


def test_a_negative_deviation_is_refused() -> None:
    with pytest.raises(DataError, match=r"expected a deviation of 0 or more, got -0\.1"):
        noisy(pictures(1), [0], -0.1)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
@pytest.mark.parametrize("channels", [1, 3])
def test_corruptions_keep_shape_and_range_and_grow_with_severity(name: str, channels: int) -> None:
    x = pictures(c=channels)
    kept = x.clone()
    found = [corrupted(x, name, severity) for severity in range(1, 6)]
    assert torch.equal(x, kept)
    for made in found:
        assert made.shape == x.shape
        assert made.dtype == x.dtype
        assert 0 <= float(made.min()) <= float(made.max()) <= 1
    off = [float((made - x).square().mean()) for made in found]
    assert off[0] > 0
    assert off[0] < off[4]
    assert name == "pixelate" or off == sorted(off)  # 28 px fit into 32 worse than 27 px
    assert torch.equal(corrupted(x[2:3], name, 3), found[2][2:3])  # other images do not matter


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_blur_is_scipys(severity: int) -> None:
    x = pictures(3, seed=1)
    deviation = CORRUPTIONS["blur"].levels[severity - 1]
    expected = gaussian_filter(
        x.numpy().astype(float), (0, 0, deviation, deviation), mode="nearest"
    )
    assert np.allclose(corrupted(x, "blur", severity).numpy(), expected, atol=1e-6)


def test_brightness_raises_the_value_of_hsv() -> None:
    x = pictures(3, seed=2)
    x[0, :, 0, 0] = 0  # black has no hue
    colours = rgb_to_hsv(x.permute(0, 2, 3, 1).numpy().astype(float))
    colours[..., 2] = np.clip(colours[..., 2] + 0.2, 0, 1)
    found = corrupted(x, "brightness", 4).permute(0, 2, 3, 1).numpy()
    assert np.allclose(found, hsv_to_rgb(colours), atol=1e-6)
    assert found[0, 0, 0] == pytest.approx([0.2] * 3)


def test_brightness_of_grey_images_is_added() -> None:
    x = torch.tensor([0.0, 0.5, 0.9, 1.0]).view(1, 1, 2, 2)
    found = corrupted(x, "brightness", 5).flatten().tolist()
    assert found == pytest.approx([0.3, 0.8, 1.0, 1.0])


def test_contrast_by_hand() -> None:
    x = torch.tensor([[0.0, 1.0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2]]).view(1, 2, 2, 2)
    found = corrupted(x, "contrast", 2).flatten().tolist()
    assert found == pytest.approx([0.25, 0.75, 0.5, 0.5, 0.2, 0.2, 0.2, 0.2])


def test_pixelated_images_have_fewer_rows_and_columns() -> None:
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    for severity, side in ((1, 30), (4, 24), (5, 20)):
        made = corrupted(x, "pixelate", severity)[0, 0]
        assert len(made.unique(dim=0)) == side
        assert len(made.T.unique(dim=0)) == side
        assert float(made.mean()) == pytest.approx(float(x.mean()), abs=0.02)


def test_an_image_of_one_pixel_stays_as_it_is_when_pixelated() -> None:
    x = torch.tensor([0.2, 0.4]).view(2, 1, 1, 1)
    for severity in (1, 5):
        assert torch.equal(corrupted(x, "pixelate", severity), x)


def test_jpeg_is_pillows_round_trip() -> None:
    x = pictures(2, seed=3)
    found = corrupted(x, "jpeg", 5)
    for pixels, made in zip(x, found, strict=True):
        file = io.BytesIO()
        array = (pixels.permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(array).save(file, "JPEG", quality=40)
        again = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
        assert torch.equal(made, again)


def test_unknown_corruptions_and_severities_are_refused() -> None:
    x = pictures(1)
    with pytest.raises(ConfigError, match=r"corruption: expected one of blur, .*, got 'fog'"):
        corrupted(x, "fog", 1)
    for severity in (0, 6):
        with pytest.raises(DataError, match=f"jpeg: expected a severity of 1 to 5, got {severity}"):
            corrupted(x, "jpeg", severity)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_no_images_stay_no_images(name: str) -> None:
    assert corrupted(torch.zeros(0, 3, 32, 32), name, 5).shape == (0, 3, 32, 32)
