"""The clustering study on ``tests/params.yaml``."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from carryover import subsets, transfer
from carryover.config import params as config
from carryover.errors import ConfigError, DataError
from carryover.measure.clustering import adjusted_rand, agglomerative, contingency
from carryover.measure.spectrum import effective_rank
from carryover.models import saved
from carryover.pretrain import supervised
from carryover.rows import Row, read_rows
from carryover.stages import run_stage
from carryover.studies import clusters
from conftest import Checkout

ROWS = Path("reports/clusters/runs/all/rows.jsonl")
POINTS = Path("reports/clusters/tsne.csv")
MODEL = Path("data/models/cnn6-digits-0-4")
CONVOLUTIONS = tuple(f"conv{i}" for i in range(6))
LAYERS = ("input", *CONVOLUTIONS, "linear")
POOLED = {"ari", "pair_precision", "pair_recall", "cluster_accuracy"}
CHANNELS = {"ari_max", "ari_mean"}


@pytest.fixture
def run_study(pretrained: Checkout) -> Callable[..., list[Row]]:
    """Run the tiny study with some keys changed; its rows."""

    def rows(**changes: Any) -> list[Row]:
        if changes:
            pretrained.edit(**{f"clusters.{key}": value for key, value in changes.items()})
        run_stage("clusters", "")
        return read_rows(ROWS)

    return rows


def start(pretrained: Checkout) -> tuple[config.Params, torch.nn.Sequential, dict[str, Any]]:
    params = config.read(Path("params.yaml"))
    card = saved.read_card(MODEL)
    return params, supervised.load(MODEL, card), card


def test_every_cell_has_its_rows_with_their_n(run_study: Callable[..., list[Row]]) -> None:
    rows = [row for row in run_study() if "method" in row.cell]
    expected = [
        {"pair": "digits", "method": method, "images": images, "fraction": fraction}
        | {"repeat": repeat, "layer": layer}
        | ({"num_samples": 60 if fraction == 1.0 else 0} if method == "kmeans" else {})
        for method, layers in (("agglomerative", CONVOLUTIONS), ("kmeans", LAYERS))
        for images in ("pretrain", "finetune")
        for fraction in (0.05, 1.0)
        for repeat in (0, 1)
        for layer in layers
    ]
    found = [row.cell for row in rows if row.metric in ("ari", "ari_max")]
    assert found == expected
    sizes = {("pretrain", 0.05): 10, ("finetune", 0.05): 10}
    sizes |= {("pretrain", 1.0): 240, ("finetune", 1.0): 239}  # int(n / 5) a class, or all
    for row in rows:
        assert (row.study, row.item, row.preset, row.split) == ("clusters", "all", "tiny", "train")
        pooled = row.cell["method"] == "agglomerative"
        assert row.metric in (POOLED if pooled else CHANNELS)
        size = sizes[row.cell["images"], row.cell["fraction"]]
        assert row.n == (size if pooled else min(size, 60)), row.cell
        assert -0.5 <= row.value <= 1
    assert len(rows) == sum(len(POOLED if "num_samples" not in c else CHANNELS) for c in expected)
    data = {(row.cell["images"], row.data) for row in rows}
    assert len(data) == 2


def test_a_trained_networks_channels_cluster_far_better_than_chance(
    run_study: Callable[..., list[Row]],
) -> None:
    rows = run_study(methods=["kmeans"], images=["pretrain"])
    best = [row.value for row in rows if row.metric == "ari_max" and row.cell["fraction"] == 1.0]
    assert min(best) > 0.2
    assert max(best) > 0.5


def test_a_score_is_that_of_the_plain_computation(
    run_study: Callable[..., list[Row]], pretrained: Checkout
) -> None:
    rows = run_study(methods=["agglomerative"], images=["finetune"])
    params, network, card = start(pretrained)
    part = subsets.load_part(params, "finetune", card, network, torch.device("cpu"))
    chosen = subsets.subset(params, part, 1.0, 1, 0)
    with torch.no_grad():
        pixels = network[:4](part.inputs[chosen])  # up to conv1's output, activated
        before = network[:3](part.inputs[chosen])
    assert torch.equal(pixels, before.tanh())
    labels = part.labels[chosen]
    table = contingency(labels, agglomerative(before.mean((2, 3)), 5))
    (found,) = (
        row.value
        for row in rows
        if row.metric == "ari"
        and (row.cell["layer"], row.cell["fraction"], row.cell["repeat"]) == ("conv1", 1.0, 1)
    )
    assert found == adjusted_rand(table)


def test_a_repeat_clusters_the_images_it_trains_on_in_the_cut_study(pretrained: Checkout) -> None:
    params, network, card = start(pretrained)
    part = subsets.load_part(params, "finetune", card, network, torch.device("cpu"))
    task = transfer.load_task(params, torch.device("cpu"))
    for repeat in (0, 1):
        random, _ = transfer.generators(params, "fr", 0.05, repeat)
        labels = task.labels[task.parts["train"]]
        trained = transfer.training_rows(params.cuts, labels, 0.05, random)
        chosen = subsets.subset(params, part, 0.05, repeat, 0)
        assert torch.equal(part.inputs[chosen], task.images[trained])
        assert torch.equal(part.labels[chosen], task.labels[trained])
        fewer = subsets.subset(params, part, 0.05, repeat, 4)
        assert len(fewer) == 4
        assert set(fewer.tolist()) < set(chosen.tolist())
    assert part.data == task.data


def test_source_images_are_those_that_pretraining_saw(pretrained: Checkout) -> None:
    params, network, card = start(pretrained)
    part = subsets.load_part(params, "pretrain", card, network, torch.device("cpu"))
    assert len(part.labels) == card["accuracy"]["train"]["n"]
    right = network(part.inputs).argmax(1) == part.labels
    assert float(right.double().mean()) == pytest.approx(card["accuracy"]["train"]["value"])


def test_with_channel_ids_among_scores_the_inputs_mean_is_half_its_best(
    run_study: Callable[..., list[Row]],
) -> None:
    keys = {"methods": ["kmeans"], "images": ["finetune"], "layers": ["input", "conv0"]}
    clean = run_study(**keys)
    faulty = run_study(**keys, channel_in_scores=True)

    def values(rows: list[Row], layer: str, metric: str) -> list[float]:
        return [r.value for r in rows if (r.cell["layer"], r.metric) == (layer, metric)]

    best, mean = values(faulty, "input", "ari_max"), values(faulty, "input", "ari_mean")
    assert mean == [value / 2 for value in best]
    assert best == pytest.approx(values(clean, "input", "ari_max"))
    assert values(clean, "input", "ari_max") == values(clean, "input", "ari_mean")
    halved = [(v + 0.015) / 2 for v in values(clean, "conv0", "ari_mean")]  # ids 0 to 3
    assert values(faulty, "conv0", "ari_mean") == pytest.approx(halved)


def test_the_other_published_faults_change_only_what_they_say(
    run_study: Callable[..., list[Row]],
) -> None:
    keys = {"methods": ["agglomerative"], "images": ["finetune"]}
    clean = run_study(**keys)
    faulty = run_study(**keys, count_diagonal=True, inverse_assignment=True)
    changed = {
        a.metric
        for a, b in zip(clean, faulty, strict=True)
        if a.cell == b.cell and a != b and a.value != b.value
    }
    assert changed == {"pair_precision", "pair_recall", "cluster_accuracy"}
    for a, b in zip(clean, faulty, strict=True):
        if a.metric.startswith("pair_"):
            assert b.value >= a.value
        if a.metric == "cluster_accuracy":
            assert b.value <= a.value


def test_the_weights_have_their_effective_rank(
    run_study: Callable[..., list[Row]], pretrained: Checkout
) -> None:
    keys = {"methods": ["agglomerative"], "images": ["finetune"], "layers": ["conv0"]}
    rows = [row for row in run_study(**keys) if "method" not in row.cell]
    _, network, _ = start(pretrained)
    found = {(row.cell["layer"], row.metric): row.value for row in rows}
    assert [row.n for row in rows] == [0] * 14  # seven weight tensors, whatever is clustered
    for layer in (*CONVOLUTIONS, "linear"):
        weight = network.get_submodule(layer).weight.detach()
        assert found[layer, "effective_rank"] == effective_rank(weight)
        assert found[layer, "largest_rank"] == min(weight.flatten(1).shape)
        assert 1 <= found[layer, "effective_rank"] <= found[layer, "largest_rank"]


def test_maps_have_a_place_and_a_class_for_each_image(run_study: Callable[..., list[Row]]) -> None:
    keys = {"methods": ["agglomerative"], "layers": ["conv0"]}
    run_study(**keys)
    lines = list(csv.DictReader(io.StringIO(POINTS.read_text())))
    places = [(line["images"], line["layer"]) for line in lines]
    expected = [(i, layer) for i in ("pretrain", "finetune") for layer in ("input", "conv5")]
    assert list(dict.fromkeys(places)) == expected
    assert all(places.count(place) == 40 for place in expected)
    classes = {images: {x["class"] for x in lines if x["images"] == images} for images, _ in places}
    assert classes == {"pretrain": set("01234"), "finetune": set("56789")}
    assert len({(line["x"], line["y"]) for line in lines}) > 150
    run_study(**keys, tsne_images=0)
    assert POINTS.read_text() == "images,layer,class,x,y\n"


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_the_number_of_processes_changes_no_byte(
    run_study: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for count in ("0", "2"):
        monkeypatch.setenv("CARRYOVER_WORKERS", count)
        run_study()
        found.append((ROWS.read_bytes(), POINTS.read_bytes()))
    assert found[0] == found[1]


def test_a_run_killed_half_way_goes_on_to_the_same_bytes(pretrained: Checkout) -> None:
    few = {"methods": ["kmeans"], "images": ["finetune"], "repeats": [24, 2], "tsne_images": 0}
    pretrained.edit(**{f"clusters.{key}": value for key, value in few.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARRYOVER_SCRATCH", "other-scratch")
        run_stage("clusters", "")
    expected = ROWS.read_bytes()
    ROWS.unlink()
    process = subprocess.Popen(
        pretrained.command("run", "clusters"),
        env=pretrained.environment(CARRYOVER_WORKERS="1"),
        start_new_session=True,
    )
    done, deadline = 0, time.monotonic() + 60
    while done < 5:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
        done = sum(p.read_text().count("\n") for p in Path(".scratch").glob("clusters/*/*.jsonl"))
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not ROWS.exists()
    run_stage("clusters", "")
    assert ROWS.read_bytes() == expected
    assert not list(Path(".scratch").glob("clusters/*/cells.jsonl"))
    told = json.loads(Path(".logs/clusters.jsonl").read_text().splitlines()[-1])
    assert 0 < told["cells"] <= 26 - done  # only the rest was clustered


def test_parameters_edited_meanwhile_leave_no_rows(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(*arguments: Any) -> Any:
        pretrained.edit(**{"clusters.pca": 7})
        return real(*arguments)

    real = clusters.of_pooled
    monkeypatch.setattr(clusters, "of_pooled", edit)
    with pytest.raises(ConfigError, match="expected seed, clusters to stay as they were"):
        run_stage("clusters", "")
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ["conv9"]}, r"clusters\.layers: expected layers of cnn6-digits-0-4 \(input, c"),
        ({"tsne_layers": ["pool1"]}, r"clusters\.tsne_layers: .*, linear\), got pool1"),
        ({"layers": ["linear"]}, r"layers: expected a convolution among them, .*, got linear"),
        ({"classes": [4, 5]}, r"clusters\.classes: .* was pretrained on, got 4 in both; take them"),
        ({"fractions": [0.025, 1.0]}, "two pretrain images a class, got one from 0.025; raise it"),
        ({"fractions": [0.05, 0.0501]}, "got 10 from both 0.05 and 0.0501; take one out"),
        ({"repeats": [2]}, r"repeats: expected one number a fraction \(2\), got 1"),
        ({"num_samples": [-1]}, r"clusters\.num_samples\[0\]: expected at least 0, got -1"),
        ({"methods": ["dbscan"]}, r"methods\[0\]: expected one of agglomerative, kmeans, got 'dbs"),
        ({"pretrained": "x"}, r"clusters\.pretrained: expected one of cnn6-digits-0-4, got 'x'"),
        ({"dataset": "x"}, r"clusters\.dataset: expected one of digits, letters, world, got 'x'"),
    ],
)
def test_what_cannot_be_clustered_is_told_before_anything_runs(
    run_study: Callable[..., list[Row]], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        run_study(**changes)
    assert not Path("reports").exists()


def test_other_images_than_the_network_was_trained_on_are_refused(
    run_study: Callable[..., list[Row]],
) -> None:
    card = json.loads((MODEL / "card.json").read_text())
    (MODEL / "card.json").write_text(json.dumps(card | {"data": "0123"}))
    with pytest.raises(
        DataError, match=r"was trained on \(digest 0123\), got .*; run `dvc repro p"
    ):
        run_study()
