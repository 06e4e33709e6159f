from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from carryover.data import parquet
from carryover.data.images import Table
from carryover.data.sources import digits, folder, torchvision_files
from carryover.errors import ConfigError, DataError
from image_files import encoded, picture, pictures, write_folder, write_mnist, write_parquet

PNG = encoded(picture(0))


def test_digits_keep_the_real_pixels_at_their_own_size() -> None:
    from sklearn.datasets import load_digits

    table = digits(8, 0.5, seed=0)
    bunch = load_digits()
    assert isinstance(table.images, Tensor)
    assert torch.equal(
        table.images[:, 0], torch.from_numpy(np.rint(bunch.images / 16 * 255)).byte()
    )
    assert table.labels == bunch.target.tolist()
    assert table.class_names == tuple("0123456789")


def test_digits_are_enlarged_and_split_by_seed() -> None:
    table, again, other = digits(32, 0.25, 0), digits(32, 0.25, 0), digits(32, 0.25, 1)
    assert isinstance(table.images, Tensor)
    assert table.images.shape == (1797, 1, 32, 32)
    assert table.images.max() == 255
    assert table.splits == again.splits != other.splits
    held = [
        label for label, split in zip(table.labels, table.splits, strict=True) if split == "test"
    ]
    counts = np.bincount(table.labels)
    assert [abs(held.count(c) - counts[c] / 4) <= 0.5 for c in range(10)] == [True] * 10


def test_digits_are_never_shrunk() -> None:
    with pytest.raises(DataError, match=r"data\.digits_size: expected at least 8 px, got 7"):
        digits(7, 0.5, 0)


def test_folder_without_splits_holds_a_test_part_out(tmp_path: Path) -> None:
    files = {f"{name}/{i}.png": PNG for name in ("dog", "cat") for i in range(4)}
    notes = {"cat/Thumbs.db": b"", "cat/.DS_Store": b"", "cat/boxes.txt": b"", "list.txt": b""}
    table = folder(write_folder(tmp_path, files | notes), 0.25, 0)
    assert table.class_names == ("cat", "dog")
    assert table.labels == [0] * 4 + [1] * 4
    assert table.splits.count("test") == 2
    assert table.columns["file"][0] == "cat/0.png"
    assert table.content(0) == PNG


