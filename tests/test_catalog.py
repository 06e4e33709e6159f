from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from carryover.data.catalog import (
    DATASETS,
    Source,
    expect_known,
    files_below,
    resolve,
    slug,
    source_digest,
)
from carryover.errors import DataError
from conftest import REPOSITORY
from image_files import write_folder, write_mnist


def test_catalog_imports_no_torch() -> None:
    code = "import sys, carryover.data.catalog; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert answer.stdout.strip() == "False"


def test_the_sets_of_mtil_are_known() -> None:
    tasks = ["aircraft", "caltech101", "cars", "cifar10", "cifar100", "dtd", "eurosat", "flowers"]
    tasks += ["food-101", "mnist", "oxford-pet", "sun397"]
    others = ["conceptual-captions", "fmow", "imagenet", "imagenet-a", "imagenet-r"]
    others += ["imagenet-sketch", "imagenet-v2", "imagenet-vid-robust", "iwildcam", "objectnet"]
    others += ["ytbb-robust"]
    assert (len(tasks), len(others)) == (12, 11)
    assert {*DATASETS} == {*tasks, *others, "celeba", "digits", "fashion-mnist"}
    for name in tasks:
        known = DATASETS[name]
        assert known.splits["train"] > 1000
        assert known.splits["test"] > 1000


def test_every_known_set_adds_up() -> None:
    for name, known in DATASETS.items():
        assert slug(name) == name
        assert known.source
        assert sum(known.splits.values()) in (0, known.images)
        assert bool(known.places) == bool(known.kind)
        # files are fetched with a checksum, or somebody is told where they are
        assert bool(known.torchvision_class) != bool(known.get) or not known.kind


def test_digits_are_embedded(tmp_path: Path) -> None:
    assert resolve("digits", None, {}, tmp_path) == Source("digits")


def test_a_named_source_comes_first_and_is_relative_to_base(tmp_path: Path) -> None:
    sources = {"digits": "folder:mine", "fashion_mnist": "parquet:/x/y.parquet"}
    assert resolve("digits", None, sources, tmp_path) == Source("folder", tmp_path / "mine")
    assert resolve("fashion-mnist", None, sources, tmp_path).path == Path("/x/y.parquet")
    assert resolve("parquet:a.parquet", None, {}, tmp_path).path == tmp_path / "a.parquet"
    home = resolve("folder:~/pets", None, {}, tmp_path)
    assert home == Source("folder", Path.home() / "pets")


def test_rules_below_the_root_in_their_order(tmp_path: Path) -> None:
    root = tmp_path / "sets"
    (root / "fashion-mnist").mkdir(parents=True)
    folder = Source("folder", root / "fashion-mnist")
    assert resolve("fashion_mnist", "sets", {}, tmp_path) == folder
    (root / "FashionMNIST" / "raw").mkdir(parents=True)
    official = Source("torchvision", root, "FashionMNIST", "FashionMNIST")
    assert resolve("fashion_mnist", "sets", {}, tmp_path) == official
    (root / "fashion_mnist.parquet").touch()
    packed = Source("parquet", root / "fashion_mnist.parquet")
    assert resolve("fashion-mnist", "sets", {}, tmp_path) == packed


def test_a_folder_of_parquet_files_is_parquet(tmp_path: Path) -> None:
    write_folder(tmp_path, {"pets/train-00000-of-00001.parquet": b""})
    assert resolve("pets", str(tmp_path), {}, tmp_path) == Source("parquet", tmp_path / "pets")


def test_what_was_looked_for_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        resolve("mnist", str(tmp_path), {}, tmp_path)
    message = str(caught.value)
    for part in ("mnist.parquet", "MNIST/raw", "lay them there", "prepare mnist --download"):
        assert part in message
    assert "set data.root" not in message
    with pytest.raises(DataError) as caught:
        resolve("imagenet-a", str(tmp_path), {}, tmp_path)
    assert str(caught.value).count(f"{tmp_path / 'imagenet-a'},") == 1
    with pytest.raises(DataError, match=r"data\.root is not set"):
        resolve("pets", None, {}, tmp_path)


def test_download_accepts_an_empty_root(tmp_path: Path) -> None:
    source = resolve("cifar10", str(tmp_path), {}, tmp_path, download=True)
    assert source == Source("torchvision", tmp_path, "cifar-10-batches-py", "CIFAR10")


