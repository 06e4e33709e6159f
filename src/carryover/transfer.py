"""What a study of cut networks starts from: target images, source network, random streams."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from carryover import run
from carryover.adapt.cut import RULES, cut_network, frozen_part, kept_names
from carryover.checkpoints import Checkpoint, changed
from carryover.config.cuts import Cuts
from carryover.data import splits, store
from carryover.errors import DataError
from carryover.models import saved
from carryover.prefix import Prefix
from carryover.prepare import SETS
from carryover.pretrain import supervised
from carryover.pretrain.supervised import channels_last, normalised, validation_generator

if TYPE_CHECKING:
    from carryover.config.params import Params

Rows = Int[Tensor, " drawn"]


@dataclass(frozen=True, eq=False)
class Task:
    """Target images, and the network to start from.

    Attributes:
        images, labels: of all splits together: training, validation and, where the study tests on
            other images, test; on the device.
        parts: where each split lies among them; ``test`` covers training and validation images
            where the study tests on the training part, as published.
        start: the source network.
        data: digest of the target's training images.
        weights: digest of the source network.
    """

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    parts: dict[str, slice]
    start: nn.Sequential
    classes: int
    data: str
    weights: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        c, h, w = self.images.shape[1:]
        return (c, h, w)


def load_task(params: Params, device: torch.device) -> Task:
    """Target images split into train, validation and test, and the source network.

    Raises:
        DataError: the images have another shape than those the network was trained on.
        ConfigError: no image is held out.
    """
    study = params.cuts
    train = store.load(SETS / study.dataset, "train").of_classes(study.classes, "cuts.classes")
    kept, held = splits.hold_out(
        train.labels,
        study.validation_fraction,
        validation_generator(params.seed, study.validation_seed, "cuts/validation"),
        study.stratified_validation,
    )
    splits.expect_some(held, "cuts.validation_fraction")
    sets = [train.select(kept), train.select(held)]
    ends = [len(kept), len(train), len(train)]
    if study.test_on == "test":
        sets.append(
            store.load(SETS / study.dataset, "test").of_classes(study.classes, "cuts.classes")
        )
        ends[2] += len(sets[2])
    images = torch.cat([normalised(part, device) for part in sets])
    folder = Path("data/models") / study.pretrained
    card = saved.read_card(folder)
    if list(images.shape[1:]) != list(card["image_shape"]):
        raise DataError(
            f"cuts.dataset: expected images of {list(card['image_shape'])} (channels, height, "
            f"width) as {study.pretrained} was trained on, got {list(images.shape[1:])} from "
            f"{study.dataset}; choose sets of one shape, or pretrain on this one"
        )
    return Task(
        images=images,
        labels=torch.cat([part.labels for part in sets]).to(device),
        parts={
            "train": slice(0, ends[0]),
            "validation": slice(ends[0], ends[1]),
            "test": slice(ends[1], ends[2]) if study.test_on == "test" else slice(0, ends[1]),
        },
        start=channels_last(supervised.load(folder, card).to(device)),
        classes=len(study.classes),
        data=train.digest,
        weights=card["weights"],
    )


def training_rows(
    study: Cuts, labels: Int[Tensor, " n"], fraction: float, generator: torch.Generator
) -> Rows:
    """Rows of the images that one repeat trains on, among the training part's `labels`."""
    return splits.balanced_subset(labels, fraction, generator, study.sampling, "cuts.fractions")


def validation_rows(
    study: Cuts, labels: Int[Tensor, " n"], fraction: float, generator: torch.Generator
) -> Rows:
    """Rows of the images that choose a training's weights, among the held out `labels`.

    All of them, or as small a share as the training images are, but at least one a class.
    """
    if study.validation_images == "all":
        return torch.arange(len(labels))
    least = (len(study.classes) + 0.001) / len(labels)
    return splits.balanced_subset(labels, min(1.0, max(fraction, least)), generator)


