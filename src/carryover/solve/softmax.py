"""The objective of multinomial logistic regression, in the principal axes of the features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover.solve.lbfgs import Chosen, Parameters, Point, Scaling

LOGITS = 1 << 20  # held at once: a few MB, so that they stay in the cache
RANK = 1e-12  # of the greatest sum of squares: an axis with less is rounding
FLAT = 1e-6  # least curvature of a class that is reckoned with


def principal_axes(
    centred: Float[Tensor, "n d"],
) -> tuple[Float[Tensor, "d kept"], Float[Tensor, " kept"]]:
    """Orthonormal axes that span the rows, and the sum of squares along each.

    With fewer rows than features there are at most as many axes as rows: a penalised probe has
    no weight outside of them.
    """
    n, d = centred.shape
    if n >= d:
        spread, axes = torch.linalg.eigh((centred.T @ centred).double())
        return axes.to(centred), spread.clamp(min=0).to(centred)
    wide = centred.double()
    spread, vectors = torch.linalg.eigh(wide @ wide.T)
    kept = spread > RANK * spread[-1]
    axes = wide.T @ vectors[:, kept] / spread[kept].sqrt()
    return axes.to(centred), spread[kept].to(centred)


@dataclass(frozen=True)
class Softmax:
    """Cross-entropy of one subset with each penalty, in principal axes; the last axis is 1."""

    z: Float[Tensor, "n axes"]
    labels: Int64[Tensor, " n"]
    axes: Float[Tensor, "d others"]
    spread: Float[Tensor, " axes"]  # mean square along each axis
    penalties: Float[Tensor, " all"]  # of mean losses

    def at(self, x: Parameters, chosen: Chosen, scaled: bool) -> Point:
        k, c, d = x.shape
        n = len(self.z)
        loss = x.new_zeros(k, dtype=torch.float64)
        gradient, shares, together = torch.zeros_like(x), x.new_zeros(k, c), x.new_zeros(k, c, c)
        size = max(64, LOGITS // (k * c))
        for z, y in zip(self.z.split(size), self.labels.split(size), strict=True):
            logits = (x.view(k * c, d) @ z.T).view(k, c, len(z))
            right = y.expand(k, 1, -1)
            # over the middle axis: torch is ten times as slow over a last one of few classes
            p = torch.softmax(logits, 1)
            correct = p.gather(1, right).clamp(min=torch.finfo(p.dtype).tiny)
            loss -= correct.log().sum((1, 2), dtype=torch.float64)
            if scaled:
                shares += p.sum(2)
                together += p @ p.mT
            p.scatter_add_(1, right, -torch.ones_like(p[:, :1]))
            gradient += (p.view(k * c, -1) @ z).view(k, c, d)
        penalty = self.penalties[chosen]
        weights = x[..., :-1]
        gradient /= n
        gradient[..., :-1] += penalty[:, None, None] * weights
        value = loss / n + penalty.double() / 2 * weights.square().sum((1, 2), dtype=torch.float64)
        scaling = self._scaling(torch.diag_embed(shares) - together, penalty) if scaled else None
        return Point(value, gradient, scaling)

    def _scaling(self, curvature: Float[Tensor, "k c c"], penalty: Float[Tensor, " k"]) -> Scaling:
        """The inverse of A x B + penalty, where A is the mean of diag(p) - p p', B the spread."""
        values, rotation = torch.linalg.eigh(curvature / len(self.z))
        free = torch.ones_like(self.spread)
        free[-1] = 0
        # one value is 0, all biases up by one; and near 0 are those of a subset that is fitted
        stiff = values.clamp(min=FLAT)[..., None] * self.spread + penalty[:, None, None] * free
        return Scaling(rotation, 1 / stiff)

    def largest(self, gradient: Parameters) -> Float[Tensor, " k"]:
        weights = (gradient[..., :-1] @ self.axes.T).abs().amax((1, 2))
        return torch.maximum(weights, gradient[..., -1].abs().amax(1))