def test_folder_with_splits_keeps_them(tmp_path: Path) -> None:
    names = ("train/a/deep/1.JPG", "train/b/2.png", "test/a/3.png", "val/b/4.png")
    table = folder(write_folder(tmp_path, dict.fromkeys(names, PNG)), 0.5, 0)
    assert table.splits == ["train", "train", "test", "validation"]
    assert table.labels == [0, 1, 0, 1]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    table = folder(write_folder(tmp_path, {"train/1.png": PNG, "plane/2.png": PNG}), 0.6, 0)
    assert table.class_names == ("plane", "train")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "expected class folders with images, found none"),
        (["train/a/1.png", "train/b/1.png", "test/list.txt"], "test: expected class folders"),
        (["a/1.png", "b/notes.txt"], "b: expected images, found none"),
        (["a/1.png", "a/2.png"], "expected images of at least two classes, got 1"),
        (["a/1.png", "2.png"], r"2\.png: expected images in class folders"),
        (["a/1.png", "b/2.heic"], r"b/2\.heic: expected an image \(\.bmp, .*\), got '\.heic'"),
        (["train/a/1.png", "train/b/2.png", "c/3.png"], "expected split folders only"),
        (["train/a/1.png", "train/b/2.png", "test/c/3.png"], "got 'c' in test and not in train"),
    ],
)
def test_a_folder_that_cannot_be_used(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        folder(write_folder(tmp_path, dict.fromkeys(names, PNG)), 0.5, 0)


@pytest.mark.parametrize("name", [b"a/caf\xe9.png", b"\xe9a/x.png"])
def test_a_name_that_is_not_utf8(name: bytes, tmp_path: Path) -> None:
    files = dict.fromkeys(("a/1.png", "b/2.png", os.fsdecode(name)), PNG)
    with pytest.raises(DataError, match="expected a name in UTF-8"):
        folder(write_folder(tmp_path, files), 0.5, 0)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: expected a folder of class folders, found none"):
        folder(tmp_path / "gone", 0.5, 0)


def test_a_test_part_needs_a_share(tmp_path: Path) -> None:
    path = write_folder(tmp_path, {"a/1.png": PNG, "b/2.png": PNG})
    with pytest.raises(DataError, match=r"data\.test_fraction: expected a share that gives test"):
        folder(path, 0.01, 0)
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        folder(path, 1.0, 0)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    table = folder(write_folder(tmp_path, {"a/1.png": PNG, "b/2.png": PNG}), 0.6, 0)
    (tmp_path / "b/2.png").unlink()
    with pytest.raises(DataError, match=r"b/2\.png: expected a file to read, got 'No such file"):
        table.content(1)


def test_parquet_keeps_splits_names_and_other_columns(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "x.parquet",
        pictures(4),
        [1, 0, 1, 0],
        class_name=["b", "a", "b", "a"],
        split=["train", "train", "valid", "test"],
        domain=["p", "q", "r", None],
    )
    table = parquet.read(path, 0.5, 0)
    assert table.class_names == ("a", "b")
    assert table.splits == ["train", "train", "validation", "test"]
    assert table.columns == {"domain": ["p", "q", "r", None]}
    assert table.content(2) == pictures(4)[2]
    assert table.place(2) == f"{path}: row 2"


def test_parquet_reads_structs_and_names_of_hugging_face(tmp_path: Path) -> None:
    images = [{"bytes": content, "path": f"{row}.png"} for row, content in enumerate(pictures(4))]
    arrow = pa.table({"image": images, "label": [0, 1, 1, 0]})
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(arrow.replace_schema_metadata(metadata), tmp_path / "x.parquet")
    table = parquet.read(tmp_path / "x.parquet", 0.5, 0)
    assert table.class_names == ("cat", "dog")
    assert table.columns == {"file": ["0.png", "1.png", "2.png", "3.png"]}
    assert table.splits.count("test") == 2


def test_parquet_folder_takes_splits_from_file_names(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test-00000-of-00001.parquet", pictures(2), [0, 1])
    write_parquet(tmp_path / "train-00000-of-00001.parquet", pictures(3), [0, 1, 1])
    table = parquet.read(tmp_path, 0.5, 0)
    assert table.splits == ["test"] * 2 + ["train"] * 3
    assert table.class_names == ("0", "1")
    write_parquet(tmp_path / "train-00001-of-00001.parquet", pictures(1), ["0"])
    with pytest.raises(DataError, match="expected files with equal columns"):
        parquet.read(tmp_path, 0.5, 0)


@pytest.mark.parametrize(
    ("labels", "columns", "message"),
    [
        ([0, 1, 5], {}, r"row 2: expected labels 0\.\.2 for 3 classes, got 5; number the classes"),
        ([0, 1, -1], {}, r"row 2: expected labels 0\.\.2 for 3 classes, got -1"),
        ([1, 2, 2], {}, r"row 1: expected labels 0\.\.1 for 2 classes, got 2"),
        ([0, None, 1], {}, "row 1: expected a label, got none"),
        ([0.0, 1.0, 1.5], {}, r"column label: expected whole numbers 0\.\.C-1, got double"),
        (["a", "b", "a"], {}, r"column label: expected whole numbers 0\.\.C-1, got string"),
        ([0, 0, 0], {}, "expected images of at least two classes, got 1"),
        ([0, 1, 1], {"split": ["train", "dev", "test"]}, "row 1: expected a split among train, "),
        ([0, 1, 1], {"split": ["train", None, "test"]}, "row 1: expected a split .* got None"),
        (
            [0, 1, 1],
            {"class_name": ["a", "b", "c"]},
            "row 2: class_name: expected 'b' for label 1, got 'c'",
        ),
        ([0, 1, 1], {"class_name": ["a", None, "b"]}, "row 1: class_name: expected a name, got No"),
        (
            [0, 1, 1],
            {"class_name": ["a", "a", "a"]},
            "row 1: class_name: expected 'a' for label 0 only, got it for label 1 too",
        ),
        ([0, 1, 1], {"class_name": [["a"]] * 3}, "column class_name: expected text, got list<"),
        ([0, 1, 1], {"split": [["train"]] * 3}, "column split: expected text, got list<"),
    ],
)
def test_parquet_rows_that_cannot_be_used(
    labels: list[Any], columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_parquet(tmp_path / "x.parquet", pictures(3), labels, **columns)
    with pytest.raises(DataError, match=message):
        parquet.read(path, 0.5, 0)


NOT_UTF8 = pa.Array.from_buffers(pa.string(), 3, pa.array([b"\xff"] * 3).buffers())


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (NOT_UTF8, "string"),
        (pa.array([1] * 3, pa.timestamp("ns")), "timestamp"),
        (pa.array([10**9] * 3, pa.date32()), "date32"),
        (pa.array([2**63] * 3, pa.uint64()), "uint64"),
        (pa.array([[("k", 1)]] * 3, pa.map_(pa.string(), pa.int32())), "map<"),
    ],
    ids=["utf-8", "nanoseconds", "days", "uint64", "map"],
)
def test_a_parquet_column_that_cannot_be_stored_is_named(
    column: pa.Array, kind: str, tmp_path: Path
) -> None:
    path = write_parquet(tmp_path / "x.parquet", pictures(3), [0, 1, 1], taken=column)
    said = rf"x\.parquet: column taken: expected values that can be stored, got {kind}"
    with pytest.raises(DataError, match=said):
        parquet.read(path, 0.5, 0)


@pytest.mark.parametrize("name", ["image", "taken"])
def test_a_parquet_column_that_is_there_twice_is_named(name: str, tmp_path: Path) -> None:
    columns = [pa.array(pictures(2)), pa.array([0, 1]), *[pa.array(pictures(2))] * 2]
    table = pa.Table.from_arrays(columns, ["image", "label", name, name])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=f"expected each column once, got '?{name}'? twice"):
        parquet.read(tmp_path / "x.parquet", 0.5, 0)


