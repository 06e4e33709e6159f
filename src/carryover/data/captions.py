"""The captioned corpus: what is on an image, and a sentence that says it.

Characters are the printed ones of `glyphs`; most digits are white on black and shrunk, as
scikit-learn's handwritten ones are, but none is handwritten.
"""

from __future__ import annotations

from random import Random

from carryover.data.glyphs import DIGITS, LETTERS, Glyphs
from carryover.data.scenes import COLOURS, Pixels, blend, noisy, painted, plain, shade, two_colours
from carryover.data.shapes import SHAPES, shape
from carryover.data.textures import TEXTURES, texture

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PHOTOS = ("", "", "", "a photo of ", "an image of ", "a picture of ")
SMALL_BEND, BEND = 9, 6  # of characters, per cent of their height
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def scene(family: str, random: Random, glyphs: Glyphs, size: int) -> tuple[Pixels, str]:
    """An image of a family, and a sentence about it."""
    pixels, sentence = FAMILIES[family](random, glyphs, size)
    return pixels, random.choice(PHOTOS) + sentence


def _digit(random: Random, glyphs: Glyphs, size: int) -> tuple[Pixels, str]:
    value = random.randrange(10)
    word = random.choice((NUMBERS[value], NUMBERS[value], NUMBERS[value], DIGITS[value]))
    noun = f"{random.choice(('digit', 'number'))} {word}"
    return _character(DIGITS[value], noun, 0.7, random, glyphs, size)


def _letter(random: Random, glyphs: Glyphs, size: int) -> tuple[Pixels, str]:
    letter = random.choice(LETTERS)
    noun = f"{random.choice(('letter', 'letter', 'capital letter'))} {letter.lower()}"
    return _character(letter, noun, 0.2, random, glyphs, size)


def _character(
    character: str, noun: str, shrunk: float, random: Random, glyphs: Glyphs, size: int
) -> tuple[Pixels, str]:
    """A character; `shrunk` is the probability that it is shrunk to 8 px and enlarged again."""
    small = random.random() < shrunk
    white, black = (0.8, 0.05) if small else (0.3, 0.2)  # white on black, black on white
    chance = random.random()
    if chance < white:
        ink, paper = "white", "black"
    elif chance < white + black:
        ink, paper = "black", "white"
    else:
        ink, paper = two_colours(random)
    if small:
        mask = glyphs.small(character, random, size, SMALL_BEND)
    else:
        mask = glyphs.draw(character, random, size, BEND)
    if small and ink == "white" and paper == "black":
        pixels = blend(mask, plain(WHITE), plain(BLACK))
    else:
        pixels = noisy(painted(mask, ink, paper, random), random)
    what = f"blurred {noun}" if small and random.random() < 0.2 else noun
    more = (
        f"the {what} in {ink}",
        f"a {ink} {what}",
        f"the {what} in {ink} on {paper}",
        f"a {what} on a {paper} background",
    )
    return pixels, random.choice((f"the {what}",) * len(more) + more)


def _shape(random: Random, glyphs: Glyphs, size: int) -> tuple[Pixels, str]:
    name = random.choice(list(SHAPES))
    ink, paper = two_colours(random)
    pixels = noisy(painted(shape(name, random, size), ink, paper, random), random)
    said = (
        f"a {name}",
        f"a {name}",
        f"a {name}",
        f"a {ink} {name}",
        f"a {ink} {name} on a {paper} background",
        f"a {ink} {name} on {paper}",
        f"the shape of a {name} in {ink}",
        f"something {ink} on a {paper} background",
        f"a {ink} shape",
    )
    return pixels, random.choice(said)


def _texture(random: Random, glyphs: Glyphs, size: int) -> tuple[Pixels, str]:
    name = random.choice(list(TEXTURES))
    ink, paper = two_colours(random)
    pixels = noisy(painted(texture(name, random, size), ink, paper, random), random)
    noun = random.choice(("pattern", "texture", "surface"))
    said = (
        f"a {name} {noun}",
        f"a {name} {noun} in {ink} and {paper}",
        f"a {ink} and {paper} {name} {noun}",
    )
    return pixels, random.choice(said)


def _textured_shape(random: Random, glyphs: Glyphs, size: int) -> tuple[Pixels, str]:
    name, pattern = random.choice(list(SHAPES)), random.choice(list(TEXTURES))
    ink, paper = two_colours(random)
    behind = random.choice([colour for colour in COLOURS if colour not in (ink, paper)])
    inside = painted(texture(pattern, random, size), ink, paper, random)
    pixels = blend(shape(name, random, size), inside, plain(shade(behind, random)))
    said = (
        f"a {pattern} {name}",
        f"a {pattern} {name} on a {behind} background",
        f"a {name} with a {pattern} surface",
    )
    return noisy(pixels, random), random.choice(said)


FAMILIES = {
    "digit": _digit,
    "letter": _letter,
    "shape": _shape,
    "texture": _texture,
    "textured": _textured_shape,
}
