"""What does training on one experience after the other do to an encoder, frozen, partly or not?

An encoder with a head is trained by Avalanche's strategies on streams: i.i.d. chunks, tasks of
classes with and without task labels, permuted, rotated and other domains. Frozen arms train heads
on stored embeddings; the others train copies of the encoder. ``dvc repro continual@frozen`` writes
``reports/continual/runs/frozen/rows.jsonl`` (accuracies by task and time, forgetting, transfer,
calibration, and of encoders that trained CKA with themselves before), every prediction below
``data/predictions`` and the first seed's trained weights below ``data/checkpoints``. Item frozen
has the original's logistic regression too (item ``features`` in its rows).

Source: ``jatkar123/Thesis_CL_FLAVA`` at 93d43a8.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from carryover import run
from carryover.config.continual import Continual
from carryover.continual_features import fitted
from carryover.continual_measures import (
    Number,
    measured,
    predictions,
    score,
    write_checkpoint,
    write_predictions,
)
from carryover.continual_similarity import Layers, along, compared_rows, layers_of, similarities
from carryover.continual_similarity import untrained as compare_untrained
from carryover.continual_start import Start, load_start, pool_name
from carryover.continual_training import Cell, train
from carryover.parallel import spread
from carryover.rows import Row, write_rows

if TYPE_CHECKING:
    from carryover.config.params import Params

RUNS = Path("reports/continual/runs")
PREDICTIONS = Path("data/predictions/continual")
CHECKPOINTS = Path("data/checkpoints/continual")

Before = Mapping[tuple[str, str, str], Layers]  # of encoders as loaded; see `first_layers`


def stage(params: Params, item: str, context: run.Context) -> None:
    """Train every (arm, stream, protocol, strategy, seed) of one item; write what came of it."""
    import avalanche.training.supervised  # noqa: F401  takes seconds: once, before processes fork

    torch.set_num_threads(1)
    study = params.continual
    device = run.device(run.chosen_device())
    start = load_start(params, item, device)
    before = first_layers(study, start, item)
    made_from = {
        "params": context.params,
        "source": context.source,
        "data": {f"{a}/{b}": pool.data for (a, b), pool in start.pools.items()},
        "weights": {name: encoder.weights for name, encoder in start.encoders.items()},
    }
    about = {"torch": torch.__version__, "device": device.type}
    scratch = run.Scratch(context.stage, made_from | about)
    processes = run.workers() if device.type == "cpu" else 0

    def work(cell: Cell) -> Any:
        return numbers(params, start, before, cell, rates, scratch.folder)

    with run.alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"):
        done = scratch.cells()
        started = time.monotonic()
        tried, reported = cells(study, item)
        waiting = [cell for cell in [*tried, *reported] if cell.name not in done]
        total = len(tried) + len(reported)
        rates: dict[Cell, float] = {}
        with run.progress(context.stage, total, total - len(waiting)) as advance:
            for several in (tried, reported):
                rates = chosen_rates(study, tried, reported, done) if several is reported else {}
                left = [cell for cell in several if cell.name not in done]
                for cell, found in spread(work, left, processes):
                    scratch.add(cell.name, found)
                    done[cell.name] = found
                    advance()
        row = partial(Row, study="continual", preset=study.preset, precision="float32")
        row = partial(row, params=context.params, source=context.source)
        rows = [
            row(
                item=item,
                cell=axes(study, cell) | at,
                split=split,
                metric=metric,
                value=value,
                n=n,
                data=start.pool(study, cell.stream, cell.protocol).data,
                weights=start.encoders[study.encoder_of(study.arms[cell.arm])].weights,
            )
            for cell in reported
            for split, metric, at, value, n in done[cell.name]
        ]
        rows += of_whole_sets(params, row) if item == "frozen" else []
        rows += before_training(params, start, row) if item == "partly" else []
        context.refuse_edited()
        write_rows(RUNS / item / "rows.jsonl", rows)
        keep(scratch.folder, item, reported)
        scratch.clear()
        seconds = time.monotonic() - started
        facts = {"device": device.type, "torch": torch.__version__}
        run.log(context.stage, {"cells": len(waiting), "seconds": seconds, **facts})


def cells(study: Continual, item: str) -> tuple[list[Cell], list[Cell]]:
    """Trainings that choose rates, those of the first seed; and the trainings to report."""
    tried, reported = [], []
    for name, arm in study.arms_of(item).items():
        for place in arm.cells():
            if len(arm.lrs) > 1:
                tried += [Cell(name, *place, 0, lr) for lr in arm.lrs]
            reported += [Cell(name, *place, seed) for seed in range(study.seeds)]
    return tried, reported


def chosen_rates(
    study: Continual, tried: Sequence[Cell], reported: Sequence[Cell], done: Mapping[str, Any]
) -> dict[Cell, float]:
    """The rate of each reported training: the one that validates best, or the arm's only one."""
    best: dict[tuple[str, ...], tuple[float, float, float]] = {}
    for cell in tried:
        place = (cell.arm, cell.stream, cell.protocol, cell.strategy)
        right, likelihood = done[cell.name]
        found = (right, likelihood, cell.lr)
        best[place] = max(best.get(place, found), found)
    rates = {}
    for cell in reported:
        place = (cell.arm, cell.stream, cell.protocol, cell.strategy)
        rates[cell] = best[place][2] if place in best else study.arms[cell.arm].lrs[0]
    return rates


