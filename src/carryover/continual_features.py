"""Logistic regression on a frozen encoder's features of whole sets, as the original had it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover import bank_out, run
from carryover.config.continual_arms import Kind
from carryover.continual_start import stale
from carryover.data import store
from carryover.data.splits import expect_left, expect_some, hold_out
from carryover.embed import EMBEDDINGS
from carryover.models.features import Feature
from carryover.prepare import SETS, refuse_stale
from carryover.solve.logistic import logistic

if TYPE_CHECKING:
    from carryover.config.params import Params

Fitted = list[tuple[str, float, int]]  # split, accuracy, n

TOLERANCE = 1e-4  # scikit-learn's, as published


def fitted(params: Params, name: str, kind: Kind) -> tuple[Fitted, str, str]:
    """Accuracies of one set and feature, and the digests of its training images and of the encoder.

    The probe is fitted on the training images less a held-out share, and measured on those it was
    fitted on, on the held-out ones (split ``validation``) and on test images. The published notes
    call the second training and the whole zero-shot; it is neither.

    Raises:
        DataError: stored embeddings of other images than those that are here.
        ConfigError: no image is held out.
    """
    entry = params.continual.logistic
    encoder = entry.encoder or params.continual.encoder
    dataset, folder = entry.sets[name].dataset, EMBEDDINGS / encoder
    refuse_stale(params.data, dataset)
    parts: dict[str, tuple[Float[Tensor, "n d"], Int64[Tensor, " n"]]] = {}
    for split in ("train", "test"):
        images = store.load(SETS / dataset, split)
        stored = bank_out.read(folder, dataset, split, Feature(kind))
        if stored.data != images.digest:
            raise stale(encoder)
        parts[split] = stored.values.float().flatten(1), images.labels
        if split == "train":
            classes, data = len(images.class_names), images.digest
            weights_digest = stored.encoder
    x, y = parts["train"]
    random = (
        run.generator(params.seed, f"continual/logistic/{name}")
        if entry.seed is None
        else torch.Generator().manual_seed(entry.seed)
    )
    kept, held = hold_out(y, entry.held_out, random, entry.stratified)
    expect_some(held, "continual.logistic.held_out")
    expect_left(y[kept], entry.held_out, len(y), "continual.logistic.held_out")
    probe = logistic(x, y, [kept], [entry.l2], classes, TOLERANCE, entry.max_steps)
    weights, bias = probe.class_weights[0, 0], probe.biases[0, 0]
    first = entry.sets[name].test_images or len(parts["test"][1])
    test = (parts["test"][0][:first], parts["test"][1][:first])
    found: Fitted = []
    for split, (features, labels) in {
        "train": (x[kept], y[kept]),
        "validation": (x[held], y[held]),
        "test": test,
    }.items():
        right = (features @ weights.T + bias).argmax(1) == labels
        found.append((split, float(right.double().mean()), len(labels)))
    return found, data, weights_digest
