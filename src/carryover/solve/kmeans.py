"""K-means of many problems at once: channels of all layers, subsets and repeats together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover.errors import DataError
from carryover.measure.kmeans import kmeans, principal, refuse

AT_ONCE = 1 << 18  # products of images and centres a step: about 1 MB, which stays in the cache


def kmeans_each(
    problems: Sequence[Float[Tensor, "_ _ _"]],
    clusters: int,
    restarts: int,
    seed: int,
) -> list[Int64[Tensor, "_ _"]]:
    """The clusters of every channel of every problem, as ``measure.kmeans.kmeans`` gives them.

    Features are first turned into their principal axes where these are fewer than half as many,
    which keeps all distances; problems of one shape then go through the same products of matrices.

    Args:
        problems: channels by images by features; any shapes. Each channel is for itself.
        restarts, seed: as ``n_init`` and ``random_state`` of scikit-learn, whose draws these are.
    Raises:
        DataError: problems on different devices or of different types, or as `kmeans`.
    """
    if len({(x.device, x.dtype) for x in problems}) > 1:
        raise DataError(
            "k-means: expected problems of one device and type, got several; move them first"
        )
    for x in problems:
        refuse(x, clusters, restarts)
    found: list[Tensor] = [torch.empty(0)] * len(problems)
    small = [principal(x, 0) for x in problems]
    shapes: dict[torch.Size, list[int]] = {}
    for i, x in enumerate(small):
        shapes.setdefault(x.shape[1:], []).append(i)
    for (n, _), places in shapes.items():
        together = torch.cat([small[i] for i in places])
        size = max(1, AT_ONCE // (n * clusters * restarts))
        labels = torch.cat([kmeans(x, clusters, restarts, seed) for x in together.split(size)])
        counts = [len(small[i]) for i in places]
        for i, part in zip(places, labels.split(counts), strict=True):
            found[i] = part
    return found
