"""The continual study in short: accuracy and forgetting by stream, arm and strategy, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from carryover.measure.statistics import Interval
from carryover.report import continual_intervals
from carryover.report.continual_gains import Gain
from carryover.report.continual_scores import (
    FEATURES,
    UNTRAINED,
    Run,
    Scores,
    arm,
    last,
    numbers,
    places,
    runs,
    seeds,
)
from carryover.report.tables import percent

MEASURES = ("forgetting", "backward_transfer", "forward_transfer", "stream_forgetting")
PLAIN = {  # without intervals
    "train_accuracy": "train",
    "train_accuracy_current": "train",
    "train_accuracy_replayed": "train",
    "is_constant": "test",
    "diverged": "train",
}
CLEAR = 0.05


def summarise(scores: Scores) -> dict[str, Any]:
    """What ``dvc metrics diff`` compares: by stream and protocol, arm and strategy, in 0..1."""
    summary: dict[str, Any] = {}
    for run in runs(scores):
        place = summary.setdefault(f"{run.stream} {run.protocol}", {})
        place.setdefault(_named(run), {})[run.strategy] = _measured(scores, run)
    for run, found in scores.numbers.items():
        if run.item == FEATURES:
            name = " ".join(part for part in (run.stream, run.encoder, run.features) if part)
            place = summary.setdefault(FEATURES, {}).setdefault(name, {})
            for split, metric in found:
                value = continual_intervals.mean(scores, run, split, metric)
                if metric == "accuracy" and value is not None:
                    place[split] = round(value, 6)
        if run.protocol == UNTRAINED:
            values = [n.value for n in _flat(scores, run, "test", "cka")]
            if values:
                summary.setdefault(UNTRAINED, {})[run.stream] = {"least_cka": round(min(values), 6)}
    return summary


def _named(run: Run) -> str:
    """An arm as keys of files are, ``frozen tokens mlp flava-nano``."""
    parts = (run.item, run.features, run.head, run.encoder, run.rest)
    return " ".join(part for part in parts if part)


def _flat(scores: Scores, run: Run, split: str, metric: str) -> list[Any]:
    every = numbers(scores, run, split, metric).values()
    return [each for values in every for each in values.values()]


def _measured(scores: Scores, run: Run) -> dict[str, Any]:
    made: dict[str, Any] = {}
    end = continual_intervals.accuracy(scores, run, last(scores, run))
    if end:
        made["accuracy"] = _rounded(end)
    average = continual_intervals.mean(scores, run, "test", "average_accuracy")
    if average is not None:
        made["average_accuracy"] = round(average, 6)
    for metric in MEASURES:
        told = continual_intervals.end(scores, run, metric)
        if told:
            made[metric] = _rounded(told)
    for metric, split in PLAIN.items():
        value = continual_intervals.mean(scores, run, split, metric)
        if value is not None:
            made[metric] = round(value, 6)
    cka = numbers(scores, run, "test", "cka")
    if cka:
        final = max(at.experience or 0 for at in cka)
        means = [
            fmean(each.value for each in values.values())
            for at, values in cka.items()
            if at.experience == final
        ]
        made["least_cka"] = round(min(means), 6)
    return made


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(float(getattr(interval, name)), 6) for name in ("value", "low", "high")}


def headline(summary: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """The terminal's table of a summary: title, header and lines."""
    lines = []
    for place, arms in summary.items():
        for name, strategies in arms.items() if place not in (FEATURES, UNTRAINED) else ():
            for strategy, found in strategies.items():
                forgot = found.get("forgetting")
                lines.append(
                    [
                        place,
                        name,
                        strategy,
                        percent(Interval(**found["accuracy"])) if "accuracy" in found else "",
                        percent(Interval(**forgot), signed=True) if forgot else "",
                    ]
                )
    title = "continual: after the last experience, % [95 %]"
    return title, ["stream, protocol", "arm", "strategy", "accuracy", "forgetting"], lines


# --- in words ------------------------------------------------------------------------------------


def answer(scores: Scores, gains: Sequence[Gain]) -> str:
    """What these rows say of freezing, of strategies, and of predictors of one class.

    Comparisons with a run of which some seed diverged are not counted as better or worse.
    """
    whole = [gain for gain in gains if not _diverged(scores, gain)]
    said = [_freezing(whole), _strategies(whole), _left_out(len(gains) - len(whole))]
    said += [*_lost(scores), _replayed(scores)]
    return " ".join(each for each in [*said, _constant(scores)] if each)


def _diverged(scores: Scores, gain: Gain) -> bool:
    """Whether a seed of either run of a comparison diverged."""
    known = [run for run in (gain.run, gain.other) if run in scores.numbers]
    shares = [continual_intervals.mean(scores, run, "train", "diverged") for run in known]
    return any(share for share in shares)


