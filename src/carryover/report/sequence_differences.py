"""Differences of the sequence study: a measure of one run minus that of another."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy import special

from carryover.errors import DataError
from carryover.measure.combined import student
from carryover.measure.crossed import crossed
from carryover.measure.statistics import Interval
from carryover.report import sequence_paired
from carryover.report.sequence_intervals import (
    OF_TRAINING,
    Terms,
    image_numbers,
    over_images,
    step_of,
    terms,
    total,
    weights,
)
from carryover.report.sequence_scores import (
    Run,
    Scores,
    matrix,
    seedless,
    seeds,
    untrained,
)

_Told = list[tuple[Bool[np.ndarray, " _"], str, float]]  # images right, their set, the weight

FARTHEST = 9.0  # deviations; p is 2e-19 there
HALVINGS = 40
HALF = 0.5  # of an image


class Difference(NamedTuple):
    """A measure of one run minus that of another, on the same test images.

    Attributes:
        whole: interval for other seeds, and other test images where it is `paired` by both (else
            for these images); None with one seed.
        images: interval over test images alone.
        paired: by image; else as if the two were tested on different ones.
        p: of `whole`; with one seed of `images`.
    Source: of `whole`, paired by both: `measure.crossed`.
    """

    value: float
    whole: Interval | None
    images: Interval
    paired: bool
    p: float


def difference(scores: Scores, run: Run, other: Run, name: str) -> Difference | None:
    """None where either lacks the measure, or they share no seed or test images."""
    if name in OF_TRAINING and (untrained(scores, run) or untrained(scores, other)):
        return None
    apart: list[Terms] = []
    shared = _shared(scores, run, other)
    for seed in shared:
        mine, theirs = (
            terms(scores, each, _seed(scores, each, seed), name) for each in (run, other)
        )
        if not mine or _tested(mine) != _tested(theirs):
            return None
        apart.append([*mine, *((outcome, -weight) for outcome, weight in theirs)])
    if not apart or any(outcome.n < 1 for each in apart for outcome, _ in each):
        return None
    flat = [(outcome, weight / len(apart)) for each in apart for outcome, weight in each]
    values = [total(each) for each in apart]
    tests = [
        (each, _seed(scores, each, seed), sign / len(shared))
        for seed in shared
        for each, sign in ((run, 1.0), (other, -1.0))
    ]
    known = [_by_image(scores, *test, name) for test in tests]
    paired = all(known)
    if paired:
        images, p = sequence_paired.over_images(
            sequence_paired.added(each for found in known for each in found)
        )
    else:
        images, p = over_images(flat), images_p(flat) if len(apart) == 1 else 1.0
    if len(apart) == 1:
        return Difference(values[0], None, images, paired, p)
    step = step_of(apart[0])
    whole, p = _crossed(known, step) if paired else student(values, step=step)
    return Difference(fmean(values), whole, images, paired, p)


def _crossed(known: Sequence[_Told], step: float) -> tuple[Interval, float]:
    """Over seeds and images; `known` has the tests of one run and the other by turns of seeds."""
    repeats = len(known) // 2
    by_seed = [
        sequence_paired.added([*mine, *theirs])
        for mine, theirs in zip(known[::2], known[1::2], strict=True)
    ]
    names = by_seed[0]
    return crossed(
        [repeats * np.stack([sums[name].values for sums in by_seed]) for name in names],
        [repeats * max(sums[name].most for sums in by_seed) for name in names],
        step,
    )


def _seed(scores: Scores, run: Run, seed: int) -> int:
    return seeds(scores, run)[0] if seedless(scores, run) else seed


def _by_image(scores: Scores, run: Run, seed: int, sign: float, name: str) -> _Told:
    """Which images the tests of a measure had right and what they count; none where not known.

    Raises:
        DataError: the predictions are not those that the accuracies are of.
    """
    found = matrix(scores, run, seed)
    sets = scores.orders[run.order]
    told: _Told = []
    for (after, task), weight in weights(name, found, len(sets)).items():
        time = 0 if untrained(scores, run) else after
        place = sequence_paired.Place(run.order, run.method, seed, time, sets[task - 1])
        if run.rest or place not in scores.right:
            return []
        right, number = scores.right[place], found[after, task]
        if len(right) != number.n or abs(right.sum() - number.value * number.n) > HALF:
            raise DataError(
                f"sequence: expected predictions with an accuracy of {number.value:.4f} on "
                f"{number.n} images ({', '.join(map(str, place))}), got {right.mean():.4f} on "
                f"{len(right)}; run `dvc repro sequence`"
            )
        told.append((right, place.dataset, sign * weight))
    return told


def _shared(scores: Scores, run: Run, other: Run) -> list[int]:
    """Seeds of both; where nothing is drawn it has any."""
    drawn = [each for each in (run, other) if not seedless(scores, each)]
    found = [set(seeds(scores, each)) for each in drawn] or [{seeds(scores, run)[0]}]
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
