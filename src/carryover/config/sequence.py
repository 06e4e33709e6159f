"""The ``sequence`` section."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from carryover.config.reader import SLUG, at_least, between, distinct
from carryover.config.sequence_parts import (
    HEADLESS,
    KINDS,
    METHODS,
    Averaging,
    Curves,
    Distill,
    Faults,
    Lora,
    Ogd,
)

Item = Literal["plain", "distill", "ogd", "lora", "average"]
LEAST_MAPPED = 5  # images that t-SNE can place
TrainMode = Literal["whole", "image", "text", "image-fc", "image-fc-fixed", "fc"]


@dataclass(frozen=True)
class Sequence:
    """CLIP fine-tuned on one data set after another."""

    preset: str
    encoder: str
    datasets: tuple[str, ...]
    orders: dict[str, tuple[str, ...]]
    items: tuple[Item, ...]
    methods: dict[str, tuple[str, ...]]
    seeds: int
    train_mode: TrainMode
    freeze: bool
    template: str | None
    precision: Literal["float32", "bfloat16"]
    lrs: dict[str, tuple[float, ...]]
    lr_factors: dict[str, float] | None
    l2s: tuple[float, ...]
    validation_fraction: float
    updates: int | None
    epochs: int | None
    batch_size: int
    accumulate: int
    warm_up: int
    smoothing: float
    crop: float
    consolidation: float
    distill: Distill
    ogd: Ogd
    lora: Lora
    average: Averaging
    curves: Curves
    faults_of_original: Faults

    def faults(self) -> list[str]:
        found = distinct(self.datasets, "datasets") + distinct(self.items, "items")
        for name in ("seeds", "batch_size", "accumulate", "warm_up"):
            found += at_least(getattr(self, name), name, 1)
        found += self._length_faults()
        found += between(self.validation_fraction, "validation_fraction", above=0.0, below=1.0)
        found += between(self.crop, "crop", above=0.0, most=1.0)
        found += between(self.consolidation, "consolidation", above=0.0)
        if not 0 <= self.smoothing < 1:
            found.append(
                f"smoothing: expected a share of at least 0, below 1, got {self.smoothing}"
            )
        if sorted(self.lrs) != sorted(KINDS):
            found.append(f"lrs: expected an entry each for {', '.join(KINDS)}")
        rates = {f"lrs.{kind}": values for kind, values in self.lrs.items()}
        for name, values in {**rates, "l2s": self.l2s}.items():
            found += distinct(values, name)
            for i, value in enumerate(values):
                found += between(value, f"{name}[{i}]", above=0.0)
        for name, factor in (self.lr_factors or {}).items():
            found += between(factor, f"lr_factors.{name}", above=0.0)
            found += self._of_the_sets(name, "lr_factors")
        found += self._order_faults()
        longest = len(next(iter(self.orders.values()), ()))
        for i, after in enumerate(self.curves.mix_after):
            if self.curves.mix_methods and after > longest:
                found.append(
                    f"curves.mix_after[{i}]: expected 1 to {longest}, the sets of the first "
                    f"order, got {after}"
                )
        mapped = self.curves.map_images * len(self.datasets)
        if 0 < mapped < LEAST_MAPPED:
            found.append(
                f"curves.map_images: expected 0 or {LEAST_MAPPED} images of all sets together, got "
                f"{mapped}; map more"
            )
        return found + self._method_faults()

    def _length_faults(self) -> list[str]:
        """A task's length is given one way, and a batch can be cut into its parts."""
        given = {"updates": self.updates, "epochs": self.epochs}
        found = [
            fault
            for name, value in given.items()
            if value is not None
            for fault in at_least(value, name, 1)
        ]
        if (self.updates is None) == (self.epochs is None):
            found.append(
                "updates: expected a number here or for epochs, and nothing for the other, got "
                f"{self.updates} and {self.epochs}; leave one of them empty"
            )
        if self.accumulate > self.batch_size:
            found.append(
                f"accumulate: expected at most batch_size, {self.batch_size}, got "
                f"{self.accumulate}; lower it"
            )
        return found

    def updates_of(self, images: int) -> int:
        """Updates of a task of so many training images."""
        return self.updates or (self.epochs or 0) * math.ceil(images / self.batch_size)

    def _order_faults(self) -> list[str]:
        found = [] if self.orders else ["orders: expected at least one, got none"]
        for name, order in self.orders.items():
            path = f"orders.{name}"
            if not SLUG.fullmatch(str(name)):
                found.append(f"{path}: expected a name of a-z, 0-9 and -")
            found += distinct(order, path)
            if len(order) < 2:
                found.append(f"{path}: expected at least two sets, got {len(order)}")
            for i, dataset in enumerate(order):
                found += self._of_the_sets(dataset, f"{path}[{i}]")
        return found

    def _of_the_sets(self, name: str, path: str) -> list[str]:
        if name in self.datasets:
            return []
        known = ", ".join(self.datasets)
        return [f"{path}: expected one of {known}, got {name!r}; add it to sequence.datasets"]

    def _method_faults(self) -> list[str]:
        """A method stands under its own item, and each item that runs has some."""
        found = [
            f"methods: expected an entry for {item}, which items lists"
            for item in self.items
            if item not in self.methods
        ]
        for item, methods in self.methods.items():
            if item not in METHODS:
                found.append(f"methods.{item}: expected one of {', '.join(METHODS)}")
                continue
            found += distinct(methods, f"methods.{item}")
            for i, name in enumerate(methods):
                if name not in METHODS[item]:
                    found.append(
                        f"methods.{item}[{i}]: expected one of {', '.join(METHODS[item])}, got "
                        f"{name!r}"
                    )
                elif self.headed and item in self.items and name in HEADLESS:
                    found.append(
                        f"methods.{item}[{i}]: expected a method that can train a head of its own "
                        f"with train_mode {self.train_mode}, got {name}; leave it out"
                    )
        return found

    @property
    def headed(self) -> bool:
        """Whether each set trains a head of its own, in place of its prompts."""
        return self.train_mode in ("image-fc", "image-fc-fixed", "fc")


GRID = ("items", "methods", "seeds")  # which cells
