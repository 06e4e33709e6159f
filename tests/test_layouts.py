from __future__ import annotations

from pathlib import Path

import pytest

from carryover import prepare
from carryover.config.data import Data
from carryover.data import catalog, layouts
from carryover.errors import DataError
from image_files import encoded, picture


@pytest.fixture
def food(tmp_path: Path) -> Path:
    """Three classes in Food-101's layout, two training images and one test image each."""
    folder = tmp_path / "root" / "food-101"
    classes = ["apple_pie", "pad_thai", "waffles"]
    for name in classes:
        (folder / "images" / name).mkdir(parents=True)
        for i in range(3):
            (folder / "images" / name / f"{i}.jpg").write_bytes(encoded(picture(i, "RGB", (9, 8))))
    (folder / "meta").mkdir()
    lists = {"classes": classes, "train": [f"{n}/{i}" for n in classes for i in (0, 2)]}
    lists["test"] = [f"{name}/1" for name in classes]
    for name, lines in lists.items():
        (folder / "meta" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_food_101_is_read_by_its_lists(food: Path) -> None:
    table = layouts.food101(food)
    assert table.class_names == ("apple pie", "pad thai", "waffles")
    assert table.labels == [0, 0, 1, 1, 2, 2, 0, 1, 2]
    assert table.splits == ["train"] * 6 + ["test"] * 3
    assert table.columns["file"][6] == "images/apple_pie/1.jpg"


def test_food_101_is_found_below_the_root_and_a_short_copy_is_refused(food: Path) -> None:
    data = Data(str(food.parent), ("food-101",), {}, 8, 16, 1.0, 0.5)
    source = prepare.find(data, "food-101")
    assert source == catalog.Source("food101", food)
    with pytest.raises(DataError, match=r"food-101: expected 75750 train images, got 6"):
        prepare.prepare(data, "food-101", 0, download=False, out=food.parent / "out")
    assert not (food.parent / "out").exists()


def test_a_missing_class_folder_shifts_no_label(food: Path) -> None:
    for file in (food / "images" / "apple_pie").iterdir():
        file.unlink()
    (food / "images" / "apple_pie").rmdir()
    table = layouts.food101(food)
    assert table.labels[2] == 1
    with pytest.raises(DataError, match=r"apple_pie/0\.jpg: expected a file to read"):
        table.content(0)


def test_lists_that_cannot_be_read_or_name_no_class_are_refused(food: Path) -> None:
    (food / "meta" / "test.txt").write_text("soup/1\n")
    with pytest.raises(
        DataError, match=r"test\.txt:1: expected a class of classes\.txt, got 'soup'"
    ):
        layouts.food101(food)
    (food / "meta" / "train.txt").unlink()
    with pytest.raises(DataError, match=r"train\.txt: expected this list of Food-101"):
        layouts.food101(food)
