"""Training in the retrieval study: one cell, with its curves."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover import run
from carryover.config.retrieval import Retrieval, Training
from carryover.data.crops import random_crop
from carryover.data.transforms import to_rgb
from carryover.models.encoders import features
from carryover.retrieval_arms import Cell
from carryover.retrieval_lookup import Lookup, division, lookup
from carryover.retrieval_models import Record, build
from carryover.retrieval_start import CLEAN, Shown, Start, View
from carryover.train import Budget, fit, in_precision

if TYPE_CHECKING:
    from carryover.config.params import Params


@dataclass(frozen=True, eq=False)
class Trained:
    """A model with its training.

    Attributes:
        found: how it looks up; None without retrieval.
        last: its answers after the last update, by view, as far as curves took them.
    """

    cell: Cell
    training: Training
    record: Record
    found: Lookup | None
    last: dict[View, Float[Tensor, "n c"]] = field(default_factory=dict)


def rows_of(params: Params, start: Start, cell: Cell, more: bool) -> Int64[Tensor, " n"]:
    """Training images of a cell: those that no store keeps, or all."""
    rows, kept = division(params, start, cell.seed)
    return torch.cat([rows, kept]).unique() if more else rows


def measured(study: Retrieval, training: Training) -> list[int]:
    """Updates after which the published measure draws its images."""
    every = study.running_maximum.every
    return list(range(every, training.updates + 1, every))


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
    from a saved state draws the same.

    Args:
        rows: of the training images.
        snapshot: as `train.fit` has it; None: no curve is taken either.
    Raises:
        Diverged: a loss is not finite.
    """
    study, training = params.retrieval, params.retrieval.training[item]
    found = lookup(params, start, cell)
    model = build(params, start, item, cell)
    images = min(study.running_maximum.images, len(start.tests[CLEAN]))
    record = Record(
        model,
        training.updates,
        (len(training.evaluate_at), len(curve_noises(params, cell))),
        (len(measured(study, training)), images),
    )
    record = record.to(start.device).train()
    optimiser = optimiser_of(training, record, lr)
    trained = Trained(cell, training, record, found)
    rate_ = schedule(training, optimiser, lr)
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
    )
    record.eval()
    return trained


def optimiser_of(training: Training, network: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The optimiser of an item."""
    if training.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), lr=lr, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        network.parameters(),
        lr=lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )


def schedule(
    training: Training, optimiser: torch.optim.Optimizer, lr: float
) -> Callable[[int], None]:
    """Sets the rate after so many updates: as it is, or half a cosine down to 0."""

    def rate_(updates: int) -> None:
        share = 0.5 * (1 + math.cos(math.pi * updates / training.updates))
        for group in optimiser.param_groups:
            group["lr"] = lr * (share if training.schedule == "cosine" else 1.0)

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
    """Training images in 0..1 and the rows they are handed.

    Args:
        ids: of the nearest rows of all training images; None where they are looked up here.
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


def watch_(params: Params, start: Start, trained: Trained, updates: int) -> None:
    """Test a model in training where the study's steps ask for it, and note what was right."""
    training, record = trained.training, trained.record
    drawn_at = measured(params.retrieval, training)
    if updates not in training.evaluate_at and updates not in drawn_at:
        return
    record.eval()
    clean = None
    for i, noise in enumerate(curve_noises(params, trained.cell)):
        if updates not in training.evaluate_at:
            break
        view = View(noise)
        logits = answers(params, start, trained, view, str(updates))
        right = logits.argmax(1) == start.tests[view].labels
        record.right[training.evaluate_at.index(updates), i] = right.sum()
        clean = right if view == CLEAN else clean
        if updates == training.updates:
            trained.last[view] = logits
    if updates in drawn_at:
        random = run.generator(
            params.seed, f"retrieval/running-maximum/{trained.cell.seed}/{updates}"
        )
        images = record.drawn.shape[1]
        rows = torch.randperm(len(start.tests[CLEAN]), generator=random)[:images].to(start.device)
        if clean is None:
            logits = answers(params, start, trained, CLEAN, str(updates), rows)
            hits = logits.argmax(1) == start.tests[CLEAN].labels[rows]
        else:
            hits = clean[rows]
        record.drawn[drawn_at.index(updates)] = hits
    record.train()


def curve_noises(params: Params, cell: Cell) -> tuple[float, ...]:
    """Noises of a cell's curves: those of the study for plain arms, for controls none."""
    noises = params.retrieval.curve_noises
    return noises if cell.control == "none" else (0.0,)


def answers(
    params: Params,
    start: Start,
    trained: Trained,
    view: View,
    when: str,
    rows: Int64[Tensor, " n"] | None = None,
    asks: Shown | None = None,
) -> Float[Tensor, "n c"]:
    """Logits of test images in one view, or of some of them, on the device.

    Args:
        when: tells one forward pass from another, where rows are drawn.
        asks: images that look up in the place of those shown.
    """
    shown, found = start.tests[view], trained.found
    ids = None if found is None else found.of_test(asks or shown, view, when)
    chosen = torch.arange(len(shown), device=start.device) if rows is None else rows
    parts = []
    with torch.no_grad(), in_precision(start.device, params.retrieval.precision):
        for part in chosen.split(params.retrieval.eval_batch_size):
            x = shown.pixels[part.cpu()].to(start.device).float() / 255
            handed = None if found is None or ids is None else found.store.handed(ids[part])
            parts.append(trained.record.model(x, handed).float())
    return torch.cat(parts)


def accuracy_on(
    params: Params, start: Start, trained: Trained, rows: Int64[Tensor, " n"]
) -> tuple[float, float]:
    """Accuracy and mean cross-entropy in nats on some training images, none of them changed."""
    shown, found = start.train, trained.found
    rows = rows.to(start.device)
    parts = []
    ids = None
    if found is not None:
        if found.control.access == "knn":
            ids = found.nearest(shown, found.own)
        else:
            random = run.generator(params.seed, "retrieval/sampled/validation")
            ids = found.drawn(found.own, random)
    with torch.no_grad(), in_precision(start.device, params.retrieval.precision):
        for part in rows.split(params.retrieval.eval_batch_size):
            x = shown.pixels[part.cpu()].to(start.device).float() / 255
            handed = None if found is None or ids is None else found.store.handed(ids[part])
            parts.append(trained.record.model(x, handed).float())
    logits, labels = torch.cat(parts), shown.labels[rows]
    return float((logits.argmax(1) == labels).double().mean()), float(
        F.cross_entropy(logits, labels)
    )
