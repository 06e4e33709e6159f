"""The greatest values of each row of a large table, and where they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

GROUP = 8  # similarities of which the greatest stands for all while the best are looked for


@dataclass(frozen=True)
class Best:
    """Some values of each row and where they stand in it."""

    values: Float[Tensor, "n k"]
    indices: Int64[Tensor, "n k"]

    def of(self, k: int) -> Best:
        """The first k."""
        return Best(self.values[:, :k], self.indices[:, :k])


def merged(first: Best, second: Best, k: int) -> Best:
    """The best of both; all ids of the first are smaller than those of the second."""
    values = torch.cat([first.values, second.values], 1)
    order = values.argsort(dim=1, descending=True, stable=True)[:, :k]
    indices = torch.cat([first.indices, second.indices], 1)
    return Best(values.gather(1, order), indices.gather(1, order))


def ordered(tile: Float[Tensor, "n m"], k: int) -> Best:
    """The k greatest of each row, of equals those with the smaller ids."""
    # one more than wanted tells whether the last has an equal that was left out
    best = top(tile, min(k + 1, tile.shape[1]))
    indices, order = best.indices.sort(1)
    values = best.values.gather(1, order)
    order = values.argsort(dim=1, descending=True, stable=True)
    found = Best(values.gather(1, order), indices.gather(1, order))
    if tile.shape[1] > k:
        equal = (found.values[:, k - 1] == found.values[:, k]).nonzero()[:, 0]
        if len(equal):
            order = tile[equal].argsort(dim=1, descending=True, stable=True)[:, :k]
            found.indices[equal, :k] = order
    return found.of(k)


def top(tile: Float[Tensor, "n m"], k: int) -> Best:
    """The k greatest of each row in no order.

    The greatest lie in the groups with the greatest maxima, at most one group each: so only those
    groups are looked through, and they are found in the same way.
    """
    m = tile.shape[1]
    if m <= 2 * GROUP * k:
        found = _wide(tile).topk(k, 1, sorted=False)
        return Best(found.values, found.indices)
    groups = m // GROUP
    whole = groups * GROUP
    greatest = tile[:, :whole].unflatten(1, (GROUP, groups)).amax(1)
    members = torch.arange(0, whole, groups, device=tile.device)[:, None]
    places = (top(greatest, k).indices[:, None] + members).flatten(1)
    rest = torch.arange(whole, m, device=tile.device).expand(len(tile), -1)
    places = torch.cat([places, rest], 1)
    found = _wide(tile.gather(1, places)).topk(k, 1, sorted=False)
    return Best(found.values, places.gather(1, found.indices))


def _wide(x: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    return x if x.dtype.itemsize >= 4 else x.float()
