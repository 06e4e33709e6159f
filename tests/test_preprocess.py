from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import Tensor
from torchvision import models
from transformers.models.flava.image_processing_flava import FlavaImageProcessor

from carryover.errors import ConfigError
from carryover.models.preprocess import (
    Preprocess,
    from_card,
    from_hugging_face,
    from_open_clip,
    from_timm,
    from_torchvision,
)

MEAN, STD = (0.48, 0.45, 0.4), (0.26, 0.25, 0.27)
PIXEL = 2 / 255 / 0.22  # Pillow rounds to 8 bits, twice, before the division


def picture(height: int, width: int) -> tuple[Image.Image, Tensor]:
    """A smooth image with an edge, for Pillow and as a batch."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 7 + k) * np.cos(y / (5 + k)) * 90 + 128 for k in range(3)]
    pixels = np.stack(waves, -1).astype(np.uint8)
    pixels[height // 3 :, width // 2 :] //= 2
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    return Image.fromarray(pixels), batch


@pytest.mark.parametrize("shape", [(60, 90), (90, 61), (64, 64), (20, 33), (32, 32)])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_it_is_what_open_clip_does(shape: tuple[int, int], resize: str, interpolation: str) -> None:
    fields = {"mean": MEAN, "std": STD, "resize_mode": resize, "interpolation": interpolation}
    image, batch = picture(*shape)
    theirs = image_transform_v2(PreprocessCfg(size=32, **fields), is_train=False)(image)
    ours = from_open_clip(fields, 32)(batch)[0]
    assert ours.shape == (3, 32, 32)
    assert float((ours - theirs).abs().max()) < PIXEL


def test_it_is_what_timm_does() -> None:
    config = resolve_data_config({}, model=timm.create_model("resnet10t"))
    image, batch = picture(200, 333)
    theirs = create_transform(**config)(image)
    ours = from_timm(config)
    assert (ours.size, ours.shorter) == (176, int(176 / config["crop_pct"]))
    assert float((ours(batch)[0] - theirs).abs().max()) < PIXEL


def test_it_is_what_torchvision_does() -> None:
    transform = models.get_model_weights("alexnet").DEFAULT.transforms(antialias=True)
    image, batch = picture(300, 280)
    ours = from_torchvision(transform)
    assert (ours.size, ours.shorter, ours.interpolation) == (224, 256, "bilinear")
    assert float((ours(batch)[0] - transform(image)).abs().max()) < PIXEL


def test_it_is_what_hugging_face_does_for_flava() -> None:
    processor = FlavaImageProcessor()
    image, batch = picture(300, 280)
    theirs = processor(image, return_tensors="pt")["pixel_values"][0]
    keys = ("size", "crop_size", "resample", "image_mean", "image_std")
    ours = from_hugging_face({key: processor.to_dict()[key] for key in keys})
    assert (ours.size, ours.resize, ours.interpolation) == (224, "squash", "bicubic")
    assert float((ours(batch)[0] - theirs).abs().max()) < PIXEL


def test_the_published_faults_are_two_fields() -> None:
    right = Preprocess(4, "crop", "bicubic", MEAN, STD)
    wrong = dataclasses.replace(right, resize="squash", mean=(), std=())
    x = torch.zeros(1, 3, 4, 8)
    x[..., :2] = 1  # outside the centre square
    assert torch.equal(wrong(x[..., :4]), x[..., :4])
    assert float(wrong(x).max()) > 0.9
    torch.testing.assert_close(right(x)[0, :, 0, 0], -torch.tensor(MEAN) / torch.tensor(STD))
    assert len({right.digest(), wrong.digest(), dataclasses.replace(right, size=5).digest()}) == 3


def test_pixels_stay_in_their_range() -> None:
    x = torch.zeros(1, 3, 64, 64)
    x[..., 32:] = 1
    found = Preprocess(24, "squash", "bicubic", (), ())(x)
    assert float(found.min()) == 0
    assert float(found.max()) == 1


def test_a_card_holds_its_fields() -> None:
    given = Preprocess(4, "squash", "bilinear", MEAN, STD, 0)
    assert from_card(dataclasses.asdict(given) | {"mean": list(MEAN)}) == given


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="resize_mode: expected one of shortest, squash, got"):
        from_open_clip({"mean": MEAN, "std": STD, "resize_mode": "longest"}, 32)
    with pytest.raises(ConfigError, match="expected crop_size to equal size, got 16 and 32"):
        from_hugging_face({"size": 32, "crop_size": {"height": 16, "width": 16}})
    with pytest.raises(ConfigError, match="size: expected a square, got"):
        from_hugging_face({"size": {"height": 16, "width": 8}})


def test_grey_takes_colours_away_as_pillow_does() -> None:
    pixels = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    plain = Preprocess(8, "squash", "bicubic", (), ())
    grey = dataclasses.replace(plain, grey=True)(pixels.float() / 255)
    pillow = Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).convert("L")
    assert torch.equal(grey[:, 0], grey[:, 2])
    torch.testing.assert_close(
        grey[0, 0] * 255, torch.from_numpy(np.array(pillow)).float(), atol=1, rtol=0
    )


def test_pixels_rescaled_twice_are_all_but_constant() -> None:
    plain = Preprocess(8, "squash", "bicubic", (0.5,) * 3, (0.25,) * 3)
    twice = dataclasses.replace(plain, times=1 / 255)
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(twice(x), (x / 255 - 0.5) / 0.25)
    assert twice(x).max() - twice(x).min() < 0.016


def test_what_only_resizes_leaves_values_alone_and_faults_have_digests_of_their_own() -> None:
    plain = Preprocess(8, "crop", "bicubic", (0.5,) * 3, (0.25,) * 3, 10)
    faulty = dataclasses.replace(plain, grey=True, times=1 / 255)
    sizing = dataclasses.replace(plain, mean=(), std=())
    assert faulty.sizing() == plain.sizing() == sizing
    assert (
        len({plain.digest(), faulty.digest(), dataclasses.replace(plain, grey=True).digest()}) == 3
    )
