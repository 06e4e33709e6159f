"""Does clustering predict the best cut? Scores by layer beside accuracies by cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from carryover.errors import DataError
from carryover.measure.ordering import order_agreement, permutation_p
from carryover.measure.statistics import Interval, holm, paired_difference
from carryover.rows import Row

LEVEL, DRAWS, BOOTSTRAP_SEED = 0.95, 2000, 0
LEAST_LAYERS = 3  # fewer have no order to speak of

# (method, metric): a score that could choose a cut, higher meaning better
PREDICTORS = (("agglomerative", "ari"), ("kmeans", "ari_max"), ("kmeans", "ari_mean"))
NAMES = {
    ("agglomerative", "ari"): "ARI, means over space",
    ("kmeans", "ari_max"): "ARI, best channel",
    ("kmeans", "ari_mean"): "ARI, mean channel",
}

Repeats = Mapping[int, float]  # repeat -> value


@dataclass(frozen=True)
class Place:
    """What one score is of; `samples` is the limit of K-means, 0 where there is none."""

    method: str
    images: str
    samples: int
    fraction: float
    layer: str
    metric: str


@dataclass(frozen=True, eq=False)
class ClusterScores:
    """Scores of one pair of source and target.

    Attributes:
        values: by place and repeat.
        images: images clustered at each (images, samples, fraction), the most of any layer.
        ranks: effective rank of each weight tensor and the largest possible.
        pair: source and target.
    """

    values: Mapping[Place, Repeats]
    images: Mapping[tuple[str, int, float], int]
    ranks: Mapping[str, tuple[float, float]]
    pair: str


def from_rows(rows: Iterable[Row], pair: str) -> ClusterScores:
    """Scores of one pair, in the order of the rows."""
    values: dict[Place, dict[int, float]] = {}
    images: dict[tuple[str, int, float], int] = {}
    ranks: dict[str, dict[str, float]] = {}
    for row in (row for row in rows if row.cell["pair"] == pair):
        cell = row.cell
        if "method" not in cell:
            ranks.setdefault(cell["layer"], {})[row.metric] = row.value
            continue
        samples, fraction = cell.get("num_samples", 0), cell["fraction"]
        subset = cell["images"], samples, fraction
        place = Place(cell["method"], *subset, cell["layer"], row.metric)
        values.setdefault(place, {})[cell["repeat"]] = row.value
        images[subset] = max(row.n, images.get(subset, 0))
    found = {layer: (by["effective_rank"], by["largest_rank"]) for layer, by in ranks.items()}
    return ClusterScores(values, images, found, pair)


def by_layer(
    scores: ClusterScores, method: str, metric: str, images: str, fraction: float
) -> dict[str, Repeats]:
    """Scores by layer; those of the largest number of samples where there are several."""
    found = {
        place: repeats
        for place, repeats in scores.values.items()
        if (place.method, place.metric, place.images, place.fraction)
        == (method, metric, images, fraction)
    }
    limit = _largest(place.samples for place in found)
    return {place.layer: repeats for place, repeats in found.items() if place.samples == limit}


def _largest(limits: Iterable[int]) -> int:
    """The largest of some numbers of samples, of which 0 has no limit."""
    found = set(limits)
    return 0 if 0 in found else max(found, default=0)


def clustered(scores: ClusterScores, method: str, images: str, fraction: float) -> int:
    """How many images of a subset a method clustered, by the largest number of samples."""
    subset = (method, images, fraction)
    limit = _largest(
        place.samples
        for place in scores.values
        if (place.method, place.images, place.fraction) == subset
    )
    return scores.images[images, limit, fraction]


def decimals(value: float) -> str:
    """A score with two decimals, never as minus nothing."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def fractions(scores: ClusterScores) -> list[float]:
    """Fractions of the target images, ascending."""
    return sorted({place.fraction for place in scores.values})


# --- against the accuracies of the cut study ---------------------------------------------------


@dataclass(frozen=True, eq=False)
class Accuracies:
    """Accuracies under FR by fraction, cut and repeat: on test and on validation images; n test."""

    test: Mapping[tuple[float, int], Repeats]
    validation: Mapping[tuple[float, int], Repeats]
    n: int


def accuracies(rows: Iterable[Row], pair: str) -> Accuracies:
    """Accuracies of one pair; rows of the cut study that name no pair are of no pair."""
    found: dict[str, dict[tuple[float, int], dict[int, float]]] = {"test": {}, "validation": {}}
    n = 0
    for row in rows:
        if row.cell.get("pair") == pair and row.metric == "accuracy" and row.split in found:
            place = row.cell["fraction"], row.cell["cut"]
            found[row.split].setdefault(place, {})[row.cell["repeat"]] = row.value
            n = row.n if row.split == "test" else n
    return Accuracies(found["test"], found["validation"], n)


@dataclass(frozen=True, eq=False)
class Prediction:
    """One score against the accuracies at one fraction.

    Attributes:
        images: how many were clustered.
        layers: median score and mean test accuracy of the cut that keeps the layer last, by layer.
        repeats: how many are in both.
        best_layer: the one with the highest median score; the shallowest of equals.
        best_cut: the one with the highest mean accuracy on validation images, at any cuts.best_by.
        correlation: rank correlation over layers, its interval over repeats; p over orders.
        loss: accuracy of the best cut less that of the cut behind the best layer, over repeats.
        random_loss: the same for a layer drawn at random.
    """

    method: str
    metric: str
    fraction: float
    images: int
    layers: Mapping[str, tuple[float, float]]
    repeats: int
    best_layer: str
    best_cut: int
    correlation: Interval
    p: float
    loss: Interval
    random_loss: Interval


