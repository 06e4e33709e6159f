"""Recipes of the retrieval study that are for real files: each starts on a few images of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torchvision.datasets import cifar

from carryover import presets
from carryover.data import catalog
from carryover.models import encoders, saved
from carryover.models.features import Feature
from carryover.stages import run_stage
from conftest import Checkout
from image_files import write_cifar
from official_files import celeba

PARTS = ("published", "published/cifar10", "corrected", "corrected/cifar10")
CORPUS = ["cifar10", "cifar100", "celeba"]
RECIPES = [  # name, preset, width of the embedding
    ("byol-perceiver", "published", 512),
    ("simclr-perceiver", "published", 512),
    ("byol-alexnet", "published/cifar10", 256),
    ("simclr-alexnet", "published/cifar10", 256),
]
SHORT = {"batch_size": 4, "epochs": 1, "max_updates": 1, "validation_images": 4}


def test_as_published_and_corrected_the_recipes_are_the_same(checkout: Checkout) -> None:
    found: dict[str, list[Any]] = {}
    for part in PARTS:
        for name, recipe in presets.tree(part)["pretrain"].items():
            if recipe["objective"] != "supervised":
                found.setdefault(name, []).append(recipe)
    assert {name for name, _, _ in RECIPES} <= set(found)
    assert all(recipe == made[0] for made in found.values() for recipe in made)
    assert all(made[0]["datasets"] == CORPUS for made in found.values())


@pytest.mark.parametrize(("name", "part", "width"), RECIPES)
def test_a_recipe_makes_its_first_update_from_official_files(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, name: str, part: str, width: int
) -> None:
    root = checkout.root / "downloads"
    write_cifar(root)
    celeba(root)
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)  # noise has other checksums
    for each in CORPUS:  # and there are fewer images of it
        known = catalog.DATASETS[each]
        anything = replace(known, splits={}, images=None, classes=None, shape=None)
        monkeypatch.setitem(catalog.DATASETS, each, anything)
    tree = presets.tree(part)
    tree["data"]["root"] = str(root)
    tree["pretrain"][name] |= SHORT
    checkout.params.write_text(yaml.safe_dump(tree))
    for each in CORPUS:
        run_stage("data", each)
    run_stage("pretrain", name)
    card = saved.read_card(Path("data/models") / name)
    assert (card["updates"], card["datasets"]) == (1, CORPUS)
    encoder = encoders.load(f"pretrain:{name}")
    feature = Feature("pooled")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = encoders.features(encoder, x, [feature])[feature]
    assert found.shape == (2, width)
    assert found.isfinite().all()
