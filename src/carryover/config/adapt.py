"""The ``adapt`` section."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from carryover.config.reader import at_least, between, distinct

T = TypeVar("T")
Item = Literal["probe", "unfreeze", "llrd"]
Probe = Literal[
    "zero-shot",
    "probe",
    "probe-logistic",
    "probe-missing-class",
    "probe-without-class",
    "probe-extra-class",
]


@dataclass(frozen=True)
class Adapt:
    """CLIP's image encoder adapted to one data set, over shares of its training images.

    `softmax`, `lrs` and `epochs` have a value for each item, and where it has another one at some
    partition, that under ``ITEM@PERCENT%``: ``llrd@1%``.
    """

    preset: str
    encoder: str
    dataset: str
    others: tuple[str, ...] | None
    items: tuple[Item, ...]
    probe: tuple[Probe, ...]
    unfreeze: tuple[str, ...]
    llrd: tuple[Literal["llrd", "llrd-blocks"], ...]
    partitions: tuple[float, ...]
    seeds: int
    partition_fault: Literal["none", "missing-class", "extra-class"]
    fault_class: int
    fault_from: float
    blocks_from: int
    decay: float
    decay_blocks: float
    decay_per: Literal["group", "block", "tensor"]
    head: Literal["zeros", "random", "text"]
    softmax: dict[str, Literal["none", "classes", "batch"]]
    schedule: Literal["constant", "cosine"]
    adam: Literal["float32", "float16"]
    precision: Literal["float32", "bfloat16"]
    lrs: dict[str, tuple[float, ...]]
    l2s: tuple[float, ...]
    validation_fraction: float
    batch_size: int
    epochs: dict[str, int]
    max_updates: int
    test_batch: int

    def faults(self) -> list[str]:
        found: list[str] = []
        for name in ("others", "items", "probe", "unfreeze", "llrd", "partitions", "l2s"):
            found += distinct(getattr(self, name) or (), name)
        for i, share in enumerate(self.partitions):
            if not 0 < share <= 1:
                found.append(
                    f"partitions[{i}]: expected a share of the training images above 0 and at "
                    f"most 1, got {share}"
                )
        rates = {f"lrs.{item}": values for item, values in self.lrs.items()}
        for name, values in rates.items():
            found += distinct(values, name)
        for name, values in {**rates, "l2s": self.l2s}.items():
            for i, value in enumerate(values):
                found += between(value, f"{name}[{i}]", above=0.0)
        found += at_least(self.seeds, "seeds", 1)
        found += at_least(self.fault_class, "fault_class", 0)
        found += between(self.fault_from, "fault_from", above=0.0)
        found += at_least(self.blocks_from, "blocks_from", 0)
        found += at_least(self.batch_size, "batch_size", 1)
        found += at_least(self.max_updates, "max_updates", 0)
        found += at_least(self.test_batch, "test_batch", 1)
        for name in ("decay", "decay_blocks"):
            found += between(getattr(self, name), name, above=0.0, most=1.0)
        found += between(self.validation_fraction, "validation_fraction", above=0.0, below=1.0)
        for name in BY_ITEM:
            found += _not_by_item(getattr(self, name), name)
            found += self._elsewhere(name)
        for name, count in self.epochs.items():
            found += at_least(count, f"epochs.{name}", 1)
        found += self._modes()
        if self.dataset in (self.others or ()):
            found.append(f"others: expected other sets than {self.dataset!r}, got it among them")
        return found

    def _modes(self) -> list[str]:
        """Faults of what trains, and of what cannot be had together."""
        found = [
            f"unfreeze[{i}]: expected one of {', '.join(MODES)} or last-N, got {mode!r}"
            for i, mode in enumerate(self.unfreeze)
            if mode not in MODES and not re.fullmatch(r"last-[1-9][0-9]*", mode)
        ]
        if "probe" not in self.items or "probe" not in self.probe:
            found.append(
                "probe: expected probe, which every method is held against, got "
                f"{', '.join(self.probe)} in items {', '.join(self.items)}; add it"
            )
        faulty = {self.partition_fault, *(method.removeprefix("probe-") for method in self.probe)}
        largest = max(self.partitions, default=1.0)
        if faulty & {"missing-class", "without-class", "extra-class"} and self.fault_from > largest:
            found.append(
                f"fault_from: expected at most {largest:g}, the largest of partitions, so that "
                f"one has the fault, got {self.fault_from:g}"
            )
        if self.head == "text" and "extra-class" in faulty:
            found.append("head: expected zeros or random with extra-class, which no text is for")
        if self.partition_fault != "none" and "probe-logistic" in self.probe:
            found.append("probe: expected no probe-logistic with a partition_fault; take one out")
        listed = "llrd" in self.items and "llrd-blocks" in self.llrd
        if listed and self.decay_per == "tensor":
            found.append(
                "llrd: expected no llrd-blocks with decay_per tensor, whose rates would fall at "
                "each of some 150 tensors; set decay_per to group or block, or take it out"
            )
        return found

    def _elsewhere(self, name: str) -> list[str]:
        """Faults of values for a partition that is not listed, which nothing would read."""
        here = [_percent(partition) for partition in self.partitions]
        places = {key: key.partition("@")[2] for key in getattr(self, name) if PLACE.fullmatch(key)}
        return [
            f"{name}.{key}: expected one of the partitions {', '.join(here)}, got {place}; take "
            "the entry out, or list that partition"
            for key, place in places.items()
            if place and place not in here
        ]

    def at(self, partition: float) -> Adapt:
        """The section at one partition: of each item's values those that hold there, alone."""
        here = f"@{_percent(partition)}"
        values = {name: getattr(self, name) for name in BY_ITEM}
        one: dict[str, Any] = {
            name: {item: found.get(item + here, found[item]) for item in ITEMS}
            for name, found in values.items()
        }
        return replace(self, **one)

    def of_items(self, values: Mapping[str, T]) -> list[tuple[str, T]]:
        """The listed items' values in their order, that for all partitions before those of one."""
        return [
            (name, value)
            for item in self.items
            for name, value in sorted(values.items())
            if name.partition("@")[0] == item
        ]

    def methods(self, item: str) -> tuple[str, ...]:
        """The methods of an item, as rows have them."""
        if item == "unfreeze":
            return tuple(f"unfreeze-{kind}" for kind in self.unfreeze)
        return self.probe if item == "probe" else self.llrd


def _percent(partition: float) -> str:
    return f"{100 * partition:g}%"


def _not_by_item(values: Mapping[str, object], name: str) -> list[str]:
    """Faults of a mapping that lacks an item, or has what is no item nor one at a partition."""
    odd = [key for key in values if not PLACE.fullmatch(key)]
    if not odd and set(ITEMS) <= values.keys():
        return []
    got = f", got {', '.join(odd)}" if odd else ""
    return [
        f"{name}: expected an entry each for {', '.join(ITEMS)}, and others, as llrd@1%, for an "
        f"item at one partition{got}"
    ]


MODES = ("norm", "attention", "mlp", "embedding", "all")
ITEMS = ("probe", "unfreeze", "llrd")
BY_ITEM = ("softmax", "lrs", "epochs")
PLACE = re.compile(r"(probe|unfreeze|llrd)(@(100|[1-9]?\d(\.\d*[1-9])?)%)?")
GRID = ("items", "probe", "unfreeze", "llrd", "partitions", "seeds")  # which cells
