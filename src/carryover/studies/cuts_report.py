"""The cut study's table, figures and summary, from its rows alone.

``dvc repro cuts-report`` writes ``reports/cuts/``: ``summary.json`` (what ``dvc metrics diff``
compares), ``cuts.csv`` (every cell), ``cuts.md`` and ``cuts.tex``, ``box`` and ``difference`` as
SVG and PNG. Takes 5 s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from carryover import run
from carryover.config.cuts import Cuts
from carryover.errors import DataError
from carryover.files import write_json, write_text
from carryover.measure.statistics import Interval, holm, mean_interval, paired_difference, paired_p
from carryover.report import figures
from carryover.report.tables import Table, latex, markdown, percent, to_csv
from carryover.rows import Row, read_rows

if TYPE_CHECKING:
    from carryover.config.params import Params

BASELINE_CUT = -1
NOTHING_KEPT_AT_0 = ("fr", "r", "ft")  # settings that reset or remove all layers at cut 0
FOLDER = Path("reports/cuts")

Scores = Mapping[tuple[str, float, int], list[float]]  # (setting, fraction, cut) -> repeats


def stage(params: Params, item: str, context: run.Context) -> None:
    """Read the rows of every setting in ``cuts.settings`` and write the report's files."""
    study = params.cuts
    rows = [
        row
        for setting in study.settings
        for row in read_rows(FOLDER / "runs" / setting / "rows.jsonl")
    ]
    expect_whole(rows, study)
    test, chosen_by = scores(rows, "test"), scores(rows, study.best_by)
    images = counts(rows, "train", study)
    n = next(row.n for row in rows if row.split == "test")
    settings: list[str] = [setting for setting in study.settings if setting != "baseline"]
    gains = {
        setting: {
            fraction: {cut: gain(test, setting, fraction, cut, n) for cut in study.cuts}
            for fraction in study.fractions
        }
        for setting in settings
    }
    baseline = {f: test["baseline", f, BASELINE_CUT] for f in study.fractions}
    summary = summarise(study, settings, test, chosen_by, images, n)
    notes = reading(study, n, rows)
    tables = [
        best_table(summary, study, settings, images),
        *(accuracy_table(study, setting, test, images) for setting in settings),
    ]
    boxes = {
        setting: {f: {c: test[setting, f, c] for c in study.cuts} for f in study.fractions}
        for setting in settings
        if setting != "none"  # the same at every cut: its gain is in the other figure
    }
    context.refuse_edited()
    write_json(FOLDER / "summary.json", summary)
    write_text(FOLDER / "cuts.csv", cells_csv(study, settings, test, images, n))
    write_text(FOLDER / "cuts.md", "\n".join(["# Cuts", notes, *map(markdown, tables)]))
    write_text(FOLDER / "cuts.tex", "\n".join(map(latex, tables)))
    tested = "test accuracy" if study.test_on == "test" else "accuracy on training images"
    repeats = dict(zip(study.fractions, study.repeats, strict=True))
    figures.save(figures.accuracy_boxes(boxes, baseline, images, n, tested), FOLDER / "box")
    figures.save(figures.gain_lines(gains, images, repeats, tested), FOLDER / "difference")


def expect_whole(rows: list[Row], study: Cuts) -> None:
    """Refuse rows that were made with other settings, fractions, cuts or repeats.

    Raises:
        DataError: a cell that the parameters list has no accuracy.
    """
    found = {
        (row.item, row.cell["fraction"], row.cell["cut"], row.cell["repeat"])
        for row in rows
        if (row.split, row.metric) == ("test", "accuracy")
    }
    for item in study.settings:
        cuts = (BASELINE_CUT,) if item == "baseline" else study.cuts
        for fraction, repeats in zip(study.fractions, study.repeats, strict=True):
            for cut, repeat in product(cuts, range(repeats)):
                if (item, fraction, cut, repeat) not in found:
                    raise DataError(
                        f"{FOLDER}/runs/{item}/rows.jsonl: expected a row for fraction {fraction}, "
                        f"cut {cut}, repeat {repeat}, found none; run `dvc repro cuts@{item}`"
                    )


