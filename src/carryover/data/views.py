"""Random views of images, two of which a self-supervised network is to tell from all others.

The steps of SimCLR (Chen et al. 2020, appendix A) and BYOL (Grill et al. 2020, appendix B): crop,
flip, colours, grey, blur. BYOL's solarised views are left out: CIFAR recipes do without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from carryover.data.crops import random_crop

# red, green and blue to luma and two axes of colour: the YIQ of NTSC; luma as in Rec. ITU-R BT.601
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
BLUR_SHARE = 0.1  # of the image's side that the blur reaches over: Chen et al. 2020, appendix A
BLUR_LEAST, BLUR_MOST = 0.1, 2.0  # px, deviation of the blur, ibid.


@dataclass(frozen=True)
class Views:
    """How far views may lie from the image. 1 of `crop` and 0 of all else leave it as it is.

    Attributes:
        crop: smallest share of the area that a crop keeps; it is scaled back to the image's size.
        flip, grey, blur: probabilities of mirrored, grey and blurred views.
        jitter: probability that the colours change at all.
        brightness, contrast, saturation: factors lie in 1 - value .. 1 + value.
        hue: largest change, in turns of the colour circle.
    """

    crop: float
    flip: float
    jitter: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grey: float
    blur: float


def view(
    x: Float[Tensor, "b 3 h w"], views: Views, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """One view of each image, drawn for each image apart.

    Args:
        x: values in 0..1; so are those of the views.
        generator: of the CPU; equal draws for images on any device.
    """
    x = random_crop(x, views.crop, generator)
    x = flipped(x, views.flip, generator)
    x = recoloured(x, views, generator)
    return blurred(x, views.blur, generator)


def flipped(
    x: Float[Tensor, "b 3 h w"], probability: float, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Some images mirrored, left to right."""
    if not probability:
        return x
    chosen = _chosen(x, probability, generator)
    return torch.where(chosen.view(-1, 1, 1, 1), x.flip(3), x)


def recoloured(
    x: Float[Tensor, "b 3 h w"], views: Views, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Brightness, contrast, saturation and hue changed in some images, colours taken from some.

    All changes are one matrix an image and clipped once, so their order changes nothing. The hue
    turns in the plane of equal luma, where the original turns it in HSV.
    """
    if not (views.jitter or views.grey):
        return x
    b = len(x)
    jitter = _chosen(x, views.jitter, generator)
    strengths = (views.brightness, views.contrast, views.saturation, views.hue)
    draws = (2 * torch.rand(4, b, generator=generator) - 1).to(x.device)
    moved = [
        torch.where(jitter, strength * draw, 0.0)
        for strength, draw in zip(strengths, draws, strict=True)
    ]
    brightness, contrast, saturation = ((1 + change).clamp(min=0) for change in moved[:3])
    saturation = saturation.masked_fill(_chosen(x, views.grey, generator), 0.0)
    return with_colours(x, brightness, contrast, saturation, moved[3])


def with_colours(
    x: Float[Tensor, "b 3 h w"],
    brightness: Float[Tensor, " b"],
    contrast: Float[Tensor, " b"],
    saturation: Float[Tensor, " b"],
    hue: Float[Tensor, " b"],
) -> Float[Tensor, "b 3 h w"]:
    """Images with colours changed by a factor of each kind and turned by `hue` turns, clipped.

    Contrast is about the mean luma of the image, saturation about the luma of the pixel.
    """
    axes = x.new_tensor(YIQ)
    turn = 2 * math.pi * hue
    cos, sin = saturation * turn.cos(), saturation * turn.sin()
    inner = x.new_zeros(len(x), 3, 3)
    inner[:, 0, 0] = 1.0
    inner[:, 1, 1] = inner[:, 2, 2] = cos
    inner[:, 1, 2], inner[:, 2, 1] = -sin, sin
    matrix = (brightness * contrast).view(-1, 1, 1) * (axes.inverse() @ inner @ axes)
    luma = x.mean((2, 3)) @ axes[0]
    offset = brightness * (1 - contrast) * luma
    out = torch.baddbmm(offset.view(-1, 1, 1), matrix, x.flatten(2))
    return out.clamp_(0, 1).view_as(x)


def blurred(
    x: Float[Tensor, "b 3 h w"], probability: float, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Some images blurred, each by a deviation of its own."""
    if not probability:
        return x
    b, _, h, w = x.shape
    chosen = _chosen(x, probability, generator)
    spread = BLUR_MOST - BLUR_LEAST
    deviation = (BLUR_LEAST + spread * torch.rand(b, generator=generator)).to(x.device)
    reach = max(1, round(BLUR_SHARE * min(h, w)) // 2)
    steps = torch.arange(-reach, reach + 1, device=x.device)
    kernels = (-0.5 * (steps / deviation[:, None]).square()).exp()
    kernels = torch.where(chosen[:, None], kernels, (steps == 0).float())
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = F.pad(x, (reach,) * 4, mode="reflect").reshape(1, 3 * b, h + 2 * reach, w + 2 * reach)
    flat = F.conv2d(flat, kernels.view(3 * b, 1, 1, -1), groups=3 * b)
    return F.conv2d(flat, kernels.view(3 * b, 1, -1, 1), groups=3 * b).view_as(x)


def _chosen(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Which images something happens to, on their device."""
    return (torch.rand(len(x), generator=generator) < probability).to(x.device)
