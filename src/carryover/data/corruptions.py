"""Images made worse: Gaussian noise that an image keeps, and five common corruptions.

Images go in and come out as 0..1. Widths in px and scales are those of CIFAR-10-C, meant for images
of about 32 px; unlike those files, only what Pillow does is rounded to 8 bits.

Source: Hendrycks and Dietterich 2019; severities from ``make_cifar_c.py`` of
github.com/hendrycks/robustness at ca36008.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from carryover.errors import DataError, pick
from carryover.run import generator

Pixels = Float[Tensor, "b c h w"]

TRUNCATE = 4.0  # deviations after which a blur's weights end, as in scipy
TINY = 1e-12  # below it a pixel counts as black


def gaussian_noise(
    x: Pixels,
    ids: Int64[Tensor, " b"],
    deviation: float,
    *,
    seed: int,
    source: str,
    clip: bool,
) -> Pixels:
    """Images with Gaussian noise added.

    The noise of an image depends on the seed, its source and its id alone: batch, order and other
    images do not matter, and two deviations give the same noise on two scales.

    Args:
        ids: row of each image in its source.
        deviation: of the noise; 0 changes nothing.
        source: names the set and split, so that equal ids of two splits differ.
        clip: cut back to 0..1. The originals' noise, in a loader that no reported run uses, is not
            cut; CIFAR-10-C's is.
    Raises:
        DataError: the deviation is below 0.
    """
    if deviation < 0:
        raise DataError(f"noise: expected a deviation of 0 or more, got {deviation}; raise it")
    if not deviation:
        return x
    shape = x.shape[1:]
    each = [
        torch.randn(shape, generator=generator(seed, f"noise/{source}/{number}"))
        for number in ids.tolist()
    ]
    noise = torch.stack(each) if each else torch.zeros(0, *shape)
    noisy = x + deviation * noise.to(x)
    return noisy.clamp(0, 1) if clip else noisy


def corrupted(x: Pixels, name: str, severity: int) -> Pixels:
    """Images with one of `CORRUPTIONS`; nothing is drawn, so the same come out every time.

    Args:
        severity: 1 (least) to 5.
    Raises:
        ConfigError: there is no such corruption.
        DataError: another severity.
    """
    corruption = pick(CORRUPTIONS, name, "corruption")
    if not 1 <= severity <= len(corruption.levels):
        raise DataError(
            f"{name}: expected a severity of 1 to {len(corruption.levels)}, got {severity}; give "
            "one of them"
        )
    return corruption.apply(x, corruption.levels[severity - 1])


def _blur(x: Pixels, deviation: float) -> Pixels:
    """Gaussian blur; beyond the border the last pixel goes on."""
    reach = int(TRUNCATE * deviation + 0.5)
    weights = [math.exp(-(i**2) / (2 * deviation**2)) for i in range(-reach, reach + 1)]
    for axis in (2, 3):  # shifted sums: a convolution's last bits would depend on the batch
        size = x.shape[axis]
        places = torch.arange(-reach, size + reach, device=x.device).clamp(0, size - 1)
        wide = x.index_select(axis, places)
        x = torch.zeros_like(x)
        for first, weight in enumerate(weights):
            x.add_(wide.narrow(axis, first, size), alpha=weight / sum(weights))
    return x.clamp(0, 1)


def _brighten(x: Pixels, more: float) -> Pixels:
    """The value of HSV, a pixel's largest channel, is raised; hue and saturation stay."""
    value = x.amax(1, keepdim=True)
    raised = (value + more).clamp(0, 1)
    # black has no hue: it becomes grey
    return torch.where(value > TINY, x / value.clamp(min=TINY) * raised, raised)


def _flatten(x: Pixels, share: float) -> Pixels:
    """Contrast: each channel is drawn towards its mean over the image."""
    mean = x.mean((2, 3), keepdim=True)
    return ((x - mean) * share + mean).clamp(0, 1)


def _pixelate(x: Pixels, share: float) -> Pixels:
    """Fewer, larger pixels: scaled down and up again with a box filter."""

    def blocks(image: Image.Image) -> Image.Image:
        small = max(1, int(image.width * share)), max(1, int(image.height * share))
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _by_pillow(x, blocks)


def _jpeg(x: Pixels, quality: float) -> Pixels:
    """JPEG and back."""

    def again(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=round(quality))
        return Image.open(file)

    return _by_pillow(x, again)


def _by_pillow(x: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    """Each image as 8-bit pixels through a function of Pillow's."""
    grey = x.shape[1] == 1
    made = []
    for pixels in (x * 255).round().to(torch.uint8).cpu().permute(0, 2, 3, 1).numpy():
        array = np.asarray(change(Image.fromarray(pixels[..., 0] if grey else pixels)))
        made.append(torch.from_numpy(array.copy()).reshape(pixels.shape))
    return torch.stack(made).permute(0, 3, 1, 2).to(x) / 255 if made else x


@dataclass(frozen=True)
class Corruption:
    """How images are made worse, and by how much at each severity."""

    apply: Callable[[Pixels, float], Pixels]
    levels: tuple[float, ...]


CORRUPTIONS = {
    "blur": Corruption(_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),  # deviation in px
    "brightness": Corruption(_brighten, (0.05, 0.1, 0.15, 0.2, 0.3)),  # added to the value
    "contrast": Corruption(_flatten, (0.75, 0.5, 0.4, 0.3, 0.15)),  # share that is left
    "pixelate": Corruption(_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),  # of the size
    "jpeg": Corruption(_jpeg, (80, 65, 58, 50, 40)),  # quality
}
