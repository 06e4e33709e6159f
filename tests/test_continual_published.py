"""The published protocol starts: FLAVA from its folder in official layout, on a few image files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from transformers import FlavaConfig, FlavaModel

from carryover import continual_start, presets
from carryover.config import params as config
from carryover.rows import Row, read_rows
from carryover.stages import PARAMS, run_stage
from conftest import REPOSITORY, Checkout
from image_files import encoded, picture, write_folder
from test_flava import CONFIG

CLASSES = ("gull", "tern", "wren")


def few(folder: Path) -> None:
    """Colour photographs of three classes, four to train on and two to test on each."""
    files = {
        f"{split}/{name}/{i}.jpg": encoded(
            picture(100 * k + 10 * i + (split == "test"), "RGB", (40, 30 + i))
        )
        for split, count in (("train", 4), ("test", 2))
        for k, name in enumerate(CLASSES)
        for i in range(count)
    }
    write_folder(folder, files)


@pytest.fixture
def published(enter: Callable[[Path], Checkout]) -> Checkout:
    """A checkout with the preset on few images: one experience, one epoch, a small random FLAVA."""
    found = enter(REPOSITORY / "params.yaml")
    few(found.root / "few")
    torch.manual_seed(0)
    FlavaModel(FlavaConfig(**CONFIG)).save_pretrained(found.root / "flava")
    tree: dict[str, Any] = presets.tree("published")
    tree["data"] |= {"names": [*tree["data"]["names"], "few"], "sources": {"few": "folder:few"}}
    tree["sequence"] |= {"datasets": ["few", "mnist"], "orders": {"1": ["few", "mnist"]}}
    tree["sequence"]["curves"]["mix_after"] = [2]
    tree["sequence"]["lr_factors"] = None
    for entry in tree["encoders"].values():
        entry["datasets"] = ["food-101", "few"] if entry["normalise"] is False else ["few"]
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
        name: arm | {"epochs": 1}
        for name, arm in study["arms"].items()
        if arm["protocols"] == ["ni-3"] and arm["encoder"] is None
    }
    with found.params.open("w") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    run_stage("data", "few")
    for name in ("flava-full", "flava-full-plain"):
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
