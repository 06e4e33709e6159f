"""Whether probabilities mean what they say: as many hits as the confidence promises."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover.errors import DataError

NORMALISED = 1e-3  # how far a row's sum may be from 1: half precision keeps three digits
LEAST = 1e-300  # a probability below counts as this, so that its logarithm is a number: 691 nats


def calibration_error(
    p: Float[Tensor, "n c"],
    labels: Int64[Tensor, " n"],
    bins: int,
    width: Literal["equal", "adaptive"],
) -> float:
    """Expected calibration error of the predicted class.

    sum over bins of n_b / n |accuracy_b - mean confidence_b|, where the confidence is the greatest
    probability.

    Args:
        bins: their number; 15 in most papers.
        width: "equal": of 1/bins each, (0, 1/bins] first; "adaptive": of as many images each.
    Returns:
        0..1, 0 where each bin's accuracy is its confidence.
    Raises:
        DataError: no images, rows that are no probabilities, labels out of range, bins < 1.
    Source: Naeini et al. 2015; Guo et al. 2017, eq. 3; Nguyen and O'Connor 2015 (adaptive).
    """
    _refuse(p, labels)
    if bins < 1:
        raise DataError(f"calibration: expected 1 bin or more, got {bins}; 15 is usual")
    confidence, predicted = p.double().max(1)
    gaps = (predicted == labels).double() - confidence
    if width == "equal":
        place = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    else:
        rank = torch.empty_like(predicted)
        rank[confidence.argsort(stable=True)] = torch.arange(len(p), device=p.device)
        place = rank * bins // len(p)
    sums = torch.zeros(bins, dtype=torch.float64, device=p.device).index_add_(0, place, gaps)
    return float(sums.abs().sum() / len(p))


def brier(p: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]) -> float:
    """Mean over images of the squared distance of p from the one-hot label, 0..2.

    Raises:
        DataError: as `calibration_error`.
    Source: Brier 1950, eq. 2.
    """
    _refuse(p, labels)
    wide = p.double()
    right = wide.gather(1, labels[:, None])[:, 0]
    return float((wide.square().sum(1) - 2 * right + 1).mean())


def negative_log_likelihood(p: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]) -> float:
    """Mean over images of -log max(p[label], `LEAST`), in nats: 0 up to 691.

    Raises:
        DataError: as `calibration_error`.
    """
    _refuse(p, labels)
    return float(-p.double().gather(1, labels[:, None]).clamp(min=LEAST).log().mean())


def _refuse(p: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]) -> None:
    off = (p.double().sum(1) - 1).abs()
    if not len(p) or not bool((p >= 0).all()) or not bool((off <= NORMALISED).all()):
        raise DataError(
            f"calibration: expected probabilities that sum to 1 for at least one image, got "
            f"{len(p)} images with other rows; apply softmax to logits first"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < p.shape[1]:
        raise DataError(
            f"calibration: expected labels of 0..{p.shape[1] - 1}, got {int(labels.min())} to "
            f"{int(labels.max())}; give the probabilities of every class"
        )
