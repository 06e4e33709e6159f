"""Image-text networks of the ``pretrain`` section: what a recipe's card says, and new weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from carryover.config.contrastive import Contrastive
from carryover.errors import pick
from carryover.models import nano
from carryover.models.preprocess import Preprocess

MEAN, STD = (0.5,) * 3, (0.5,) * 3  # pixels to -1..1
MLP = 4  # width of a block's MLP by that of its tokens, in both architectures


def describe(recipe: Contrastive, sentences: list[str]) -> dict[str, Any]:
    """The part of a card that a network is built from."""
    words: list[str] | str = recipe.text.vocabulary
    ids = nano.CLIP_IDS
    if words == "words":
        words = nano.vocabulary(sentences)
        ids = len(words) + nano.SPECIAL
    config = pick(CONFIGS, recipe.architecture, "architecture")
    key = nano.FORMS[recipe.architecture].key
    return {
        key: config(recipe, ids),
        "vocabulary": words,
        "preprocess": dataclasses.asdict(
            Preprocess(recipe.image.size, "squash", "bilinear", MEAN, STD)
        ),
    }


def new(card: dict[str, Any], random: torch.Generator) -> Any:
    """A network with new weights, drawn from `random`; torch's own stream is left as it was."""
    seed = int(torch.randint(2**62, (1,), generator=random))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nano.build(card)


def _clip(recipe: Contrastive, ids: int) -> dict[str, Any]:
    """Arguments of open_clip's ``CLIP``."""
    image, text = recipe.image, recipe.text
    return {
        "embed_dim": recipe.dim,
        "vision_cfg": {
            "image_size": image.size,
            "patch_size": image.patch,
            "width": image.width,
            "layers": image.layers,
            "head_width": image.width // image.heads,
        },
        "text_cfg": {
            "context_length": text.context,
            "vocab_size": ids,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
        },
    }


def _flava(recipe: Contrastive, ids: int) -> dict[str, Any]:
    """Fields of transformers' ``FlavaConfig``; its multimodal part, not used, is of no layers."""
    image, text = recipe.image, recipe.text
    return {
        "projection_dim": recipe.dim,
        "initializer_range": _spread(image.width),
        "image_config": _blocks(image.width, image.layers, image.heads)
        | {"image_size": image.size, "patch_size": image.patch, "mask_token": False},
        "text_config": _blocks(text.width, text.layers, text.heads)
        | {"vocab_size": ids, "max_position_embeddings": text.context, "type_vocab_size": 1},
        "multimodal_config": _blocks(1, 0, 1),
    }


def _blocks(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": MLP * width,
        "initializer_range": _spread(width),
    }


def _spread(width: int) -> float:
    """Standard deviation of new weights that keeps the size of what passes through them.

    FLAVA's own 0.02 is for a width of 768; in a narrow network it slows training by epochs.
    """
    return float(width**-0.5)


CONFIGS: dict[str, Callable[[Contrastive, int], dict[str, Any]]] = {"clip": _clip, "flava": _flava}
