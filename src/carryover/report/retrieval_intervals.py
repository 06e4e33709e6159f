"""Intervals of the retrieval study: over test images and seeds, or over seeds alone.

Those of differences are over both where every prediction is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from carryover.measure.combined import student
from carryover.measure.crossed import crossed
from carryover.measure.statistics import Interval
from carryover.report.adapt_intervals import Outcome, mean_accuracy, mean_difference, over_seeds
from carryover.report.retrieval_scores import CLEAN, Arm, At, BySeed, Scores, number, numbers

STEPS, REACHED = "steps_to_080", "reached_080"
NEVER_BELOW = ("ece", "nll", "curve_loss")  # 0
Pair = tuple[Sequence[Outcome], Sequence[Outcome]]


class Reach(NamedTuple):
    """Steps until the test accuracy first was 0.8.

    Attributes:
        interval: geometric mean over seeds, Student's interval of the logarithms; where some never
            were there they count with their last step, which makes it a lower bound, without an
            interval (both ends are the value).
        reached, of: seeds that were there, of so many.
        each: steps of each seed and whether it was there.
    """

    interval: Interval
    reached: int
    of: int
    each: tuple[tuple[float, bool], ...]

    @property
    def censored(self) -> int:
        """Seeds that were never there, of which the last step is known and no more."""
        return self.of - self.reached

    @property
    def bound(self) -> bool:
        """Whether the mean is a lower bound."""
        return self.reached < self.of


def accuracy(scores: Scores, arm: Arm, at: At = CLEAN, metric: str = "accuracy") -> Interval | None:
    """A share of the test images, mean over seeds, with its 95 % interval.

    Without bounds (both the mean) where it is not known how many images they are.
    """
    found = number(scores, arm, metric, at)
    if any(each.n < 1 for each in found.values()):
        return over_seeds([each.value for each in found.values()])
    return mean_accuracy([[each] for each in outcomes(found, arm)]) if found else None


def outcomes(found: BySeed, arm: Arm) -> list[Outcome]:
    """Accuracies by seed, over the same images."""
    return [Outcome(each.value, each.n, arm.dataset) for each in found.values()]


def corrupted(scores: Scores, arm: Arm, severity: int | None = None) -> Interval | None:
    """Mean accuracy over corruptions, of one severity or all; over the same images."""
    found = _corrupted(scores, arm, severity)
    return mean_accuracy(list(found.values())) if found else None


def _corrupted(scores: Scores, arm: Arm, severity: int | None) -> dict[int, list[Outcome]]:
    """By seed, of those seeds that have all of them."""
    every = [
        found
        for at, found in numbers(scores, arm, "corrupted_accuracy").items()
        if severity in (None, at.severity)
    ]
    shared = sorted(set.intersection(*(set(found) for found in every))) if every else []
    return {seed: [Outcome(*found[seed], arm.dataset) for found in every] for seed in shared}


def mean(scores: Scores, arm: Arm, metric: str, at: At = CLEAN) -> Interval | None:
    """A number that is no share of images, over seeds alone; no bounds with one seed."""
    found = number(scores, arm, metric, at)
    return alone(metric, [each.value for each in found.values()]) if found else None


def alone(metric: str, values: Sequence[float]) -> Interval:
    """Mean over seeds with Student's interval, of a loss or calibration error on the logarithm.

    m exp(-h / m) .. m exp(h / m), h being half of Student's interval: a number that is never below
    0 has no bound there either, and near to its mean both intervals are the same.
    """
    told = over_seeds(values)
    if metric not in NEVER_BELOW or told.low == told.high or told.value <= 0:
        return told
    reach = math.exp((told.high - told.value) / told.value)
    return Interval(told.value, told.value / reach, told.value * reach)


def steps(scores: Scores, arm: Arm, at: At = CLEAN) -> Reach | None:
    """Steps to an accuracy of 0.8; a seed without a flag is taken to have been there."""
    found, flags = number(scores, arm, STEPS, at), number(scores, arm, REACHED, at)
    if not found:
        return None
    each = tuple(
        (value.value, seed not in flags or flags[seed].value > 0) for seed, value in found.items()
    )
    there = sum(reached for _, reached in each)
    told = over_seeds([math.log(max(value, 1)) for value, _ in each])
    value, low, high = (math.exp(part) for part in (told.value, told.low, told.high))
    whole = Interval(value, low, high) if there == len(each) else Interval(value, value, value)
    return Reach(whole, there, len(each), each)


# --- differences ----------------------------------------------------------------------------------


class Difference(NamedTuple):
    """A number of one arm minus that of another, paired by seed.

    Attributes:
        by_image: paired by test image too, and for other test images as well as other seeds.
    """

    interval: Interval
    p: float
    seeds: int
    by_image: bool = False


def difference(
    scores: Scores, arm: Arm, other: Arm, metric: str = "accuracy", at: At = CLEAN
) -> Difference | None:
    """One arm minus another on the same test images; None where they share no seed.

    Accuracies, and areas under their curve, have an interval for other seeds and other test images
    where the predictions of both are at hand (`measure.crossed`). Otherwise that of accuracies is
    `mean_difference`'s; that of other numbers is Student's, which needs two seeds.
    """
    mine, theirs = number(scores, arm, metric, at), number(scores, other, metric, at)
    shared = sorted(set(mine) & set(theirs))
    if not shared or any(mine[seed].n != theirs[seed].n for seed in shared):
        return None
    terms = [
        (each, place, sign * weight)
        for each, sign in ((arm, 1), (other, -1))
        for place, weight in _made_of(scores, each, metric, at).items()
    ]
    found = _by_image(scores, terms, shared)
    if found or "accuracy" in metric:
        return found or _apart(mine, theirs, arm)
    if len(shared) < 2:
        return None
    told, p = student([mine[seed].value - theirs[seed].value for seed in shared])
    return Difference(told, p, len(shared))


def noise_cost(scores: Scores, arm: Arm, noise: float) -> Difference | None:
    """Accuracy without noise minus that with it, paired as `difference`."""
    clean, noisy = number(scores, arm, "accuracy"), number(scores, arm, "accuracy", At(noise))
    terms = [(arm, CLEAN, 1.0), (arm, At(noise), -1.0)]
    found = _by_image(scores, terms, sorted(set(clean) & set(noisy)))
    return found or _apart(clean, noisy, arm)


def _made_of(scores: Scores, arm: Arm, metric: str, at: At) -> Mapping[At, float]:
    """Tests whose accuracies add up to a number, with what each counts; {} where none do."""
    if "accuracy" in metric:
        return {at: 1.0}
    curve = [each for each in numbers(scores, arm, "curve_accuracy") if each.noise == at.noise]
    steps = [each.step for each in curve if each.step is not None]
    if metric != "area" or len(steps) < 2:
        return {}
    gaps = np.diff(steps) / (steps[-1] - steps[0])  # trapezoids, as `measure.curves.area` has them
    weights = (np.append(gaps, 0) + np.insert(gaps, 0, 0)) / 2
    return dict(zip(curve, weights.tolist(), strict=True))


def _by_image(
    scores: Scores, terms: Sequence[tuple[Arm, At, float]], seeds: Sequence[int]
) -> Difference | None:
    """A weighted sum of accuracies, by seed and image; None where a prediction is not at hand."""
    known = all((arm, at, seed) in scores.right for arm, at, _ in terms for seed in seeds)
    if not (known and terms and seeds):
        return None
    table = np.stack(
        [
            np.sum([weight * scores.right[arm, at, seed] for arm, at, weight in terms], axis=0)
            for seed in seeds
        ]
    )
    weights = [weight for *_, weight in terms]
    most = max(math.fsum(w for w in weights if w > 0), -math.fsum(w for w in weights if w < 0))
    step = math.hypot(*weights) / math.sqrt(2) / table.shape[1]
    return Difference(*crossed([table], [most], step), len(seeds), by_image=True)


def _apart(mine: BySeed, theirs: BySeed, arm: Arm) -> Difference | None:
    """Accuracies minus others, paired by seed alone; None where they share no seed."""
    shared = sorted(set(mine) & set(theirs))
    pairs: list[Pair] = [
        ([Outcome(*mine[seed], arm.dataset)], [Outcome(*theirs[seed], arm.dataset)])
        for seed in shared
    ]
    return Difference(*mean_difference(pairs), len(shared)) if shared else None


def differences_over(found: Iterable[Difference | None]) -> str:
    """What intervals of some differences are over, in words."""
    said = {
        (True, True): "over seeds and test images, paired by both",
        (True, False): "over test images, paired by image",
        (False, True): "over seeds, paired, on the same test images",
        (False, False): "over test images, as if the two were tested on different ones, which is "
        "too wide",
    }
    kinds = {(each.by_image, each.seeds > 1) for each in found if each}
    return " or ".join(said[kind] for kind in said if kind in kinds) or "nothing"