def scores(rows: list[Row], split: str) -> dict[tuple[str, float, int], list[float]]:
    """Accuracies of a split by (setting, fraction, cut), repeats in ascending order."""
    found: dict[tuple[str, float, int], list[float]] = {}
    for row in sorted(rows, key=lambda row: row.cell["repeat"]):
        if (row.split, row.metric) == (split, "accuracy"):
            key = (row.item, row.cell["fraction"], row.cell["cut"])
            found.setdefault(key, []).append(row.value)
    return found


def counts(rows: list[Row], split: str, study: Cuts) -> dict[float, int]:
    """Images of a split at each fraction, as the rows say."""
    found = {row.cell["fraction"]: row.n for row in rows if row.split == split}
    return {fraction: found[fraction] for fraction in study.fractions}


def gain(test: Scores, setting: str, fraction: float, cut: int, n: int) -> Interval:
    """Accuracy minus the baseline's over repeats of the same training images."""
    return paired_difference(
        test[setting, fraction, cut], test["baseline", fraction, BASELINE_CUT], step=1 / n
    )


def best_cut(study: Cuts, chosen_by: Scores, setting: str, fraction: float) -> int:
    """The cut with the highest mean; the shallowest of equals.

    Cut 0 does not compete where it keeps nothing of the source network.
    """
    cuts = [cut for cut in study.cuts if cut or setting not in NOTHING_KEPT_AT_0] or study.cuts
    return max(cuts, key=lambda cut: (fmean(chosen_by[setting, fraction, cut]), -cut))


def summarise(
    study: Cuts,
    settings: Sequence[str],
    test: Scores,
    chosen_by: Scores,
    images: Mapping[float, int],
    n: int,
) -> dict[str, Any]:
    """Gain of the best cut by setting and training images, with Holm-corrected p-values."""
    summary: dict[str, Any] = {}
    places, p_values = [], []
    for setting in settings:
        for fraction in study.fractions:
            cut = best_cut(study, chosen_by, setting, fraction)
            best = mean_interval(test[setting, fraction, cut])
            more = gain(test, setting, fraction, cut, n)
            place: dict[str, Any] = {
                "best_cut": cut,
                "accuracy": _rounded(best),
                "gain": _rounded(more),
            }
            summary.setdefault(setting, {})[f"{images[fraction]}_images"] = place
            places.append(place)
            p_values.append(
                paired_p(
                    test[setting, fraction, cut],
                    test["baseline", fraction, BASELINE_CUT],
                    step=1 / n,
                )
            )
    for place, p in zip(places, holm(p_values), strict=True):
        place["gain"]["p_holm"] = round(float(p), 6)
    summary["baseline"] = {
        f"{images[f]}_images": {
            "accuracy": _rounded(mean_interval(test["baseline", f, BASELINE_CUT]))
        }
        for f in study.fractions
    }
    return summary


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(float(getattr(interval, name)), 6) for name in ("value", "low", "high")}


def reading(study: Cuts, n: int, rows: list[Row]) -> str:
    """How to read the tables: n, what an interval is over, how the best cut was chosen."""
    validation = next(row.n for row in rows if row.split == "validation")
    unseen = " that no training or choice has seen" if study.best_by != "test" else ""
    tested = (
        f"Accuracy in per cent on {n} test images{unseen}."
        if study.test_on == "test"
        else f"Accuracy in per cent on {n} TRAINING images, as the original measured it."
    )
    budget = f"at most {study.epochs} epochs of batches of {study.batch_size}"
    if study.max_updates:
        budget = f"at most {study.max_updates} updates on batches of {study.batch_size}"
    return (
        f"\nPreset {study.preset}; source {study.pretrained}, target {study.dataset} classes "
        f"{', '.join(map(str, sorted(study.classes)))}. {tested}\n\n"
        "Settings: fr freezes the first k convolutions and resets the rest (k is the cut), f "
        "freezes them and tunes the rest, r keeps them, resets the rest and tunes all, none keeps "
        "and tunes all, ft freezes them and removes the rest; the head is always new. Cut 0 of fr, "
        "r and ft keeps nothing of the source network and is left out when the best cut is chosen. "
        "By construction f at cut 0, r at the last cut and none are one experiment, and so are fr "
        "and r at cut 0.\n\n"
        f"Every training, from scratch too, has the same budget: {budget}. Square brackets: 95 % "
        "Student t interval over repeats, each with newly drawn training images (at 100 % nearly "
        "the same ones) and new weights; test images and the one source network stay the same. "
        "Gains are paired by repeat: both networks saw the same training images. Intervals are "
        "not adjusted for their number; p (Holm) is. The best cut is the one with the highest mean "
        f"accuracy on {study.best_by} images"
        + (f" (n = {validation})" if study.best_by == "validation" else "")
        + f"; {validation} validation images also choose each training's weights.\n"
    )


