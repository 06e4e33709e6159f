"""The clustering study's tables, figures and summary, from its rows and the cut study's FR rows.

``dvc repro cuts-report`` also writes ``reports/clusters/``: ``summary.json`` (what ``dvc metrics
diff`` compares), ``clusters.csv`` (every score), ``clusters.md`` and ``clusters.tex``, and as SVG
and PNG ``box`` (agglomerative scores), ``predict``, ``tsne`` and ``rank``. Takes 8 s.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from carryover import run
from carryover.config.clusters import Clusters
from carryover.errors import DataError
from carryover.files import write_json, write_text
from carryover.measure.statistics import holm, mean_interval
from carryover.report import cluster_figures, figures
from carryover.report.cluster_summary import (
    NAMES,
    PREDICTORS,
    Accuracies,
    ClusterScores,
    Prediction,
    accuracies,
    by_layer,
    clustered,
    decimals,
    fractions,
    from_rows,
    headline,
    overall,
    predictions,
    summarise,
)
from carryover.report.cut_scores import MEASURED
from carryover.report.tables import Table, latex, markdown, percent, to_csv
from carryover.rows import Row, read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carryover.config.cuts import Cuts
    from carryover.config.params import Params

__all__ = ["FOLDER", "headline", "stage"]

FOLDER = Path("reports/clusters")
ROWS = FOLDER / "runs/all/rows.jsonl"
FR_ROWS = Path("reports/cuts/runs/fr/rows.jsonl")
TESTED = {"test": "test images", "train": "training images"}  # by cuts.test_on


def stage(params: Params, item: str, context: run.Context) -> None:
    """Read the rows of both studies and write the report's files."""
    study = params.clusters
    rows = read_rows(ROWS)
    expect_whole(rows, study)
    scores = from_rows(rows, study.pair)
    found = accuracies(read_rows(FR_ROWS) if FR_ROWS.exists() else [], study.pair)
    made = predictions(scores, found)
    points = read_points(FOLDER / "tsne.csv")
    tables = [
        *([prediction_table(made, MEASURED[params.cuts.test_on])] if made else []),
        *(score_table(scores, *kind, images) for kind in PREDICTORS for images in study.images),
        rank_table(scores),
    ]
    tables = [table for table in tables if table.lines]
    text = reading(study, params.cuts, made, found)
    context.refuse_edited()
    write_json(FOLDER / "summary.json", summarise(scores, made))
    write_text(FOLDER / "clusters.csv", scores_csv(scores))
    write_text(FOLDER / "clusters.md", "\n".join(["# Clusters", text, *map(markdown, tables)]))
    write_text(FOLDER / "clusters.tex", "\n".join(map(latex, tables)))
    for name, figure in drawn(study, params.cuts, scores, made, found, points):
        figures.save(figure, FOLDER / name)


def expect_whole(rows: list[Row], study: Clusters) -> None:
    """Refuse rows that were made with another pair, or other methods, fractions or repeats.

    Raises:
        DataError: a clustering that the parameters list has no row.
    """
    found = {
        tuple(row.cell.get(axis) for axis in ("pair", "method", "images", "fraction", "repeat"))
        for row in rows
    }
    for method in study.methods:
        for images in study.images:
            for fraction, repeats in zip(study.fractions, study.repeats, strict=True):
                for repeat in range(repeats):
                    if (study.pair, method, images, fraction, repeat) not in found:
                        raise DataError(
                            f"{ROWS}: expected a row for pair {study.pair}, {method}, {images}, "
                            f"fraction {fraction}, repeat {repeat}, found none; run `dvc repro "
                            "clusters`"
                        )


def read_points(path: Path) -> dict[tuple[str, str], list[tuple[str, float, float]]]:
    """Coordinates of ``tsne.csv`` by set of images and layer."""
    points: dict[tuple[str, str], list[tuple[str, float, float]]] = {}
    for line in csv.DictReader(io.StringIO(path.read_text())):
        place = line["images"], line["layer"]
        points.setdefault(place, []).append((line["class"], float(line["x"]), float(line["y"])))
    return points


