"""BYOL: a network learns to predict what a slow copy of itself makes of another view.

Source: Grill et al. 2020, "Bootstrap your own latent".
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def perceptron(inputs: int, hidden: int, out: int) -> nn.Sequential:
    """Linear layer, batch norm, ReLU, linear layer (section 3.3)."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out),
    )


class Byol(nn.Module):
    """The online network with its predictor, and the target network.

    Args:
        encoder: images to embeddings ``[b, d]``; it is what is kept.
        width: d.
        momentum: of the target network at the start; it rises to 1 at the end of training.
    """

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int,
        out: int,
        prediction: int,
        momentum: float,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = perceptron(width, hidden, out)
        self.predictor = perceptron(out, prediction, out)
        self.target = nn.Sequential(copy.deepcopy(encoder), copy.deepcopy(self.projector))
        self.target.requires_grad_(False)
        self.momentum = momentum

    def forward(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, ""]:
        """The loss of two views of the same images, each predicted from the other (0..8)."""
        return self._one_way(a, b) + self._one_way(b, a)

    def _one_way(self, seen: Tensor, other: Tensor) -> Float[Tensor, ""]:
        with torch.no_grad():
            wanted = self.target(other)
        return prediction_loss(self.predictor(self.projector(self.encoder(seen))), wanted)

    @torch.no_grad()
    def after_step_(self, share: float) -> None:
        """Draw the target network to the online one; `share` of training is done.

        target <- momentum * target + (1 - momentum) * online (eq. 1), parameters alone: each
        network's batch norms count for themselves.
        """
        tau = momentum_at(self.momentum, share)
        online: list[Tensor] = [*self.encoder.parameters(), *self.projector.parameters()]
        target: list[Tensor] = list(self.target.parameters())
        torch._foreach_lerp_(target, online, 1 - tau)


def prediction_loss(
    predicted: Float[Tensor, "b d"], wanted: Float[Tensor, "b d"]
) -> Float[Tensor, ""]:
    """Mean squared distance of the two at unit length, 2 - 2 cos (eq. 2); 0..4."""
    return (2 - 2 * F.cosine_similarity(predicted.float(), wanted.float())).mean()


def momentum_at(start: float, share: float) -> float:
    """1 - (1 - start) (cos(pi share) + 1) / 2: from `start` up to 1 (section 3.3)."""
    return 1 - (1 - start) * (math.cos(math.pi * share) + 1) / 2
