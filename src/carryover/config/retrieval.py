"""The ``retrieval`` section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carryover.config.reader import at_least, between, distinct
from carryover.config.retrieval_networks import Branch, Networks, share

Item = Literal["resnet18", "alexnet", "perceiver"]
Access = Literal["none", "knn", "sampled"]
Part = Literal["features", "labels", "both"]


@dataclass(frozen=True)
class Source:
    """An encoder by where its weights come from, as `models.encoders.load` takes it."""

    source: str
    weights: str | None

    def faults(self) -> list[str]:
        return []


@dataclass(frozen=True)
class Memory:
    """The memory: whose features of which images, and what an entry of it holds."""

    encoder: Source
    kind: Literal["cls", "pooled", "projected"]
    images: Literal["disjoint", "training"]
    per_class: int
    exclude_own: bool
    keys: Part
    values: Part
    sizes: tuple[int, ...] | None
    other: str | None

    def faults(self) -> list[str]:
        found = at_least(self.per_class, "per_class", 1) + distinct(self.sizes or (), "sizes")
        for i, size in enumerate(self.sizes or ()):
            found += at_least(size, f"sizes[{i}]", 1)
        return found


@dataclass(frozen=True)
class Training:
    """How one model is trained; `lrs` to choose from by what it starts with: see `RATES`."""

    optimiser: Literal["adam", "sgd"]
    momentum: float
    weight_decay: float
    schedule: Literal["constant", "cosine", "cosine-epoch"]
    lrs: dict[str, tuple[float, ...]]
    updates: int
    evaluate_at: tuple[int, ...]

    def faults(self) -> list[str]:
        found = share(self.momentum, "momentum") + at_least(self.updates, "updates", 1)
        steps = list(self.evaluate_at)
        if steps != sorted(set(steps)) or steps[0] < 1 or steps[-1] != self.updates:
            found.append(
                "evaluate_at: expected steps in order, from 1 to updates "
                f"({self.updates}) as the last, got {steps}"
            )
        elif len(steps) < 2:
            found.append(f"evaluate_at: expected two steps or more, got {steps}; a curve has two")
        if self.optimiser == "adam" and self.momentum:
            found.append(
                f"momentum: expected 0.0 with adam, which has its own, got {self.momentum}"
            )
        if self.weight_decay < 0:
            found.append(f"weight_decay: expected at least 0, got {self.weight_decay}")
        if sorted(self.lrs) != sorted(RATES):
            found.append(f"lrs: expected an entry each for {', '.join(RATES)}")
        for name, values in self.lrs.items():
            found += distinct(values, f"lrs.{name}")
            for i, value in enumerate(values):
                found += between(value, f"lrs.{name}[{i}]", above=0.0)
        return found


@dataclass(frozen=True)
class RunningMaximum:
    """The published measure: the largest accuracy on a few test images since the epoch's start."""

    images: int
    every: int

    def faults(self) -> list[str]:
        return at_least(self.images, "images", 1) + at_least(self.every, "every", 1)


@dataclass(frozen=True)
class Faults:
    """What the released code does wrong, to have its numbers."""

    entry_zero: bool
    reshaped_tokens: bool
    running_maximum: bool

    def faults(self) -> list[str]:
        return []


