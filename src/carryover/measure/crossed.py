"""Sums over repeats that are all tested on the same images: both repeats and images are samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import special

from carryover.errors import DataError
from carryover.measure.statistics import Interval


def crossed(
    sets: Sequence[Float[np.ndarray, "repeats _"]],
    most: Sequence[float],
    step: float = 0.0,
    level: float = 0.95,
) -> tuple[Interval, float]:
    """A sum of means over images, with its interval for other repeats and other images.

    The variance of the grand mean of a table of repeats and images, both drawn at random and
    without a replication, is that over repeats and that over images less that of what neither
    explains, which is in both; it is not taken below either. Student's t with Satterthwaite's
    degrees of freedom. Simulated with three and five repeats the interval held the truth in 93 to
    99 % (with two, that scatter more than the images, in 88 %), Student's over repeats alone in 49
    to 95 %.

    Args:
        sets: one table a set of images; what an image adds to the sum in each repeat, weights
            included. Repeats are the same in all sets, images of different sets are independent.
        most: of each set, how far from 0 an image can be. Half an image more at both ends keeps the
            width above 0 where no image tells anything (`sequence_paired.over_images`).
        step: what the mean of a repeat is rounded to, as in `statistics.paired_difference`.
    Returns:
        The interval, and the two-sided p that the sum is 0; with one repeat of images alone.
    Raises:
        DataError: no set, other numbers of repeats, or fewer than two images.
    Source: of the variance: Searle, Casella and McCulloch 1992, chapter 4 (two-way crossed random
        model); of the degrees of freedom: Satterthwaite 1946, Biometrics Bulletin 2:110.
    """
    shapes = sorted({table.shape[0] for table in sets})
    if len(shapes) != 1 or len(sets) != len(most) or min(t.shape[1] for t in sets) < 2:
        raise DataError(
            "expected tables of the same repeats over two images or more, got "
            f"{[table.shape for table in sets]}; take tests that belong together"
        )
    repeats = shapes[0]
    sums = math.fsum(float(table.mean()) for table in sets)
    images, rest, freedom = 0.0, 0.0, 0.0
    for table, reach in zip(sets, most, strict=True):
        n = table.shape[1]
        by_image = table.mean(0) - table.mean()
        one = (float((by_image**2).sum()) + reach**2) / (n * (n + 1))
        images += one
        freedom += one**2 / (n - 1)
        if repeats > 1:
            apart = table - table.mean(1, keepdims=True) - by_image
            other = float((apart**2).sum()) / ((repeats - 1) * (n - 1) * repeats * n)
            rest += other
            freedom += other**2 / ((repeats - 1) * (n - 1))
    over = 0.0
    if repeats > 1:
        values = np.sum([table.mean(1) for table in sets], axis=0)
        over = max(float(values.var(ddof=1)), step**2 / 6) / repeats
        freedom += over**2 / (repeats - 1)
    variance = max(over, images, over + images - rest)
    df = variance**2 / freedom
    half = float(special.stdtrit(df, (1 + level) / 2)) * math.sqrt(variance)
    p = float(2 * special.stdtr(df, -abs(sums) / math.sqrt(variance)))
    return Interval(sums, sums - half, sums + half), p
