"""Exact nearest neighbours in blocks, and what they vote for."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover.errors import DataError
from carryover.solve.top import Best, merged, ordered, top

Metric = Literal["cosine", "euclidean"]

BANK = 1 << 16  # rows of the bank in a block
TILE = 1 << 25  # similarities of a block (128 MB in float32)
SPARE = 1.5  # candidates looked up for one neighbour where they were found in a shorter type


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of a bank, the nearest first, of equals the one with the smaller id.

    Attributes:
        similarities: cosine, or minus the distance.
    """

    ids: Int64[Tensor, "n k"]
    similarities: Float[Tensor, "n k"]


def neighbours(
    queries: Float[Tensor, "n d"],
    bank: Float[Tensor, "m d"],
    k: int,
    metric: Metric,
    screen: torch.dtype | None = None,
) -> Neighbours:
    """The k rows of the bank that are nearest to each query.

    Memory does not grow with the number of queries times that of rows: at most `TILE` similarities
    are held.

    Args:
        metric: "cosine" ranks by the angle (a row of zeros has 0 to all), "euclidean" by the
            distance.
        screen: a shorter type (``torch.bfloat16``) to look for candidates in, where the processor
            multiplies it faster. The result is the same: a query whose candidates rounding may have
            kept out is looked up again in full.
    Raises:
        DataError: k is not in 1..m, or a value is not finite or of another type than float32 and
            float64.
    """
    _refuse(queries, bank, k, metric, screen)
    if metric == "cosine":
        left, right = (torch.nn.functional.normalize(x, dim=1) for x in (queries, bank))
        found = _scores(left, right, k) if screen is None else _screened(left, right, k, screen)
        return Neighbours(found.indices, found.values)
    middle = bank.mean(0)  # distances stay, and no digits are lost on what all rows share
    left, right = queries - middle, bank - middle
    found = _scores(left, right, k, squares=right.square().sum(1))
    distances = (left.square().sum(1, keepdim=True) - found.values).clamp(min=0).sqrt()
    return Neighbours(found.indices, -distances)


def _refuse(
    queries: Float[Tensor, "n d"],
    bank: Float[Tensor, "m d"],
    k: int,
    metric: Metric,
    screen: torch.dtype | None,
) -> None:
    if not 1 <= k <= len(bank):
        raise DataError(
            f"neighbours: expected k of 1 to the {len(bank)} rows of the bank, got {k}; ask for "
            "fewer or give a larger bank"
        )
    if screen is not None and metric != "cosine":
        raise DataError(
            f"neighbours: expected the cosine where candidates are found in {screen}, got the "
            f"{metric} distance; leave `screen` out"
        )
    for name, x in (("queries", queries), ("bank", bank)):
        if x.dtype not in (torch.float32, torch.float64) or x.dtype != bank.dtype:
            raise DataError(
                f"neighbours: expected queries and bank both of float32 or of float64, got {name} "
                f"of {x.dtype}; give them as .float()"
            )
        if len(x) and not bool(torch.stack(x.aminmax()).isfinite().all()):
            raise DataError(
                f"neighbours: expected finite values, got some in the {name} that are not; look "
                "for images or weights that are not finite"
            )


