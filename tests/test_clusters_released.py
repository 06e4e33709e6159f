"""The report on the clusterings and accuracies that the original released for FashionMNIST."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from statistics import median

import pytest

from carryover.report.cluster_summary import (
    Accuracies,
    ClusterScores,
    accuracies,
    by_layer,
    from_rows,
    predictions,
)
from cluster_rows import row
from conftest import REPOSITORY

FOLDER = REPOSITORY.parent / "shared/reference/published/mp-tl-study"
FRACTIONS = (0.001, 0.01, 0.1, 0.5, 1.0)
BEST_CUTS = (4, 4, 4, 4, 3)  # by mean accuracy under FR
RELEASED = pytest.mark.skipif(not FOLDER.exists(), reason=f"{FOLDER} is absent")
pytestmark = [pytest.mark.shared, RELEASED]


def released(name: str) -> list[dict[str, float]]:
    path: Path = FOLDER / "final/FashionMNIST" / name
    found: list[dict[str, float]] = json.loads(path.read_text())
    return found


@pytest.fixture(scope="module")
def scores() -> ClusterScores:
    rows = []
    for run in released("regular_classes_cluster.json"):
        cell = {"method": "agglomerative", "images": "finetune", "layer": run["Layer"]}
        cell |= {"fraction": float(run["Percentage"]), "repeat": run["Repeat"]}
        rows.append(row("clusters", "all", cell, "train", "ari", value=run["ARI"], n=15))
    return from_rows(rows, "digits")


@pytest.fixture(scope="module")
def found() -> Accuracies:
    rows = []
    for run in released("cuts_regular_classes_FR.json")[1:]:
        cell = {"fraction": float(run["sampled_percentage"]), "cut": run["sampled_cut_point"]}
        cell |= {"repeat": run["repeat"]}
        for split in ("test", "validation"):  # no validation accuracies were released
            value = run["test_acc"]
            rows.append(row("cuts", "fr", cell, split, "accuracy", value=value, n=18000))
    return accuracies(rows, "digits")


def test_medians_by_layer_are_those_of_the_released_rows(scores: ClusterScores) -> None:
    lines = list(csv.DictReader((FOLDER / "cluster_cells_final.csv").read_text().splitlines()))
    assert len(lines) == 30
    for line in lines:
        fraction = float(line["percentage"])
        repeats = by_layer(scores, "agglomerative", "ari", "finetune", fraction)[line["layer"]]
        assert len(repeats) == int(line["n"])
        assert median(repeats.values()) == pytest.approx(float(line["median_ari"]), abs=1e-6)


def test_the_released_clusters_do_not_tell_which_layers_to_keep(
    scores: ClusterScores, found: Accuracies
) -> None:
    made = predictions(scores, found)
    assert [each.fraction for each in made] == list(FRACTIONS)
    assert [each.repeats for each in made] == [25, 25, 20, 5, 5]
    assert [each.best_cut for each in made] == list(BEST_CUTS)
    assert [each.best_layer for each in made if each.fraction != 0.5] == ["conv1"] * 4
    assert all(each.correlation.value < 0.1 for each in made)
    assert all(each.p > 0.05 for each in made)
    assert all(each.loss.low > 0 for each in made if each.fraction != 0.5)
