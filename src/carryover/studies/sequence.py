"""How does CLIP keep what it knows when it is fine-tuned on one data set after another?

Each method trains an order of data sets, a fixed number of updates each, and after every set all
of them are tested by their class prompts: those trained (what is forgotten) and those still to
come (what zero-shot ability is lost). ``dvc repro sequence@distill`` writes
``reports/sequence/runs/distill/rows.jsonl``: accuracies by method, order, seed, sets trained and
set tested, with Transfer, Average, Last, forgetting and backward transfer, and the curves (mixed
weights, tests on the way); ``tsne.csv`` beside it; every prediction,
``data/predictions/sequence/distill/predictions.parquet``; a few test images' embeddings,
``features.parquet`` beside those; and below ``data/checkpoints/sequence`` the models as they are
tested at the end.

Source: Zheng et al. 2023 (ZSCL); ``JuicedCooky/thesis``, folder mtil, at e88648b.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from carryover import checkpoints, run
from carryover.config.sequence import Sequence as Study
from carryover.distributed import joined
from carryover.files import write_text
from carryover.parallel import compute
from carryover.report.tables import to_csv
from carryover.rows import Row, write_rows
from carryover.scratch import Scratch, alone
from carryover.sequence_beside import MAP_COLUMNS, curve_numbers, curves, write_features
from carryover.sequence_carried import Cell
from carryover.sequence_measures import Number, numbers, write_predictions
from carryover.sequence_methods import METHODS, needs_reference
from carryover.sequence_runs import (
    answers_of,
    ended_as,
    file_of,
    followed,
    kept_end,
    trained,
)
from carryover.sequence_start import load_start

if TYPE_CHECKING:
    from carryover.config.params import Params

RUNS = Path("reports/sequence/runs")
PREDICTIONS = Path("data/predictions/sequence")
TRIED_BY = {"full": "finetune", "lora": "finetune-lora"}  # what rates are chosen by


def stage(params: Params, item: str, context: run.Context) -> None:
    """Run every (method, order, seed) of one item; write its rows and predictions."""
    torch.set_num_threads(1)
    study = params.sequence
    ranks = joined(run.device(run.chosen_device()))
    device, reference = ranks.device, needs_reference(study.methods[item])
    start = ranks.leader_first(lambda: load_start(params, device, reference, ranks))
    made_from = {
        "params": context.params,
        "source": context.source,
        "data": start.data,
        "weights": start.encoder.weights,
        "precision": study.precision,
    }
    about = {"torch": torch.__version__, "device": device.type, "embedded": start.embedded}
    about |= {"processes": str(ranks.count)} if ranks.count > 1 else {}
    scratch = Scratch(context.stage, made_from | about)
    of_rates = Scratch("sequence-rates", made_from | about | {"data": start.sets})  # all items'
    processes = run.workers() if device.type == "cpu" and ranks.count == 1 else 0

    def work(cell: Cell) -> dict[str, float]:
        ranks.told([vars(cell), rates])
        return trained(params, start, cell, rates, file_of(scratch.folder, cell))

    if not ranks.leads:
        followed(ranks, params, start, scratch.folder)
        return

    with alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"):
        started = time.monotonic()
        tried, reported = cells(study, item)
        rates: dict[str, float] = {}
        with run.progress(context.stage, len(tried) + len(reported)) as advance:
            found = compute(tried, work, of_rates, processes, advance, last=False)
            rates = chosen_rates(study, tried, found)
            whole = partial(kept_end, folder=scratch.folder)
            found = compute(reported, work, scratch, processes, advance, whole=whole)
        ranks.told()
        ranks.leave()
        ended = {cell: ended_as(cell, scratch.folder) for cell in reported}
        runs = {cell: answers_of(params, start, cell, ended[cell]) for cell in reported}
        beside = {
            cell: curves(study, start, cell, runs[cell], each.curves if each else {})
            for cell, each in ended.items()
        }
        rows = [
            Row(
                study="sequence",
                item=item,
                preset=study.preset,
                cell=axes(cell, number),
                split=number.split,
                metric=number.metric,
                value=number.value,
                n=number.n,
                **made_from,
            )
            for cell in reported
            for number in [
                *numbers(start, study.orders[cell.order], runs[cell], cell.method == "zero-shot"),
                *curve_numbers(start, study.orders[cell.order], beside[cell]),
                *of_training(found[cell.name]),
            ]
        ]
        context.refuse_edited()
        moments = {
            cell: {(after, "", 0.0): each for after, each in sorted(runs[cell].items())}
            | beside[cell]
            for cell in reported
        }
        write_predictions(PREDICTIONS / item / "predictions.parquet", start, study.orders, moments)
        mapped = {
            cell: each
            for cell, each in ended.items()
            if cell.method == "zero-shot" or (each and each.features)
        }
        lines = write_features(PREDICTIONS / item / "features.parquet", params, start, mapped)
        write_text(RUNS / item / "tsne.csv", to_csv(MAP_COLUMNS, lines))
        write_rows(RUNS / item / "rows.jsonl", rows)
        kept = [file_of(scratch.folder, cell) for cell, each in ended.items() if each]
        checkpoints.keep((path.with_suffix(".safetensors") for path in kept), "sequence", item)
        scratch.clear()
        seconds = time.monotonic() - started
        told = {"device": device.type, "torch": torch.__version__}
        run.log(context.stage, {"cells": len(reported), "seconds": seconds, **told})


def cells(study: Study, item: str) -> tuple[list[Cell], list[Cell]]:
    """Runs of plain fine-tuning that choose rates, on the first order; and the runs to report."""
    order = next(iter(study.orders))
    kinds = sorted({METHODS[name].kind for name in study.methods[item] if METHODS[name].trains})
    tried = [
        Cell(TRIED_BY[kind], order, 0, lr)
        for kind in kinds
        for lr in study.lrs[kind]
        if len(study.lrs[kind]) > 1
    ]
    reported = [
        Cell(method, order, seed)
        for method in study.methods[item]
        for order in study.orders
        for seed in range(study.seeds)
    ]
    return tried, reported


def chosen_rates(
    study: Study, tried: Sequence[Cell], done: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """The rate of each kind of training that validated best: accuracy, then the lower loss."""
    rates = {kind: values[0] for kind, values in study.lrs.items()}
    for kind, method in TRIED_BY.items():
        scores = [
            (done[cell.name]["accuracy"], -done[cell.name]["loss"], cell.lr)
            for cell in tried
            if cell.method == method and cell.name in done
        ]
        rates[kind] = max(scores)[2] if scores else rates[kind]
    return rates


def of_training(facts: Mapping[str, float]) -> list[Number]:
    """What a training took, as rows."""
    n = int(facts.get("images_seen", 0))
    return [Number(name, float(value), n, split="train") for name, value in facts.items()]


def axes(cell: Cell, number: Number) -> dict[str, Any]:
    """A row's axes."""
    found = {"method": cell.method, "order": cell.order, "seed": cell.seed}
    where: dict[str, Any] = {"after": number.after, "task": number.task}
    where |= {"dataset": number.dataset, "mix": number.mix, "step": number.step}
    return found | {name: value for name, value in where.items() if value is not None}
