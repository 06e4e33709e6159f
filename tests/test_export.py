"""Our rows as the original's result files: names, keys and order, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from carryover.config import params as config
from carryover.config import reader
from carryover.errors import DataError
from carryover.export import parameters, write_original
from carryover.measure.clustering import over_channels
from carryover.originals import read_original
from carryover.rows import Row, write_rows
from carryover.stages import STAGES
from conftest import TINY, Checkout

PARAMETERS = {"depth": 6, "lr_fine_tune": 0.001, "freeze": True, "reinit": True}


def our_rows() -> list[Row]:
    """One run of each setting, one clustering of each method."""

    def row(study: str, item: str, cell: Any, split: str, metric: str, value: float) -> Row:
        cell = {"pair": "digits", "fraction": 0.5, "repeat": 0} | cell
        made_from = dict.fromkeys(("data", "weights", "params", "source", "precision"), "x")
        return Row(study, item, "mini", cell, split, metric, value, 10, **made_from)

    found = []
    for item in ("fr", "f", "r", "none", "ft", "baseline"):
        cell = {"cut": -1 if item == "baseline" else 1}
        for split, value in (("test", 0.4), ("validation", 0.6), ("train", 0.5)):
            found.append(row("cuts", item, cell, split, "accuracy", value))
        found.append(row("cuts", item, cell, "train", "updates", 60.0))
    cell = {"method": "agglomerative", "images": "finetune", "layer": "conv0"}
    for metric in ("ari", "pair_precision", "pair_recall", "cluster_accuracy"):
        found.append(row("clusters", "all", cell, "train", metric, 0.25))
    cell = {"method": "kmeans", "images": "pretrain", "layer": "input", "num_samples": 100}
    for metric, value in (("ari_max", 0.5), ("ari_mean", 0.25)):
        found.append(row("clusters", "all", cell, "train", metric, value))
    return found


def test_each_setting_and_clustering_has_its_file(tmp_path: Path) -> None:
    paths = write_original(our_rows(), PARAMETERS, tmp_path)
    assert [path.name for path in paths] == [
        *(f"cuts_regular_classes_{suffix}.json" for suffix in ("FR", "F", "R", "none", "FT")),
        "baselines_regular_classes.json",
        "regular_classes_cluster.json",
        "ari_scores_pretrained.json",
    ]
    assert {path.parent for path in paths} == {tmp_path}
    head, run = json.loads(paths[4].read_text())
    assert head == PARAMETERS | {"truncate": True}
    assert list(run.items()) == [
        ("lr", 0.001),
        ("sampled_percentage", 0.5),
        ("sampled_cut_point", 1),
        ("repeat", 0),
        ("train_acc", 0.5),
        ("test_acc", 0.4),
    ]
    assert json.loads(paths[7].read_text()) == [
        {
            "Percentage": 0.5,
            "Repeat": 0,
            "Num Samples": 100,
            "Layer": "input",
            "Max ARI Score": 50.0,
            "Avg ARI Score": 25.0,
            "Dataset": "Pretrain",
            "Split": "Train",
        }
    ]
    read = [row for path in paths[:5] for row in read_original(path)]
    assert [row.item for row in read[::2]] == ["fr", "f", "r", "none", "ft"]


def test_several_pairs_have_a_folder_each_named_as_the_originals(tmp_path: Path) -> None:
    rows = our_rows()[:3]
    other = [replace(row, cell=row.cell | {"pair": "cifar10-reverse"}) for row in rows]
    paths = write_original([*rows, *other], PARAMETERS, tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "digits/cuts_regular_classes_FR.json",
        "CIFAR/cuts_reverse_classes_FR.json",
    ]


def test_scores_of_k_means_with_channel_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    scores = over_channels(torch.linspace(0, 0.25, 30, dtype=torch.float64), channel_in_scores=True)
    assert scores[0] == 0.29  # the last channel's number
    base = next(row for row in our_rows() if row.metric == "ari_max")
    rows = [
        replace(
            base,
            cell=base.cell | {"pair": "fashion-mnist", "layer": layer},
            metric=metric,
            value=value,
        )
        for layer in ("conv4", "linear")
        for metric, value in zip(("ari_max", "ari_mean"), scores, strict=True)
    ]
    (path,) = write_original(rows, PARAMETERS, tmp_path / "FashionMNIST")
    assert {run["Layer"] for run in json.loads(path.read_text())} == {"conv4", "fc"}
    read = read_original(path)
    assert [(r.cell["layer"], r.metric) for r in read] == [
        (r.cell["layer"], r.metric) for r in rows
    ]
    assert [r.value for r in read] == pytest.approx([r.value for r in rows], abs=1e-12)


def test_a_run_without_one_of_its_accuracies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected train_acc of .*'cut': 1.* got test_acc alone"):
        write_original(our_rows()[:1], PARAMETERS, tmp_path)
    with pytest.raises(DataError, match="expected train and test accuracies of the study cuts"):
        write_original([], PARAMETERS, tmp_path)


def test_our_parameters_stand_under_the_originals_keys() -> None:
    params = config.read(TINY)
    found = parameters(params)
    assert found["activation_function"] == "<class 'torch.nn.modules.activation.Tanh'>"
    assert found["fine_tune_classes"] == [5, 6, 7, 8, 9]
    assert found["lr_fine_tune"] == params.cuts.lr
    assert found["batch_size"] == params.cuts.batch_size
    assert found["lr_pretrain"] == params.pretrain[params.cuts.pretrained].lr


def test_the_command_writes_the_rows_of_the_parameters_alone(tiny: Checkout) -> None:
    absent = tiny.run("export-original", "cuts", "out")
    assert absent.returncode == 2
    assert "expected rows in reports/cuts/runs/*/rows.jsonl, found none" in absent.stderr
    values = reader.load(tiny.params)
    made_from = {
        name: reader.digest_of(values, *STAGES[name].sections, without=STAGES[name].grid)
        for name in ("cuts", "clusters")
    }
    rows = [replace(row, params=made_from[row.study]) for row in our_rows()]
    for study in ("cuts", "clusters"):
        item = "fr" if study == "cuts" else "all"
        path = tiny.root / "reports" / study / "runs" / item / "rows.jsonl"
        write_rows(path, [row for row in rows if row.study == study and row.item == item])
    done = tiny.run("export-original", "cuts", "out")
    assert done.stdout.split() == [
        "out/cuts_regular_classes_FR.json",
        "out/regular_classes_cluster.json",
        "out/ari_scores_pretrained.json",
    ]
    assert json.loads((tiny.root / "out" / "cuts_regular_classes_FR.json").read_text())[1]["lr"]
    for key, value, said in (
        ("clusters.count_diagonal", True, "clusters all"),
        ("cuts.lr", 0.01, "cuts fr"),
    ):
        tiny.edit(**{key: value})
        stale = tiny.run("export-original", "cuts", "out")
        assert stale.returncode == 2
        assert f"rows of the parameters in params.yaml, got {said} of others" in stale.stderr
        tiny.edit(**{"clusters.count_diagonal": False})
    assert tiny.run("export-original", "sequence", "out").returncode == 2
