"""Tables of the sequence study: each method's measures, differences, ours beside the released."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from carryover.report import sequence_published
from carryover.report.adapt_intervals import Outcome
from carryover.report.cells import DASH, bounds, in_parts, told_p, told_percent
from carryover.report.sequence_gains import MEASURES, Gain
from carryover.report.sequence_intervals import CHANGES, LEVELS, measure, told
from carryover.report.sequence_scores import (
    At,
    Run,
    Scores,
    matrix,
    numbers,
    runs,
    seedless,
    seeds,
    sizes,
)
from carryover.report.tables import Table, percent, to_csv

KEYS = ("order", "method")
PAIRED = {
    True: "paired by image",
    False: "as if the two were tested on different ones, which is too wide",
}
OVER = {
    True: "for other seeds and other test images, paired by both",
    False: "over seeds, paired, on the same test images",
}
WIDE = 5  # columns beside those on a page
NAMED = {
    "transfer": "transfer",
    "average": "average",
    "last": "last",
    "learned": "learned",
    "forgetting": "forgetting",
    "backward_transfer": "BWT",
    "backward_transfer_with_last": "BWT with last",
}


def results(scores: Scores) -> Table:
    """A line a run: every measure of its accuracy matrix."""
    known = runs(scores)
    lines = []
    for run in known:
        cells = [told_percent(measure(scores, run, name), name in CHANGES) for name in NAMED]
        cells.append(told_percent(measure(scores, run, "last", "top5_accuracy")))
        per_class = by_class(scores, run)
        cells.append(DASH if per_class is None else f"{100 * per_class:.1f}")
        lines.append([*_keys(run), *cells, str(tested(scores, run)), _seeds(scores, run)])
    title = (
        f"Preset {scores.preset}: accuracies in per cent, changes in points, each with its 95 % "
        f"interval over {over(scores, known)}. Transfer: on sets not trained so far; average: on "
        "all at all times; last: on all at the end; learned: on each right after it was trained. "
        "Forgetting: best since trained minus the end. BWT: end minus right after training, over "
        "all sets but the last; with the last, which adds a 0. n: test images of the order's sets. "
        "Measures of sets weigh each set alike."
    )
    header = [*KEYS, *NAMED.values(), "top-5, last", "per class, last", "n", "seeds"]
    return Table(title, header, lines)


def _keys(run: Run) -> list[str]:
    return [run.order, run.name]


def _seeds(scores: Scores, run: Run) -> str:
    return DASH if seedless(scores, run) else str(len(seeds(scores, run)))


def tested(scores: Scores, run: Run) -> int:
    """Test images of the sets of a run's order."""
    return sum(n for name, n in sizes(scores, run).items() if name in scores.orders[run.order])


def over(scores: Scores, shown: Sequence[Run]) -> str:
    """What intervals are over, with the number of seeds."""
    counts = sorted({len(seeds(scores, run)) for run in shown if not seedless(scores, run)})
    if counts in ([], [1]):
        return "test images (1 seed)"
    return f"test images and {' or '.join(map(str, counts))} seeds"


def by_class(scores: Scores, run: Run) -> float | None:
    """Mean over sets and seeds of the accuracy averaged over classes, at the end."""
    t = len(scores.orders[run.order])
    found = [
        [number.value for (after, _), number in each.items() if after == t]
        for seed in seeds(scores, run)
        if (each := matrix(scores, run, seed, "per_class_accuracy"))
    ]
    return fmean(map(fmean, found)) if found and all(found) else None


def differences(scores: Scores, found: Sequence[Gain], reference: str) -> Table:
    """Measures of every other method minus those of one."""
    shown = [gain for gain in found if gain.other.method == reference]
    by_run: dict[Run, dict[str, Gain]] = {}
    for gain in shown:
        by_run.setdefault(gain.run, {})[gain.measure] = gain
    several = any(gain.difference.whole for gain in shown)
    paired = {gain.difference.paired for gain in shown}
    how = " or ".join(text for kind, text in PAIRED.items() if kind in paired)
    over = " or ".join(text for kind, text in OVER.items() if kind in paired)
    names = [name for name in MEASURES if any(gain.measure == name for gain in shown)]
    lines = [
        [*_keys(run), *(cell for name in names for cell in _difference(each.get(name), several))]
        for run in runs(scores)
        if (each := by_run.get(run))
    ]
    header = list(KEYS)
    for name in names:
        header += [name, f"{name}, images", "p"] if several else [name, "p"]
    title = (
        f"Preset {scores.preset}: each method minus {reference} on the same sets, points with the "
        "95 % interval "
        + (
            f"{over}; images: that over test images alone, {how}"
            if several
            else f"over test images, {how}"
        )
        + ". p after Holm's correction over the methods and orders of a column"
        + (f", {over}; where neither draws anything, over test images." if several else ".")
    )
    return Table(title, header, lines)


