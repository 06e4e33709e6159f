"""Parts of the ``sequence`` section, and the names of its methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carryover.config.reader import at_least, between, distinct

Teacher = Literal["zero-shot", "previous", "mixed"]

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
        found += share(self.teacher_mix, "teacher_mix")
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
    dropout: float
    targets: tuple[str, ...]

    def faults(self) -> list[str]:
        found = at_least(self.rank, "rank", 1) + at_least(self.alpha, "alpha", 1)
        if not 0 <= self.dropout < 1:
            found.append(f"dropout: expected a share of at least 0, below 1, got {self.dropout}")
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
            found += share(getattr(self, name), name)
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
            found += share(mix, f"mixes[{i}]")
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


def share(value: float, name: str) -> list[str]:
    return [] if 0 <= value <= 1 else [f"{name}: expected a number in 0..1, got {value}"]
