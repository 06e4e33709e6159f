"""How much of a start is left in what became of it: shares kept, distances, barriers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from carryover.errors import DataError

ABOVE = 2.0  # standard errors by which a start must be better than chance to have something to keep
LEAST = 10  # images by which it must, so that one image is a tenth of the share at most


def kept_share(adapted: float, start: float, chance: float, n: int) -> float | None:
    """(adapted - chance) / (start - chance): 1 all is kept, 0 nothing, below 0 worse than chance.

    Args:
        adapted, start, chance: accuracies on the same n images.
    Returns:
        None where the start is not above chance by `ABOVE` standard errors of n draws, and by
        `LEAST` images.
    """
    if start - chance <= max(ABOVE * math.sqrt(chance * (1 - chance) / n), (LEAST - 0.5) / n):
        return None
    return (adapted - chance) / (start - chance)


def distance(
    adapted: Mapping[str, Tensor], start: Mapping[str, Tensor], names: Iterable[str]
) -> float | None:
    """|w - w0| / |w0| over the tensors of some names that both have in one shape.

    Returns:
        None where there are none, or all of the start's are 0.
    """
    moved = before = 0.0
    for name in names:
        if name in adapted and name in start and adapted[name].shape == start[name].shape:
            w, w0 = adapted[name].double(), start[name].double()
            moved += float((w - w0).square().sum())
            before += float(w0.square().sum())
    return math.sqrt(moved / before) if before else None


def barrier(curve: Sequence[tuple[float, float]]) -> float:
    """Height of the error along a line between two networks over the straight line of its ends.

    max over a of E(w0 + a (w - w0)) - (1 - a) E(w0) - a E(w), where E is 1 - accuracy. 0 or more;
    0 where the error nowhere exceeds what lies between those of the ends.

    Args:
        curve: a and accuracy along the line, a = 0 first and a = 1 last.
    Raises:
        DataError: ends that are not at 0 and 1.
    Source: Entezari et al. 2022, definition 2.1 (linear mode connectivity).
    """
    if len(curve) < 2 or (curve[0][0], curve[-1][0]) != (0, 1):
        raise DataError(
            "barrier: expected accuracies from 0 to 1 of a line, got "
            f"{[a for a, _ in curve]}; give both ends"
        )
    start, end = curve[0][1], curve[-1][1]
    return max(start + a * (end - start) - accuracy for a, accuracy in curve)


def finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether every number is."""
    return all(bool(t.isfinite().all()) for t in tensors.values() if t.is_floating_point())


def standardised(train: Float[Tensor, "m d"], test: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
    """Features centred and brought to one scale by the training rows: their mean square is 1.

    A penalty then means the same for networks whose features are large and small.
    """
    middle = train.mean(0)
    scale = (train - middle).square().mean().sqrt().clamp(min=torch.finfo(train.dtype).tiny)
    return (train - middle) / scale, (test - middle) / scale


def in_row_space(train: Float[Tensor, "m d"], test: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
    """The same features in as many numbers as there are training rows, where they have more.

    Angles and lengths of training rows stay, and their products with test rows: a ridge probe
    without intercept, or on centred rows, predicts the same. With X X' = Q E Q', training rows
    become Q E^(1/2), test rows Y X' Q E^(-1/2).
    """
    if train.shape[1] <= len(train):
        return train, test
    x, y = train.double(), test.double()
    spread, vectors = torch.linalg.eigh(x @ x.T)
    held = spread > spread[-1] * len(x) * torch.finfo(torch.float64).eps
    roots, vectors = spread[held].sqrt(), vectors[:, held]
    return (vectors * roots).to(train), (y @ x.T @ vectors / roots).to(test)
