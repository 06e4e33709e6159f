"""How does CLIP keep what it knows when it is fine-tuned on one data set after another?

Each method trains an order of data sets, a fixed number of updates each, and after every set all
of them are tested by their class prompts: those trained (what is forgotten) and those still to
come (what zero-shot ability is lost). ``dvc repro sequence@distill`` writes
``reports/sequence/runs/distill/rows.jsonl``: accuracies by method, order, seed, sets trained and
set tested, with Transfer, Average, Last, forgetting and backward transfer; and every prediction,
``data/predictions/sequence/distill/predictions.parquet``.

Source: Zheng et al. 2023 (ZSCL); ``JuicedCooky/thesis``, folder mtil, at e88648b.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from carryover import run
from carryover.adapt.averaging import copied
from carryover.config.sequence import Sequence as Study
from carryover.data.splits import expect_some, hold_out
from carryover.errors import Diverged
from carryover.parallel import spread
from carryover.rows import Row, write_rows
from carryover.sequence_bounds import frozen, joint
from carryover.sequence_carried import Answers, Carried, Cell, Place
from carryover.sequence_measures import (
    Number,
    answers,
    numbers,
    set_accuracy,
    write_predictions,
    zero_shot,
)
from carryover.sequence_methods import METHODS, needs_reference
from carryover.sequence_start import Start, load_start
from carryover.sequence_training import train_task

if TYPE_CHECKING:
    from carryover.config.params import Params

RUNS = Path("reports/sequence/runs")
PREDICTIONS = Path("data/predictions/sequence")
TRIED_BY = {"full": "finetune", "lora": "finetune-lora"}  # what rates are chosen by


def stage(params: Params, item: str, context: run.Context) -> None:
    """Run every (method, order, seed) of one item; write its rows and predictions."""
    torch.set_num_threads(1)
    study = params.sequence
    device = run.device(run.chosen_device())
    start = load_start(params, device, reference=needs_reference(study.methods[item]))
    made_from = {
        "params": context.params,
        "source": context.source,
        "data": start.data,
        "weights": start.encoder.weights,
        "precision": study.precision,
    }
    about = {"torch": torch.__version__, "device": device.type, "embedded": start.embedded}
    scratch = run.Scratch(context.stage, made_from | about)
    of_rates = run.Scratch("sequence-rates", made_from | about | {"data": start.sets})  # all items'
    processes = run.workers() if device.type == "cpu" else 0

    def work(cell: Cell) -> dict[str, float]:
        return trained(params, start, cell, rates, file_of(scratch.folder, cell))

    with run.alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"):
        started = time.monotonic()
        tried, reported = cells(study, item)
        rates: dict[str, float] = {}
        found: dict[str, dict[str, dict[str, float]]] = {"tried": {}, "reported": {}}
        with run.progress(context.stage, len(tried) + len(reported)) as advance:
            for what, several, kept in (
                ("tried", tried, of_rates),
                ("reported", reported, scratch),
            ):
                done = kept.cells()
                rates = chosen_rates(study, tried, found["tried"])
                left = [cell for cell in several if cell.name not in done]
                for _ in range(len(several) - len(left)):
                    advance()
                for cell, facts in spread(work, left, processes):
                    kept.add(cell.name, facts)
                    done[cell.name] = facts
                    advance()
                found[what] = done
        runs = {cell: answers_of(params, start, cell, scratch.folder) for cell in reported}
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
                *of_training(found["reported"][cell.name]),
            ]
        ]
        context.refuse_edited()
        write_predictions(PREDICTIONS / item / "predictions.parquet", start, study.orders, runs)
        write_rows(RUNS / item / "rows.jsonl", rows)
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


def trained(
    params: Params, start: Start, cell: Cell, rates: Mapping[str, float], path: Path
) -> dict[str, float]:
    """Run one cell from where it was; its answers are left in a file, its facts returned."""
    study, method = params.sequence, METHODS[cell.method]
    if not method.trains:
        return {}
    network = copy.deepcopy(start.encoder.model)
    lr = cell.lr or rates[method.kind]
    if cell.lr:
        return validated(params, start, network, cell)
    if method.way == "joint":
        found, facts = joint(params, start, network, cell, lr)
        done = len(study.orders[cell.order])
        Carried({}, done, answers={done: found}, facts=facts).save(path)
        return facts | {"lr": lr}
    carried = Carried(copied(network.state_dict()))
    if path.exists():
        carried = Carried.load(path, start.device)
    for place in places(study, start, cell)[carried.done :]:
        height = lr * factor(study, place.task.name)
        carried, tested = train_task(params, start, network, place, height, carried)
        network.load_state_dict(tested)
        carried.answers[place.number] = answers(start, network, study.precision)
        carried.save(path)
    return carried.facts | {"lr": lr}


def factor(study: Study, name: str) -> float:
    """What the rate is multiplied by on a set."""
    return (study.lr_factors or {}).get(name, 1.0)


def places(study: Study, start: Start, cell: Cell) -> list[Place]:
    """The tasks of a cell, one after another."""
    order = study.orders[cell.order]
    return [
        Place(cell, i, start.tasks[name], start.tasks[name].train, i == len(order))
        for i, name in enumerate(order, start=1)
    ]


def validated(
    params: Params, start: Start, network: torch.nn.Module, cell: Cell
) -> dict[str, float]:
    """What a rate gives on held out images of each set right after it was trained without them."""
    study, found = params.sequence, []
    carried = Carried(copied(network.state_dict()))
    for place in places(study, start, cell):
        task = place.task
        random = run.generator(params.seed, f"sequence/validation/{task.name}")
        labels = task.train.labels.cpu()
        kept, held = hold_out(labels, study.validation_fraction, random, True)
        expect_some(held, "sequence.validation_fraction")
        less = replace(place, examples=task.train.take(kept.to(start.device)))
        height = cell.lr * factor(study, task.name)
        try:
            carried, tested = train_task(params, start, network, less, height, carried)
        except Diverged:  # the worst that a rate can do
            return {"accuracy": 0.0, "loss": math.inf}
        network.load_state_dict(tested)
        examples = task.train.take(held.to(start.device))
        found.append(set_accuracy(start, network, task, examples, study.precision))
    return {"accuracy": fmean(a for a, _ in found), "loss": fmean(loss for _, loss in found)}


def file_of(folder: Path, cell: Cell) -> Path:
    """Where the state of a run is kept after each task."""
    return folder / f"{cell.name.replace('/', '@')}.pt"


def answers_of(params: Params, start: Start, cell: Cell, folder: Path) -> dict[int, Answers]:
    """Answers of a finished run, by sets trained; the start's come first."""
    method = METHODS[cell.method]
    if method.way in ("ncm", "ridge"):
        return frozen(params, start, cell)
    later = Carried.load(file_of(folder, cell), start.device).answers if method.trains else {}
    return {0: zero_shot(start), **later}


def of_training(facts: Mapping[str, float]) -> list[Number]:
    """What a training took, as rows."""
    n = int(facts.get("images_seen", 0))
    return [Number(name, float(value), n, split="train") for name, value in facts.items()]


def axes(cell: Cell, number: Number) -> dict[str, Any]:
    """A row's axes."""
    found = {"method": cell.method, "order": cell.order, "seed": cell.seed}
    where = {"after": number.after, "task": number.task, "dataset": number.dataset}
    return found | {name: value for name, value in where.items() if value is not None}
