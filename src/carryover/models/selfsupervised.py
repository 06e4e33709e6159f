"""Image networks that learn without labels: built from what their card says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from carryover.errors import pick


def build(card: dict[str, Any]) -> tuple[nn.Module, int]:
    """The network of a card, images to embeddings, with new weights, and the embedding's width."""
    fields = dict(card["image_network"])
    return pick(NETWORKS, fields.pop("architecture"), "architecture")(**fields)


def _resnet18(width: int) -> tuple[nn.Module, int]:
    from carryover.models.resnet18 import ResNet18

    return ResNet18(width, None), 8 * width


def _alexnet(width: int, **rest: Any) -> tuple[nn.Module, int]:
    from carryover.models.alexnet import AlexNet

    network = AlexNet(width, None, **rest)
    return network, network.width


def _perceiver(width: int, **rest: Any) -> tuple[nn.Module, int]:
    from carryover.models.perceiver import Perceiver

    return Perceiver(classes=None, channels=3, width=width, **rest), width


NETWORKS: dict[str, Callable[..., tuple[nn.Module, int]]] = {
    "resnet18": _resnet18,
    "alexnet": _alexnet,
    "perceiver": _perceiver,
}
