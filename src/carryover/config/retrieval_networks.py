"""Sizes of the networks in the ``retrieval`` section, and of their attention to entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from carryover.config.reader import at_least


@dataclass(frozen=True)
class ResNet:
    """Sizes of ``models.resnet18.ResNet18``."""

    width: int

    def faults(self) -> list[str]:
        return sizes(self)


@dataclass(frozen=True)
class AlexNet:
    """Sizes of ``models.alexnet.AlexNet``."""

    width: int
    form: Literal["cifar", "torchvision"]

    def faults(self) -> list[str]:
        return sizes(self)


@dataclass(frozen=True)
class Perceiver:
    """Sizes of ``models.perceiver.Perceiver``."""

    latents: int
    width: int
    layers: int
    cross_heads: int
    cross_head_width: int
    heads: int
    head_width: int
    bands: int
    max_frequency: int
    dropout: float

    def faults(self) -> list[str]:
        return sizes(self) + share(self.dropout, "dropout")


@dataclass(frozen=True)
class Networks:
    """The models."""

    resnet18: ResNet
    alexnet: AlexNet
    perceiver: Perceiver

    def faults(self) -> list[str]:
        return []


@dataclass(frozen=True)
class Branch:
    """The attention to retrieved entries in one model."""

    layers: int
    heads: int
    head_width: int
    multiplier: int
    dropout: float

    def faults(self) -> list[str]:
        return sizes(self) + share(self.dropout, "dropout")


def sizes(section: Any) -> list[str]:
    """Faults of a section's whole numbers."""
    values = vars(section).items()
    return [fault for name, v in values if isinstance(v, int) for fault in at_least(v, name, 1)]


def share(value: float, name: str) -> list[str]:
    return [] if 0 <= value < 1 else [f"{name}: expected at least 0 and below 1, got {value}"]
