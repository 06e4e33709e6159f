"""Training in the sequence study: one task with one method."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover.adapt import distill, parts, replay
from carryover.adapt.averaging import Weights, copied
from carryover.adapt.freeze import freeze_
from carryover.adapt.lora import lora_
from carryover.adapt_start import Examples
from carryover.config.sequence import Sequence
from carryover.data.crops import random_crop
from carryover.data.transforms import to_rgb
from carryover.sequence_carried import Answers, Carried, Place
from carryover.sequence_distilling import Distilled, distilled, embedded
from carryover.sequence_handed import Tested, finished
from carryover.sequence_heads import attach_
from carryover.sequence_methods import METHODS, Method
from carryover.sequence_resume import Draws, Keeps, Resumable, Table
from carryover.sequence_seams import Average, Projected
from carryover.sequence_start import Start
from carryover.train import Budget, fit, in_precision

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
    """
    study, method = params.sequence, METHODS[place.cell.method]
    network.load_state_dict(carried.weights)
    held = distilled(params, start, network, place.task, place.examples, method, carried.memory)
    if study.headed:
        attach_(network, start, place.task)
    student = choose_(study, network, method, place.drawn(params, "adapters"))
    before = copied(student)
    average = Average(study, method, student, start)
    first, steps = steps_of(study, place.number)
    projection = Projected(study, method, network, student, carried.directions, steps)
    crops, draws = place.drawn(params, "crops"), place.drawn(params, "reference")
    loss = loss_of(params, start, network, place, held, student, before, crops, draws)
    optimiser = optimiser_of(student, lr)
    rate_ = half_cosine(optimiser, lr, study.warm_up, study.updates)
    rate_(first)
    carried = replace(carried, curves=dict(carried.curves))

    def after_step(updates: int) -> None:
        projection.after_step(updates)
        average.after_step(first + updates - 1)
        rate_(first + updates)
        if look is not None and updates < steps and updates % study.curves.eval_every == 0:
            other = copy.deepcopy(network)
            _, now = finished(study, start, other, place, method, carried, average)
            carried.curves[place.number - 1, "step", float(updates)] = look(other, now)

    beside: dict[str, Keeps] = {
        "average": average,
        "projection": projection,
        "crops": Draws(crops),
        "reference": Draws(draws),
        "curves": Table(carried.curves),
    }
    fit(
        Resumable(network, beside),
        torch.arange(len(place.examples)),
        place.examples.labels,
        optimiser,
        Budget(study.batch_size, steps, steps, 0, 0, "on_stop"),
        place.drawn(params, "batches"),
        loss=loss,
        edit_gradient=projection.edit_gradient,
        after_step=after_step,
        snapshot=snapshot,
    )
    carried, tested = finished(study, start, network, place, method, carried, average)
    if not place.last:
        directions = projection.directions_after(params, start, place, student)
        carried = replace(carried, directions=directions)
        if method.distillation == "icarl":
            carried = replace(carried, memory=remember(params, network, place, carried.memory))
    images = steps * study.batch_size
    facts = {
        "updates": carried.facts.get("updates", 0.0) + steps,
        "images_seen": carried.facts.get("images_seen", 0.0) + images * (2 if held else 1),
        "trained_numbers": float(sum(p.numel() for p in student.values())),
    }
    return replace(carried, done=place.number, facts=facts), tested


def optimiser_of(student: Mapping[str, nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """AdamW as published; all tensors in one call."""
    return torch.optim.AdamW(
        student.values(), lr=lr, betas=(0.9, 0.999), weight_decay=0.0, fused=True
    )


def steps_of(study: Sequence, number: int) -> tuple[int, int]:
    """Number of the first step of a task, and how many it takes.

    With the released loop's faults one step more than asked; from the second task on that one
    alone, as the step count of the checkpoint it starts from is already full. Its rate is 0.
    """
    faults = study.faults_of_original
    if faults.resume_bug and number > 1:
        return study.updates, 1
    return 0, study.updates + int(faults.extra_step)


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
        ).parameters
    names = parts.trained(network, study.train_mode, "sequence.train_mode")
    freeze_(network, names)
    parameters = dict(network.named_parameters())
    return {name: parameters[name] for name in names}


def loss_of(
    params: Params,
    start: Start,
    network: nn.Module,
    place: Place,
    held: Distilled | None,
    student: Mapping[str, nn.Parameter],
    before: Weights,
    crops: torch.Generator,
    draws: torch.Generator,
) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """The loss of a batch of rows of the task.

    Args:
        crops, draws: of the task's images, and of reference images.
    """
    study, scale, method = params.sequence, start.encoder.logit_scale, METHODS[place.cell.method]

    def loss(
        _: nn.Module, rows: Int64[Tensor, " b"], labels: Int64[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        x = cropped(place.examples, rows, study.crop, crops)
        chosen = None
        if held is not None:
            chosen = torch.randint(len(held.pool), (study.batch_size,), generator=draws)
            x = torch.cat([x, held.pool.images(chosen)])  # one pass for both
        with in_precision(start.device, study.precision):
            z = distill.unit_images(network, x)
            head: nn.Module | None = getattr(network, "head", None)
            W = distill.unit_texts(network, place.task.prompt_ids) if head is None else None
        own, reference = z[: len(rows)], z[len(rows) :]
        if head is not None:
            value = F.cross_entropy(head(own), labels, label_smoothing=study.smoothing)
        else:
            assert W is not None
            value = distill.classification_loss(own, W, labels, scale, study.smoothing)
        if held is not None and chosen is not None:
            value = value + held.loss(study, reference, chosen, scale)
        if method.consolidation:
            value = value + distill.weight_consolidation(student, before, study.consolidation)
        return value

    return loss


def cropped(
    examples: Examples, rows: Int64[Tensor, " b"], smallest: float, random: torch.Generator
) -> Float[Tensor, "b 3 size size"]:
    """Training images as the encoder takes them, each a random crop."""
    assert examples.pixels is not None
    x = examples.pixels[examples.rows[rows.cpu()]].to(examples.labels.device)
    return examples.preprocess(to_rgb(random_crop(x.float() / 255, smallest, random)))


def remember(
    params: Params, network: nn.Module, place: Place, memory: replay.Memory
) -> replay.Memory:
    """iCaRL's memory with images of this task too."""
    study = params.sequence
    z = embedded(network, place.examples, study.precision)
    return replay.remembered(
        memory,
        place.task.name,
        z.cpu(),
        place.examples.labels.cpu(),
        study.distill.memory_size,
        published=study.faults_of_original.icarl_counts,
    )
