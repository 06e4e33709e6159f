"""The cut study's tables, figures and summary, from its rows alone.

``dvc repro cuts-report`` writes ``reports/cuts/``: ``summary.json`` (what ``dvc metrics diff``
compares), ``cuts.csv`` (every cell), ``cuts.md`` and ``cuts.tex`` (accuracy, best cuts, groups),
``tests`` in the same three forms (every signed-rank test), and as SVG and PNG the figures ``box``,
``difference`` and those of ``figures/``. Takes 25 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from carryover import run
from carryover.config.cuts import Cuts
from carryover.errors import DataError
from carryover.files import write_json, write_text
from carryover.report import cut_boxes, cut_lines, cut_maps, cut_tables, figures
from carryover.report.cut_scores import (
    BASELINE,
    BASELINE_CUT,
    MEASURED,
    CutScores,
    accuracies,
    cuts,
    from_rows,
    settings,
    varying,
)
from carryover.report.cut_summary import best_table, headline, summarise
from carryover.report.tables import Table, latex, markdown
from carryover.rows import Row, read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carryover.config.params import Params

__all__ = ["FOLDER", "headline", "stage"]

FOLDER = Path("reports/cuts")
FAMILIES = (
    "Holm's correction is over all tests of one table at one fraction: all pairs of cuts of a "
    "setting, or all cuts of two settings. A significant pair names the cell with the higher mean."
)
BOOTSTRAP_SEED = 0  # of every interval's resamples, so that they do not depend on each other


def stage(params: Params, item: str, context: run.Context) -> None:
    """Read the rows of every setting in ``cuts.settings`` and write the report's files."""
    study = params.cuts
    rows = [
        row
        for setting in study.settings
        for row in read_rows(FOLDER / "runs" / setting / "rows.jsonl")
    ]
    rows = listed(rows, study)
    scores = from_rows(rows, MEASURED[study.test_on])
    summary = summarise(scores, accuracies(rows, study.best_by))
    shown = varying(scores) or settings(scores)  # of the others the gain says everything
    tables = [
        best_table(summary, scores),
        cut_tables.ranks_table(scores, shown),
        *(cut_tables.accuracy_table(scores, setting) for setting in settings(scores)),
    ]
    tests = cut_tables.all_tests(scores, shown)
    compared = [line for lines in tests.values() for line in lines]
    listings = [cut_tables.tests_table(scores, title, lines) for title, lines in tests.items()]
    context.refuse_edited()
    write_json(FOLDER / "summary.json", summary)
    write_text(FOLDER / "cuts.csv", cut_tables.cells_csv(scores))
    write_tables("cuts", f"# Cuts\n{reading(study, scores.n, rows)}", tables)
    write_text(FOLDER / "tests.csv", cut_tables.tests_csv(compared))
    write_tables("tests", f"# Tests of the cut study\n\n{FAMILIES}\n", listings)
    for name, figure in drawn(scores, shown):
        figures.save(figure, FOLDER / name)


def listed(rows: list[Row], study: Cuts) -> list[Row]:
    """The rows of the cells that the parameters list.

    Raises:
        DataError: a cell that the parameters list has no accuracy.
    """
    wanted = {
        (item, study.pair, fraction, cut, repeat)
        for item in study.settings
        for fraction, repeats in zip(study.fractions, study.repeats, strict=True)
        for cut, repeat in product(
            (BASELINE_CUT,) if item == BASELINE else study.cuts, range(repeats)
        )
    }

    def place(row: Row) -> tuple[str, str, float, int, int]:
        cell = row.cell
        return row.item, cell.get("pair", ""), cell["fraction"], cell["cut"], cell["repeat"]

    found = {place(row) for row in rows if (row.split, row.metric) == ("test", "accuracy")}
    for item, pair, fraction, cut, repeat in sorted(wanted - found):
        raise DataError(
            f"{FOLDER}/runs/{item}/rows.jsonl: expected a row for pair {pair}, fraction "
            f"{fraction}, cut {cut}, repeat {repeat}, found none; run `dvc repro cuts@{item}`"
        )
    return [row for row in rows if place(row) in wanted]


