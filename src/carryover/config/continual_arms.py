"""What the ``continual`` section lists by name: protocols, heads, arms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from carryover.config.reader import at_least, between, distinct

Item = Literal["frozen", "partly", "unfrozen"]
Kind = Literal["cls", "pooled", "tokens", "projected"]
Strategy = Literal[
    "naive", "ewc", "ewc-online", "ewc-summed", "replay", "lwf", "cumulative", "joint"
]

NO_HEAD, OWN_HEAD = "none", "imagenet"  # the features themselves; the encoder's own classifier
FREEZE = re.compile(r"children-[1-9][0-9]*|[a-z0-9-]+\.\.[a-z0-9-]+")


@dataclass(frozen=True)
class Protocol:
    """How a stream's images become experiences."""

    kind: Literal["ni", "classes", "permuted", "rotated", "domains"]
    experiences: int
    shuffle: bool
    seed: int | None
    task_labels: bool
    mask: bool
    degrees: tuple[float, ...] | None

    def faults(self) -> list[str]:
        found = at_least(self.experiences, "experiences", 1)
        found += at_least(self.seed or 0, "seed", 0)
        if self.task_labels and self.kind != "classes":
            found.append(f"task_labels: expected false for {self.kind}, got true")
        if self.mask and not self.task_labels:
            found.append("mask: expected false without task_labels, got true")
        angles = self.degrees or ()
        if self.kind == "rotated" and len(angles) != self.experiences:
            found.append(
                f"degrees: expected one angle an experience ({self.experiences}), got {len(angles)}"
            )
        if self.kind != "rotated" and angles:
            found.append(f"degrees: expected none for {self.kind}, got {len(angles)}; empty it")
        if self.repeats and self.experiences == 1:
            found.append(f"experiences: expected 2 or more for {self.kind}, got 1; raise it")
        return found

    @property
    def repeats(self) -> bool:
        """Whether the experiences are the same photographs, their pixels changed."""
        return self.kind in ("permuted", "rotated")


@dataclass(frozen=True)
class HeadEntry:
    """Linear layers with ReLU between them."""

    hidden: tuple[int, ...] | None
    sigmoid: bool

    def faults(self) -> list[str]:
        found: list[str] = []
        for i, width in enumerate(self.hidden or ()):
            found += at_least(width, f"hidden[{i}]", 1)
        return found


@dataclass(frozen=True)
class Arm:
    """Trainings that differ in stream, protocol and strategy alone.

    Attributes:
        shuffle, stream_seed: in place of the protocols' own.
        strategies: None leaves the arm out.
    """

    trains: Item
    freeze: str | None
    encoder: str | None
    shuffle: bool | None
    stream_seed: int | None
    streams: tuple[str, ...]
    protocols: tuple[str, ...]
    strategies: tuple[Strategy, ...] | None
    features: Kind
    head: str
    lrs: tuple[float, ...]
    epochs: int
    batch_size: int
    momentum: float
    optimiser: Literal["sgd", "adam"]

    def faults(self) -> list[str]:
        found = at_least(self.epochs, "epochs", 1) + at_least(self.batch_size, "batch_size", 1)
        for name in ("streams", "protocols", "strategies", "lrs"):
            found += distinct(getattr(self, name) or (), name)
        found += at_least(self.stream_seed or 0, "stream_seed", 0)
        for i, lr in enumerate(self.lrs):
            found += between(lr, f"lrs[{i}]", above=0.0)
        if list(self.lrs) != sorted(self.lrs):
            found.append(f"lrs: expected ascending rates, got {list(self.lrs)}; sort them")
        if not 0 <= self.momentum < 1:
            found.append(f"momentum: expected at least 0 and below 1, got {self.momentum}")
        if self.optimiser == "adam" and self.momentum:
            found.append(
                f"momentum: expected 0.0 with adam, which has its own, got {self.momentum}"
            )
        if self.trains == "partly" and not FREEZE.fullmatch(self.freeze or ""):
            found.append(
                "freeze: expected children-N or a range of layer groups (embed..block1) where the "
                f"encoder is partly frozen, got {self.freeze!r}"
            )
        if self.trains != "partly" and self.freeze:
            found.append(f"freeze: expected nothing where it is {self.trains}, got {self.freeze!r}")
        if self.head == NO_HEAD and self.features == "tokens":
            found.append("head: expected a head for tokens, got none: they are no vector of logits")
        if self.head == NO_HEAD and self.trains == "frozen":
            found.append("head: expected one that trains with a frozen encoder, got none")
        return found

    def ordered(self, protocol: Protocol) -> Protocol:
        """A protocol with this arm's own order of images and classes, where it has one."""
        return replace(
            protocol,
            shuffle=protocol.shuffle if self.shuffle is None else self.shuffle,
            seed=protocol.seed if self.stream_seed is None else self.stream_seed,
        )

    def cells(self) -> Iterator[tuple[str, str, str]]:
        """Stream, protocol and strategy of each training."""
        yield from product(self.streams, self.protocols, self.strategies or ())
