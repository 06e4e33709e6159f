"""The retrieval study's tables, figures and summary, from its rows and predictions.

``dvc repro retrieval-report`` writes ``reports/retrieval/``: ``summary.json`` (what ``dvc metrics
diff`` compares), ``retrieval`` as CSV (every number), Markdown and LaTeX, ``gains.csv``, and as SVG
and PNG ``steps``, ``efficiency``, ``controls``, ``noise``, ``memory``, ``corruptions``,
``calibration`` and ``nearest``. Figures and summary are of the preset in ``params.yaml``; rows kept
under ``results/`` are further tables, and panels of ``steps``. The published numbers are those of
``claims/released/retrieval.csv``; ``nearest`` shows images of the prepared set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from carryover import retrieval_predictions, run
from carryover.config.retrieval import Retrieval as Study
from carryover.config.retrieval import Source
from carryover.config.selfsupervised import SelfSupervised
from carryover.files import write_json, write_text
from carryover.report import (
    figures,
    retrieval_attended,
    retrieval_corruptions,
    retrieval_curves,
    retrieval_dots,
    retrieval_published,
    retrieval_steps,
    retrieval_tables,
)
from carryover.report.retrieval_gains import REFERENCES, gains
from carryover.report.retrieval_names import CONTROLS
from carryover.report.retrieval_nearest import Looked, nearest
from carryover.report.retrieval_published import Printed
from carryover.report.retrieval_scores import Scores, from_rows, numbers, places
from carryover.report.retrieval_summary import answer, headline, reading, summarise
from carryover.report.stored import kept_rows, rows_of_preset
from carryover.report.tables import Table, latex, markdown
from carryover.rows import read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carryover.config.params import Params

__all__ = ["FOLDER", "headline", "stage"]

FOLDER, RESULTS = Path("reports/retrieval"), Path("results")
RELEASED = Path("claims/released/retrieval.csv")
SETS = Path("data/sets")


def stage(params: Params, item: str, context: run.Context) -> None:
    """Read the rows of every item in ``retrieval.items`` and write the report's files."""
    study = params.retrieval
    rows = [row for name in study.items for row in read_rows(rows_of(name))]
    right = retrieval_predictions.read(study.items)
    scores = from_rows(rows_of_preset(rows, study.preset, "retrieval"), right)
    kept = [from_rows(each) for each in kept_rows(RESULTS, "retrieval", study.preset)]
    printed = retrieval_published.read(RELEASED)
    looked: dict[str, list[Looked]] = {
        name: retrieval_attended.read(retrieval_predictions.FOLDER / name / retrieval_attended.FILE)
        for name in study.items
    }
    found = gains(scores)
    tables = tables_of(scores, kept, printed)
    said = settings(study, params.pretrain, scores, {row.item: row.params for row in rows})
    text = f"{reading(scores, said)}\n\n{answer(scores, found)}"
    drawn = [*figures_of(scores, kept, study), ("nearest", of_nearest(looked, study.dataset))]
    context.refuse_edited()
    write_json(FOLDER / "summary.json", summarise(scores))
    write_text(FOLDER / "retrieval.csv", retrieval_tables.cells_csv([scores, *kept]))
    write_text(FOLDER / "gains.csv", retrieval_tables.gains_csv(found))
    write_text(
        FOLDER / "retrieval.md", "\n".join([f"# Retrieval\n\n{text}\n", *map(markdown, tables)])
    )
    parts = [part for table in tables for part in retrieval_tables.for_paper(table)]
    write_text(FOLDER / "retrieval.tex", "\n".join(map(latex, parts)))
    for name, figure in drawn:
        figures.save(figure, FOLDER / name)


def rows_of(item: str) -> Path:
    """Rows of one item."""
    return FOLDER / "runs" / item / "rows.jsonl"


def tables_of(scores: Scores, kept: Sequence[Scores], printed: Sequence[Printed]) -> list[Table]:
    """Every table that has a line: results first, then differences, published and kept ones."""
    made = []
    for each in (scores, *kept):
        found = gains(each)
        made += [retrieval_tables.results(each), retrieval_tables.noises(each)]
        made += [retrieval_tables.differences(each, found, other) for other in REFERENCES]
        made += [retrieval_tables.training(each), retrieval_tables.beside(each, printed)]
    return [table for table in made if table.lines]


