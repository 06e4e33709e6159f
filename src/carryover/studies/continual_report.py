"""The continual study's tables, figures and summary, from rows and predictions.

``dvc repro continual-report`` writes ``reports/continual/``: ``summary.json`` (what ``dvc metrics
diff`` compares), ``continual`` as CSV, Markdown and LaTeX, and as SVG and PNG ``accuracy``,
``final``, ``forgetting``, ``matrix``, ``training``, ``training-loss``, ``cka``, ``cka-layers``,
``cka-between`` and ``cka-untrained``. Figures and summary are of the preset in ``params.yaml``;
rows kept under ``results/`` are further tables. The published numbers are those of
``claims/released/continual.csv``. Encoders of two arms meet here alone: ``between.jsonl`` has the
rows of their comparison, made from the layers that the stages kept.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from carryover import run
from carryover.config.continual import Continual
from carryover.config.continual_arms import Arm
from carryover.continual_between import PAIR, between
from carryover.continual_drawn import NAME as DRAWN
from carryover.continual_drawn import read_drawn
from carryover.files import write_json, write_text
from carryover.report import (
    continual_accuracy,
    continual_between,
    continual_cka,
    continual_dots,
    continual_intervals,
    continual_maps,
    continual_paired,
    continual_published,
    continual_tables,
    continual_training,
    figures,
)
from carryover.report.continual_gains import Gain, gains
from carryover.report.continual_paired import Tests
from carryover.report.continual_scores import UNTRAINED, Run, Scores, from_rows, runs
from carryover.report.continual_summary import answer, headline, reading, summarise
from carryover.report.stored import kept_rows, rows_of_preset
from carryover.report.tables import Table, latex, markdown
from carryover.rows import Row, read_rows, write_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carryover.config.params import Params

__all__ = ["FOLDER", "headline", "stage"]

BETWEEN = "between.jsonl"  # rows of encoders of two arms
FOLDER, RESULTS = Path("reports/continual"), Path("results")
RELEASED = Path("claims/released/continual.csv")
CHECKPOINTS = Path("data/checkpoints/continual")
PREDICTIONS = Path("data/predictions/continual")


def stage(params: Params, item: str, context: run.Context) -> None:
    """Read the rows of every item in ``continual.items`` and write the report's files."""
    study = params.continual
    rows = [row for name in study.items for row in read_rows(rows_of(name))]
    read_by_figures = [row for name in study.items for row in drawn_of(study, rows_of(name))]
    tests = continual_paired.read(PREDICTIONS, study.items)
    scores = scored(
        study, [*rows_of_preset(rows, study.preset, "continual"), *read_by_figures], tests
    )
    pairs = rows_between(params, context)
    kept = [scored(study, each) for each in kept_rows(RESULTS, "continual", study.preset)]
    published = continual_published.read(RELEASED)
    texts = texts_of(study, scores, kept, published)
    compared = from_rows(pairs) if pairs else None
    drawn = list(figures_of(scores, compared, published, sigmoid_of(study), kind_of(study)))
    context.refuse_edited()
    write_rows(FOLDER / BETWEEN, pairs)
    write_json(FOLDER / "summary.json", summarise(scores))
    for name, text in texts.items():
        write_text(FOLDER / name, text)
    for name, figure in drawn:
        figures.save(figure, FOLDER / name)


def scored(study: Continual, rows: Sequence[Row], tests: Tests | None = None) -> Scores:
    """Numbers of one preset's rows, what the study's protocols are, and predictions at hand.

    Raises:
        DataError: as `from_rows`.
    """
    masked = [name for name, protocol in study.protocols.items() if protocol.mask]
    repeated = [name for name, protocol in study.protocols.items() if protocol.repeats]
    return from_rows(rows, masked, repeated, tests)


def sigmoid_of(study: Continual) -> list[str]:
    """Heads that end in a sigmoid."""
    return [name for name, head in study.heads.items() if head.sigmoid]


def rows_of(item: str) -> Path:
    """Rows of one item."""
    return FOLDER / "runs" / item / "rows.jsonl"


def drawn_of(study: Continual, path: Path) -> list[Row]:
    """What figures alone read of one item, as if it were rows.

    Args:
        path: the item's rows, which it lies beside.
    Raises:
        DataError: as `read_drawn`.
    """
    made = partial(Row, "continual", path.parent.name, study.preset)
    return [
        made(cell | at, split, metric, value, n, "", "", "", "", "float32")
        for cell, (split, metric, at, value, n) in read_drawn(path.with_name(DRAWN))
    ]


def rows_between(params: Params, context: run.Context) -> list[Row]:
    """CKA between partly frozen and unfrozen encoders that were trained alike.

    Raises:
        DataError: as `between`.
    """
    study = params.continual
    made = between(study.cka, CHECKPOINTS, params.seed) if set(PAIR) <= set(study.items) else []
    return [
        Row(
            study="continual",
            item=PAIR[0],
            preset=study.preset,
            cell=cell | {"with": PAIR[1]} | at,
            split="test",
            metric=metric,
            value=value,
            n=n,
            data=data,
            weights="",
            params=context.params,
            source=context.source,
            precision="float32",
        )
        for cell, data, found in made
        for metric, at, value, n in found
    ]


