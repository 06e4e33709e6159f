"""Which entries of the memory each image is handed: the nearest, random ones, or one of them.

An image that is stored itself is never handed its own entry, nor counted among those it may draw:
`own_rows` says which one that is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from carryover.errors import DataError
from carryover.files import DIGEST_LETTERS, write_bytes
from carryover.solve.neighbours import Neighbours, neighbours, votes
from carryover.solve.store import Store

FORMAT = "1"  # of kept neighbours
TILE = 1 << 22  # random numbers at once (16 MB)


def own_rows(store: Store, ids: Int64[Tensor, " n"], source: str) -> Int64[Tensor, " n"]:
    """The entry of the memory that shows each image itself, -1 where none does.

    Args:
        ids, source: of the images that ask, as `Store` has them.
    """
    if source != store.source:
        return torch.full_like(ids, -1)
    order = store.ids.argsort()
    place = torch.searchsorted(store.ids[order], ids).clamp(max=len(store) - 1)
    rows = order[place]
    return torch.where(store.ids[rows] == ids, rows, -1)


def nearest(
    store: Store, queries: Float[Tensor, "n d"], own: Int64[Tensor, " n"], k: int
) -> Neighbours:
    """The k entries nearest to each query (Euclidean), the nearest first, its own image left out.

    The first so many of them are the nearest for a smaller k.

    Raises:
        DataError: k is not in 1..m, or 1..m-1 where a query's own image is stored; or a value is
            not finite.
    """
    spare = _refuse(store, own, k)
    found = neighbours(queries, store.features, k + spare, "euclidean")
    if not spare:
        return found
    hit = found.ids == own[:, None]
    hit[:, -1] |= ~hit.any(1)  # one too many where it is not its own
    ids, similarities = (x[~hit].unflatten(0, (-1, k)) for x in (found.ids, found.similarities))
    return Neighbours(ids, similarities)


def _refuse(store: Store, own: Int64[Tensor, " n"], k: int) -> int:
    """1 if a query's own image is stored, else 0."""
    spare = int(bool((own >= 0).any()))
    most = len(store) - spare
    if not 1 <= k <= most:
        entries = f"{most} entries of the memory"
        entries += " that are not a query's own image" if spare else ""
        raise DataError(f"k: expected 1 to the {entries}, got {k}; take fewer or store more images")
    return spare


def voted(store: Store, found: Neighbours, classes: int) -> Int64[Tensor, " n"]:
    """The class of most neighbours, each counting one.

    Of classes with as many votes the one whose neighbours' similarities (distances with a minus)
    have the greatest sum, which are the nearer ones; where these are equal too, the smallest.
    """
    counts = votes(found, store.labels, classes, None)
    sums = torch.zeros_like(counts).scatter_add_(1, store.labels[found.ids], found.similarities)
    most = counts == counts.amax(1, keepdim=True)
    return sums.masked_fill(~most, float("-inf")).argmax(1)


def sampled(
    store: Store, own: Int64[Tensor, " n"], k: int, generator: torch.Generator
) -> Int64[Tensor, "n k"]:
    """k different entries for each image, drawn for itself, its own image left out.

    Every call draws anew: the generator moves on by n times m numbers.

    Raises:
        DataError: as `nearest`.
    """
    _refuse(store, own, k)
    m = len(store)
    found = []
    for part in own.cpu().split(max(1, TILE // m)):
        chance = torch.rand(len(part), m, generator=generator)
        stored = (part >= 0).nonzero()[:, 0]
        chance[stored, part[stored]] = -1
        found.append(chance.topk(k, 1).indices)
    return torch.cat(found).to(own.device) if found else own.new_empty(0, k)


def entry_zero(count: int, k: int, device: torch.device | None = None) -> Int64[Tensor, "n k"]:
    """k times entry 0 for each image: the published fault of the sampled variant.

    There entries are drawn from an axis of length 1, so every draw is 0.
    """
    return torch.zeros(count, k, dtype=torch.int64, device=device)


def kept(
    store: Store,
    queries: Float[Tensor, "n d"],
    own: Int64[Tensor, " n"],
    k: int,
    folder: Path,
) -> Int64[Tensor, "n k"]:
    """The ids of `nearest`, looked for once and then read from a file.

    The file is named after the content of queries, features and own entries, so neither other
    weights nor other images ever see it; memories that differ in their contents alone share it.

    Args:
        folder: where the files are; anything in it may be deleted at any time.
    Raises:
        DataError: as `nearest`.
        KitError: the disk is full.
    """
    _refuse(store, own, k)
    path = folder / f"{_key(store, queries, own, k)}.safetensors"
    ids = _read(path)
    if ids is None:
        ids = nearest(store, queries, own, k).ids.cpu()
        write_bytes(path, save({"ids": ids}, {"sha256": _sum(ids)}))
    return ids.to(queries.device)


def _key(store: Store, queries: Float[Tensor, "n d"], own: Int64[Tensor, " n"], k: int) -> str:
    # the last bits of a distance differ between versions and devices, and with them near equals
    about = (FORMAT, k, torch.__version__, queries.device.type)
    state = hashlib.sha256(repr(about).encode())
    for x in (store.features, queries, own):
        state.update(repr((str(x.dtype), tuple(x.shape))).encode() + _bytes(x))
    return state.hexdigest()[:DIGEST_LETTERS]


def _bytes(x: Tensor) -> bytes:
    return x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _sum(ids: Int64[Tensor, "n k"]) -> str:
    return hashlib.sha256(_bytes(ids)).hexdigest()


def _read(path: Path) -> Int64[Tensor, "n k"] | None:
    """What was kept; None where nothing was, or where it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            ids = file.get_tensor("ids")
            return ids if file.metadata() == {"sha256": _sum(ids)} else None
    except (OSError, SafetensorError):
        return None