def _scores(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "m d"],
    k: int,
    squares: Float[Tensor, " m"] | None = None,
) -> Best:
    """The rows of `right` with the greatest product, or twice that less their squares."""
    found, parts = [], list(right.split(BANK))
    size = max(1, TILE // len(parts[0]))
    tiles = left.new_empty(size * len(parts[0]))  # one memory for all: fresh pages cost time
    for x in left.split(size):
        best: Best | None = None
        for i, part in enumerate(parts):
            tile = torch.mm(x, part.T, out=tiles[: len(x) * len(part)].view(len(x), len(part)))
            if squares is not None:
                tile.mul_(2).sub_(squares[i * BANK :][: len(part)])
            new = ordered(tile, k)
            new = Best(new.values, new.indices + i * BANK)
            best = new if best is None else merged(best, new, k)
        assert best is not None
        found.append(best)
    return Best(torch.cat([b.values for b in found]), torch.cat([b.indices for b in found]))


def _screened(
    left: Float[Tensor, "n d"], right: Float[Tensor, "m d"], k: int, screen: torch.dtype
) -> Best:
    """As `_scores`, from candidates found in a shorter type.

    A product of rounded rows is off by at most |q - q~| |x| + |q~| |x - x~| (Cauchy and Schwarz)
    and the rounding of the product itself. Every row that is no candidate has a product below the
    last candidate's plus that; where this is not below the k-th exact one, nothing is proven.
    """
    count = min(len(right), int(SPARE * k) + 1)
    coarse_left, coarse_right = left.to(screen), right.to(screen)
    missed = (right - coarse_right.to(right)).norm(dim=1).max()
    off = (left - coarse_left.to(left)).norm(dim=1) * right.norm(dim=1).max()
    off = 1.01 * (off + coarse_left.to(left).norm(dim=1) * missed)  # with room for float32's own
    values = left.new_empty(len(left), k)
    indices = torch.empty(len(left), k, dtype=torch.int64, device=left.device)
    size = max(1, TILE // min(BANK, len(right)))
    tiles = coarse_left.new_empty(size * min(BANK, len(right)))
    unproven = []
    for first in range(0, len(left), size):
        block = slice(first, first + size)
        best = _candidates(coarse_left[block], coarse_right, count, tiles)
        last = best.values.amin(1)
        ids = best.indices.sort(1).values
        exact = _products(left[block], right, ids)
        order = exact.argsort(dim=1, descending=True, stable=True)[:, :k]
        values[block], indices[block] = exact.gather(1, order), ids.gather(1, order)
        greatest = last + last.abs() * torch.finfo(screen).eps / 2 + off[block]
        if count < len(right):
            unproven.append(first + (greatest >= values[block, -1]).nonzero()[:, 0])
    again = torch.cat(unproven) if unproven else indices[:0, 0]
    if len(again):
        best = _scores(left[again], right, k)
        values[again], indices[again] = best.values, best.indices
    return Best(values, indices)


def _candidates(
    left: Float[Tensor, "n d"], right: Float[Tensor, "m d"], count: int, tiles: Float[Tensor, " s"]
) -> Best:
    """The rows with the greatest products as far as their type tells, in no order."""
    found = []
    for i, part in enumerate(right.split(BANK)):
        tile = torch.mm(left, part.T, out=tiles[: len(left) * len(part)].view(len(left), len(part)))
        best = top(tile, min(count, len(part)))
        found.append(Best(best.values, best.indices + i * BANK))
    values, indices = (torch.cat([getattr(b, n) for b in found], 1) for n in ("values", "indices"))
    if len(found) == 1:
        return found[0]
    best = top(values, count)
    return Best(best.values, indices.gather(1, best.indices))


def _products(
    left: Float[Tensor, "n d"], right: Float[Tensor, "m d"], ids: Int64[Tensor, "n c"]
) -> Float[Tensor, "n c"]:
    """Each query's products with its own candidates: rows are read where they lie, not copied."""
    n, count = ids.shape
    starts = torch.arange(0, n * count + 1, count, device=ids.device)
    shape = (n, len(right))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        chosen = torch.sparse_csr_tensor(
            starts, ids.flatten(), left.new_zeros(n * count), shape, check_invariants=False
        )
    return torch.sparse.sampled_addmm(chosen, left, right.T, beta=0.0).values().view(n, count)


def majority(found: Neighbours, labels: Int64[Tensor, " m"], classes: int) -> Int64[Tensor, " n"]:
    """The class of most neighbours, of equals the smallest."""
    return votes(found, labels, classes, None).argmax(1)


def votes(
    found: Neighbours,
    labels: Int64[Tensor, " m"],
    classes: int,
    temperature: float | None,
) -> Float[Tensor, "n c"]:
    """Sum over the neighbours of each class of exp(similarity / temperature).

    Args:
        labels: of the bank's rows.
        temperature: 0.07 in DINO, for the cosine; > 0; None: every neighbour counts 1.
    Raises:
        DataError: a temperature that is not above 0.
    Source: Wu et al. 2018, section 3.4; Caron et al. 2021.
    """
    similarities = found.similarities
    if temperature is None:
        weights = torch.ones_like(similarities)
    elif not 0 < temperature < math.inf:
        raise DataError(
            f"votes: expected a temperature above 0, got {temperature}; give None where every "
            "neighbour is to count 1"
        )
    else:  # relative to the nearest, so that nothing overflows
        weights = ((similarities - similarities[:, :1]) / temperature).exp()
    counts = weights.new_zeros(len(weights), classes)
    return counts.scatter_add_(1, labels[found.ids], weights)
