"""Random crops of training images, as CLIP is fine-tuned on them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

RATIO = 4 / 3  # of a crop's width to its height at most, and the other way round, relatively
TRIES = 10  # draws of a crop before the whole image is taken


def random_crop(
    x: Float[Tensor, "b c h w"], smallest: float, generator: torch.Generator
) -> Float[Tensor, "b c h w"]:
    """A rectangle of each image, scaled to the image's own size (bicubic, clipped to 0..1).

    Args:
        x: values in 0..1.
        smallest, generator: as for `boxes`.
    """
    return crop(x, boxes(len(x), smallest, generator))


def boxes(b: int, smallest: float, generator: torch.Generator) -> Float[Tensor, "b 2 3"] | None:
    """Where to crop so many images, as `torch.nn.functional.affine_grid` takes it.

    A rectangle's share of the area is even in `smallest`..1, its proportions even in logarithm;
    the first of ten draws that fits into the image counts. Corners fall between pixels too. At 1
    there are none and nothing is drawn: images stay as they are.

    Args:
        generator: of the CPU; equal draws for images on any device.
    """
    if smallest >= 1:
        return None
    area = smallest + (1 - smallest) * torch.rand(b, TRIES, generator=generator)
    ratio = (math.log(RATIO) * (2 * torch.rand(b, TRIES, generator=generator) - 1)).exp()
    widths, heights = (area * ratio).sqrt(), (area / ratio).sqrt()  # shares of the image's
    fits = (widths <= 1) & (heights <= 1)
    first = fits.int().argmax(dim=1, keepdim=True)
    none = ~fits.any(dim=1)
    width, height = (
        side.gather(1, first)[:, 0].masked_fill(none, 1.0) for side in (widths, heights)
    )
    across, down = 2 * torch.rand(2, b, generator=generator) - 1
    matrix = torch.zeros(b, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 2] = width, across * (1 - width)
    matrix[:, 1, 1], matrix[:, 1, 2] = height, down * (1 - height)
    return matrix


def crop(
    x: Float[Tensor, "b c h w"], where: Float[Tensor, "b 2 3"] | None
) -> Float[Tensor, "b c h w"]:
    """The images cropped there and scaled to their own size, values clipped to 0..1."""
    if where is None:
        return x
    grid = F.affine_grid(where.to(x.device), list(x.shape), align_corners=False)
    cropped = F.grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return cropped.clamp(0, 1)
