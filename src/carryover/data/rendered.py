"""Embedded image sets, drawn here from a seed: four labelled ones and a captioned corpus.

They differ in what a class is; all else about an image varies within a class. Each class of a
split has a stream of random numbers of its own. With Pillow (which brings FreeType) and matplotlib
(which brings the fonts) as locked, equal seeds give equal bytes on every machine. All five sets at
32 px take 12 s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

import numpy as np
import torch

from carryover import run
from carryover.data import captions
from carryover.data.glyphs import DIGITS, LETTERS, Glyphs
from carryover.data.images import Table
from carryover.data.scenes import COLOURS, Pixels, noisy, painted, two_colours
from carryover.data.shapes import SHAPES, shape
from carryover.data.textures import TEXTURES, texture
from carryover.errors import DataError, pick

SMALLEST, LARGEST = 8, 64  # px: fewer show no letter, the canvas has no more

Draw = Callable[[str, Random, Glyphs, int], tuple[Pixels, str]]


@dataclass(frozen=True)
class Rendered:
    """A set drawn here.

    Attributes:
        images: classes and the number of images of each, by split. The classes of the corpus are
            the families of its sentences.
        draw: an image of a class, and a sentence about it or "".
    """

    draw: Draw
    images: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def table(name: str, size: int, seed: int, share: float = 1.0) -> Table:
    """The images of a rendered set; the corpus has the column ``caption``.

    Args:
        size: px, 8 to 64.
        seed: the run's.
        share: of each class's images; the first ones are drawn, at least one.
    Raises:
        ConfigError: the name is no rendered set.
        DataError: a size that is not drawn.
    """
    rendered = pick(RENDERED, name, "rendered set")
    if not SMALLEST <= size <= LARGEST:
        raise DataError(
            f"{name}: expected {SMALLEST} to {LARGEST} px to draw images at, got {size}; choose "
            "another size"
        )
    glyphs = Glyphs()
    names = tuple(rendered.images["train"])
    images, labels, splits, sentences = [], [], [], []
    for split, counts in rendered.images.items():
        for label, (of_class, count) in enumerate(counts.items()):
            random = _stream(seed, f"rendered/{name}/{split}/{of_class}")
            for _ in range(max(1, round(count * share))):
                pixels, sentence = rendered.draw(of_class, random, glyphs, size)
                images.append(pixels)
                labels.append(label)
                splits.append(split)
                sentences.append(sentence)
    return Table(
        origin=f"rendered {name}",
        images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        labels=labels,
        splits=splits,
        class_names=names,
        columns={"caption": sentences} if any(sentences) else {},
    )


def _stream(seed: int, purpose: str) -> Random:
    generator = run.generator(seed, purpose)
    return Random(int(torch.randint(2**62, (1,), generator=generator)))


def _letter(name: str, random: Random, glyphs: Glyphs, size: int) -> tuple[Pixels, str]:
    ink, paper = two_colours(random)
    mask = glyphs.draw(name, random, size, LETTER_BEND)
    return noisy(painted(mask, ink, paper, random), random), ""


def _shape(name: str, random: Random, glyphs: Glyphs, size: int) -> tuple[Pixels, str]:
    ink, paper = two_colours(random)
    return noisy(painted(shape(name, random, size), ink, paper, random), random), ""


def _texture(name: str, random: Random, glyphs: Glyphs, size: int) -> tuple[Pixels, str]:
    ink, paper = two_colours(random)
    return noisy(painted(texture(name, random, size), ink, paper, random), random), ""


def _colour(name: str, random: Random, glyphs: Glyphs, size: int) -> tuple[Pixels, str]:
    """A shape of that colour; which shape and which background tell nothing."""
    ink, paper = two_colours(random, name)
    mask = shape(random.choice(list(SHAPES)), random, size)
    return noisy(painted(mask, ink, paper, random), random), ""


def _each(names: tuple[str, ...], train: int, test: int) -> dict[str, dict[str, int]]:
    return {"train": dict.fromkeys(names, train), "test": dict.fromkeys(names, test)}


LETTER_BEND = 3  # per cent of a letter's height
WORLD = {"digit": 4000, "letter": 6000, "shape": 4000, "texture": 2000, "textured": 1000}

RENDERED: dict[str, Rendered] = {
    "letters": Rendered(_letter, _each((*LETTERS, *DIGITS), 40, 20)),
    "shapes": Rendered(_shape, _each(tuple(SHAPES), 120, 60)),
    "textures": Rendered(_texture, _each(tuple(TEXTURES), 150, 75)),
    "colours": Rendered(_colour, _each(tuple(COLOURS), 120, 60)),
    "world": Rendered(
        captions.scene,
        {"train": WORLD, "validation": {family: n // 32 for family, n in WORLD.items()}},
    ),
}
