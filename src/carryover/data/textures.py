"""Eight textures."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carryover.data.scenes import FINE, Mask, reduced
from carryover.data.shapes import UNIT, turn

Field = NDArray[np.int64]  # a number for each px of the canvas


def texture(name: str, random: Random, size: int) -> Mask:
    """A texture over the whole image: how much ink there is at each pixel."""
    cos, sin = turn(random.randint(0, 179))
    period = random.randint(FINE // 8, FINE // 4)
    y, x = np.indices((FINE, FINE)) + random.randint(0, FINE)
    u, v = (x * cos + y * sin) // UNIT, (y * cos - x * sin) // UNIT
    field = TEXTURES[name](u, v, period, random)
    return reduced(Image.fromarray(field.astype(np.uint8)), size)


def _stripes(u: Field, v: Field, period: int, random: Random) -> Field:
    return 255 * (u % period < period // 2)


def _dots(u: Field, v: Field, period: int, random: Random) -> Field:
    du, dv = u % period - period // 2, v % period - period // 2
    return 255 * (100 * (du * du + dv * dv) < 11 * period * period)


def _checks(u: Field, v: Field, period: int, random: Random) -> Field:
    return 255 * ((2 * u // period + 2 * v // period) % 2)


def _grid(u: Field, v: Field, period: int, random: Random) -> Field:
    width = max(2, period // 5)
    return 255 * ((u % period < width) | (v % period < width))


def _zigzags(u: Field, v: Field, period: int, random: Random) -> Field:
    wave = 2 * period
    return 255 * ((u + abs(v % wave - period)) % period < period // 2)


def _rings(u: Field, v: Field, period: int, random: Random) -> Field:
    centre = random.randint(FINE // 4, 3 * FINE // 4)
    y, x = np.indices((FINE, FINE))
    radius = np.sqrt((x - centre) ** 2 + (y - random.randint(FINE // 4, 3 * FINE // 4)) ** 2)
    return 255 * (radius.astype(np.int64) % period < period // 2)


def _noise(u: Field, v: Field, period: int, random: Random) -> Field:
    grain = random.choice((2, 4))
    side = FINE // grain
    values = np.frombuffer(random.randbytes(side * side), np.uint8).reshape(side, side)
    return np.kron(values, np.ones((grain, grain), np.uint8)).astype(np.int64)


def _gradient(u: Field, v: Field, period: int, random: Random) -> Field:
    low, high = u.min(), u.max()
    return (u - low) * 255 // (high - low)


TEXTURES: dict[str, Callable[[Field, Field, int, Random], Field]] = {
    "striped": _stripes,
    "dotted": _dots,
    "checked": _checks,
    "gridded": _grid,
    "zigzagged": _zigzags,
    "ringed": _rings,
    "noisy": _noise,
    "shaded": _gradient,
}
