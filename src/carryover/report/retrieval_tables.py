"""Tables of the retrieval study: every arm, noise, differences, ours beside the published."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from carryover.measure.statistics import Interval
from carryover.report.cells import DASH, bounds, in_parts, told_p, told_percent
from carryover.report.retrieval_gains import MEASURES, Gain
from carryover.report.retrieval_intervals import (
    Reach,
    accuracy,
    alone,
    corrupted,
    differences_over,
    mean,
    noise_cost,
    steps,
)
from carryover.report.retrieval_lines import diverged_said, over
from carryover.report.retrieval_names import name, ordered
from carryover.report.retrieval_published import Printed
from carryover.report.retrieval_scores import (
    CLEAN,
    Arm,
    At,
    Scores,
    arms,
    images,
    number,
    numbers,
)
from carryover.report.tables import Table, to_csv

KEYS = ("item", "data", "arm")
PAIRED_BY = {  # whether by image, whether there are several seeds
    (True, True): "seed and image",
    (True, False): "image",
    (False, True): "seed",
    (False, False): "nothing",
}
WIDE = 4  # columns beside those on a page
SHARES = ("accuracy", "curve_accuracy", "running_max_accuracy", "corrupted_accuracy")


def results(scores: Scores) -> Table:
    """A line an arm: accuracy, sample efficiency, robustness, calibration."""
    known = [arm for arm in ordered(arms(scores)) if number(scores, arm, "accuracy")]
    lines = []
    for arm in known:
        cells = [told_percent(accuracy(scores, arm)), reached(steps(scores, arm))]
        cells += [told_percent(mean(scores, arm, "area")), told_percent(corrupted(scores, arm))]
        cells += [told_percent(mean(scores, arm, "ece")), _plain(mean(scores, arm, "nll"))]
        cells += [str(n) for n in images(scores, [arm])]
        cells.append(str(len(number(scores, arm, "accuracy"))))
        lines.append([*_keys(scores, arm), *cells])
    title = (
        f"Preset {scores.preset}: accuracy after the last update, per cent, with its 95 % interval "
        f"over {over(scores, known)}. Steps: updates until 80 % of the test images were right "
        "(geometric mean over seeds; at least: some seed never was there). Area under the accuracy "
        "curve, per cent of the highest possible; mean accuracy under all corruptions, over images "
        "and seeds; calibration error (ECE) in points and loss (NLL), all three over seeds alone "
        "but for the corruptions', those of ECE and NLL on the logarithm, since neither is below "
        f"0. n: test images. {diverged_said(scores)}".rstrip()
    )
    header = [*KEYS, "accuracy", "steps to 80 %", "area", "corrupted", "ECE", "NLL", "n", "seeds"]
    return Table(title, header, lines)


def _keys(scores: Scores, arm: Arm) -> list[str]:
    crowd = arms(scores, (arm.item, arm.dataset))
    return [arm.item, arm.dataset, name(arm, crowd)]


def reached(told: Reach | None) -> str:
    """``130 [110, 150]``, or ``at least 240 (1 of 3 there)``."""
    if told is None:
        return DASH
    value, low, high = (f"{part:.3g}" for part in _parts(told.interval))
    if told.bound:
        return f"at least {value} ({told.reached} of {told.of} there)"
    return value if low == high else f"{value} [{low}, {high}]"


def _plain(found: Interval | None) -> str:
    if found is None:
        return DASH
    value, low, high = (f"{part:.3f}" for part in _parts(found))
    return value if low == high else f"{value} [{low}, {high}]"


def _parts(found: Interval) -> tuple[float, float, float]:
    return found.value, found.low, found.high


def noises(scores: Scores) -> Table:
    """A line an arm: accuracy at every deviation of the noise, and what the strongest costs."""
    known = [
        arm
        for arm in ordered(arms(scores))
        if any(at.noise > 0 for at in numbers(scores, arm, "accuracy"))
    ]
    levels = sorted({at.noise for arm in known for at in numbers(scores, arm, "accuracy")})
    lines = []
    costs = {arm: noise_cost(scores, arm, levels[-1]) for arm in known}
    for arm, cost in costs.items():
        cells = [told_percent(accuracy(scores, arm, At(noise))) for noise in levels]
        lines.append(
            [*_keys(scores, arm), *cells, told_percent(cost.interval if cost else None, True)]
        )
    title = (
        f"Preset {scores.preset}: accuracy by the deviation of Gaussian noise on the test pixels "
        f"(0..1), per cent, 95 % intervals over {over(scores, known)}; the last column is what the "
        f"strongest costs, in points, {differences_over(costs.values())}."
    )
    levels_said = [f"{noise:g}" for noise in levels]
    return Table(title, [*KEYS, *levels_said, "lost"], lines)


def differences(scores: Scores, found: Sequence[Gain], reference: str) -> Table:
    """Accuracy and area of every other arm minus those of one."""
    shown = [gain for gain in found if gain.reference == reference]
    by_arm: dict[Arm, dict[str, Gain]] = {}
    for gain in shown:
        by_arm.setdefault(gain.arm, {})[gain.measure] = gain
    lines = []
    for arm in ordered(list(by_arm)):
        cells = [cell for name in MEASURES for cell in _difference(by_arm[arm].get(name))]
        lines.append([*_keys(scores, arm), *cells])
    pairing = differences_over(gain.difference for gain in shown)
    title = (
        f"Preset {scores.preset}: each arm minus {_reference(shown)}, points with the 95 % "
        f"interval {pairing}. p after Holm's correction over the arms of an item and set."
    )
    header = [*KEYS, *(cell for name in MEASURES for cell in (name, f"p, {name}"))]
    return Table(title, header, lines)


def _reference(shown: Sequence[Gain]) -> str:
    names = sorted({name(gain.other) for gain in shown})
    return " or ".join(names) or "the reference"


def _difference(gain: Gain | None) -> list[str]:
    if gain is None:
        return [DASH, DASH]
    p = told_p(gain.p_holm)
    return [told_percent(gain.difference.interval, signed=True), p]


def beside(scores: Scores, printed: Sequence[Printed]) -> Table:
    """Published numbers, and ours in the same place where the set is the same."""
    lines = []
    for each in printed:
        where = [f"noise {each.at.noise:g}"] * bool(each.at.noise)
        where += [] if each.at.step is None else [f"step {each.at.step}"]
        lines.append(
            [
                *(each.arm.item, each.arm.dataset, ", ".join([name(each.arm), *where])),
                each.metric.replace("_", " "),
                _number(each.value, each.metric),
                _number(each.plus_minus, each.metric),
                _ours(scores, each),
            ]
        )
    title = (
        f"Published numbers of the original (three seeds or one line; plus or minus as printed, of "
        "which is not said what it means, or how well a figure can be read), beside preset "
        f"{scores.preset} where item and set are the same."
    )
    return Table(title, [*KEYS, "number", "published", "plus or minus", "ours"], lines)


def _number(value: float, metric: str) -> str:
    return f"{100 * value:.4g} %" if metric in SHARES else f"{value:.4g}"


def _ours(scores: Scores, each: Printed) -> str:
    if each.arm not in scores.numbers:
        return DASH
    if each.metric in SHARES:
        return told_percent(accuracy(scores, each.arm, each.at, each.metric))
    return reached(steps(scores, each.arm, each.at))


def training(scores: Scores) -> Table:
    """What each training took: mean over seeds of every number of it."""
    known = [arm for arm in ordered(arms(scores)) if _trained(scores, arm)]
    names = sorted({metric for arm in known for metric in _trained(scores, arm)})
    lines = [
        [*_keys(scores, arm), *(_trained(scores, arm).get(metric, DASH) for metric in names)]
        for arm in known
    ]
    title = f"Preset {scores.preset}: what training took, mean over seeds (diverged: their share)."
    return Table(title, [*KEYS, *(metric.replace("_", " ") for metric in names)], lines)


def _trained(scores: Scores, arm: Arm) -> dict[str, str]:
    """Numbers of a whole training: those that stand at no step."""
    return {
        metric: f"{fmean(v.value for v in ats[CLEAN].values()):.10g}"
        for (split, metric), ats in scores.numbers[arm].items()
        if split == "train" and CLEAN in ats
    }


def for_paper(table: Table) -> list[Table]:
    """The table in parts as wide as a page; item, data and arm are in each."""
    return in_parts(table, range(len(KEYS)), WIDE)


# --- CSV -----------------------------------------------------------------------------------------


def cells_csv(every: Sequence[Scores]) -> str:
    """Every number of every arm and place: mean over seeds with its interval, in 0..1."""
    header = ["preset", "item", "dataset", "access", "k", "control", "noise", "step"]
    header += ["corruption", "severity", "split", "metric", "seeds", "images", "mean"]
    lines: list[list[object]] = []
    for scores in every:
        for arm, metrics in scores.numbers.items():
            for (split, metric), ats in metrics.items():
                for at, found in ats.items():
                    place = [scores.preset, *arm, *at]
                    told = alone(metric, [each.value for each in found.values()])
                    if metric in SHARES:
                        told = accuracy(scores, arm, at, metric) or told
                    n = next(iter(found.values())).n
                    cells: list[object] = ["" if each is None else each for each in place]
                    lines.append([*cells, split, metric, len(found), n, *bounds(told)])
    return to_csv([*header, "low", "high"], lines)


def gains_csv(found: Sequence[Gain]) -> str:
    """Every difference, with p before and after Holm's correction."""
    header = ["item", "dataset", "access", "k", "control", "minus", "measure", "seeds", "paired_by"]
    lines: list[list[object]] = [
        [
            *("" if each is None else each for each in gain.arm),
            *(gain.reference, gain.measure, gain.difference.seeds),
            PAIRED_BY[gain.difference.by_image, gain.difference.seeds > 1],
            *bounds(gain.difference.interval),
            *(f"{gain.difference.p:.4g}", f"{gain.p_holm:.4g}"),
        ]
        for gain in found
    ]
    return to_csv([*header, "difference", "low", "high", "p", "p_holm"], lines)
