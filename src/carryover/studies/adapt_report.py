"""The adaptation study's tables, figures and summary, from its rows and predictions.

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
from carryover.config.encoders import EncoderEntry
from carryover.errors import DataError
from carryover.files import write_json, write_text
from carryover.report import (
    adapt_csv,
    adapt_fault,
    adapt_gains,
    adapt_lines,
    adapt_paired,
    adapt_published,
    adapt_tables,
    adapt_time,
    figures,
)
from carryover.report.adapt_scores import (
    CORRECT,
    FAULTS,
    PROBE,
    SOLVER,
    ZERO_SHOT,
    AdaptScores,
    from_rows,
    share,
)
from carryover.report.adapt_summary import (
    answer,
    ends_of_lists,
    headline,
    of_differences,
    passes,
    softmaxes,
    summarise,
)
from carryover.report.tables import Table, latex, markdown
from carryover.rows import Row, read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carryover.config.params import Params

__all__ = ["FOLDER", "headline", "stage"]

FOLDER = Path("reports/adapt")
RELEASED = Path("claims/released/adapt.csv")
PREDICTIONS = Path("data/predictions/adapt")
TIMES = Path("reports/bench/adapt.json")
FOLDERS = {"missing-class": "missing", "extra-class": "too many"}
GAINS = (
    "Accuracy minus that of the frozen probe on the same partition and seed: of the one trained by "
    "Adam, which has the other methods' updates, and of the solver's, which goes on until it "
    "converges. p: after Holm's correction over all methods and partitions of a table; those "
    "of the means over the methods alone."
)
RETENTION = (
    "Accuracy of the text head, which was not trained, on the adapted image encoder. Square "
    "brackets: 95 % intervals over test images and seeds, before adapting over test images alone. "
    "Means give each set the same weight. retention.csv has each set, and the change with its "
    "interval."
)


def stage(params: Params, item: str, context: run.Context) -> None:
    """Read the rows of every item in ``adapt.items`` and write the report's files."""
    study = params.adapt
    every = [row for name in study.items for row in read_rows(rows_of(name))]
    rows = cells_listed(every, study)
    scores = from_rows(rows, adapt_paired.read(map(predictions_of, study.items)))
    probes = adapt_gains.references(scores)
    gains = {over: adapt_gains.gains(scores, over) for over in probes}
    means = {over: adapt_gains.mean_gains(scores, over) for over in probes}
    changes = adapt_gains.changes(scores)
    gained = [adapt_tables.gains_table(scores, over, gains[over], means[over]) for over in probes]
    retained = adapt_tables.retention_tables(scores)
    tables = [adapt_tables.accuracy_table(scores), *gained]
    tables += [adapt_tables.changes_table(scores, changes)] if changes else []
    tables += [*retained, adapt_tables.calibration_table(scores)]
    text = reading(study, scores, params.encoders[study.encoder])
    text += f"\n\n{answer(scores, means, changes, folders_of(study))}"
    drawn = list(figures_of(scores, folders_of(study)))
    context.refuse_edited()
    write_json(FOLDER / "summary.json", summarise(scores, gains[PROBE], means[PROBE], changes))
    write_text(FOLDER / "adapt.csv", adapt_csv.cells_csv(scores))
    both = [[each for over in probes for each in made[over]] for made in (gains, means)]
    write_text(FOLDER / "gains.csv", adapt_csv.gains_csv(scores, *both))
    write_text(FOLDER / "retention.csv", adapt_csv.retention_csv(scores))
    write_tables("adapt", f"# Adapt\n\n{text}\n", tables)
    over = of_differences(scores)
    write_tables("gains", f"# Gains over the frozen probe\n\n{GAINS} {over}\n", gained)
    title = "# How much zero-shot transfer was kept"
    write_tables("retention", f"{title}\n\n{RETENTION} {over}\n", retained)
    for name, figure in drawn:
        figures.save(figure, FOLDER / name)


