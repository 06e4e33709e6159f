"""The original's result files: read as rows, and the released ones back from their rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carryover.config import params as config
from carryover.errors import DataError
from carryover.export import parameters, write_original
from carryover.original_sets import fits
from carryover.originals import read_original
from conftest import TINY

PUBLISHED = Path(__file__).parents[2] / "shared" / "reference" / "published" / "mp-tl-study"
RELEASED = sorted(path for path in PUBLISHED.rglob("*.json") if path.name != "params.json")
FINAL = [path for path in RELEASED if "final" in path.parts]

PARAMETERS = {"depth": 6, "lr_fine_tune": 0.001, "freeze": True, "reinit": True}
RUN = {
    "lr": 0.001,
    "sampled_percentage": 0.001,
    "sampled_cut_point": 2,
    "repeat": 3,
    "train_acc": 0.8,
    "test_acc": 0.9,
}


def shared(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that reads the original's released results."""
    absent = pytest.mark.skipif(not RELEASED, reason="the released results are not here")
    return pytest.mark.shared(absent(test))


def write(path: Path, *elements: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(elements)))
    return path


def cuts_file(folder: Path) -> Path:
    return folder / "FashionMNIST" / "cuts_regular_classes_FR.json"


# --- reading -----------------------------------------------------------------------------------


def test_a_run_gives_its_train_and_its_test_accuracy(tmp_path: Path) -> None:
    train, test = read_original(write(cuts_file(tmp_path), PARAMETERS, RUN))
    assert train.cell == {"pair": "fashion-mnist", "fraction": 0.001, "cut": 2, "repeat": 3}
    assert (train.study, train.item, train.preset) == ("cuts", "fr", "original")
    assert (train.split, train.metric, train.value, train.n) == ("train", "accuracy", 0.8, 15)
    assert (test.split, test.metric, test.value, test.n) == ("test", "accuracy", 0.9, 3000)
    assert test.source.endswith(" 8c95619")
    assert test.data == "test images"


def test_an_accuracy_that_the_test_part_cannot_give_is_on_training_images(tmp_path: Path) -> None:
    path = write(cuts_file(tmp_path), PARAMETERS, RUN | {"test_acc": 17_999 / 18_000})
    test = read_original(path)[1]
    assert (test.n, test.data) == (18_000, "train images")
    path = write(path, PARAMETERS, RUN | {"test_acc": 0.123456789})
    assert read_original(path)[1].data == "unknown images"


def test_rounded_accuracies_fit_the_count_they_were_rounded_from() -> None:
    # of 4861 images 3966 are 0.81588..., and no count gives 0.8158
    assert fits([3966 / 4861], 4861)
    assert fits([round(3966 / 4861, 4)], 4861)
    assert not fits([0.8158], 4861)
    assert not fits([3966 / 4861], 29_404)


@pytest.mark.parametrize(
    ("flags", "item"),
    [
        ({"freeze": True, "reinit": True}, "fr"),
        ({"freeze": True, "reinit": False, "truncate": False}, "f"),
        ({"freeze": False, "reinit": True}, "r"),
        ({"freeze": False, "reinit": False}, "none"),
        ({"freeze": True, "reinit": False, "truncate": True}, "ft"),
    ],
)
def test_the_parameters_say_the_setting(tmp_path: Path, flags: Any, item: str) -> None:
    assert read_original(write(cuts_file(tmp_path), flags, RUN))[0].item == item


def test_without_parameters_the_name_says_the_setting(tmp_path: Path) -> None:
    names = {
        "cuts_regular_classes_FT.json": "ft",
        "results_freeze_True_reinit_False_pool_False.json": "f",
        "results_finetune_var_lr_freeze_true_reinit_true.json": "fr",
        "merged_freeze_no_reinit_no_pool_lr_0.001.json": "f",
    }
    for name, item in names.items():
        assert read_original(write(tmp_path / "MNIST" / name, RUN))[0].item == item
    with pytest.raises(DataError, match=r"mine\.json: expected the setting in the parameters"):
        read_original(write(tmp_path / "MNIST" / "mine.json", RUN))


def test_cut_minus_one_is_the_baseline(tmp_path: Path) -> None:
    rows = read_original(write(tmp_path / "MNIST" / "x.json", RUN | {"sampled_cut_point": -1}))
    assert {row.item for row in rows} == {"baseline"}


def test_the_pair_comes_from_folder_and_name_else_from_the_class_lists(tmp_path: Path) -> None:
    lists = {"pre_train_classes": [0, 1, 8, 9], "fine_tune_classes": [7, 6, 5, 4, 3, 2]}

    def pair(path: str, **changes: Any) -> str:
        read = read_original(write(tmp_path / path, PARAMETERS | lists | changes, RUN))
        return str(read[0].cell["pair"])

    assert pair("CIFAR/results/cuts_regular_classes_FR.json") == "cifar10"
    assert pair("CIFAR/cuts_reverse_classes_FR.json") == "cifar10-reverse"
    assert pair("MNIST_to_FashionMNIST/cuts_regular_classes_FR.json") == "mnist-to-fashion-mnist"
    assert pair("elsewhere/cuts_regular_classes_FR.json") == "cifar10"
    assert pair("My Run/cuts_regular_classes_FR.json", fine_tune_classes=[2, 3]) == "my-run"


