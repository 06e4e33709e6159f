"""What is measured in the sequence study: predictions on all test images, and numbers of them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover.adapt_start import Examples
from carryover.distributed import Ranks
from carryover.files import write_bytes
from carryover.measure import streams
from carryover.sequence_carried import Answers, Cell, Moment
from carryover.sequence_distilling import embedded, texts
from carryover.sequence_heads import Heads
from carryover.sequence_start import Start, Task

TOP = 5
COLUMNS = ("prediction", "label_probability", "prediction_probability", "top5")


@dataclass(frozen=True)
class Number:
    """One number of a run; what is None is no axis of it."""

    metric: str
    value: float
    n: int
    after: int | None = None
    task: int | None = None
    dataset: str | None = None
    split: str = "test"
    mix: float | None = None
    step: int | None = None


def answers(start: Start, network: nn.Module, precision: str, heads: Heads) -> Answers:
    """What a network says of all test images, each set by its head or its class prompts."""
    return {
        name: of_logits(
            logits_of(start, network, task, task.test, precision, heads), task.test.labels
        )
        for name, task in start.tasks.items()
    }


def logits_of(
    start: Start, network: nn.Module, task: Task, examples: Examples, precision: str, heads: Heads
) -> Float[Tensor, "n c"]:
    """Logits of images of a set, by its own head where there is one."""
    z = embedded(network, examples, precision, start.ranks)
    head = heads.get(task.name)
    if head is not None:
        return F.linear(z, head["weight"], head["bias"])
    return start.encoder.logit_scale * z @ text_head(network, task, start.ranks).T


def text_head(network: nn.Module, task: Task, ranks: Ranks) -> Float[Tensor, "c d"]:
    """The zero-shot head of a network: for each class the mean over all prompts, made unit."""
    with torch.no_grad():
        W = texts(network, task.all_prompt_ids, ranks)
    return F.normalize(W.unflatten(0, (-1, task.templates)).mean(1), dim=-1)


def zero_shot(start: Start) -> Answers:
    """What the start says, from stored embeddings."""
    return {name: _stored(start, task, task.class_weights) for name, task in start.tasks.items()}


def _stored(start: Start, task: Task, weights: Float[Tensor, "c d"]) -> dict[str, Tensor]:
    z = F.normalize(task.test.embeddings, dim=-1)
    return of_logits(start.encoder.logit_scale * z @ weights.T, task.test.labels)


def of_logits(logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]) -> dict[str, Tensor]:
    """Predictions, their probabilities and the labels', and whether the label is in the top five.

    On the CPU, one entry an image.
    """
    shares = logits.float().softmax(dim=1)
    best = shares.max(dim=1)
    top = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
    found = {
        "prediction": logits.argmax(dim=1),
        "label_probability": shares.gather(1, labels[:, None])[:, 0],
        "prediction_probability": best.values,
        "top5": (top == labels[:, None]).any(dim=1),
    }
    return {name: tensor.cpu() for name, tensor in found.items()}


def set_accuracy(
    start: Start, network: nn.Module, task: Task, examples: Examples, precision: str, heads: Heads
) -> tuple[float, float]:
    """Accuracy, and the mean cross-entropy in nats, of a network on images of a set."""
    logits = logits_of(start, network, task, examples, precision, heads)
    right = (logits.argmax(dim=1) == examples.labels).double().mean()
    return float(right), float(F.cross_entropy(logits, examples.labels))


def accuracy_of(found: Mapping[str, Tensor], labels: Int64[Tensor, " n"]) -> float:
    """Share of images whose prediction is their label."""
    return float((found["prediction"] == labels.cpu()).double().mean())


def numbers(
    start: Start, order: Sequence[str], by_after: Mapping[int, Answers], untrained: bool
) -> list[Number]:
    """All numbers of a run's answers.

    Args:
        by_after: answers by tasks trained; those after all, or, of a model that never trains,
            those before any.
        untrained: the model never trains, so that answers before any task stand for all times.
    """
    places = {name: place for place, name in enumerate(order, start=1)}
    labels = {name: task.test.labels.cpu() for name, task in start.tasks.items()}
    counts = {name: len(values) for name, values in labels.items()}
    inside, everything = sum(counts[name] for name in order), sum(counts.values())
    found: list[Number] = []
    t = len(order)
    matrix = np.full((t + 1, t), np.nan)
    for after, of_sets in sorted(by_after.items()):
        accuracies = {}
        for name, each in of_sets.items():
            accuracies[name] = value = accuracy_of(each, labels[name])
            where = (counts[name], after, places.get(name), name)
            if name not in places:  # tested, and trained in other orders alone
                found.append(Number("other_accuracy", value, *where))
                continue
            matrix[after, places[name] - 1] = value
            found += [
                Number("accuracy", value, *where),
                Number("top5_accuracy", float(each["top5"].double().mean()), *where),
                Number("per_class_accuracy", _per_class(each["prediction"], labels[name]), *where),
            ]
        trained = float(np.mean([accuracies[name] for name in order]))
        found += [
            Number("accuracy_all", float(np.mean(list(accuracies.values()))), everything, after),
            Number("accuracy_trained", trained, inside, after),
        ]
    if untrained:
        matrix[1:] = matrix[0]
    return found + list(_of_matrix(matrix, order, counts))


def _per_class(predictions: Int64[Tensor, " n"], labels: Int64[Tensor, " n"]) -> float:
    """Mean over classes of the share of a class's images that are named so."""
    right = (predictions == labels).double()
    return float(torch.stack([right[labels == c].mean() for c in labels.unique()]).mean())