def texts_of(
    study: Continual, scores: Scores, kept: Sequence[Scores], published: Scores
) -> dict[str, str]:
    """The tables by file name: as CSV, as Markdown with what they say, as LaTeX."""
    found = gains(scores)
    tables = tables_of(scores, kept, published, found)
    said = settings(study, scores)
    text = f"{reading(scores, study.encoder, said)}\n\n{answer(scores, found)}"
    parts = [part for table in tables for part in continual_tables.for_paper(table)]
    return {
        "continual.csv": continual_tables.results_csv([scores, *kept]),
        "continual.md": "\n".join([f"# Continual\n\n{text}\n", *map(markdown, tables)]),
        "continual.tex": "\n".join(map(latex, parts)),
    }


def texts_of_rows(study: Continual, rows: Sequence[Row]) -> dict[str, str]:
    """The same of rows of one preset alone, such as kept ones."""
    return texts_of(study, scored(study, rows), [], continual_published.read(RELEASED))


def figures_of_rows(
    study: Continual, rows: Sequence[Row], pairs: Sequence[Row]
) -> Iterator[tuple[str, Figure]]:
    """Every figure that has a panel, of rows of one preset alone.

    Args:
        rows: with what figures alone read (`drawn_of`).
        pairs: of encoders of two arms.
    """
    scores, published = scored(study, rows), continual_published.read(RELEASED)
    compared = from_rows(pairs) if pairs else None
    found = figures_of(scores, compared, published, sigmoid_of(study), kind_of(study))
    without = set() if pairs else {"cka-between"}
    if not any(run.protocol == UNTRAINED for run in scores.numbers):
        without.add("cka-untrained")  # it would show the published score alone
    for name, figure in found:
        if name not in without and any(axis.axison for axis in figure.axes):
            yield name, figure


def tables_of(
    scores: Scores, kept: Sequence[Scores], published: Scores, found: Sequence[Gain]
) -> list[Table]:
    """Every table that has a line: results first, then differences, published and kept ones."""
    made = [continual_tables.results(scores)]
    made += [continual_tables.differences(scores, found, axis) for axis in ("item", "strategy")]
    made.append(continual_tables.logistic(scores, published))
    for each in (scores, *kept):
        made += [continual_tables.results(each)] * (each is not scores)
        made.append(continual_tables.beside(each, published))
    return [table for table in made if table.lines]


def figures_of(
    scores: Scores,
    compared: Scores | None,
    published: Scores,
    sigmoid: Collection[str],
    cka: str,
) -> Iterator[tuple[str, Figure]]:
    """Every figure with its name."""
    yield "accuracy", continual_accuracy.accuracy(scores, published)
    yield "final", continual_dots.final(scores, published)
    yield "forgetting", continual_dots.forgetting(scores)
    yield "matrix", continual_maps.matrix(scores)
    yield "training", continual_training.training(scores, "epoch_accuracy")
    yield "training-loss", continual_training.training(scores, "epoch_loss", sigmoid)
    yield "cka", continual_cka.by_depth(scores, cka)
    yield "cka-layers", continual_maps.layers(scores, cka)
    yield "cka-between", continual_between.between(scores, compared, cka)
    yield "cka-untrained", continual_cka.untrained(scores, published)


def kind_of(study: Continual) -> str:
    """Which CKA the rows have."""
    return f"{study.cka.kind}, {'debiased' if study.cka.debiased else 'biased'}"


def settings(study: Continual, scores: Scores) -> list[str]:
    """Sentences on the protocol: how rates are chosen, what strategies are called with.

    Arms that have no rows are not told.
    """
    found = runs(scores)
    arms = [arm for arm in study.arms.values() if any(_is_of(study, arm, run) for run in found)]
    budgets = sorted({(arm.epochs, arm.batch_size) for arm in arms})
    budget = ", ".join(f"{epochs} in batches of {size}" for epochs, size in budgets)
    said = [
        f"Epochs of each experience: {budget}. Replay keeps {study.memory} images in all, EWC's "
        f"lambda is {study.ewc_lambda:g}.",
        _rates(study, arms, scores),
    ]
    used = [name for name in sigmoid_of(study) if any(arm.head == name for arm in arms)]
    return [*said, f"A sigmoid before the loss: heads {', '.join(used)}."] if used else said


def _rates(study: Continual, arms: Collection[Arm], scores: Scores) -> str:
    """How learning rates are chosen, and how many ended where an arm's list ends."""
    if all(len(arm.lrs) == 1 for arm in arms):
        return "Learning rates are given, none was chosen."
    chosen = [
        (continual_intervals.mean(scores, run, "train", "lr"), arm.lrs)
        for run in runs(scores)
        for arm in arms
        if len(arm.lrs) > 1 and _is_of(study, arm, run)
    ]
    largest = sum(lr is not None and math.isclose(lr, lrs[-1]) for lr, lrs in chosen)
    smallest = sum(lr is not None and math.isclose(lr, lrs[0]) for lr, lrs in chosen)
    return (
        f"The learning rate is the one that names most of {100 * study.validation_fraction:g} % of "
        "the stream's training images, held out for the first seed, where an arm lists several; of "
        f"{len(chosen)} such lines {largest} chose the largest of their list and {smallest} the "
        "smallest, where others may do better."
    )


def _is_of(study: Continual, arm: Arm, run: Run) -> bool:
    """Whether a run is one of an arm's trainings."""
    freeze = f"freeze {arm.freeze}" if arm.freeze else ""
    trained = (arm.trains, study.encoder_of(arm), arm.features, arm.head, freeze)
    found = (run.item, run.encoder, run.features, run.head, run.rest)
    return found == trained and (run.stream, run.protocol, run.strategy) in arm.cells()
