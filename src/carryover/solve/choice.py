"""Which of many probes to keep."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

LOGITS = 1 << 22  # held at once


def accuracies(
    class_weights: Float[Tensor, "subsets penalties c d"],
    biases: Float[Tensor, "subsets penalties c"],
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
) -> Float[Tensor, "subsets penalties"]:
    """Share of images whose highest score is that of their class, for every probe."""
    _, penalties, classes, _ = class_weights.shape
    right = torch.zeros(class_weights.shape[:2], dtype=torch.int64, device=features.device)
    size = max(64, LOGITS // (penalties * classes))
    for i, (weights, bias) in enumerate(zip(class_weights.flatten(1, 2), biases, strict=True)):
        for x, y in zip(features.split(size), labels.split(size), strict=True):
            scores = (weights @ x.T).view(penalties, classes, len(x)) + bias[..., None]
            right[i] += (scores.argmax(1) == y).sum(1)
    return right / len(labels)


def best(
    accuracy: Float[Tensor, "subsets penalties"], l2: Float[Tensor, " penalties"]
) -> Int64[Tensor, " subsets"]:
    """The penalty of each subset with the best (validation) accuracy, of equals the strongest."""
    order = l2.argsort(descending=True, stable=True)
    return order[accuracy[:, order].argmax(1)]
