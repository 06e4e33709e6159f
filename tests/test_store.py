from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from carryover import prepare
from carryover.config.data import Data
from carryover.data import parquet, shards, store
from carryover.data.catalog import Source, expect_known, resolve
from carryover.data.images import Encoded, decode
from carryover.errors import DataError
from image_files import (
    SHARED,
    encoded,
    picture,
    pictures,
    write_folder,
    write_mnist,
    write_parquet,
)

shared = pytest.mark.skipif(not SHARED.exists(), reason="the packed data sets are not here")


def prepared(tmp_path: Path, source: Source, name: str = "pets") -> dict[str, Any]:
    data = Data(None, (), {}, 16, 16, 1.0, 0.5)
    table = prepare.read(data, name, source, 0, download=False)
    return store.prepare(name, source, table, tmp_path / name, tmp_path / "cache")


@pytest.fixture
def small(tmp_path: Path) -> Source:
    """Twelve grey images of one size in three classes, with one more column."""
    splits = ["train"] * 6 + ["test"] * 6
    columns = {"split": splits, "domain": list("abcdefghijkl")}
    path = write_parquet(tmp_path / "x.parquet", pictures(12), [0, 1, 2] * 4, **columns)
    return Source("parquet", path)


@pytest.fixture
def mixed(tmp_path: Path) -> Source:
    """A folder of grey and colour images of two sizes, two classes."""
    files = {f"a/{i}.png": encoded(picture(i, "L", (6, 6 + i % 2))) for i in range(4)}
    files |= {f"b/{i}.png": encoded(picture(i, "RGB", (8, 6))) for i in range(4)}
    return Source("folder", write_folder(tmp_path / "set", files))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_prepared_set_gives_back_the_source(tmp_path: Path, small: Source) -> None:
    facts = prepared(tmp_path, small)
    assert facts == store.manifest(tmp_path / "pets") == store.check(tmp_path / "pets")
    assert (facts["layout"], facts["shape"], facts["kind"]) == ("raw", [1, 6, 6], "parquet")
    assert facts["splits"]["test"]["per_class"] == [2, 2, 2]
    test = store.load(tmp_path / "pets", "test")
    assert test.labels.tolist() == [0, 1, 2] * 2
    assert test.ids.tolist() == [6, 7, 8, 9, 10, 11]
    assert test.columns == {"domain": list("ghijkl")}
    assert isinstance(test.pixels, Tensor)
    assert test.pixels[1, 0].flatten().tolist() == list(picture(7).tobytes())


def test_equal_inputs_give_equal_bytes(tmp_path: Path, small: Source) -> None:
    prepared(tmp_path, small)
    first = bytes_of(tmp_path / "pets")
    prepared(tmp_path, small)
    assert bytes_of(tmp_path / "pets") == first
    assert sorted(first) == [
        "manifest.json",
        "test-00000.safetensors",
        "test-columns.parquet",
        "train-00000.safetensors",
        "train-columns.parquet",
    ]
    assert str(tmp_path) not in first["manifest.json"].decode()


def test_images_of_mixed_sizes_stay_encoded(tmp_path: Path, mixed: Source) -> None:
    facts = prepared(tmp_path, mixed)
    assert (facts["layout"], facts["shape"], facts["channels"]) == ("encoded", "mixed", 3)
    train = store.load(tmp_path / "pets", "train")
    assert isinstance(train.pixels, Encoded)
    assert train.columns["file"][0].startswith("a/")
    assert train.floats(torch.arange(4), size=5).shape == (4, 3, 5, 5)
    assert store.check(tmp_path / "pets")["splits"]["train"]["images"] == 4


