"""From stored images to what an encoder takes: channels, size, scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def to_rgb(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """Grey images with their channel repeated three times; RGB images as they are."""
    return x.expand(-1, 3, -1, -1)


def resize(x: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c size size"]:
    """Scale the shorter side to `size` px (bilinear, antialiased) and crop the centre square."""
    height, width = x.shape[-2:]
    short = min(height, width)
    if short != size:
        shape = (max(size, height * size // short), max(size, width * size // short))
        x = F.interpolate(x, shape, mode="bilinear", align_corners=False, antialias=True)
    top, left = (x.shape[-2] - size) // 2, (x.shape[-1] - size) // 2
    return x[..., top : top + size, left : left + size]


def normalise(
    x: Float[Tensor, "b c h w"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "b c h w"]:
    """(x - mean) / std.

    Args:
        mean, std: one number for all channels, or one per channel.
    """
    centre, spread = (
        torch.tensor(values, dtype=x.dtype, device=x.device) for values in (mean, std)
    )
    return (x - centre.view(-1, 1, 1)) / spread.view(-1, 1, 1)
