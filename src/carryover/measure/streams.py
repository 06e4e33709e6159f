"""Measures of a stream of tasks, from its accuracy matrix, or from a batch of them.

``matrix[..., i, j]`` is the accuracy on task j after i tasks; row 0 is before any training and
counts in none but `forward_transfer`. Source: Zheng et al. 2023 (ZSCL), section 4.1, for Transfer,
Average and Last; Lopez-Paz and Ranzato 2017 and Chaudhry et al. 2018 for the others.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Matrix = Float[np.ndarray, "*batch rows t"]  # t + 1 rows
Means = Float[np.ndarray, "*batch"]


def transfer(matrix: Matrix) -> Means:
    """Mean, over the tasks after the first, of a task's mean accuracy before it is trained."""
    t = matrix.shape[-1]
    before = [matrix[..., 1 : j + 1, j].mean(axis=-1) for j in range(1, t)]
    return np.asarray(np.mean(before, axis=0))


def average(matrix: Matrix) -> Means:
    """Mean over all tasks and all times after the first task."""
    return np.asarray(matrix[..., 1:, :].mean(axis=(-2, -1)))


def last(matrix: Matrix) -> Means:
    """Mean over all tasks after the last."""
    return np.asarray(matrix[..., -1, :].mean(axis=-1))


def learned(matrix: Matrix) -> Means:
    """Mean accuracy on each task right after it was trained."""
    return np.asarray(_right_after(matrix).mean(axis=-1))


def forgetting(matrix: Matrix) -> Means:
    """Mean, over the tasks before the last, of the best since trained (not the end) minus the end.

    Negative where the end is best.
    """
    t = matrix.shape[-1]
    lost = [matrix[..., j + 1 : t, j].max(axis=-1) - matrix[..., t, j] for j in range(t - 1)]
    return np.asarray(np.mean(lost, axis=0))


def backward_transfer(matrix: Matrix) -> Means:
    """Mean, over the tasks before the last, of the end minus right after training."""
    return np.asarray(changes(matrix)[..., :-1].mean(axis=-1))


def backward_transfer_with_last(matrix: Matrix) -> Means:
    """As `backward_transfer`, over all t tasks: (t - 1) / t of it, since the last adds a 0.

    Source: the bars of ``JuicedCooky/thesis``, which print it as the average.
    """
    return np.asarray(changes(matrix).mean(axis=-1))


def changes(matrix: Matrix) -> Float[np.ndarray, "*batch t"]:
    """The end minus right after training, by task; of the last task 0."""
    return np.asarray(matrix[..., -1, :] - _right_after(matrix))


def forward_transfer(matrix: Matrix) -> Means:
    """Mean, over the tasks after the first, of right before training minus before any training.

    The one measure that takes row 0.
    """
    t = matrix.shape[-1]
    gained = [matrix[..., j, j] - matrix[..., 0, j] for j in range(1, t)]
    return np.asarray(np.mean(gained, axis=0))


def _right_after(matrix: Matrix) -> Float[np.ndarray, "*batch t"]:
    return np.asarray(np.diagonal(matrix[..., 1:, :], axis1=-2, axis2=-1))
