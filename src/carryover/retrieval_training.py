"""Training in the retrieval study: one cell, with its curves."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover import run
from carryover.config.retrieval import Retrieval, Training
from carryover.data.crops import random_crop
from carryover.data.splits import expect_each, hold_out
from carryover.data.transforms import to_rgb
from carryover.errors import ConfigError, Diverged
from carryover.models.encoders import features
from carryover.retrieval_answers import Trained, curve_noises, measured, watch_
from carryover.retrieval_arms import Cell, cells, control_of
from carryover.retrieval_lookup import Lookup, division, lookup, memory_rows
from carryover.retrieval_models import Record, build
from carryover.retrieval_start import CLEAN, Start
from carryover.train import Budget, fit, in_precision

if TYPE_CHECKING:
    from carryover.config.params import Params


def rows_of(params: Params, start: Start, cell: Cell, more: bool) -> Int64[Tensor, " n"]:
    """Training images of a cell: those that no memory keeps, or with its own memory's too."""
    rows, _ = division(params, start, cell.seed)
    return torch.cat([rows, memory_rows(params, start, cell)]).unique() if more else rows


def held_out(
    params: Params, start: Start, cell: Cell
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
    """Images that a rate is tried on, and those held out of them to choose it by.

    Raises:
        ConfigError: no image is held out, or all of a class are.
    """
    rows = rows_of(params, start, cell, more=False)
    random = run.generator(params.seed, "retrieval/validation")
    labels = start.train.labels.cpu()[rows]
    kept, held = hold_out(labels, params.retrieval.validation_fraction, random, True)
    expect_each(labels, kept, held, "retrieval.validation_fraction")
    return rows[kept], rows[held]


def expect_batches(params: Params, start: Start, item: str) -> None:
    """Refuse numbers of images that some training of an item cannot take, before any of them.

    Raises:
        ConfigError: as `updates_per_epoch` and `held_out`, or a batch of a single image where batch
            norm sees one pixel of it.
    """
    study, updates = params.retrieval, params.retrieval.training[item].updates
    tried, final = cells(study, item)
    for cell in (*tried, *(cell for cell in final if cell.seed == 0)):  # as many in all seeds
        control = control_of(study, cell)
        if not control.trains:
            continue
        more = control.more_images
        rows = held_out(params, start, cell)[0] if cell.lr else rows_of(params, start, cell, more)
        met = updates_per_epoch(study, len(rows)) <= updates and not study.drop_last
        single = study.batch_size == 1 or (met and len(rows) % study.batch_size == 1)
        if single and _one_pixel(params, start, item, cell):
            raise ConfigError(
                "retrieval.batch_size: expected no batch of a single image where batch norm sees "
                f"one pixel of it ({item} at {study.size} px), got one from {len(rows)} training "
                f"images in batches of {study.batch_size}; change batch_size or memory.per_class"
            )


def _one_pixel(params: Params, start: Start, item: str, cell: Cell) -> bool:
    """Whether a batch norm of a cell's network sees a single pixel of an image."""
    control = cell.control if control_of(params.retrieval, cell).start else "none"
    network = build(params, start, item, Cell("none", 0, control, cell.seed)).eval()
    seen: list[int] = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, x: seen.append(x[0][0, 0].numel()))
    with torch.no_grad():
        network(start.train.pixels[:1].to(start.device).float() / 255)
    return 1 in seen


def train(
    params: Params,
    start: Start,
    item: str,
    cell: Cell,
    lr: float,
    rows: Int64[Tensor, " n"],
    snapshot: Path | None,
) -> Trained:
    """Train the model of a cell.

    What is drawn within an update follows from the seed and the batch, so a training that goes on
    from a saved state draws the same. One that diverges ends there, and says so.

    Args:
        rows: of the training images.
        snapshot: as `train.fit` has it; None: no curve is taken either.
    Raises:
        ConfigError: no batch is full, and smaller ones are left out.
    """
    study, training = params.retrieval, params.retrieval.training[item]
    per_epoch = updates_per_epoch(study, len(rows))
    found = lookup(params, start, cell)
    model = build(params, start, item, cell)
    shown = len(start.tests[CLEAN])
    record = Record(
        model,
        training.updates,
        (len(training.evaluate_at), len(curve_noises(params, cell)), shown),
        (len(measured(study, training, cell)), min(study.running_maximum.images, shown)),
    )
    record = record.to(start.device).train()
    optimiser = optimiser_of(training, record, lr)
    trained = Trained(cell, training, record, found)
    rate_ = schedule(training, optimiser, lr, per_epoch)
    ids = None
    if found is not None and found.control.access == "knn" and not augmented(params):
        ids = found.nearest(start.train, found.own)

    def loss(network: nn.Module, batch: Int64[Tensor, " b"], labels: Tensor) -> Float[Tensor, ""]:
        random = drawn_from(params, cell, batch)
        number = int(torch.randint(2**62, (1,), generator=random))
        x, handed = inputs(params, start, found, ids, batch, random)
        with torch.random.fork_rng(devices=[start.device] if x.is_cuda else []):
            torch.manual_seed(number)  # of dropout
            with in_precision(start.device, study.precision):
                logits = record.model(x, handed)
        value = F.cross_entropy(logits.float(), labels)
        record.note_(value.detach())
        return value

    def after_step(updates: int) -> None:
        rate_(updates)
        if snapshot is not None:
            watch_(params, start, trained, updates)

    on_device = rows.to(start.device)
    try:
        fit(
            record,
            on_device,
            start.train.labels[on_device],
            optimiser,
            Budget(study.batch_size, training.updates, training.updates, 0, 0, "on_stop"),
            run.generator(params.seed, f"retrieval/batches/{cell.seed}"),
            loss=loss,
            after_step=after_step,
            snapshot=snapshot,
            drop_last=study.drop_last,
        )
        good = training.updates if _finite(record.model) else training.updates - 1
    except Diverged:
        good = int(record.done) - 1  # the loss that was not finite is noted too
    if good < training.updates:
        trained.last.clear()
        trained = replace(trained, diverged=True)
        if snapshot is not None:
            for updates in range(good + 1, training.updates + 1):
                watch_(params, start, trained, updates)
    record.eval()
    return trained


