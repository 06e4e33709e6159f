"""The sequence study's tables, figures and summary, from its rows and predictions.

``dvc repro sequence-report`` writes ``reports/sequence/``: ``summary.json`` (what ``dvc metrics
diff`` compares), ``sequence`` as CSV, Markdown and LaTeX, ``matrices.csv``, and as SVG and PNG
``matrix``, ``tasks``, ``transfer-last``, ``backward``, ``mixing``, ``steps`` and ``tsne``. Figures
and summary are of the preset in ``params.yaml``; rows kept under ``results/`` are further tables,
and panels of ``transfer-last``. The published numbers are those of
``claims/released/sequence.csv`` and ``sequence-thesis.csv``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from carryover import run
from carryover.config.sequence import Sequence as Study
from carryover.errors import listed
from carryover.files import write_json, write_text
from carryover.report import (
    figures,
    sequence_curves,
    sequence_dots,
    sequence_lines,
    sequence_maps,
    sequence_paired,
    sequence_published,
    sequence_tables,
    sequence_tsne,
)
from carryover.report.sequence_gains import REFERENCES, Gain, gains
from carryover.report.sequence_scores import At, Scores, from_rows, numbers, runs
from carryover.report.sequence_summary import answer, headline, reading, summarise
from carryover.report.stored import kept_rows, rows_of_preset
from carryover.report.tables import Table, latex, markdown
from carryover.rows import read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carryover.config.params import Params

__all__ = ["FOLDER", "headline", "stage"]

FOLDER, RESULTS = Path("reports/sequence"), Path("results")
PREDICTIONS = Path("data/predictions/sequence")
RELEASED = Path("claims/released")


def stage(params: Params, item: str, context: run.Context) -> None:
    """Read the rows of every item in ``sequence.items`` and write the report's files."""
    study = params.sequence
    rows = [row for name in study.items for row in read_rows(rows_of(name))]
    right = sequence_paired.read(PREDICTIONS / name / sequence_paired.FILE for name in study.items)
    scores = replace(from_rows(rows_of_preset(rows, study.preset, "sequence")), right=right)
    kept = [from_rows(each) for each in kept_rows(RESULTS, "sequence", study.preset)]
    published = sequence_published.read(RELEASED)
    found = gains(scores)
    tables = tables_of(scores, kept, published, found)
    text = f"{reading(scores, study.encoder, settings(study, scores))}\n\n{answer(scores, found)}"
    maps = sequence_tsne.read_maps(rows_of(name).with_name("tsne.csv") for name in study.items)
    drawn = [*figures_of(scores, kept, published), ("tsne", sequence_tsne.maps(maps))]
    context.refuse_edited()
    write_json(FOLDER / "summary.json", summarise(scores))
    write_text(FOLDER / "sequence.csv", sequence_tables.results_csv([scores, *kept]))
    write_text(FOLDER / "matrices.csv", sequence_tables.matrices_csv([scores, *kept]))
    write_text(
        FOLDER / "sequence.md", "\n".join([f"# Sequence\n\n{text}\n", *map(markdown, tables)])
    )
    parts = [part for table in tables for part in sequence_tables.for_paper(table)]
    write_text(FOLDER / "sequence.tex", "\n".join(map(latex, parts)))
    for name, figure in drawn:
        figures.save(figure, FOLDER / name)


def rows_of(item: str) -> Path:
    """Rows of one item."""
    return FOLDER / "runs" / item / "rows.jsonl"


def tables_of(
    scores: Scores, kept: Sequence[Scores], published: Scores, found: Sequence[Gain]
) -> list[Table]:
    """Every table that has a line: results first, then differences, released and kept ones."""
    made = [sequence_tables.results(scores)]
    made += [sequence_tables.differences(scores, found, each) for each in REFERENCES]
    made += [sequence_tables.beside(scores, published), sequence_tables.training(scores)]
    for each in kept:
        apart = gains(each)
        made.append(sequence_tables.results(each))
        made += [sequence_tables.differences(each, apart, other) for other in REFERENCES]
        made += [sequence_tables.beside(each, published), sequence_tables.training(each)]
    return [table for table in made if table.lines]


def figures_of(
    scores: Scores, kept: Sequence[Scores], published: Scores
) -> Iterator[tuple[str, Figure]]:
    """Every figure with its name."""
    yield "matrix", sequence_maps.maps(scores)
    yield "tasks", sequence_lines.tasks(scores, published)
    yield "transfer-last", sequence_dots.transfer_last(scores, published, kept)
    yield "backward", sequence_dots.backward(scores)
    yield "mixing", sequence_curves.mixing(scores)
    yield "steps", sequence_curves.steps(scores)


def settings(study: Study, scores: Scores) -> list[str]:
    """Sentences on the protocol: budget, rates, what trains and names classes, faults."""
    length = f"Updates of each set: {study.updates}"
    if study.epochs:
        length = f"Passes over each set's images: {study.epochs},"
    said = [
        f"{length} in batches of {study.batch_size}.",
        _rates(study, scores),
        _networks(study),
    ]
    faults = {
        "one update more than asked": study.faults_of_original.extra_step,
        "later sets train one update at rate 0": study.faults_of_original.resume_bug,
        "iCaRL's memory is larger than asked": study.faults_of_original.icarl_counts,
        "tests on the way are of the student although its mean is handed on": (
            study.faults_of_original.eval_student
        ),
    }
    on = [name for name, is_on in faults.items() if is_on]
    return [*said, f"As published: {'; '.join(on)}."] if on else said


def _networks(study: Study) -> str:
    """What trains, what tells classes, and settings that are seldom used."""
    told = f"Train mode {study.train_mode}: a set's classes are told by "
    told += "its head once it was trained, by its prompts before" if study.headed else "its prompts"
    rare = {
        f"with the templates of {study.template}": study.template is not None,
        "the networks' ends are held": study.freeze,
        "computed in bfloat16": study.precision == "bfloat16",
    }
    return "; ".join([told, *(name for name, is_on in rare.items() if is_on)]) + "."


def _rates(study: Study, scores: Scores) -> str:
    """How learning rates are chosen, which were, and whether that is where a list ends."""
    told = []
    for kind, what in {"full": "all weights", "lora": "adapters"}.items():
        tried = sorted(study.lrs[kind])
        found = [run for run in runs(scores) if (run.item == "lora") == (kind == "lora")]
        by_seed = [numbers(scores, run, "train", "lr").get(At(), {}) for run in found]
        for rate in sorted({number.value for each in by_seed for number in each.values()}):
            end = ", where the list ends" if rate in (tried[0], tried[-1]) else ""
            told.append(f"for {what} {rate:g} of {listed(f'{each:g}' for each in tried)}{end}")
    if all(len(rates) == 1 for rates in study.lrs.values()):
        return "Learning rates are given, none was chosen."
    return (
        "The learning rate is the one by which plain fine-tuning names most of "
        f"{100 * study.validation_fraction:g} % of each set's training images, held out for the "
        f"first seed and order; all methods take it: {'; '.join(told)}."
    )
