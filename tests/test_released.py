from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest

from carryover.claims import released
from carryover.errors import DataError
from carryover.rows import Row
from conftest import REPOSITORY

CUTS = REPOSITORY / "claims" / "released" / "cuts.csv"
CLUSTERS = REPOSITORY / "claims" / "released" / "clusters.csv"
ORIGINAL = REPOSITORY.parent / "shared" / "reference" / "published" / "mp-tl-study"
shared = pytest.mark.skipif(not ORIGINAL.exists(), reason="the released files are not here")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return released.rows(CUTS)


def mean(rows: list[Row], pair: str, setting: str, fraction: float, cut: int) -> float:
    place = {"pair": pair, "fraction": fraction, "cut": cut}
    return fmean(
        row.value
        for row in rows
        if row.split == "test" and row.item == setting and place.items() <= row.cell.items()
    )


def test_every_released_run_is_there(rows: list[Row]) -> None:
    runs = Counter((row.cell["pair"], row.item) for row in rows if row.split == "test")
    assert runs == {
        ("mnist", "baseline"): 80,
        ("mnist", "fr"): 560,
        ("fashion-mnist", "baseline"): 80,
        ("fashion-mnist", "fr"): 560,
        ("fashion-mnist", "f"): 560,
        ("fashion-mnist", "ft"): 560,
        ("cifar10", "baseline"): 105,  # five repeats at 75 % and twenty at 30 % beside the rest
        ("cifar10", "fr"): 560,
        ("cifar10", "ft"): 560,
        ("mnist-to-fashion-mnist", "baseline"): 80,
        ("mnist-to-fashion-mnist", "fr"): 560,
        ("fashion-mnist-to-mnist", "baseline"): 80,
        ("fashion-mnist-to-mnist", "fr"): 560,
        ("mnist-seed-era", "baseline"): 175,
        ("mnist-seed-era", "fr"): 672 - 34,
        ("fashion-mnist-seed-era", "baseline"): 175,
        ("fashion-mnist-seed-era", "fr"): 6 * 175,
    }
    assert len(rows) == 2 * sum(runs.values())
    assert len(released.cluster_rows(CLUSTERS)) == 480


@pytest.mark.parametrize(
    ("pair", "setting", "fraction", "cut", "published"),
    [
        ("mnist", "baseline", 0.001, -1, 0.6575),
        ("mnist", "fr", 0.1, 4, 0.9614),
        ("fashion-mnist", "f", 0.5, 2, 0.9248),
        ("fashion-mnist", "ft", 1.0, 1, 0.9599),
        ("cifar10", "fr", 1.0, 6, 0.5792),
        ("cifar10", "ft", 1.0, 6, 0.6154),
        ("mnist-to-fashion-mnist", "fr", 0.01, 5, 0.7367),
        ("fashion-mnist-to-mnist", "fr", 0.5, 1, 0.9814),
        ("mnist-seed-era", "baseline", 0.1, -1, 0.9310),  # of rounded accuracies
        ("mnist-seed-era", "fr", 1.0, 3, 0.9827),
        ("fashion-mnist-seed-era", "baseline", 0.001, -1, 0.7965),
        ("fashion-mnist-seed-era", "fr", 0.01, 5, 0.9159),
    ],
)
def test_means_are_the_published_ones(
    rows: list[Row], pair: str, setting: str, fraction: float, cut: int, published: float
) -> None:
    assert mean(rows, pair, setting, fraction, cut) == pytest.approx(published, abs=6e-5)


def test_a_row_says_which_images_were_tested_on(rows: list[Row]) -> None:
    tested = {
        (row.cell["pair"], row.item, row.data, row.n)
        for row in rows
        if row.split == "test" and row.item != "baseline"
    }
    assert tested == {
        ("mnist", "fr", "train images", 29404),
        *(("fashion-mnist", setting, "train images", 18000) for setting in ("fr", "f", "ft")),
        ("cifar10", "fr", "test images", 6000),
        ("cifar10", "ft", "train images", 30000),
        ("mnist-to-fashion-mnist", "fr", "train images", 60000),
        ("fashion-mnist-to-mnist", "fr", "train images", 60000),
        ("mnist-seed-era", "fr", "test images", 4861),
        ("fashion-mnist-seed-era", "fr", "test images", 3000),
    }


@pytest.mark.shared
@shared
def test_the_committed_tables_are_made_from_the_released_files(tmp_path: Path) -> None:
    released.make(ORIGINAL, tmp_path)
    assert (tmp_path / "cuts.csv").read_bytes() == CUTS.read_bytes()
    assert (tmp_path / "clusters.csv").read_bytes() == CLUSTERS.read_bytes()


@pytest.mark.shared
@shared
def test_rows_hold_the_released_accuracies_to_the_last_bit(rows: list[Row]) -> None:
    found = {
        (
            *(row.cell["pair"], row.item, row.cell["fraction"]),
            *(row.cell["cut"], row.cell["repeat"], row.split),
        ): row.value
        for row in rows
    }
    rounded = exact = 0
    for state, name in released.sources():
        first, *runs = json.loads((ORIGINAL / name).read_text())
        pair = {"MNIST": "mnist", "FashionMNIST": "fashion-mnist", "CIFAR": "cifar10"}
        folder = name.split("/")[1]
        where = pair.get(folder, folder.lower().replace("_", "-").replace("nmnist", "n-mnist"))
        where += "-seed-era" if state == "seed-era" else ""
        setting = "ft" if first.get("truncate") else "fr" if first["reinit"] else "f"
        for run in runs:
            if run["lr"] != 0.001:
                continue
            item = "baseline" if run["sampled_cut_point"] < 0 else setting
            place = (where, item, run["sampled_percentage"])
            for split in ("train", "test"):
                key = (*place, run["sampled_cut_point"], run["repeat"], split)
                theirs, ours = run[f"{split}_acc"], found.pop(key)
                exact += theirs == ours
                rounded += theirs != ours
                assert theirs in (ours, round(ours, 4)), key
                assert theirs == ours or state == "seed-era", key
    assert not found
    assert rounded == 190 + 168  # test, train; some train accuracies have four decimals anyway
    assert exact == len(rows) - rounded


@pytest.mark.shared
@shared
def test_cluster_rows_hold_the_released_scores() -> None:
    found = {
        (row.cell["fraction"], row.cell["repeat"], row.cell["layer"]): row.value
        for row in released.cluster_rows(CLUSTERS)
    }
    theirs = {
        (run["Percentage"], run["Repeat"], run["Layer"]): run["ARI"]
        for run in json.loads((ORIGINAL / released.CLUSTERS).read_text())
    }
    assert found == theirs


def test_refuses_an_accuracy_that_is_no_count(tmp_path: Path) -> None:
    for _, name in released.sources():
        run = {"lr": 0.001, "sampled_percentage": 1, "sampled_cut_point": 0, "repeat": 0}
        flags = {"batch_size": 64, "freeze": True, "reinit": True, "lr_fine_tune": 0.001}
        runs = [flags, run | {"train_acc": 0.5, "test_acc": 0.123456}]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(runs))
    with pytest.raises(DataError, match="expected accuracies over a known set, got unknown"):
        released.make(tmp_path, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_refuses_files_that_are_missing_or_have_other_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a JSON file of results"):
        released.make(tmp_path, tmp_path)
    with pytest.raises(DataError, match="expected the released results, found no file"):
        released.rows(tmp_path / "cuts.csv")
    (tmp_path / "cuts.csv").write_text("state,pair\n")
    with pytest.raises(DataError, match=r"expected the columns state, pair, setting, .*got state"):
        released.rows(tmp_path / "cuts.csv")