def axes(study: Continual, cell: Cell) -> dict[str, Any]:
    """A row's axes; what is frozen is told of partly frozen encoders alone."""
    arm = study.arms[cell.arm]
    found: dict[str, Any] = {
        "stream": cell.stream,
        "protocol": cell.protocol,
        "strategy": cell.strategy,
        "features": arm.features,
        "head": arm.head,
        "encoder": study.encoder_of(arm),
    }
    if arm.freeze:
        found["freeze"] = arm.freeze
    return found | {"seed": cell.seed}


def numbers(
    params: Params,
    start: Start,
    before: Before,
    cell: Cell,
    rates: Mapping[Cell, float],
    folder: Path,
) -> list[Number] | list[float]:
    """What one cell gives: the score of a rate that was tried, or numbers to report.

    Predictions, and the first seed's weights, go to files of the cell in `folder`.
    """
    study = params.continual
    arm, pool = study.arms[cell.arm], start.pool(study, cell.stream, cell.protocol)
    if cell.lr:
        return score(train(params, start, cell, cell.lr, folder), pool)
    rows = compared_rows(pool, study.cka)
    compare: Callable[..., dict[str, Any]] | None = None
    if arm.trains != "frozen":
        name = (cell.stream, pool_name(study, cell.protocol), study.encoder_of(arm))
        inputs = start.inputs_of(study, arm, cell.stream, cell.protocol)
        last = study.protocols[cell.protocol].experiences - 1
        compare = partial(along, study.cka, before[name], inputs, rows, cell, params.seed, last)
    trained = train(params, start, cell, rates[cell], folder, compare)
    told = {"freeze": "", **axes(study, cell)}
    write_predictions(folder / f"{cell.slug}.parquet", predictions(trained, pool, told))
    if cell.seed == 0:
        write_checkpoint(folder / f"{cell.slug}.safetensors", trained.network)
    return [
        *measured(trained, arm, pool, cell.strategy, study.memory),
        *similarities(trained.after, len(rows)),
        ("train", "lr", {}, rates[cell], 0),
    ]


def first_layers(study: Continual, start: Start, item: str) -> Before:
    """Layers of each encoder before any training, by stream, images of the protocol and encoder."""
    found = {}
    for (stream, images, name, _), inputs in start.inputs.items():
        if item != "frozen":
            rows = compared_rows(start.pools[stream, images], study.cka)
            found[stream, images, name] = layers_of(start.encoders[name].image, inputs, rows)
    return found


def of_whole_sets(params: Params, row: Callable[..., Row]) -> list[Row]:
    """Rows of the study of logistic regression."""
    study, rows = params.continual, []
    encoder = study.logistic.encoder or study.encoder
    for name, kind in product(study.logistic.sets, study.logistic.features):
        found, data, weights = fitted(params, name, kind)
        cell = {"stream": name, "features": kind, "head": "logistic", "encoder": encoder}
        for split, value, n in found:
            known = {"split": split, "metric": "accuracy", "value": value, "n": n, "data": data}
            rows.append(row(item="features", cell=cell, weights=weights, **known))
    return rows


def before_training(params: Params, start: Start, row: Callable[..., Row]) -> list[Row]:
    """Rows of the comparison of models as loaded, for the first arm that is partly frozen."""
    study = params.continual
    name, arm = next(iter(study.arms_of("partly").items()))
    stream, encoder = arm.streams[0], study.encoder_of(arm)
    cell = {"stream": stream, "protocol": "untrained", "encoder": encoder}
    made = {
        "data": start.pool(study, stream, arm.protocols[0]).data,
        "weights": start.encoders[encoder].weights,
    }
    return [
        row(item="partly", cell=cell | at, split=split, metric=metric, value=value, n=n, **made)
        for split, metric, at, value, n in compare_untrained(params, start, stream, name)
    ]


def keep(folder: Path, item: str, reported: Sequence[Cell]) -> None:
    """Bring predictions and weights of the trainings to where the pipeline keeps them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [pq.read_table(folder / f"{cell.slug}.parquet") for cell in reported]
    whole = pa.concat_tables([table for table in tables if table.num_rows] or tables[:1])
    for place in (PREDICTIONS / item, CHECKPOINTS / item):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    write_predictions(PREDICTIONS / item / "predictions.parquet", whole.to_pydict())
    for cell in reported:
        if cell.seed == 0:
            name = f"{cell.slug}.safetensors"
            shutil.copy(folder / name, CHECKPOINTS / item / name)
