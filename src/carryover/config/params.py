"""All of ``params.yaml``, and the rules across its sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.config.adapt import Adapt
from carryover.config.clusters import Clusters
from carryover.config.continual import Continual
from carryover.config.contrastive import Contrastive
from carryover.config.cuts import Cuts
from carryover.config.data import Data
from carryover.config.diff import Diff
from carryover.config.encoders import EncoderEntry
from carryover.config.networks import Pretrain
from carryover.config.reader import SLUG, at_least, build, known, load
from carryover.config.retrieval import Retrieval
from carryover.config.selfsupervised import Byol, SimClr
from carryover.config.sequence import Sequence
from carryover.config.survival import Survival
from carryover.errors import ConfigError, listed

PRESET = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)*")


@dataclass(frozen=True)
class Params:
    """All of ``params.yaml``."""

    seed: int
    data: Data
    pretrain: dict[str, Pretrain | Contrastive | Byol | SimClr]
    encoders: dict[str, EncoderEntry]
    cuts: Cuts
    clusters: Clusters
    adapt: Adapt
    continual: Continual
    sequence: Sequence
    retrieval: Retrieval
    survival: Survival
    diff: Diff

    def faults(self) -> list[str]:
        """Rules across sections."""
        found = at_least(self.seed, "seed", 0)
        for section, value in vars(self).items():
            preset = getattr(value, "preset", "mini")
            if not PRESET.fullmatch(preset):
                found.append(
                    f"{section}.preset: expected a name of a-z, 0-9, - and single slashes, got "
                    f"{preset!r}; rows carry it"
                )
        for name, recipe in self.pretrain.items():
            if not SLUG.fullmatch(name):
                found.append(f"pretrain.{name}: expected a name of a-z, 0-9 and -")
            several = None if isinstance(recipe, Pretrain) else recipe.datasets
            for i, dataset in enumerate(several or ()):
                found += known(dataset, self.data.names, f"pretrain.{name}.datasets[{i}]")
            if not several:
                found += known(recipe.dataset, self.data.names, f"pretrain.{name}.dataset")
        found += known(self.cuts.dataset, self.data.names, "cuts.dataset")
        found += known(self.clusters.dataset, self.data.names, "clusters.dataset")
        if self.survival.pretrained_on:
            where = "survival.pretrained_on"
            found += known(self.survival.pretrained_on, self.data.names, where)
        found += self._cuts_faults() + self._clusters_faults() + self._encoder_faults()
        return found + self._sequence_faults() + self._retrieval_faults()

    def network(self, name: str) -> Pretrain | None:
        """The supervised recipe of this name, if there is one."""
        recipe = self.pretrain.get(name)
        return recipe if isinstance(recipe, Pretrain) else None

    def _cuts_faults(self) -> list[str]:
        source = self.network(self.cuts.pretrained)
        if source is None:
            return [self._no_network("cuts.pretrained", self.cuts.pretrained)]
        found = [
            f"cuts.cuts[{i}]: expected 0 to {source.network.depth} (the depth of "
            f"{self.cuts.pretrained}), got {cut}"
            for i, cut in enumerate(self.cuts.cuts)
            if not 0 <= cut <= source.network.depth
        ]
        shared = sorted(set(self.cuts.classes) & set(source.classes))
        if source.dataset == self.cuts.dataset and shared:
            found.append(
                f"cuts.classes: expected none of the classes that {self.cuts.pretrained} was "
                f"pretrained on, got {listed(map(str, shared))} in both; take them out of one list"
            )
        return found

    def _clusters_faults(self) -> list[str]:
        source = self.network(self.clusters.pretrained)
        if source is None:
            return [self._no_network("clusters.pretrained", self.clusters.pretrained)]
        return self.clusters.faults_with(source)

    def _no_network(self, path: str, name: str) -> str:
        networks = [name for name in self.pretrain if self.network(name)]
        return (
            f"{path}: expected one of {listed(networks)}, got {name!r}; describe it under pretrain"
        )

    def _encoder_faults(self) -> list[str]:
        found = []
        for name, entry in self.encoders.items():
            if not SLUG.fullmatch(name):
                found.append(f"encoders.{name}: expected a name of a-z, 0-9 and -")
            for i, dataset in enumerate(entry.datasets):
                found += known(dataset, self.data.names, f"encoders.{name}.datasets[{i}]")
            kind, _, network = entry.source.partition(":")
            if kind == "pretrain" and network not in self.pretrain:
                found.append(
                    f"encoders.{name}.source: expected pretrain: and one of "
                    f"{listed(self.pretrain)}, got {entry.source!r}; describe it under pretrain"
                )
        found += self.continual.faults_with(self.encoders)
        encoder = self.encoders.get(self.adapt.encoder)
        if encoder is None:
            return [
                *found,
                f"adapt.encoder: expected one of {listed(self.encoders)}, got "
                f"{self.adapt.encoder!r}; describe it under encoders",
            ]
        for path, dataset in [
            ("adapt.dataset", self.adapt.dataset),
            *((f"adapt.others[{i}]", other) for i, other in enumerate(self.adapt.others or ())),
        ]:
            if dataset not in encoder.datasets:
                found.append(
                    f"{path}: expected one of {listed(encoder.datasets)}, got {dataset!r}; add it "
                    f"to encoders.{self.adapt.encoder}.datasets"
                )
        return found

    def _sequence_faults(self) -> list[str]:
        study = self.sequence
        found = [
            fault
            for key in ("reference", "sentences_of")
            for fault in known(
                getattr(study.distill, key), self.data.names, f"sequence.distill.{key}"
            )
        ]
        encoder = self.encoders.get(study.encoder)
        if encoder is None:
            return [
                *found,
                f"sequence.encoder: expected one of {listed(self.encoders)}, got "
                f"{study.encoder!r}; describe it under encoders",
            ]
        return found + [
            f"sequence.datasets[{i}]: expected one of {listed(encoder.datasets)}, got {name!r}; "
            f"add it to encoders.{study.encoder}.datasets"
            for i, name in enumerate(study.datasets)
            if name not in encoder.datasets
        ]

    def _retrieval_faults(self) -> list[str]:
        study = self.retrieval
        found = known(study.dataset, self.data.names, "retrieval.dataset")
        if study.memory.other:
            found += known(study.memory.other, self.data.names, "retrieval.memory.other")
        sources = {"memory.encoder": study.memory.encoder}
        for item, started in (study.starts or {}).items():
            sources |= {f"starts.{item}.{control}": source for control, source in started.items()}
        for path, source in sources.items():
            kind, _, network = source.source.partition(":")
            if kind == "pretrain" and network not in self.pretrain:
                found.append(
                    f"retrieval.{path}.source: expected pretrain: and one of "
                    f"{listed(self.pretrain)}, got {source.source!r}; describe it under pretrain"
                )
        return found


def read(path: Path) -> Params:
    """Parameters, checked.

    Raises:
        ConfigError: every unknown or missing key, wrong type, value out of range and broken rule
            across sections, one line each under its dotted path.
    """
    return parse(load(path), str(path))


def parse(tree: dict[str, Any], origin: str) -> Params:
    """Parameters from a YAML tree; `origin` names the file in messages."""
    faults: list[str] = []
    params = build(Params, tree, "", faults)
    if faults:
        raise ConfigError("\n".join(f"{origin}: {fault}" for fault in faults))
    assert isinstance(params, Params)
    return params
