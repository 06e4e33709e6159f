"""The published start for real: ViT-B/16 from a file, sets in their official layout, a few updates.

The weights are drawn at random, which changes no step of the way.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch

from carryover import presets
from carryover.data import catalog
from carryover.rows import Row, read_rows
from carryover.stages import run_stage
from conftest import Checkout
from official_files import WRITERS

ENCODER = "clip-vit-b-16"
TASKS = ["dtd", "eurosat"]
TEST_IMAGES = {"dtd": 2, "eurosat": 2}
NEEDED = 8  # GiB


def available() -> float:
    """GiB of memory that a process may still take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
    return int(kilobytes) / 2**20


def write_weights(path: Path) -> None:
    """ViT-B/16 as the published file has it: float16, with its sizes among the tensors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model("ViT-B-16-quickgelu")
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    sizes = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    torch.save(state | {name: torch.tensor(size) for name, size in sizes.items()}, path)


def rows_of(item: str) -> list[Row]:
    return read_rows(Path("reports/sequence/runs") / item / "rows.jsonl")


@pytest.mark.slow
@pytest.mark.skipif(available() < NEEDED, reason=f"needs {NEEDED} GiB of memory")
def test_two_official_sets_are_trained_one_after_another(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, weights = checkout.root / "official", checkout.root / "ViT-B-16.pt"
    sets = [*TASKS, "imagenet", "conceptual-captions"]
    for name in sets:
        WRITERS[name](root)
        known = replace(catalog.DATASETS[name], splits={}, images=None, classes=None, shape=None)
        monkeypatch.setitem(catalog.DATASETS, name, known)
    write_weights(weights)
    presets.apply("published", "sequence")
    short = {"updates": 1, "warm_up": 1, "batch_size": 2, "datasets": TASKS, "orders": {"1": TASKS}}
    short |= {"items": ["plain", "distill"], "methods.plain": ["zero-shot", "finetune"]}
    short |= {"methods.distill": ["zscl"], "curves.mix_after": [2], "lr_factors": None}
    short |= {"curves.mixes": [0.5], "curves.map_images": 0}  # too few for a map
    checkout.edit(**{f"sequence.{key}": value for key, value in short.items()})
    checkout.edit(**{"data.root": str(root), f"encoders.{ENCODER}.datasets": TASKS})
    checkout.edit(**{f"encoders.{ENCODER}.weights": weights.name})
    for name in sets:
        run_stage("data", name)
    run_stage("embed", ENCODER)
    for item in ("plain", "distill"):
        run_stage("sequence", item)
    weights.unlink()  # it is large
    for item, method in (("plain", "finetune"), ("distill", "zscl")):
        rows = [row for row in rows_of(item) if row.cell["method"] == method]
        found = {
            (row.cell["after"], row.cell["dataset"]): row
            for row in rows
            if row.metric == "accuracy"
        }
        assert sorted(found) == [(after, name) for after in (0, 1, 2) for name in TASKS]
        for (_, name), row in found.items():
            assert row.preset == "published"
            assert row.n == TEST_IMAGES[name]
            assert row.value in (0.0, 0.5, 1.0)
        one = {row.metric: row.value for row in rows if "dataset" not in row.cell}
        assert one["updates"] == 2 * 2  # one more a task than asked, as published
        assert one["trained_numbers"] == 149_620_736
        assert one["images_seen"] == 2 * 2 * 2 * (2 if method == "zscl" else 1)