def _left_out(count: int) -> str:
    if not count:
        return ""
    return f"Not counted: comparisons with a run of which a seed diverged ({count})."


def _freezing(gains: Sequence[Gain]) -> str:
    """How often training more of the encoder is better, worse or neither, after Holm."""
    found = [gain for gain in gains if gain.axis == "item"]
    if not found:
        return ""
    parts = []
    for item in dict.fromkeys(gain.run.item for gain in found):
        parts.append(f"{item} is {_counts([gain for gain in found if gain.run.item == item])}")
    return f"At the end of a stream, beside the frozen encoder, {' and '.join(parts)}."


def _strategies(gains: Sequence[Gain]) -> str:
    found = [gain for gain in gains if gain.axis == "strategy"]
    if not found:
        return ""
    parts = []
    for name in dict.fromkeys(gain.run.strategy for gain in found):
        parts.append(f"{name} is {_counts([gain for gain in found if gain.run.strategy == name])}")
    return f"Beside naive training, {'; '.join(parts)}."


def _counts(found: Sequence[Gain]) -> str:
    clear = [gain for gain in found if gain.p_holm < CLEAR]
    better = sum(gain.difference.value > 0 for gain in clear)
    alone = sum(gain.difference.low > 0 or gain.difference.high < 0 for gain in found)
    return (
        f"better in {better}, worse in {len(clear) - better} and not told apart in "
        f"{len(found) - len(clear)} of {len(found)} comparisons (intervals that exclude 0: {alone})"
    )


def _lost(scores: Scores) -> list[str]:
    """Where most and least of what was learnt is lost."""
    known = [
        (run, told)
        for run in runs(scores)
        if (told := continual_intervals.end(scores, run, "forgetting"))
    ]
    if len(known) < 2:
        return []
    worst = max(known, key=lambda each: each[1].value)
    least = min(known, key=lambda each: each[1].value)
    return [
        f"Most is forgotten by {_sentence(worst[0])}: {percent(worst[1], signed=True)} points; "
        f"least by {_sentence(least[0])}: {percent(least[1], signed=True)}."
    ]


def _replayed(scores: Scores) -> str:
    """How far a log's training accuracy lies above test where images are replayed."""
    gaps = []
    for run in runs(scores):
        shown = continual_intervals.mean(scores, run, "train", "train_accuracy")
        end = continual_intervals.accuracy(scores, run, last(scores, run))
        if run.strategy == "replay" and shown is not None and end is not None:
            gaps.append(shown - end.value)
    if not gaps:
        return ""
    return (
        "Where stored images are replayed, the training accuracy of a log lies "
        f"{100 * min(gaps):+.1f} to {100 * max(gaps):+.1f} points from test accuracy."
    )


def _constant(scores: Scores) -> str:
    """Runs that name one class for every test image."""
    found = [
        run
        for run in runs(scores)
        if (continual_intervals.mean(scores, run, "test", "is_constant") or 0) > 0
    ]
    if not found:
        return "No run names one class for all test images at its end."
    named = "; ".join(_sentence(run) for run in found[:4]) + "; ..." * (len(found) > 4)
    count = len(runs(scores))
    return f"{len(found)} of {count} runs end, for a seed or more, with one class for all: {named}."


def _sentence(run: Run) -> str:
    return f"{run.stream} {run.protocol}, {arm(run)}, {run.strategy}"


def reading(scores: Scores, encoder: str, settings: Sequence[str]) -> str:
    """How to read the tables: what was trained on what, intervals, and what differs.

    Args:
        settings: sentences on the protocol that rows do not hold.
    """
    found = runs(scores)
    streams = "; ".join(f"{stream} {protocol}" for stream, protocol in places(found))
    counts = sorted({len(seeds(scores, run)) for run in found})
    several = counts != [1]
    spread = (
        f"Square brackets: 95 %. Of an accuracy over test images and {_listed(counts)} seeds; of "
        "forgetting and transfer over seeds alone, on the same test images; of a difference over "
        "what its line says. Intervals are not adjusted for their number, p is."
        if several
        else "Square brackets: 95 % over test images; one seed says nothing of other seeds. "
        "Forgetting is taken as on different images, which is too wide; of a difference its line "
        "says what the interval is over."
    )
    return " ".join(
        [
            f"Preset {scores.preset}; encoder {encoder}; streams, protocols: {streams or 'none'}.",
            "ni: chunks of one shuffled set, which nothing shifts between; ci: class by class; ti: "
            "the same with task labels, so that only a task's classes are told apart; permuted, "
            "rotated, domains: the same classes on other images.",
            *settings,
            spread,
        ]
    )


def _listed(counts: Sequence[int]) -> str:
    return " or ".join(map(str, counts)) if counts else "no"
