"""Small networks of the retrieval study and what goes into them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from carryover.models.retrieval import build

FEATURES, LABELS, K = 6, 3, 4
PERCEIVER = {
    **{"latents": 3, "width": 8, "layers": 2, "cross_heads": 1, "cross_head_width": 4},
    **{"heads": 2, "head_width": 2, "bands": 2, "max_frequency": 10.0, "dropout": 0.0},
}
DIMS: dict[str, dict[str, Any]] = {
    "resnet18": {"width": 2},
    "alexnet": {"width": 2, "form": "cifar"},
    "perceiver": PERCEIVER,
}
STAGE = {
    **{"features": FEATURES, "labels": LABELS, "keys": "both", "values": "both", "layers": 2},
    **{"heads": 1, "head_width": 4, "multiplier": 1, "dropout": 0.0, "tokens": "positions"},
}


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(
    name: str, retrieval: dict[str, Any] | None = STAGE, seed: int = 0, **changes: Any
) -> Any:
    """A small network on three-channel images of 32 pixels and three classes."""
    given: dict[str, Any] = {
        **{"classes": 3, "channels": 3, "size": 32, "dims": DIMS[name], "retrieval": retrieval},
        "generator": torch.Generator().manual_seed(seed),
    }
    return build(name, **given | changes)
