"""Ridge probes in closed form: many subsets of the rows, all penalties from one decomposition."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from carryover.errors import DataError
from carryover.solve.logistic import refuse

BLOCK = 2048  # rows of one product of matrices; the products are summed in float64
EXACT = 0.01  # share by which rounding may change the weakest axis; beyond, all is float64


@dataclass(frozen=True)
class Ridges:
    """A probe for each subset and penalty: scores are ``x @ class_weights.T + biases``."""

    class_weights: Float[Tensor, "subsets penalties c d"]
    biases: Float[Tensor, "subsets penalties c"]


def ridge(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    rows: Sequence[Int64[Tensor, " _"]],
    l2: Sequence[float],
    classes: int,
) -> Ridges:
    """The probe of every subset of the rows with every penalty.

    Minimises |X W' + b - Y|^2 + l2 |W|^2, where Y is 1 for an image's own class and -1 for the
    others, and b is free: scikit-learn's ``RidgeClassifier(alpha=l2)``. With centred features and
    X'X = V E V' (XX' where there are fewer rows than features) every penalty is one division,
    W' = V (E + l2)^-1 V'X'Y. A class that a subset lacks is never predicted: weights 0, bias -inf.

    Args:
        features: float32 or float64; the result has its type and device. Products of matrices are
            of that type and their sums over rows float64; a subset whose weakest axis would suffer
            from rounding is solved in float64 throughout.
        rows: row numbers of each subset. Where one begins with all of the one before it, only its
            further rows are multiplied: order nested subsets from small to large.
        l2: penalties, 1e-30 to 1e30, in any order.
    Raises:
        DataError: features of another type or not finite, a label outside 0..classes-1, an empty
            subset or none, or a penalty out of range.
    Source: Hoerl and Kennard 1970.
    """
    refuse("ridge probe", features, labels, l2, classes)
    if not len(rows) or not all(len(chosen) for chosen in rows):
        raise DataError("ridge probe: expected a row or more a subset, got none; draw larger ones")
    d = features.shape[1]
    found = Ridges(
        features.new_zeros(len(rows), len(l2), classes, d),
        features.new_full((len(rows), len(l2), classes), -math.inf),
    )
    penalties = torch.tensor(l2, dtype=torch.float64, device=features.device)
    shift = features.mean(0)  # any would do; the mean loses the fewest digits
    for i, sums in enumerate(_nested(features, shift, labels, rows, classes)):
        n = len(rows[i])
        middle = sums.total / n
        if n > d:
            centred = (sums.gram - n * torch.outer(middle, middle)).to(features)
            spread, axes = torch.linalg.eigh(centred)
            if _rounded(spread, min(l2)):
                wide = ridge(features.double(), labels, [rows[i]], l2, classes)
                found.class_weights[i], found.biases[i] = wide.class_weights[0], wide.biases[0]
                continue
            scores = 2 * (sums.by_class - sums.counts[:, None] * middle).to(features) @ axes
        else:
            x = (features[rows[i]] - shift).double() - middle
            spread, vectors = torch.linalg.eigh(x @ x.T)
            targets = 2 * one_hot(labels[rows[i]], classes).double()
            axes = (x.T @ vectors).to(features)
            scores = ((targets - targets.mean(0)).T @ vectors).to(features)
        shares = 1 / (spread.clamp(min=0) + penalties[:, None]).to(features)
        weights = ((scores * shares[:, None]).flatten(0, 1) @ axes.T).unflatten(0, (-1, classes))
        present = (sums.counts > 0).nonzero()[:, 0]
        heights = 2 * sums.counts / n - 1
        heights = heights.to(features) - weights @ (middle.to(features) + shift)
        found.class_weights[i] = weights
        found.biases[i, :, present] = heights[:, present]
    return found


@dataclass(frozen=True)
class _Sums:
    """Sums over the rows of a subset, in float64."""

    counts: Float64[Tensor, " c"]
    by_class: Float64[Tensor, "c d"]
    gram: Float64[Tensor, "d d"]  # its lower triangle

    @property
    def total(self) -> Float64[Tensor, " d"]:
        return self.by_class.sum(0)


def _nested(
    features: Float[Tensor, "n d"],
    shift: Float[Tensor, " d"],
    labels: Int64[Tensor, " n"],
    rows: Sequence[Int64[Tensor, " _"]],
    classes: int,
) -> Iterator[_Sums]:
    """The sums of each subset, those of the one before it used where it begins with that."""
    d = features.shape[1]
    empty = torch.zeros(classes, d + 1, dtype=torch.float64, device=features.device)
    before = rows[0][:0]
    for chosen in rows:
        if len(before) == 0 or not torch.equal(chosen[: len(before)], before):
            before = chosen[:0]
            sums = _Sums(empty[:, 0], empty[:, 1:], empty.new_zeros(d, d))
        counts, by_class, gram = sums.counts, sums.by_class, sums.gram.clone()
        for some in chosen[len(before) :].split(BLOCK):
            x = features[some] - shift
            members = one_hot(labels[some], classes).to(x)
            counts = counts + members.sum(0)
            by_class = by_class + members.T @ x
            _add_lower_(gram, x)
        sums, before = _Sums(counts, by_class, gram), chosen
        yield sums


def _add_lower_(gram: Float64[Tensor, "d d"], x: Float[Tensor, "m d"]) -> None:
    """Add x'x to the lower triangle, and to as little above it as a few products allow."""
    for first in range(0, len(gram), max(1, len(gram) // 4)):
        last = first + max(1, len(gram) // 4)
        gram[first:, first:last] += x[:, first:].T @ x[:, first:last]


def _rounded(spread: Float[Tensor, " d"], penalty: float) -> bool:
    """Whether rounding may have changed the weakest axis by more than `EXACT`."""
    if spread.dtype == torch.float64:
        return False
    error = 4 * torch.finfo(spread.dtype).eps * spread[-1]
    return bool(error > EXACT * (spread[0].clamp(min=0) + penalty))
