"""What a task's training in the sequence study needs, beside weights, to go on after a kill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class Keeps(Protocol):
    """Something that changes while a task trains."""

    def kept(self) -> dict[str, Any]:
        """What it is now, as tensors and plain values."""

    def restore_(self, kept: dict[str, Any]) -> None:
        """Be again what was kept."""


class Resumable(nn.Module):
    """A network whose state has the states of other things in it.

    `train.fit` keeps a network's state, so that all of it is of one moment.
    """

    def __init__(self, network: nn.Module, beside: Mapping[str, Keeps]) -> None:
        super().__init__()
        self.network = network
        self.beside = dict(beside)

    def get_extra_state(self) -> dict[str, Any]:
        """What torch puts into the state."""
        return {name: each.kept() for name, each in self.beside.items()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """What torch hands back of it."""
        for name, each in self.beside.items():
            each.restore_(state[name])


class Draws:
    """A random stream."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def kept(self) -> dict[str, Any]:
        return {"state": self.generator.get_state()}

    def restore_(self, kept: dict[str, Any]) -> None:
        self.generator.set_state(kept["state"].cpu())


class Table:
    """Tensors on the CPU, in dicts in dicts, that are added on the way."""

    def __init__(self, table: dict[Any, Any]) -> None:
        self.table = table

    def kept(self) -> dict[str, Any]:
        return {"table": dict(self.table)}

    def restore_(self, kept: dict[str, Any]) -> None:
        self.table.clear()
        self.table.update(_on_cpu(kept["table"]))


def _on_cpu(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _on_cpu(each) for name, each in found.items()}
    return found.cpu() if isinstance(found, torch.Tensor) else found
