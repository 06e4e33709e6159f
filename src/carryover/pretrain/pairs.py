"""Images and sentences to train an image-text network on.

A captioned set brings its own sentences. Of several sets without, each image is given one sentence
about its class: its set's name for it, in a template drawn anew for every image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover import run
from carryover.config.contrastive import Contrastive
from carryover.data import store
from carryover.data.images import Images
from carryover.data.transforms import to_rgb
from carryover.errors import DataError, pick
from carryover.files import digest
from carryover.models.preprocess import Preprocess, from_card
from carryover.models.prompts import TEMPLATES, class_prompts

SETS = Path("data/sets")
PASS_ROWS = 1024  # images preprocessed at once


@dataclass(frozen=True, eq=False)
class Part:
    """Some images of one set, and a sentence about each."""

    images: Images
    sentences: list[str]

    def take(self, rows: Int64[Tensor, " n"]) -> Part:
        return Part(self.images.select(rows), [self.sentences[row] for row in rows.tolist()])


@dataclass(frozen=True, eq=False)
class Pairs:
    """What is trained on, part after part.

    Attributes:
        digest: of all images that were drawn from.
    """

    parts: tuple[Part, ...]
    digest: str

    @property
    def sentences(self) -> list[str]:
        return [sentence for part in self.parts for sentence in part.sentences]

    def __len__(self) -> int:
        return sum(len(part.images) for part in self.parts)


def load(recipe: Contrastive, item: str, seed: int) -> tuple[Pairs, Pairs]:
    """Pairs to train on, and pairs held out.

    Raises:
        ConfigError: no such template.
        DataError: one set without sentences, or fewer images than are to be held out.
    """
    if recipe.datasets is None:
        split = [_captioned(recipe.dataset, part, item) for part in ("train", "validation")]
        return split[0], split[1]
    if recipe.template:
        pick(TEMPLATES, recipe.template, f"pretrain.{item}.template")
    random = run.generator(seed, f"pretrain/{item}/pairs")
    sets = {name: store.load(SETS / name, "train") for name in recipe.datasets}
    every = [_said(name, images, recipe, random) for name, images in sets.items()]
    sizes = [len(part.images) for part in every]
    held = torch.zeros(sum(sizes), dtype=torch.bool)
    if recipe.validation_images >= len(held):
        raise DataError(
            f"pretrain.{item}.validation_images: expected fewer than the {len(held)} images of the "
            f"sets, got {recipe.validation_images}; hold out fewer"
        )
    held[torch.randperm(len(held), generator=random)[: recipe.validation_images]] = True
    all_of = digest([images.digest for images in sets.values()])
    trained, tested = (
        Pairs(
            tuple(
                part.take(rows.nonzero()[:, 0])
                for part, rows in zip(every, chosen.split(sizes), strict=True)
            ),
            all_of,
        )
        for chosen in (~held, held)
    )
    return trained, tested


def _captioned(name: str, split: str, item: str) -> Pairs:
    images = store.load(SETS / name, split)
    if "caption" not in images.columns:
        raise DataError(
            f"pretrain.{item}.dataset: expected a set with a sentence for each image (column "
            f"caption), got {name} without; name another, such as world, or list it in datasets"
        )
    return Pairs((Part(images, images.columns["caption"]),), images.digest)


def _said(name: str, images: Images, recipe: Contrastive, random: torch.Generator) -> Part:
    """Images of one set, as many as are wanted, each with a sentence about its class."""
    if 0 < recipe.images_of_each < len(images):
        order = torch.randperm(len(images), generator=random)
        images = images.select(order[: recipe.images_of_each].sort().values)
    prompts = class_prompts(name, images.class_names, sentences_of=recipe.template or "")
    drawn = torch.randint(len(prompts[0]), (len(images),), generator=random)
    pairs = zip(images.labels.tolist(), drawn.tolist(), strict=True)
    return Part(images, [prompts[label][which] for label, which in pairs])


def inputs(
    pairs: Pairs, card: dict[str, Any], device: torch.device
) -> Float[Tensor, "n 3 size size"]:
    """All images as the network takes them."""
    preprocess = from_card(card["preprocess"])
    found = [x for part in pairs.parts for x in _preprocessed(part.images, preprocess)]
    return torch.cat(found).to(device)


def _preprocessed(
    images: Images, preprocess: Preprocess
) -> Iterator[Float[Tensor, "n 3 size size"]]:
    if isinstance(images.pixels, Tensor):
        for rows in torch.arange(len(images)).split(PASS_ROWS):
            yield preprocess(to_rgb(images.floats(rows)))
    else:  # of any size, decoded one by one
        for row in range(len(images)):
            yield preprocess(to_rgb(images.image(row)[None].float() / 255))