def _difference(gain: Gain | None, several: bool) -> list[str]:
    if gain is None:
        return [DASH] * (3 if several else 2)
    told = gain.difference
    p = told_p(gain.p_holm)
    images = percent(told.images, signed=True)
    if not several:
        return [images, p]
    whole = percent(told.whole, signed=True) if told.whole else f"{100 * told.value:+.1f}"
    return [whole, images.split(" ", 1)[1], p]


def beside(scores: Scores, published: Scores) -> Table:
    """Ours and the released, where the sets and their order are the same."""
    lines = []
    for run in runs(scores):
        other = sequence_published.beside(published, scores.orders[run.order], run.method)
        if other and other in runs(published):
            cells = [
                told_percent(measure(origin, each, name))
                for name in LEVELS
                for origin, each in ((scores, run), (published, other))
            ]
            lines.append([*_keys(run), *cells])
    title = (
        f"Preset {scores.preset} beside the matrices released with ZSCL (CLIP ViT-B/16, one run, "
        "interval over test images; zero-shot as typed by its authors): same sets in the same "
        "order, per cent. Encoder and budget may differ."
    )
    header = [f"{name}, {origin}" for name in LEVELS for origin in ("ours", "released")]
    return Table(title, [*KEYS, *header], lines)


def training(scores: Scores) -> Table:
    """What each training took: mean over seeds of every number of it."""
    known = [
        run for run in runs(scores) if any(split == "train" for split, _ in scores.numbers[run])
    ]
    names = sorted({m for run in known for s, m in scores.numbers[run] if s == "train"})
    lines = []
    for run in known:
        cells = []
        for name in names:
            values = numbers(scores, run, "train", name).get(At(), {})
            cells.append(f"{fmean(v.value for v in values.values()):.10g}" if values else DASH)
        lines.append([*_keys(run), *cells])
    title = f"Preset {scores.preset}: what training took, all sets together, mean over seeds."
    return Table(title, [*KEYS, *(name.replace("_", " ") for name in names)], lines)


def for_paper(table: Table) -> list[Table]:
    """The table in parts as wide as a page; order and method are in each."""
    return in_parts(table, range(len(KEYS)), WIDE)


# --- CSV -----------------------------------------------------------------------------------------


def results_csv(every: Sequence[Scores]) -> str:
    """Lines of `results` as plain numbers in 0..1, of several presets below each other."""
    header = ["preset", "order", "sets", "item", "method", "rest", "seeds", "test_images"]
    for name in (*NAMED, "top5_last"):
        header += [name, f"{name}_low", f"{name}_high"]
    lines: list[list[object]] = []
    for scores in every:
        for run in runs(scores):
            line: list[object] = [scores.preset, run.order, " ".join(scores.orders[run.order])]
            line += [run.item, run.method, run.rest, len(seeds(scores, run))]
            line.append(tested(scores, run))
            for name in NAMED:
                line += bounds(measure(scores, run, name))
            line += bounds(measure(scores, run, "last", "top5_accuracy"))
            per_class = by_class(scores, run)
            lines.append([*line, "" if per_class is None else round(per_class, 6)])
    return to_csv([*header, "per_class_last"], lines)


def matrices_csv(every: Sequence[Scores]) -> str:
    """Every cell of every accuracy matrix, mean over seeds with its interval, in 0..1."""
    header = [
        "preset",
        "order",
        "method",
        "rest",
        "after",
        "task",
        "dataset",
        "seeds",
        "test_images",
    ]
    lines: list[list[object]] = []
    for scores in every:
        for run in runs(scores):
            sets = scores.orders[run.order]
            found = [matrix(scores, run, seed) for seed in seeds(scores, run)]
            for after, task in sorted(set.intersection(*(set(each) for each in found))):
                values = [each[after, task] for each in found]
                cell = told([[(Outcome(*value, "test"), 1.0)] for value in values])
                place = [scores.preset, run.order, run.method, run.rest, after, task]
                lines.append([*place, sets[task - 1], len(values), values[0].n, *bounds(cell)])
    return to_csv([*header, "accuracy", "accuracy_low", "accuracy_high"], lines)
