"""What does training on one experience after the other do to an encoder, frozen, partly or not?

An encoder with a head is trained by Avalanche's strategies on streams: i.i.d. chunks, tasks of
classes with and without task labels, permuted, rotated and other domains. Frozen arms train heads
on stored embeddings; the others train copies of the encoder. ``dvc repro continual@frozen`` writes
``reports/continual/runs/frozen/rows.jsonl`` (accuracies by task and time, forgetting, transfer,
calibration, and of encoders that trained CKA with themselves before), beside it ``drawn.jsonl``
(what figures alone read), every prediction below ``data/predictions``, and below
``data/checkpoints`` the trained weights, and of the first seed what each layer group of a trained
encoder makes of the images that CKA is taken on. Item frozen has the original's logistic regression
too (item ``features`` in its rows).

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

from carryover import checkpoints, run
from carryover.config.continual import Continual
from carryover.continual_drawn import NAME as DRAWN
from carryover.continual_drawn import Number, is_drawn, write_drawn
from carryover.continual_features import fitted
from carryover.continual_layers import FOLDER, write_layers
from carryover.continual_measures import (
    adapted,
    measured,
    predictions,
    score,
    write_predictions,
)
from carryover.continual_rates import Place, candidates, chosen, to_try
from carryover.continual_similarity import Layers, along, compared_rows, layers_of, similarities
from carryover.continual_similarity import untrained as compare_untrained
from carryover.continual_start import Start, load_start, pool_name
from carryover.continual_training import Cell, train
from carryover.parallel import compute, end_round, own, spread
from carryover.rows import Row, write_rows
from carryover.scratch import Scratch, alone

if TYPE_CHECKING:
    from carryover.config.params import Params

RUNS = Path("reports/continual/runs")
PREDICTIONS = Path("data/predictions/continual")
CHECKPOINTS = Path("data/checkpoints/continual")
ONCE = ("trained_parameters", "updates")  # told of the first seed, about the same for the others

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
    scratch = Scratch(context.stage, made_from | about)
    processes = run.workers() if device.type == "cpu" else 0

    def work(cell: Cell) -> Any:
        return numbers(params, start, before, cell, rates, scratch.folder)

    with alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"):
        done = scratch.cells()
        started = time.monotonic()
        reported = cells(study, item)
        rates: dict[Place, float] = {}
        might = candidates(study, item)
        tried = sum(cell.name in done for cell in might)
        with run.progress(context.stage, len(reported) + len(might), tried) as advance:
            ours = set(own(might, unit_of))
            while left := [cell for cell in to_try(study, item, done) if cell in ours]:
                for cell, made in spread(work, left, processes):
                    scratch.add(cell.name, made)
                    done[cell.name] = made
                    advance()
            end_round(len(to_try(study, item, done)), last=False)
            rates = chosen(study, item, done)
            for _ in range(sum(cell.name not in done for cell in might)):
                advance()  # rates that need not be tried
            whole = partial(kept_files, study=study, folder=scratch.folder)
            done = compute(reported, work, scratch, processes, advance, unit_of, whole=whole)
        row = partial(Row, study="continual", preset=study.preset, precision="float32")
        row = partial(row, params=context.params, source=context.source)
        found: dict[Cell, list[Number]] = {  # from their JSON, where they may be lists
            cell: [(s, m, at, value, n) for s, m, at, value, n in done[cell.name]]
            for cell in reported
        }
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
            for split, metric, at, value, n in found[cell]
            if not is_drawn((split, metric, at, value, n), last(study, cell))
        ]
        rows += of_whole_sets(params, row) if item == "frozen" else []
        rows += before_training(params, start, row) if item == "partly" else []
        context.refuse_edited()
        write_rows(RUNS / item / "rows.jsonl", rows)
        drawn = [
            (axes(study, cell), [each for each in told if is_drawn(each, last(study, cell))])
            for cell, told in found.items()
        ]
        write_drawn(RUNS / item / DRAWN, drawn)
        keep(study, scratch.folder, item, reported)
        scratch.clear()
        seconds = time.monotonic() - started
        facts = {"device": device.type, "torch": torch.__version__}
        run.log(context.stage, {"cells": len(reported), "seconds": seconds, **facts})


def cells(study: Continual, item: str) -> list[Cell]:
    """The trainings to report."""
    return [
        Cell(name, *place, seed)
        for name, arm in study.arms_of(item).items()
        for place in arm.cells()
        for seed in range(study.seeds)
    ]


def unit_of(cell: Cell) -> tuple[object, ...]:
    """What trainings have in common that one process does, where several share them: a choice."""
    return (cell.arm, cell.stream, cell.protocol, cell.strategy, cell.seed, bool(cell.lr))


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


def last(study: Continual, cell: Cell) -> int:
    """The last experience of a cell's stream."""
    return study.protocols[cell.protocol].experiences - 1


