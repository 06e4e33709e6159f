"""Tables of adapted models: what is kept, what else changed, and what they began as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from carryover.measure.statistics import Interval
from carryover.report.survival_scores import (
    Kind,
    Scores,
    found,
    images_of,
    mean,
    models,
    seeds_of,
    single,
    starts,
)
from carryover.report.tables import Table, to_csv

DASH = "\N{EN DASH}"
KEYS = ("study", "way", "method", "target")
KEPT = {
    "untaught": ("kept", {"by": "own"}),
    "probe": ("kept", {"by": "probe"}),
    "kNN": ("kept", {"by": "neighbours"}),
    "CKA": ("cka", {"layer": "embedding"}),
    "distance": ("distance", {"layer": "all"}),
}
SHARES: dict[str, tuple[str, dict[str, Any]]] = {
    "source, untaught": ("accuracy", {"role": "source", "by": "own"}),
    "source, probe": ("accuracy", {"role": "source", "by": "probe"}),
    "source, kNN": ("accuracy", {"role": "source", "by": "neighbours"}),
    "target, probe": ("accuracy", {"role": "target", "by": "probe"}),
    "target, kNN": ("accuracy", {"role": "target", "by": "neighbours"}),
    "corrupted": ("corrupted_accuracy", {}),
}
CALIBRATION = ("ECE, before", "ECE, after", "NLL, before", "NLL, after")
ENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "barrier, source": ("barrier", {"role": "source"}),
    "barrier, target": ("barrier", {"role": "target"}),
}


def kept(scores: Scores) -> Table:
    """Shares kept, CKA and the distance of the weights."""
    lines = [
        [
            *kind,
            *(_share(mean(scores, kind, m, **at)) for m, at in KEPT.values()),
            *_n(scores, kind),
        ]
        for kind in models(scores)
    ]
    title = (
        f"Preset {scores.preset}: what is left of the start, mean over seeds with the 95 % "
        "interval over seeds on the same images (none where there is one seed or all agree). "
        "untaught, probe, kNN: (adapted - chance) / (start - chance) of the accuracy on what the "
        "start was pretrained for; a dash where the start is not above chance by two standard "
        "errors and ten images, or cannot answer. "
        "CKA: debiased linear CKA of the embeddings; distance: |w - w0| / |w0|. n: images that "
        f"neighbours name.{_single(scores)}"
    )
    return Table(title, [*KEYS, *KEPT, "n", "seeds"], lines)


def beside(scores: Scores) -> Table:
    """Accuracies, barriers and calibration of adapted models."""
    lines = [
        [
            *kind,
            *(_percent(mean(scores, kind, m, **at)) for m, at in (SHARES | ENDS).values()),
            *_calibration(scores, kind),
            _seeds(scores, kind),
        ]
        for kind in models(scores)
    ]
    title = (
        f"Preset {scores.preset}: accuracies of adapted models in per cent, mean over sets and "
        "seeds. untaught: by the prompts or the classifier of the start; probe: a ridge probe on "
        "the features; corrupted: that probe on corrupted images of the target. barrier: how far "
        "the error on the line from the start rises above the straight line between that of both "
        "ends, points. ECE (per cent) and NLL (nats) of the untaught answers to the same images, "
        f"by the start (before) and by the adapted model (after).{_single(scores)}"
    )
    return Table(title, [*KEYS, *SHARES, *ENDS, *CALIBRATION, "seeds"], lines)


def _calibration(scores: Scores, kind: Kind) -> list[str]:
    """Before and after, where the start is known and both answer."""
    start, cells = scores.began.get(kind), []
    for metric, text in (("ece", _percent), ("nll", _number)):
        after = mean(scores, kind, metric)
        before = mean(scores, start, metric) if start and after else None
        cells += [text(before), text(after)]
    return cells


def began(scores: Scores) -> Table:
    """The same of the starts."""
    lines = [
        [
            *(kind.origin, kind.method, kind.target),
            *(_percent(mean(scores, kind, m, **at)) for m, at in SHARES.values()),
            _percent(mean(scores, kind, "ece")),
            _number(mean(scores, kind, "nll")),
            *_n(scores, kind)[:1],
        ]
        for kind in starts(scores)
    ]
    title = (
        f"Preset {scores.preset}: the starts, on the same images. target: what their models were "
        "adapted to, of a sequence the last of its sets. n: images that neighbours name."
    )
    return Table(title, ["study", "start", "target", *SHARES, "ECE", "NLL", "n"], lines)


def _single(scores: Scores) -> str:
    said = single(scores)
    return f" {said[:1].upper()}{said[1:]}." if said else ""


def _n(scores: Scores, kind: Kind) -> list[str]:
    images = images_of(scores, kind, "accuracy", role="target", by="neighbours")
    return [str(images), _seeds(scores, kind)]


def _seeds(scores: Scores, kind: Kind) -> str:
    return str(seeds_of(scores, kind) or DASH)


def _told(form: Callable[[float], str]) -> Callable[[Interval | None], str]:
    def text(interval: Interval | None) -> str:
        if interval is None:
            return DASH
        if interval.low == interval.high:
            return form(interval.value)
        return f"{form(interval.value)} [{form(interval.low)}, {form(interval.high)}]"

    return text


_share = _told(lambda value: f"{value:.2f}")
_number = _told(lambda value: f"{value:.2f}")
_percent = _told(lambda value: f"{100 * value:.1f}")


def every_csv(scores: Scores) -> str:
    """Every number: mean over seeds with its interval, as plain numbers."""
    axes = ("by", "role", "dataset", "layer", "mix", "corruption", "severity")
    header = ["preset", *KEYS, "metric", *axes, "value", "low", "high", "seeds", "n"]
    lines: list[list[object]] = []
    for kind, numbers in scores.numbers.items():
        for (metric, at), seeds in numbers.items():
            where = dict(at)
            told = mean(scores, kind, metric, **where)
            assert told is not None
            bounds: list[object] = ["", ""]
            if told.low != told.high:
                bounds = [round(told.low, 6), round(told.high, 6)]
            line: list[object] = [scores.preset, *kind, metric]
            line += [where.get(axis, "") for axis in axes]
            line += [round(told.value, 6), *bounds, len(seeds)]
            lines.append([*line, max(number.n for number in seeds.values())])
    return to_csv(header, lines)


def diverged(scores: Scores) -> list[Kind]:
    """Kinds with weights that are not finite."""
    return [kind for kind in models(scores) if found(scores, kind, "diverged")]
