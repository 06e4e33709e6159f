"""What is measured in the retrieval study: curves, noise, corruptions, calibration, attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover import run
from carryover.data.splits import expect_each, hold_out
from carryover.files import write_bytes
from carryover.measure.calibration import calibration_error, negative_log_likelihood
from carryover.measure.curves import area, running_maximum, steps_to
from carryover.models.retrieval_stage import attended
from carryover.retrieval_answers import Trained, answers, curve_noises, measured
from carryover.retrieval_arms import Cell
from carryover.retrieval_lookup import Lookup
from carryover.retrieval_start import CLEAN, Start, View
from carryover.retrieval_training import rows_of, updates_per_epoch
from carryover.solve.logistic import logistic
from carryover.solve.retrieve import voted

if TYPE_CHECKING:
    from carryover.config.params import Params
    from carryover.config.retrieval import Retrieval

THRESHOLD = 0.8  # of steps_to_080
BINS = 15  # of the calibration error
FIRST, PLOTTED = 0, 5  # what a row calls the first value of the running maximum; last step at which
# it is called so, which is the published first step
LAST = "end"  # names the forward pass after training
PROBE_STEPS, PROBE_TOLERANCE = 500, 1e-4


@dataclass(frozen=True)
class Number:
    """One number of a run.

    Attributes:
        axes: those that its cell has not.
        named: of an accuracy, the class named for each of the images.
    """

    metric: str
    value: float
    n: int
    axes: Mapping[str, Any] = field(default_factory=dict)
    split: str = "test"
    named: Int64[Tensor, " n"] | None = field(default=None, compare=False, repr=False)

    def fact(self) -> list[Any]:
        """As a scratch file keeps it; what was named goes to another."""
        return [self.metric, self.value, self.n, dict(self.axes), self.split]


def numbers(
    params: Params, start: Start, item: str, trained: Trained, lr: float, images: int
) -> list[Number]:
    """All numbers of a trained model; of one that diverged no loss and no calibration.

    Args:
        lr, images: what it was trained with; the second in training images.
    """
    study, cell = params.retrieval, trained.cell
    found = list(of_curve(params, start, trained, cell, images))
    for view, shown in start.tests.items():
        if view.corruption and (cell.control, cell.k) not in (("none", study.k), ("none", 0)):
            continue  # of the plain arms alone
        logits = trained.last.get(view)
        if logits is None:
            logits = answers(params, start, trained, view, LAST)
        found += of_answers(view, logits, shown.labels, trained.diverged)
        if view.noise and clean_too(study, item, cell):
            logits = answers(params, start, trained, view, LAST, asks=CLEAN)
            found += [
                replace(n, axes={**n.axes, "control": "clean-query"})
                for n in of_answers(view, logits, shown.labels, trained.diverged)
            ]
    if study.faults_of_original.running_maximum:
        found = [_as_published(number, found) for number in found]
    trains = [p.numel() for p in trained.record.parameters() if p.requires_grad]
    told = {
        "updates": float(trained.record.losses[: int(trained.record.done)].isfinite().sum()),
        "diverged": float(trained.diverged),
        "lr": lr,
        "trained_numbers": float(sum(trains)),
    }
    return found + [Number(name, value, images, split="train") for name, value in told.items()]


def clean_too(study: Retrieval, item: str, cell: Cell) -> bool:
    """Whether noisy images are shown once more with the neighbours of the clean ones."""
    plain = (cell.access, cell.k, cell.control) == ("knn", study.k, "none")
    return plain and "clean-query" in study.controls.get(item, ())


def _as_published(number: Number, found: list[Number]) -> Number:
    """An accuracy on clean images replaced by the running maximum of the last evaluation."""
    if number.metric != "accuracy" or number.axes != {"noise": 0.0}:
        return number
    last = [each for each in found if each.metric == "running_max_accuracy"][-1]
    return Number("accuracy", last.value, last.n, number.axes)


def of_curve(
    params: Params, start: Start, trained: Trained, cell: Cell, images: int
) -> Iterator[Number]:
    """The curves, and what they say."""
    study, record = params.retrieval, trained.record
    steps, n = list(trained.training.evaluate_at), len(start.tests[CLEAN])
    for i, noise in enumerate(curve_noises(params, cell)):
        named, labels = record.named[:, i].cpu().long(), start.tests[View(noise)].labels.cpu()
        heights = [float(hits) / n for hits in (named == labels).sum(1).tolist()]
        for step, height, each in zip(steps, heights, named, strict=True):
            at = {"noise": noise, "step": step}
            yield Number("curve_accuracy", height, n, at, named=each)
        reached = steps_to(steps, heights, THRESHOLD)
        yield Number("steps_to_080", float(reached.step), n, {"noise": noise})
        yield Number("reached_080", float(reached.reached), n, {"noise": noise})
        yield Number("area", area(steps, heights), n, {"noise": noise})
    before = 0
    for step in steps:  # mean over the updates since the last one
        loss = float(record.losses[before:step].double().mean())
        if step <= int(record.done) and math.isfinite(loss):
            yield Number("curve_loss", loss, images, {"step": step}, split="train")
        before = step
    drawn_at = measured(study, trained.training, cell)
    if drawn_at:
        per_epoch = updates_per_epoch(study, images)
        random = run.generator(params.seed, "retrieval/running-maximum")
        heights = running_maximum(record.drawn.cpu(), drawn_at, per_epoch, random, n)
        for i, (step, height) in enumerate(zip(drawn_at, heights, strict=True)):
            first = i == 0 and step <= PLOTTED
            for name in [FIRST] * first + [step] * (step in steps):
                axes = {"noise": 0.0, "step": name}
                yield Number("running_max_accuracy", height, record.drawn.shape[1], axes)


def of_answers(
    view: View, logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], diverged: bool = False
) -> list[Number]:
    """Accuracy of test images in one view, and calibration under noise and without.

    Args:
        diverged: the logits say which class is named and nothing else.
    """
    n, where = len(labels), {"noise": view.noise}
    accuracy = of_named(view, logits.argmax(1), labels)
    if view.corruption or diverged:
        return [accuracy]
    p = logits.double().softmax(1)
    return [
        accuracy,
        Number("nll", negative_log_likelihood(p, labels), n, where),
        Number("ece", calibration_error(p, labels, BINS, "equal"), n, where),
    ]


def of_named(view: View, named: Int64[Tensor, " n"], labels: Int64[Tensor, " n"]) -> Number:
    """Accuracy of the classes named for test images in one view."""
    right = float((named == labels).double().mean())
    if view.corruption:
        axes: dict[str, Any] = {"corruption": view.corruption, "severity": view.severity}
        return Number("corrupted_accuracy", right, len(labels), axes, named=named)
    return Number("accuracy", right, len(labels), {"noise": view.noise}, named=named)


def of_votes(start: Start, found: Lookup) -> list[Number]:
    """A vote of the neighbours' labels, each counting one, on all test images."""
    numbers: list[Number] = []
    for view, shown in start.tests.items():
        named = voted(found.store, found.found(shown), start.classes)
        numbers.append(of_named(view, named, shown.labels))
    return numbers


