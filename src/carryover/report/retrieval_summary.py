"""The retrieval study in short: each arm's numbers, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carryover.measure.statistics import Interval
from carryover.report.cells import told_percent
from carryover.report.retrieval_gains import MEASURES, Gain
from carryover.report.retrieval_intervals import (
    Reach,
    accuracy,
    corrupted,
    difference,
    differences_over,
    mean,
    noise_cost,
    steps,
)
from carryover.report.retrieval_lines import diverged_said, over
from carryover.report.retrieval_names import base, name, ordered
from carryover.report.retrieval_scores import (
    NEAREST,
    RANDOM,
    Arm,
    At,
    Place,
    Scores,
    arms,
    main,
    numbers,
    places,
    plain,
    seeds,
)
from carryover.report.retrieval_tables import reached
from carryover.report.tables import percent


def summarise(scores: Scores) -> dict[str, Any]:
    """What ``dvc metrics diff`` compares: by item and arm, in 0..1 but for steps and the loss."""
    summary: dict[str, Any] = {}
    for place in places(scores):
        crowd = arms(scores, place)
        for arm in ordered(crowd):
            made = {
                metric: _rounded(told)
                for metric in ("area", "ece", "nll")
                if (told := mean(scores, arm, metric))
            }
            for at in numbers(scores, arm, "accuracy"):
                told = accuracy(scores, arm, at)
                made |= {_noise_key(at): _rounded(told)} if told else {}
            worse = corrupted(scores, arm)
            made |= {"corrupted_accuracy": _rounded(worse)} if worse else {}
            found = steps(scores, arm)
            if found:
                made["steps_to_080"] = _reach(found)
                made["reached_080"] = {"value": round(found.reached / found.of, 6)}
            if made:
                summary.setdefault(", ".join(place), {})[name(arm, crowd)] = made
    return summary


def _noise_key(at: At) -> str:
    return f"accuracy, noise {at.noise:g}" if at.noise else "accuracy"


def _reach(found: Reach) -> dict[str, float]:
    """Steps with their interval; a lower bound has none, but the number of seeds never there."""
    if found.bound:
        return {"value": round(found.interval.value, 6), "censored": found.censored}
    return _rounded(found.interval) | {"censored": 0}


def _rounded(interval: Interval) -> dict[str, float]:
    return {part: round(float(getattr(interval, part)), 6) for part in ("value", "low", "high")}


def headline(summary: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """The terminal's table of a summary: title, header and lines."""
    lines = []
    for place, by_arm in summary.items():
        for arm, found in by_arm.items():
            bound = found.get("steps_to_080", {}).get("censored", 0) > 0
            lines.append(
                [
                    place,
                    arm,
                    percent(Interval(**found["accuracy"])) if "accuracy" in found else "",
                    ("at least " if bound else "") + f"{found['steps_to_080']['value']:.3g}"
                    if "steps_to_080" in found
                    else "",
                    told_percent(Interval(**found["area"])) if "area" in found else "",
                ]
            )
    return (
        "retrieval: % [95 %]",
        ["item, data", "arm", "accuracy", "steps to 80 %", "area"],
        lines,
    )


def reading(scores: Scores, settings: Sequence[str]) -> str:
    """How to read the tables: what was trained on what, intervals, settings."""
    known = arms(scores)
    several = max(seeds(scores, known), default=1)
    trained = "; ".join(", ".join(place) for place in places(scores))
    pairing = differences_over(
        difference(scores, arm, plain((arm.item, arm.dataset)), measure)
        for arm in known
        for measure in MEASURES
        if arm != plain((arm.item, arm.dataset))
    )
    parts = [
        f"Preset {scores.preset}: classifiers that attend to stored embeddings, beside the same "
        f"without ({trained}). Nearest and random: which entries an image is handed, and how many; "
        "every other arm differs from the plain one or from nearest in the one thing that its name "
        "says. All arms of a seed see the same training images in the same order.",
        f"Square brackets: 95 % intervals, of accuracies over {over(scores, known)}"
        + (
            f"; of costs and differences {pairing}; of steps and of areas themselves over seeds on "
            "these images."
            if several > 1
            else "; one seed says nothing about other seeds."
        ),
        " ".join(settings),
        diverged_said(scores).strip(),
    ]
    return "\n\n".join(part for part in parts if part)


