"""Encoders that the pipeline itself trained: ``data/models/NAME``, of the kind its card names."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carryover.errors import ConfigError, DataError
from carryover.models import saved, selfsupervised
from carryover.models.cnn import cnn
from carryover.models.encoders import OWN, Encoder, Wanted, assemble
from carryover.models.preprocess import Preprocess, from_card

CNN_MEAN, CNN_STD = 0.5, 0.5  # pixels to -1..1, as supervised pretraining has it


class Grey(nn.Module):
    """RGB to one channel by the mean, which leaves grey images as they are."""

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        return x.mean(1, keepdim=True)


def build(wanted: Wanted) -> Encoder:
    """The encoder of a folder.

    Raises:
        ConfigError: weights were named too.
        DataError: no such folder, altered weights, or a card of no known kind.
    """
    if wanted.weights is not None:
        raise ConfigError(
            f"encoder: expected {wanted.source} without weights, got {wanted.weights!r}: "
            "its own are in data/models"
        )
    folder = wanted.base / OWN / wanted.name
    card = saved.read_card(folder)
    if "network" in card:
        return _cnn(wanted, folder, card)
    if "image_network" in card:
        return _selfsupervised(wanted, folder, card)
    if "open_clip" in card:
        from carryover.models import openclip

        return openclip.nano_encoder(wanted.source, folder, card)
    if "flava" in card:
        from carryover.models import flava

        return flava.nano_encoder(wanted.source, folder, card)
    raise DataError(
        f"{folder}/card.json: expected a network or a config of open_clip or flava, got none; "
        f"run `dvc repro -f pretrain@{wanted.name}`"
    )


def _cnn(wanted: Wanted, folder: Path, card: dict[str, Any]) -> Encoder:
    """The small CNN, its embedding the input of its last layer."""
    channels, size, _ = card["image_shape"]
    whole = cnn(
        **card["network"],
        image_shape=tuple(card["image_shape"]),
        classes=len(card["classes"]),
        generator=torch.Generator(),
    )
    saved.load_(folder, whole)
    parts = OrderedDict(whole.named_children())
    head = parts.pop("linear")
    if channels == 1:
        parts = OrderedDict(grey=Grey(), **parts)
    image = nn.Sequential(parts)
    spread = Preprocess(size, "crop", "bilinear", (CNN_MEAN,) * 3, (CNN_STD,) * 3)
    return assemble(
        wanted.source,
        image,
        from_card(card["preprocess"]) if "preprocess" in card else spread,
        card["network"],
        model=nn.Sequential(OrderedDict(image=image, head=head)),
    )


def _selfsupervised(wanted: Wanted, folder: Path, card: dict[str, Any]) -> Encoder:
    """An image network that learned without labels; its projection was not kept."""
    image, _ = selfsupervised.build(card)
    saved.load_(folder, image)
    return assemble(wanted.source, image, from_card(card["preprocess"]), card["image_network"])
