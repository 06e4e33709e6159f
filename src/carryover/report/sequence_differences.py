"""Differences of the sequence study: a measure of one run minus that of another."""

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

import numpy as np
from scipy import special

from carryover.measure.combined import student
from carryover.measure.statistics import Interval
from carryover.report.sequence_intervals import (
    OF_TRAINING,
    Terms,
    image_numbers,
    over_images,
    step_of,
    terms,
    total,
)
from carryover.report.sequence_scores import Run, Scores, seeds, untrained

FARTHEST = 9.0  # deviations; p is 2e-19 there
HALVINGS = 40


class Difference(NamedTuple):
    """A measure of one run minus that of another, on the same test images.

    Attributes:
        seeds: interval over seeds, paired; None with one seed.
        images: interval over test images, as if the two were tested on different ones.
        p: of the paired t test; with one seed of the images' interval.
    """

    value: float
    seeds: Interval | None
    images: Interval
    p: float


def difference(scores: Scores, run: Run, other: Run, name: str) -> Difference | None:
    """None where either lacks the measure, or they share no seed or test images."""
    if name in OF_TRAINING and (untrained(scores, run) or untrained(scores, other)):
        return None
    apart: list[Terms] = []
    for seed in _shared(scores, run, other):
        mine, theirs = (
            terms(scores, each, seeds(scores, each)[0] if untrained(scores, each) else seed, name)
            for each in (run, other)
        )
        if not mine or _tested(mine) != _tested(theirs):
            return None
        apart.append([*mine, *((outcome, -weight) for outcome, weight in theirs)])
    if not apart or any(outcome.n < 1 for each in apart for outcome, _ in each):
        return None
    flat = [(outcome, weight / len(apart)) for each in apart for outcome, weight in each]
    values = [total(each) for each in apart]
    if len(apart) > 1:
        over, p = student(values, step=step_of(apart[0]))
        return Difference(fmean(values), over, over_images(flat), p)
    return Difference(values[0], None, over_images(flat), images_p(flat))


def _shared(scores: Scores, run: Run, other: Run) -> list[int]:
    """Seeds of both; what never trains has any."""
    trained = [each for each in (run, other) if not untrained(scores, each)]
    found = [set(seeds(scores, each)) for each in trained] or [{seeds(scores, run)[0]}]
    return sorted(set.intersection(*found))


def _tested(every: Terms) -> set[tuple[str, int]]:
    return {(outcome.images, outcome.n) for outcome, _ in every}


def images_p(every: Terms) -> float:
    """Chance of a sum at least as far from 0: where `over_images` just reaches it.

    As `combined.combination_p`, in arrays: matrices of many sets have hundreds of cells.
    """
    n = np.array([outcome.n for outcome, _ in every])
    p = np.round([outcome.value * outcome.n for outcome, _ in every]) / n
    w = np.array([weight for _, weight in every])
    groups = 2 * np.array(image_numbers(every)) + (w > 0)  # of one sign on the same images
    value = float(w @ p)

    def reach(z: float) -> float:
        """How far the bound on the side of 0 lies from the value, squared."""
        scale = 1 + z * z / n
        middle = (p + z * z / (2 * n)) / scale
        half = z * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2) / scale
        towards = middle - np.sign(value * w) * half  # the bound that brings the sum nearer to 0
        return float(np.sum(np.bincount(groups, np.abs(w * (towards - p))) ** 2))

    low, high = 0.0, FARTHEST
    for _ in range(HALVINGS):
        z = (low + high) / 2
        low, high = (z, high) if reach(z) < value**2 else (low, z)
    return float(2 * special.ndtr(-high)) if value else 1.0