def answer(scores: Scores, found: Sequence[Gain]) -> str:
    """What the tables say, in sentences; "" where there is nothing to compare."""
    return " ".join(
        sentence for place in places(scores) for sentence in _of_place(scores, place, found)
    )


def _of_place(scores: Scores, place: Place, found: Sequence[Gain]) -> list[str]:
    nearest, without = main(scores, place, NEAREST), plain(place)
    if nearest is None or accuracy(scores, without) is None:
        return []
    untrained = [nearest._replace(control="vote"), without._replace(control="probe")]
    shown = [without, nearest, main(scores, place, RANDOM), *untrained]
    told = {
        name(arm): percent(interval) for arm in shown if arm and (interval := accuracy(scores, arm))
    }
    said = [
        f"{place[0]} on {place[1]}: accuracy of "
        + ", ".join(f"{arm} {value}" for arm, value in told.items())
        + " %."
    ]
    said += _untrained(scores, [nearest, without], untrained)
    said += _gained(found, nearest, without)
    said += _steps(steps(scores, without), steps(scores, nearest))
    said += _controls(scores, place, nearest)
    said += _robust(scores, [without, nearest])
    return said


def _untrained(scores: Scores, trained: Sequence[Arm], untrained: Sequence[Arm]) -> list[str]:
    """Whether any network is better than the best that the features give without one."""
    best = {arm: told.value for arm in untrained if (told := accuracy(scores, arm))}
    if not best:
        return []
    highest = max(best, key=lambda arm: best[arm])
    above = [
        base(arm)
        for arm in trained
        if (told := accuracy(scores, arm)) and told.value > best[highest]
    ]
    return [
        f"Above {name(highest)}, which trains no network ({100 * best[highest]:.1f} %): "
        f"{' and '.join(above) or 'neither'}."
    ]


def _gained(found: Sequence[Gain], nearest: Arm, without: Arm) -> list[str]:
    """What the nearest gain over plain, by accuracy and by area."""
    said = []
    for gain in found:
        if (gain.arm, gain.other, gain.reference) == (nearest, without, "plain"):
            p = f"p {gain.difference.p:.2g}; {gain.p_holm:.2g} after Holm's correction for all arms"
            said.append(
                f"{base(nearest).capitalize()} minus plain: {gain.measure} "
                f"{percent(gain.difference.interval, signed=True)} points ({p})."
            )
    return said


def _steps(without: Reach | None, nearest: Reach | None) -> list[str]:
    if without is None or nearest is None:
        return []
    return [
        f"Updates until 80 % were right: {reached(without)} without, {reached(nearest)} with "
        "retrieval."
    ]


def _controls(scores: Scores, place: Place, nearest: Arm) -> list[str]:
    """What stays of the lead with a memory that says nothing, by area."""
    shown: dict[str, Interval] = {}
    for control in ("zeros", "shuffled", "single"):
        told = mean(scores, nearest._replace(control=control), "area")
        shown |= {name(nearest._replace(control=control)): told} if told else {}
    own = {
        "plain": mean(scores, plain(place), "area"),
        base(nearest): mean(scores, nearest, "area"),
    }
    if not shown or not all(own.values()):
        return []
    listed = ", ".join(f"{arm} {told_percent(told)}" for arm, told in {**own, **shown}.items())
    return [f"Area: {listed} %."]


def _robust(scores: Scores, shown: Sequence[Arm]) -> list[str]:
    """What noise costs with and without retrieval."""
    levels = [{at.noise for at in numbers(scores, arm, "accuracy")} - {0.0} for arm in shown]
    shared = sorted(set.intersection(*levels))
    said = []
    for noise in dict.fromkeys([*shared[:1], *shared[-1:]]):
        costs = [noise_cost(scores, arm, noise) for arm in shown]
        listed = " and ".join(
            f"{base(arm)} {percent(cost.interval, signed=True)}"
            for arm, cost in zip(shown, costs, strict=True)
            if cost
        )
        said.append(f"Noise of deviation {noise:g} costs {listed} points.")
    return said
