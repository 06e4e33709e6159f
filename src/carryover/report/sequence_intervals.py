"""Intervals of the sequence study: measures of the accuracy matrix, over test images and seeds.

Every measure but forgetting is a weighted sum of the matrix' cells; forgetting is one too, once it
is known when each set was at its best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from carryover.measure import streams
from carryover.measure.combined import combination, student
from carryover.measure.statistics import Interval
from carryover.report.adapt_intervals import Outcome, over_seeds
from carryover.report.sequence_scores import (
    At,
    Matrix,
    Run,
    Scores,
    matrix,
    numbers,
    others,
    seeds,
    untrained,
)

LEVELS = ("transfer", "average", "last", "learned")
CHANGES = ("forgetting", "backward_transfer", "backward_transfer_with_last")
LINEAR: dict[str, Callable[[streams.Matrix], Any]] = {
    "transfer": streams.transfer,
    "average": streams.average,
    "last": streams.last,
    "learned": streams.learned,
    "backward_transfer": streams.backward_transfer,
    "backward_transfer_with_last": streams.backward_transfer_with_last,
}
OF_TRAINING = ("learned", *CHANGES)  # what no untrained model has
Weights = dict[tuple[int, int], float]  # by sets trained and task
Terms = list[tuple[Outcome, float]]  # accuracies and what each counts


def weights(name: str, found: Mapping[tuple[int, int], Any], t: int) -> Weights:
    """What each cell of the matrix counts in a measure; of forgetting by when a set was best."""
    if name == "forgetting":
        return _lost(found, t)
    cells = (t + 1) * t
    each = np.asarray(LINEAR[name](np.eye(cells).reshape(cells, t + 1, t)))
    return {(i // t, i % t + 1): float(w) for i, w in enumerate(each) if w}


def _lost(found: Mapping[tuple[int, int], Any], t: int) -> Weights:
    """The best since a set was trained minus the end; no weights where a test is missing."""
    made: Weights = {}
    for task in range(1, t):
        times = [(after, task) for after in range(task, t)]
        if not set(times) <= found.keys():
            return {}
        made[max(times, key=lambda at: found[at].value)] = 1 / (t - 1)
        made[t, task] = -1 / (t - 1)
    return made


def measure(scores: Scores, run: Run, name: str, metric: str = "accuracy") -> Interval | None:
    """A measure of a run's matrix, mean over seeds, with its 95 % interval.

    None where a test that it needs is missing, and of what never trains for what is of training.
    """
    if name in OF_TRAINING and untrained(scores, run):
        return None
    found = [terms(scores, run, seed, name, metric) for seed in seeds(scores, run)]
    known = [each for each in found if each]
    return told(known) if known and len(known) == len(found) else None


def terms(scores: Scores, run: Run, seed: int, name: str, metric: str = "accuracy") -> Terms:
    """The accuracies that a measure is of; none where one is missing."""
    found = matrix(scores, run, seed, metric)
    count = weights(name, found, len(scores.orders.get(run.order, ())))
    if not count.keys() <= found.keys():
        return []
    return [(_outcome(found, at), weight) for at, weight in count.items()]


def _outcome(found: Matrix, at: tuple[int, int]) -> Outcome:
    return Outcome(*found[at], f"task {at[1]}")


def change(scores: Scores, run: Run, task: int) -> Interval | None:
    """Accuracy on one set after all minus that right after it was trained."""
    t = len(scores.orders[run.order])
    found = [matrix(scores, run, seed) for seed in seeds(scores, run)]
    if untrained(scores, run) or not all(
        {(t, task), (task, task)} <= each.keys() for each in found
    ):
        return None
    if task == t:
        return Interval(0.0, 0.0, 0.0)
    return told(
        [[(_outcome(each, (t, task)), 1.0), (_outcome(each, (task, task)), -1.0)] for each in found]
    )


def told(every: Sequence[Terms]) -> Interval:
    """Mean over seeds of sums of accuracies, with a 95 % interval for other images and seeds.

    m - sqrt(i^2 + s^2) .. m + sqrt(i^2 + s^2): i is how far Wilson's bounds reach, s is half of
    Student's interval over the seeds' sums on these images; with one seed i alone. Accuracies on
    the same images that count alike are taken to err together, those that count against each
    other as if they were on different ones, which is too wide. Without bounds (both the mean)
    where one seed's images are not counted.
    """
    values = [total(each) for each in every]
    value = fmean(values)
    if any(outcome.n < 1 for each in every for outcome, _ in each):
        return over_seeds(values)
    images = over_images([(o, weight / len(every)) for each in every for o, weight in each])
    reach = 0.0
    if len(every) > 1:
        over, _ = student(values, step=step_of(every[0]))
        reach = over.high - over.value
    low = value - math.hypot(images.value - images.low, reach)
    high = value + math.hypot(images.high - images.value, reach)
    if all(weight > 0 for each in every for _, weight in each):
        low, high = max(0.0, low), min(1.0, high)
    return Interval(value, low, high)


def over_images(every: Terms) -> Interval:
    """A sum of accuracies with its interval for other test images."""
    return combination(
        [(round(outcome.value * outcome.n), outcome.n) for outcome, _ in every],
        [weight for _, weight in every],
        images=image_numbers(every),
    )


def image_numbers(every: Terms) -> list[int]:
    """A number for the images that each accuracy is over."""
    names = list(dict.fromkeys(outcome.images for outcome, _ in every))
    places = {name: i for i, name in enumerate(names)}
    return [places[outcome.images] for outcome, _ in every]


def total(every: Terms) -> float:
    """The sum itself."""
    return math.fsum(weight * outcome.value for outcome, weight in every)


def step_of(every: Terms) -> float:
    """What a sum of accuracies is rounded to, as far as its variance goes."""
    return math.hypot(*(weight / outcome.n for outcome, weight in every))


# --- moments -------------------------------------------------------------------------------------


def over_sets(scores: Scores, run: Run, after: int, which: str) -> Interval | None:
    """Mean accuracy over some of the tested sets after so many were trained.

    Args:
        which: ``all`` tested sets, those of the ``order``, those ``trained`` so far, or ``other``
            ones: not trained so far, or never.
    """
    t = len(scores.orders.get(run.order, ()))
    found: list[Terms] = []
    for seed in seeds(scores, run):
        known = matrix(scores, run, seed)
        row = {task: _outcome(known, (after, task)) for task in _tasks(known, after)}
        if len(row) < t:
            return None
        rest = [Outcome(*n, name) for name, n in others(scores, run, seed, after).items()]
        sets = {
            "all": [*row.values(), *rest],
            "order": list(row.values()),
            "trained": [row[task] for task in row if task <= after],
            "other": [*(row[task] for task in row if task > after), *rest],
        }[which]
        found.append([(each, 1 / len(sets)) for each in sets])
    return told(found) if found and all(found) else _logged(scores, run, after, which)


def _tasks(found: Matrix, after: int) -> list[int]:
    return sorted(task for time, task in found if time == after)


def _logged(scores: Scores, run: Run, after: int, which: str) -> Interval | None:
    """A mean that is known without the sets it is over."""
    metric = {"all": "accuracy_all", "order": "accuracy_trained"}.get(which, "")
    found = numbers(scores, run, "test", metric).get(At(after), {}) if metric else {}
    return over_seeds([each.value for each in found.values()]) if found else None
