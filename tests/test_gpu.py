"""The studies on a GPU give the rows of the CPU within tolerance, and the same ones twice.

``pytest -m gpu`` runs these where torch finds a GPU. Both devices start from the same networks and
embeddings, so that what differs is the study's own arithmetic.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest
import torch

from carryover import bank_out, provenance
from carryover.models.features import Feature
from carryover.rows import Row, read_rows
from carryover.stages import run_stage
from conftest import Checkout

STUDIES = (
    *(("cuts", "fr"), ("cuts", "baseline"), ("clusters", "all")),
    *(("adapt", "probe"), ("adapt", "unfreeze"), ("adapt", "llrd")),
    *(("continual", "frozen"), ("continual", "unfrozen")),
    *(("sequence", "plain"), ("sequence", "distill"), ("sequence", "lora")),
    ("retrieval", "resnet18"),
)
SHARES = (  # metrics in 0..1
    *("accuracy", "top5_accuracy", "zeroshot_accuracy", "task_accuracy", "average_accuracy"),
    *("ari", "cluster_accuracy", "pair_precision", "pair_recall"),
)
POINTS = 0.05  # by which the mean of a metric may differ: a prediction or two of these tiny sets
DEVICES = ("cpu", "cuda")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


def rows_on(device: str, study: str, item: str, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Rows of a stage that runs from nothing."""
    monkeypatch.setenv("CARRYOVER_DEVICE", device)
    shutil.rmtree(".scratch", ignore_errors=True)
    run_stage(study, item)
    return read_rows(Path("reports") / study / "runs" / (item or "all") / "rows.jsonl")


def features_on(device: str, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Embeddings of the tiny CLIP, of unit length."""
    monkeypatch.setenv("CARRYOVER_DEVICE", device)
    shutil.rmtree(".scratch", ignore_errors=True)
    run_stage("embed", "clip-nano")
    folder = Path("data/embeddings/clip-nano")
    found = bank_out.read(folder, "letters", "test", Feature("projected")).values
    return torch.nn.functional.normalize(found.float(), dim=1)


def key(row: Row) -> tuple[object, ...]:
    return (row.split, row.metric, repr(sorted(row.cell.items(), key=str)))


def means(rows: list[Row]) -> dict[tuple[str, str], float]:
    """Mean over all cells of what lies in 0..1."""
    found = defaultdict(list)
    for row in rows:
        if row.metric in SHARES:
            found[row.split, row.metric].append(row.value)
    return {name: mean(values) for name, values in found.items()}


def agree(one: list[Row], other: list[Row]) -> None:
    """The same cells, and means of accuracies within `POINTS`."""
    assert {key(row) for row in one} == {key(row) for row in other}
    here, there = means(one), means(other)
    assert here
    assert {name: there[name] for name in here} == pytest.approx(here, abs=POINTS)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("study", "item"), STUDIES)
def test_a_gpu_gives_the_rows_of_the_cpu(
    embedded: Checkout, study: str, item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if study == "continual":
        pytest.importorskip("avalanche")
    agree(*(rows_on(device, study, item, monkeypatch) for device in DEVICES))


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_gives_the_same_rows_twice(
    embedded: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (rows_on("cuda", "sequence", "distill", monkeypatch) for _ in range(2))
    assert first == second


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_gives_the_embeddings_of_the_cpu(
    embedded: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (features_on(device, monkeypatch) for device in DEVICES)
    assert float((one * other).sum(1).min()) > 0.9999


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_finds_the_same_to_have_survived(
    embedded: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "source_digest", lambda module: "0" * 16)
    embedded.edit(**{"survival.origins": ["adapt", "sequence"]})
    for study, item in (("adapt", "unfreeze"), ("sequence", "plain")):
        rows_on("cpu", study, item, monkeypatch)
    agree(*(rows_on(device, "survival", "", monkeypatch) for device in DEVICES))


@pytest.mark.slow
@pytest.mark.parametrize(("study", "item"), [("cuts", "fr"), ("adapt", "probe")])
def test_the_comparison_passes_equal_rows_and_no_others(
    embedded: Checkout, study: str, item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_on("cpu", study, item, monkeypatch)
    agree(rows, rows)
    with pytest.raises(AssertionError):
        agree(rows, rows[1:])
