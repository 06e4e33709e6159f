"""How many layers of a small CNN to keep, by the amount of target data?

A network pretrained on source classes is cut at each depth; what lies before the cut is kept, what
lies behind is reset (FR, R), kept (F, none) or removed (FT), and the result is trained on a share
of the target classes' images. ``dvc repro cuts@fr`` writes ``reports/cuts/runs/fr/rows.jsonl``:
accuracy on train, validation and test images and the number of updates for each fraction, cut and
repeat. The mini preset's six settings take about two minutes and 1 GB on two cores.

Source: ``tusharmanekar/mp-tl-study`` at 8c95619.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from carryover import run
from carryover.adapt.cut import RULES, cut_network, frozen_part
from carryover.config.cuts import Cuts
from carryover.data import splits, store
from carryover.errors import ConfigError, DataError
from carryover.measure.accuracy import correct
from carryover.models import saved
from carryover.models.cnn import cnn
from carryover.parallel import spread
from carryover.prepare import SETS, refuse_stale
from carryover.pretrain.supervised import budget, channels_last, normalised
from carryover.rows import Row, write_rows
from carryover.train import fit

if TYPE_CHECKING:
    from carryover.config.params import Params

BASELINE_CUT = -1  # as the released files have it


@dataclass(frozen=True, eq=False)
class Task:
    """Target images on the device, and the network to start from."""

    inputs: dict[str, Tensor]  # by split, [n, c, h, w]
    labels: dict[str, Tensor]  # by split, [n]
    start: nn.Sequential
    classes: int
    image_shape: tuple[int, int, int]


def stage(params: Params, item: str, context: run.Context) -> None:
    """Train every (fraction, cut, repeat) of one setting and write its rows."""
    torch.set_num_threads(1)
    study = params.cuts
    refuse_stale(params.data, study.dataset)
    device = run.device(run.chosen_device())
    folder = Path("data/models") / study.pretrained
    card = saved.read_card(folder)
    task, data = load_task(params, folder, card, device)
    scratch = run.Scratch(
        context.stage,
        {
            "params": context.params,
            "source": context.source,
            "data": data,
            "weights": card["weights"],
            "torch": torch.__version__,
            "device": device.type,
        },
    )

    def train_cell(cell: tuple[float, int, int]) -> list[tuple[str, str, float, int]]:
        return train_one(params, item, task, *cell)

    refuse_fractions(study, task.labels["train"].cpu())
    with run.alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"):
        done = scratch.cells()
        waiting = [cell for cell in distinct_cells(study, item) if name(cell) not in done]
        started = time.monotonic()
        processes = run.workers() if device.type == "cpu" else 0
        with run.progress(context.stage, len(done) + len(waiting), len(done)) as advance:
            for cell, result in spread(train_cell, waiting, processes):
                scratch.add(name(cell), result)
                done[name(cell)] = result
                advance()
        seconds = time.monotonic() - started
        rows = [
            Row(
                study="cuts",
                item=item,
                preset=study.preset,
                cell={"fraction": cell[0], "cut": cell[1], "repeat": cell[2]},
                split=split,
                metric=metric,
                value=value,
                n=n,
                data=data,
                weights=card["weights"],
                params=context.params,
                source=context.source,
                precision="float32",
            )
            for cell in cells(study, item)
            for split, metric, value, n in done[name(representative(item, cell))]
        ]
        context.refuse_edited()
        write_rows(Path("reports/cuts/runs") / item / "rows.jsonl", rows)
        scratch.clear()
        run.log(
            context.stage,
            {
                "cells": len(waiting),
                "seconds": seconds,
                "device": device.type,
                "torch": torch.__version__,
            },
        )


def cells(study: Cuts, item: str) -> list[tuple[float, int, int]]:
    """All (fraction, cut, repeat) of a setting; the baseline has no cut."""
    cuts = (BASELINE_CUT,) if item == "baseline" else study.cuts
    return [
        (fraction, cut, repeat)
        for (fraction, repeats), cut in product(
            zip(study.fractions, study.repeats, strict=True), cuts
        )
        for repeat in range(repeats)
    ]


def representative(item: str, cell: tuple[float, int, int]) -> tuple[float, int, int]:
    """The cell trained for this one: with nothing frozen or reset, a cut changes nothing."""
    fraction, cut, repeat = cell
    return (fraction, 0 if item == "none" else cut, repeat)


def distinct_cells(study: Cuts, item: str) -> list[tuple[float, int, int]]:
    """Cells to train, the long ones first so that no core waits at the end."""
    found = dict.fromkeys(representative(item, cell) for cell in cells(study, item))
    return sorted(found, key=lambda cell: (-cell[0], cell[1]))


def name(cell: tuple[float, int, int]) -> str:
    """A cell's name in the scratch file."""
    return f"{cell[0]:g}/{cell[1]}/{cell[2]}"


