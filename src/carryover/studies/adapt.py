"""How should CLIP's image encoder be adapted to a new data set, and at how much data?

Zero-shot, a linear probe on stored embeddings, and training parts of the encoder with its head
(layer norms, attention, MLPs, the last blocks, everything; with decaying rates) on nested,
class-balanced shares of the training images. ``dvc repro adapt@probe`` writes
``reports/adapt/runs/probe/rows.jsonl``: accuracy and calibration on the test images by method,
share and seed, and of encoders that trained the zero-shot accuracy on all sets, which is what
adapting has cost; and below ``data/predictions/adapt`` every prediction on test images, below
``data/checkpoints/adapt`` the encoders adapted on the largest share.

Source: ``ayak2002/EC523_Chopped``, folder CLIP, at 00bc0f7.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from carryover import adapt_predictions, checkpoints, run
from carryover.adapt_measures import (
    Numbers,
    by_solver,
    embeddings_by_set,
    embeddings_of,
    measured,
    retained,
    zero_shot,
)
from carryover.adapt_start import Start, load_start
from carryover.adapt_training import (
    FAULTS,
    adapted,
    chosen_rows,
    held_out,
    item_of,
    refuse_unfit,
    train,
)
from carryover.config.adapt import Adapt
from carryover.errors import Diverged
from carryover.parallel import compute
from carryover.rows import Row, write_rows
from carryover.scratch import Scratch, alone

if TYPE_CHECKING:
    from carryover.config.params import Params

RUNS = Path("reports/adapt/runs")


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        lr: the rate tried, validated on held out images; 0 for the training that is reported.
    """

    method: str
    partition: float
    seed: int
    lr: float = 0.0

    @property
    def name(self) -> str:
        """Its name in the scratch file."""
        tried = f"/{self.lr:g}" if self.lr else ""
        return f"{self.method}/{self.partition:g}/{self.seed}{tried}"


def stage(params: Params, item: str, context: run.Context) -> None:
    """Train every (method, partition, seed) of one item and write its rows."""
    torch.set_num_threads(1)
    study = params.adapt
    device = run.device(run.chosen_device())
    start = load_start(params, device, pixels=item != "probe")
    refuse_unfit(study, start.encoder.image)
    made_from = {
        "params": context.params,
        "source": context.source,
        "data": start.data,
        "weights": start.encoder.weights,
        "precision": study.precision,
    }
    about = {"torch": torch.__version__, "device": device.type, "embedded": start.embedded}
    scratch = Scratch(context.stage, made_from | about)
    processes = run.workers() if device.type == "cpu" else 0

    def work(cell: Cell) -> Numbers:
        return numbers(params, start, cell, rates, scratch.folder)

    with alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"):
        started = time.monotonic()
        tried, reported = cells(study, item)
        rates: dict[tuple[str, float], float] = {}
        with run.progress(context.stage, len(tried) + len(reported)) as advance:
            found = compute(tried, work, scratch, processes, advance, last=False)
            rates = chosen_rates(study, tried, found)
            files = {cell.name: predictions_of(scratch.folder, cell) for cell in reported}

            def whole(cell: Cell) -> bool:
                encoder = file_of(scratch.folder, cell)
                return files[cell.name].exists() and (encoder.exists() or not is_kept(study, cell))

            found = compute(reported, work, scratch, processes, advance, whole=whole)
        rows = [
            Row(
                study="adapt",
                item=item,
                preset=study.preset,
                cell=axes(study, cell, dataset, split),
                split=split,
                metric=metric,
                value=value,
                n=n,
                **made_from,
            )
            for cell in reported
            for dataset, split, metric, value, n in found[cell.name]
        ]
        context.refuse_edited()
        write_rows(RUNS / item / "rows.jsonl", rows)
        kept = [file_of(scratch.folder, cell) for cell in reported if is_kept(study, cell)]
        checkpoints.keep(kept, "adapt", item)
        adapt_predictions.keep(files.values(), item)
        scratch.clear()
        seconds = time.monotonic() - started
        facts = {"device": device.type, "torch": torch.__version__}
        run.log(context.stage, {"cells": len(reported), "seconds": seconds, **facts})


def cells(study: Adapt, item: str) -> tuple[list[Cell], list[Cell]]:
    """Trainings that choose rates, those of the first seed; and the trainings to report."""
    methods = study.methods(item)
    trained = [method for method in methods if method not in WITHOUT_RATE]
    tried = [
        Cell(method, partition, 0, lr)
        for method, partition in product(trained, study.partitions)
        if len(rates := study.at(partition).lrs[item]) > 1
        for lr in rates
    ]
    reported = [
        Cell(method, partition, seed)
        for method, partition, seed in product(methods, study.partitions, range(study.seeds))
        if method != "zero-shot"
    ]
    if "zero-shot" in methods:
        reported.insert(0, Cell("zero-shot", 1.0, 0))
    return tried, reported