def figures_of(
    scores: Scores, kept: Sequence[Scores], study: Study
) -> Iterator[tuple[str, Figure]]:
    """Every figure of the rows with its name; of kept ones those of other items or sets."""
    others = [each for each in kept if not {*places(each)} <= {*places(scores)}]
    yield "steps", retrieval_steps.steps(scores, others)
    yield "efficiency", retrieval_dots.efficiency(scores)
    yield "controls", retrieval_dots.controls(scores)
    yield "noise", retrieval_curves.noise(scores)
    published = retrieval_published.scores(RELEASED)
    yield "memory", retrieval_curves.memory(scores, published, study.memory.per_class)
    yield "corruptions", retrieval_corruptions.corruptions(scores)
    yield "calibration", retrieval_dots.calibration(scores)


def of_nearest(looked: Mapping[str, Sequence[Looked]], dataset: str) -> Figure:
    """Test images with what was retrieved for each; a figure that says so where nothing is."""
    if not any(looked.values()) or not (SETS / dataset / "manifest.json").exists():
        return nearest({}, {}, {}, ())
    return nearest(looked, *retrieval_attended.pictures(SETS / dataset, looked))


def settings(
    study: Study,
    pretrained: Mapping[str, object],
    scores: Scores,
    made_with: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Sentences on the protocol: memory, budget, how rates are chosen, faults that are on.

    Args:
        pretrained: recipes of the networks that are trained here, which say on what.
        made_with: digest of the parameters that each item's rows were made with.
    """
    memory = study.memory
    images = {
        "disjoint": "which no model is trained on",
        "training": "which are training images too"
        + (", an image's own left out" if memory.exclude_own else ", an image's own not left out"),
    }[memory.images]
    chosen = [item for item in study.items if _several(study, item)]
    updates = ", ".join(f"{item} {_updates(scores, item)}" for item in study.items)
    said = [
        *_unlike(made_with),
        f"The memory holds {memory.per_class} images of each class of {study.dataset}, {images}, "
        f"as embeddings by {_told(memory.encoder, pretrained)}; others for every seed.",
        *_starts(study, pretrained),
        f"Updates: {updates}, in batches of {study.batch_size}.",
        "Learning rates are those that name most of "
        f"{100 * study.validation_fraction:g} % of the training images, held out for the first "
        "seed, by the plain arm of each access, whose other arms take the same, and by each arm "
        "with pretrained weights for itself."
        if chosen
        else "Learning rates are given, none was chosen.",
    ]
    faults = {
        "every random entry is entry 0": study.faults_of_original.entry_zero,
        "retrieval blocks scramble the map": study.faults_of_original.reshaped_tokens,
        "accuracy is the highest of estimates on some test images": (
            study.faults_of_original.running_maximum
        ),
        f"{study.head_classes} outputs": study.head_classes > 0,
        "pixels are not normalised": not study.normalise,
        "an epoch's last, smaller batch is left out": study.drop_last,
        "rates move once an epoch": any(
            study.training[item].schedule == "cosine-epoch" for item in study.items
        ),
    }
    on = [name for name, is_on in faults.items() if is_on]
    return [*said, f"As published: {'; '.join(on)}."] if on else said


def _updates(scores: Scores, item: str) -> int:
    """The most updates that a training of an item took: fewer are of those that diverged."""
    taken = [
        each.value
        for arm in scores.numbers
        if arm.item == item
        for found in numbers(scores, arm, "updates", "train").values()
        for each in found.values()
    ]
    return round(max(taken, default=0))


def _unlike(made_with: Mapping[str, str]) -> list[str]:
    """A sentence where not all items' rows were made with the same parameters."""
    if len(set(made_with.values())) < 2:
        return []
    listed = ", ".join(f"{item} {digest}" for item, digest in made_with.items())
    return [
        f"The items' rows were made with different parameters (digests: {listed}): do not compare "
        "items. What is said here of memory, batches, rates and faults is of the present ones; "
        "`dvc repro retrieval` makes all rows with these."
    ]


def _starts(study: Study, pretrained: Mapping[str, object]) -> list[str]:
    """What the arms with pretrained weights start from."""
    told = [
        f"{item}, {CONTROLS[name][1]}: {_told(source, pretrained)}"
        for item in study.items
        for name, source in (study.starts or {}).get(item, {}).items()
        if name in study.controls.get(item, ())
    ]
    return [f"Pretrained starts: {'; '.join(told)}."] if told else []


def _told(source: Source, pretrained: Mapping[str, object]) -> str:
    """An encoder with the sets that it was pretrained on, where that was done here."""
    recipe = pretrained.get(source.source.removeprefix("pretrain:"))
    if isinstance(recipe, SelfSupervised):
        return f"{source.source} (images of {' and '.join(recipe.sets)} without labels)"
    return source.source


def _several(study: Study, item: str) -> bool:
    return any(len(rates) > 1 for rates in study.training[item].lrs.values())
