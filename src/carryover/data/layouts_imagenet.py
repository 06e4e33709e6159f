"""Official layouts of ImageNet and of the sets that test what was learnt of it.

Class names are open_clip's, in ImageNet's order; which class a WordNet id is, timm's list says.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from carryover.data.images import Table
from carryover.data.lists import (
    Entry,
    folders,
    images,
    of_present,
    pick_id,
    rows,
    table,
    values,
)
from carryover.errors import DataError

VALIDATION = ("val_in_folder", "val")  # of ImageNet, which is what is tested; the first there is


def imagenet(path: Path) -> Table:
    """ImageNet: ``train/WNID/ID.JPEG``, ``val/WNID/ID.JPEG`` (or ``val_in_folder``)."""
    found = [name for name in VALIDATION if (path / name).is_dir()]
    if not found:
        raise DataError(
            f"{path}: expected a folder val beside train, found none; unpack the validation part "
            "and sort it into WordNet ids"
        )
    entries = _by_id(path / "train", "train") + _by_id(path / found[0], "test")
    return of_present(path, entries, imagenet_names())


def by_id(path: Path) -> Table:
    """ImageNet-A, -R and -Sketch: ``WNID/ID.jpg``, all to test; of classes those that are there."""
    return of_present(path, _by_id(path, "test"), imagenet_names())


def _by_id(path: Path, split: str) -> list[Entry]:
    ids = {line: label for label, line in enumerate(_synsets())}
    return [
        (file, pick_id(ids, folder.name, str(folder)), split)
        for folder in folders(path)
        for file in images(folder)
    ]


def imagenet_v2(path: Path) -> Table:
    """ImageNetV2: ``CLASS/ID.jpeg``, the folder's name is the class id."""
    ids = {str(label): label for label in range(len(imagenet_names()))}
    entries = [
        (file, pick_id(ids, folder.name, str(folder)), "test")
        for folder in folders(path)
        for file in images(folder)
    ]
    return of_present(path, entries, imagenet_names())


def imagenet_names() -> Sequence[str]:
    """A name for each of the thousand classes."""
    metadata = runpy.run_path(str(_package("open_clip") / "zero_shot_metadata.py"))
    return [str(name) for name in metadata["IMAGENET_CLASSNAMES"]]


def _synsets() -> list[str]:
    """WordNet ids of the thousand classes."""
    return (_package("timm") / "data" / "_info" / "imagenet_synsets.txt").read_text().split()


def _package(name: str) -> Path:
    """The folder of an installed package, found without the seconds that importing it takes."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def objectnet(path: Path) -> Table:
    """ObjectNet's classes that ImageNet has: ``images/CLASS/ID.png``, names in ``mappings``.

    The images keep their frame of red pixels.
    """
    labels = values(path / "mappings" / "folder_to_objectnet_label.json")
    shared = values(path / "mappings" / "objectnet_to_imagenet_1k.json")
    classes = sorted(folder for folder, label in labels.items() if label in shared)
    entries = [
        (file, number, "test")
        for number, folder in enumerate(classes)
        for file in images(path / "images" / folder)
    ]
    return table(path, entries, [labels[folder].lower() for folder in classes])


def video_frames(path: Path) -> Table:
    """ImageNet-Vid-Robust: frames that ``metadata/labels.json`` lists, the first label of each."""
    listed = values(path / "metadata" / "labels.json")
    index = values(path / "misc" / "imagenet_vid_class_index.json")
    names = [str(index[key][1]) for key in sorted(index, key=int)]
    entries: list[Entry] = []
    for frame, labels in sorted(listed.items()):
        if not labels or not 0 <= labels[0] < len(names):
            raise DataError(
                f"{path}/metadata/labels.json: {frame}: expected a class 0 to {len(names) - 1}, "
                f"got {labels}; copy the file again"
            )
        entries.append((path / frame, labels[0], "test"))
    return of_present(path, entries, names)


def anchor_frames(path: Path) -> Table:
    """YTBB-Robust: reviewed anchor frames of ``ytbb_videos``, by the lists in ``metadata``.

    The archive has no labels: they are lists of the project wise-ft, which are to be copied. Frames
    around an anchor, of which the set's own measure takes the worst, are left out.
    """
    place = path / "metadata"
    if not place.is_dir():
        raise DataError(
            f"{place}: expected YTBB-Robust's lists, found none (its archive has no labels); copy "
            "src/datasets/ytbb-robust_metadata of https://github.com/mlfoundations/wise-ft there"
        )
    index = values(place / "ytbb_class_index.json")
    names = [str(index[key]) for key in sorted(index, key=int)]
    review = values(place / "anchor_labels.json")
    swap = {22: 23, 23: 22}  # the table has "none" and "car" the other way round
    first = {
        f"{row['ytid']}_{row['time_ms']}": int(row["label"])
        for row in rows(place / ANCHORS, ("ytid", "time_ms", "label"))
    }
    entries: list[Entry] = []
    for anchor in review["annotations"]:
        marks = {review["labels"][mark] for mark in anchor["labels"]}
        if "good" in marks and not marks & {"bad", "unsure"}:
            folder, frame = anchor["key"].split("/")[-2:]
            label = pick_id(first, folder, f"{place}/anchor_labels.json")
            file = path / "ytbb_videos" / folder / frame
            entries.append((file, swap.get(label, label), "test"))
    return of_present(path, sorted(set(entries)), names)


ANCHORS = "ytbb_robustness_test_anchors_full.csv"
LAYOUTS: dict[str, Callable[[Path], Table]] = {
    "imagenet": imagenet,
    "imagenet-a": by_id,
    "imagenet-r": by_id,
    "imagenet-sketch": by_id,
    "imagenet-v2": imagenet_v2,
    "objectnet": objectnet,
    "imagenet-vid-robust": video_frames,
    "ytbb-robust": anchor_frames,
}