def chosen_rates(
    study: Adapt, tried: Sequence[Cell], done: dict[str, Any]
) -> dict[tuple[str, float], float]:
    """The rate of each (method, partition) that validated best: accuracy, then the lower loss."""
    best: dict[tuple[str, float], tuple[float, float, float]] = {}
    for cell in tried:
        values = {metric: value for _, _, metric, value, _ in done[cell.name]}
        score = (values["accuracy"], -values.get("nll", math.inf), cell.lr)
        place = (cell.method, cell.partition)
        best[place] = max(best.get(place, score), score)
    return {place: score[2] for place, score in best.items()}


def axes(study: Adapt, cell: Cell, dataset: str, split: str) -> dict[str, object]:
    """A row's axes; zero-shot has no seed, and a partition on training images alone."""
    found: dict[str, object] = {
        "dataset": dataset,
        "encoder": study.encoder,
        "method": cell.method,
        "partition": cell.partition,
        "seed": cell.seed,
    }
    if cell.method == "zero-shot":
        del found["seed"]
        if split == "test":
            del found["partition"]
    return found


def numbers(
    params: Params,
    start: Start,
    cell: Cell,
    rates: dict[tuple[str, float], float],
    folder: Path,
) -> Numbers:
    """What one cell gives; its predictions and encoder go to files in `folder`."""
    study = params.adapt.at(cell.partition)
    place = {"method": cell.method, "partition": cell.partition, "seed": cell.seed}
    write = partial(adapt_predictions.write, predictions_of(folder, cell), study, start, place)
    if cell.method == "zero-shot":
        write(made := adapt_predictions.untrained(study, start))
        return zero_shot(study, start, chosen_rows(params, start, cell.method, 1.0, 0)[0], made)
    examples, classes = chosen_rows(params, start, cell.method, cell.partition, cell.seed)
    shared = f"{cell.partition:g}/{cell.seed}"  # methods share images, heads and batches
    validation = run.generator(params.seed, f"adapt/validation/{shared}")
    if cell.method == "probe-logistic":
        found, classes_named = by_solver(study, start, examples, cell.partition, validation)
        write({(study.dataset, "trained"): classes_named})
        return found
    random = run.generator(params.seed, f"adapt/weights/{shared}")
    snapshot = file_of(folder, cell).with_suffix(".pt")
    if cell.lr:
        kept, held = held_out(study, examples, cell.partition, validation)
        less, held_images = examples.take(kept), examples.take(held)
        try:
            trained = train(study, start, cell.method, less, classes, cell.lr, random, snapshot)
        except Diverged:  # the worst that a rate can do
            return [(study.dataset, "validation", "accuracy", 0.0, len(held))]
        z = embeddings_of(trained, held_images)
        return measured(study, trained, z, held_images.labels, "validation")
    lr = rates.get((cell.method, cell.partition), study.lrs[item_of(cell.method)][0])
    trained = train(study, start, cell.method, examples, classes, lr, random, snapshot)
    if is_kept(study, cell):
        about = axes(study, cell, study.dataset, "test")
        checkpoints.write(file_of(folder, cell), adapted(study, start, about, trained))
    seen = embeddings_by_set(start, trained, study.dataset)
    write(made := adapt_predictions.named(study, start, trained, seen))
    fitted = embeddings_of(trained, examples)
    return [
        *measured(study, trained, fitted, examples.labels, "train"),
        *measured(study, trained, seen[study.dataset], start.test.labels, "test"),
        *retained(study, start, made),
        (study.dataset, "train", "updates", float(trained.updates), len(examples)),
        (study.dataset, "train", "lr", lr, len(examples)),
        (study.dataset, "train", "diverged", float(trained.diverged), len(examples)),
    ]


def file_of(folder: Path, cell: Cell) -> Path:
    """Where a cell's encoder is kept until all are trained."""
    return folder / f"{cell.name.replace('/', '-')}.safetensors"


def predictions_of(folder: Path, cell: Cell) -> Path:
    """Where a reported cell's predictions are until all are trained."""
    return folder / f"{cell.name.replace('/', '-')}.parquet"


def is_kept(study: Adapt, cell: Cell) -> bool:
    """Whether the encoder is kept: of the largest share, adapted without a fault on purpose."""
    trains = cell.method not in (*WITHOUT_RATE, *FAULTS)
    return trains and cell.partition == max(study.partitions)


WITHOUT_RATE = ("zero-shot", "probe-logistic")
