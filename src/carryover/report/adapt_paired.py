"""Differences of the adaptation study paired by test image: from every prediction made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from carryover.errors import DataError
from carryover.measure.crossed import crossed
from carryover.measure.statistics import Interval

FILE = "predictions.parquet"


class Place(NamedTuple):
    """One test of one network on one set; `head` is ``trained`` or ``text``.

    Before any training (``zero-shot``) the partition is 1 and the seed 0.
    """

    method: str
    partition: float
    seed: int
    dataset: str
    head: str


Right = Mapping[Place, Bool[np.ndarray, " _"]]  # by test image
Terms = Sequence[tuple[Place, float]]  # tests and what each counts


def read(paths: Iterable[Path]) -> Right:
    """Which images each test had right; none from files that are not there.

    Raises:
        DataError: a test's images are not in the order of their set.
    """
    import pyarrow.parquet as pq

    found: dict[Place, Bool[np.ndarray, " _"]] = {}
    for path in paths:
        if not path.exists():
            continue
        table = pq.read_table(path)
        rows = table["row"].to_numpy()
        right = table["label"].to_numpy() == table["prediction"].to_numpy()
        begins = np.flatnonzero(rows == 0)
        places = table.select(Place._fields).take(begins).to_pylist()
        for place, begin, end in zip(places, begins, [*begins[1:], len(rows)], strict=True):
            if not np.array_equal(rows[begin:end], np.arange(end - begin)):
                raise DataError(
                    f"{path}: expected the predictions of {place} in the order of the set's "
                    "images, got another; run `dvc repro adapt`"
                )
            found[Place(**place)] = right[begin:end]
    return found


def difference(right: Right, seeds: Sequence[Terms], step: float) -> tuple[Interval, float] | None:
    """A weighted sum of accuracies, its interval for other seeds and images, and its p.

    Args:
        seeds: the terms of each seed, on the same sets with the same weights.
        step: what a seed's sum is rounded to (`measure.crossed`).
    Returns:
        None where a prediction is not at hand.
    """
    if any(place not in right for terms in seeds for place, _ in terms):
        return None
    sets = list(dict.fromkeys(place.dataset for place, _ in seeds[0]))
    tables = [
        np.stack([_added(right, [t for t in terms if t[0].dataset == name]) for terms in seeds])
        for name in sets
    ]
    return crossed(tables, [_most(seeds[0], name) for name in sets], step)


def _added(right: Right, terms: Terms) -> Float[np.ndarray, " n"]:
    return np.sum([weight * right[place] for place, weight in terms], axis=0)


def _most(terms: Terms, name: str) -> float:
    """How far from 0 one image can be."""
    weights = [weight for place, weight in terms if place.dataset == name]
    return max(math.fsum(w for w in weights if w > 0), -math.fsum(w for w in weights if w < 0))