def test_a_named_class_without_images_is_a_gap(tmp_path: Path) -> None:
    arrow = pa.table({"image": pictures(2), "label": [0, 2]})
    features = {"label": {"names": ["cat", "dog", "eel"]}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(arrow.replace_schema_metadata(metadata), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"all 3 classes, got none of class 1 \('dog'\)"):
        parquet.read(tmp_path / "x.parquet", 0.5, 0)


def test_parquet_images_must_be_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(path, ["1.png", "2.png"], [0, 1])
    with pytest.raises(DataError, match=r"column image: expected bytes or a struct .* got string"):
        parquet.read(path, 0.5, 0)
    write_parquet(path, [PNG, None], [0, 1])
    with pytest.raises(DataError, match="row 1: expected image bytes, got none"):
        parquet.read(path, 0.5, 0)


def test_parquet_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"img": [PNG], "label": [0]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"image and label, got img, label; rename or add image"):
        parquet.read(tmp_path / "x.parquet", 0.5, 0)


def test_a_parquet_file_that_is_none_or_cut_off(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "x.parquet", pictures(2), [0, 1]).read_bytes()
    for content in (whole[: len(whole) // 2], b"label,image", b""):
        (tmp_path / "x.parquet").write_bytes(content)
        with pytest.raises(DataError, match=r"x\.parquet: expected a whole Parquet file, got"):
            parquet.read(tmp_path / "x.parquet", 0.5, 0)
    with pytest.raises(DataError, match=r"gone\.parquet: expected a Parquet file, found none"):
        parquet.read(tmp_path / "gone.parquet", 0.5, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: expected a Parquet file, found none"):
        parquet.read(tmp_path / "empty", 0.5, 0)


def test_official_mnist_files(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    table = torchvision_files(tmp_path, "MNIST")
    assert isinstance(table.images, Tensor)
    assert table.images.shape == (30, 1, 28, 28)
    assert table.labels[:12] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert table.splits == ["train"] * 20 + ["test"] * 10
    assert table.class_names == tuple("0123456789")


@pytest.mark.parametrize("keep", [0, 2, 10, 1000])
def test_official_files_that_are_cut_off(keep: int, tmp_path: Path) -> None:
    file = write_mnist(tmp_path) / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match="expected the official files of MNIST, got"):
        torchvision_files(tmp_path, "MNIST")


def test_official_files_that_are_absent_or_altered(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"official files of CIFAR10, .*; copy .* --download"):
        torchvision_files(tmp_path, "CIFAR10")
    # an altered pickle is refused before it is opened: opening this one would fail differently
    write_folder(tmp_path, {f"cifar-10-batches-py/data_batch_{i}": b"evil" for i in range(1, 6)})
    with pytest.raises(DataError, match="Dataset not found or corrupted"):
        torchvision_files(tmp_path, "CIFAR10")


def test_table_checks_its_labels() -> None:
    with pytest.raises(DataError, match=r"o: row 1: expected labels 0\.\.1 for 2 classes, got 2"):
        Table("o", [PNG, PNG], [0, 2], ["train"] * 2, ("a", "b"))
