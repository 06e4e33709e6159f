"""Image sets drawn from a seed."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from random import Random

import numpy as np
import pytest
import torch

from carryover.data.captions import scene
from carryover.data.glyphs import DIGITS, FONTS, LETTERS, Glyphs
from carryover.data.images import Table
from carryover.data.rendered import RENDERED, table
from carryover.data.scenes import COLOURS, two_colours
from carryover.data.shapes import SHAPES, shape
from carryover.data.textures import TEXTURES, texture
from carryover.errors import ConfigError, DataError
from carryover.models import nano, prompts

SHARE = 0.05
COUNTS = {
    "letters": {"train": 1440, "test": 720},
    "shapes": {"train": 1200, "test": 600},
    "textures": {"train": 1200, "test": 600},
    "colours": {"train": 1320, "test": 660},
    "world": {"train": 17000, "validation": 530},
}
DIGESTS = {  # of pixels at 32 px, seed 0, that share; another Pillow or font moves them
    "letters": "a7426a1a31fef890",
    "shapes": "6a9e42ae350d78ef",
    "textures": "68b6bb108153127d",
    "colours": "49f5fa1ee0ba7ca7",
    "world": "6254f86c01dc4367",
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, Table]:
    return {name: table(name, 32, 0, SHARE) for name in RENDERED}


def _pixels(found: Table) -> torch.Tensor:
    assert isinstance(found.images, torch.Tensor)
    return found.images


@pytest.mark.parametrize("name", RENDERED)
def test_pixels_are_those_recorded(drawn: dict[str, Table], name: str) -> None:
    assert hashlib.sha256(_pixels(drawn[name]).numpy().tobytes()).hexdigest()[:16] == DIGESTS[name]


def test_full_sets_have_these_classes_and_images() -> None:
    counts = {
        name: {split: sum(of.values()) for split, of in found.images.items()}
        for name, found in RENDERED.items()
    }
    assert counts == COUNTS
    assert {name: len(found.images["train"]) for name, found in RENDERED.items()} == {
        "letters": 36,
        "shapes": 10,
        "textures": 8,
        "colours": 11,
        "world": 5,
    }


def test_every_class_is_in_every_split(drawn: dict[str, Table]) -> None:
    for name, found in drawn.items():
        pairs = Counter(zip(found.splits, found.labels, strict=True))
        assert len(pairs) == 2 * len(found.class_names), name
        assert _pixels(found).shape == (len(found.labels), 3, 32, 32)
        assert _pixels(found).dtype == torch.uint8


def test_a_smaller_share_is_the_first_images_of_each_class(drawn: dict[str, Table]) -> None:
    fewer, more = table("shapes", 32, 0, SHARE / 2), drawn["shapes"]
    for split in ("train", "test"):
        rows = [i for i, part in enumerate(fewer.splits) if part == split]
        of = [i for i, part in enumerate(more.splits) if part == split]
        first = len(rows) // 10
        start = len(of) // 10
        assert torch.equal(_pixels(fewer)[rows[:first]], _pixels(more)[of[:first]])
        assert torch.equal(
            _pixels(fewer)[rows[first : 2 * first]], _pixels(more)[of[start : start + first]]
        )


def test_another_seed_gives_other_images(drawn: dict[str, Table]) -> None:
    other = _pixels(table("textures", 32, 1, SHARE))
    same = (other == _pixels(drawn["textures"])).flatten(1).all(1)
    assert not same.any()


def test_no_image_is_twice_in_all_sets(drawn: dict[str, Table]) -> None:
    every = [image.tobytes() for found in drawn.values() for image in _pixels(found).numpy()]
    assert len(every) > 1000
    assert len(set(every)) == len(every)


def test_the_corpus_alone_has_captions(drawn: dict[str, Table]) -> None:
    world = drawn["world"].columns["caption"]
    assert len(world) == len(drawn["world"].labels)
    assert all(world)
    assert max(len(nano.words(sentence)) for sentence in world) <= 14
    assert [name for name in drawn if drawn[name].columns] == ["world"]


@pytest.mark.parametrize("name", ["digits", "letters", "shapes", "textures", "colours"])
def test_prompts_use_words_of_the_corpus(drawn: dict[str, Table], name: str) -> None:
    names = tuple(DIGITS) if name == "digits" else drawn[name].class_names
    known = set(nano.vocabulary(drawn["world"].columns["caption"]))
    said = [sentence for group in prompts.class_prompts(name, names) for sentence in group]
    assert {word for sentence in said for word in nano.words(sentence)} - known == set()


def test_captions_name_the_background_that_is_there() -> None:
    """The corner of a shape's image is nearest to the colour that its sentence names."""
    random, glyphs, right = Random(1), Glyphs(), []
    centres = np.array(list(COLOURS.values()))
    while len(right) < 60:
        pixels, sentence = scene("shape", random, glyphs, 32)
        told = re.search(r"on a (\w+) background", sentence)
        if told:
            corner = np.median(pixels[:2, :2].reshape(-1, 3), axis=0)
            nearest = int(np.abs(centres - corner).sum(1).argmin())
            right.append(list(COLOURS)[nearest] == told[1])
    assert sum(right) >= 57


def test_two_colours_can_be_told_apart() -> None:
    random = Random(0)
    for name in COLOURS:
        ink, paper = two_colours(random, name)
        assert ink == name
        differences = [abs(a - b) for a, b in zip(COLOURS[ink], COLOURS[paper], strict=True)]
        assert max(differences) >= 90


def test_every_font_draws_every_character_as_another_picture() -> None:
    glyphs = Glyphs()
    for font in FONTS:
        images = {glyphs.master(font, character, 0).tobytes() for character in LETTERS + DIGITS}
        assert len(images) == 36, font
        for character in LETTERS + DIGITS:
            mask = np.asarray(glyphs.master(font, character, 0))
            assert mask.max() == 255
            assert (mask[:16] == 0).all(), (font, character)


def test_thick_strokes_hold_more_ink_and_thin_ones_less() -> None:
    glyphs = Glyphs()
    ink = [np.asarray(glyphs.master("DejaVuSans", "3", w)).sum() for w in (-2, -1, 0, 1, 2)]
    assert ink == sorted(ink)
    assert len(set(ink)) == 5


def test_small_characters_are_8_px_enlarged() -> None:
    """At 8 px the enlargement does nothing, and the 17 levels of the handwritten digits show."""
    random, glyphs = Random(0), Glyphs()
    for _ in range(20):
        levels = np.unique(glyphs.small("8", random, 8, 5))
        assert len(levels) <= 17
        assert levels[-1] == 255
        assert set(levels.tolist()) <= {level * 255 // 16 for level in range(17)}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_inside_and_neither_empty_nor_full(name: str) -> None:
    random = Random(3)
    for _ in range(20):
        share = shape(name, random, 32).mean() / 255
        assert 0.02 < share < 0.75


@pytest.mark.parametrize("name", TEXTURES)
def test_textures_hold_ink_and_paper(name: str) -> None:
    random = Random(4)
    for _ in range(20):
        mask = texture(name, random, 32) / 255
        assert 0.1 < mask.mean() < 0.9
        assert mask.max() - mask.min() > 0.5


def test_an_unknown_set_and_a_size_that_is_not_drawn_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected one of letters, shapes, .* got 'faces'"):
        table("faces", 32, 0)
    with pytest.raises(DataError, match=r"shapes: expected 8 to 64 px .* got 128"):
        table("shapes", 128, 0)