def best_table(
    summary: dict[str, Any], study: Cuts, settings: Sequence[str], images: Mapping[float, int]
) -> Table:
    """Gain of the best cut over training from scratch."""
    lines = []
    for setting in settings:
        for fraction, repeats in zip(study.fractions, study.repeats, strict=True):
            key = f"{images[fraction]}_images"
            place, scratch = summary[setting][key], summary["baseline"][key]
            lines.append(
                [
                    setting,
                    f"{100 * fraction:.4g} %",
                    str(images[fraction]),
                    str(repeats),
                    percent(Interval(**scratch["accuracy"])),
                    str(place["best_cut"]),
                    percent(Interval(**place["accuracy"])),
                    percent(
                        Interval(**{k: place["gain"][k] for k in ("value", "low", "high")}),
                        signed=True,
                    ),
                    f"{place['gain']['p_holm']:.3g}",
                ]
            )
    header = [
        "setting",
        "data",
        "images",
        "repeats",
        "from scratch",
        "best cut",
        "accuracy",
        "gain",
        "p (Holm)",
    ]
    return Table("Gain of the best cut over training from scratch.", header, lines)


def accuracy_table(study: Cuts, setting: str, test: Scores, images: Mapping[float, int]) -> Table:
    """Accuracy of every cut of one setting."""
    lines = [
        [
            f"{100 * fraction:.4g} %",
            str(images[fraction]),
            str(repeats),
            percent(mean_interval(test["baseline", fraction, BASELINE_CUT])),
            *(percent(mean_interval(test[setting, fraction, cut])) for cut in study.cuts),
        ]
        for fraction, repeats in zip(study.fractions, study.repeats, strict=True)
    ]
    header = ["data", "images", "repeats", "from scratch", *(f"cut {cut}" for cut in study.cuts)]
    return Table(f"Accuracy, {figures.TITLES[setting]}.", header, lines)


def cells_csv(
    study: Cuts, settings: Sequence[str], test: Scores, images: Mapping[float, int], n: int
) -> str:
    """Every cell: mean accuracy and gain with intervals."""
    header = [
        "setting",
        "fraction",
        "images",
        "cut",
        "repeats",
        "test_images",
        "accuracy",
        "low",
        "high",
        "gain",
        "gain_low",
        "gain_high",
    ]
    lines: list[list[object]] = []
    for fraction, repeats in zip(study.fractions, study.repeats, strict=True):
        pairs = [("baseline", BASELINE_CUT), *((s, c) for s in settings for c in study.cuts)]
        for setting, cut in pairs:
            accuracy = _rounded(mean_interval(test[setting, fraction, cut]))
            more = _rounded(gain(test, setting, fraction, cut, n))
            lines.append(
                [
                    setting,
                    fraction,
                    images[fraction],
                    cut,
                    repeats,
                    n,
                    *accuracy.values(),
                    *more.values(),
                ]
            )
    return to_csv(header, lines)


def headline(summary: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """The terminal's table of a summary: title, header and lines."""
    images = sorted(summary["baseline"], key=lambda key: int(key.split("_")[0]))
    lines = []
    for setting in (name for name in summary if name != "baseline"):
        cells = []
        for key in images:
            gain = {k: summary[setting][key]["gain"][k] for k in ("value", "low", "high")}
            cut = summary[setting][key]["best_cut"]
            cells.append(f"{percent(Interval(**gain), signed=True)} (cut {cut})")
        lines.append([setting, *cells])
    title = "cuts: accuracy gained over training from scratch by the best cut, points [95 %]"
    return title, ["setting", *(key.replace("_", " ") for key in images)], lines