@pytest.mark.parametrize("name", ["../mnist", "a/b", "Mnist", "", "-a", "a--b", "/etc"])
def test_a_name_is_a_slug(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a name of a-z, 0-9 and single dashes, got"):
        resolve(name, str(tmp_path), {}, tmp_path)


@pytest.mark.parametrize("text", ["mine", "zip:x", "folder:"])
def test_a_source_has_a_kind_and_a_path(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.sources\.pets: expected folder:PATH or parquet:P"):
        resolve("pets", None, {"pets": text}, tmp_path)


def test_files_below_leaves_out_hidden_ones(tmp_path: Path) -> None:
    write_folder(tmp_path, {"b/1": b"", "a": b"", ".DS_Store": b"", ".git/x": b""})
    assert files_below(tmp_path) == [tmp_path / "a", tmp_path / "b/1"]


def test_source_digest_follows_bytes_and_names(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = write_folder(tmp_path / "set", {"a/1.png": b"x", "b/2.png": b"y"})
    source = Source("folder", folder)
    first = source_digest(source, cache)
    assert source_digest(source, cache) == first
    os.utime(folder / "a/1.png", ns=(1, 1))
    assert source_digest(source, cache) == first
    (folder / "a/1.png").rename(folder / "a/3.png")
    renamed = source_digest(source, cache)
    (folder / "a/3.png").write_bytes(b"zz")
    assert len({first, renamed, source_digest(source, cache)}) == 3


def test_source_digest_of_a_file_survives_a_move(tmp_path: Path) -> None:
    file = write_folder(tmp_path, {"a.parquet": b"x"}) / "a.parquet"
    first = source_digest(Source("parquet", file), tmp_path / "cache")
    moved = file.rename(tmp_path / "b.parquet")
    assert source_digest(Source("parquet", moved), tmp_path / "cache") == first


def test_source_digest_reads_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("torchvision", write_mnist(tmp_path).parents[1], "MNIST", "MNIST")
    first = source_digest(source, tmp_path / "cache")
    monkeypatch.setattr("carryover.data.catalog._sha256", lambda path: "read again")
    assert source_digest(source, tmp_path / "cache") == first
    assert source_digest(source, tmp_path / "other") != first


def test_source_digest_names_a_source_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: expected the files of a data set, found none"):
        source_digest(Source("folder", tmp_path / "gone"), tmp_path)


def test_a_copy_that_differs_from_the_known_set_is_refused() -> None:
    good = {"train": 60_000, "test": 10_000}
    expect_known("mnist", "x", good, 10, (1, 28, 28))
    expect_known("pets", "x", {"train": 3}, 2)
    with pytest.raises(DataError, match="mnist: expected 60000 train images, got 59000 in x"):
        expect_known("mnist", "x", good | {"train": 59_000}, 10)
    with pytest.raises(DataError, match="mnist: expected no validation images, got 5 in x"):
        expect_known("mnist", "x", good | {"validation": 5}, 10)
    with pytest.raises(DataError, match="mnist: expected 10 classes, got 9 in x"):
        expect_known("mnist", "x", good, 9)
    with pytest.raises(DataError, match=r"expected \(1, 28, 28\) channels, .* got \(3, 28, 28\)"):
        expect_known("mnist", "x", good, 10, (3, 28, 28))
    with pytest.raises(DataError, match="digits: expected 1797 images, got 1000"):
        expect_known("digits", "x", {"train": 1000}, 10)


def test_a_validation_part_may_be_left_out_of_a_copy() -> None:
    expect_known("dtd", "x", {"train": 1880, "test": 1880}, 47)
    expect_known("dtd", "x", {"train": 1880, "validation": 1880, "test": 1880}, 47)
    with pytest.raises(DataError, match="dtd: expected 1880 validation images, got 3 in x"):
        expect_known("dtd", "x", {"train": 1880, "validation": 3, "test": 1880}, 47)


def test_a_copy_in_use_is_taken_with_its_own_numbers_alone() -> None:
    expect_known("caltech101", "x", {"train": 6941, "test": 1736}, 101)
    expect_known("caltech101", "x", {"train": 2929, "test": 1783}, 102)
    with pytest.raises(DataError, match="caltech101: expected 6941 train images, got 2929 in x"):
        expect_known("caltech101", "x", {"train": 2929, "test": 1783}, 101)


def test_numbers_that_are_not_known_are_not_held() -> None:
    expect_known("iwildcam", "x", {"train": 5, "test": 1}, 3)
    with pytest.raises(DataError, match="fmow: expected 62 classes, got 61 in x"):
        expect_known("fmow", "x", {"train": 5, "test": 1}, 61)


def test_the_first_place_that_holds_the_files_counts(tmp_path: Path) -> None:
    write_folder(tmp_path, {"dtd/labels/train1.txt": b"", "dtd/banded/1.jpg": b""})
    source = resolve("dtd", str(tmp_path), {}, tmp_path)
    assert source == Source("official", tmp_path, "dtd", "DTD")
    write_folder(tmp_path, {"dtd/dtd/labels/train1.txt": b""})
    assert resolve("dtd", str(tmp_path), {}, tmp_path).folder == "dtd/dtd"


def test_class_folders_under_a_known_name_are_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, {"dtd/banded/1.jpg": b"", "dtd/dotted/2.jpg": b""})
    assert resolve("dtd", str(tmp_path), {}, tmp_path) == Source("folder", tmp_path / "dtd")


def test_the_guide_lists_the_sets_of_mtil_with_their_numbers() -> None:
    lines = (REPOSITORY / "docs" / "data.md").read_text().splitlines()
    rows = {line.split("|")[1]: line for line in lines if line.startswith("| `")}
    for name, known in DATASETS.items():
        if name != "digits":
            row = next(line for names, line in rows.items() if f"`{name}`" in names)
            assert known.places[0] in row
            found = {int(number) for number in re.findall(r"\d+", row.replace(",", ""))}
            assert {*known.splits.values()} <= found
