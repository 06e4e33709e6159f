"""Ten filled shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from PIL import Image, ImageDraw

from carryover.data.scenes import FINE, Mask, reduced

DRAWN = 4 * FINE  # px that outlines are drawn at
UNIT = 1024  # sine and cosine in whole numbers: platforms differ in their last digit

Points = list[tuple[float, float]]  # x to the right, y down, within -1..1


def shape(name: str, random: Random, size: int) -> Mask:
    """A filled shape somewhere on the canvas, 55 to 95 % of its height, turned by up to 30 degrees.

    It may be a tenth narrower or wider than it is high.
    """
    half = DRAWN * random.randint(55, 95) // 200
    stretch = random.choice((0.9, 1.0, 1.0, 1.1))
    room = (DRAWN - 2 * half) // 2
    left, top = (DRAWN // 2 + random.randint(-room, room) for _ in range(2))
    cos, sin = turn(random.randint(-30, 30))
    canvas = Image.new("L", (DRAWN, DRAWN))
    pen = ImageDraw.Draw(canvas)
    for points, ink in SHAPES[name]():
        turned = [
            (
                left + round(half * (x * stretch * cos - y * sin) / UNIT),
                top + round(half * (x * stretch * sin + y * cos) / UNIT),
            )
            for x, y in points
        ]
        pen.polygon(turned, fill=ink)
    return reduced(canvas, size)


def turn(degrees: int) -> tuple[int, int]:
    """Cosine and sine of an angle, times `UNIT`."""
    angle = math.radians(degrees)
    return round(UNIT * math.cos(angle)), round(UNIT * math.sin(angle))


def _regular(corners: int, radius: float = 1.0, first: float = -90.0) -> Points:
    angles = [math.radians(first + 360 * i / corners) for i in range(corners)]
    return [(round(radius * math.cos(a), 4), round(radius * math.sin(a), 4)) for a in angles]


def _disc(radius: float = 1.0, x: float = 0.0, y: float = 0.0) -> Points:
    return [(x + dx, y + dy) for dx, dy in _regular(60, radius)]


def _star() -> Points:
    outer, inner = _regular(5), _regular(5, 0.42, -54.0)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _heart() -> Points:
    lobes = []
    for step in range(48):
        t = 2 * math.pi * step / 48
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        lobes.append((round(x / 16.5, 4), round(-y / 16.5, 4)))
    return lobes


def _cross() -> Points:
    arm, end = 0.32, 0.95
    quarter = [(arm, -end), (arm, -arm), (end, -arm)]
    return [point for turned in _quarter_turns(quarter) for point in turned]


def _quarter_turns(points: Points) -> list[Points]:
    turns = [points]
    for _ in range(3):
        turns.append([(-y, x) for x, y in turns[-1]])
    return turns


def _arrow() -> Points:
    above = [(-0.95, -0.28), (0.1, -0.28), (0.1, -0.8)]
    return [*above, (1.0, 0.0), *[(x, -y) for x, y in reversed(above)]]


def _square() -> Points:
    return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]


SHAPES: dict[str, Callable[[], list[tuple[Points, int]]]] = {
    "circle": lambda: [(_disc(0.95), 255)],
    "ring": lambda: [(_disc(0.95), 255), (_disc(0.55), 0)],
    "crescent": lambda: [(_disc(0.95), 255), (_disc(0.8, 0.45, -0.1), 0)],
    "triangle": lambda: [(_regular(3), 255)],
    "square": lambda: [(_square(), 255)],
    "hexagon": lambda: [(_regular(6), 255)],
    "star": lambda: [(_star(), 255)],
    "cross": lambda: [(_cross(), 255)],
    "heart": lambda: [(_heart(), 255)],
    "arrow": lambda: [(_arrow(), 255)],
}
