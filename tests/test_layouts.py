"""Each official layout is read from a miniature copy, and each fault of one is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from carryover import prepare
from carryover.config.data import Data
from carryover.data import catalog, layouts, layouts_imagenet, store
from carryover.data.images import Table
from carryover.errors import ConfigError, DataError
from official_files import FISH, PICTURE, WRITERS

OFFICIAL = sorted(name for name, known in catalog.DATASETS.items() if known.kind == "official")
COUNTED = [name for name in OFFICIAL if catalog.DATASETS[name].splits]


def data_of(root: Path) -> Data:
    return Data(str(root), (), {}, 8, 16, 1.0, 0.5)


def made(name: str, root: Path) -> Table:
    return layouts.read(name, WRITERS[name](root))


def of(table: Table, split: str) -> list[tuple[str, int]]:
    rows = zip(table.columns["file"], table.labels, table.splits, strict=True)
    return [(file, label) for file, label, part in rows if part == split]


def test_every_official_set_has_a_reader_and_a_miniature_copy() -> None:
    assert len(OFFICIAL) == 9 + 12
    assert sorted(layouts.LAYOUTS) == sorted(WRITERS) == OFFICIAL


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_copy_is_found_below_the_root_and_all_it_lists_is_there(
    name: str, tmp_path: Path
) -> None:
    folder = WRITERS[name](tmp_path)
    source = prepare.find(data_of(tmp_path), name)
    assert (source.kind, tmp_path / source.folder) == ("official", folder)
    table = prepare.read(data_of(tmp_path), name, source, 0, download=False)
    assert len(table.labels) == len(table.splits) > 1
    if isinstance(table.images, list):
        assert all(len(table.content(row)) > 20 for row in range(len(table.labels)))


@pytest.mark.parametrize("name", COUNTED)
def test_a_copy_with_other_numbers_is_refused(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    with pytest.raises(DataError, match=rf"^{name}: expected \d+ (train|test) images, got \d+ in"):
        prepare.prepare(data_of(tmp_path), name, 0, download=False, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", sorted({*OFFICIAL} - {*COUNTED, "fmow"}))
def test_a_set_whose_numbers_are_not_known_is_prepared(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    prepare.prepare(data_of(tmp_path), name, 0, download=False, out=tmp_path / "out")
    assert store.check(tmp_path / "out")["kind"] == "official"


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_absent_set_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    known = catalog.DATASETS[name]
    with pytest.raises(DataError) as caught:
        prepare.find(data_of(tmp_path), name)
    message = str(caught.value)
    assert str(tmp_path / known.places[0] / known.present[0]) in message
    assert (known.get or f"`carryover data prepare {name} --download`") in message


@pytest.mark.parametrize("name", [n for n in OFFICIAL if catalog.DATASETS[n].get])
def test_what_cannot_be_fetched_with_a_checksum_is_not_fetched(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected its files, found none .*; get "):
        prepare.find(data_of(tmp_path), name, download=True)


@pytest.mark.parametrize("name", [n for n in OFFICIAL if not catalog.DATASETS[n].get])
def test_torchvision_fetches_what_is_absent_and_only_then(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(class_name: str, root: Path) -> None:
        asked.append(class_name)
        WRITERS[name](root)

    monkeypatch.setattr(layouts, "fetch", fetch)
    for _ in range(2):
        source = prepare.find(data_of(tmp_path), name, download=True)
        prepare.read(data_of(tmp_path), name, source, 0, download=True)
    assert asked == [catalog.DATASETS[name].torchvision_class]


def test_a_failed_fetch_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def broken(root: Path, download: bool) -> None:
        raise RuntimeError("no network\nat all")

    monkeypatch.setattr(torchvision.datasets, "DTD", broken)
    with pytest.raises(
        DataError, match=r"expected to fetch DTD, got: no network at all; fetch it elsewhere"
    ):
        layouts.fetch("DTD", tmp_path)


def test_what_official_files_lack_is_said_where_they_are_taken_for_class_folders(
    tmp_path: Path,
) -> None:
    shutil.copytree(WRITERS["dtd"](tmp_path / "whole") / "images", tmp_path / "dtd" / "images")
    (tmp_path / "dtd" / "imdb").mkdir()
    with pytest.raises(DataError, match=r"dtd/imdb: expected images, .*; as official .* labels"):
        prepare.prepare(data_of(tmp_path), "dtd", 0, download=False, out=tmp_path / "out")


def test_aircraft_has_variants_and_official_parts(tmp_path: Path) -> None:
    table = made("aircraft", tmp_path)
    assert table.class_names == ("707-320", "DC-3", "Gulfstream IV")
    assert of(table, "train") == [("images/1.jpg", 0), ("images/2.jpg", 1)]
    assert of(table, "validation") == [("images/3.jpg", 1)]
    assert of(table, "test") == [("images/4.jpg", 2)]


@pytest.mark.parametrize("name", ["caltech101", "eurosat", "sun397"])
def test_random_parts_are_those_of_torch_with_seed_42(name: str, tmp_path: Path) -> None:
    table = made(name, tmp_path)
    rows = list(range(len(table.labels)))
    sizes = [int(0.8 * len(rows)), len(rows) - int(0.8 * len(rows))]
    generator = torch.Generator().manual_seed(42)
    train, test = torch.utils.data.random_split(rows, sizes, generator=generator)  # type: ignore[arg-type]
    assert [row for row in rows if table.splits[row] == "train"] == sorted(train.indices)
    assert [row for row in rows if table.splits[row] == "test"] == sorted(test.indices)


def test_caltech_leaves_the_background_out(tmp_path: Path) -> None:
    table = made("caltech101", tmp_path)
    assert table.class_names == ("Faces", "Faces_easy", "accordion")
    assert len(table.labels) == 15


def test_sun_names_classes_within_classes(tmp_path: Path) -> None:
    table = made("sun397", tmp_path)
    assert table.class_names == ("abbey", "apartment_building/outdoor")
    assert table.columns["file"][5] == "a/apartment_building/outdoor/sun_a0.jpg"


def test_celeba_is_told_apart_by_one_attribute_in_the_parts_of_its_list(tmp_path: Path) -> None:
    table = made("celeba", tmp_path)
    assert table.class_names == ("not Smiling", "Smiling")
    train = [("img_align_celeba/000001.jpg", 1), ("img_align_celeba/000002.jpg", 0)]
    assert of(table, "train") == train
    assert of(table, "validation") == [("img_align_celeba/000003.jpg", 1)]
    assert of(table, "test") == [("img_align_celeba/000004.jpg", 0)]
    place = tmp_path / "celeba" / "list_eval_partition.txt"
    for line, wanted in (
        ("000001.jpg 3", "an image and its part, 0, 1 or 2"),
        ("000009.jpg 0", "one of the set's classes"),
    ):
        place.write_text(f"{line}\n")
        with pytest.raises(DataError, match=rf"partition\.txt:1: expected {wanted}"):
            layouts.read("celeba", tmp_path / "celeba")
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text("1\nYoung\n000001.jpg 1\n")
    with pytest.raises(DataError, match="expected the official lists of celeba, got some of anoth"):
        layouts.read("celeba", tmp_path / "celeba")


def test_cars_are_numbered_from_one_in_the_annotations(tmp_path: Path) -> None:
    table = made("cars", tmp_path)
    assert table.class_names == ("AM General Hummer SUV 2000", "Acura RL Sedan 2012")
    assert of(table, "train") == [("cars_train/00001.jpg", 1), ("cars_train/00002.jpg", 0)]
    assert of(table, "test") == [("cars_test/00001.jpg", 0)]


def test_cars_without_labelled_test_annotations_are_refused(tmp_path: Path) -> None:
    folder = WRITERS["cars"](tmp_path)
    bare = np.empty((1, 1), dtype=[("fname", object)])
    bare[0, 0] = ("00001.jpg",)
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": bare})
    with pytest.raises(DataError, match=r"expected annotations with fname and class, got fname;"):
        layouts.cars(folder)
    (folder / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(
        DataError, match=r"withlabels\.mat: expected a MATLAB file with annotations"
    ):
        layouts.cars(folder)


def test_dtd_reads_partition_1(tmp_path: Path) -> None:
    table = made("dtd", tmp_path)
    assert table.class_names == ("banded", "polka-dotted")
    assert of(table, "validation")[1] == ("images/polka-dotted/polka-dotted_2.jpg", 1)
    assert [table.splits.count(part) for part in ("train", "validation", "test")] == [2, 2, 2]


def test_flowers_have_torchvisions_names_by_label(tmp_path: Path) -> None:
    table = made("flowers", tmp_path)
    assert len(table.class_names) == 102
    assert (table.class_names[0], table.class_names[101]) == ("pink primrose", "blackberry lily")
    assert not any("?" in name for name in table.class_names)
    assert of(table, "train")[:2] == [("jpg/image_00001.jpg", 0), ("jpg/image_00002.jpg", 1)]
    assert of(table, "test")[0] == ("jpg/image_00103.jpg", 0)
    assert of(table, "validation") == [("jpg/image_00205.jpg", 0), ("jpg/image_00206.jpg", 1)]


def test_flowers_whose_files_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = WRITERS["flowers"](tmp_path)
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 2, 3]])})
    with pytest.raises(DataError, match=r"setid\.mat: expected images 1 to 3, as imagelabels"):
        layouts.flowers(folder)
    (folder / "imagelabels.mat").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"imagelabels\.mat: expected a MATLAB file with labels"):
        layouts.flowers(folder)


def test_food_101_is_read_by_its_lists(tmp_path: Path) -> None:
    table = made("food-101", tmp_path)
    assert table.class_names == ("apple pie", "pad thai", "waffles")
    assert table.labels == [0, 0, 1, 1, 2, 2, 0, 1, 2]
    assert table.splits == ["train"] * 6 + ["test"] * 3
    assert table.columns["file"][6] == "images/apple_pie/1.jpg"


def test_a_missing_class_folder_shifts_no_label(tmp_path: Path) -> None:
    folder = WRITERS["food-101"](tmp_path)
    for file in (folder / "images" / "apple_pie").iterdir():
        file.unlink()
    (folder / "images" / "apple_pie").rmdir()
    table = layouts.food101(folder)
    assert table.labels[2] == 1
    with pytest.raises(DataError, match=r"apple_pie/0\.jpg: expected a file to read"):
        table.content(0)


def test_a_list_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    folder = WRITERS["food-101"](tmp_path)
    with (folder / "meta" / "test.txt").open("a") as file:
        file.write("waffles/../../../elsewhere\n")
    with pytest.raises(DataError, match=r"expected a list of files in this folder, got .*\.\./"):
        layouts.food101(folder)


def test_a_root_may_lead_upwards(tmp_path: Path) -> None:
    folder = WRITERS["food-101"](tmp_path)
    (tmp_path / "deeper").mkdir()
    upwards = tmp_path / "deeper" / ".." / folder.relative_to(tmp_path)
    assert layouts.food101(upwards).columns == layouts.food101(folder).columns


def test_pets_are_named_by_their_breed(tmp_path: Path) -> None:
    table = made("oxford-pet", tmp_path)
    assert table.class_names == ("Abyssinian", "American Bulldog")
    assert of(table, "test") == [("images/american_bulldog_2.jpg", 1)]


def test_imagenet_is_tested_on_its_validation_part(tmp_path: Path) -> None:
    table = made("imagenet", tmp_path)
    assert table.class_names == ("tench", "great white shark")
    assert table.splits == ["train"] * 4 + ["test"] * 2
    assert table.labels == [0, 0, 1, 1, 0, 1]


def test_imagenet_without_sorted_validation_images_is_refused(tmp_path: Path) -> None:
    folder = WRITERS["imagenet"](tmp_path)
    (folder / "val").rename(folder / "aside")
    with pytest.raises(
        DataError, match=r"imagenet: expected a folder val beside train, found none"
    ):
        layouts_imagenet.imagenet(folder)
    (folder / "val").mkdir()
    (folder / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(PICTURE)
    with pytest.raises(DataError, match=r"val: expected class folders, found none"):
        layouts_imagenet.imagenet(folder)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("imagenet-a", ("tench", "rooster")),
        ("imagenet-r", ("great white shark", "rooster")),
        ("imagenet-sketch", ("great white shark", "rooster")),
        ("imagenet-v2", ("tench", "rooster", "brambling")),  # by number, not "0", "10", "7"
    ],
)
def test_sets_that_test_imagenet_take_its_names(
    name: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    table = made(name, tmp_path)
    assert table.class_names == classes
    assert set(table.splits) == {"test"}
    assert sorted(table.labels) == list(range(len(classes)))


def test_the_lists_of_open_clip_and_timm_are_of_one_order() -> None:
    names, ids = layouts_imagenet.imagenet_names(), layouts_imagenet._synsets()
    assert len(names) == len(ids) == len(set(ids)) == 1000
    assert ids == sorted(ids)
    assert (ids[0], names[0], names[999]) == (FISH, "tench", "toilet paper")


def test_objectnet_keeps_the_classes_that_imagenet_has(tmp_path: Path) -> None:
    table = made("objectnet", tmp_path)
    assert table.class_names == ("alarm clock", "backpack")
    assert of(table, "test") == [("images/alarm_clock/1.png", 0), ("images/backpack/1.png", 1)]


def test_a_frame_of_a_video_has_its_first_label(tmp_path: Path) -> None:
    table = made("imagenet-vid-robust", tmp_path)
    assert table.class_names == ("animal 1", "animal 4")
    assert of(table, "test") == [("val/video_1/000001.JPEG", 1), ("val/video_2/000003.JPEG", 0)]


def test_anchors_are_those_reviewed_as_good(tmp_path: Path) -> None:
    table = made("ytbb-robust", tmp_path)
    assert table.class_names == ("dog", "car")
    assert of(table, "test") == [
        ("ytbb_videos/a_1_100/frame-7.jpg", 1),
        ("ytbb_videos/b_200/frame-7.jpg", 0),
    ]


def test_videos_without_lists_say_where_the_lists_are(tmp_path: Path) -> None:
    folder = WRITERS["ytbb-robust"](tmp_path)
    (folder / "metadata").rename(folder / "aside")
    with pytest.raises(DataError, match=r"expected YTBB-Robust's lists, .* copy src/datasets/ytbb"):
        layouts.read("ytbb-robust", folder)


def test_fmow_is_divided_by_year(tmp_path: Path) -> None:
    table = made("fmow", tmp_path)
    assert table.class_names == ("airport", "zoo")
    assert of(table, "train") == [("images/rgb_img_0.png", 1), ("images/rgb_img_6.png", 0)]
    assert of(table, "validation") == [("images/rgb_img_2.png", 0)]
    assert of(table, "test") == [("images/rgb_img_3.png", 1)]


def test_fmow_with_some_of_its_classes_is_refused(tmp_path: Path) -> None:
    WRITERS["fmow"](tmp_path)
    with pytest.raises(DataError, match=r"^fmow: expected 62 classes, got 2 in"):
        prepare.prepare(data_of(tmp_path), "fmow", 0, download=False, out=tmp_path / "out")


def test_iwildcam_leaves_out_classes_without_images(tmp_path: Path) -> None:
    table = made("iwildcam", tmp_path)
    assert table.class_names == ("empty", "cuniculus paca")
    assert of(table, "train") == [("train/a.jpg", 0), ("train/b.jpg", 1)]
    assert of(table, "validation") == [("train/c.jpg", 1)]
    assert of(table, "test") == [("train/d.jpg", 0)]


def test_captions_are_prepared_without_images(tmp_path: Path) -> None:
    WRITERS["conceptual-captions"](tmp_path)
    data = data_of(tmp_path)
    prepare.prepare(data, "conceptual-captions", 0, download=False, out=tmp_path / "out")
    images = store.load(tmp_path / "out", "train")
    assert images.columns["caption"] == ["a cat on a mat", 'the "old" port', "snow"]
    assert images.floats(torch.arange(3)).unique().tolist() == [pytest.approx(128 / 255)]


def test_captions_of_the_script_that_fetches_images_are_read_too(tmp_path: Path) -> None:
    folder = tmp_path / "conceptual_captions"
    folder.mkdir()
    text = 'title\tfilepath\na cat\tvalidation/1\n"a ""b"" dog"\tvalidation/2\n'
    (folder / "Validation_GCC-1.1.0-Validation_output.csv").write_text(text)
    source = prepare.find(data_of(tmp_path), "conceptual-captions")
    table = prepare.read(data_of(tmp_path), "conceptual-captions", source, 0, download=False)
    assert table.columns["caption"] == ["a cat", 'a "b" dog']


def altered(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        (
            "aircraft",
            "images_variant_val.txt",
            "3 DC-4",
            r"val\.txt:1: expected one of the .* 'DC-4'",
        ),
        ("food-101", "meta/test.txt", "soup/1", r"test\.txt:1: expected one of the .*'soup'"),
        ("oxford-pet", "annotations/test.txt", "a_1 x", r"test\.txt:1: expected an image and its"),
        ("oxford-pet", "annotations/test.txt", "a_1 2 1 1", r"expected 'American Bulldog' for cl"),
        (
            "sun397",
            "ClassName.txt",
            "/a/abbey\n/z/zoo\n/a/apartment_building/outdoor",
            r"expected images of all 3 classes, got no",
        ),
        ("objectnet", "mappings/folder_to_objectnet_label.json", "{", r"json: expected JSON, got"),
        (
            "objectnet",
            "mappings/folder_to_objectnet_label.json",
            "[]",
            r"lists of objectnet, got s",
        ),
        (
            "imagenet-vid-robust",
            "metadata/labels.json",
            '{"val/a": [9]}',
            r"expected a class 0 to 4",
        ),
        ("fmow", "rgb_metadata.csv", "a,b\n1,2\n", r"csv: expected a column split, got a, b"),
        ("iwildcam", "metadata.csv", "split,filename,y\ntrain,a,9", r"expected one of the .*'9'"),
        (
            "conceptual-captions",
            "Validation_GCC-1.1.0-Validation.tsv",
            "one\tx",
            r"expected a sentence in each line, got 1 lines",
        ),
    ],
)
def test_lists_that_do_not_fit_are_refused(
    name: str, file: str, text: str, message: str, tmp_path: Path
) -> None:
    folder = WRITERS[name](tmp_path)
    altered(folder, file, text)
    with pytest.raises(DataError, match=message):
        layouts.read(name, folder)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("aircraft", "variants.txt"),
        ("cars", "devkit/cars_meta.mat"),
        ("dtd", "labels/val1.txt"),
        ("flowers", "setid.mat"),
        ("food-101", "meta/train.txt"),
        ("oxford-pet", "annotations/trainval.txt"),
        ("sun397", "ClassName.txt"),
        ("objectnet", "mappings/objectnet_to_imagenet_1k.json"),
        ("imagenet-vid-robust", "misc/imagenet_vid_class_index.json"),
        ("ytbb-robust", "metadata/anchor_labels.json"),
        ("fmow", "rgb_metadata.csv"),
        ("iwildcam", "categories.csv"),
        ("conceptual-captions", "Validation_GCC-1.1.0-Validation.tsv"),
    ],
)
def test_a_list_that_is_missing_is_named(name: str, file: str, tmp_path: Path) -> None:
    folder = WRITERS[name](tmp_path)
    (folder / file).unlink()
    with pytest.raises(DataError, match=r"expected (this list of the set|a MATLAB file with)"):
        layouts.read(name, folder)


@pytest.mark.parametrize("name", ["caltech101", "eurosat", "imagenet-a", "imagenet-v2"])
def test_a_folder_without_images_or_of_no_class_is_named(name: str, tmp_path: Path) -> None:
    folder = WRITERS[name](tmp_path)
    (folder / "zzz").mkdir()
    with pytest.raises(DataError, match=r"zzz: expected (images|one of the set's classes)"):
        layouts.read(name, folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty: expected class folders, found none"):
        layouts.read(name, empty)


def test_a_set_without_a_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data set: expected one of aircraft, .*, got 'pets'"):
        layouts.read("pets", tmp_path)


def test_json_of_another_form_names_the_set(tmp_path: Path) -> None:
    folder = WRITERS["ytbb-robust"](tmp_path)
    review: dict[str, Any] = {"labels": ["good"]}
    altered(folder, "metadata/anchor_labels.json", json.dumps(review))
    with pytest.raises(DataError, match=r"official lists of ytbb-robust, .* \(KeyError: 'annotati"):
        layouts.read("ytbb-robust", folder)
