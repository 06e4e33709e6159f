"""The ``continual`` section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal

from carryover.config.continual_arms import NO_HEAD, OWN_HEAD, Arm, HeadEntry, Item, Kind, Protocol
from carryover.config.encoders import EncoderEntry
from carryover.config.reader import at_least, between, distinct, each_slug
from carryover.errors import listed


@dataclass(frozen=True)
class Similarity:
    """How encoders are compared by CKA."""

    images: int
    kind: Literal["linear", "rbf"]
    debiased: bool
    sigma: float
    draws: int
    published: Literal["last", "each"]
    untrained_stream: str | None

    def faults(self) -> list[str]:
        return (
            at_least(self.images, "images", 4)
            + between(self.sigma, "sigma", above=0.0)
            + at_least(self.draws, "draws", 0)
        )


@dataclass(frozen=True)
class LogisticSet:
    """A set of the study of logistic regression."""

    dataset: str
    test_images: int

    def faults(self) -> list[str]:
        return at_least(self.test_images, "test_images", 0)


@dataclass(frozen=True)
class Logistic:
    """Logistic regression on features of whole sets."""

    encoder: str | None
    sets: dict[str, LogisticSet]
    features: tuple[Kind, ...]
    l2: float
    held_out: float
    seed: int | None
    stratified: bool
    max_steps: int

    def faults(self) -> list[str]:
        return (
            each_slug(tuple(self.sets), "sets")
            + distinct(self.features, "features")
            + between(self.l2, "l2", above=0.0)
            + between(self.held_out, "held_out", above=0.0, below=1.0)
            + at_least(self.seed or 0, "seed", 0)
            + at_least(self.max_steps, "max_steps", 1)
        )


@dataclass(frozen=True)
class Continual:
    """An encoder trained on experiences one after the other, with a head."""

    preset: str
    encoder: str
    items: tuple[Item, ...]
    streams: dict[str, tuple[str, ...]]
    protocols: dict[str, Protocol]
    heads: dict[str, HeadEntry]
    arms: dict[str, Arm]
    seeds: int
    saved_seeds: int
    validation_fraction: float
    optimiser_state: Literal["kept", "reset"]
    memory: int
    ewc_lambda: float
    ewc_decay: float
    lwf_alpha: float
    lwf_temperature: float
    eval_batch_size: int
    bank: bool
    cka: Similarity
    logistic: Logistic

    def faults(self) -> list[str]:
        found = distinct(self.items, "items")
        for name in ("streams", "protocols", "heads", "arms"):
            found += each_slug(tuple(getattr(self, name)), name)
        found += at_least(self.seeds, "seeds", 1) + at_least(self.memory, "memory", 1)
        found += at_least(self.saved_seeds, "saved_seeds", 1)
        found += at_least(self.eval_batch_size, "eval_batch_size", 1)
        found += between(self.validation_fraction, "validation_fraction", above=0.0, below=1.0)
        found += between(self.lwf_temperature, "lwf_temperature", above=0.0)
        for name in ("ewc_lambda", "lwf_alpha"):
            if getattr(self, name) < 0:
                found.append(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not 0 <= self.ewc_decay <= 1:
            found.append(f"ewc_decay: expected 0 to 1, got {self.ewc_decay}")
        for name, sets in self.streams.items():
            found += distinct(sets, f"streams.{name}")
        for item in self.items:
            if not any(any(arm.cells()) for arm in self.arms_of(item).values()):
                found.append(
                    f"items: expected an arm with a stream, a protocol and a strategy for {item}, "
                    "got none; add one or take the item out"
                )
        for head in (NO_HEAD, OWN_HEAD):
            if head in self.heads:
                found.append(f"heads.{head}: expected another name, this one has a meaning already")
        for name, arm in self.arms.items():
            found += self._names(name, arm)
        return found + self._untrained() + self._twice()

    def _names(self, name: str, arm: Arm) -> list[str]:
        """Names in an arm that the section does not have, and streams a protocol is not for."""
        wanted = [("head", arm.head, [*self.heads, NO_HEAD, OWN_HEAD])]
        wanted += [("streams", stream, [*self.streams]) for stream in arm.streams]
        wanted += [("protocols", protocol, [*self.protocols]) for protocol in arm.protocols]
        found = [
            f"arms.{name}.{key}: expected one of {listed(known)}, got {value!r}"
            for key, value, known in wanted
            if value not in known
        ]
        if found:
            return found
        return [
            f"arms.{name}.protocols: expected one of kind domains for {stream}, which has "
            f"{len(self.streams[stream])} sets, got {protocol}"
            for stream, protocol in product(arm.streams, arm.protocols)
            if len(self.streams[stream]) > 1 and self.protocols[protocol].kind != "domains"
        ]

    def _untrained(self) -> list[str]:
        """A stream to compare models as loaded on that no partly frozen encoder has."""
        arms = self.arms_of("partly").values()
        known = list(dict.fromkeys(stream for arm in arms for stream, *_ in arm.cells()))
        wanted = self.cka.untrained_stream
        if wanted in (None, *known) or "partly" not in self.items:
            return []
        return [
            f"cka.untrained_stream: expected one of {listed(known)}, which partly frozen encoders "
            f"train on, got {wanted!r}; name one or leave it empty"
        ]

    def _twice(self) -> list[str]:
        """Trainings that two arms describe, whose rows could not be told apart."""
        owners: dict[tuple[str | None, ...], str] = {}
        found = []
        for name, arm in self.arms.items():
            for cell in arm.cells():
                own = (arm.trains, arm.freeze, arm.encoder or self.encoder, arm.features, arm.head)
                first = owners.setdefault((*own, *cell), name)
                if first != name:
                    found.append(
                        f"arms.{name}: expected trainings that no other arm has, got "
                        f"{', '.join(cell)} with the head {arm.head} as in {first}; change one"
                    )
        return found

    def encoder_of(self, arm: Arm) -> str:
        """Name of the encoder that an arm trains or reads."""
        return arm.encoder or self.encoder

    def arms_of(self, item: str) -> dict[str, Arm]:
        """The arms of one item."""
        return {name: arm for name, arm in self.arms.items() if arm.trains == item}

    def faults_with(self, encoders: Mapping[str, EncoderEntry]) -> list[str]:
        """Faults of what arms ask of the ``encoders`` section, under full paths."""
        found = []
        for path, name in [
            ("continual.encoder", self.encoder),
            *((f"continual.arms.{name}.encoder", arm.encoder) for name, arm in self.arms.items()),
            ("continual.logistic.encoder", self.logistic.encoder),
        ]:
            if name is not None and name not in encoders:
                found.append(
                    f"{path}: expected one of {listed(encoders)}, got {name!r}; describe it under "
                    "encoders"
                )
        if found:
            return found
        asked: dict[tuple[str, str, str], None] = {}
        for name, arm in self.arms.items():
            encoder = self.encoder_of(arm)
            for stream in arm.streams:
                for dataset in self.streams[stream]:
                    asked[f"continual.streams.{stream}", encoder, dataset] = None
            if arm.trains == "frozen" and self.bank:
                found += _kind(f"continual.arms.{name}.features", arm.features, encoder, encoders)
        encoder = self.logistic.encoder or self.encoder
        for name, entry in self.logistic.sets.items():
            asked[f"continual.logistic.sets.{name}.dataset", encoder, entry.dataset] = None
        for kind in self.logistic.features:
            found += _kind("continual.logistic.features", kind, encoder, encoders)
        return found + [
            f"{path}: expected one of {listed(encoders[encoder].datasets)}, got {dataset!r}; add "
            f"it to encoders.{encoder}.datasets"
            for path, encoder, dataset in asked
            if dataset not in encoders[encoder].datasets
        ]


def _kind(path: str, kind: str, name: str, encoders: Mapping[str, EncoderEntry]) -> list[str]:
    kinds = encoders[name].kinds
    if kind in kinds:
        return []
    return [
        f"{path}: expected one of {listed(kinds)}, got {kind!r}; add it to encoders.{name}.kinds"
    ]


GRID = (  # which cells
    *("items", "seeds", "saved_seeds", "cka.untrained_stream"),
    *(f"arms.*.{key}" for key in ("streams", "protocols", "strategies")),
)
