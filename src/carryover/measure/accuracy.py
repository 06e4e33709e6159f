"""Accuracy."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

BATCH = 4096  # images a forward pass; does not change the result of a row by more than rounding


def correct(network: nn.Module, inputs: Float[Tensor, "n ..."], labels: Int[Tensor, " n"]) -> int:
    """Number of inputs whose highest logit is their label."""
    with torch.no_grad():  # under autocast inference_mode is slower for transformers
        right = [
            (network(x).argmax(1) == y).sum()
            for x, y in zip(inputs.split(BATCH), labels.split(BATCH), strict=True)
        ]
        return int(torch.stack(right).sum())