def drawn(scores: CutScores, shown: list[str]) -> Iterator[tuple[str, Figure]]:
    """Every figure with its name; `shown` are the settings that differ between cuts."""
    ranks = {setting: cut_tables.ranks(scores, setting) for setting in shown}
    every = settings(scores)
    yield "difference", cut_lines.difference(scores, every, bootstrap)
    yield "figures/gain", cut_lines.gains(scores, every)
    yield "figures/mean", cut_lines.means(scores, every)
    yield "box", cut_boxes.overview(scores, shown, ranks)
    yield "figures/bars", cut_lines.bars(scores, shown)
    yield "figures/heat-map", cut_maps.heat_map(scores, shown)
    if min(len(scores.images), *(len(cuts(scores, setting)) for setting in shown)) > 1:
        yield "figures/surface", cut_maps.surface(scores, shown)
    for setting in shown:
        other = "" if setting == shown[0] else shown[0]
        yield (
            f"figures/box-{setting}",
            cut_boxes.boxes(
                scores,
                setting,
                ranks[setting],
                letters=cut_tables.letter_groups(scores, setting),
                against=cut_tables.against(scores, setting, other) if other else None,
                other=other,
            ),
        )
        yield f"figures/range-{setting}", cut_lines.ranges(scores, setting)


def bootstrap() -> np.random.Generator:
    """Generator of one bootstrap."""
    return np.random.default_rng(BOOTSTRAP_SEED)


def write_tables(stem: str, reading: str, tables: list[Table]) -> None:
    """Write tables as Markdown, below how to read them, and as LaTeX."""
    write_text(FOLDER / f"{stem}.md", "\n".join([reading, *map(markdown, tables)]))
    write_text(FOLDER / f"{stem}.tex", "\n".join(map(latex, tables)))


def reading(study: Cuts, n: int, rows: list[Row]) -> str:
    """How to read the tables: n, what an interval is over, how the best cut was chosen."""
    counts = sorted({row.n for row in rows if row.split == "validation"})
    validation = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    unseen = " that no training or choice has seen" if study.best_by != "test" else ""
    tested = (
        f"Accuracy in per cent on {n} test images{unseen}."
        if study.test_on == "test"
        else f"Accuracy in per cent on {n} TRAINING images, as the original measured it."
    )
    same = "test images" if study.test_on == "test" else "these TRAINING images"
    chosen_on = f"validation images (n = {validation})" if study.best_by == "validation" else same
    return (
        f"\nPreset {study.preset}; source {study.pretrained}, target {study.dataset} classes "
        f"{', '.join(map(str, sorted(study.classes)))}. {tested}\n\n"
        "Settings: fr freezes the first k convolutions and resets the rest (k is the cut), f "
        "freezes them and tunes the rest, r keeps them, resets the rest and tunes all, none keeps "
        "and tunes all, ft freezes them and removes the rest; the head is always new. Cut 0 of fr, "
        "r and ft keeps nothing of the source network and is left out when the best cut is chosen. "
        "By construction f at cut 0, r at the last cut and none are one experiment, and so are fr "
        "and r at cut 0.\n\n"
        f"Every training, from scratch too, has {budget(study, rows)}. Square brackets: 95 % "
        "Student t interval over repeats, each with newly drawn training images (at 100 % nearly "
        f"the same ones) and new weights; {same} and the one source network stay the same. "
        "Gains are paired by repeat: both networks saw the same training images. Intervals are "
        "not adjusted for their number; p (Holm) is: of a paired t test, over the table's rows. "
        "Cut 0 of ft is a linear model on the pixels. The best cut is that with the highest mean "
        f"accuracy on {chosen_on}; {weights(study, validation)}.\n\n"
        "Signed-rank tests of all pairs of cuts and of settings, corrected over these, are in "
        "tests.md: they ask more than the first table does. More figures are in figures/.\n"
    )


def budget(study: Cuts, rows: list[Row]) -> str:
    """What ends a training, and where that is not the same number of updates, how many it is."""
    until = (
        f", less after {study.patience} validations in a row without a better one"
        if study.patience
        else ""
    )
    if study.max_updates:
        limit = f"at most {study.max_updates} updates on batches of {study.batch_size}"
        return f"the same budget: {limit}{until}"
    images = [row.n for row in rows if row.split == "train"]
    few, many = (study.epochs * ceil(n / study.batch_size) for n in (min(images), max(images)))
    limit = f"at most {study.epochs} epochs of batches of {study.batch_size}{until}"
    if few == many:
        return f"the same budget: {limit}, that is {few} updates"
    return (
        f"{limit}. Equal epochs are not equal updates: at most {few} with the fewest images and "
        f"{many} with the most, so a difference between fractions is one of images and of updates"
    )


def weights(study: Cuts, validation: str) -> str:
    """Which weights a training ends with."""
    if study.restore_best == "always":
        return f"{validation} validation images also choose each training's weights"
    if not study.patience:
        return "each training keeps its last weights"
    return (
        f"{validation} validation images also choose the weights of a training that patience "
        "stopped; one that ran to its end keeps its last"
    )
