"""The adaptation study in short: accuracy and gain by method and partition, what it says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from carryover.measure.statistics import Interval
from carryover.report import adapt_intervals
from carryover.report.adapt_gains import Compared
from carryover.report.adapt_scores import (
    CORRECT,
    FAULTS,
    HELD_AGAINST,
    PROBE,
    ZERO_SHOT,
    AdaptScores,
    methods,
    others,
    share,
    title,
    tuned,
)
from carryover.report.tables import percent

MEAN = "mean"  # of all partitions


def summarise(
    scores: AdaptScores,
    gains: Sequence[Compared],
    means: Sequence[Compared],
    changes: Sequence[Compared],
) -> dict[str, Any]:
    """What ``dvc metrics diff`` compares: by method and partition, accuracies in 0..1."""
    summary: dict[str, Any] = {}
    if "accuracy" in scores.zero_shot:
        found = {"accuracy": _rounded(adapt_intervals.zero_shot(scores))}
        summary[ZERO_SHOT] = found | {"ece": round(scores.zero_shot["ece"], 6)}
    for method in methods(scores):
        summary[method] = {
            key(partition): {
                "accuracy": _rounded(adapt_intervals.accuracy(scores, method, partition)),
                "ece": round(adapt_intervals.calibration(scores, method, partition).value, 6),
            }
            for partition in scores.images
        }
        fall = largest_fall(method, changes)
        if fall:
            summary[method]["largest_fall"] = _tested(fall) | {"to": fall.places[1]}
    for each in gains:
        place = summary[each.method].setdefault(key(each.places[0]), {})
        place["gain"] = _tested(each)
    for each in means:
        summary[each.method][MEAN] = {"gain": _tested(each)}
    for method in tuned(scores):
        for name, sets in (
            ("zero_shot_itself", [scores.dataset]),
            ("zero_shot_others", others(scores)),
        ):
            for partition in scores.images if sets else ():
                left, _ = adapt_intervals.kept(scores, method, partition, sets)
                summary[method][key(partition)][name] = round(left.value, 6)
    for found in (place for method in summary.values() for place in method.values()):
        for name in [name for name, value in _items(found) if math.isnan(value)]:
            del found[name]  # a training that diverged does not have it
    return summary


def _items(found: Any) -> Iterator[tuple[str, float]]:
    pairs = found.items() if isinstance(found, dict) else ()
    return ((name, value) for name, value in pairs if isinstance(value, float))


def key(partition: float) -> str:
    """A partition as files name it, ``10_percent``."""
    return f"{100 * partition:.4g}_percent"


def largest_fall(method: str, changes: Sequence[Compared]) -> Compared | None:
    """The lowest change from one partition to the next; it may be a rise."""
    own = [each for each in changes if each.method == method]
    return min(own, key=lambda each: each.difference.value, default=None)


def answer(
    scores: AdaptScores,
    means: Mapping[str, Sequence[Compared]],
    changes: Sequence[Compared],
    folders: str = CORRECT,
) -> str:
    """What these rows say of more data, of faulty folders, and of the methods.

    Args:
        means: gains over all partitions, by the probe that they are over.
        folders: the partitions of methods that have no fault of their own.
    """
    said = []
    for method in (PROBE, *FAULTS):
        fall = largest_fall(method, changes)
        if fall:
            start, end = (share(partition) for partition in fall.places)
            which = folders if method == PROBE else title(method)
            said.append(
                f"{percent(fall.difference, signed=True)} points with {which} ({start} to {end}, "
                f"{fall.chance})"
            )
    text = "The largest drop, or smallest rise, in the frozen probe's accuracy from one partition "
    text = f"{text}to the next: {'; '.join(said)}. " if said else ""
    against = " ".join(_against(scores, over, found) for over, found in means.items())
    return f"{text}{against}".rstrip()


def _against(scores: AdaptScores, over: str, means: Sequence[Compared]) -> str:
    """Which methods are better or worse than a probe, as far as the seeds tell."""
    probe = HELD_AGAINST[over]
    seeds = f"{len(scores.seeds)} seed{'s' * (len(scores.seeds) > 1)}"
    tested = f"p below 0.05 after Holm's correction over {len(means)} method"
    tested += "s" * (len(means) > 1)
    clear = [each for each in means if each.p_holm < 0.05]
    better = [each.method for each in clear if each.difference.value > 0]
    worse = [each.method for each in clear if each.difference.value < 0]
    if not clear:
        told = f"With {seeds}, no method can be told apart from {probe} ({tested})."
        return told if means else ""
    if better and worse:
        told = f"{_are(better)} better than {probe} and {_are(worse)} worse"
    else:
        word, other = ("better", "worse") if better else ("worse", "better")
        told = f"{_are(better or worse)} {word} than {probe} and no method is {other}"
    rest = f"; with {seeds}, no other method can be told apart from it"
    more = rest if len(clear) < len(means) else ""
    return f"Averaged over all partitions, {told} ({tested}){more}."


def _are(names: Sequence[str]) -> str:
    """``a is``, ``a, b and c are``."""
    *first, last = names
    return f"{', '.join(first)} and {last} are" if first else f"{last} is"


def passes(scores: AdaptScores, batch_size: int) -> str:
    """How often a training sees the images of the smallest and of the largest partition."""
    counts = {
        partition: fmean(scores.trained[PROBE, partition, "updates"].values())
        / math.ceil(images / batch_size)
        for partition, images in scores.images.items()
    }
    first, last = min(counts), max(counts)
    told = (
        f"The updates of a training are {counts[first]:.1f} passes over the images of "
        f"{share(first)} and {counts[last]:.1f} over those of {share(last)}."
    )
    if counts[last] >= 1:
        return told
    return (
        f"{told} Under one pass, the accuracies of methods that unfreeze show the budget, not the "
        "data."
    )


def ends_of_lists(scores: AdaptScores, lists: Mapping[tuple[str, float], Sequence[float]]) -> str:
    """Methods whose chosen rates are at an end of their lists, and at how many partitions.

    Args:
        lists: the rates that each method was tried with at each partition; where it was one alone,
            it is not among them.
    """
    ends = []
    for word, end in (("largest", max), ("smallest", min)):
        found = dict.fromkeys((method for method, _ in lists), 0)
        for (method, partition), rates in lists.items():
            chosen = scores.trained[method, partition, "lr"].values()
            found[method] += any(math.isclose(lr, end(rates)) for lr in chosen)
        names = ", ".join(f"{method} ({count})" for method, count in found.items() if count)
        ends += [f"the {word} of its list for {names}"] if names else []
    if not ends:
        return "No rate that was chosen is at an end of its list." if lists else ""
    return (
        f"At some of the {len(scores.images)} partitions (how many stands in brackets) the rate "
        f"chosen is {' and '.join(ends)}, where others may do better."
    )


def of_differences(scores: AdaptScores) -> str:
    """What the intervals of differences are over."""
    several = len(scores.seeds) > 1
    if scores.right:
        both = "seeds and test images, paired by both" if several else "images, paired by image"
        return f"Intervals of differences are over {both}."
    if several:
        return (
            "Intervals of differences are Student's over seeds, paired by seed on the same test "
            "images: what other images would change is in none of them."
        )
    return "Intervals of differences are as if measured on different images, which is too wide."


def softmaxes(found: Sequence[tuple[str, str]]) -> str:
    """What goes through a softmax before the loss, "" for nothing; by item where they differ.

    Args:
        found: items, or items at a partition, and what their logits go through.
    """
    by_kind: dict[str, list[str]] = {}
    for name, kind in found:
        by_kind.setdefault(kind, []).append(name)
    said = [
        f"a softmax over the {kind}" + (f" ({', '.join(names)})" if len(by_kind) > 1 else "")
        for kind, names in by_kind.items()
        if kind != "none"
    ]
    return " and ".join(said)


def _tested(each: Compared) -> dict[str, float]:
    return _rounded(each.difference) | {"p_holm": round(each.p_holm, 6)}


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(float(getattr(interval, name)), 6) for name in ("value", "low", "high")}


def headline(summary: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """The terminal's table of a summary: title, header and lines."""
    keys = [name for name in summary[PROBE] if name.endswith("_percent")]
    lines = []
    for method, found in summary.items():
        cells = [_cell(found.get(name, {})) for name in keys]
        if method == ZERO_SHOT:
            cells = [percent(Interval(**found["accuracy"])), *[""] * (len(keys) - 1)]
        lines.append([method, *cells])
    title = "adapt: test accuracy by share of the training images, % [95 %]; zero-shot needs none"
    return title, ["method", *(name.replace("_percent", " %") for name in keys)], lines


def _cell(place: Mapping[str, Any]) -> str:
    return percent(Interval(**place["accuracy"])) if "accuracy" in place else ""