def refuse_fractions(study: Cuts, labels: Tensor) -> None:
    """Stop before the first training when a fraction is too small, or two give the same images.

    Raises:
        DataError: a fraction that gives some class no image.
        ConfigError: two fractions that give equally many images.
    """
    sizes: dict[int, float] = {}
    for fraction in study.fractions:
        chosen = splits.balanced_subset(labels, fraction, torch.Generator(), path="cuts.fractions")
        if len(chosen) in sizes:
            raise ConfigError(
                f"cuts.fractions: expected each to give another number of images, got "
                f"{len(chosen)} from both {sizes[len(chosen)]} and {fraction}; take one out"
            )
        sizes[len(chosen)] = fraction


def load_task(
    params: Params, folder: Path, card: dict[str, Any], device: torch.device
) -> tuple[Task, str]:
    """Target images split into train, validation and test, and the source network."""
    study = params.cuts
    train = store.load(SETS / study.dataset, "train").of_classes(study.classes, "cuts.classes")
    test = store.load(SETS / study.dataset, study.test_on).of_classes(study.classes, "cuts.classes")
    kept, held = splits.hold_out(
        train.labels,
        study.validation_fraction,
        run.generator(params.seed, "cuts/validation"),
        study.stratified_validation,
    )
    splits.expect_some(held, "cuts.validation_fraction")
    parts = {"train": train.select(kept), "validation": train.select(held), "test": test}
    inputs = {k: normalised(part, device) for k, part in parts.items()}
    shape: Any = tuple(inputs["train"].shape[1:])
    if shape != tuple(card["image_shape"]):
        raise DataError(
            f"cuts.dataset: expected images of {card['image_shape']} (channels, height, width) as "
            f"{study.pretrained} was trained on, got {list(shape)} from {study.dataset}; choose "
            "sets of one shape, or pretrain on this one"
        )
    start = cnn(
        **card["network"],
        image_shape=tuple(card["image_shape"]),
        classes=len(card["classes"]),
        generator=torch.Generator(),
    )
    saved.load_(folder, start)
    task = Task(
        inputs=inputs,
        labels={k: p.labels.to(device) for k, p in parts.items()},
        start=channels_last(start.to(device)),
        classes=len(study.classes),
        image_shape=shape,
    )
    return task, train.digest


def train_one(
    params: Params, item: str, task: Task, fraction: float, cut: int, repeat: int
) -> list[tuple[str, str, float, int]]:
    """One training: (split, metric, value, n) of each number it gives."""
    study = params.cuts
    sample, random = generators(params, item, fraction, repeat)
    chosen = splits.balanced_subset(
        task.labels["train"].cpu(), fraction, sample, path="cuts.fractions"
    )
    network = cut_network(
        task.start,
        max(cut, 0),
        RULES[item],
        image_shape=task.image_shape,
        classes=task.classes,
        generator=random,
    )
    inputs = dict(frozen_inputs(task, max(cut, 0) if RULES[item].freeze else 0))
    labels = dict(task.labels)
    rows = chosen.to(labels["train"].device)
    inputs["train"], labels["train"] = inputs["train"][rows], labels["train"][rows]

    def right(split: str) -> int:
        return correct(network, inputs[split], labels[split])

    outcome = fit(
        network,
        inputs["train"],
        labels["train"],
        torch.optim.Adam(network.parameters(), lr=study.lr, fused=True),
        budget(study),
        random,
        validate=lambda: right("validation") / len(labels["validation"]),
    )
    accuracies = [(k, "accuracy", right(k) / len(y), len(y)) for k, y in labels.items()]
    return [*accuracies, ("train", "updates", outcome.updates, len(labels["train"]))]


@lru_cache(maxsize=1)
def frozen_inputs(task: Task, kept: int) -> dict[str, Tensor]:
    """What the first `kept` frozen groups make of all images.

    It never changes during training, so it is computed once for a run of cells with the same cut.
    """
    frozen = frozen_part(task.start, kept)
    with torch.no_grad():
        return {k: torch.cat([frozen(b) for b in x.split(4096)]) for k, x in task.inputs.items()}


def generators(
    params: Params, item: str, fraction: float, repeat: int
) -> tuple[torch.Generator, torch.Generator]:
    """Random streams of one training: for its images, and for its weights and batches.

    All settings and cuts of a repeat see the same images and draw the same stream, so a cut at
    full depth is one experiment under FR, F and FT. By purpose, the baseline draws its own
    weights; by repeat (as published), it is the same experiment as FR at cut 0.
    """
    if params.cuts.seeding == "repeat":
        return torch.Generator().manual_seed(repeat), torch.Generator().manual_seed(repeat)
    own = "baseline/" if item == "baseline" else ""
    return (
        run.generator(params.seed, f"cuts/images/{repeat}"),
        run.generator(params.seed, f"cuts/{own}weights/{fraction:g}/{repeat}"),
    )
