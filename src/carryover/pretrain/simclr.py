"""SimCLR: a network learns to find the other view of an image among those of a whole batch.

Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from carryover.pretrain.byol import perceptron


class SimClr(nn.Module):
    """A network and its projection.

    Args:
        encoder: images to embeddings ``[b, d]``; it is what is kept.
        width: d.
    """

    def __init__(
        self, encoder: nn.Module, width: int, *, hidden: int, out: int, temperature: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = perceptron(width, hidden, out)
        self.temperature = temperature

    def forward(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, ""]:
        """The loss of two views of the same images; batch norms see both views together."""
        first, second = self.projector(self.encoder(torch.cat([a, b]))).chunk(2)
        return nt_xent(first, second, self.temperature)

    def after_step_(self, share: float) -> None:
        """Nothing: there is one network."""


def nt_xent(
    a: Float[Tensor, "b d"], b: Float[Tensor, "b d"], temperature: float
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of finding a view's other among the 2 b - 1 views (eq. 1).

    Row i of `a` and row i of `b` are views of one image; similarities are cosines over the
    temperature. In float32 whatever the precision around it, since the temperature would magnify
    what bfloat16 rounds off the cosines.
    """
    n = len(a)
    with torch.autocast(a.device.type, enabled=False):
        every = F.normalize(torch.cat([a, b]).float(), dim=1)
        logits = (every @ every.T / temperature).fill_diagonal_(float("-inf"))
        others = torch.arange(2 * n, device=a.device).roll(n)
        return F.cross_entropy(logits, others)
