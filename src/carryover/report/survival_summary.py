"""What survived, in short: each kind's shares, and what they say in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carryover.measure.statistics import Interval
from carryover.report.survival_scores import SCRATCH, Kind, Scores, mean, models, origins
from carryover.report.survival_tables import KEPT, diverged

MEASURED = {"untaught": "answers untaught", "probe": "a probe", "kNN": "nearest neighbours"}


def summarise(scores: Scores) -> dict[str, Any]:
    """What ``dvc metrics diff`` compares: shares kept, CKA and distance by study and kind."""
    summary: dict[str, Any] = {}
    for kind in models(scores):
        made = {
            name: _rounded(told)
            for name, (metric, at) in KEPT.items()
            if (told := mean(scores, kind, metric, **at))
        }
        if made:
            name = f"{kind.name}, {kind.target}"
            summary.setdefault(kind.origin, {})[name] = made
    return summary


def _rounded(interval: Interval) -> dict[str, float]:
    return {part: round(float(getattr(interval, part)), 6) for part in ("value", "low", "high")}


def headline(summary: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """The terminal's table of a summary: what kept most and least of each study."""
    lines = []
    for origin, kinds in summary.items():
        for measure in ("untaught", "kNN"):
            known = {n: each[measure]["value"] for n, each in kinds.items() if measure in each}
            if known:
                most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
                cells = [f"{known[name]:.2f} ({name})" for name in (most, least)]
                lines.append([origin, measure, *cells])
    return "survival: share kept of the start", ["study", "by", "most", "least"], lines


def reading(scores: Scores) -> str:
    """Sentences on each study: which of its ways kept most and which least."""
    said = [
        "Each adapted model is set beside the one that it began as, on images that neither was "
        "trained on. What a start can do is asked in three ways: what it answers untaught (class "
        "prompts, the sentences that it was pretrained with, or its own classifier), what a ridge "
        "probe reads from its features, and what their nearest neighbours say. 1 means that "
        "adapting cost nothing, 0 that nothing is left above chance."
    ]
    for origin in origins(scores):
        said += [text for name in MEASURED if (text := _extremes(scores, origin, name))]
    lost = diverged(scores)
    if lost:
        said.append(f"Weights that are not finite: {', '.join(kind.name for kind in lost)}.")
    return "\n\n".join(said)


def _extremes(scores: Scores, origin: str, measure: str) -> str:
    metric, at = KEPT[measure]
    known = {
        kind: told
        for kind in models(scores)
        if kind.origin == origin
        and kind.method != SCRATCH
        and (told := mean(scores, kind, metric, **at))
    }
    if len(known) < 2:
        return ""
    most = max(known, key=lambda kind: known[kind].value)
    least = min(known, key=lambda kind: known[kind].value)
    if known[most].value == known[least].value:
        return f"{origin}, {MEASURED[measure]}: all keep {known[most].value:.2f}."
    return (
        f"{origin}, {MEASURED[measure]}: most is kept by {_told(most, known[most])}, least by "
        f"{_told(least, known[least])}."
    )


def _told(kind: Kind, told: Interval) -> str:
    bounds = "" if told.low == told.high else f" [{told.low:.2f}, {told.high:.2f}]"
    return f"{kind.name} ({told.value:.2f}{bounds})"
