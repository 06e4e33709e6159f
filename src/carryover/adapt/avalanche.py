"""Avalanche's strategies, trained task after task on row numbers instead of images.

Avalanche's data sets, loaders, buffers and metrics hold integers; `Looked` turns a batch of them
into inputs (stored embeddings, or pixels to preprocess) and runs the network. Nothing of Avalanche
is changed or overridden: its strategies are called, with plugins that watch, replay (its own
`ReplayPlugin`), weigh (`ewc-summed`) or, where a masked stream makes the network's outputs a head a
task, distil head by head. Importing this module does not import Avalanche, which
takes seconds.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from carryover.adapt import avalanche_state
from carryover.adapt.avalanche_data import benchmark, seed_all
from carryover.adapt.avalanche_parts import Watch
from carryover.adapt.avalanche_strategies import STRATEGIES, Settings, common, import_avalanche
from carryover.data.streams import Stream, own_random
from carryover.errors import Diverged, pick
from carryover.files import digest

__all__ = [
    "STRATEGIES",
    "AfterTask",
    "Looked",
    "Settings",
    "Stopped",
    "import_avalanche",
    "run_stream",
]

Inputs = Callable[[Tensor], Tensor]


class Looked(nn.Module):
    """A network over row numbers: looks rows up, then runs the network on what it finds.

    `parameters` gives those that train, so that penalties and copies leave frozen ones alone.
    Parts without a parameter that trains stay in evaluation mode. A copy (the teacher of ``lwf``)
    shares frozen parameters and the store and is in evaluation mode, so that it drops nothing out.
    """

    def __init__(self, inputs: Inputs, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._inputs = (inputs,)  # in a tuple, so that a module would not become part of this one

    def forward(self, rows: Int64[Tensor, " b"]) -> Shaped[Tensor, "b c"]:
        return self.network(self._inputs[0](rows))

    def named_parameters(self, *args: Any, **options: Any) -> Any:
        """Names and parameters that train."""
        every = super().named_parameters(*args, **options)
        return ((name, value) for name, value in every if value.requires_grad)

    def train(self, mode: bool = True) -> Looked:
        """As in torch, but frozen parts stay in evaluation mode."""
        super().train(mode)
        _hold_frozen_(self.network)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Looked:
        frozen = (p for p in self.network.parameters() if not p.requires_grad)
        memo.update({id(p): p for p in frozen})
        twin = Looked(self._inputs[0], copy.deepcopy(self.network, memo))
        return twin.eval()


def _hold_frozen_(module: nn.Module) -> None:
    parameters = list(module.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        module.eval()
        return
    for part in module.children():
        _hold_frozen_(part)


@dataclass(frozen=True)
class AfterTask:
    """What was seen after one experience.

    Attributes:
        experience: the last one trained, from 0; -1 before any.
        logits: of all test rows, in order of the stream; where the stream is masked, -inf for
            classes outside the row's task. There the loss too is over a row's own classes.
        rows: the test rows.
        tasks: the task that each of them tests, from 0 (0 where all tasks share their test rows).
        train: ``train_accuracy``, ``train_accuracy_current``, ``loss`` and, where images of earlier
            experiences were shown, ``train_accuracy_replayed``: running means of the last epoch.
        epochs: loss and accuracy of each epoch, running means over all images shown.
        updates: optimiser steps of this experience.
        avalanche: Avalanche's metrics under its names, as they stood then.
        kept: what `after_task` returned.
    """

    experience: int
    logits: Float[Tensor, "m c"]
    rows: Int64[Tensor, " m"]
    tasks: Int64[Tensor, " m"]
    train: dict[str, float]
    epochs: list[tuple[float, float]]
    updates: int
    avalanche: dict[str, float]
    kept: dict[str, Any] = field(default_factory=dict)


class Stopped(Diverged):
    """A loss of a stream is not finite.

    Attributes:
        after: of the experiences that were whole before.
    """

    def __init__(self, message: str, after: Sequence[AfterTask]) -> None:
        super().__init__(message)
        self.after = list(after)


def run_stream(
    network: nn.Module,
    inputs: Inputs,
    labels: Int64[Tensor, " rows"],
    stream: Stream,
    optimiser: torch.optim.Optimizer,
    settings: Settings,
    *,
    seed: int,
    device: torch.device,
    snapshot: Path | None = None,
    after_task: Callable[[int], Mapping[str, Any] | None] | None = None,
    before: bool = True,
    test_each: bool = True,
) -> list[AfterTask]:
    """Train a network in place on a stream, testing on the whole stream after every experience.

    Args:
        network: its parameters that require no gradient are left bit for bit as they are.
        inputs: from row numbers (on `device`) to what the network takes.
        labels: of every row of the store.
        optimiser: over the parameters that train; its state starts empty (and, if the settings say
            so, anew with each experience, whatever the strategy).
        seed: of everything drawn here; each experience draws from a stream of its own, so that
            equal trainings stay equal whatever a strategy drew before. Global random states are
            left as they were.
        snapshot: file that keeps all state after every experience; where it exists, and is of
            this run, training goes on from it, to the same result bit for bit.
        after_task: called with the last experience trained (-1: none), network in evaluation mode;
            what it returns (numbers, strings, tensors) is kept with the result, so that a resumed
            run has it too.
        before: test once before any training.
        test_each: false: test after the last experience alone; entries of others have no rows.
    Returns:
        One entry an experience (with `before` one more, first); ``joint`` trains once, on all.
    Raises:
        ConfigError: an unknown strategy.
        Stopped: a loss is not finite.
    """
    looked = Looked(inputs, network).to(device)
    key = _key(stream, settings, seed, before, test_each)
    with own_random():
        seed_all(seed, -1)
        train, test = benchmark(stream, labels)
        watch = Watch(stream)
        make = pick(STRATEGIES, settings.strategy, "strategy")
        strategy = make(settings, common(looked, optimiser, settings, device, watch, before))
        strategy.make_optimizer(reset_optimizer_state=True)
        results: list[AfterTask] = []
        state = avalanche_state.load(snapshot, key)
        if state:
            avalanche_state.restore_(strategy, train, state)
            results = [AfterTask(**entry) for entry in state["results"]]
        joint, resets = settings.strategy == "joint", settings.optimiser_state == "reset"
        last = len(stream.tasks) - 1
        experiences = [-1] * before + ([last] if joint else list(range(last + 1)))
        for experience in experiences[len(results) :]:
            seed_all(seed, experience)
            watch.start(experience, joint)
            if experience >= 0:
                try:
                    shown = train if joint else train[experience]
                    strategy.train(shown, eval_streams=[], reset_optimizer_state=resets)
                except Diverged as error:
                    raise Stopped(str(error), results) from error
            metrics = strategy.eval(test) if test_each or experience == last else {}
            looked.eval()
            kept = after_task(experience) if after_task else None
            logits, rows, tasks = watch.tested()
            results.append(
                AfterTask(
                    experience=experience,
                    logits=logits,
                    rows=rows,
                    tasks=tasks,
                    train=watch.trained(),
                    epochs=watch.epochs,
                    updates=watch.updates,
                    avalanche={name: float(value) for name, value in metrics.items()},
                    kept=dict(kept or {}),
                )
            )
            if snapshot:
                avalanche_state.save(snapshot, key, strategy, [vars(entry) for entry in results])
    return results


def _key(stream: Stream, settings: Settings, seed: int, before: bool, test_each: bool) -> str:
    """What a snapshot must have been made with to be gone on from."""
    rows = [part.numpy().tobytes() for task in stream.tasks for part in (task.train, task.test)]
    hashes = [hashlib.sha256(part).hexdigest() for part in rows]
    return digest([vars(settings), seed, before, test_each, stream.masked, hashes])
