"""The adaptation study's numbers as CSV: every cell, every gain, every set's zero-shot accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from carryover.measure.statistics import Interval
from carryover.report import adapt_intervals
from carryover.report.adapt_gains import Compared
from carryover.report.adapt_scores import ZERO_SHOT, AdaptScores, methods, others, tuned
from carryover.report.tables import to_csv


def cells_csv(scores: AdaptScores) -> str:
    """Every number of every method and partition: mean over seeds with its interval."""
    header = ["dataset", "encoder", "method", "partition", "train_images", "seeds", "split"]
    header += ["metric", "test_images", "mean", "low", "high"]
    start = (scores.dataset, scores.encoder)
    lines: list[list[object]] = []
    for metric, value in scores.zero_shot.items():
        bounds = _bounds(adapt_intervals.zero_shot(scores)) if metric == "accuracy" else ["", ""]
        untrained = (*start, ZERO_SHOT, "", 0, 1, "test", metric, scores.n)
        lines.append([*untrained, round(value, 6), *bounds])
    for method in methods(scores):
        for partition, images in scores.images.items():
            place = (*start, method, partition, images)
            for split, metric, n, seeds, interval in _numbers(scores, method, partition):
                bounds = ["", ""] if interval.low == interval.high else _bounds(interval)
                lines.append([*place, seeds, split, metric, n, round(interval.value, 9), *bounds])
    return to_csv(header, lines)


def _numbers(
    scores: AdaptScores, method: str, partition: float
) -> Iterator[tuple[str, str, object, int, Interval]]:
    """Split, metric, test images, the seeds that have it (a diverged one has few), mean."""
    for (name, share_of, metric), values in scores.tested.items():
        if (name, share_of) == (method, partition):
            found = adapt_intervals.number(list(values.values()), metric)
            if metric == "accuracy":
                found = adapt_intervals.accuracy(scores, method, partition)
            yield "test", metric, scores.n, len(values), found
    for (name, share_of, metric), values in scores.trained.items():
        if (name, share_of) == (method, partition):
            found = adapt_intervals.number(list(values.values()), metric)
            yield "train", metric, "", len(values), found


def gains_csv(scores: AdaptScores, compared: Sequence[Compared], means: Sequence[Compared]) -> str:
    """Every gain over a probe; those over all partitions have no partition."""
    header = ["method", "over", "partition", "train_images", "seeds", "test_images", "gain"]
    places: list[list[object]] = [
        [each.places[0], scores.images[each.places[0]]] for each in compared
    ]
    places += [["", ""]] * len(means)
    lines: list[list[object]] = []
    for place, each in zip(places, [*compared, *means], strict=True):
        told = [round(each.difference.value, 6), *_bounds(each.difference)]
        told += [f"{each.p:.4g}", f"{each.p_holm:.4g}"]
        lines.append([each.method, each.over, *place, len(scores.seeds), scores.n, *told])
    return to_csv([*header, "low", "high", "p", "p_holm"], lines)


def retention_csv(scores: AdaptScores) -> str:
    """Zero-shot accuracy of each set before and after; the mean of the others as ``others``."""
    header = ["method", "partition", "train_images", "seeds", "dataset", "test_images"]
    names = ("before", "after", "change")
    header += [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    groups = {name: [name] for name in scores.before}
    rest = others(scores)
    groups |= {"others": rest} if len(rest) > 1 else {}
    lines: list[list[object]] = []
    for method in tuned(scores):
        for partition, images in scores.images.items():
            for name, sets in groups.items():
                intervals = (
                    adapt_intervals.before(scores, sets),
                    *adapt_intervals.kept(scores, method, partition, sets),
                )
                n = sum(scores.sets[each] for each in sets)
                if any(math.isnan(each.value) for each in intervals):
                    continue  # a training diverged and left no encoder
                numbers = [x for i in intervals for x in (round(i.value, 6), *_bounds(i))]
                place = (method, partition, images, len(scores.seeds), name, n)
                lines.append([*place, *numbers])
    return to_csv(header, lines)


def _bounds(interval: Interval) -> list[object]:
    return [round(interval.low, 6), round(interval.high, 6)]