def rows_of(item: str) -> Path:
    """Rows of one item."""
    return FOLDER / "runs" / item / "rows.jsonl"


def predictions_of(item: str) -> Path:
    """Predictions of one item."""
    return PREDICTIONS / item / adapt_paired.FILE


def cells_listed(rows: Sequence[Row], study: Adapt) -> list[Row]:
    """The rows of the cells that the parameters list.

    Raises:
        DataError: a listed cell has no test accuracy.
    """
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

    own = (study.dataset, "test", "accuracy")
    tested = {
        place(row)
        for row in rows
        if (row.cell["dataset"], row.split, row.metric) == own
        or row.cell["method"] == ZERO_SHOT  # on other sets alone where words are not known
    }
    for item, encoder, method, partition, seed in sorted(wanted - tested, key=str):
        where = "" if partition is None else f", partition {partition}, seed {seed}"
        raise DataError(
            f"{rows_of(item)}: expected a test accuracy of {encoder} on {study.dataset}, {method}"
            f"{where}, found none; run `dvc repro adapt@{item}`"
        )
    sets = {study.dataset, *(study.others or ())}
    return [row for row in rows if place(row) in wanted and row.cell["dataset"] in sets]


def folders_of(study: Adapt) -> str:
    """The partitions of methods that have no fault of their own, in words."""
    if study.partition_fault == "none":
        return CORRECT
    return f"a class folder {FOLDERS[study.partition_fault]}"


def figures_of(scores: AdaptScores, folders: str = CORRECT) -> Iterator[tuple[str, Figure]]:
    """Every figure with its name."""
    published = adapt_published.read(RELEASED)
    same = scores.dataset == adapt_published.DATASET
    yield "accuracy", adapt_lines.accuracy(scores, published if same else None)
    yield "fault", adapt_fault.fault(scores, published, folders)
    yield "retention", adapt_lines.retention(scores)
    yield "calibration", adapt_lines.calibration(scores)
    yield "time", adapt_time.time(adapt_time.read(TIMES))


def write_tables(stem: str, reading: str, tables: Sequence[Table]) -> None:
    """Write tables as Markdown, below how to read them, and as LaTeX in parts as wide as a page."""
    write_text(FOLDER / f"{stem}.md", "\n".join([reading, *map(markdown, tables)]))
    parts = [part for table in tables for part in adapt_tables.for_paper(table)]
    write_text(FOLDER / f"{stem}.tex", "\n".join(map(latex, parts)))


def reading(study: Adapt, scores: AdaptScores, entry: EncoderEntry) -> str:
    """How to read the tables: what was adapted how, intervals, which faults are on."""
    said = (_methods(study, scores), _training(study, scores), _budget(study, scores))
    parts = [" ".join(said).rstrip(), _intervals(study, scores)]
    softmax = softmaxes(study.of_items(study.softmax))
    on = {
        f"a class folder {FOLDERS.get(study.partition_fault)} from {share(study.fault_from)} on": (
            study.partition_fault != "none"
        ),
        f"{softmax} before the loss": bool(softmax),
        "Adam in half precision": study.adam == "float16",
        "learning rates that fall from tensor to tensor": study.decay_per == "tensor",
        "a random head": study.head == "random",
        "learning rates that stay the same from update to update": study.schedule == "constant",
        "pixels without the encoder's own normalisation": not entry.normalise,
        "one prompt for all sets": entry.prompts == "generic",
    }
    faults = "; ".join(name for name, is_on in on.items() if is_on)
    return "\n\n".join([*parts, *([f"As published: {faults}."] if faults else [])])


