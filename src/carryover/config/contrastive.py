"""An image-text network of the ``pretrain`` section, trained contrastively."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carryover.config.reader import at_least, between, distinct, threads


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
    """A transformer over tokens, causal in CLIP.

    `vocabulary` is ``words`` for those of the corpus, ``clip`` for CLIP's byte pairs, which say any
    word.
    """

    vocabulary: Literal["words", "clip"]
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
    """One network of images and sentences, trained to match both.

    `dataset` is a captioned set's name, or "" where `datasets` lists several whose classes are said
    in sentences; the three values after it are of these alone.
    """

    objective: Literal["contrastive"]
    architecture: Literal["clip", "flava"]
    dataset: str
    datasets: tuple[str, ...] | None
    template: str | None
    images_of_each: int
    validation_images: int
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

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets whose training images make the corpus, in order."""
        return self.datasets or (self.dataset,)

    def faults(self) -> list[str]:
        return (
            self._corpus_faults()
            + at_least(self.dim, "dim", 1)
            + between(self.lr, "lr", above=0.0)
            + at_least(self.warm_up, "warm_up", 0)
            + at_least(self.batch_size, "batch_size", 2)
            + at_least(self.epochs, "epochs", 1)
            + threads(self.threads)
            + _not_below_zero(self.weight_decay)
        )

    def _corpus_faults(self) -> list[str]:
        found = distinct(self.datasets or (), "datasets")
        found += at_least(self.images_of_each, "images_of_each", 0)
        if bool(self.dataset) == bool(self.datasets):
            found.append(
                "dataset: expected one captioned set here, or '' and several in datasets, got "
                f"{self.dataset!r} and {list(self.datasets or ())}"
            )
        if self.datasets:
            return found + at_least(self.validation_images, "validation_images", 2)
        for key in ("template", "images_of_each", "validation_images"):
            if getattr(self, key):
                found.append(
                    f"{key}: expected nothing for one captioned set, got {getattr(self, key)!r}; "
                    "it is of several sets, named in datasets"
                )
        return found


def _transformer(width: int, layers: int, heads: int) -> list[str]:
    found = (
        at_least(width, "width", 1) + at_least(layers, "layers", 1) + at_least(heads, "heads", 1)
    )
    if heads > 0 and width % heads:
        found.append(f"heads: expected a divisor of width ({width}), got {heads}")
    return found


def _not_below_zero(weight_decay: float) -> list[str]:
    return [] if weight_decay >= 0 else [f"weight_decay: expected at least 0, got {weight_decay}"]
