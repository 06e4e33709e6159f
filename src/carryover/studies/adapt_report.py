"""The adaptation study's tables, figures and summary, from its rows alone.

``dvc repro adapt-report`` writes ``reports/adapt/``: ``summary.json`` (what ``dvc metrics diff``
compares), ``adapt``, ``gains`` and ``retention`` as CSV, Markdown and LaTeX, and as SVG and PNG
``accuracy``, ``fault``, ``retention``, ``calibration`` and ``time``. The published accuracies are
those of ``claims/released/adapt.csv``, times those of ``reports/bench/adapt.json``. Takes 10 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from carryover import run
from carryover.config.adapt import Adapt
from carryover.errors import DataError, listed
from carryover.files import write_json, write_text
from carryover.report import (
    adapt_csv,
    adapt_fault,
    adapt_gains,
    adapt_lines,
    adapt_published,
    adapt_tables,
    adapt_time,
    figures,
)
from carryover.report.adapt_scores import PROBE, ZERO_SHOT, AdaptScores, from_rows, share
from carryover.report.adapt_summary import answer, headline, summarise
from carryover.report.tables import Table, latex, markdown
from carryover.rows import Row, read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carryover.config.params import Params

__all__ = ["FOLDER", "headline", "stage"]

FOLDER = Path("reports/adapt")
RELEASED = Path("claims/released/adapt.csv")
TIMES = Path("reports/bench/adapt.json")
GAINS = (
    "Accuracy minus that of the frozen probe on the same partition and seed. Square brackets: 95 % "
    "Student t interval over seeds on the same test images. p: of a paired t test, corrected by "
    "Holm over all methods and partitions; those of the means over the methods alone."
)
RETENTION = (
    "Accuracy of the text head, which was not trained, on the adapted image encoder. Square "
    "brackets: 95 % over test images and seeds; before adapting over test images. Means give each "
    "set the same weight. retention.csv has each set, and the change with its interval."
)


def stage(params: Params, item: str, context: run.Context) -> None:
    """Read the rows of every item in ``adapt.items`` and write the report's files."""
    study = params.adapt
    rows = cells_listed(
        [row for name in study.items for row in read_rows(rows_of(name))],
        study,
    )
    scores = from_rows(rows)
    gains = adapt_gains.gains(scores)
    means = adapt_gains.mean_gains(scores, gains)
    changes = adapt_gains.changes(scores)
    gained = adapt_tables.gains_table(scores, gains, means)
    retained = adapt_tables.retention_tables(scores)
    tables = [adapt_tables.accuracy_table(scores), gained]
    tables += [adapt_tables.changes_table(scores, changes)] if changes else []
    tables += [*retained, adapt_tables.calibration_table(scores)]
    text = f"{reading(study, scores)}\n\n{answer(scores, means, changes)}"
    drawn = list(figures_of(scores))
    context.refuse_edited()
    write_json(FOLDER / "summary.json", summarise(scores, gains, means, changes))
    write_text(FOLDER / "adapt.csv", adapt_csv.cells_csv(scores))
    write_text(FOLDER / "gains.csv", adapt_csv.gains_csv(scores, gains, means))
    write_text(FOLDER / "retention.csv", adapt_csv.retention_csv(scores))
    write_tables("adapt", f"# Adapt\n\n{text}\n", tables)
    write_tables("gains", f"# Gains over the frozen probe\n\n{GAINS}\n", [gained])
    write_tables("retention", f"# What zero-shot transfer was kept\n\n{RETENTION}\n", retained)
    for name, figure in drawn:
        figures.save(figure, FOLDER / name)


def rows_of(item: str) -> Path:
    """Rows of one item."""
    return FOLDER / "runs" / item / "rows.jsonl"


