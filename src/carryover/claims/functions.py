"""Functions that a claim's quantity may use: over an axis, or of an accuracy matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from carryover.claims.runs import NotRun
from carryover.measure import streams

Key = frozenset[tuple[str, Any]]  # axes that are open, and their values
Values = NDArray[np.float64]  # [b], one for each of b cases that are worked out together
Field = dict[Key, Values]


def as_matrix(found: Field, constant: bool) -> streams.Matrix:
    """Accuracy matrices ``[b, t+1, t]``.

    Args:
        constant: the model is never trained, so row 0 stands for all.
    Raises:
        NotRun: cells of it, or a second task.
    """
    cells = {(dict(key)["after"], dict(key)["task"]): values for key, values in found.items()}
    t = max(task for _, task in cells)
    matrix = np.full((t + 1, t, max(map(len, cells.values()))), np.nan)
    for (after, task), values in cells.items():
        if after > t:
            raise NotRun(f"a test of each of {after} tasks")
        matrix[after, task - 1] = values
    if constant:
        matrix[1:] = matrix[0]
    if t < 2 or np.isnan(matrix[1:]).any():
        lacking = int(np.isnan(matrix[1:, :, 0]).sum())
        raise NotRun(f"{lacking} cells of an accuracy matrix" if t > 1 else "a second task")
    return np.moveaxis(matrix, -1, 0)


def _correlation(places: np.ndarray, values: np.ndarray) -> Values:
    """Spearman's; 0 where all values are equal, or fewer than three."""
    if len(places) < 3:
        return np.zeros(values.shape[1])
    ranks = stats.rankdata(values, axis=0)
    centred = ranks - ranks.mean(axis=0)
    order = stats.rankdata(places) - (len(places) + 1) / 2
    size = np.sqrt((centred**2).sum(axis=0) * (order**2).sum())
    return np.asarray(order @ centred / np.where(size == 0, 1, size))


ANY, SHARE = (-math.inf, math.inf), (0.0, 1.0)
OverAxis = Callable[[np.ndarray, np.ndarray], Values]  # places [k] and values [k, b]


@dataclass(frozen=True)
class Function:
    """A function of a quantity: over an axis, or of an accuracy matrix.

    Attributes:
        ends: least and greatest value that it can have; None: those of what it takes.
        of_one: it means something where rows have one value of the axis.
    """

    linear: bool
    over: OverAxis | None = None
    matrix: Callable[[streams.Matrix], Values] | None = None
    ends: tuple[float, float] | None = None
    of_one: bool = False


FUNCTIONS = {
    "mean": Function(True, lambda _, values: np.asarray(values.mean(axis=0)), of_one=True),
    "best": Function(False, lambda _, values: np.asarray(values.max(axis=0))),
    "worst": Function(False, lambda _, values: np.asarray(values.min(axis=0))),
    "peak": Function(
        False, lambda places, values: places[values.argmax(axis=0)].astype(float), ends=ANY
    ),
    "correlation": Function(False, _correlation, ends=(-1, 1)),
    "transfer": Function(True, matrix=streams.transfer, ends=SHARE),
    "average": Function(True, matrix=streams.average, ends=SHARE),
    "last": Function(True, matrix=streams.last, ends=SHARE),
    "learned": Function(True, matrix=streams.learned, ends=SHARE),
    "forgetting": Function(False, matrix=streams.forgetting, ends=(-1, 1)),
    "backward": Function(True, matrix=streams.backward_transfer, ends=(-1, 1)),
}
MATRICES = tuple(name for name, function in FUNCTIONS.items() if function.matrix)
OVER = tuple(name for name in FUNCTIONS if name not in MATRICES)
