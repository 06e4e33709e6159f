"""What a curve of accuracy over training steps says: how soon, how much in all, how it was told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool
from torch import Tensor

from carryover.errors import DataError

PUBLISHED_IMAGES = 768  # test images of one published evaluation: three batches of 256


@dataclass(frozen=True)
class Reached:
    """When a curve got to a threshold.

    Attributes:
        step: the first evaluated step at or above it; the last step where there is none.
        reached: False where there is none: the true number is larger than `step`.
    """

    step: int
    reached: bool


def steps_to(steps: Sequence[int], accuracies: Sequence[float], threshold: float) -> Reached:
    """The first evaluated step whose accuracy is at least a threshold.

    Nothing is interpolated, so the number is at most one distance between evaluations too large.

    Raises:
        DataError: no evaluation, other numbers of steps and values, or steps that do not grow.
    """
    _refuse(steps, len(accuracies), 1)
    for step, accuracy in zip(steps, accuracies, strict=True):
        if accuracy >= threshold:
            return Reached(step, True)
    return Reached(steps[-1], False)


def area(steps: Sequence[int], accuracies: Sequence[float]) -> float:
    """Mean height of the curve between its first and last step (trapezoids), 0..1.

    Raises:
        DataError: as `steps_to`, or fewer than two evaluations.
    """
    _refuse(steps, len(accuracies), 2)
    pairs = pairwise(zip(steps, accuracies, strict=True))
    return math.fsum((t - s) * (a + b) / 2 for (s, a), (t, b) in pairs) / (steps[-1] - steps[0])


def _refuse(steps: Sequence[int], values: int, least: int) -> None:
    grows = all(a < b for a, b in pairwise(steps))
    if len(steps) < least or len(steps) != values or not grows:
        raise DataError(
            f"curve: expected {least} or more growing steps with a value each, got {len(steps)} "
            f"steps{'' if grows else ' that do not grow'} and {values} values; evaluate at more "
            "steps, each once"
        )


def running_maximum(
    right: Bool[Tensor, "e n"],
    steps: Sequence[int],
    steps_per_epoch: int,
    generator: torch.Generator,
    images: int = PUBLISHED_IMAGES,
) -> list[float]:
    """The published measure: the best of the evaluations since the epoch began.

    Each evaluation counts random test images only, other ones every time. Largest of many
    uncertain numbers, it lies above the accuracy, and falls back where an epoch begins.

    Args:
        right: whether each test image was right at each evaluation.
        steps: updates made before each evaluation. The published code evaluates before an update,
            so that step ``steps_per_epoch`` is the first of the second epoch.
        images: drawn for each evaluation without repeats; all of them where there are fewer.
    Raises:
        DataError: as `steps_to`.
    Source: ``max_acc`` of ``alexchandler100/MAT_180`` at b60fed3.
    """
    _refuse(steps, len(right), 1)
    count = min(images, right.shape[1])
    best: list[float] = []
    epoch = -1
    for step, row in zip(steps, right, strict=True):
        drawn = torch.randperm(right.shape[1], generator=generator)[:count]
        accuracy = float(row[drawn.to(row.device)].double().mean())
        began = step // steps_per_epoch > epoch
        epoch = step // steps_per_epoch
        best.append(accuracy if began else max(best[-1], accuracy))
    return best
