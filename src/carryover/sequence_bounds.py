"""What the sequence study compares with: all sets trained at once, heads on stored embeddings."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover import run
from carryover.adapt import distill
from carryover.data.crops import boxes
from carryover.data.splits import expect_each, hold_out
from carryover.sequence_carried import Answers, Cell
from carryover.sequence_distilling import texts
from carryover.sequence_losses import Piece, cropped, split, summed
from carryover.sequence_measures import answers, of_logits, zero_shot
from carryover.sequence_methods import METHODS
from carryover.sequence_resume import Draws, Resumable
from carryover.sequence_start import Start, Task
from carryover.sequence_training import choose_, half_cosine, images_in, optimiser_of
from carryover.solve.choice import accuracies, best
from carryover.solve.ridge import ridge
from carryover.train import Budget, fit, in_precision

if TYPE_CHECKING:
    from carryover.config.params import Params


def joint(
    params: Params, start: Start, network: nn.Module, cell: Cell, lr: float, snapshot: Path
) -> tuple[Answers, dict[str, float]]:
    """Train on the images of all sets together, as long as one after another takes.

    Each image is compared with its own set's classes. Batches take images of every set, so large
    sets count for more, and there is one rate: `sequence.lr_factors` do not enter.

    Args:
        snapshot: file that keeps the state of the last pass, to go on from after a kill.
    """
    study, device = params.sequence, start.device
    tasks = [start.tasks[name] for name in study.orders[cell.order]]
    ranks, where_in = start.ranks, f"{cell.order}/{cell.seed}/joint"
    crops = run.generator(params.seed, f"sequence/crops/{where_in}")
    student = choose_(study, network, METHODS[cell.method], crops)
    sizes = torch.tensor([len(task.train) for task in tasks])
    owner = torch.arange(len(tasks)).repeat_interleave(sizes)
    first = sizes.cumsum(0) - sizes

    def of_set(
        task: Task,
        rows: Int64[Tensor, " m"],
        labels: Int64[Tensor, " m"],
        where: Float[Tensor, "m 2 3"] | None,
        share: float,
    ) -> Float[Tensor, ""]:
        """Of some of a set's images, this share of the batch."""
        x = cropped(task.train, rows, where, ranks)
        with in_precision(device, study.precision):
            z = distill.unit_images(network, x)
            W = texts(network, task.prompt_ids, ranks)
        z = ranks.gathered(z, len(rows))
        scale = start.encoder.logit_scale
        return share * distill.classification_loss(z, W, labels, scale, study.smoothing)

    def loss(
        _: nn.Module, rows: Int64[Tensor, " b"], labels: Int64[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        pieces: list[Piece] = []
        most = min(study.accumulate, len(rows))  # the last batch of a pass may have few images
        for number, task in enumerate(tasks):
            mine = (owner[rows.cpu()] == number).nonzero()[:, 0]
            if not len(mine):
                continue
            where = boxes(len(mine), study.crop, crops)
            count = -(-len(mine) * most // len(rows))
            for index, own_where in zip(mine.tensor_split(count), split(where, count), strict=True):
                pieces.append(
                    partial(
                        of_set,
                        task,
                        rows.cpu()[index] - first[number],
                        labels[index.to(device)],
                        own_where,
                        len(index) / len(rows),
                    )
                )
        return summed(pieces, passed=study.accumulate > 1)

    steps = sum(study.updates_of(len(task.train)) for task in tasks)
    optimiser = optimiser_of(student, lr)
    rate_ = half_cosine(optimiser, lr, study.warm_up, steps)
    rate_(0)
    fit(
        Resumable(network, {"crops": Draws(crops)}),
        torch.arange(len(owner)),
        torch.cat([task.train.labels for task in tasks]),
        optimiser,
        Budget(study.batch_size, steps, steps, 0, 0, "on_stop"),
        run.generator(params.seed, f"sequence/batches/{where_in}"),
        loss=loss,
        edit_gradient=lambda: ranks.average_(student.values()),
        after_step=rate_,
        snapshot=snapshot,
        saves=ranks.leads,
    )
    seen = images_in(steps, len(owner), study.batch_size)
    facts = {"updates": float(steps), "images_seen": float(seen)}
    facts["trained_numbers"] = float(sum(p.numel() for p in student.values()))
    return answers(start, network, study.precision, {}), facts


def frozen(params: Params, start: Start, cell: Cell) -> dict[int, Answers]:
    """A head on stored embeddings for each set trained so far, zero-shot for the others."""
    order = params.sequence.orders[cell.order]
    before = zero_shot(start)
    head = {"ncm": class_means, "ridge": chosen_ridge}[METHODS[cell.method].way]
    after = {name: head(params, start, start.tasks[name]) for name in order}
    return {
        done: before | {name: after[name] for name in order[:done]}
        for done in range(len(order) + 1)
    }


def class_means(params: Params, start: Start, task: Task) -> dict[str, Tensor]:
    """By the class whose mean unit embedding is nearest; one without training images is never."""
    z, labels = F.normalize(task.train.embeddings, dim=-1), task.train.labels
    counts = torch.bincount(labels, minlength=len(task.prompt_ids))
    means = torch.stack([z[labels == c].mean(0) for c in range(len(counts))])
    unit = F.normalize(task.test.embeddings, dim=-1)
    logits = start.encoder.logit_scale * unit @ F.normalize(means, dim=-1).T
    return of_logits(logits.masked_fill(counts == 0, -math.inf), task.test.labels)


def chosen_ridge(params: Params, start: Start, task: Task) -> dict[str, Tensor]:
    """By ridge regression, with the penalty that is best on held out training images."""
    study, classes = params.sequence, len(task.prompt_ids)
    z, labels = F.normalize(task.train.embeddings, dim=-1), task.train.labels
    random = run.generator(params.seed, f"sequence/validation/{task.name}")
    kept, held = hold_out(labels.cpu(), study.validation_fraction, random, True)
    expect_each(labels.cpu(), kept, held, "sequence.validation_fraction")
    kept, held = kept.to(z.device), held.to(z.device)
    tried = ridge(z, labels, [kept], study.l2s, classes)
    right = accuracies(tried.class_weights, tried.biases, z[held], labels[held])
    penalties = torch.tensor(study.l2s, device=right.device)
    penalty = study.l2s[int(best(right, penalties)[0])]
    whole = ridge(z, labels, [torch.arange(len(z), device=z.device)], [penalty], classes)
    unit = F.normalize(task.test.embeddings, dim=-1)
    scores = unit @ whole.class_weights[0, 0].T + whole.biases[0, 0]
    return of_logits(scores, task.test.labels)