@dataclass(frozen=True)
class Retrieval:
    """Image classifiers that attend to stored embeddings."""

    preset: str
    dataset: str
    items: tuple[Item, ...]
    accesses: tuple[Access, ...]
    k: int
    ks: dict[str, tuple[int, ...]] | None
    controls: dict[str, tuple[str, ...]]
    starts: dict[str, dict[str, Source]] | None
    seeds: int
    memory: Memory
    size: int
    normalise: bool
    crop: float
    flip: bool
    head_classes: int
    networks: Networks
    branches: dict[str, Branch]
    training: dict[str, Training]
    batch_size: int
    drop_last: bool
    validation_fraction: float
    noises: tuple[float, ...]
    curve_noises: tuple[float, ...]
    corruptions: tuple[str, ...] | None
    severities: tuple[int, ...]
    running_maximum: RunningMaximum
    l2s: tuple[float, ...]
    eval_batch_size: int
    precision: Literal["float32", "bfloat16"]
    faults_of_original: Faults

    def faults(self) -> list[str]:
        found = distinct(self.items, "items") + distinct(self.accesses, "accesses")
        for name in ("k", "seeds", "size", "batch_size", "eval_batch_size"):
            found += at_least(getattr(self, name), name, 1)
        found += at_least(self.head_classes, "head_classes", 0)
        found += between(self.crop, "crop", above=0.0, most=1.0)
        found += between(self.validation_fraction, "validation_fraction", above=0.0, below=1.0)
        for name, least in (("noises", 0.0), ("curve_noises", 0.0), ("l2s", 1e-12)):
            values = getattr(self, name)
            found += distinct(values, name)
            found += [
                f"{name}[{i}]: expected at least {least:g}, got {value}"
                for i, value in enumerate(values)
                if value < least
            ]
        for i, name in enumerate(self.corruptions or ()):
            found += _one_of(CORRUPTIONS, name, f"corruptions[{i}]")
        found += distinct(self.corruptions or (), "corruptions")
        found += distinct(self.severities, "severities")
        found += [
            f"severities[{i}]: expected 1 to {SEVERITIES}, got {severity}"
            for i, severity in enumerate(self.severities)
            if not 1 <= severity <= SEVERITIES
        ]
        lacking = [noise for noise in self.curve_noises if noise not in self.noises]
        if lacking or self.curve_noises[0] != 0.0:
            found.append(
                f"curve_noises: expected 0.0 first and others of noises {list(self.noises)}, got "
                f"{list(self.curve_noises)}"
            )
        every = self.running_maximum.every
        if self.faults_of_original.running_maximum:
            found += [
                f"running_maximum.every: expected at most training.{item}.updates "
                f"({self.training[item].updates}), got {every}; no image would be drawn"
                for item in self.items
                if item in self.training and every > self.training[item].updates
            ]
        if self.memory.other == self.dataset:
            found.append(f"memory.other: expected another set than dataset, got {self.dataset!r}")
        return found + self._item_faults() + self._control_faults()

    def memory_faults(self, classes: int) -> list[str]:
        """Logits and numbers of neighbours that cannot be with a set of so many classes.

        A memory of training images gives one less where a query's own entry is left out.
        """
        each, found = self.memory.per_class, []
        if 0 < self.head_classes < classes:
            found.append(
                f"head_classes: expected 0 or at least {classes}, the classes of {self.dataset}, "
                f"got {self.head_classes}"
            )
        own = int(self.memory.images == "training" and self.memory.exclude_own)
        for item in self.items:
            controls = self.controls.get(item, ())
            wanted = [("k", self.k, own or int("leave-one-out" in controls))]
            wanted += [(f"ks.{item}[{i}]", k, own) for i, k in enumerate(self._others(item))]
            found += [
                f"{path}: expected at most {classes * each - spare}, as a memory of {classes} "
                f"classes with {each} entries each can give, got {k}; raise memory.per_class"
                for path, k, spare in wanted
                if k > classes * each - spare
            ]
            found += [
                f"memory.sizes[{i}]: expected k ({self.k}) entries or more in {classes} classes, "
                f"got {size} of each; raise it or lower k"
                for i, size in enumerate(self.memory.sizes or ())
                if "memory-sizes" in controls and self.k > classes * size - own
            ]
        return list(dict.fromkeys(found))

    def _others(self, item: str) -> tuple[int, ...]:
        return (self.ks or {}).get(item, ())

    def _item_faults(self) -> list[str]:
        """Each item has its sizes, and other items have none."""
        found = []
        for name in ("branches", "training"):
            if sorted(getattr(self, name)) != sorted(MODELS):
                found.append(f"{name}: expected an entry each for {', '.join(MODELS)}")
        if "knn" not in self.accesses:
            found += [
                f"ks.{item}: expected none where accesses has no knn, got "
                f"{list(self._others(item))}; take them out or add knn"
                for item in self.items
                if self._others(item)
            ]
        for item, values in (self.ks or {}).items():
            found += _of_the_items(item, f"ks.{item}") + distinct(values, f"ks.{item}")
            for i, k in enumerate(values):
                found += at_least(k, f"ks.{item}[{i}]", 1)
                if k == self.k:
                    found.append(f"ks.{item}[{i}]: expected others than k ({self.k}), got it again")
        return found

    def _control_faults(self) -> list[str]:
        found = []
        for item, names in self.controls.items():
            path = f"controls.{item}"
            found += _of_the_items(item, path) + distinct(names, path)
            for i, name in enumerate(names):
                found += _one_of(CONTROLS, name, f"{path}[{i}]")
                if name == "reshaped" and item == "perceiver":
                    found.append(f"{path}[{i}]: expected none that needs a map, got {name!r}")
                if name in STARTED and name not in (self.starts or {}).get(item, {}):
                    found.append(
                        f"starts.{item}.{name}: expected an encoder whose weights {path}[{i}] "
                        "starts from, it is missing; add it"
                    )
                if name == "clean-query" and item in self.items and "knn" not in self.accesses:
                    found.append(
                        f"{path}[{i}]: expected none that tests the arm knn where accesses has no "
                        f"knn, got {name!r}; take it out or add knn"
                    )
                if name == "memory-sizes" and not self.memory.sizes:
                    found.append(f"memory.sizes: expected some for {path}[{i}], got none")
                if name == "other-memory" and not self.memory.other:
                    found.append(f"memory.other: expected a set for {path}[{i}], got none")
        for item, started in (self.starts or {}).items():
            found += _of_the_items(item, f"starts.{item}")
            for name in started:
                if name not in STARTED:
                    found.append(f"starts.{item}.{name}: expected one of {', '.join(STARTED)}")
        return found


def _of_the_items(item: str, path: str) -> list[str]:
    return _one_of(MODELS, item, path)


def _one_of(names: tuple[str, ...], name: str, path: str) -> list[str]:
    return [] if name in names else [f"{path}: expected one of {', '.join(names)}, got {name!r}"]


MODELS = ("resnet18", "alexnet", "perceiver")
ACCESSES = ("none", "knn", "sampled")
RATES = (*ACCESSES, "start")  # start: pretrained weights, of which each chooses for itself
CORRUPTIONS, SEVERITIES = ("blur", "brightness", "contrast", "pixelate", "jpeg"), 5
STARTED = ("corpus", "simclr")  # controls that start from the weights of an encoder
CONTROLS = (  # `retrieval_arms` says what each changes
    *("zeros", "shuffled", "single", "other-memory", "memory-sizes", "itself", "leave-one-out"),
    *("labels", "labels-as-keys", "labels-as-values", "entry-0", "reshaped"),
    *("parameters", "more-images", *STARTED, "vote", "probe", "clean-query"),
)
GRID = ("items", "accesses", "ks", "controls", "seeds")  # which cells
