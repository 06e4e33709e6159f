"""Intervals of the continual study: over seeds, and over test images where an accuracy is one.

Those of an accuracy are the adaptation study's (`adapt_intervals`). Where predictions are at hand,
that of a difference between runs is over both, paired by both (`measure.crossed`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import NamedTuple

from carryover.errors import DataError
from carryover.measure.statistics import Interval
from carryover.report import continual_paired
from carryover.report.adapt_intervals import Outcome, mean_accuracy, mean_difference, over_seeds
from carryover.report.continual_paired import Photographs, Place
from carryover.report.continual_scores import (
    At,
    Number,
    Run,
    Scores,
    last,
    matrix,
    numbers,
    photographs,
    seeds,
)

ACCURACIES = ("accuracy", "task_accuracy")
HALF = 0.5  # of an image
Ends = tuple[list[Outcome], list[Outcome]]  # accuracies that a difference of means is of


def of(scores: Scores, run: Run, split: str, metric: str, at: At) -> Interval | None:
    """Mean over the seeds at one moment, with its interval; None where there is no number.

    Accuracies on images held out: over these and seeds, a photograph that several tasks show
    counted once; other numbers: over seeds alone, and without bounds (both the mean) with one seed.
    """
    found = numbers(scores, run, split, metric).get(at)
    if not found:
        return None
    if split != "train" and metric in ACCURACIES and all(each.n > 0 for each in found.values()):
        return mean_accuracy([[_outcome(scores, run, each)] for each in found.values()])
    return over_seeds([each.value for each in found.values()])


def _outcome(scores: Scores, run: Run, number: Number) -> Outcome:
    """An accuracy over all test images, with as many of them as there are photographs."""
    return Outcome(number.value, photographs(scores, run, number.n), "test")


def accuracy(scores: Scores, run: Run, experience: int) -> Interval | None:
    """Accuracy on all test images after an experience."""
    return of(scores, run, "test", "accuracy", At(experience))


def mean(scores: Scores, run: Run, split: str, metric: str) -> float | None:
    """The value of a metric at the end of the stream, mean over seeds; None where there is none."""
    every = numbers(scores, run, split, metric)
    if not every or early(scores, run, list(every)[-1]):
        return None
    return fmean(each.value for each in list(every.values())[-1].values())


def early(scores: Scores, run: Run, at: At) -> bool:
    """Whether a number is of an experience before the last, as are those of what diverged then."""
    return at.experience is not None and at.experience < last(scores, run)


def end(scores: Scores, run: Run, metric: str) -> Interval | None:
    """A measure of the whole stream; of the last experience, where there is one for each.

    Of forgetting and transfer between tasks the accuracy matrix says how they may vary: over
    seeds, and with one seed over test images, as if the two ends were on different ones. Tasks
    that repeat photographs err together. Bounds are within what the measure can be, 0..1 for an
    average accuracy and -1..1 for a change.
    """
    every = numbers(scores, run, "test", metric)
    if not every or early(scores, run, list(every)[-1]):
        return None
    values = list(every.values())[-1]
    same = run.protocol in scores.repeated
    ends = [_ends(matrix(scores, run, seed), metric, same) for seed in values]
    known = [each for each in ends if each is not None]
    value = fmean(each.value for each in values.values())
    if len(known) == len(values):
        told, _ = mean_difference(known)
    else:
        told = over_seeds([each.value for each in values.values()])
    least, off = 0.0 if metric == "average_accuracy" else -1.0, value - told.value
    return Interval(value, max(told.low + off, least), min(told.high + off, 1.0))


def _ends(found: Mapping[tuple[int, int], Number], metric: str, same: bool) -> Ends | None:
    """The accuracies whose mean difference a measure is: one pair a task.

    Args:
        same: whether all tasks are tested on the same photographs.
    """
    tasks = sorted({task for _, task in found})
    times = sorted({time for time, _ in found})
    if not found or len(found) < len(tasks) * len(times):
        return None
    final = times[-1]
    pairs: list[tuple[tuple[int, int], tuple[int, int]]]
    if metric == "stream_forgetting":
        pairs = [((j, j), (final, j)) for j in tasks if j < final]
    elif len(tasks) < 2 or tasks[-1] != final:
        return None
    elif metric == "forgetting" and set(range(final)) <= set(times):
        pairs = [
            (max(((k, j) for k in range(j, final)), key=lambda at: found[at].value), (final, j))
            for j in tasks[:-1]
        ]
    elif metric == "backward_transfer":
        pairs = [((final, j), (j, j)) for j in tasks[:-1]]
    elif metric == "forward_transfer" and times[0] == -1:
        pairs = [((j - 1, j), (-1, j)) for j in tasks[1:]]
    else:
        return None
    if not pairs or not {at for pair in pairs for at in pair} <= found.keys():
        return None
    images = {task: "test" if same else f"task {task}" for task in tasks}
    first = [Outcome(*found[a], images[a[1]]) for a, _ in pairs]
    return first, [Outcome(*found[b], images[b[1]]) for _, b in pairs]


class Difference(NamedTuple):
    """Accuracy at the end of a run minus that of another, on the same test images.

    Attributes:
        over: what the interval and p are over: ``seeds, images``, ``seeds`` (on these images),
            ``images`` (paired by image, of this seed), ``images, unpaired`` (too wide).
    """

    interval: Interval
    p: float
    over: str


def difference(scores: Scores, run: Run, other: Run) -> Difference | None:
    """Accuracy at the end minus that of another run, paired by seed, on the same images.

    For other seeds and other images, paired by both, where all predictions of the two are at hand;
    from rows alone, as those that are kept, and of a training that diverged: over seeds. None where
    they share no seed or were tested on other numbers of images.

    Raises:
        DataError: predictions that are not those that the accuracies are of.
    """
    at = [numbers(scores, each, "test", "accuracy") for each in (run, other)]
    mine, theirs = (list(found.values())[-1] for found in at)
    shared = [seed for seed in mine if seed in theirs]
    if not shared or any(mine[seed].n != theirs[seed].n for seed in shared):
        return None
    several = len(shared) > 1
    a, b = (
        [seen for seed in shared if (seen := _seen(scores, each, seed, found[seed]))]
        for each, found in ((run, mine), (other, theirs))
    )
    if len(a) == len(b) == len(shared) and (told := continual_paired.difference(a, b)):
        return Difference(*told, "seeds, images" if several else "images")
    pairs = [
        ([_outcome(scores, run, mine[seed])], [_outcome(scores, other, theirs[seed])])
        for seed in shared
    ]
    return Difference(*mean_difference(pairs), "seeds" if several else "images, unpaired")


def _seen(scores: Scores, run: Run, seed: int, number: Number) -> Photographs | None:
    """Which photographs a run had right at its end; None where it is not known.

    Raises:
        DataError: the predictions have another accuracy.
    """
    place = Place(
        item=run.item,
        stream=run.stream,
        protocol=run.protocol,
        strategy=run.strategy,
        features=run.features,
        head=run.head,
        encoder=run.encoder,
        freeze=run.rest.removeprefix("freeze "),
        seed=seed,
        experience=last(scores, run),
    )
    if place not in scores.tests:
        return None
    right = scores.tests[place].right
    if len(right) != number.n or abs(right.sum() - number.value * number.n) > HALF:
        raise DataError(
            f"continual: expected predictions with an accuracy of {number.value:.4f} on "
            f"{number.n} images ({', '.join(map(str, place))}), got {right.mean():.4f} on "
            f"{len(right)}; run `dvc repro continual`"
        )
    return continual_paired.photographs(scores.tests[place], run.protocol in scores.repeated)


def widest(*found: Interval) -> Interval:
    """One value with independent reaches added as squares."""
    value = found[0].value
    below = math.hypot(*(each.value - each.low for each in found))
    above = math.hypot(*(each.high - each.value for each in found))
    return Interval(value, value - below, value + above)


def over(scores: Scores, shown: Iterable[Run]) -> str:
    """What intervals of accuracies are over, with the number of seeds."""
    counts = sorted({len(seeds(scores, run)) for run in shown})
    if counts == [1]:
        return "test images (1 seed)"
    return f"test images and {' or '.join(map(str, counts))} seeds"