def drawn(
    study: Clusters,
    cuts: Cuts,
    scores: ClusterScores,
    made: Sequence[Prediction],
    found: Accuracies,
    points: cluster_figures.Points,
) -> Iterator[tuple[str, Figure]]:
    """Every figure with its name; one that there are no data for says so."""
    method, metric = PREDICTORS["agglomerative" not in study.methods]
    yield "box", cluster_figures.boxes(scores, method, metric)
    if made:
        yield "predict", cluster_figures.predicted(made, study.pair, found.n, TESTED[cuts.test_on])
    else:
        yield "predict", figures.nothing("no FR accuracies of three layers: run cuts@fr")
    if points:
        yield "tsne", cluster_figures.maps(points, study.pair)
    else:
        yield "tsne", figures.nothing("no maps: clusters.tsne_images is 0")
    yield "rank", cluster_figures.rank_bars(scores.ranks, study.pretrained)


# --- text and tables ---------------------------------------------------------------------------


def reading(study: Clusters, cuts: Cuts, made: Sequence[Prediction], found: Accuracies) -> str:
    """How to read the tables: what was clustered, n, what an interval is over, what was found."""
    limits = ", ".join("all" if limit == 0 else f"at most {limit}" for limit in study.num_samples)
    target = f"images of {study.dataset} classes {', '.join(map(str, sorted(study.classes)))}"
    sets = {
        "finetune": f"on {target} (target), which it has never seen",
        "pretrain": "on the images it was pretrained on (source)",
    }
    principal = f", {study.pca} principal directions" if study.pca else ""
    methods = {
        "agglomerative": "agglomerative clusters (cosine distance, average linkage) of each "
        "channel's mean over space, which forgets where in the image something is",
        "kmeans": f"K-means of each channel's pixels by itself ({limits} images of a subset"
        f"{principal}), its best and its mean channel",
    }
    ran = [told for name, told in methods.items() if name in study.methods]
    chosen = (
        " The best of many channels is biased upwards: it was chosen by the labels that it is "
        "scored with."
    )
    on = [told for key, (of, told) in FAULTS.items() if getattr(study, key) and of in study.methods]
    return (
        f"\nPreset {study.preset}, pair {study.pair}: layers of {study.pretrained} "
        f"{', and '.join(told for name, told in sets.items() if name in study.images)}. Outputs "
        f"are taken before the activation. {'Two scores' if len(ran) > 1 else 'Scored'}: "
        f"{'; and '.join(ran)}. As many clusters as classes."
        f"{chosen if 'kmeans' in study.methods else ''}\n\n"
        "Scores are adjusted Rand indices: 1 where clusters are the classes, 0 what chance gives. "
        "Square brackets: 95 % Student t interval over repeats, each another subset of the same "
        "training images (at 100 % nearly the same ones); the one network and the classes stay "
        "the same, so no interval speaks for other networks or other classes.\n"
        + (f"\nAs published, {'; '.join(on)}.\n" if on else "")
        + "\n"
        + (answer(made, found, cuts) if made else NO_ANSWER.format(pair=study.pair))
        + "\n"
    )


FAULTS = {  # parameter: method whose score it changes, what it does
    "count_diagonal": ("agglomerative", "pairs of an image with itself count as found"),
    "inverse_assignment": ("agglomerative", "cluster accuracy reads the assignment backwards"),
    "channel_in_scores": (
        "kmeans",
        "best and mean run over channel ids, as hundredths, and scores",
    ),
}
NO_ANSWER = (
    "No comparison with accuracies: the cut study has no rows of setting fr for pair {pair} with "
    "these fractions and three or more cuts. `dvc repro cuts@fr` makes them."
)