def numbers(
    params: Params,
    start: Start,
    before: Before,
    cell: Cell,
    rates: Mapping[Place, float],
    folder: Path,
) -> list[Number] | list[float]:
    """What one cell gives: the score of a rate that was tried, or numbers to report.

    Predictions, weights and the first seed's layers go to files of the cell in `folder`.
    """
    study = params.continual
    arm, pool = study.arms[cell.arm], start.pool(study, cell.stream, cell.protocol)
    if cell.lr:
        return score(train(params, start, cell, cell.lr, folder), pool, cell.lr)
    compare: Callable[..., dict[str, Any]] | None = None
    if arm.trains != "frozen":
        name = (cell.stream, pool_name(study, cell.protocol), study.encoder_of(arm))
        inputs = start.inputs_of(study, arm, cell.stream, cell.protocol)
        rows = compared_rows(pool, study.cka)
        given = (before[name], inputs, rows, cell, params.seed, last(study, cell))
        compare = partial(along, study.cka, *given)
    lr = rates[cell.arm, cell.stream, cell.protocol, cell.strategy]
    trained = train(params, start, cell, lr, folder, compare)
    told = {"freeze": "", **axes(study, cell)}
    write_predictions(folder / f"{cell.slug}.parquet", predictions(trained, pool, told))
    if cell.seed < study.saved_seeds:
        kept = adapted(study, start, cell, axes(study, cell), trained.network)
        checkpoints.write(folder / weights_of(cell), kept)
    if cell.seed == 0 and arm.trains != "frozen" and not trained.diverged:
        about = {"item": arm.trains, "data": pool.data, "cell": axes(study, cell)}
        image = trained.network.get_submodule("image")
        path = folder / f"{FOLDER}-{cell.slug}.safetensors"
        write_layers(path, layers_of(image, inputs, rows), about)
    found: list[Number] = [
        *measured(trained, arm, pool, cell.strategy, study.memory),
        *similarities(trained.after, study.cka.images),
        ("train", "lr", {}, lr, 0),
    ]
    return [number for number in found if cell.seed == 0 or number[1] not in ONCE]


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
    """Rows of the comparison of models as loaded, for the first training that is partly frozen.

    That is the first on `cka.untrained_stream`, where the parameters name one.
    """
    study = params.continual
    wanted = study.cka.untrained_stream
    first = next(cell for cell in cells(study, "partly") if wanted in (None, cell.stream))
    name, arm, stream = first.arm, study.arms[first.arm], first.stream
    encoder = study.encoder_of(arm)
    cell = {"stream": stream, "protocol": "untrained", "encoder": encoder}
    made = {
        "data": start.pool(study, stream, first.protocol).data,
        "weights": start.encoders[encoder].weights,
    }
    return [
        row(item="partly", cell=cell | at, split=split, metric=metric, value=value, n=n, **made)
        for split, metric, at, value, n in compare_untrained(params, start, stream, name)
    ]


def kept_files(cell: Cell, study: Continual, folder: Path) -> bool:
    """Whether the predictions and weights of a finished training are there still."""
    saved = [folder / weights_of(cell)] if cell.seed < study.saved_seeds else []
    return all(path.exists() for path in (folder / f"{cell.slug}.parquet", *saved))


def weights_of(cell: Cell) -> str:
    return f"{cell.slug}.safetensors"


def keep(study: Continual, folder: Path, item: str, reported: Sequence[Cell]) -> None:
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
        if cell.seed < study.saved_seeds:
            shutil.copy(folder / weights_of(cell), CHECKPOINTS / item / weights_of(cell))
    for path in sorted(folder.glob(f"{FOLDER}-*")):
        place = CHECKPOINTS / item / FOLDER
        place.mkdir(exist_ok=True)
        shutil.copy(path, place / path.name.removeprefix(f"{FOLDER}-"))
