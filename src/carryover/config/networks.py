"""The ``pretrain`` section, and the training keys that every study of a network has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carryover.config.reader import at_least, between, distinct, threads

DEEPEST = 1000  # convolutions


@dataclass(frozen=True)
class Network:
    """The small CNN of the cut study (`models.cnn`)."""

    depth: int
    channels: int
    kernel: int
    activation: Literal["relu", "tanh", "gelu"]
    pool_every: int
    pool_stride: int
    hidden: int

    def faults(self) -> list[str]:
        odd = [] if self.kernel % 2 else [f"kernel: expected an odd number, got {self.kernel}"]
        return (
            odd
            + at_least(self.kernel, "kernel", 1)
            + between(self.depth, "depth", above=0, most=DEEPEST)
            + at_least(self.channels, "channels", 1)
            + at_least(self.pool_every, "pool_every", 0)
            + at_least(self.pool_stride, "pool_stride", 1)
            + at_least(self.hidden, "hidden", 0)
        )


@dataclass(frozen=True)
class Training:
    """How a network is trained; the same keys wherever one is."""

    lr: float
    batch_size: int
    epochs: int
    max_updates: int
    evaluate_every: int
    patience: int
    restore_best: Literal["always", "on_stop"]
    validation_fraction: float
    validation_seed: int | None
    stratified_validation: bool

    def faults(self) -> list[str]:
        return (
            between(self.lr, "lr", above=0.0)
            + at_least(self.batch_size, "batch_size", 1)
            + at_least(self.epochs, "epochs", 1)
            + at_least(self.max_updates, "max_updates", 0)
            + at_least(self.evaluate_every, "evaluate_every", 0)
            + at_least(self.patience, "patience", 0)
            + between(self.validation_fraction, "validation_fraction", above=0.0, below=1.0)
            + at_least(self.validation_seed or 0, "validation_seed", 0)
        )


@dataclass(frozen=True)
class Pretrain(Training):
    """One supervised source network of the ``pretrain`` section."""

    objective: Literal["supervised"]
    dataset: str
    classes: tuple[int, ...]
    threads: int
    network: Network

    def faults(self) -> list[str]:
        return super().faults() + classes(self.classes) + threads(self.threads)


def shares(fractions: tuple[float, ...], repeats: tuple[int, ...]) -> list[str]:
    """Faults of shares of the training images and of the repeats at each."""
    found = [
        f"fractions[{i}]: expected a share of the training images above 0 and at most 1, "
        f"got {share}"
        for i, share in enumerate(fractions)
        if not 0 < share <= 1
    ]
    if len(repeats) != len(fractions):
        found.append(
            f"repeats: expected one number a fraction ({len(fractions)}), got {len(repeats)}"
        )
    for i, count in enumerate(repeats):
        found += at_least(count, f"repeats[{i}]", 2)
    return found


def classes(values: tuple[int, ...]) -> list[str]:
    """Faults of a list of class ids."""
    few = [] if len(values) > 1 else [f"classes: expected at least 2, got {len(values)}"]
    return few + distinct(values, "classes")
