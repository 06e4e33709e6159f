"""Characters in matplotlib's bundled fonts, thinned or thickened, bent, blurred and shrunk."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from carryover.data.scenes import FINE, Mask, reduced

FONTS = (  # those of matplotlib that hold every letter and digit in ordinary form
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmb10",
    "cmr10",
    "cmss10",
    "cmti10",
    "cmtt10",
)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
MASTER = 96  # px of the height that a character is drawn at, once
MARGIN = 16  # px of paper around it
WEIGHTS = (-2, -1, 0, 0, 1, 2)  # strokes thinner or thicker, in steps of 2 px of the master
SMALL = 8  # px of scikit-learn's digits
LEVELS = 16  # grey levels of those, above black
GAINS = (16, 18, 20)  # level that the lightest pixel would have; more than `LEVELS` is cut off


class Glyphs:
    """Draws characters; each font, character and stroke is drawn once and kept."""

    def __init__(self) -> None:
        import matplotlib

        self.folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        self.masters: dict[tuple[str, str, int], Image.Image] = {}

    def master(self, font: str, character: str, weight: int) -> Image.Image:
        """A character with paper around it, ``MASTER`` px high and as wide as it is."""
        key = (font, character, weight)
        if key not in self.masters:
            self.masters[key] = self._drawn(font, character, weight)
        return self.masters[key]

    def _drawn(self, font: str, character: str, weight: int) -> Image.Image:
        if weight:
            plain = self.master(font, character, 0)
            size = 2 * abs(weight) + 1
            kind = ImageFilter.MaxFilter if weight > 0 else ImageFilter.MinFilter
            image = plain.filter(kind(size))
            kept = image.histogram()[128:]
            # a hair line does not get thinner: it would vanish
            return image if sum(kept) * 2 > sum(plain.histogram()[128:]) else plain
        pen = ImageFont.truetype(
            self.folder / f"{font}.ttf", 2 * MASTER, layout_engine=ImageFont.Layout.BASIC
        )
        left, top, right, bottom = (round(edge) for edge in pen.getbbox(character))
        image = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(image).text((-left, -top), character, fill=255, font=pen)
        width = max(1, MASTER * image.width // image.height)
        canvas = Image.new("L", (width + 2 * MARGIN, MASTER + 2 * MARGIN))
        canvas.paste(image.resize((width, MASTER), Image.Resampling.BOX), (MARGIN, MARGIN))
        return canvas

    def draw(self, character: str, random: Random, size: int, bend: int) -> Mask:
        """A character somewhere on the canvas, 65 to 95 % of its height.

        Turned by up to 15 degrees, slanted and stretched.

        Args:
            bend: how far points of a 3x3 grid move, in per cent of the character's height.
        """
        height = random.randint(65, 95) / 100
        stretch = random.choice((0.8, 0.9, 1.0, 1.0, 1.1))
        room = (1 - height) / 2
        right, down = (random.randint(-100, 100) / 100 * room for _ in range(2))
        canvas = self._bent(character, random, (height * stretch, height), (right, down), bend)
        return reduced(canvas, size)

    def small(self, character: str, random: Random, size: int, bend: int) -> Mask:
        """A character box-shrunk to 8 px that it fills in height, 17 levels, enlarged again."""
        height = random.randint(90, 104) / 100
        stretch = random.choice((0.75, 0.85, 0.95, 1.05, 1.2))
        right = random.randint(-6, 6) / 100
        canvas = self._bent(character, random, (height * stretch, height), (right, 0.0), bend)
        tiny = reduced(canvas, SMALL).astype(np.int32)
        levels = np.minimum(LEVELS, tiny * random.choice(GAINS) // max(1, int(tiny.max())))
        step = Image.fromarray((levels * 255 // LEVELS).astype(np.uint8))
        return np.asarray(step.resize((size, size), Image.Resampling.BILINEAR))

    def _bent(
        self,
        character: str,
        random: Random,
        scale: tuple[float, float],
        shift: tuple[float, float],
        bend: int,
    ) -> Image.Image:
        source = self.master(random.choice(FONTS), character, random.choice(WEIGHTS))
        angle = math.radians(random.randint(-15, 15))
        cos, sin = round(math.cos(angle), 4), round(math.sin(angle), 4)
        slant = random.randint(-25, 25) / 100
        # px of the master for one px of the canvas; a wide character must fit too
        wide = max(1.0, source.width / source.height)
        across, along = MASTER * wide / (FINE * scale[0]), MASTER / (FINE * scale[1])
        corners = {}
        for row in range(3):
            for column in range(3):
                x = (column / 2 - 0.5 - shift[0]) * FINE
                y = (row / 2 - 0.5 - shift[1]) * FINE
                jitter = [random.randint(-bend, bend) / 100 * MASTER for _ in range(2)]
                corners[row, column] = (
                    round(source.width / 2 + (x * cos + y * (sin + slant)) * across + jitter[0], 2),
                    round(source.height / 2 + (y * cos - x * sin) * along + jitter[1], 2),
                )
        half = FINE // 2
        mesh = [
            (
                (half * column, half * row, half * (column + 1), half * (row + 1)),
                (
                    *corners[row, column],
                    *corners[row + 1, column],
                    *corners[row + 1, column + 1],
                    *corners[row, column + 1],
                ),
            )
            for row in range(2)
            for column in range(2)
        ]
        return source.transform((FINE, FINE), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
