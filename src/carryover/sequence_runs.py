"""One run of the sequence study: set after set with one method, or a rate tried."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from carryover import checkpoints, run
from carryover.adapt.averaging import copied
from carryover.checkpoints import Checkpoint
from carryover.config.sequence import Sequence as Study
from carryover.data.splits import expect_each, hold_out
from carryover.distributed import Ranks
from carryover.errors import DataError, Diverged
from carryover.files import digest
from carryover.sequence_beside import features, mixed, on_the_way
from carryover.sequence_bounds import frozen, joint
from carryover.sequence_carried import Answers, Carried, Cell, Place
from carryover.sequence_measures import answers, set_accuracy, zero_shot
from carryover.sequence_methods import METHODS
from carryover.sequence_start import Start
from carryover.sequence_training import train_task

if TYPE_CHECKING:
    from carryover.config.params import Params


def trained(
    params: Params, start: Start, cell: Cell, rates: Mapping[str, float], path: Path
) -> dict[str, float]:
    """Run one cell from where it was; its answers are left in a file, its facts returned."""
    study, method = params.sequence, METHODS[cell.method]
    if not method.trains:
        return {}
    network = copy.deepcopy(start.encoder.model)
    lr = cell.lr or rates[method.kind]
    if cell.lr:
        return validated(params, start, network, cell)
    if method.way == "joint":
        state = path.with_suffix(".joint.pt")
        found, facts = joint(params, start, network, cell, lr, state)
        write_adapted(study, start, cell, network.state_dict(), path)
        done = len(study.orders[cell.order])
        if start.ranks.leads:
            Carried({}, done, answers={done: found}, facts=facts).save(path)
            state.unlink(missing_ok=True)
        return facts | {"lr": lr}
    carried = Carried.load(path, start.device) or Carried(copied(network.state_dict()))
    look = on_the_way(study, start, cell)
    for place in places(study, start, cell)[carried.done :]:
        height = lr * factor(study, place.task.name)
        state = path.with_suffix(f".{place.number}.pt")
        carried, tested = train_task(
            params, start, network, place, height, carried, look=look, snapshot=state
        )
        network.load_state_dict(tested.weights)
        carried.answers[place.number] = answers(start, network, study.precision, tested.heads)
        carried.curves.update(mixed(study, start, cell, place.number, tested))
        if place.last:
            carried.features.update(features(params, start, cell, network))
        if start.ranks.leads:
            if place.last:
                write_adapted(study, start, cell, tested.weights, path)
            carried.save(path)
            state.unlink(missing_ok=True)
    return carried.facts | {"lr": lr}


def followed(ranks: Ranks, params: Params, start: Start, folder: Path) -> None:
    """Train what the leader trains, until it has no more."""
    while (order := ranks.told()) is not None:
        cell = Cell(**order[0])
        trained(params, start, cell, order[1], file_of(folder, cell))
    ranks.leave()


def write_adapted(
    study: Study, start: Start, cell: Cell, weights: Mapping[str, Tensor], path: Path
) -> None:
    """Keep the model that a run ends with, as it is tested, beside the run's state."""
    encoder = start.encoder
    assert encoder.text is not None
    found = Checkpoint(
        study="sequence",
        item=next(item for item, methods in study.methods.items() if cell.method in methods),
        cell={"method": cell.method, "order": cell.order, "seed": cell.seed},
        network=study.encoder,
        start=digest([encoder.weights, encoder.text.digest]),
        what="model",
        tensors=checkpoints.changed(weights, encoder.model.state_dict()),
    )
    checkpoints.write(path.with_suffix(".safetensors"), found)


def factor(study: Study, name: str) -> float:
    """What the rate is multiplied by on a set."""
    return (study.lr_factors or {}).get(name, 1.0)


def places(study: Study, start: Start, cell: Cell) -> list[Place]:
    """The tasks of a cell, one after another."""
    order = study.orders[cell.order]
    return [
        Place(cell, i, start.tasks[name], start.tasks[name].train, i == len(order))
        for i, name in enumerate(order, start=1)
    ]


def validated(
    params: Params, start: Start, network: torch.nn.Module, cell: Cell
) -> dict[str, float]:
    """What a rate gives on held out images of each set right after it was trained without them."""
    study, found = params.sequence, []
    carried = Carried(copied(network.state_dict()))
    for place in places(study, start, cell):
        task = place.task
        random = run.generator(params.seed, f"sequence/validation/{task.name}")
        labels = task.train.labels.cpu()
        kept, held = hold_out(labels, study.validation_fraction, random, True)
        expect_each(labels, kept, held, "sequence.validation_fraction")
        less = replace(place, examples=task.train.take(kept.to(start.device)))
        height = cell.lr * factor(study, task.name)
        try:
            carried, tested = train_task(params, start, network, less, height, carried)
        except Diverged:  # the worst that a rate can do
            return {"accuracy": 0.0, "loss": math.inf}
        network.load_state_dict(tested.weights)
        examples = task.train.take(held.to(start.device))
        heads = tested.heads
        found.append(set_accuracy(start, network, task, examples, study.precision, heads))
    return {"accuracy": fmean(a for a, _ in found), "loss": fmean(loss for _, loss in found)}


def file_of(folder: Path, cell: Cell) -> Path:
    """Where the state of a run is kept after each task."""
    return folder / f"{cell.name.replace('/', '@')}.pt"


def kept_end(cell: Cell, folder: Path) -> bool:
    """Whether what a finished run ended with is there still; always where nothing trains."""
    return not METHODS[cell.method].trains or file_of(folder, cell).exists()


def ended_as(cell: Cell, folder: Path) -> Carried | None:
    """What a finished run ended with, less its weights; None where nothing trains."""
    if not METHODS[cell.method].trains:
        return None
    path = file_of(folder, cell)
    whole = Carried.load(path, torch.device("cpu"))
    if whole is None:
        raise DataError(
            f"{path}: expected what a finished run ended with, got other bytes or none; delete the "
            "file, then run again"
        )
    return replace(whole, weights={}, mean={}, directions={}, heads={})


def answers_of(
    params: Params, start: Start, cell: Cell, ended: Carried | None
) -> dict[int, Answers]:
    """Answers of a finished run, by sets trained; the start's come first."""
    if METHODS[cell.method].way in ("ncm", "ridge"):
        return frozen(params, start, cell)
    return {0: zero_shot(start), **(ended.answers if ended else {})}
