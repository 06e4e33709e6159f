"""How many layers of a small CNN to keep, by the amount of target data?

A network pretrained on source classes is cut at each depth; what lies before the cut is kept, what
lies behind is reset (FR, R), kept (F, none) or removed (FT), and the result is trained on a share
of the target classes' images. ``dvc repro cuts@fr`` writes ``reports/cuts/runs/fr/rows.jsonl``:
accuracy on train, validation and test images and the number of updates for each fraction, cut and
repeat; and below ``data/checkpoints/cuts`` the networks of the largest fraction's first repeats.
The mini preset's six settings take about two minutes and 1 GB on two cores.

Source: ``tusharmanekar/mp-tl-study`` at 8c95619 and, for the seed era, 02c3591.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from carryover import checkpoints, run
from carryover.adapt.cut import RULES
from carryover.config.cuts import Cuts
from carryover.measure.accuracy import correct
from carryover.models import saved
from carryover.models.cnn import layer_groups
from carryover.originals import read_original as read_original
from carryover.parallel import end_round, own, spread
from carryover.prefix import Prefix, extended
from carryover.prepare import refuse_stale
from carryover.pretrain.supervised import PASS_ROWS, budget
from carryover.rows import Row, read_rows, write_rows
from carryover.scratch import Scratch, alone
from carryover.stacked import fit_stacked
from carryover.train import Outcome, cross_entropy, fit, in_precision
from carryover.transfer import Task, Training, adapted, load_task, prepared, refuse_fractions

if TYPE_CHECKING:
    from carryover.config.params import Params

BASELINE_CUT = -1  # as the released files have it
RUNS = Path("reports/cuts/runs")
KEPT_REPEATS = 3  # of the largest fraction, whose networks are kept
STACKED_VALUES = 2**27  # numbers of one activation of networks trained together: 0.5 GB
HEADS_TOGETHER = 4  # on a CPU; where batches are larger than HEAD_BATCH one by one is faster
HEAD_BATCH = 512

Cell = tuple[float, int, int]  # fraction, cut, repeat
Numbers = list[tuple[str, str, float, int]]  # split, metric, value, n


def stage(params: Params, item: str, context: run.Context) -> None:
    """Train every (fraction, cut, repeat) of one setting and write its rows."""
    torch.set_num_threads(1)
    study = params.cuts
    refuse_stale(params.data, study.dataset)
    device = run.device(run.chosen_device())
    weights = saved.read_card(Path("data/models") / study.pretrained)["weights"]
    task = load_task(params, device)
    made_from = {
        "params": context.params,
        "source": context.source,
        "data": task.data,
        "weights": weights,
    }
    scratch = Scratch(
        context.stage, made_from | {"torch": torch.__version__, "device": device.type}
    )
    processes = run.workers() if device.type == "cpu" else 0
    refuse_fractions(study, task.labels[task.parts["train"]].cpu())
    with alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"):
        done = same_under_fr(study, item, made_from) | scratch.cells()
        several = distinct_cells(study, item)
        waiting = [cell for cell in own(several, unit_of) if name(cell) not in done]
        started = time.monotonic()
        with run.progress(context.stage, len(done) + len(waiting), len(done)) as advance:
            prefix = Prefix(0, task.images)
            for cut, cells_of_cut in groupby(waiting, key=lambda cell: cell[1]):
                kept = max(cut, 0) if RULES[item].freeze else 0
                prefix = extended(prefix, task.start, kept, study.precision, processes)

                def work(unit: tuple[Cell, ...], prefix: Prefix = prefix) -> list[Numbers]:
                    return train(params, item, task, prefix, unit, scratch.folder)

                together = units(study, item, task, prefix, list(cells_of_cut))
                for unit, results in spread(work, together, processes):
                    for cell, result in zip(unit, results, strict=True):
                        scratch.add(name(cell), result)
                        done[name(cell)] = result
                        advance()
        end_round(sum(name(cell) not in done for cell in several))
        seconds = time.monotonic() - started
        rows = [
            Row(
                study="cuts",
                item=item,
                preset=study.preset,
                cell={"pair": study.pair, "fraction": cell[0], "cut": cell[1], "repeat": cell[2]},
                split=split,
                metric=metric,
                value=value,
                n=n,
                **made_from,
                precision=study.precision,
            )
            for cell in cells(study, item)
            for split, metric, value, n in done[name(representative(item, cell))]
        ]
        context.refuse_edited()
        write_rows(RUNS / item / "rows.jsonl", rows)
        files = [file_of(scratch.folder, cell) for cell in several if is_kept(study, cell)]
        # a published baseline's cells may be those of fr, which keeps their networks
        checkpoints.keep((path for path in files if path.exists()), "cuts", item)
        scratch.clear()
        facts = {"device": device.type, "torch": torch.__version__}
        run.log(context.stage, {"cells": len(waiting), "seconds": seconds, **facts})


def train(
    params: Params, item: str, task: Task, prefix: Prefix, unit: Sequence[Cell], folder: Path
) -> list[Numbers]:
    """Train one cell, or several together; the numbers of each. Networks go to `folder`."""
    study = params.cuts
    trainings = [prepared(params, item, task, prefix, cell) for cell in unit]
    if len(trainings) > 1:
        first = trainings[0]
        outcomes = fit_stacked(
            [training.network for training in trainings],
            torch.stack([training.inputs["train"] for training in trainings]),
            torch.stack([training.labels["train"] for training in trainings]),
            (first.inputs["validation"], first.labels["validation"]),
            study.lr,
            budget(study),
            [training.random for training in trainings],
            study.precision,
        )
    else:
        snapshot = file_of(folder, unit[0]).with_suffix(".pt")
        outcomes = [fit_one(study, trainings[0], snapshot)]
    for cell, training in zip(unit, trainings, strict=True):
        if is_kept(study, cell):
            kept = adapted(study, item, task, prefix, cell, training)
            checkpoints.write(file_of(folder, cell), kept)
    return [
        [
            *(
                (split, "accuracy", right(study, training, split), len(labels))
                for split, labels in training.labels.items()
            ),
            ("train", "updates", outcome.updates, len(training.labels["train"])),
        ]
        for training, outcome in zip(trainings, outcomes, strict=True)
    ]


def fit_one(study: Cuts, training: Training, snapshot: Path) -> Outcome:
    """Train one network; a long training goes on from its `snapshot` after a kill."""

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with in_precision(x.device, study.precision):
            return cross_entropy(network, x, y)

    layers: dict[float, list[nn.Parameter]] = {}
    for name, lr in training.lrs.items():
        layers.setdefault(lr, []).extend(training.network.get_submodule(name).parameters())
    outcome = fit(
        training.network,
        training.inputs["train"],
        training.labels["train"],
        torch.optim.Adam([{"params": p, "lr": lr} for lr, p in layers.items() if p], fused=True),
        budget(study),
        training.random,
        loss=loss,
        validate=lambda: right(study, training, "validation"),
        snapshot=snapshot,
        pass_rows=PASS_ROWS,
    )
    snapshot.unlink(missing_ok=True)
    return outcome


def right(study: Cuts, training: Training, split: str) -> float:
    """Accuracy on a split."""
    inputs, labels = training.inputs[split], training.labels[split]
    with in_precision(inputs.device, study.precision):
        return correct(training.network, inputs, labels) / len(labels)


def units(
    study: Cuts, item: str, task: Task, prefix: Prefix, waiting: Sequence[Cell]
) -> list[tuple[Cell, ...]]:
    """Cells of one cut, those that are faster together in one unit.

    On a CPU only heads on a frozen network that take small batches are (measured:
    ``benchmarks/cuts.py``), a few at a time, so that every core has some. On a GPU as many networks
    as a convolution's output has room for, to launch fewer small kernels; how many would be
    fastest there has not been measured.
    """
    cut = waiting[0][1]
    on_cpu = task.images.device.type == "cpu"
    head_only = RULES[item].freeze and cut == len(layer_groups(task.start)) - 1
    if (on_cpu and not head_only) or study.validation_images != "all" or study.lr != study.lr_kept:
        return [(cell,) for cell in waiting]
    channels = max(p.shape[0] for p in task.start.parameters() if p.dim() == 4)
    found = []
    for fraction, group in groupby(waiting, key=lambda cell: cell[0]):
        images = max(1, int(fraction * task.parts["train"].stop))
        batch = min(study.batch_size, images)
        if on_cpu:
            room = STACKED_VALUES // (images * prefix.values[0].numel())
            members = min(HEADS_TOGETHER, room) if batch <= HEAD_BATCH else 1
        else:
            members = STACKED_VALUES // (batch * channels * prefix.values[0, 0].numel())
        listed, step = list(group), max(1, members)
        found += [tuple(listed[i : i + step]) for i in range(0, len(listed), step)]
    return found


def unit_of(cell: Cell) -> tuple[float, int]:
    """What cells have in common that may be trained together."""
    return cell[:2]


def cells(study: Cuts, item: str) -> list[Cell]:
    """All (fraction, cut, repeat) of a setting; the baseline has no cut."""
    cuts = (BASELINE_CUT,) if item == "baseline" else study.cuts
    return [
        (fraction, cut, repeat)
        for (fraction, repeats), cut in product(
            zip(study.fractions, study.repeats, strict=True), cuts
        )
        for repeat in range(repeats)
    ]


def representative(item: str, cell: Cell) -> Cell:
    """The cell trained for this one: with nothing frozen or reset, a cut changes nothing."""
    fraction, cut, repeat = cell
    return (fraction, 0 if item == "none" else cut, repeat)


def distinct_cells(study: Cuts, item: str) -> list[Cell]:
    """Cells to train, by cut; within one the long ones first, so that no core waits at the end."""
    found = dict.fromkeys(representative(item, cell) for cell in cells(study, item))
    return sorted(found, key=lambda cell: (cell[1], -cell[0]))


def same_under_fr(study: Cuts, item: str, made_from: dict[str, str]) -> dict[str, Numbers]:
    """A published baseline's cells, from FR at cut 0 where that has been run.

    Seeded by repeat, the two are one experiment, so it is trained once.
    """
    path = RUNS / "fr" / "rows.jsonl"
    if item != "baseline" or study.seeding != "repeat" or not path.exists():
        return {}
    found: dict[str, Numbers] = {}
    for row in read_rows(path):
        same = all(getattr(row, key) == value for key, value in made_from.items())
        if same and row.cell["cut"] == 0:
            cell = (row.cell["fraction"], BASELINE_CUT, row.cell["repeat"])
            number = (row.split, row.metric, row.value, row.n)
            found.setdefault(name(cell), []).append(number)
    return found


def name(cell: Cell) -> str:
    """A cell's name in the scratch file."""
    return f"{cell[0]:g}/{cell[1]}/{cell[2]}"


def file_of(folder: Path, cell: Cell) -> Path:
    """Where a cell's network is kept until all are trained."""
    return folder / f"{name(cell).replace('/', '-')}.safetensors"


def is_kept(study: Cuts, cell: Cell) -> bool:
    """Whether the trained network is kept."""
    return cell[0] == max(study.fractions) and cell[2] < KEPT_REPEATS