def _methods(study: Adapt, scores: AdaptScores) -> str:
    """What was adapted, and what each method does."""
    done = {
        ZERO_SHOT: "takes the class names as text and no training images",
        PROBE: "trains a linear head on stored embeddings",
        SOLVER: "finds such a head with a solver",
        "unfreeze": "also trains weights of the encoder: those of one kind, those of its last "
        "blocks, or all",
        "llrd": f"trains the layer norms from block {study.blocks_from} on, with learning rates "
        f"that are multiplied by {study.decay:g} from {study.decay_per} to {study.decay_per} "
        "towards the input",
        "llrd-blocks": "trains all weights, with rates that are multiplied by "
        f"{study.decay_blocks:g} from {study.decay_per} to {study.decay_per} towards the input",
    }
    here = {method for item in study.items for method in study.methods(item)}
    here |= {"unfreeze"} & set(study.items)
    wordless = ZERO_SHOT in here and "accuracy" not in scores.zero_shot
    here -= {ZERO_SHOT} if wordless else set()
    methods = "; ".join(f"{name} {what}" for name, what in done.items() if name in here)
    unknown = (
        f" The encoder knows no text for the classes of {scores.dataset}, so that zero-shot is on "
        "the other sets alone."
        if wordless
        else ""
    )
    return (
        f"Preset {study.preset}: encoder {scores.encoder} is adapted to {scores.dataset} on shares "
        f"of its training images; accuracy is on {scores.n} test images that no training and no "
        f"choice of settings has seen. Methods: {methods}.{unknown}"
    )


def _training(study: Adapt, scores: AdaptScores) -> str:
    """Budgets, and how rates and penalties were chosen."""
    epochs = ", ".join(f"{count} ({name})" for name, count in study.of_items(study.epochs))
    most = f" and {study.max_updates} updates" if study.max_updates else ""
    held = f"{100 * study.validation_fraction:g} % of a partition's images"
    rates = (
        f"Of several learning rates, the one that is right most often on {held}, held out with "
        "the first seed, is taken for all seeds."
        if any(len(rates) > 1 for _, rates in study.of_items(study.lrs))
        else "The learning rates were not chosen among several."
    )
    penalties = (
        f" The solver's penalty is chosen on {held} too, anew with each seed."
        if SOLVER in study.probe and len(study.l2s) > 1
        else ""
    )
    ended = [
        value
        for (method, _, metric), seeds in scores.trained.items()
        if (method, metric) == (SOLVER, "converged")
        for value in seeds.values()
    ]
    short = len(ended) - round(sum(ended))
    stopped = f" It stopped before it converged in {short} of {len(ended)} fits." if short else ""
    return (
        f"Training takes at most {epochs} epochs{most}, in batches of {study.batch_size}. "
        f"{rates}{penalties}{stopped}"
    )


def _budget(study: Adapt, scores: AdaptScores) -> str:
    """How often trainings saw their images, and which rates were at an end of their lists."""
    lists = {
        (method, partition): rates
        for item in study.items
        for method in study.methods(item)
        for partition in scores.images
        if len(rates := study.at(partition).lrs[item]) > 1
        and method not in (ZERO_SHOT, SOLVER, *FAULTS)
    }
    seen = passes(scores, study.batch_size) if study.max_updates else ""
    return " ".join(said for said in (seen, ends_of_lists(scores, lists)) if said)


def _intervals(study: Adapt, scores: AdaptScores) -> str:
    """What the intervals of the tables are over."""
    if len(scores.seeds) == 1:
        return (
            "Square brackets: 95 % intervals over test images; one seed says nothing about other "
            f"seeds. {of_differences(scores)}"
        )
    several = any(len(rates) > 1 for _, rates in study.of_items(study.lrs))
    drawn = ", batches and a head" if study.head == "random" else " and batches"
    rates = " at the rates that the first chose" if several else ""
    return (
        f"Square brackets: 95 % intervals. Those of accuracies are over test images and "
        f"{len(scores.seeds)} seeds, each with nested partitions{drawn} of its own{rates}. "
        f"{of_differences(scores)} Intervals are not adjusted for their number; p values are. "
        "With few seeds, the p value of a single cell survives that only where the seeds agree "
        "closely; the means over partitions are the stronger test."
    )
