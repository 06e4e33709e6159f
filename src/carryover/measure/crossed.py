"""Sums over repeats that are all tested on the same images: both repeats and images are samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from scipy import special

from carryover.errors import DataError
from carryover.measure.statistics import Interval

LEAST_P = 1e-12
HALVINGS = 40  # of the logarithm of p: to a billionth of it


def crossed(
    sets: Sequence[Float[np.ndarray, "repeats _"]],
    most: Sequence[float],
    step: float = 0.0,
    level: float = 0.95,
) -> tuple[Interval, float]:
    """A sum of means over images, with its interval for other repeats and other images.

    Squares of reaches are added: Student's over the repeats' sums, and the normal one over images
    less what neither repeats nor images explain, which is in both; it is not below either alone.
    (One t with estimated degrees of freedom would be narrower, but where few repeats happen to lie
    close together it gives p values that are too small by orders.) Simulated with two, three and
    five repeats it holds the truth in 95 to 99 %, and p lies below a level no oftener than it says.

    Args:
        sets: one table a set of images; what an image adds to the sum in each repeat, weights
            included. Repeats are the same in all sets, images of different sets are independent.
        most: of each set, how far from 0 an image can be, above 0. Half an image more at both ends
            keeps the width above 0 where no image tells anything (`sequence_paired.over_images`).
        step: what the mean of a repeat is rounded to, as in `statistics.paired_difference`.
    Returns:
        The interval, within what can be, and the two-sided p that the sum is 0, from 1e-12 on;
        with one repeat of images alone.
    Raises:
        DataError: no set, other numbers of repeats, fewer than two images, or a `most` of 0.
    Source: of the parts of the variance: Searle, Casella and McCulloch 1992, chapter 4 (two-way
        crossed random model); of reaches: Zou and Donner 2008, Statistics in Medicine 27:1693.
    """
    shapes = sorted({table.shape[0] for table in sets})
    fit = len(shapes) == 1 and len(sets) == len(most) and min(most) > 0
    if not fit or min(table.shape[1] for table in sets) < 2:
        raise DataError(
            "expected tables of the same repeats over two images or more, got "
            f"{[table.shape for table in sets]}; take tests that belong together"
        )
    value = math.fsum(float(table.mean()) for table in sets)
    over, images, rest = _variances(sets, most, step)

    def reach(p: float) -> float:
        z = float(special.ndtri(1 - p / 2)) ** 2
        if shapes[0] == 1:
            return math.sqrt(z * images)
        t = float(special.stdtrit(shapes[0] - 1, 1 - p / 2)) ** 2
        return math.sqrt(max(t * over + z * max(images - rest, 0.0), z * images))

    end, half = math.fsum(most), reach(1 - level)
    return Interval(value, max(value - half, -end), min(value + half, end)), _p(value, reach)


def _variances(
    sets: Sequence[Float[np.ndarray, "repeats _"]], most: Sequence[float], step: float
) -> tuple[float, float, float]:
    """Of the sum: that over repeats, over images, and of what neither explains, in both."""
    images, rest = 0.0, 0.0
    repeats = len(sets[0])
    for table, end in zip(sets, most, strict=True):
        n = table.shape[1]
        by_image = table.mean(0) - table.mean()
        images += (float((by_image**2).sum()) + end**2) / (n * (n + 1))
        if repeats > 1:
            apart = table - table.mean(1, keepdims=True) - by_image
            rest += float((apart**2).sum()) / ((repeats - 1) * (n - 1) * repeats * n)
    if repeats == 1:
        return 0.0, images, 0.0
    values = np.sum([table.mean(1) for table in sets], axis=0)
    return max(float(values.var(ddof=1)), step**2 / 6) / repeats, images, rest


def _p(value: float, reach: Callable[[float], float]) -> float:
    """Where the interval just reaches 0: those of higher levels hold those of lower ones."""
    if abs(value) > reach(LEAST_P):
        return LEAST_P
    low, high = math.log(LEAST_P), 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if reach(math.exp(middle)) > abs(value) else (low, middle)
    return math.exp(high)