def of_probe(params: Params, start: Start, cell: Cell) -> list[Number]:
    """A logistic probe on the embeddings of the training images, its penalty chosen on some."""
    study = params.retrieval
    rows = rows_of(params, start, cell, more=False)
    labels = start.train.labels[rows.to(start.device)].cpu()
    random = run.generator(params.seed, f"retrieval/probe/{cell.seed}")
    kept, held = hold_out(labels, study.validation_fraction, random, True)
    expect_each(labels, kept, held, "retrieval.validation_fraction")
    x = start.train.queries[rows.to(start.device)].cpu()
    middle, spread = x.mean(0), x.std(0).clamp(min=1e-6)
    x = (x - middle) / spread
    everything = torch.arange(len(x))
    about = (start.classes, PROBE_TOLERANCE, PROBE_STEPS)
    tried = logistic(x, labels, [kept], study.l2s, *about)
    scores = [
        float(((x[held] @ W.T + b).argmax(1) == labels[held]).double().mean())
        for W, b in zip(tried.class_weights[0], tried.biases[0], strict=True)
    ]
    l2 = study.l2s[scores.index(max(scores))]
    final = logistic(x, labels, [everything], [l2], *about)
    W, b = final.class_weights[0, 0], final.biases[0, 0]
    numbers: list[Number] = []
    for view, shown in start.tests.items():
        logits = (shown.queries.cpu() - middle) / spread @ W.T + b
        numbers += of_answers(view, logits, shown.labels.cpu())
    return [*numbers, Number("l2", l2, len(x), split="train")]


def of_attention(start: Start, trained: Trained) -> list[dict[str, Any]]:
    """What the first test image of each class looks at: its neighbours and their weights.

    A weight is the mean over layers, heads and tokens; an image's weights add up to 1.
    """
    shown, found = start.tests[CLEAN], trained.found
    assert found is not None
    labels = shown.labels.cpu()
    first = torch.stack([(labels == c).nonzero()[0, 0] for c in labels.unique()])
    rows = first.to(start.device)
    ids = found.of_test(shown, CLEAN, LAST)[rows]
    x = shown.pixels[first].to(start.device).float() / 255
    handed = found.store.handed(ids)
    weights = torch.stack([w.mean((1, 2)) for w in attended(trained.record.model, x, handed)])
    mean = weights.mean(0).cpu()
    with torch.no_grad():
        predicted = trained.record.model(x, handed).argmax(1).tolist()
    distances = (shown.queries[rows][:, None] - found.store.features[ids]).norm(dim=2)
    return [
        {
            "image": int(shown.ids[row]),
            "label": int(labels[row]),
            "prediction": predicted[i],
            "place": place,
            "neighbour": int(found.store.ids[entry]),
            "neighbour_label": int(found.store.labels[entry]),
            "distance": float(distances[i, place]),
            "weight": float(mean[i, place]),
        }
        for i, row in enumerate(first.tolist())
        for place, entry in enumerate(ids[i].tolist())
    ]


def write_attention(path: Path, seeds: Mapping[int, list[dict[str, Any]]]) -> None:
    """Write what images look at as Parquet, a line an image and neighbour, by seed.

    Raises:
        KitError: the file cannot be written.
    """
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = [{"seed": seed, **line} for seed, found in sorted(seeds.items()) for line in found]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(lines), buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())
