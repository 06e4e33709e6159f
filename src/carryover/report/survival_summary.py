"""What survived, in short: each kind's shares, and what they say in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carryover.measure.statistics import Interval
from carryover.report.survival_scores import (
    SCRATCH,
    Kind,
    Scores,
    mean,
    models,
    origins,
    seeds_of,
)
from carryover.report.survival_tables import KEPT, diverged

KEEPING = ("f, ", "none, ")  # settings of the cut study that reset nothing
MOVED = {"value": 1.0}
NOT_APART = "; the two are not told apart"
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
            known = {
                name: each[measure]["value"]
                for name, each in kinds.items()
                if measure in each and _adapted(name, each)
            }
            if known:
                most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
                cells = [f"{known[name]:.2f} ({name})" for name in (most, least)]
                lines.append([origin, measure, *cells])
    return "survival: share kept of the start", ["study", "by", "most", "least"], lines


def _adapted(name: str, each: Mapping[str, Any]) -> bool:
    """Whether it began with pretrained layers and ended with others."""
    at_0 = name.split(", ")[1:2] == ["cut 0"] and not name.startswith(KEEPING)
    return not at_0 and not name.startswith(SCRATCH) and each.get("distance", MOVED)["value"] > 0


def reading(scores: Scores) -> str:
    """Sentences on each study: which of its ways kept most and which least."""
    said = [
        "Each adapted model is set beside the one that it began as, on images that neither was "
        "trained on. What a start can do is asked in three ways: what it answers untaught (class "
        "prompts, the sentences that it was pretrained with, or its own classifier), what a ridge "
        "probe reads from its features, and what their nearest neighbours say. 1 means that "
        "adapting cost nothing, 0 that nothing is left above chance. Models that are their start, "
        "those that reset every layer, and truncated ones, whose layers are the start's, are in "
        "the tables and not among most and least. Intervals are over seeds alone, on the same "
        "images: neither other images nor the choice of most and least are in them."
    ]
    made = summarise(scores)
    for origin in origins(scores):
        shares = made.get(origin, {})
        said += [text for name in MEASURED if (text := _extremes(scores, origin, shares, name))]
    lost = diverged(scores)
    if lost:
        said.append(f"Weights that are not finite: {', '.join(kind.name for kind in lost)}.")
    return "\n\n".join(said)


def _extremes(scores: Scores, origin: str, made: Mapping[str, Any], measure: str) -> str:
    metric, at = KEPT[measure]
    known = {
        kind: told
        for kind in models(scores)
        if kind.origin == origin
        and (told := mean(scores, kind, metric, **at))
        and _adapted(name := f"{kind.name}, {kind.target}", made[name])
    }
    if len(known) < 2:
        return ""
    most = max(known, key=lambda kind: known[kind].value)
    least = min(known, key=lambda kind: known[kind].value)
    if known[most].value == known[least].value:
        return f"{origin}, {MEASURED[measure]}: all keep {known[most].value:.2f}."
    sure = all(known[kind].low < known[kind].high for kind in (most, least))
    apart = "" if sure and known[least].high < known[most].low else NOT_APART
    return (
        f"{origin}, {MEASURED[measure]}: most is kept by {_told(scores, most, known[most])}, least "
        f"by {_told(scores, least, known[least])}{apart}."
    )


def _told(scores: Scores, kind: Kind, told: Interval) -> str:
    alike = ", all seeds" if seeds_of(scores, kind) > 1 else ", one seed"
    bounds = alike if told.low == told.high else f" [{told.low:.2f}, {told.high:.2f}]"
    return f"{kind.name} ({told.value:.2f}{bounds})"