def updates_per_epoch(study: Retrieval, images: int) -> int:
    """Batches of an epoch over so many training images.

    Raises:
        ConfigError: none, as smaller ones are left out.
    """
    if not study.drop_last:
        return -(-images // study.batch_size)
    if images < study.batch_size:
        raise ConfigError(
            f"retrieval.drop_last: expected a batch of {study.batch_size} training images or more, "
            f"got {images}; lower retrieval.batch_size, or set drop_last: false"
        )
    return images // study.batch_size


def _finite(model: nn.Module) -> bool:
    every = model.state_dict().values()  # batch norms' averages too
    return all(bool(x.isfinite().all()) for x in every if x.is_floating_point())


def optimiser_of(training: Training, network: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The optimiser of an item; fused, since small steps are mostly calls."""
    weights, decay = network.parameters(), training.weight_decay
    if training.optimiser == "adam":
        return torch.optim.Adam(weights, lr=lr, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        weights, lr=lr, momentum=training.momentum, weight_decay=decay, fused=True
    )


def schedule(
    training: Training, optimiser: torch.optim.Optimizer, lr: float, per_epoch: int
) -> Callable[[int], None]:
    """Sets the rate after so many updates: as it is, or half a cosine down to 0.

    With ``cosine-epoch`` it moves when an epoch ends, as torch's `CosineAnnealingLR` does that
    is stepped once an epoch with as many epochs, the last one begun among them.

    Args:
        per_epoch: updates of an epoch.
    Source: Loshchilov and Hutter 2017, eq. 5, without restarts.
    """
    steps = per_epoch if training.schedule == "cosine-epoch" else 1
    last = -(-training.updates // steps)

    def rate_(updates: int) -> None:
        share = 0.5 * (1 + math.cos(math.pi * (updates // steps) / last))
        for group in optimiser.param_groups:
            group["lr"] = lr * (1.0 if training.schedule == "constant" else share)

    return rate_


def drawn_from(params: Params, cell: Cell, batch: Int64[Tensor, " b"]) -> torch.Generator:
    """A stream for one update, the same in all arms of a seed that see the batch."""
    name = hashlib.sha256(batch.cpu().numpy().tobytes()).hexdigest()
    return run.generator(params.seed, f"retrieval/update/{cell.seed}/{name}")


def augmented(params: Params) -> bool:
    """Whether training images are changed each time they are seen."""
    return params.retrieval.crop < 1 or params.retrieval.flip


def inputs(
    params: Params,
    start: Start,
    found: Lookup | None,
    ids: Int64[Tensor, "n k"] | None,
    batch: Int64[Tensor, " b"],
    random: torch.Generator,
) -> tuple[Tensor, Tensor | None]:
    """Training images in 0..1 and the entries they are handed.

    Args:
        ids: of the nearest entries of all training images; None where they are looked up here.
    """
    x = start.train.pixels[batch.cpu()].to(start.device).float() / 255
    if augmented(params):
        x = changed(params, x, random)
    if found is None:
        return x, None
    own = found.own[batch]
    if ids is not None:
        chosen = ids[batch]
    elif found.control.access == "sampled":
        chosen = found.drawn(own, random)
    else:
        with torch.no_grad(), in_precision(start.device, params.retrieval.precision):
            queries = features(start.encoder, to_rgb(x), [start.feature])[start.feature]
        chosen = found.at_once(queries.float(), own)
    return x, found.store.handed(chosen)


def changed(
    params: Params, x: Float[Tensor, "b c s s"], random: torch.Generator
) -> Float[Tensor, "b c s s"]:
    """Training images cropped and mirrored at random."""
    study = params.retrieval
    x = random_crop(x, study.crop, random)
    if study.flip:
        mirrored = torch.rand(len(x), generator=random) < 0.5
        x = torch.where(mirrored.to(x.device).view(-1, 1, 1, 1), x.flip(3), x)
    return x