def predictions(scores: ClusterScores, found: Accuracies) -> list[Prediction]:
    """Every score of the target's images that has accuracies of at least three layers."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    made = []
    for method, metric in PREDICTORS:
        for fraction in fractions(scores):
            layers = by_layer(scores, method, metric, "finetune", fraction)
            cuts = {
                name: int(name.removeprefix("conv")) + 1
                for name in layers
                if name.startswith("conv")
                and (fraction, int(name.removeprefix("conv")) + 1) in found.test
            }
            if len(cuts) >= LEAST_LAYERS:
                made.append(_predict(scores, found, method, metric, fraction, cuts, generator))
    return made


def _predict(
    scores: ClusterScores,
    found: Accuracies,
    method: str,
    metric: str,
    fraction: float,
    cuts: Mapping[str, int],
    generator: np.random.Generator,
) -> Prediction:
    layers = by_layer(scores, method, metric, "finetune", fraction)
    sides = [layers[name] for name in cuts]
    sides += [split[fraction, c] for split in (found.test, found.validation) for c in cuts.values()]
    repeats = sorted(set.intersection(*(set(side) for side in sides)))
    if len(repeats) < 2:
        raise DataError(
            f"expected two or more repeats of fraction {fraction} in the rows of both clusters and "
            f"cuts, got {len(repeats)}; give both studies the same repeats"
        )

    def table(columns: Sequence[Repeats]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([[column[repeat] for column in columns] for repeat in repeats])

    scored = table([layers[name] for name in cuts])
    tested = table([found.test[fraction, cut] for cut in cuts.values()])
    validated = table([found.validation[fraction, cut] for cut in cuts.values()])
    names, depth = list(cuts), list(cuts.values())
    medians, means = np.median(scored, 0), tested.mean(0)
    chosen, best = int(medians.argmax()), int(validated.mean(0).argmax())
    same = Interval(0.0, 0.0, 0.0)
    step = 1 / found.n
    return Prediction(
        method=method,
        metric=metric,
        fraction=fraction,
        images=clustered(scores, method, "finetune", fraction),
        layers={name: (float(medians[i]), float(means[i])) for i, name in enumerate(names)},
        repeats=len(repeats),
        best_layer=names[chosen],
        best_cut=depth[best],
        correlation=order_agreement(scored, tested, LEVEL, DRAWS, generator),
        p=permutation_p(medians, means),
        loss=same
        if chosen == best
        else paired_difference(tested[:, best], tested[:, chosen], LEVEL, step),
        random_loss=paired_difference(tested[:, best], tested.mean(1), LEVEL, step),
    )


def summarise(scores: ClusterScores, made: Sequence[Prediction]) -> dict[str, Any]:
    """What ``dvc metrics diff`` compares: scores by layer, what they predict, effective ranks."""
    summary: dict[str, Any] = {
        "effective_rank": {layer: round(rank, 4) for layer, (rank, _) in scores.ranks.items()}
    }
    for method, metric in PREDICTORS:
        for fraction in fractions(scores):
            layers = by_layer(scores, method, metric, "finetune", fraction)
            if layers:
                medians = {name: round(median(of.values()), 6) for name, of in layers.items()}
                place = {"median_ari": medians, "repeats": len(next(iter(layers.values())))}
                summary.setdefault(f"{method}_{metric}", {})[_key(fraction)] = place
    for prediction, p in zip(made, holm([each.p for each in made]), strict=True):
        summary[f"{prediction.method}_{prediction.metric}"][_key(prediction.fraction)] |= {
            "best_layer": prediction.best_layer,
            "best_cut": prediction.best_cut,
            "spearman": _rounded(prediction.correlation)
            | {"p": round(prediction.p, 6), "p_holm": round(p, 6)},
            "accuracy_lost": _rounded(prediction.loss),
            "accuracy_lost_at_random": _rounded(prediction.random_loss),
        }
    return summary


def _key(fraction: float) -> str:
    return f"fraction_{fraction:g}"


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(float(getattr(interval, name)), 6) for name in ("value", "low", "high")}


def headline(summary: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """The terminal's table of a summary: title, header and lines."""
    found = {kind: summary.get(f"{kind[0]}_{kind[1]}", {}) for kind in PREDICTORS}
    keys = list(dict.fromkeys(key for by_fraction in found.values() for key in by_fraction))
    lines = [
        [NAMES[kind], *(_told(by_fraction.get(key, {})) for key in keys)]
        for kind, by_fraction in found.items()
        if by_fraction
    ]
    title = "clusters: rank correlation over layers with FR accuracy [95 %]; best layer, best cut"
    return title, ["score", *(f"{100 * float(key[9:]):.4g} %" for key in keys)], lines


def _told(place: Mapping[str, Any]) -> str:
    if "spearman" not in place:
        return "no accuracies"
    rho = place["spearman"]
    cut = int(place["best_layer"].removeprefix("conv")) + 1
    return (
        f"{rho['value']:+.2f} [{rho['low']:+.2f}, {rho['high']:+.2f}] "
        f"(cut {cut}, best {place['best_cut']})"
    )


def overall(made: Sequence[Prediction], method: str, metric: str) -> tuple[int, int, float, float]:
    """Of one score: fractions where it finds the best cut, all; mean loss, mean loss at random."""
    own = [each for each in made if (each.method, each.metric) == (method, metric)]
    hits = sum(each.loss == Interval(0.0, 0.0, 0.0) for each in own)
    losses = fmean(each.loss.value for each in own), fmean(each.random_loss.value for each in own)
    return hits, len(own), *losses
