"""An image-text network of the ``pretrain`` section, trained contrastively."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carryover.config.reader import at_least, between


@dataclass(frozen=True)
class ImageNetwork:
    """A vision transformer over square patches."""

    size: int
    patch: int
    width: int
    layers: int
    heads: int

    def faults(self) -> list[str]:
        found = (
            at_least(self.size, "size", 8)
            + at_least(self.patch, "patch", 1)
            + _transformer(self.width, self.layers, self.heads)
        )
        if self.patch > 0 and self.size % self.patch:
            found.append(f"patch: expected a divisor of size ({self.size}), got {self.patch}")
        return found


@dataclass(frozen=True)
class TextNetwork:
    """A transformer over words, causal in CLIP."""

    context: int
    width: int
    layers: int
    heads: int

    def faults(self) -> list[str]:
        return at_least(self.context, "context", 3) + _transformer(
            self.width, self.layers, self.heads
        )


@dataclass(frozen=True)
class Contrastive:
    """One network of images and sentences, trained to match both."""

    objective: Literal["contrastive"]
    architecture: Literal["clip", "flava"]
    dataset: str
    image: ImageNetwork
    text: TextNetwork
    dim: int
    lr: float
    weight_decay: float
    warm_up: int
    batch_size: int
    epochs: int
    precision: Literal["float32", "bfloat16"]
    threads: int

    def faults(self) -> list[str]:
        return (
            at_least(self.dim, "dim", 1)
            + between(self.lr, "lr", above=0.0)
            + at_least(self.warm_up, "warm_up", 0)
            + at_least(self.batch_size, "batch_size", 2)
            + at_least(self.epochs, "epochs", 1)
            + at_least(self.threads, "threads", 1)
            + _not_below_zero(self.weight_decay)
        )


def _transformer(width: int, layers: int, heads: int) -> list[str]:
    found = (
        at_least(width, "width", 1) + at_least(layers, "layers", 1) + at_least(heads, "heads", 1)
    )
    if heads > 0 and width % heads:
        found.append(f"heads: expected a divisor of width ({width}), got {heads}")
    return found


def _not_below_zero(weight_decay: float) -> list[str]:
    return [] if weight_decay >= 0 else [f"weight_decay: expected at least 0, got {weight_decay}"]