def generators(
    params: Params, item: str, fraction: float, repeat: int
) -> tuple[torch.Generator, torch.Generator]:
    """Random streams of one training: for its images, and for its weights and batches.

    All settings and cuts of a repeat see the same images and draw the same stream, so a cut at
    full depth is one experiment under FR, F and FT. By purpose, the baseline draws its own
    weights; by repeat (as published), it is the same experiment as FR at cut 0.
    """
    images = splits.repeat_generator(params.seed, params.cuts.seeding, repeat)
    if params.cuts.seeding == "repeat":
        return images, torch.Generator().manual_seed(repeat)
    own = "baseline/" if item == "baseline" else ""
    return images, run.generator(params.seed, f"cuts/{own}weights/{fraction:g}/{repeat}")


@dataclass(frozen=True, eq=False)
class Training:
    """One network about to be trained, and the images it meets, by split."""

    network: nn.Sequential
    lrs: dict[str, float]  # of each layer that trains
    inputs: dict[str, Float[Tensor, "n ..."]]
    labels: dict[str, Int[Tensor, " n"]]
    random: torch.Generator


def prepared(
    params: Params, item: str, task: Task, prefix: Prefix, cell: tuple[float, int, int]
) -> Training:
    """The network and images of one (fraction, cut, repeat), before any update."""
    study, rule = params.cuts, RULES[item]
    fraction, cut, repeat = cell[0], max(cell[1], 0), cell[2]
    sample, random = generators(params, item, fraction, repeat)
    held = task.parts["validation"]
    chosen = training_rows(study, task.labels[task.parts["train"]].cpu(), fraction, sample)
    rows: dict[str, Rows | slice] = {**task.parts, "train": chosen}
    if study.validation_images == "fraction":
        rows["validation"] = held.start + validation_rows(
            study, task.labels[held].cpu(), fraction, sample
        )
    trained = cut_network(
        task.start,
        cut,
        rule,
        image_shape=task.image_shape,
        classes=task.classes,
        generator=random,
        renew_hidden=study.reinit_both_dense,
    )
    frozen = frozen_part(task.start, cut if rule.freeze else 0, prefix.kept)
    kept = kept_names(task.start, cut, rule)
    return Training(
        network=nn.Sequential(OrderedDict([*frozen.named_children(), *trained.named_children()])),
        lrs={
            name: study.lr_kept if name in kept else study.lr
            for name, _ in trained.named_children()
        },
        inputs={split: prefix.values[which] for split, which in rows.items()},
        labels={split: task.labels[which] for split, which in rows.items()},
        random=random,
    )


def adapted(
    study: Cuts,
    item: str,
    task: Task,
    prefix: Prefix,
    cell: tuple[float, int, int],
    training: Training,
) -> Checkpoint:
    """A trained network without its last layer: what differs from the source network."""
    before = frozen_part(task.start, prefix.kept)
    network = nn.Sequential(
        OrderedDict([*before.named_children(), *training.network.named_children()])
    )
    names = [name for name, _ in network.named_children()]
    tensors = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.split(".")[0] != names[-1]
    }
    return Checkpoint(
        study="cuts",
        item=item,
        cell=dict(zip(("fraction", "cut", "repeat"), cell, strict=True)) | {"pair": study.pair},
        network=f"pretrain:{study.pretrained}",
        start=task.weights,
        what="image",
        tensors=changed(tensors, task.start.state_dict()),
        form={"modules": names[:-1]},
    )


def refuse_fractions(study: Cuts, labels: Int[Tensor, " n"]) -> None:
    """Stop before the first training when a fraction is too small, or two give the same images.

    Raises:
        DataError: a fraction that gives some class no image.
        ConfigError: two fractions that give equally many images.
    """
    splits.expect_other_sizes(
        {f: len(training_rows(study, labels, f, torch.Generator())) for f in study.fractions},
        "cuts.fractions",
    )
