"""One training of the adaptation study: its images, what trains, at which rates."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from carryover import run
from carryover.adapt import optim
from carryover.adapt.freeze import chosen, freeze_
from carryover.adapt.objective import cross_entropy_after
from carryover.adapt_start import Examples, Start
from carryover.checkpoints import Checkpoint, changed
from carryover.config.adapt import Adapt
from carryover.data.partitions import FOOD101_PER_CLASS, expect_counts, partition, shifted
from carryover.data.splits import expect_left, expect_some, hold_out
from carryover.errors import Diverged
from carryover.models.heads import Adapted, Head, linear_head, projected
from carryover.models.layers import parameter_groups, parameter_kinds
from carryover.train import Budget, fit, in_precision

if TYPE_CHECKING:
    from carryover.config.params import Params


def chosen_rows(
    params: Params, start: Start, method: str, share: float, seed: int
) -> tuple[Examples, int]:
    """The training images of one share and seed, and how many outputs a head needs for them.

    Nested over shares and equal for all methods of a seed. A method or study with a partition
    fault sees the labels that a loader of folders would give them; `probe-without-class` has the
    images of `probe-missing-class` with their own labels.
    """
    study = params.adapt
    rows = partition(
        start.train.labels.cpu(),
        share,
        run.generator(params.seed, f"adapt/partition/{seed}"),
        "adapt.partitions",
    )
    if study.dataset == "food-101" and share in FOOD101_PER_CLASS:
        labels, names = start.train.labels.cpu()[rows], start.class_names
        expect_counts(labels, FOOD101_PER_CLASS[share], names, "adapt.partitions")
    fault = FAULTS.get(method, study.partition_fault)
    if fault == "none" or share < study.fault_from:
        return start.train.take(rows), len(start.class_names)
    place = study.fault_class
    if fault == "without-class":
        kept = rows[start.train.labels.cpu()[rows] != place]
        return start.train.take(kept), len(start.class_names)
    name = start.class_names[place]
    faulty = shifted(
        start.train.labels.cpu(),
        rows,
        start.class_names,
        drop=(place,) if fault == "missing-class" else (),
        add=(f"{name} copy",) if fault == "extra-class" else (),
    )
    return start.train.take(faulty.rows, faulty.labels), faulty.classes


def item_of(method: str) -> str:
    """The stage's item that a method belongs to."""
    return method.split("-")[0]


@dataclass(frozen=True, eq=False)
class Trained:
    """A head, with the encoder below it where that has trained.

    Attributes:
        softmax: what its logits go through (`adapt.objective.SOFTMAX`).
        diverged: training ended with a loss that is not finite, by Adam in half precision.
    """

    network: nn.Module
    head: Head
    softmax: str
    updates: int
    diverged: bool


