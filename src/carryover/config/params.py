"""All of ``params.yaml``, and the rules across its sections."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.config.clusters import Clusters
from carryover.config.cuts import Cuts
from carryover.config.data import Data
from carryover.config.diff import Diff
from carryover.config.networks import Pretrain
from carryover.config.reader import SLUG, at_least, build, known, load
from carryover.errors import ConfigError, listed


@dataclass(frozen=True)
class Params:
    """All of ``params.yaml``."""

    seed: int
    data: Data
    pretrain: dict[str, Pretrain]
    cuts: Cuts
    clusters: Clusters
    diff: Diff

    def faults(self) -> list[str]:
        """Rules across sections."""
        found = at_least(self.seed, "seed", 0)
        for name, recipe in self.pretrain.items():
            if not SLUG.fullmatch(name):
                found.append(f"pretrain.{name}: expected a name of a-z, 0-9 and -")
            found += known(recipe.dataset, self.data.names, f"pretrain.{name}.dataset")
        found += known(self.cuts.dataset, self.data.names, "cuts.dataset")
        found += known(self.clusters.dataset, self.data.names, "clusters.dataset")
        found += self._clusters_faults()
        source = self.pretrain.get(self.cuts.pretrained)
        if source is None:
            found.append(
                f"cuts.pretrained: expected one of {listed(self.pretrain)}, got "
                f"{self.cuts.pretrained!r}; describe it under pretrain"
            )
            return found
        for i, cut in enumerate(self.cuts.cuts):
            if not 0 <= cut <= source.network.depth:
                found.append(
                    f"cuts.cuts[{i}]: expected 0 to {source.network.depth} (the depth of "
                    f"{self.cuts.pretrained}), got {cut}"
                )
        shared = sorted(set(self.cuts.classes) & set(source.classes))
        if source.dataset == self.cuts.dataset and shared:
            found.append(
                f"cuts.classes: expected none of the classes that {self.cuts.pretrained} was "
                f"pretrained on, got {listed(map(str, shared))} in both; take them out of one list"
            )
        return found

    def _clusters_faults(self) -> list[str]:
        source = self.pretrain.get(self.clusters.pretrained)
        if source is None:
            return [
                f"clusters.pretrained: expected one of {listed(self.pretrain)}, got "
                f"{self.clusters.pretrained!r}; describe it under pretrain"
            ]
        return self.clusters.faults_with(source)


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
