"""How many directions a weight tensor uses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from carryover.errors import DataError


def effective_rank(weight: Float[Tensor, "out ..."]) -> float:
    """Effective rank of a weight tensor as a matrix ``[out, rest]``.

    exp(-sum p_i log p_i), p_i = s_i / sum s, s the singular values.

    Returns:
        1 (a single direction) to min(out, rest) (all equally strong); whatever the scale.
    Raises:
        DataError: all weights are 0, or one is not finite.
    Source: Roy and Vetterli 2007, eq. 3.
    """
    values = torch.linalg.svdvals(weight.double().flatten(1)) if weight.isfinite().all() else None
    if values is None or not values.sum():
        raise DataError(
            "effective rank: expected finite weights that are not all 0, got others; train the "
            "network again"
        )
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())
