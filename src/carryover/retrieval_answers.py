"""What a model of the retrieval study answers: on test images while it trains and after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from carryover import run
from carryover.config.retrieval import Retrieval, Training
from carryover.retrieval_arms import Cell
from carryover.retrieval_lookup import Lookup
from carryover.retrieval_models import Record
from carryover.retrieval_start import CLEAN, Start, View
from carryover.train import in_precision

if TYPE_CHECKING:
    from carryover.config.params import Params


@dataclass(frozen=True, eq=False)
class Trained:
    """A model with its training.

    Attributes:
        found: how it looks up; None without retrieval.
        diverged: a loss or a weight was not finite. Such a network has no output that is above
            another, so from there on it counts as one that names the first class.
        last: its answers after the last update, by view, as far as curves took them.
        asked: nearest entries of the test images that curves are of, by view.
    """

    cell: Cell
    training: Training
    record: Record
    found: Lookup | None
    diverged: bool = False
    last: dict[View, Float[Tensor, "n c"]] = field(default_factory=dict)
    asked: dict[View, Int64[Tensor, "n k"]] = field(default_factory=dict)


def measured(study: Retrieval, training: Training, cell: Cell) -> list[int]:
    """Updates after which the published measure draws its images; none where it is not told."""
    plain = cell.control == "none" and cell.k in (0, study.k)
    if not plain and not study.faults_of_original.running_maximum:
        return []
    every = study.running_maximum.every
    return list(range(every, training.updates + 1, every))


def watch_(params: Params, start: Start, trained: Trained, updates: int) -> None:
    """Test a model in training where the study's steps ask for it, and note what was right."""
    training, record = trained.training, trained.record
    drawn_at = measured(params.retrieval, training, trained.cell)
    if updates not in training.evaluate_at and updates not in drawn_at:
        return
    record.eval()
    clean = None
    for i, noise in enumerate(curve_noises(params, trained.cell)):
        if updates not in training.evaluate_at:
            break
        view = View(noise)
        logits = answers(params, start, trained, view, str(updates))
        named = logits.argmax(1)
        record.named[training.evaluate_at.index(updates), i] = named.to(record.named.dtype)
        clean = named == start.tests[view].labels if view == CLEAN else clean
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
    asks: View | None = None,
) -> Float[Tensor, "n c"]:
    """Logits of test images in one view, or of some of them, on the device.

    Args:
        when: tells one forward pass from another, where entries are drawn.
        asks: the view that looks up in the place of the one shown.
    """
    shown, found = start.tests[view], trained.found
    chosen = torch.arange(len(shown), device=start.device) if rows is None else rows
    if trained.diverged:
        first = torch.zeros(len(chosen), start.classes, device=start.device)
        first[:, 0] = 1
        return first
    ids = _entries(params, start, trained, asks or view, when)
    parts = []
    with torch.no_grad(), in_precision(start.device, params.retrieval.precision):
        for part in chosen.split(params.retrieval.eval_batch_size):
            x = shown.pixels[part.cpu()].to(start.device).float() / 255
            handed = None if found is None or ids is None else found.store.handed(ids[part])
            parts.append(trained.record.model(x, handed).float())
    return torch.cat(parts)


def _entries(
    params: Params, start: Start, trained: Trained, view: View, when: str
) -> Int64[Tensor, "n k"] | None:
    """What test images are handed; the nearest of a curve's are kept while its model trains."""
    found = trained.found
    if found is None or view in trained.asked:
        return trained.asked.get(view)
    ids = found.of_test(start.tests[view], view, when)
    along = not view.corruption and view.noise in curve_noises(params, trained.cell)
    if found.control.access == "knn" and along:
        trained.asked[view] = ids
    return ids


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
