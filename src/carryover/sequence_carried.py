"""A run of the sequence study: its name, where a task stands in it, what goes from task to task."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from carryover import run, snapshots
from carryover.adapt.averaging import Weights
from carryover.adapt.replay import Memory
from carryover.adapt_start import Examples
from carryover.sequence_heads import Heads
from carryover.sequence_start import Task

if TYPE_CHECKING:
    from carryover.config.params import Params

Answers = dict[str, dict[str, Tensor]]  # by data set, see `sequence_measures.answers`
Moment = tuple[int, str, float]  # sets trained; "mix" or "step"; share of tuned weights, or updates


@dataclass(frozen=True)
class Cell:
    """One method on one order of the data sets.

    Attributes:
        lr: the rate tried, without held out images; 0 for the run that is reported.
    """

    method: str
    order: str
    seed: int
    lr: float = 0.0

    @property
    def name(self) -> str:
        """Its name in the scratch file."""
        tried = f"/{self.lr:g}" if self.lr else ""
        return f"{self.method}/{self.order}/{self.seed}{tried}"


@dataclass
class Carried:
    """What a run hands from task to task; kept in a file after each.

    Attributes:
        done: tasks trained.
        weights: of the model handed on.
        mean: of the tasks' models so far, for the method that tests it.
        memory: iCaRL's rows by set; `directions` OGD's basis.
        heads: of the sets trained, where each has its own.
        answers: on all test images, by tasks trained.
        curves: the same of mixed weights, and of tests on the way in a task.
        features: unit embeddings of some test images at the end, by set.
        facts: of the training, summed over tasks.
    """

    weights: Weights
    done: int = 0
    mean: Weights = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)
    directions: dict[str, Tensor] = field(default_factory=dict)
    heads: Heads = field(default_factory=dict)
    answers: dict[int, Answers] = field(default_factory=dict)
    curves: dict[Moment, Answers] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Keep it, whole or not at all."""
        snapshots.write(path, vars(self))

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Carried | None:
        """What `save` kept; answers stay on the CPU. None where no whole file is."""
        found = snapshots.read(path, torch.device("cpu"))
        if found is None:
            return None
        moved = {
            name: {key: tensor.to(device) for key, tensor in found[name].items()}
            for name in ("weights", "mean", "directions")
        }
        heads = {
            name: {key: tensor.to(device) for key, tensor in head.items()}
            for name, head in found["heads"].items()
        }
        return cls(**(found | moved | {"heads": heads}))


@dataclass(frozen=True, eq=False)
class Place:
    """Where in a run a task stands.

    Attributes:
        number: of the task in its order, from 1.
        examples: training images, all of the task's or those that are not held out.
    """

    cell: Cell
    number: int
    task: Task
    examples: Examples
    last: bool

    def drawn(self, params: Params, purpose: str) -> torch.Generator:
        """A stream that all methods of a seed share."""
        where = f"{self.cell.order}/{self.cell.seed}/{self.number}"
        return run.generator(params.seed, f"sequence/{purpose}/{where}")
