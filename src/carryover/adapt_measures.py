"""What is measured in the adaptation study: accuracy, calibration, what an encoder still knows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover.adapt.objective import SOFTMAX
from carryover.adapt_start import Examples, Start
from carryover.adapt_training import Trained, held_out
from carryover.config.adapt import Adapt
from carryover.measure.calibration import brier, calibration_error, negative_log_likelihood
from carryover.models.heads import Adapted
from carryover.models.prompts import zero_shot_logits
from carryover.solve.logistic import logistic

Numbers = list[tuple[str, str, str, float, int]]  # data set, split, metric, value, n
Embedded = Mapping[str, Tensor]  # [n, d] of each data set's test images
Named = Mapping[tuple[str, str], Tensor]  # [n], classes by data set and head

BINS = 15  # of the calibration error, as Guo et al. 2017 have it
ORDER_SEED = 0  # of the images that are predicted together, one order for all methods
PASS_IMAGES = 256  # images a forward pass where nothing trains
TOLERANCE, MAX_STEPS = 1e-6, 1000  # of the logistic probe


def embeddings_of(trained: Trained, examples: Examples) -> Float[Tensor, "n d"]:
    """What the head sees of images: stored embeddings, or those of the encoder that trained."""
    if not isinstance(trained.network, Adapted):
        return examples.embeddings
    adapted = trained.network
    with torch.no_grad():
        parts = torch.arange(len(examples)).split(PASS_IMAGES)
        return torch.cat([adapted.features(adapted.image, examples.images(i)) for i in parts])


def embeddings_by_set(start: Start, trained: Trained, dataset: str) -> dict[str, Tensor]:
    """The same of the test images: of the set adapted to, of all sets where an encoder trained."""
    found = {dataset: embeddings_of(trained, start.test)}
    if isinstance(trained.network, Adapted) and bool(found[dataset].isfinite().all()):
        found |= {name: embeddings_of(trained, each) for name, each in start.others.items()}
    return found


def outputs_of(logits: Float[Tensor, "n c"], softmax: str, batch: int) -> Float[Tensor, "n c"]:
    """What a network gives: its logits behind a softmax or none (`adapt.objective.SOFTMAX`).

    Args:
        batch: images that are predicted together. They are drawn from all, as the published loader
            of test images does: sets lie by class, and images of one class would compete for it.
    """
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(ORDER_SEED))
    order = order.to(logits.device)
    parts = logits.double()[order].split(batch)
    return torch.cat([SOFTMAX[softmax](part) for part in parts])[order.argsort()]


def scores(
    logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], softmax: str, batch: int, split: str
) -> dict[str, float]:
    """Accuracy; of training images the loss, of others how good the predicted shares are.

    Args:
        softmax, batch: as in `outputs_of`.
    """
    outputs = outputs_of(logits, softmax, batch)
    found = {"accuracy": float((outputs.argmax(1) == labels).double().mean())}
    if split == "train":
        return found | {"loss": float(nn.functional.cross_entropy(outputs, labels))}
    shares = outputs.softmax(1) if softmax == "none" else outputs / outputs.sum(1, keepdim=True)
    found["nll"] = negative_log_likelihood(shares, labels)
    if split == "test":
        found["ece"] = calibration_error(shares, labels, BINS, "equal")
        found["brier"] = brier(shares, labels)
    return found


def measured(
    study: Adapt,
    trained: Trained,
    embeddings: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    split: str,
) -> Numbers:
    """Scores of a trained head on images of the data set adapted to, see `embeddings_of`."""
    with torch.no_grad():
        logits = trained.head(embeddings)
    if not bool(logits.isfinite().all()):  # where one is not, no class but the first is largest
        share = float((logits.argmax(1) == labels).double().mean())
        return [(study.dataset, split, "accuracy", share, len(labels))]
    found = scores(logits, labels, trained.softmax, study.test_batch, split)
    return [(study.dataset, split, metric, value, len(labels)) for metric, value in found.items()]


def by_text(start: Start, seen: Embedded) -> Named:
    """The class that an encoder's text head names for each test image of the sets it has words of.

    Args:
        seen: what `embeddings_by_set` gives, or the embeddings before any training.
    """
    scale = start.encoder.logit_scale
    return {
        (name, "text"): zero_shot_logits(z, start.class_weights[name], scale).argmax(1)
        for name, z in seen.items()
        if name in start.class_weights
    }


def retained(study: Adapt, start: Start, made: Named) -> Numbers:
    """Zero-shot accuracy on every set: that of an encoder's text head, which no training changes.

    Args:
        made: classes named, see `by_text`; those of heads that trained do not count.
    """
    tested = {study.dataset: start.test, **start.others}
    found: Numbers = []
    for (name, head), classes in made.items():
        labels = tested[name].labels
        if head == "text":
            share = float((classes == labels).double().mean())
            found.append((name, "test", "zeroshot_accuracy", share, len(labels)))
    return found


def zero_shot(study: Adapt, start: Start, train: Examples, made: Named) -> Numbers:
    """What the encoder scores before any training, by its text head.

    On the other sets alone where it does not know the words of the set adapted to.

    Args:
        train: all training images, with the labels that a training would see.
        made: classes that it names before any training, see `by_text`.
    """
    found: Numbers = []
    if study.dataset in start.class_weights:
        weights = start.class_weights[study.dataset]
        for split, examples in (("test", start.test), ("train", train)):
            logits = zero_shot_logits(examples.embeddings, weights, start.encoder.logit_scale)
            values = scores(logits, examples.labels, "none", len(logits), "test")
            wanted = values if split == "test" else ["accuracy"]
            found += [(study.dataset, split, name, values[name], len(logits)) for name in wanted]
    return [*found, *retained(study, start, made)]


def by_solver(
    study: Adapt, start: Start, examples: Examples, share: float, random: torch.Generator
) -> tuple[Numbers, Int64[Tensor, " n"]]:
    """The logistic probe whose penalty validates best, solved again on all images.

    Args:
        share: the partition that the images are.
    Returns:
        Its numbers, and the class that it names for each test image.
    """
    classes = len(start.class_names)
    x, y = examples.embeddings, examples.labels
    rows = [torch.arange(len(y))]
    penalty = study.l2s[0]
    if len(study.l2s) > 1:
        kept, held = held_out(study, examples, share, random)
        tried = logistic(x, y, [kept], study.l2s, classes, TOLERANCE, MAX_STEPS)
        best = (-1.0, 0.0, 0.0)
        for i, l2 in enumerate(study.l2s):
            logits = x[held] @ tried.class_weights[0, i].T + tried.biases[0, i]
            values = scores(logits, y[held], "none", len(held), "validation")
            best = max(best, (values["accuracy"], -values["nll"], l2))
        penalty = best[2]
    probe = logistic(x, y, rows, [penalty], classes, TOLERANCE, MAX_STEPS)
    weights, bias = probe.class_weights[0, 0], probe.biases[0, 0]
    found: Numbers = []
    for split, part in (("train", examples), ("test", start.test)):
        logits = part.embeddings @ weights.T + bias
        for metric, value in scores(logits, part.labels, "none", len(part), split).items():
            found.append((study.dataset, split, metric, value, len(part)))
    converged = float(probe.gradient[0, 0] <= TOLERANCE)
    found.append((study.dataset, "train", "l2", penalty, len(examples)))
    found.append((study.dataset, "train", "converged", converged, len(examples)))
    return found, logits.double().argmax(1)
