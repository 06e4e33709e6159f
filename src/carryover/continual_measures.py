"""What is measured in the continual study: accuracy by task and time, forgetting, predictions."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from carryover.adapt.avalanche import AfterTask
from carryover.adapt.children import trained_parameters
from carryover.checkpoints import Checkpoint
from carryover.config.continual import Continual
from carryover.config.continual_arms import Arm
from carryover.continual_drawn import Number
from carryover.continual_pools import Pool
from carryover.continual_start import Start
from carryover.continual_training import Cell, Trained
from carryover.data.streams import Stream
from carryover.files import write_bytes
from carryover.measure import streams
from carryover.measure.calibration import calibration_error

AVALANCHES = ("Top1_Acc_Stream", "StreamForgetting", "StreamBWT", "StreamForwardTransfer")
BINS = 15  # of the calibration error, as Guo et al. 2017 have it


def measured(trained: Trained, arm: Arm, pool: Pool, strategy: str, memory: int) -> list[Number]:
    """Numbers of a reported training, experience after experience, then of the whole stream.

    Of one that diverged: of the experiences that were whole, and of the last one what a network
    does that always names the first class, of those that the stream's mask leaves.
    """
    stream, after = trained.stream, trained.after
    count = len(stream.tasks)
    found: list[Number] = [
        ("train", "trained_parameters", {}, float(trained_parameters(trained.network)), 0),
        ("train", "diverged", {}, float(trained.diverged), 0),
    ]
    matrix = np.full((count + 1, count), np.nan)
    for seen in after:
        right = seen.logits.argmax(1).cpu() == pool.labels[seen.rows.cpu()]
        for task in range(count):
            here = seen.tasks.cpu() == (0 if stream.shared_test else task)
            matrix[seen.experience + 1, task] = float(right[here].double().mean())
        found += _tested(seen, pool, right, stream, matrix[: seen.experience + 2])
        if seen.experience >= 0:
            found += _shown(seen, stream, strategy, memory, arm.epochs)
    if trained.diverged:  # weights that are not finite: no output is above another
        at, (hits, n) = {"experience": count - 1}, _first_named(stream, pool)
        found.append(("test", "accuracy", at, hits / n, n))
        return found if stream.masked else [*found, ("test", "is_constant", at, 1.0, n)]
    if count > 1 and not stream.shared_test:
        found += _of_stream(matrix, sum(len(task.test) for task in stream.tasks))
    return found


def _first_named(stream: Stream, pool: Pool) -> tuple[int, int]:
    """How many test images are of the class that is named first, and how many there are."""
    if stream.masked:  # every task is tested on its own
        parts = [(pool.labels[task.test], min(task.classes)) for task in stream.tasks]
    else:
        parts = [(pool.labels[torch.cat([task.test for task in stream.tasks]).unique()], 0)]
    right = sum(int((labels == first).sum()) for labels, first in parts)
    return right, sum(len(labels) for labels, _ in parts)


def _tested(
    seen: AfterTask,
    pool: Pool,
    right: Bool[Tensor, " m"],
    stream: Stream,
    matrix: Float[np.ndarray, "rows t"],
) -> list[Number]:
    """Numbers on test images after one experience; `matrix` ends with its row.

    Accuracies after each; what one reads at the end of a stream, after the last alone.
    """
    at, n = {"experience": seen.experience}, len(right)
    logits, labels = seen.logits.cpu().double(), pool.labels[seen.rows.cpu()]
    predicted = logits.argmax(1)
    found: list[Number] = [
        ("test", "accuracy", at, float(right.double().mean()), n),
    ]
    ends = seen.experience == len(stream.tasks) - 1
    if ends:
        found += [
            ("test", "is_constant", at, float(len(predicted.unique()) == 1), n),
            ("test", "nll", at, float(F.cross_entropy(logits, labels)), n),
            ("test", "ece", at, calibration_error(logits.softmax(1), labels, BINS, "equal"), n),
        ]
    if not stream.shared_test and len(stream.tasks) > 1:
        found += [
            ("test", "task_accuracy", at | {"task": task}, float(value), len(each.test))
            for task, (each, value) in enumerate(zip(stream.tasks, matrix[-1], strict=True))
        ]
    if ends and seen.experience > 0 and not np.isnan(matrix[1:]).any():
        tasks = 1 if stream.shared_test else seen.experience
        first = [matrix[task + 1, task] for task in range(tasks)]
        lost = float(np.mean([value - matrix[-1, task] for task, value in enumerate(first)]))
        found.append(("test", "stream_forgetting", at, lost, n))
    if ends:
        found += [("test", name, at, value, 0) for name, value in _avalanches(seen).items()]
    return found


def _avalanches(seen: AfterTask) -> dict[str, float]:
    """Avalanche's own numbers of the whole test stream, under its names.

    It tells them apart by task label, so that with several labels none is of the whole stream.
    """
    found = {}
    for name in AVALANCHES:
        values = [v for k, v in seen.avalanche.items() if k.split("/")[0] == name]
        if len(values) == 1 and np.isfinite(values[0]):
            found[name] = values[0]
    return found


def _shown(
    seen: AfterTask, stream: Stream, strategy: str, memory: int, epochs: int
) -> list[Number]:
    """Numbers on the training images of one experience, of its last epoch and of each.

    What the experience's own images give is told where others were shown too, and at the end.
    """
    at, tasks = {"experience": seen.experience}, stream.tasks[: seen.experience + 1]
    earlier = sum(len(task.train) for task in tasks[:-1])
    current = len(tasks[-1].train)
    replayed = min(memory, earlier) if strategy == "replay" else 0
    if strategy in ("cumulative", "joint"):
        replayed = earlier
    n = {"train_accuracy_current": current, "train_accuracy_replayed": replayed}
    both = current + replayed
    if strategy == "joint":
        n["train_accuracy_current"] = both
    ends = seen.experience == len(stream.tasks) - 1
    found: list[Number] = [
        ("train", metric, at, value, n.get(metric, both))
        for metric, value in seen.train.items()
        if metric != "train_accuracy_current" or replayed or ends
    ]
    for epoch, (loss, accuracy) in enumerate(seen.epochs[-epochs:]):
        there = at | {"epoch": epoch}
        found.append(("train", "epoch_loss", there, loss, both))
        found.append(("train", "epoch_accuracy", there, accuracy, both))
    return [*found, *([("train", "updates", at, float(seen.updates), both)] if ends else [])]


def _of_stream(matrix: Float[np.ndarray, "rows t"], n: int) -> list[Number]:
    """Measures of a stream of several tested tasks; those that need every row where all are."""
    found: list[Number] = [("test", "average_accuracy", {}, float(streams.last(matrix)), n)]
    if np.isnan(matrix[1:]).any():  # trained on all at once
        return found
    for measure in (streams.forgetting, streams.backward_transfer, streams.forward_transfer):
        value = float(measure(matrix))
        if np.isfinite(value):
            found.append(("test", measure.__name__, {}, value, n))
    return found


def score(trained: Trained, pool: Pool, lr: float) -> list[float]:
    """How good a rate is, to choose by: accuracy on held-out images at the end, then -nll.

    One that diverged is worse than all others, and the more so the larger it is: -1, then -lr.
    """
    if not trained.diverged:
        end = trained.after[-1]
        logits, labels = end.logits.cpu().double(), pool.labels[end.rows.cpu()]
        nll = float(F.cross_entropy(logits, labels))
        if math.isfinite(nll):  # else the last step broke it
            return [float((logits.argmax(1) == labels).double().mean()), -nll]
    return [-1.0, -lr]


def predictions(trained: Trained, pool: Pool, about: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Columns of the file of predictions: every test image after every experience.

    Args:
        about: what tells the training from others; the same in every row.
    """
    parts = [
        {
            "experience": np.full(len(seen.rows), seen.experience),
            "task": seen.tasks.cpu().numpy(),
            "id": pool.ids[seen.rows.cpu()].numpy(),
            "label": pool.labels[seen.rows.cpu()].numpy(),
            "prediction": seen.logits.argmax(1).cpu().numpy(),
            "label_probability": _share(seen.logits, pool.labels[seen.rows.cpu()]),
            "prediction_probability": _share(seen.logits, seen.logits.argmax(1).cpu()),
        }
        for seen in trained.after
    ]
    rows = sum(len(part["id"]) for part in parts)
    columns: dict[str, Any] = {name: [value] * rows for name, value in about.items()}
    for name in parts[0] if parts else ():
        columns[name] = np.concatenate([part[name] for part in parts])
    return columns


def _share(logits: Tensor, classes: Int64[Tensor, " n"]) -> Float[np.ndarray, " n"]:
    shares = logits.cpu().double().softmax(1).gather(1, classes[:, None])[:, 0]
    return np.asarray(shares.float().numpy())


def write_predictions(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """One training's predictions as Parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def adapted(
    study: Continual, start: Start, cell: Cell, axes: Mapping[str, Any], network: nn.Module
) -> Checkpoint:
    """The parameters of a network that trained, those of its head among them."""
    arm = study.arms[cell.arm]
    encoder = study.encoder_of(arm)
    return Checkpoint(
        study="continual",
        item=arm.trains,
        cell={"arm": cell.arm, **axes},
        network=encoder,
        start=start.encoders[encoder].weights,
        what="head" if arm.trains == "frozen" else "adapted",
        tensors={name: p.detach() for name, p in network.named_parameters() if p.requires_grad},
    )
