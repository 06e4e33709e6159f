"""Colours of drawn images, and how a mask becomes one.

What is drawn lies on a canvas of a few times the wanted size and is averaged down to it, in whole
numbers, so that equal draws give equal bytes.
"""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.uint8]  # [h, w], 255 is ink
Pixels = NDArray[np.uint8]  # [h, w, 3]
Colour = tuple[int, int, int]

FINE = 64  # px of the canvas
CONTRAST = 90  # two colours of one image differ by this in red, green or blue
GREYS = ("black", "white", "grey")
GREY_PAPER = 0.7  # share of papers that are one of those
SPREAD = 22  # how much lighter or darker a colour may be
NOISE = (0, 8, 16)  # strengths

COLOURS: dict[str, Colour] = {
    "red": (212, 34, 38),
    "orange": (244, 136, 26),
    "yellow": (240, 222, 48),
    "green": (44, 156, 62),
    "blue": (42, 82, 208),
    "purple": (128, 52, 168),
    "pink": (244, 148, 192),
    "brown": (118, 72, 36),
    "black": (22, 22, 22),
    "white": (238, 238, 238),
    "grey": (130, 130, 130),
}


def shade(name: str, random: Random) -> Colour:
    """A colour of that name: lighter or darker by up to `SPREAD`, a little off in each channel."""
    light = random.randint(-SPREAD, SPREAD)
    hue = SPREAD // 6 if name in GREYS else SPREAD // 3
    red, green, blue = (
        min(255, max(0, value + light + random.randint(-hue, hue))) for value in COLOURS[name]
    )
    return red, green, blue


def two_colours(random: Random, first: str = "") -> tuple[str, str]:
    """Names of an ink and of a paper that can be told from it, most often black, white or grey."""
    ink = first or random.choice(list(COLOURS))
    papers = GREYS if random.random() < GREY_PAPER else tuple(COLOURS)
    return ink, random.choice([name for name in papers if _distance(ink, name) >= CONTRAST])


def _distance(a: str, b: str) -> int:
    return max(abs(x - y) for x, y in zip(COLOURS[a], COLOURS[b], strict=True))


def painted(mask: Mask, ink: str, paper: str, random: Random) -> Pixels:
    """Ink of a shade where the mask is 255, paper of a shade where it is 0."""
    return blend(mask, plain(shade(ink, random)), plain(shade(paper, random)))


def plain(colour: Colour) -> Pixels:
    """A colour, to blend as an image."""
    return np.array(colour, np.uint8).reshape(1, 1, 3)


def blend(mask: Mask, ink: Pixels, paper: Pixels) -> Pixels:
    """Of two images ink where the mask is 255, paper where it is 0."""
    share = mask.astype(np.int32)[..., None]
    return ((ink * share + paper * (255 - share) + 127) // 255).astype(np.uint8)


def noisy(pixels: Pixels, random: Random) -> Pixels:
    """With noise of up to a strength of `NOISE` in every value."""
    strength = random.choice(NOISE)
    noise = np.frombuffer(random.randbytes(pixels.size), np.uint8).reshape(pixels.shape)
    shifted = pixels + (noise.astype(np.int32) * (2 * strength + 1) // 256 - strength)
    return np.clip(shifted, 0, 255).astype(np.uint8)


def reduced(image: Image.Image, size: int) -> Mask:
    """A canvas averaged to `size` px."""
    return np.asarray(image.resize((size, size), Image.Resampling.BOX))
