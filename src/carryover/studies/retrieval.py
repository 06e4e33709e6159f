"""Does looking up stored embeddings help an image classifier?

A classifier attends to entries of a memory: embeddings of images that a self-supervised network
gives, those nearest to the image or some drawn at random. Beside it stand the same classifier
without, and controls that change one thing each. ``dvc repro retrieval@resnet18`` writes
``reports/retrieval/runs/resnet18/rows.jsonl``: accuracy on all test images at fixed steps and at
the end, by noise and corruption, steps to 80 %, and what else `retrieval_measures` has. Below
``data/predictions/retrieval/resnet18`` it writes the classes that each test named
(``predictions.parquet``) and what some images look at (``attention.parquet``), below
``data/checkpoints/retrieval`` the encoders of models that began with pretrained weights. A training
that diverges has rows too, up to where it did and as one that names a single class from there on.

Source: ``alexchandler100/MAT_180`` at b60fed3.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from carryover import checkpoints, retrieval_predictions, run
from carryover.config.retrieval import ACCESSES, STARTED
from carryover.config.retrieval import Retrieval as Study
from carryover.parallel import compute
from carryover.retrieval_answers import accuracy_on
from carryover.retrieval_arms import Cell, cells, control_of, lrs_of, rate_of
from carryover.retrieval_lookup import lookup
from carryover.retrieval_measures import (
    Number,
    numbers,
    of_attention,
    of_probe,
    of_votes,
    write_attention,
)
from carryover.retrieval_models import adapted
from carryover.retrieval_start import CLEAN, Start, load_start
from carryover.retrieval_training import expect_batches, held_out, rows_of, train
from carryover.rows import Row, write_rows
from carryover.scratch import Scratch, alone

if TYPE_CHECKING:
    from carryover.config.params import Params

RUNS = Path("reports/retrieval/runs")
PREDICTIONS = retrieval_predictions.FOLDER

Facts = dict[str, Any]


def stage(params: Params, item: str, context: run.Context) -> None:
    """Run every arm and seed of one item; write its rows and what its model attends to."""
    torch.set_num_threads(1)
    study = params.retrieval
    device = run.device(run.chosen_device())
    start = load_start(params, item, device)
    expect_batches(params, start, item)
    made_from = {
        "params": context.params,
        "source": context.source,
        "data": start.data,
        "weights": start.weights,
        "precision": study.precision,
    }
    about = {"torch": torch.__version__, "device": device.type}
    scratch = Scratch(context.stage, made_from | about)
    processes = run.workers() if device.type == "cpu" else 0

    def work(cell: Cell) -> Facts:
        snapshot = file_of(scratch.folder, cell).with_suffix(".pt")
        found = validated(params, start, item, cell) if cell.lr else None
        found = found or reported(params, start, item, cell, rates, snapshot)
        snapshot.unlink(missing_ok=True)
        return found

    def whole(cell: Cell) -> bool:
        encoder = file_of(scratch.folder, cell)
        return predictions_of(encoder).exists() and (
            encoder.exists() or not control_of(study, cell).start
        )

    with alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"):
        started = time.monotonic()
        tried, final = cells(study, item)
        rates: dict[str, float] = {}
        with run.progress(context.stage, len(tried) + len(final)) as advance:
            done = compute(tried, work, scratch, processes, advance, last=False)
            rates = chosen_rates(study, item, tried, done)
            done = compute(final, work, scratch, processes, advance, whole=whole)
        rows = [
            Row(
                study="retrieval",
                item=item,
                preset=study.preset,
                cell=axes(study, cell, number),
                split=number.split,
                metric=number.metric,
                value=number.value,
                n=number.n,
                **made_from,
            )
            for cell in final
            for number in (Number(*fact) for fact in done[cell.name]["numbers"])
        ]
        looked = {c.seed: done[c.name]["attention"] for c in final if done[c.name]["attention"]}
        context.refuse_edited()
        write_attention(PREDICTIONS / item / "attention.parquet", looked)
        files = [predictions_of(file_of(scratch.folder, cell)) for cell in final]
        retrieval_predictions.keep(files, item)
        write_rows(RUNS / item / "rows.jsonl", rows)
        began = [cell for cell in final if control_of(study, cell).start]
        checkpoints.keep((file_of(scratch.folder, cell) for cell in began), "retrieval", item)
        scratch.clear()
        seconds = time.monotonic() - started
        told = {"device": device.type, "torch": torch.__version__}
        run.log(context.stage, {"cells": len(final), "seconds": seconds, **told})


def chosen_rates(
    study: Study, item: str, tried: Sequence[Cell], done: Mapping[str, Facts]
) -> dict[str, float]:
    """The rate of each access and pretrained start that validated best, of equals by the loss."""
    rates = {}
    for rate in (*ACCESSES, *STARTED):
        scores = [
            (done[cell.name]["accuracy"], -done[cell.name]["loss"], cell.lr)
            for cell in tried
            if rate_of(cell) == rate and cell.name in done
        ]
        rates[rate] = max(scores)[2] if scores else lrs_of(study, item, rate)[0]
    return rates


def validated(params: Params, start: Start, item: str, cell: Cell) -> Facts:
    """What a rate gives on held out training images after training without them."""
    kept, held = held_out(params, start, cell)
    trained = train(params, start, item, cell, cell.lr, kept, None)
    if trained.diverged:  # the worst that a rate can do
        return {"accuracy": 0.0, "loss": math.inf}
    accuracy, loss = accuracy_on(params, start, trained, held)
    return {"accuracy": accuracy, "loss": loss}


def reported(
    params: Params,
    start: Start,
    item: str,
    cell: Cell,
    rates: Mapping[str, float],
    snapshot: Path,
) -> Facts:
    """Train a cell, where there is something to train, and measure it.

    What it names goes to a file beside the snapshot, and so does an encoder that it began as.
    """
    control = control_of(params.retrieval, cell)
    attention: list[dict[str, Any]] = []
    if not control.trains:
        store = lookup(params, start, cell)
        found = of_votes(start, store) if store else of_probe(params, start, cell)
    else:
        lr = rates[rate_of(cell)]
        rows = rows_of(params, start, cell, control.more_images)
        trained = train(params, start, item, cell, lr, rows, snapshot)
        if control.start:
            kept = adapted(params.retrieval, start, item, cell, trained.record.model)
            checkpoints.write(snapshot.with_suffix(".safetensors"), kept)
        found = numbers(params, start, item, trained, lr, len(rows))
        plain = (cell.access, cell.k, cell.control) == ("knn", params.retrieval.k, "none")
        if plain and not trained.diverged:
            attention = of_attention(start, trained)
    told = [
        (axes(params.retrieval, cell, number), number.named.cpu().numpy())
        for number in found
        if number.named is not None
    ]
    labels = start.tests[CLEAN].labels.cpu().numpy()
    retrieval_predictions.write(predictions_of(snapshot), labels, told)
    return {"numbers": [number.fact() for number in found], "attention": attention}


def file_of(folder: Path, cell: Cell) -> Path:
    """Where an encoder is kept until all models are trained."""
    return folder / f"{cell.name.replace('/', '@')}.safetensors"


def predictions_of(path: Path) -> Path:
    """Where a cell's predictions are meanwhile, beside its encoder or snapshot."""
    return path.with_suffix(".parquet")


def axes(study: Study, cell: Cell, number: Number) -> dict[str, Any]:
    """A row's axes."""
    found: dict[str, Any] = {"dataset": study.dataset, "access": cell.access}
    if cell.k:
        found["k"] = cell.k
    return found | {"control": cell.control, "seed": cell.seed} | dict(number.axes)
