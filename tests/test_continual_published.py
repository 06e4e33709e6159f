"""The published protocol starts: encoders from files in official layouts, on a few image files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip import factory
from ruamel.yaml import YAML
from safetensors.torch import save_file
from transformers import FlavaConfig, FlavaModel

from carryover import continual_start, presets
from carryover.config import params as config
from carryover.rows import Row, read_rows
from carryover.stages import PARAMS, run_stage
from conftest import REPOSITORY, Checkout
from image_files import encoded, picture, write_folder
from test_flava import CONFIG
from test_openclip import TEXT, VISION

CLASSES = ("gull", "tern", "wren")


def few(folder: Path, taller: int) -> None:
    """Colour photographs of three classes, four to train on and two to test on each."""
    files = {
        f"{split}/{name}/{i}.jpg": encoded(
            picture(100 * k + 10 * i + (split == "test"), "RGB", (40, 30 + taller * i))
        )
        for split, count in (("train", 4), ("test", 2))
        for k, name in enumerate(CLASSES)
        for i in range(count)
    }
    write_folder(folder, files)


def is_plain(arm: dict[str, Any]) -> bool:
    """Whether it is one of FLAVA's in three chunks."""
    return arm["protocols"] == ["ni-3"] and arm["encoder"] is None


def start(
    enter: Callable[[Path], Checkout],
    is_wanted: Callable[[dict[str, Any]], bool],
    form: dict[str, Any] = CONFIG,
) -> Checkout:
    """A checkout with some of the preset's arms on few images: one epoch, a FLAVA of this form."""
    found = enter(REPOSITORY / "params.yaml")
    few(found.root / "few", taller=1)
    few(found.root / "even", taller=0)
    torch.manual_seed(0)
    FlavaModel(FlavaConfig(**form)).save_pretrained(found.root / "flava")
    tree: dict[str, Any] = presets.tree("published")
    tree["data"] |= {
        "names": [*tree["data"]["names"], "few", "even"],
        "sources": {"few": "folder:few", "even": "folder:even"},
    }
    tree["sequence"] |= {"datasets": ["few", "mnist"], "orders": {"1": ["few", "mnist"]}}
    tree["sequence"]["curves"]["mix_after"] = [2]
    tree["sequence"]["lr_factors"] = None
    for entry in tree["encoders"].values():
        food = entry["normalise"] is False and "food-101" in entry["datasets"]
        entry["datasets"] = ["food-101", "few"] if food else ["few"]
        if entry is tree["encoders"][tree["sequence"]["encoder"]]:
            entry["datasets"] = ["few", "mnist"]
        if entry["source"] == "flava":
            entry["weights"] = "flava"
    study = tree["continual"]
    study["streams"] = {name: ["few"] for name in study["streams"]}
    study["protocols"]["ni-3"]["experiences"] = 1
    study["logistic"]["sets"] = {"few": {"dataset": "few", "test_images": 0}}
    study["logistic"]["held_out"] = 0.25
    study["cka"] |= {"images": 6, "draws": 5}
    study["arms"] = {
        name: arm | {"epochs": 1} for name, arm in study["arms"].items() if is_wanted(arm)
    }
    study["items"] = sorted({arm["trains"] for arm in study["arms"].values()})
    with found.params.open("w") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    run_stage("data", "few")
    return found


@pytest.fixture
def published(enter: Callable[[Path], Checkout]) -> Checkout:
    found = start(enter, is_plain)
    for name in ("flava-full", "flava-full-plain"):
        run_stage("embed", name)
    return found


