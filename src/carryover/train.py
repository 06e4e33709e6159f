"""The training loop: one, with three seams (loss, gradient edit, after-step)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from carryover import snapshots
from carryover.errors import Diverged

SNAPSHOT_SECONDS = 10.0  # between saved states of one training
SAVE_SECONDS = 0.5  # a save that takes longer lengthens the pause after it in proportion

Loss = Callable[[nn.Module, Shaped[Tensor, "b ..."], Int[Tensor, " b"]], Float[Tensor, ""]]


@dataclass(frozen=True)
class Budget:
    """When to look at validation data, when to stop, and which weights to end with.

    Attributes:
        batch_size: rows an update; the last batch of an epoch may be smaller.
        epochs, max_updates: whichever is reached first ends training; 0 updates is no limit.
        evaluate_every: updates between validations; 0 validates after every epoch.
        patience: validations in a row without a strict improvement that stop training; 0 never.
        restore_best: end with the weights that validated best, ``always`` or only ``on_stop``
            by patience (the cut study's original rule).
    """

    batch_size: int
    epochs: int
    max_updates: int
    evaluate_every: int
    patience: int
    restore_best: str

    def can_matter(self, waited: int, epoch: int) -> bool:
        """Whether a validation in `epoch` (from 0) can change the weights training ends with.

        Where best weights are restored on stopping alone, it cannot once too few validations are
        left for patience to run out. `waited`: those in a row, so far, without improvement.
        """
        if self.restore_best == "always" or self.evaluate_every:
            return True
        return 0 < self.patience <= waited + self.epochs - epoch


@dataclass(frozen=True)
class Outcome:
    """Updates done, the best validation score seen (nan without validation), stopped by patience.

    Validations that cannot change the result (`Budget.can_matter`) are left out.
    """

    updates: int
    best: float
    stopped: bool


def in_precision(device: torch.device, precision: str) -> torch.autocast:
    """A context that computes in ``bfloat16`` (weights stay float32), or as is in ``float32``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def cross_entropy(
    network: nn.Module, inputs: Float[Tensor, "b ..."], labels: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Mean negative log-likelihood of the labels, in nats."""
    return nn.functional.cross_entropy(network(inputs), labels)


def fit(
    network: nn.Module,
    inputs: Shaped[Tensor, "n ..."],
    labels: Int[Tensor, " n"],
    optimiser: torch.optim.Optimizer,
    budget: Budget,
    generator: torch.Generator,
    *,
    loss: Loss = cross_entropy,
    validate: Callable[[], float] | None = None,
    edit_gradient: Callable[[], None] | None = None,
    after_step: Callable[[int], None] | None = None,
    snapshot: Path | None = None,
    saves: bool = True,
    pass_rows: int = 0,
    drop_last: bool = False,
) -> Outcome:
    """Train a network in place.

    Args:
        inputs, labels: training rows, resident on the network's device.
        generator: shuffles, one permutation an epoch.
        loss: of a batch.
        validate: score of the network as it stands, higher is better; the first score must beat 0.
        edit_gradient: called between backward and step.
        after_step: called with the number of updates done.
        snapshot: file that keeps the state of the last epoch's start (not more often than every
            few seconds, and seldom enough that saving takes little of the time); where it exists
            training goes on from it, to the same result.
        saves: whether this process writes the snapshot; not where another one does.
        pass_rows: rows a forward pass; a larger batch is passed in parts whose gradients add up,
            which bounds memory. Not for networks that normalise over the batch. 0: all at once.
        drop_last: leave out an epoch's last batch where it is smaller; `inputs` fill one at least.
    Raises:
        Diverged: a loss is not finite.
    """
    state = snapshot and _resume_(snapshot, network, optimiser, generator)
    state = state or _State()
    last, saved, pause = math.nan, time.monotonic(), SNAPSHOT_SECONDS
    for epoch in range(state.epoch, budget.epochs):
        state.epoch = epoch
        if snapshot and saves and (started := time.monotonic()) - saved > pause:
            _save(snapshot, state, network, optimiser, generator)
            saved = time.monotonic()
            pause = SNAPSHOT_SECONDS * max(1.0, (saved - started) / SAVE_SECONDS)
        batches = torch.randperm(len(inputs), generator=generator).split(budget.batch_size)
        batches = batches[: len(inputs) // budget.batch_size] if drop_last else batches
        for i, batch in enumerate(batches):
            rows = batch.to(inputs.device)
            optimiser.zero_grad(set_to_none=True)
            for part in rows.split(pass_rows or len(rows)):
                value = loss(network, inputs[part], labels[part]) * (len(part) / len(rows))
                last = _finite(value, last, state.updates, optimiser)
                value.backward()
            if edit_gradient:
                edit_gradient()
            optimiser.step()
            state.updates += 1
            if after_step:
                after_step(state.updates)
            done = state.updates == budget.max_updates
            epoch_ends = i == len(batches) - 1
            every = budget.evaluate_every
            due = state.updates % every == 0 if every else epoch_ends
            last_of_all = done or (epoch_ends and epoch == budget.epochs - 1)
            if validate and (due or last_of_all) and budget.can_matter(state.waited, epoch):
                _remember_(state, validate(), network)
            state.stopped = bool(budget.patience) and state.waited >= budget.patience
            if state.stopped or done:
                break
        if state.stopped or done:
            break
    if state.weights is not None and (state.stopped or budget.restore_best == "always"):
        network.load_state_dict(state.weights)
    return Outcome(state.updates, state.best if validate else math.nan, state.stopped)


@dataclass
class _State:
    """What a run needs to go on, beside weights, optimiser and generator."""

    epoch: int = 0
    updates: int = 0
    best: float = 0.0
    waited: int = 0
    stopped: bool = False
    weights: dict[str, Tensor] | None = None


def _remember_(state: _State, score: float, network: nn.Module) -> None:
    state.waited += 1
    if score > state.best:
        state.best, state.waited = score, 0
        state.weights = copy.deepcopy(network.state_dict())


def _save(
    path: Path,
    state: _State,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    parts = {
        "state": vars(state),
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
    }
    snapshots.write(path, parts)


def _resume_(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> _State | None:
    """Bring all to the state that a file keeps; None where there is none, or a damaged one."""
    parts = snapshots.read(path, next(network.parameters()).device)
    if parts is None:
        return None
    network.load_state_dict(parts["network"])
    optimiser.load_state_dict(parts["optimiser"])
    generator.set_state(parts["generator"].cpu())
    return _State(**parts["state"])


def _finite(value: Tensor, last: float, updates: int, optimiser: torch.optim.Optimizer) -> float:
    """The loss as a number; reading it every step is free on a CPU and cheap at this size."""
    number = float(value.detach())
    if not math.isfinite(number):
        raise Diverged(
            f"training: expected a finite loss, got {number} at update {updates + 1} with lr "
            f"{optimiser.param_groups[0]['lr']:g} (last finite loss {last:g}); lower the lr"
        )
    return number