def test_another_learning_rate_and_a_repeated_run_have_an_axis(tmp_path: Path) -> None:
    other = RUN | {"lr": 0.0001}
    rows = read_original(write(cuts_file(tmp_path), PARAMETERS, RUN, other, RUN, RUN))[::2]
    extra = [{k: row.cell[k] for k in ("lr", "trial") if k in row.cell} for row in rows]
    assert extra == [{}, {"lr": 0.0001}, {"trial": 1}, {"trial": 2}]


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"depth": 6}, "expected a list of parameters and runs, got"),
        ([PARAMETERS], "expected runs after the parameters, got none"),
        ([PARAMETERS, 3], "expected a list of parameters and runs, got"),
        ([PARAMETERS, {"lr": 0.001}], "element 1: expected the key 'sampled_percentage', got lr"),
        ([PARAMETERS, RUN | {"test_acc": 93.1}], "element 1: test_acc: expected a number from 0"),
        ([PARAMETERS, RUN | {"train_acc": "1"}], "train_acc: expected a number from 0 to 1, got '"),
        ([PARAMETERS, RUN, RUN | {"repeat": 1.5}], "element 2: repeat: expected a whole number"),
        ([{"Percentage": 0.1, "Repeat": 0}], "element 0: expected the key 'Dataset', got Perc"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, elements: Any, message: str) -> None:
    path = cuts_file(tmp_path)
    path.parent.mkdir()
    path.write_text(json.dumps(elements))
    with pytest.raises(DataError) as caught:
        read_original(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_no_file_and_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a JSON file of results, got .*No such file"):
        read_original(tmp_path / "absent.json")
    (tmp_path / "text.json").write_text("[{")
    with pytest.raises(DataError, match="expected a JSON file of results, got Expecting"):
        read_original(tmp_path / "text.json")


# --- the released files ------------------------------------------------------------------------


@shared
def test_every_released_file_is_read_and_fits_a_known_set() -> None:
    assert len(RELEASED) > 50
    with (PUBLISHED / "test_denominators.csv").open() as file:
        lines = {PUBLISHED.parent / line["file"]: line for line in csv.DictReader(file)}
    compared = 0
    for path in RELEASED:
        rows = read_original(path)
        elements = json.loads(path.read_text())
        runs = [e for e in elements if "repeat" in e or "Repeat" in e]
        assert len(rows) == len(runs) * (4 if "ARI" in runs[0] else 2)
        assert len({(str(row.cell), row.split, row.metric) for row in rows}) == len(rows)
        assert "unknown images" not in {row.data for row in rows}
        for n in {row.n for row in rows if row.study == "cuts"}:
            assert fits([row.value for row in rows if row.n == n], n)
        if path in lines and lines[path][SMALLEST] not in ("mixed", "10000"):
            n = next(row.n for row in rows if row.split == "test")
            # 30000 in a file that mixes counts among 3000 and rounded values
            assert n == int(lines[path][SMALLEST]) or "reinit_False_pool_False_lr" in path.name
            compared += 1
    assert compared > 40


SMALLEST = "smallest_test_set_size_consistent_with_every_test_acc"


@shared
@pytest.mark.parametrize("path", FINAL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_final_file_comes_back_equal(path: Path, tmp_path: Path) -> None:
    rows = read_original(path)
    elements = json.loads(path.read_text())
    params = elements[0] if "repeat" not in elements[0] else {}
    (written,) = write_original(rows, params, tmp_path / path.parent.name)
    assert written.name == path.name
    found = json.loads(written.read_text())
    assert found == elements
    assert [list(element) for element in found] == [list(element) for element in elements]
    assert read_original(written) == rows


@shared
def test_our_parameters_have_every_key_of_a_released_file() -> None:
    released = json.loads((PUBLISHED / "final" / "CIFAR" / FT).read_text())[0]
    flags = {"freeze", "reinit", "truncate"}
    ours = config.read(TINY)
    never = parameters(replace(ours, cuts=replace(ours.cuts, patience=0)))
    assert released.keys() - flags - never.keys() == {"width", "early_stop_patience"}
    stopping = parameters(replace(ours, cuts=replace(ours.cuts, patience=5)))
    assert stopping["early_stop_patience"] == 5
    assert released.keys() - flags - stopping.keys() == {"width"}  # an old key


FT = "cuts_regular_classes_FT.json"


@shared
def test_seed_era_runs_and_clusterings_come_back(tmp_path: Path) -> None:
    folder = PUBLISHED / "seed_era" / "MNIST" / "results"
    path = folder / "baselines_freeze_True_pool_False_lr_0.0001.json"
    head, *runs = json.loads(path.read_text())
    (written,) = write_original(read_original(path), head, tmp_path)
    assert json.loads(written.read_text())[1:] == runs
    path = PUBLISHED / "seed_era" / "FashionMNIST" / "results" / "ari_scores"
    path /= "ari_scores_finetuned.json"
    (written,) = write_original(read_original(path), {}, tmp_path)
    assert written.name == path.name
    for ours, theirs in zip(
        json.loads(written.read_text()), json.loads(path.read_text()), strict=True
    ):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            scored = key.endswith("Score")  # times and by a hundred
            assert ours[key] == (pytest.approx(value, rel=1e-14) if scored else value)


@shared
def test_names_that_say_otherwise_give_way_to_the_parameters() -> None:
    folder = PUBLISHED / "seed_era" / "MNIST_to_FashionMNIST" / "results"
    found = {}
    for name in ("baselines", "results"):
        (path,) = (p for p in folder.glob(f"{name}*MNIST_to_Fashion.json") if "dummy" not in p.name)
        for row in read_original(path):
            if row.cell["cut"] <= 0:
                key = (row.cell["fraction"], row.cell["repeat"], row.split)
                found.setdefault(key, {})[row.item] = row.value
    assert len(found) == 320  # the name says reinit_False, and each cut 0 is the baseline
    assert all(values["fr"] == values["baseline"] for values in found.values())