@pytest.fixture
def others(enter: Callable[[Path], Checkout], monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """With arms of other encoders and streams; encoders are small ones from files."""
    found = start(enter, lambda arm: not is_plain(arm))
    config = {"embed_dim": 12, "vision_cfg": VISION["tiny"], "text_cfg": TEXT, "quick_gelu": True}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-quickgelu", config)
    save_file(timm.create_model("test_vit").state_dict(), found.root / "vit.safetensors")
    clip = {k: v.clone() for k, v in open_clip.create_model("tiny-quickgelu").state_dict().items()}
    save_file(clip, found.root / "clip.safetensors")
    tree = found.tree()
    small = {
        "timm": {"source": "timm:test_vit", "weights": "vit.safetensors"},
        "open-clip": {"source": "open-clip:tiny-quickgelu", "weights": "clip.safetensors"},
    }
    for entry in tree["encoders"].values():
        entry |= small.get(entry["source"].split(":")[0], {})
    tree["encoders"]["flava-full"]["datasets"] = ["few", "even"]
    study = tree["continual"]
    study["streams"]["s-even"] = ["even"]
    study["arms"]["permuted"]["streams"] = ["s-even"]
    study["protocols"]["ni-5"]["experiences"] = 2
    study["protocols"]["ti-5"]["experiences"] = len(CLASSES)
    with found.params.open("w") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    run_stage("data", "even")
    for name in sorted({arm["encoder"] or "flava-full" for arm in study["arms"].values()}):
        run_stage("embed", name)
    return found


def test_every_published_arm_of_flava_runs(published: Checkout) -> None:
    study = config.read(PARAMS).continual
    assert len(study.arms) == 13
    rows: list[Row] = []
    for item in study.items:
        run_stage("continual", item)
        rows += read_rows(Path("reports/continual/runs") / item / "rows.jsonl")
    tested = [row for row in rows if row.metric == "accuracy" and row.cell.get("experience") == 0]
    trainings = [cell for arm in study.arms.values() for cell in arm.cells()]
    assert len(tested) == len(trainings) == 22
    assert {row.n for row in tested} == {6}
    assert {row.cell["head"] for row in tested} == {"none", "mlp", "mlp-256", "mlp-wide"}
    norm_alone = [
        row.value
        for row in rows
        if row.metric == "trained_parameters" and row.cell.get("freeze") == "children-2"
    ]
    head = 5 * 16 * 1000 + 1000 + 1000 * 500 + 500 + 500 * 3 + 3
    assert norm_alone == [head + 2 * 16]
    scores = [row for row in rows if row.metric == "published_cka"]
    assert [(row.cell["layer"], row.n, row.split) for row in scores] == [
        (i, 1, "train") for i in range(4)
    ]
    assert [row.cell["encoder"] for row in rows if row.item == "features"] == 3 * [
        "flava-full-plain"
    ]
    lowest = min(
        r.value for r in rows if r.metric == "loss" and r.cell["head"] in ("mlp", "mlp-wide")
    )
    assert lowest > torch.tensor(1 + 2 / torch.e).log()  # sigmoid outputs of three classes
    published_pixels_are_grey_and_all_but_constant()


def published_pixels_are_grey_and_all_but_constant() -> None:
    params = config.read(PARAMS)
    start = continual_start.load_start(params, "unfrozen", torch.device("cpu"))
    x = start.inputs["s-mnist", "", "flava-full", ""](torch.arange(12))
    std = torch.tensor(start.encoders["flava-full"].preprocess.std)
    mean = torch.tensor(start.encoders["flava-full"].preprocess.mean)
    values = x * std.view(3, 1, 1) + mean.view(3, 1, 1)
    torch.testing.assert_close(values[:, 0], values[:, 2])
    assert 0 < values.max() <= 1 / 255 + 1e-6
    assert x.amax((0, 2, 3)).sub(x.amin((0, 2, 3))).max() < 0.015


def test_published_arms_of_other_encoders_and_streams_run(others: Checkout) -> None:
    study = config.read(PARAMS).continual
    assert set(study.arms) == {
        *("chunks-cls", "chunks-vit", "tasks-cls", "clip", "vit-1000", "permuted")
    }
    run_stage("continual", "unfrozen")
    rows = read_rows(Path("reports/continual/runs/unfrozen/rows.jsonl"))
    ends = [row for row in rows if row.metric == "is_constant"]
    cells = {(row.cell["protocol"], row.cell["encoder"]) for row in ends}
    assert cells == {
        *((name, "flava-full") for name in ("ni-5", "ti-5", "permuted-2")),
        *(("ni-5", "vit-b-16-in21k"), ("ni-3", "vit-b-16"), ("ni-3", "clip-vit-b-32-normalised")),
    }
    tasks = [r for r in rows if r.metric == "task_accuracy" and r.cell["protocol"] == "ti-5"]
    assert {row.cell["task"] for row in tasks} == {0, 1, 2}


@pytest.mark.slow  # a network of 240 million weights is written and read
def test_a_flava_of_full_size_starts_frozen_and_unfrozen(
    enter: Callable[[Path], Checkout],
) -> None:
    arms = presets.tree("published")["continual"]["arms"]
    first = next(arm for arm in arms.values() if arm["trains"] == "frozen")
    found = start(enter, lambda arm: arm in (first, arms["unfrozen-naive"]), {})
    found.edit(**{"continual.logistic.encoder": None})
    run_stage("embed", "flava-full")
    trained = []
    for item in ("frozen", "unfrozen"):
        run_stage("continual", item)
        rows = read_rows(Path("reports/continual/runs") / item / "rows.jsonl")
        told = {row.metric: row for row in rows if row.item == item and row.metric != "cka"}
        assert told["diverged"].value == 0
        assert told["accuracy"].n == 6
        assert told["accuracy"].cell["experience"] == 0
        trained.append(told["trained_parameters"].value)
    assert trained[0] == 768 * 100 + 100 + 100 * 50 + 50 + 50 * 3 + 3
    assert trained[1] > 85_000_000 + 197 * 768 * 100
