"""Intervals of the adaptation study: over seeds; of accuracies over test images too.

Those of differences are over both where every prediction is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from carryover.measure.combined import combination, combination_p, student
from carryover.measure.statistics import Interval
from carryover.report import adapt_paired
from carryover.report.adapt_paired import Place, Terms
from carryover.report.adapt_scores import ZERO_SHOT, AdaptScores, others

NOWHERE = Interval(math.nan, math.nan, math.nan)  # what a training that diverged does not have
MOST = {"accuracy": 1.0, "ece": 1.0, "diverged": 1.0, "brier": 2.0}  # of numbers that have a bound


class Outcome(NamedTuple):
    """An accuracy, how many images it is over, and which (a set's name)."""

    value: float
    n: int
    images: str


def mean_accuracy(seeds: Sequence[Sequence[Outcome]]) -> Interval:
    """Mean over seeds and sets, with a 95 % interval for other test images and other seeds.

    m - sqrt(i^2 + s^2) .. m + sqrt(i^2 + s^2), within 0..1: i is how far Wilson's bounds reach,
    all seeds being tested on the same images, s is half of Student's interval over the seeds'
    means on these images. With one seed it is the images' interval alone. Rather wide: part of
    what the seeds scatter by comes of the images; simulated, it holds the truth in 97 to 100 %.

    Args:
        seeds: one entry a seed, in it the same sets in the same order.
    Source: squares of reaches added as in Zou and Donner 2008, Statistics in Medicine 27:1693.
    """
    flat = [each for tests in seeds for each in tests]
    names = [each.images for each in flat]
    over_images = combination(
        [(round(each.value * each.n), each.n) for each in flat],
        [1 / len(flat)] * len(flat),
        images=[names.index(name) for name in names],
    )
    value = fmean(each.value for each in flat)
    reach = 0.0
    if len(seeds) > 1:
        over_seeds, _ = student([_mean(tests) for tests in seeds], step=_step(seeds[0]))
        reach = over_seeds.high - over_seeds.value
    below, above = over_images.value - over_images.low, over_images.high - over_images.value
    return Interval(
        value,
        max(0.0, value - math.hypot(below, reach)),
        min(1.0, value + math.hypot(above, reach)),
    )


def mean_difference(
    seeds: Sequence[tuple[Sequence[Outcome], Sequence[Outcome]]],
) -> tuple[Interval, float]:
    """Mean of a - b with a 95 % interval and p, both tested on the same images.

    Student's over seeds, paired: it is for other seeds on these images. With one seed both are
    taken as tested on different images, which is too wide.

    Args:
        seeds: one pair (a, b) a seed, in each the same sets in the same order.
    """
    if len(seeds) > 1:
        return student([_mean(a) - _mean(b) for a, b in seeds], step=_rounded(*seeds[0]))
    flat = [(each, sign) for tests, sign in zip(seeds[0], (1, -1), strict=True) for each in tests]
    names = [each.images for each, _ in flat]
    proportions = [(round(each.value * each.n), each.n) for each, _ in flat]
    weights = [2 * sign / len(flat) for _, sign in flat]
    images = [names.index(name) for name in names]
    return (
        combination(proportions, weights, images=images),
        combination_p(proportions, weights, images=images),
    )


def _mean(tests: Sequence[Outcome]) -> float:
    return fmean(each.value for each in tests)


def _step(tests: Sequence[Outcome]) -> float:
    """What a mean of accuracies is rounded to, as far as its variance goes."""
    return math.hypot(*(1 / each.n for each in tests)) / len(tests)


def _rounded(a: Sequence[Outcome], b: Sequence[Outcome]) -> float:
    """What a difference is rounded to: its variance is `step`^2 / 6 at least."""
    return math.hypot(_step(a), _step(b)) / math.sqrt(2)


# --- of the study's scores -----------------------------------------------------------------------


def accuracy(scores: AdaptScores, method: str, partition: float) -> Interval:
    """Test accuracy of a method at a partition."""
    return mean_accuracy([[test] for test in _tests(scores, method, partition)])


def zero_shot(scores: AdaptScores) -> Interval:
    """Test accuracy before adapting: one network, so over images alone."""
    return mean_accuracy([[_untrained(scores)]])


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean with Student's interval over seeds; without bounds (both the mean) with one seed."""
    if len(values) == 1:
        return Interval(values[0], values[0], values[0])
    return student(values)[0]


def number(values: Sequence[float], metric: str) -> Interval:
    """The same of one of the rows' metrics: its bounds are within what it can be, 0 or more."""
    found = over_seeds(values)
    return Interval(found.value, max(found.low, 0.0), min(found.high, MOST.get(metric, math.inf)))


def calibration(scores: AdaptScores, method: str, partition: float) -> Interval:
    """Expected calibration error on the test images, over seeds alone; of all, or nowhere."""
    values = scores.tested.get((method, partition, "ece"), {})
    return number(list(values.values()), "ece") if len(values) == len(scores.seeds) else NOWHERE


def gain(
    scores: AdaptScores, method: str, partitions: Sequence[float], over: str
) -> tuple[Interval, float]:
    """Accuracy of a method, or zero-shot, minus that of another, mean over partitions."""
    return _difference(
        scores, [(method, place) for place in partitions], [(over, place) for place in partitions]
    )


def change(scores: AdaptScores, method: str, start: float, end: float) -> tuple[Interval, float]:
    """Accuracy of a method at one partition minus that at another, paired by seed."""
    return _difference(scores, [(method, end)], [(method, start)])


def _difference(
    scores: AdaptScores, a: Sequence[tuple[str, float]], b: Sequence[tuple[str, float]]
) -> tuple[Interval, float]:
    """Mean accuracy at some (method, partition) minus that at as many others.

    For other seeds and other test images where every prediction is known (`measure.crossed`); else
    `mean_difference`.
    """
    tests = [
        ([_test(scores, *place, seed) for place in a], [_test(scores, *place, seed) for place in b])
        for seed in scores.seeds
    ]
    terms = [
        [(_place(scores, *at, seed), 1 / len(a)) for at in a]
        + [(_place(scores, *at, seed), -1 / len(b)) for at in b]
        for seed in scores.seeds
    ]
    return _paired(scores, terms, tests)


def _paired(
    scores: AdaptScores,
    terms: Sequence[Terms],
    tests: Sequence[tuple[Sequence[Outcome], Sequence[Outcome]]],
) -> tuple[Interval, float]:
    found = adapt_paired.difference(scores.right, terms, _rounded(*tests[0]))
    return found or mean_difference(tests)


def _place(scores: AdaptScores, method: str, partition: float, seed: int) -> Place:
    if method == ZERO_SHOT:
        return Place(ZERO_SHOT, 1.0, 0, scores.dataset, "text")
    return Place(method, partition, seed, scores.dataset, "trained")


def _tests(scores: AdaptScores, method: str, partition: float) -> list[Outcome]:
    return [_test(scores, method, partition, seed) for seed in scores.seeds]


def _test(scores: AdaptScores, method: str, partition: float, seed: int) -> Outcome:
    if method == ZERO_SHOT:
        return _untrained(scores)
    value = scores.tested[method, partition, "accuracy"][seed]
    return Outcome(value, scores.n, scores.dataset)


def _untrained(scores: AdaptScores) -> Outcome:
    return Outcome(scores.zero_shot["accuracy"], scores.n, scores.dataset)


def kept(
    scores: AdaptScores, method: str, partition: float, sets: Sequence[str]
) -> tuple[Interval, Interval]:
    """Mean zero-shot accuracy over sets after adapting, and what it changed by.

    Nowhere where a training diverged and left no encoder.
    """
    for name in sets:
        if set(scores.kept.get((method, partition, name), {})) != set(scores.seeds):
            return NOWHERE, NOWHERE
    after = [
        [
            Outcome(scores.kept[method, partition, name][seed], scores.sets[name], name)
            for name in sets
        ]
        for seed in scores.seeds
    ]
    start = _before(scores, sets)
    terms = [
        [(Place(method, partition, seed, name, "text"), 1 / len(sets)) for name in sets]
        + [(Place(ZERO_SHOT, 1.0, 0, name, "text"), -1 / len(sets)) for name in sets]
        for seed in scores.seeds
    ]
    return mean_accuracy(after), _paired(scores, terms, [(tests, start) for tests in after])[0]


def before(scores: AdaptScores, sets: Sequence[str]) -> Interval:
    """Mean zero-shot accuracy over sets before adapting."""
    return mean_accuracy([_before(scores, sets)])


def _before(scores: AdaptScores, sets: Sequence[str]) -> list[Outcome]:
    return [Outcome(scores.before[name], scores.sets[name], name) for name in sets]


def groups(scores: AdaptScores) -> dict[str, list[str]]:
    """Sets that retention is told of together: the one adapted to, and the mean of the others."""
    found = {
        f"{scores.dataset} itself": [scores.dataset] if scores.dataset in scores.before else []
    }
    rest = others(scores)
    found["mean of " + ", ".join(rest)] = rest
    return {name: sets for name, sets in found.items() if sets}
