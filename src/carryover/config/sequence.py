"""The ``sequence`` section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carryover.config.reader import SLUG, at_least, between, distinct

Item = Literal["plain", "distill", "ogd", "lora", "average"]
Teacher = Literal["zero-shot", "previous", "mixed"]
TrainMode = Literal["whole", "image", "text", "image-fc", "image-fc-fixed", "fc"]


@dataclass(frozen=True)
class Distill:
    """Reference images, sentences and teacher of the methods that distil."""

    reference: str
    reference_images: int
    sentences: Literal["captions", "prompts", "random"]
    sentences_of: str
    sentence_count: int
    random_sentences: int
    teachers: dict[str, Teacher]
    teacher_mix: float
    temperature: float
    weight: float
    by_image: bool
    by_text: bool
    memory_size: int

    def faults(self) -> list[str]:
        found = at_least(self.reference_images, "reference_images", 0)
        found += at_least(self.sentence_count, "sentence_count", 0)
        found += at_least(self.random_sentences, "random_sentences", 1)
        found += at_least(self.memory_size, "memory_size", 1)
        found += between(self.temperature, "temperature", above=0.0)
        found += between(self.weight, "weight", above=0.0)
        found += _share(self.teacher_mix, "teacher_mix")
        if sorted(self.teachers) != sorted(DISTILLING):
            found.append(f"teachers: expected an entry each for {', '.join(DISTILLING)}")
        return found


@dataclass(frozen=True)
class Ogd:
    """Orthogonal gradient descent: what its basis is made of."""

    version: Literal["paper", "published"]
    gradients: Literal["label-logit", "mean-logit", "all-logits", "loss"]
    scope: Literal["joint", "tensor"]
    images: int
    energy: float
    samples: int

    def faults(self) -> list[str]:
        found = at_least(self.images, "images", 1) + at_least(self.samples, "samples", 1)
        if not 0 < self.energy <= 1:
            found.append(f"energy: expected a share above 0 and at most 1, got {self.energy}")
        return found


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters."""

    rank: int
    alpha: int
    targets: tuple[str, ...]

    def faults(self) -> list[str]:
        found = at_least(self.rank, "rank", 1) + at_least(self.alpha, "alpha", 1)
        return found + distinct(self.targets, "targets")


@dataclass(frozen=True)
class Averaging:
    """How weights are averaged."""

    every: int
    mean_mix: float
    ema_decay: float
    pull_mix: float
    pull_anchor: Literal["task", "moving", "zero-shot"]
    merge_mix: float
    merge_anchor: Literal["task", "zero-shot"]
    test_mix: float

    def faults(self) -> list[str]:
        found = at_least(self.every, "every", 1)
        for name in ("mean_mix", "ema_decay", "pull_mix", "merge_mix", "test_mix"):
            found += _share(getattr(self, name), name)
        return found


@dataclass(frozen=True)
class Curves:
    """What is looked at beside the tests after whole sets, on the first order."""

    seeds: int
    eval_every: int
    eval_methods: tuple[str, ...]
    mixes: tuple[float, ...]
    mix_after: tuple[int, ...]
    mix_methods: tuple[str, ...]
    map_images: int

    def faults(self) -> list[str]:
        found = at_least(self.seeds, "seeds", 0) + at_least(self.eval_every, "eval_every", 0)
        found += at_least(self.map_images, "map_images", 0)
        for i, mix in enumerate(self.mixes):
            found += _share(mix, f"mixes[{i}]")
        for i, after in enumerate(self.mix_after):
            found += at_least(after, f"mix_after[{i}]", 1)
        for name in ("eval_methods", "mix_methods"):
            for i, method in enumerate(getattr(self, name)):
                if method not in ONE_BY_ONE:
                    found.append(
                        f"{name}[{i}]: expected a method that trains set after set "
                        f"({', '.join(ONE_BY_ONE)}), got {method!r}"
                    )
        return found


@dataclass(frozen=True)
class Faults:
    """What the released code does wrong, to have its numbers."""

    extra_step: bool
    resume_bug: bool
    icarl_counts: bool
    eval_student: bool

    def faults(self) -> list[str]:
        return []


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
    precision: Literal["float32", "bfloat16"]
    lrs: dict[str, tuple[float, ...]]
    lr_factors: dict[str, float] | None
    l2s: tuple[float, ...]
    validation_fraction: float
    updates: int
    batch_size: int
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
        for name in ("seeds", "updates", "batch_size", "warm_up"):
            found += at_least(getattr(self, name), name, 1)
        found += between(self.validation_fraction, "validation_fraction", above=0.0, below=1.0)
        found += between(self.crop, "crop", above=0.0, below=1.0 + 1e-9)
        found += between(self.consolidation, "consolidation", above=0.0)
        if not 0 <= self.smoothing < 1:
            found.append(
                f"smoothing: expected a share of at least 0, below 1, got {self.smoothing}"
            )
        if sorted(self.lrs) != sorted(KINDS):
            found.append(f"lrs: expected an entry each for {', '.join(KINDS)}")
        rates = {f"lrs.{kind}": values for kind, values in self.lrs.items()}
        for name, values in {**rates, "l2s": self.l2s}.items():
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
        return found + self._method_faults()

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


def _share(value: float, name: str) -> list[str]:
    return [] if 0 <= value <= 1 else [f"{name}: expected a number in 0..1, got {value}"]


KINDS = ("full", "lora")  # of what trains, each with rates of its own
DISTILLING = ("lwf", "lwf-vr", "icarl", "zscl")
METHODS: dict[str, tuple[str, ...]] = {  # by item; `sequence_methods` says what each is
    "plain": ("zero-shot", "finetune", "joint", "ncm", "ridge"),
    "distill": (
        *("lwf", "lwf-vr", "icarl", "wc", "zscl", "zscl-star", "zscl-plain"),
        *("feature-mse", "image-similarity"),
    ),
    "ogd": ("ogd", "zscl-ogd"),
    "lora": ("finetune-lora", "zscl-lora", "zscl-lora-shared", "zscl-lora-shared-split"),
    "average": (
        *("wise-ft", "wise-at-test", "running-mean", "running-mean-wise"),
        *("moving-average", "ema", "task-mean"),
    ),
}
ONE_BY_ONE = tuple(
    name
    for names in METHODS.values()
    for name in names
    if name not in ("zero-shot", "joint", "ncm", "ridge")
)
HEADLESS = ("joint", *METHODS["ogd"], *METHODS["lora"])  # one set of tensors trains in all tasks
GRID = ("items", "methods", "seeds")  # which cells
