"""Replay memory of iCaRL: which training rows of each earlier data set are kept.

A memory holds row numbers, no images: of each data set the rows in the order they were picked, so
that the first few are the best few.

Source: Rebuffi et al. 2017, algorithms 3 to 5, for data sets in place of classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor

from carryover.errors import ConfigError

PUBLISHED_CANDIDATES = 30_000  # rows of a set that the published herding looks at, the first ones

Memory = dict[str, Int64[Tensor, " _"]]


def remembered(
    memory: Mapping[str, Int64[Tensor, " _"]],
    name: str,
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    capacity: int,
    *,
    published: bool = False,
) -> Memory:
    """The memory after one more data set, of ``capacity // t`` rows for each of its t sets.

    Earlier sets keep the first of their rows, the new one gets rows by `herded`. What a set
    smaller than its share leaves free stays free.

    Args:
        memory: the earlier sets; stays as it is.
        name: the new set.
        embeddings, labels: of its training images, without augmentation.
        capacity: rows of all sets together (published: 10,000).
        published: the published counts and picks. From the second set on the newest gets
            ``capacity - capacity // t`` rows, so that the memory holds about 2 (t - 1) / t times
            its capacity; the first set keeps its first rows, which of a sorted set are its first
            classes; the others are herded with all classes together and the mean not brought to
            unit length.
    Raises:
        ConfigError: the set is there already, or a set's share would be less than one row.
    """
    sets = len(memory) + 1
    share = capacity // sets
    if name in memory:
        raise ConfigError(
            f"replay: expected a data set that is not in memory yet, got {name} again; give every "
            "task its own set"
        )
    if share < 1:
        raise ConfigError(
            f"memory_size: expected at least a row for each of {sets} data sets, got {capacity}; "
            "raise it"
        )
    kept = {old: rows[:share].clone() for old, rows in memory.items()}
    if not published:
        return kept | {name: herded(embeddings, labels, share)}
    if not memory:
        return {name: torch.arange(min(capacity, len(embeddings)))}
    candidates = F.normalize(embeddings[:PUBLISHED_CANDIDATES], dim=1)
    return kept | {name: herding(candidates, capacity - share, unit_mean=False)}


def herded(
    embeddings: Float[Tensor, "n d"], labels: Int[Tensor, " n"], count: int
) -> Int64[Tensor, " m"]:
    """Rows of a data set by herding in each class: the first pick of every class, then the second.

    Returns:
        Row numbers without repeats, `count` or as many as there are; the first so many of them
        hold each class as often as any other, as long as it has rows.
    """
    z = F.normalize(embeddings, dim=1)
    classes = labels.unique()
    each = -(-count // max(len(classes), 1))
    while True:  # a class that runs out of rows leaves more to the others
        picks = [_picks(z, (labels == c).nonzero().squeeze(1), each) for c in classes]
        if sum(map(len, picks)) >= min(count, len(z)):
            break
        each *= 2
    ranks = torch.cat([torch.arange(len(rows)) for rows in picks])
    return torch.cat(picks)[ranks.argsort(stable=True)][:count]


def _picks(z: Tensor, rows: Tensor, count: int) -> Tensor:
    return rows.cpu()[herding(z[rows], count)]


def herding(z: Float[Tensor, "n d"], count: int, *, unit_mean: bool = True) -> Int64[Tensor, " m"]:
    """Rows whose running mean stays closest to the mean of all, picked one by one.

    The k-th pick is the row x, not picked yet, with the least ``|mu - (p_1 + ... + x) / k|``. With
    `unit_mean` (the paper) both means are brought to unit length first, without (the published
    code) they are not. Time grows with rows times picks.

    Args:
        z: of unit length.
    Returns:
        Row numbers in the order of the picks, `count` or all.
    """
    z = z.double()
    mean = z.mean(dim=0)
    near = z @ mean  # mu' x
    total, overlap = torch.zeros_like(mean), torch.zeros_like(near)  # S = p_1 + ...; S' x
    picks: list[int] = []
    for k in range(1, min(count, len(z)) + 1):
        if unit_mean:  # the greatest cosine of mu and S + x
            length = (total @ total + 2 * overlap + 1).clamp_min(1e-12).sqrt()
            score = (total @ mean + near) / length
        else:  # |k mu - S - x|^2 less what is the same for all x, halved
            score = k * near - overlap
        score[picks] = -torch.inf
        picks.append(int(score.argmax()))
        total = total + z[picks[-1]]
        overlap = overlap + z @ z[picks[-1]]
    return torch.tensor(picks, dtype=torch.int64)
