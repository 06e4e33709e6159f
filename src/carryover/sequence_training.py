"""Training in the sequence study: one task with one method."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from carryover.adapt import parts, replay
from carryover.adapt.averaging import copied
from carryover.adapt.freeze import freeze_
from carryover.adapt.lora import dropouts, lora_
from carryover.config.sequence import Sequence
from carryover.errors import ConfigError
from carryover.sequence_carried import Answers, Carried, Place
from carryover.sequence_distilling import distilled, embedded
from carryover.sequence_handed import Tested, finished
from carryover.sequence_heads import attach_
from carryover.sequence_losses import loss_of
from carryover.sequence_methods import METHODS, Method
from carryover.sequence_resume import Draws, Keeps, Resumable, Table
from carryover.sequence_seams import Average, Projected
from carryover.sequence_start import Start
from carryover.train import Budget, fit

if TYPE_CHECKING:
    from carryover.config.params import Params


Look = Callable[[nn.Module, Tested], Answers]


def train_task(
    params: Params,
    start: Start,
    network: nn.Module,
    place: Place,
    lr: float,
    carried: Carried,
    *,
    look: Look | None = None,
    snapshot: Path | None = None,
) -> tuple[Carried, Tested]:
    """Train one task; what is handed on, and what is tested.

    Args:
        network: any weights; it ends with those that are handed on.
        lr: peak rate.
        look: called on the way, see `sequence_beside.on_the_way`.
        snapshot: file from which a killed training of this task goes on.
    Raises:
        ConfigError: dropout, whose draws would be others for several processes.
    """
    study, method, ranks = params.sequence, METHODS[place.cell.method], start.ranks
    if method.adapters and study.lora.dropout and ranks.count > 1:
        raise ConfigError(
            f"sequence.lora.dropout: expected 0 where {ranks.count} processes train together, got "
            f"{study.lora.dropout:g}; set it to 0, or run without torchrun"
        )
    ranks.align_(tensors_of(carried))
    network.load_state_dict(carried.weights)
    held = distilled(params, start, network, place.task, place.examples, method, carried.memory)
    if study.headed:
        attach_(network, start, place.task)
    student = choose_(study, network, method, place.drawn(params, "adapters"))
    before = copied(student)
    average = Average(study, method, student, start)
    updates = study.updates_of(len(place.examples))
    first, steps = steps_of(study, place.number, updates)
    projection = Projected(study, method, network, student, carried.directions, steps)
    crops, draws = place.drawn(params, "crops"), place.drawn(params, "reference")
    loss = loss_of(params, start, network, place, held, student, before, crops, draws)
    optimiser = optimiser_of(student, lr)
    rate_ = half_cosine(optimiser, lr, study.warm_up, updates)
    rate_(first)
    carried = replace(carried, curves=dict(carried.curves))

    def edit_gradient() -> None:
        ranks.average_(student.values())
        projection.edit_gradient()

    def after_step(done: int) -> None:
        projection.after_step(done)
        average.after_step(first + done - 1)
        rate_(first + done)
        if look is not None and done < steps and done % study.curves.eval_every == 0:
            other = copy.deepcopy(network)
            _, now = finished(study, start, other, place, method, carried, average, on_the_way=True)
            carried.curves[place.number - 1, "step", float(done)] = look(other, now)

    beside: dict[str, Keeps] = {
        "average": average,
        "projection": projection,
        "crops": Draws(crops),
        "reference": Draws(draws),
        "curves": Table(carried.curves),
    }
    for each in dropouts(network):  # all else stays in evaluation mode
        beside["dropout"] = Draws(each.train().generator)
    fit(
        Resumable(network, beside),
        torch.arange(len(place.examples)),
        place.examples.labels,
        optimiser,
        Budget(study.batch_size, steps, steps, 0, 0, "on_stop"),
        place.drawn(params, "batches"),
        loss=loss,
        edit_gradient=edit_gradient,
        after_step=after_step,
        snapshot=snapshot,
        saves=ranks.leads,
    )
    carried, tested = finished(study, start, network, place, method, carried, average)
    if not place.last:
        directions = projection.directions_after(params, start, place, student)
        carried = replace(carried, directions=directions)
        if method.distillation == "icarl":
            memory = remember(params, start, network, place, carried.memory)
            carried = replace(carried, memory=memory)
    images = images_in(steps, len(place.examples), study.batch_size)
    images += steps * study.batch_size if held else 0
    facts = {
        "updates": carried.facts.get("updates", 0.0) + steps,
        "images_seen": carried.facts.get("images_seen", 0.0) + images,
        "trained_numbers": float(sum(p.numel() for p in student.values())),
    }
    return replace(carried, done=place.number, facts=facts), tested


def optimiser_of(student: Mapping[str, nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """AdamW as published; all tensors in one call."""
    return torch.optim.AdamW(
        student.values(), lr=lr, betas=(0.9, 0.999), weight_decay=0.0, fused=True
    )


def tensors_of(carried: Carried) -> Iterator[torch.Tensor]:
    """What a task's training goes on from."""
    for each in (carried.weights, carried.mean, carried.directions, *carried.heads.values()):
        yield from each.values()


def steps_of(study: Sequence, number: int, updates: int) -> tuple[int, int]:
    """Number of the first step of a task of so many updates, and how many it takes.

    With the released loop's faults one step more than asked; from the second task on that one
    alone, as the step count of the checkpoint it starts from is already full. Its rate is 0.
    """
    faults = study.faults_of_original
    if faults.resume_bug and number > 1:
        return updates, 1
    return 0, updates + int(faults.extra_step)


def images_in(steps: int, n: int, batch_size: int) -> int:
    """Images in so many batches of several passes over n; the last batch of a pass is smaller."""
    passes, rest = divmod(steps, -(-n // batch_size))
    return passes * n + rest * batch_size


def half_cosine(
    optimiser: torch.optim.Optimizer, lr: float, warm_up: int, total: int
) -> Callable[[int], None]:
    """Sets the rate of a step, counted from 0: a linear rise, then half a cosine down to 0."""

    def rate_(step: int) -> None:
        if step < warm_up:
            share = (step + 1) / warm_up
        else:
            share = 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))
        for group in optimiser.param_groups:
            group["lr"] = lr * share

    return rate_


def choose_(
    study: Sequence, network: nn.Module, method: Method, random: torch.Generator
) -> dict[str, nn.Parameter]:
    """Freeze all but what trains, in place; that by name."""
    if method.adapters:
        return lora_(
            network,
            rank=study.lora.rank,
            alpha=study.lora.alpha,
            targets=study.lora.targets,
            sharing=method.adapters,
            generator=random,
            dropout=study.lora.dropout,
        ).parameters
    names = parts.trained(network, study.train_mode, "sequence.train_mode")
    if study.freeze:
        held = parts.ends(network)
        names = [name for name in names if name not in held]
    freeze_(network, names)
    parameters = dict(network.named_parameters())
    return {name: parameters[name] for name in names}


def remember(
    params: Params, start: Start, network: nn.Module, place: Place, memory: replay.Memory
) -> replay.Memory:
    """iCaRL's memory with images of this task too."""
    study = params.sequence
    z = embedded(network, place.examples, study.precision, start.ranks)
    return replay.remembered(
        memory,
        place.task.name,
        z.cpu(),
        place.examples.labels.cpu(),
        study.distill.memory_size,
        published=study.faults_of_original.icarl_counts,
    )