def test_large_images_of_one_size_stay_encoded(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", pictures(4, "RGB", (65, 64)), [0, 1, 0, 1])
    facts = prepared(tmp_path, Source("parquet", path))
    assert (facts["layout"], facts["shape"]) == ("encoded", [3, 64, 65])


def test_one_colour_image_makes_the_set_rgb(tmp_path: Path) -> None:
    images = [*pictures(3), encoded(picture(9, "RGB"))]
    path = write_parquet(tmp_path / "x.parquet", images, [0, 1, 0, 1])
    assert prepared(tmp_path, Source("parquet", path))["shape"] == [3, 6, 6]


@pytest.mark.parametrize("kind", ["small", "mixed"])
def test_the_digest_does_not_depend_on_the_shards(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = request.getfixturevalue(kind)
    whole = prepared(tmp_path, source)
    wanted = store.load(tmp_path / "pets", "train")
    monkeypatch.setattr(shards, "SHARD_BYTES", 80)
    cut = prepared(tmp_path, source)
    assert len(cut["splits"]["train"]["files"]) > len(whole["splits"]["train"]["files"])
    assert cut["digest"] == whole["digest"] == store.check(tmp_path / "pets")["digest"]
    found = store.load(tmp_path / "pets", "train")
    assert all(torch.equal(found.image(row), wanted.image(row)) for row in range(len(wanted)))


def test_digits(tmp_path: Path) -> None:
    facts = prepared(tmp_path, Source("digits"), "digits")
    assert facts["shape"] == [1, 16, 16]
    assert sum(split["images"] for split in facts["splits"].values()) == 1797


def test_a_failure_leaves_the_old_set(tmp_path: Path, small: Source) -> None:
    prepared(tmp_path, small)
    before = bytes_of(tmp_path / "pets")
    assert small.path is not None
    write_parquet(small.path, [*pictures(2), b"broken"], [0, 1, 1])
    with pytest.raises(DataError, match=r"x\.parquet: row 2: expected an image that decodes"):
        prepared(tmp_path, small)
    assert bytes_of(tmp_path / "pets") == before
    assert not (tmp_path / ".pets.partial").exists()


def test_an_image_of_a_folder_that_does_not_decode_is_named(tmp_path: Path, mixed: Source) -> None:
    write_folder(tmp_path / "set", {"b/1.png": encoded(picture(0))[:40]})
    with pytest.raises(DataError, match=r"set/b/1\.png: expected an image that decodes"):
        prepared(tmp_path, mixed)
    assert not (tmp_path / "pets").exists()


def test_a_short_copy_of_a_known_set_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    source = resolve("mnist", str(tmp_path), {}, tmp_path)
    with pytest.raises(DataError, match=r"mnist: expected 60000 train images, got 20 in .*fetch"):
        prepared(tmp_path, source, "mnist")
    assert prepared(tmp_path, source, "pets")["shape"] == [1, 28, 28]


@pytest.mark.parametrize("name", ["train-00000.safetensors", "train-columns.parquet"])
def test_an_altered_or_missing_file_is_named(name: str, tmp_path: Path, small: Source) -> None:
    prepared(tmp_path, small)
    file = tmp_path / "pets" / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    message = rf"{name}: expected the file as it was prepared, .* `dvc repro -f data@pets`"
    for use in (lambda: store.load(tmp_path / "pets", "train"), lambda: store.check(file.parent)):
        with pytest.raises(DataError, match=message):
            use()
    file.unlink()
    with pytest.raises(DataError, match=message):
        store.load(tmp_path / "pets", "train")


def test_an_altered_manifest_is_noticed(tmp_path: Path, small: Source) -> None:
    prepared(tmp_path, small)
    path = tmp_path / "pets" / "manifest.json"
    facts = json.loads(path.read_text())
    facts["splits"]["train"]["images"] = 7
    path.write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"manifest\.json: expected the file as it was prepared"):
        store.check(tmp_path / "pets")
    for content in ("{", "[]", "{}"):
        path.write_text(content)
        with pytest.raises(DataError, match=r"manifest\.json: expected the file as it was"):
            store.manifest(tmp_path / "pets")


def test_a_set_or_split_that_is_not_there(tmp_path: Path, small: Source) -> None:
    with pytest.raises(DataError, match=r"expected a prepared data set, .* `dvc repro data@pets`"):
        store.load(tmp_path / "pets", "train")
    prepared(tmp_path, small)
    with pytest.raises(DataError, match="pets: expected a split among test, train, got 'validat"):
        store.load(tmp_path / "pets", "validation")


def test_a_set_is_stale_when_its_source_changed(tmp_path: Path, small: Source) -> None:
    prepared(tmp_path, small)
    assert not store.is_stale(tmp_path / "pets", small, tmp_path / "cache")
    assert small.path is not None
    os.utime(small.path, ns=(1, 1))
    assert not store.is_stale(tmp_path / "pets", small, tmp_path / "cache")
    small.path.write_bytes(small.path.read_bytes() + b"x")
    assert store.is_stale(tmp_path / "pets", small, tmp_path / "cache")


@pytest.mark.shared
@shared
def test_mixed_sizes_of_a_real_set(tmp_path: Path) -> None:
    source = resolve("dtd10", str(SHARED), {}, tmp_path)
    facts = prepared(tmp_path, source, "dtd10")
    assert {split: about["images"] for split, about in facts["splits"].items()} == {
        "train": 795,
        "test": 400,
    }
    assert (facts["shape"], facts["channels"]) == ("mixed", 3)
    x = store.load(tmp_path / "dtd10", "test").floats(torch.arange(4), size=64)
    assert x.shape == (4, 3, 64, 64)
    assert 0 <= x.min() < x.max() <= 1


@pytest.mark.shared
@shared
@pytest.mark.parametrize(
    ("name", "mean"), [("mnist", 0.1307), ("fashion-mnist", 0.2860), ("cifar10", 0.4734)]
)
def test_known_sets_have_their_counts_and_mean(name: str, mean: float, tmp_path: Path) -> None:
    source = resolve(name, str(SHARED), {}, tmp_path)
    assert source.path is not None
    table = parquet.read(source.path, 0.5, 0)
    counts = {split: table.splits.count(split) for split in ("train", "test")}
    sample = range(0, counts["train"], 40)
    pixels = torch.stack([decode(table.content(row), table.place(row)) for row in sample])
    expect_known(name, "x", counts, len(table.class_names), pixels.shape[1:])
    assert sum(counts.values()) == len(table.labels)
    assert pixels.double().mean() / 255 == pytest.approx(mean, abs=0.01)


@pytest.mark.slow
@pytest.mark.shared
@shared
def test_all_of_mnist_has_its_published_mean(tmp_path: Path) -> None:
    facts = prepared(tmp_path, resolve("mnist", str(SHARED), {}, tmp_path), "mnist")
    assert facts["splits"]["test"]["per_class"][:3] == [980, 1135, 1032]
    images = store.load(tmp_path / "mnist", "train")
    assert isinstance(images.pixels, Tensor)
    assert images.pixels.double().mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert len(images.of_classes([5, 6, 7, 8, 9])) == 29_404
