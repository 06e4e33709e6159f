"""Choosing a cut from noisy repeats: how sure the choice is, and what it is worth.

A table holds one line a cut and one column a repeat.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from carryover.errors import DataError

Table = Float[np.ndarray, "cuts repeats"]


def best(table: Table) -> int:
    """Line with the highest mean; the first of equals."""
    return int(table.mean(axis=1).argmax())


def bootstrap(
    table: Float[np.ndarray, "cuts repeats"], draws: int, generator: np.random.Generator
) -> Float[np.ndarray, "draws cuts repeats"]:
    """Tables of as many repeats drawn with replacement, the same for all cuts of a draw."""
    repeats = table.shape[1]
    columns = generator.integers(repeats, size=(draws, repeats))
    return np.moveaxis(table[:, columns], 1, 0)


def leave_one_out(
    table: Float[np.ndarray, "cuts repeats"], by: Float[np.ndarray, "cuts repeats"]
) -> Float[np.ndarray, " repeats"]:
    """Accuracy of the cut that the other repeats choose, for each repeat.

    The highest of several noisy means is too high on the repeats that chose it (winner's curse);
    a repeat that had no say is not. Its mean is at most that of the best line.

    Args:
        by: what to choose by; `table` itself, or the same cells on other images.
    Raises:
        DataError: fewer than two repeats.
    """
    repeats = table.shape[1]
    if repeats < 2:
        raise DataError(f"expected two repeats or more, got {repeats}; run more")
    others = (by.sum(axis=1, keepdims=True) - by) / (repeats - 1)
    return table[others.argmax(axis=0), np.arange(repeats)]


def rank_correlations(
    x: Float[np.ndarray, "draws n"], y: Float[np.ndarray, "draws n"]
) -> Float[np.ndarray, " draws"]:
    """Spearman's rank correlation of each line of x with that of y; 0 where one is constant."""
    a, b = (stats.rankdata(values, axis=1) for values in (x, y))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.zeros(len(a)), where=scale > 0)


def shares(chosen: Int[np.ndarray, " draws"], cuts: list[int]) -> dict[int, float]:
    """How often each cut was chosen, the most frequent first; below half a per cent left out."""
    counts = np.bincount(chosen, minlength=len(cuts)) / len(chosen)
    found = {cut: float(count) for cut, count in zip(cuts, counts, strict=True) if count >= 0.005}
    return dict(sorted(found.items(), key=lambda item: -item[1]))
