"""Miniature copies of the official layouts of MTIL's data sets; each writer returns its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from image_files import encoded, picture, write_folder

PICTURE = encoded(picture(0, "RGB", (9, 8)))
TINY = encoded(picture(1, "RGB", (2, 2)))
FISH, SHARK, COCK = "n01440764", "n01484850", "n01514668"  # classes 0, 2 and 7 of ImageNet


def write(folder: Path, images: list[str], texts: Mapping[str, str]) -> Path:
    """Images of noise at some paths, and text files."""
    files = {name: text.encode() for name, text in texts.items()}
    return write_folder(folder, dict.fromkeys(images, PICTURE) | files)


def aircraft(root: Path) -> Path:
    parts = {"train": ["1 707-320", "2 DC-3"], "val": ["3 DC-3"], "test": ["4 Gulfstream IV"]}
    texts = {f"images_variant_{part}.txt": "\n".join(rows) for part, rows in parts.items()}
    texts["variants.txt"] = "707-320\nDC-3\nGulfstream IV\n"
    names = [f"images/{number}.jpg" for number in (1, 2, 3, 4)]
    return write(root / "fgvc-aircraft-2013b" / "data", names, texts)


def caltech101(root: Path) -> Path:
    classes = ("BACKGROUND_Google", "Faces", "Faces_easy", "accordion")
    names = [f"{name}/image_{number:04d}.jpg" for name in classes for number in range(1, 6)]
    return write(root / "caltech101" / "101_ObjectCategories", names, {})


def cars(root: Path) -> Path:
    folder = root / "stanford_cars"
    train, test = [("00001.jpg", 2), ("00002.jpg", 1)], [("00001.jpg", 1)]
    names = [f"cars_train/{name}" for name, _ in train] + [f"cars_test/{name}" for name, _ in test]
    write(folder, names, {"devkit/README.txt": "x"})
    models = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], dtype=object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": models})
    savemat(folder / "devkit" / "cars_train_annos.mat", {"annotations": annotations(train)})
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": annotations(test)})
    return folder


def annotations(rows: list[tuple[str, int]]) -> np.ndarray[Any, Any]:
    found = np.empty(
        (1, len(rows)), dtype=[("bbox_x1", object), ("class", object), ("fname", object)]
    )
    for number, (name, label) in enumerate(rows):
        found[0, number] = (1, label, name)
    return found


def celeba(root: Path) -> Path:
    parts = {"000001.jpg": 0, "000002.jpg": 0, "000003.jpg": 1, "000004.jpg": 2}
    listed = "".join(f"{name} {part}\n" for name, part in parts.items())
    signs = "".join(f"{name} -1  {1 - 2 * (i % 2)}\n" for i, name in enumerate(parts))
    attributes = f"{len(parts)}\nYoung Smiling \n{signs}"
    texts = {"list_eval_partition.txt": listed, "list_attr_celeba.txt": attributes}
    return write(root / "celeba", [f"img_align_celeba/{name}" for name in parts], texts)


def dtd(root: Path) -> Path:
    parts = {"train": 1, "val": 2, "test": 3}
    texts = {
        f"labels/{part}{fold}.txt": f"banded/banded_{n}.jpg\npolka-dotted/polka-dotted_{n}.jpg\n"
        for part, n in parts.items()
        for fold in (1, 2)
    }
    names = [
        f"images/{name}/{name}_{n}.jpg" for name in ("banded", "polka-dotted") for n in (1, 2, 3)
    ]
    return write(root / "dtd" / "dtd", names, texts)


def eurosat(root: Path) -> Path:
    names = [f"{name}/{name}_{n}.jpg" for name in ("AnnualCrop", "SeaLake") for n in range(1, 6)]
    return write(root / "eurosat" / "2750", names, {})


def flowers(root: Path) -> Path:
    """102 flowers, one image each to train and to test, the first two validate too."""
    folder = root / "flowers-102"
    labels = [*range(1, 103), *range(1, 103), 1, 2]
    files = {f"jpg/image_{number:05d}.jpg": TINY for number in range(1, len(labels) + 1)}
    write_folder(folder, files)
    parts = {"trnid": range(1, 103), "tstid": range(103, 205), "valid": range(205, 207)}
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    savemat(folder / "setid.mat", {key: np.array([list(rows)]) for key, rows in parts.items()})
    return folder


def food101(root: Path) -> Path:
    classes = ["apple_pie", "pad_thai", "waffles"]
    texts = {"classes": classes, "train": [f"{n}/{i}" for n in classes for i in (0, 2)]}
    texts["test"] = [f"{name}/1" for name in classes]
    names = [f"images/{name}/{number}.jpg" for name in classes for number in range(3)]
    lists = {f"meta/{name}.txt": "\n".join(rows) + "\n" for name, rows in texts.items()}
    return write(root / "food-101", names, lists)


def oxford_pet(root: Path) -> Path:
    texts = {
        "annotations/trainval.txt": "Abyssinian_1 1 1 1\namerican_bulldog_1 2 2 1\n",
        "annotations/test.txt": "american_bulldog_2 2 2 1\n",
    }
    names = ["Abyssinian_1", "american_bulldog_1", "american_bulldog_2"]
    return write(root / "oxford-iiit-pet", [f"images/{name}.jpg" for name in names], texts)


def sun397(root: Path) -> Path:
    classes = ("/a/abbey", "/a/apartment_building/outdoor")
    names = [f"{name[1:]}/sun_a{number}.jpg" for name in classes for number in range(5)]
    return write(root / "SUN397", names, {"ClassName.txt": "\n".join(classes) + "\n"})


def imagenet(root: Path) -> Path:
    names = [f"train/{wnid}/{wnid}_{n}.JPEG" for wnid in (FISH, SHARK) for n in (1, 2)]
    names += [f"val/{wnid}/ILSVRC2012_val_1.JPEG" for wnid in (FISH, SHARK)]
    return write(root / "imagenet", names, {})


def imagenet_a(root: Path) -> Path:
    return write(root / "imagenet-a", [f"{FISH}/a.jpg", f"{COCK}/b.jpg"], {"README.txt": "x"})


def imagenet_r(root: Path) -> Path:
    return write(root / "imagenet-r", [f"{SHARK}/art_0.jpg", f"{COCK}/toy_1.jpg"], {})


def imagenet_sketch(root: Path) -> Path:
    return write(root / "sketch", [f"{SHARK}/sketch_0.JPEG", f"{COCK}/sketch_1.JPEG"], {})


def imagenet_v2(root: Path) -> Path:
    names = ["0/a.jpeg", "7/b.jpeg", "10/c.jpeg"]
    return write(root / "imagenetv2-matched-frequency-format-val", names, {})


def objectnet(root: Path) -> Path:
    labels = {
        "air_freshener": "Air freshener",
        "alarm_clock": "Alarm clock",
        "backpack": "Backpack",
    }
    shared = {"Backpack": "backpack, back pack", "Alarm clock": "analog clock; digital clock"}
    texts = {
        "mappings/folder_to_objectnet_label.json": json.dumps(labels),
        "mappings/objectnet_to_imagenet_1k.json": json.dumps(shared),
    }
    return write(root / "objectnet-1.0", [f"images/{name}/1.png" for name in labels], texts)


def vid_robust(root: Path) -> Path:
    frames = {"val/video_1/000001.JPEG": [4], "val/video_2/000003.JPEG": [1, 4]}
    index = {str(label): [f"n{label}", f"animal {label}"] for label in range(5)}
    texts = {
        "metadata/labels.json": json.dumps(frames),
        "misc/imagenet_vid_class_index.json": json.dumps(index),
    }
    return write(root / "imagenet_vid_ytbb_robust" / "imagenet-vid-robust", list(frames), texts)


def ytbb_robust(root: Path) -> Path:
    """Four anchors: a car (22 in the table), a dog, one that is bad, one not reviewed as good."""
    index = {"0": "person", "19": "dog", "22": "none", "23": "car"}
    index |= {str(label): f"class {label}" for label in range(24) if str(label) not in index}
    table = {"a_1_100": 22, "b_200": 19, "c_300": 0, "d_400": 0}
    marks = {"a_1_100": [0], "b_200": [0, 2], "c_300": [0, 1], "d_400": [2]}
    notes = [{"key": f"{key}/frame-7.jpg", "labels": marks[key]} for key in table]
    rows = [f"{key.rpartition('_')[0]},{key.rpartition('_')[2]},{n}" for key, n in table.items()]
    texts = {
        "metadata/ytbb_class_index.json": json.dumps(index),
        "metadata/anchor_labels.json": json.dumps(
            {"annotations": notes, "labels": ["good", "bad", "blurry"]}
        ),
        "metadata/ytbb_robustness_test_anchors_full.csv": "ytid,time_ms,label\n" + "\n".join(rows),
    }
    names = [f"ytbb_videos/{key}/frame-{number}.jpg" for key in table for number in (6, 7)]
    return write(root / "imagenet_vid_ytbb_robust" / "ytbb-robust", names, texts)


def fmow(root: Path) -> Path:
    rows = (
        *("train,zoo,2010-01-01T00:00:00Z", "train,zoo,2014-01-01T00:00:00Z"),
        *("val,airport,2012-12-31T23:59:59Z", "test,zoo,2016-01-01T00:00:00Z"),
        *("test,airport,2011-01-01T00:00:00Z", "seq,airport,2017-01-01T00:00:00Z"),
        "train,airport,2002-01-01T00:00:00Z",
    )
    texts = {"rgb_metadata.csv": "split,category,timestamp\n" + "\n".join(rows) + "\n"}
    return write(root / "fmow_v1.1", [f"images/rgb_img_{n}.png" for n in range(len(rows))], texts)


def iwildcam(root: Path) -> Path:
    rows = ["train,a.jpg,0", "train,b.jpg,2", "val,c.jpg,2", "test,d.jpg,0", "id_test,e.jpg,1"]
    texts = {
        "metadata.csv": "split,filename,y\n" + "\n".join(rows) + "\n",
        "categories.csv": "y,category_id,name\n0,0,empty\n1,2,tayassu pecari\n2,3,cuniculus paca\n",
    }
    return write(root / "iwildcam_v2.0", [f"train/{name}.jpg" for name in "abcde"], texts)


def captions(root: Path) -> Path:
    rows = ["a cat on a mat\thttp://x/1", 'the "old" port\thttp://x/2', "snow\thttp://x/3"]
    texts = {"Validation_GCC-1.1.0-Validation.tsv": "\n".join(rows) + "\n"}
    return write(root / "conceptual-captions", [], texts)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "aircraft": aircraft,
    "caltech101": caltech101,
    "cars": cars,
    "celeba": celeba,
    "dtd": dtd,
    "eurosat": eurosat,
    "flowers": flowers,
    "food-101": food101,
    "oxford-pet": oxford_pet,
    "sun397": sun397,
    "imagenet": imagenet,
    "imagenet-a": imagenet_a,
    "imagenet-r": imagenet_r,
    "imagenet-sketch": imagenet_sketch,
    "imagenet-v2": imagenet_v2,
    "objectnet": objectnet,
    "imagenet-vid-robust": vid_robust,
    "ytbb-robust": ytbb_robust,
    "fmow": fmow,
    "iwildcam": iwildcam,
    "conceptual-captions": captions,
}