def answer(made: Sequence[Prediction], found: Accuracies, cuts: Cuts) -> str:
    """Does clustering predict the best cut? What these rows say, and what they cannot say."""
    p_holm = holm([each.p for each in made])
    ordered = sum(p < 0.05 for p in p_holm)
    layers = len(made[0].layers)
    other = " (not, as in the cut study's report, on those it tests on)"
    told = []
    for kind in PREDICTORS:
        if any((each.method, each.metric) == kind for each in made):
            hits, count, loss, at_random = overall(made, *kind)
            told.append(
                f"{NAMES[kind]}: finds it at {hits} of {count} fractions, and its cut loses "
                f"{100 * loss:.1f} points of accuracy to the best on average, where a layer drawn "
                f"at random loses {100 * at_random:.1f}"
            )
    return (
        "Does clustering predict the best cut? A score's cut is the one that keeps the layer with "
        "the highest median score last; the best cut, of those that keep a layer, has the highest "
        f"mean FR accuracy on validation images{other if cuts.best_by == 'test' else ''}, "
        f"accuracy is on {found.n} {TESTED[cuts.test_on]}. "
        f"{'. '.join(told)}. The order of the layers agrees with that of the accuracies beyond "
        f"chance in {ordered} of {len(made)} "
        f"cases (exact permutation test over {layers} layers, p below 0.05 after Holm's "
        "correction). A rank correlation over so few layers is coarse, neighbouring layers are no "
        "independent cases, and its interval, over repeats alone, does not say what another "
        "network would give. A pattern here is a suggestion to test on other pairs, not a rule."
    )


def prediction_table(made: Sequence[Prediction], measured: str) -> Table:
    """Each score against the accuracies, by fraction; `measured` is what these are."""
    lines = []
    for each, p in zip(made, holm([each.p for each in made]), strict=True):
        rho = each.correlation
        lines.append(
            [
                NAMES[each.method, each.metric],
                f"{100 * each.fraction:.4g} %",
                str(each.repeats),
                str(len(each.layers)),
                f"{rho.value:+.2f} [{rho.low:+.2f}, {rho.high:+.2f}]",
                f"{each.p:.3f}",
                f"{p:.3f}",
                f"{each.best_layer} (cut {int(each.best_layer.removeprefix('conv')) + 1})",
                str(each.best_cut),
                percent(each.loss, signed=True),
                percent(each.random_loss, signed=True),
            ]
        )
    header = ["score", "data", "repeats", "layers", "rank correlation", "p", "p (Holm)"]
    header += ["best layer", "best cut", "accuracy lost", "lost by a random layer"]
    return Table(
        f"Median score of a layer against mean FR {measured} of the cut that keeps it last; "
        "brackets: 95 % over repeats (bootstrap; Student t for accuracies, in points).",
        header,
        lines,
    )


def score_table(scores: ClusterScores, method: str, metric: str, images: str) -> Table:
    """A score by layer and fraction; no line where it was not asked for."""
    lines, layers = [], {}
    for fraction in fractions(scores):
        layers = by_layer(scores, method, metric, images, fraction)
        if layers:
            values = [list(of.values()) for of in layers.values()]
            size = str(clustered(scores, method, images, fraction))
            found = (mean_interval(of) for of in values)
            told = (f"{decimals(v.value)} [{decimals(v.low)}, {decimals(v.high)}]" for v in found)
            lines.append([f"{100 * fraction:.4g} %", size, str(len(values[0])), *told])
    title = f"{NAMES[method, metric]}, {cluster_figures.TITLES[images]}: mean over repeats [95 %]."
    return Table(title, ["data", "images", "repeats", *layers], lines)


def rank_table(scores: ClusterScores) -> Table:
    """Effective rank of each weight tensor."""
    lines = [
        [name, f"{rank:.2f}", f"{limit:.0f}", f"{100 * rank / limit:.0f} %"]
        for name, (rank, limit) in scores.ranks.items()
    ]
    title = "Effective rank of the pretrained weights (one network, so no interval)."
    return Table(title, ["weights", "effective rank", "largest possible", "share"], lines)


def scores_csv(scores: ClusterScores) -> str:
    """Every score: mean with interval, and median, over repeats."""
    header = ["method", "images", "num_samples", "fraction", "layer", "metric"]
    header += ["subset_images", "repeats", "median", "mean", "low", "high"]
    lines: list[list[object]] = []
    for place, by_repeat in scores.values.items():
        values = list(by_repeat.values())
        interval = mean_interval(values)
        numbers = (median(values), fmean(values), interval.low, interval.high)
        lines.append(
            [
                place.method,
                place.images,
                place.samples if place.method == "kmeans" else "",
                place.fraction,
                place.layer,
                place.metric,
                scores.images[place.images, place.samples, place.fraction],
                len(values),
                *(round(number, 6) for number in numbers),
            ]
        )
    return to_csv(header, lines)