def train(
    study: Adapt,
    start: Start,
    method: str,
    examples: Examples,
    classes: int,
    lr: float,
    random: torch.Generator,
    snapshot: Path,
) -> Trained:
    """Train a method's head, and what of the encoder the method says, on some images.

    Args:
        study: at the images' partition (`Adapt.at`).
    """
    item = item_of(method)
    head = linear_head(
        study.head,
        classes,
        start.train.embeddings.shape[1],
        generator=random,
        class_weights=_on_cpu(start.class_weights.get(study.dataset)),
        scale=start.encoder.logit_scale,
        unit=study.head == "text",
    )
    network: nn.Module = head
    rates = {name: lr for name, _ in head.named_parameters()}
    half = study.adam == "float16" and item != "probe"
    if item != "probe":
        network, rates = _with_encoder(study, start, method, head, lr, half)
    network.to(start.train.labels.device)
    inputs = examples.embeddings if item == "probe" else torch.arange(len(examples))
    loss = cross_entropy_after(study.softmax[item])
    groups = optim.optimiser_groups(network, rates)
    heights = [group["lr"] for group in groups]
    optimiser = torch.optim.Adam(groups, fused=not half)
    budget = Budget(study.batch_size, study.epochs[item], study.max_updates, 0, 0, "on_stop")
    total = budget.epochs * -(-len(examples) // budget.batch_size)
    total = min(total, budget.max_updates or total)

    done = 0

    def after_step(updates: int) -> None:
        nonlocal done
        done = updates
        share = 0.5 * (1 + math.cos(math.pi * updates / total))
        for group, height in zip(optimiser.param_groups, heights, strict=True):
            group["lr"] = height * (share if study.schedule == "cosine" else 1.0)

    def in_study_precision(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with in_precision(y.device, study.precision):
            return loss(network, x if item == "probe" else examples.images(x), y)

    diverged = False
    try:
        fit(
            network,
            inputs,
            examples.labels,
            optimiser,
            budget,
            random,
            loss=in_study_precision,
            after_step=after_step,
            snapshot=snapshot,
        )
    except Diverged:
        if not half:  # where it is not the fault that was asked for, the run stops
            raise
        diverged = True
    snapshot.unlink(missing_ok=True)
    return Trained(network, head, study.softmax[item], done, diverged)


def adapted(
    study: Adapt, start: Start, about: Mapping[str, object], trained: Trained
) -> Checkpoint:
    """The encoder after a training: nothing of it differs where a probe has trained.

    Args:
        about: axes of the cell.
    """
    given = trained.network.image if isinstance(trained.network, Adapted) else start.encoder.image
    return Checkpoint(
        study="adapt",
        item=item_of(str(about["method"])),
        cell=dict(about),
        network=study.encoder,
        start=start.encoder.weights,
        what="image",
        tensors=changed(given.state_dict(), start.encoder.image.state_dict()),
    )


def _with_encoder(
    study: Adapt, start: Start, method: str, head: Head, lr: float, half: bool
) -> tuple[nn.Module, dict[str, float]]:
    """A copy of the encoder under the head, frozen as the method says; rates by parameter."""
    image, groups = copy.deepcopy(start.encoder.image), start.encoder.groups
    kinds = parameter_kinds(image)
    names = that_train(study, method, groups, kinds)
    freeze_(image, names)
    if half:
        optim.halve_(image, kinds)
    decay = {"llrd": study.decay, "llrd-blocks": study.decay_blocks}.get(method, 1.0)
    rates = optim.learning_rates(study.decay_per, names, groups, lr=lr, decay=decay)
    return Adapted(image, optim.half_projected if half else projected, head), rates


def that_train(
    study: Adapt, method: str, groups: Mapping[str, Sequence[str]], kinds: Mapping[str, str]
) -> list[str]:
    """The parameters of an encoder that a method trains.

    Raises:
        ConfigError: the encoder has no such blocks or no such parameters.
    """
    mode = {"llrd": "norm", "llrd-blocks": "all"}.get(method, method.removeprefix("unfreeze-"))
    return chosen(
        mode,
        groups,
        kinds,
        blocks_from=None if mode == "all" else study.blocks_from,
        path="adapt.llrd" if item_of(method) == "llrd" else "adapt.unfreeze",
        blocks_path="adapt.blocks_from",
    )


def refuse_unfit(study: Adapt, image: nn.Module) -> None:
    """Refuse methods, of any item of the study, that train what the encoder does not have.

    Raises:
        ConfigError: the first of them.
    """
    groups, kinds = parameter_groups(image), parameter_kinds(image)
    for item in study.items:
        for method in study.methods(item) if item != "probe" else ():
            that_train(study, method, groups, kinds)


def _on_cpu(weights: Tensor | None) -> Tensor | None:
    return None if weights is None else weights.cpu()


def held_out(
    study: Adapt, examples: Examples, share: float, random: torch.Generator
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
    """Training images without, and those with which a rate or penalty is chosen.

    Args:
        share: the partition that the images are, for messages.
    Raises:
        ConfigError: too few images of each class to hold one out, or to train on the rest.
    """
    labels, fraction = examples.labels.cpu(), study.validation_fraction
    kept, held = hold_out(labels, fraction, random, True)
    path = f"adapt.validation_fraction, at partition {share:g}"
    expect_some(held, path)
    expect_left(labels[kept], fraction, len(labels), path)
    return kept, held


FAULTS = {
    "probe-missing-class": "missing-class",
    "probe-extra-class": "extra-class",
    "probe-without-class": "without-class",  # the control: as missing-class, labels right
}
