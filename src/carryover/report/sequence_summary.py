"""The sequence study in short: each method's measures by order, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carryover.measure.statistics import Interval
from carryover.report.sequence_gains import REFERENCES, Gain
from carryover.report.sequence_intervals import measure
from carryover.report.sequence_scores import (
    FINETUNE,
    ZERO_SHOT,
    ZSCL,
    Run,
    Scores,
    by_order,
    runs,
    seedless,
    seeds,
)
from carryover.report.sequence_tables import NAMED, by_class, over
from carryover.report.tables import percent

CLEAR = 0.05


def summarise(scores: Scores) -> dict[str, Any]:
    """What ``dvc metrics diff`` compares: by order, method and measure, in 0..1."""
    summary: dict[str, Any] = {}
    for run in runs(scores):
        made: dict[str, Any] = {}
        for name in NAMED:
            told = measure(scores, run, name)
            if told:
                made[name] = _rounded(told)
        top5 = measure(scores, run, "last", "top5_accuracy")
        made |= {"top5_last": _rounded(top5)} if top5 else {}
        per_class = by_class(scores, run)
        made |= {} if per_class is None else {"per_class_last": round(per_class, 6)}
        summary.setdefault(f"order {run.order}", {})[run.name] = made
    return summary


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(float(getattr(interval, name)), 6) for name in ("value", "low", "high")}


def headline(summary: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """The terminal's table of a summary: title, header and lines."""
    names = ("transfer", "average", "last", "forgetting")
    lines = [
        [
            order.removeprefix("order "),
            method,
            *(
                percent(Interval(**found[name]), signed=name == "forgetting")
                if name in found
                else ""
                for name in names
            ),
        ]
        for order, methods in summary.items()
        for method, found in methods.items()
    ]
    return "sequence: % [95 %]", ["order", "method", *names], lines


def reading(scores: Scores, encoder: str, settings: Sequence[str]) -> str:
    """How to read the tables: what was trained on what, intervals, settings."""
    orders = "; ".join(f"order {order}: {', '.join(sets)}" for order, sets in scores.orders.items())
    known = runs(scores)
    several = max(
        (len(seeds(scores, run)) for run in known if not seedless(scores, run)), default=1
    )
    parts = [
        f"Preset {scores.preset}: {encoder} is fine-tuned on one set after another and tested on "
        f"all sets after each. {orders}.",
        f"Square brackets: 95 % intervals over {over(scores, known)}"
        + ("." if several > 1 else "; one seed says nothing about other seeds."),
        " ".join(settings),
    ]
    return "\n\n".join(part for part in parts if part)


def answer(scores: Scores, found: Sequence[Gain]) -> str:
    """What the tables say, in sentences; "" where nothing was compared."""
    said = [
        sentence
        for order, every in by_order(runs(scores)).items()
        for sentence in _of_order(scores, order, every)
    ]
    for reference in REFERENCES:
        for name in ("transfer", "last"):
            said += _clear(
                [g for g in found if (g.other.method, g.measure) == (reference, name)],
                reference,
                name,
            )
    return " ".join(said)


def _of_order(scores: Scores, order: str, every: Sequence[Run]) -> list[str]:
    by_name = {run.method: run for run in every if not run.rest}
    transfers = {
        name: percent(told)
        for name in (ZERO_SHOT, FINETUNE, ZSCL)
        if name in by_name and (told := measure(scores, by_name[name], "transfer"))
    }
    said = []
    if transfers:
        listed = ", ".join(f"{name} {told}" for name, told in transfers.items())
        said.append(f"Order {order}: transfer of {listed} %.")
    averages = {run: told for run in every if (told := measure(scores, run, "average"))}
    if len(averages) > 1:
        best = max(averages, key=lambda run: averages[run].value)
        said.append(f"Its best average is that of {best.name}, {percent(averages[best])} %.")
    return said


def _clear(found: Sequence[Gain], reference: str, name: str) -> list[str]:
    """How many methods are told apart from one by a measure."""
    if not found:
        return []
    told = [gain.difference for gain in found if gain.p_holm < CLEAR]
    higher = sum(each.value > 0 for each in told)
    said = (
        f"Beside {reference}, {name} is higher in {higher} and lower in {len(told) - higher} of "
        f"{len(found)} comparisons after Holm's correction"
    )
    if not any(gain.difference.whole for gain in found):
        return [f"{said}."]
    above = sum(gain.difference.images.low > 0 for gain in found)
    below = sum(gain.difference.images.high < 0 for gain in found)
    return [f"{said}; by the intervals over test images alone in {above} and {below}."]