def cells_listed(rows: Sequence[Row], study: Adapt) -> list[Row]:
    """The rows of the cells that the parameters list.

    Raises:
        DataError: the frozen probe is not among them, or a listed cell has no test accuracy.
    """
    if "probe" not in study.items or PROBE not in study.probe:
        raise DataError(
            f"adapt.probe: expected {PROBE}, which every method is held against, got "
            f"{listed(study.probe)} in items {listed(study.items)}; add it"
        )
    wanted = set()
    for item in study.items:
        for method in study.methods(item):
            places = product(study.partitions, range(study.seeds))
            wanted |= {
                (item, study.encoder, method, *place)
                for place in ([(None, None)] if method == ZERO_SHOT else places)
            }

    def place(row: Row) -> tuple[object, ...]:
        cell = row.cell
        seed, partition = cell.get("seed"), cell.get("partition")
        if cell["method"] == ZERO_SHOT:
            seed = partition = None
        return row.item, cell["encoder"], cell["method"], partition, seed

    tested = {
        place(row)
        for row in rows
        if (row.split, row.metric) == ("test", "accuracy") and row.cell["dataset"] == study.dataset
    }
    for item, encoder, method, partition, seed in sorted(wanted - tested, key=str):
        where = "" if partition is None else f", partition {partition}, seed {seed}"
        raise DataError(
            f"{rows_of(item)}: expected a test accuracy of {encoder} on {study.dataset}, {method}"
            f"{where}, found none; run `dvc repro adapt@{item}`"
        )
    sets = {study.dataset, *(study.others or ())}
    return [row for row in rows if place(row) in wanted and row.cell["dataset"] in sets]


def figures_of(scores: AdaptScores) -> Iterator[tuple[str, Figure]]:
    """Every figure with its name."""
    published = adapt_published.read(RELEASED)
    same = scores.dataset == adapt_published.DATASET
    yield "accuracy", adapt_lines.accuracy(scores, published if same else None)
    yield "fault", adapt_fault.fault(scores, published)
    yield "retention", adapt_lines.retention(scores)
    yield "calibration", adapt_lines.calibration(scores)
    yield "time", adapt_time.time(adapt_time.read(TIMES))


def write_tables(stem: str, reading: str, tables: Sequence[Table]) -> None:
    """Write tables as Markdown, below how to read them, and as LaTeX in parts as wide as a page."""
    write_text(FOLDER / f"{stem}.md", "\n".join([reading, *map(markdown, tables)]))
    parts = [part for table in tables for part in adapt_tables.for_paper(table)]
    write_text(FOLDER / f"{stem}.tex", "\n".join(map(latex, parts)))


def reading(study: Adapt, scores: AdaptScores) -> str:
    """How to read the tables: what was adapted how, intervals, which faults are on."""
    folder = (
        f"a class folder is {study.partition_fault.split('-')[0]} from {share(study.fault_from)}"
    )
    held = 100 * study.validation_fraction
    on = {
        folder: study.partition_fault != "none",
        f"softmax over {study.softmax} before the loss": study.softmax != "none",
        "Adam in half precision": study.adam == "float16",
        "LLRD falls from tensor to tensor": study.decay_per == "tensor",
        "a random head": study.head == "random",
        "rates that do not fall with the updates": study.schedule == "constant",
    }
    faults = "; ".join(name for name, is_on in on.items() if is_on)
    budget = ", ".join(f"{item} {study.epochs[item]}" for item in study.items)
    most = f", at most {study.max_updates} updates" if study.max_updates else ""
    several = len(scores.seeds) > 1
    chosen = (
        f"Where there are several learning rates, the one that names most of {held:g} % of a "
        "partition's images counts, held out for the first seed; penalties likewise for each seed."
        if any(len(rates) > 1 for rates in study.lrs.values())
        else "Learning rates are given, none was chosen."
    )
    head = "" if study.head != "random" else " and another head"
    return (
        f"Preset {study.preset}; encoder {scores.encoder} adapted to {scores.dataset} with shares "
        f"of its training images, accuracy on {scores.n} test images that no training or choice "
        "has seen. zero-shot takes the class names as text and no training image; probe trains a "
        "linear head on stored embeddings, probe-logistic finds it with a solver; unfreeze trains "
        "weights of the encoder too, those of one kind or all of its last groups; llrd trains "
        f"layer norms of blocks {study.blocks_from} and later with learning rates that fall by "
        f"{study.decay:g} towards the input. Epochs: {budget}; batches of {study.batch_size}"
        f"{most}. {chosen}\n\n"
        + (
            f"Square brackets: 95 %. Of an accuracy over test images and {len(scores.seeds)} "
            f"seeds, each with another nested draw of partitions, other batches{head}; "
            "of a difference over seeds alone, on the same test images, paired by seed. Intervals "
            "are not adjusted for their number, p is. With few seeds a cell's p survives that only "
            "where they agree closely; the means over partitions are the stronger test."
            if several
            else "Square brackets: 95 % over test images; one seed says nothing of other seeds. "
            "Differences are taken as on different images, which is too wide."
        )
        + (f"\n\nAs published: {faults}." if faults else "")
    )