def _of_matrix(
    matrix: streams.Matrix, order: Sequence[str], counts: Mapping[str, int]
) -> Iterator[Number]:
    """Measures of the accuracy matrix; of one without inner rows what its last row says."""
    t = len(order)
    n = sum(counts[name] for name in order)
    yield Number("last", float(streams.last(matrix)), n)
    if np.isnan(matrix[1:]).any():
        return
    for name, measure in MEASURES.items():
        yield Number(name, float(measure(matrix)), n)
    for place, (name, change) in enumerate(
        zip(order, streams.changes(matrix), strict=True), start=1
    ):
        yield Number("backward_transfer", float(change), counts[name], t, place, name)


MEASURES = {
    "transfer": streams.transfer,
    "average": streams.average,
    "learned": streams.learned,
    "forgetting": streams.forgetting,
    "mean_backward_transfer": streams.backward_transfer,
    "mean_backward_transfer_with_last": streams.backward_transfer_with_last,
}


def write_predictions(
    path: Path,
    start: Start,
    orders: Mapping[str, Sequence[str]],
    runs: Mapping[Cell, Mapping[Moment, Answers]],
) -> None:
    """Write every prediction of some runs as Parquet: a line an image, set and moment.

    ``task`` is empty for sets outside the order, ``mix`` and ``step`` where nothing is mixed and
    for tests after whole sets.

    Raises:
        KitError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for cell, by_moment in runs.items():
        places = {name: i for i, name in enumerate(orders[cell.order], start=1)}
        for (after, kind, at), of_sets in by_moment.items():
            mix, step = at if kind == "mix" else None, int(at) if kind == "step" else None
            for name, found in of_sets.items():
                test, n = start.tasks[name].test, len(found["prediction"])
                same = {
                    "order": pa.array([cell.order] * n).dictionary_encode(),
                    "method": pa.array([cell.method] * n).dictionary_encode(),
                    "seed": pa.array(np.full(n, cell.seed, dtype=np.int16)),
                    "after": pa.array(np.full(n, after, dtype=np.int16)),
                    "mix": pa.array([mix] * n, type=pa.float32()),
                    "step": pa.array([step] * n, type=pa.int32()),
                    "task": pa.array([places.get(name)] * n, type=pa.int16()),
                    "dataset": pa.array([name] * n).dictionary_encode(),
                    "id": pa.array(start.tasks[name].ids.numpy()),
                    "label": pa.array(test.labels.cpu().numpy().astype(np.int16)),
                    "prediction": pa.array(found["prediction"].numpy().astype(np.int16)),
                }
                rest = {column: pa.array(found[column].numpy()) for column in COLUMNS[1:]}
                tables.append(pa.table(same | rest))
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(tables).unify_dictionaries(), buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())
