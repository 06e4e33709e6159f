"""An image network of the ``pretrain`` section, trained without labels or sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carryover.config.reader import at_least, between, distinct, threads


@dataclass(frozen=True)
class Attention:
    """What a Perceiver has beside its width (`models.perceiver.Perceiver`)."""

    latents: int
    layers: int
    cross_heads: int
    cross_head_width: int
    heads: int
    head_width: int
    bands: int
    max_frequency: int
    dropout: float

    def faults(self) -> list[str]:
        sizes = {name: value for name, value in vars(self).items() if name != "dropout"}
        found = [fault for name, value in sizes.items() for fault in at_least(value, name, 1)]
        if not 0 <= self.dropout < 1:
            found.append(f"dropout: expected at least 0 and below 1, got {self.dropout}")
        return found


@dataclass(frozen=True)
class Backbone:
    """The network that is kept, over images of one size: one of the retrieval study's.

    `form` is of alexnet alone, `attention` of perceiver alone.
    """

    architecture: Literal["resnet18", "alexnet", "perceiver"]
    width: int
    size: int
    form: Literal["cifar", "torchvision"] | None
    attention: Attention | None

    def faults(self) -> list[str]:
        found = at_least(self.width, "width", 1) + at_least(self.size, "size", 8)
        for key, owner in (("form", "alexnet"), ("attention", "perceiver")):
            wanted, given = self.architecture == owner, getattr(self, key) is not None
            if wanted != given:
                found.append(
                    f"{key}: expected {'some' if wanted else 'nothing'} for {self.architecture}, "
                    f"got {'some' if given else 'nothing'}"
                )
        if self.form and self.size < LEAST[self.form]:
            found.append(
                f"size: expected at least {LEAST[self.form]} for alexnet of the form {self.form}, "
                f"got {self.size}"
            )
        return found


LEAST = {"cifar": 29, "torchvision": 63}  # px of which AlexNet's strides leave some


@dataclass(frozen=True)
class ViewParams:
    """How far the random views of an image may lie from it (`data.views.Views`)."""

    crop: float
    flip: float
    jitter: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grey: float
    blur: float

    def faults(self) -> list[str]:
        found = []
        if not 0 < self.crop <= 1:
            found.append(f"crop: expected a share of the area above 0, to 1, got {self.crop}")
        for name in ("flip", "jitter", "brightness", "contrast", "saturation", "grey", "blur"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                found.append(f"{name}: expected a number of 0 to 1, got {value}")
        if not 0 <= self.hue <= 0.5:
            found.append(f"hue: expected turns of 0 to 0.5, got {self.hue}")
        return found


@dataclass(frozen=True)
class Perceptron:
    """Two linear layers with a norm and ReLU between."""

    hidden: int
    out: int

    def faults(self) -> list[str]:
        return at_least(self.hidden, "hidden", 1) + at_least(self.out, "out", 1)


@dataclass(frozen=True)
class SelfSupervised:
    """What both objectives have.

    `dataset` is a set's name, or "" where `datasets` lists the several that the corpus joins.
    """

    objective: str
    dataset: str
    datasets: tuple[str, ...] | None
    network: Backbone
    projection: Perceptron
    views: ViewParams
    optimiser: Literal["adam", "sgd"]
    lr: float
    weight_decay: float
    warm_up: int
    batch_size: int
    epochs: int
    max_updates: int
    validation_images: int
    precision: Literal["float32", "bfloat16"]
    threads: int

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets whose training images make the corpus, in order."""
        return self.datasets or (self.dataset,)

    def faults(self) -> list[str]:
        found = (
            between(self.lr, "lr", above=0.0)
            + at_least(self.warm_up, "warm_up", 0)
            + at_least(self.batch_size, "batch_size", 2)
            + at_least(self.epochs, "epochs", 1)
            + at_least(self.max_updates, "max_updates", 0)
            + at_least(self.validation_images, "validation_images", 2)
            + threads(self.threads)
            + distinct(self.datasets or (), "datasets")
        )
        if self.weight_decay < 0:
            found.append(f"weight_decay: expected at least 0, got {self.weight_decay}")
        if bool(self.dataset) == bool(self.datasets):
            found.append(
                "dataset: expected one set here, or '' and several in datasets, got "
                f"{self.dataset!r} and {list(self.datasets or ())}"
            )
        return found


@dataclass(frozen=True)
class Byol(SelfSupervised):
    """A network that predicts its own slow copy."""

    objective: Literal["byol"]
    prediction: int
    momentum: float

    def faults(self) -> list[str]:
        found = super().faults() + at_least(self.prediction, "prediction", 1)
        if not 0 <= self.momentum <= 1:
            found.append(f"momentum: expected a number of 0 to 1, got {self.momentum}")
        return found


@dataclass(frozen=True)
class SimClr(SelfSupervised):
    """A network that tells the other view of an image from those of all others."""

    objective: Literal["simclr"]
    temperature: float

    def faults(self) -> list[str]:
        return super().faults() + between(self.temperature, "temperature", above=0.0)
