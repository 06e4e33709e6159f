"""Differences over test images, paired by image: from every prediction that a run has made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from carryover.errors import DataError
from carryover.measure.statistics import Interval

FILE = "predictions.parquet"
Z = float(special.ndtri(0.975))


class Place(NamedTuple):
    """One test on one set."""

    order: str
    method: str
    seed: int
    after: int
    dataset: str


Right = Mapping[Place, Bool[np.ndarray, " _"]]  # by test image


class Sum(NamedTuple):
    """Weighted sums of accuracies, image by image of one set.

    Attributes:
        values: what each image adds; their mean is the sum.
        most: as far from 0 as an image can be.
    """

    values: Float[np.ndarray, " n"]
    most: float


def read(paths: Iterable[Path]) -> Right:
    """Which images were right in tests after whole sets; none from files that are not there."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: dict[Place, Bool[np.ndarray, " _"]] = {}
    wanted = [*Place._fields, "label", "prediction"]
    for path in paths:
        if not path.exists():
            continue
        table = pq.read_table(path, columns=[*wanted, "mix", "step"])
        whole = pc.and_(pc.is_null(table["mix"]), pc.is_null(table["step"]))
        table = table.filter(whole).select(wanted)
        columns = [table[name].to_pylist() for name in Place._fields]
        right = pc.equal(table["label"], table["prediction"]).to_numpy()
        begins = 0
        for i, place in enumerate(zip(*columns, strict=True), start=1):
            if i == len(right) or place != tuple(column[i] for column in columns):
                found[Place(*place)] = right[begins:i]
                begins = i
    return found


def added(every: Iterable[tuple[Bool[np.ndarray, " _"], str, float]]) -> dict[str, Sum]:
    """What each image of each set adds to a weighted sum of accuracies.

    Args:
        every: which images a test had right, the set's name, and what the accuracy counts.
    Raises:
        DataError: tests of one set are over different numbers of images.
    """
    made: dict[str, list[tuple[Bool[np.ndarray, " _"], float]]] = {}
    for right, name, weight in every:
        made.setdefault(name, []).append((right, weight))
    found = {}
    for name, tests in made.items():
        sizes = sorted({len(right) for right, _ in tests})
        if len(sizes) > 1:
            raise DataError(
                f"sequence: expected one number of test images of {name}, got {sizes}; run "
                "`dvc repro sequence`"
            )
        most = max(
            math.fsum(weight for _, weight in tests if weight > 0),
            -math.fsum(weight for _, weight in tests if weight < 0),
        )
        found[name] = Sum(np.sum([weight * right for right, weight in tests], axis=0), most)
    return found


def over_images(sums: Mapping[str, Sum]) -> tuple[Interval, float]:
    """A sum over sets with its 95 % interval for other test images, and the p that it is 0.

    Each set's images are one sample; half an image more at each of the ends that an image could be
    at keeps the width above 0 where no image tells two runs apart.

    Returns:
        The interval, and the two-sided p of a normal sum with that deviation.
    Source: of the half images, for two paired proportions: Agresti and Min 2005, Statistics in
        Medicine 24:729.
    """
    value, variance = 0.0, 0.0
    for values, most in sums.values():
        n, mean = len(values), float(values.mean())
        value += mean
        variance += (float(((values - mean) ** 2).sum()) + most**2) / (n * (n + 1))
    off = math.sqrt(variance)
    p = 2 * float(special.ndtr(-abs(value) / off)) if off else 1.0
    return Interval(value, value - Z * off, value + Z * off), p
