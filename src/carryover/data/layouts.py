"""Official folder layouts of MTIL's sets and CelebA: images below one folder, lists of parts.

Class ids are those of the set's own lists, or places of the sorted class folders. Where there is no
official part to test on, ``int(0.8 * n)`` images drawn with seed 42 are trained on, as published.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from carryover.data import layouts_imagenet, layouts_wilds
from carryover.data.images import Table
from carryover.data.lists import Entry, folders, images, lines, pick_id, table
from carryover.data.splits import random_parts
from carryover.errors import DataError, pick

SHARE, SEED = 0.8, 42  # of the published random parts
BACKGROUND = "BACKGROUND_Google"  # no class of Caltech-101
CELEBA = {"0": "train", "1": "validation", "2": "test"}  # what its list calls the parts
ATTRIBUTE = "Smiling"  # of CelebA


def read(name: str, path: Path) -> Table:
    """The official files of a known set.

    Args:
        path: the folder that holds them.
    Raises:
        DataError: a list is missing, is of another form or names what is not there, or a class has
            no images.
    """
    try:
        return pick(LAYOUTS, name, "data set")(path)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: expected the official lists of {name}, got some of another form "
            f"({type(error).__name__}: {error}); copy the whole set"
        ) from error


def fetch(class_name: str, root: Path) -> None:
    """Let torchvision fetch and unpack a set below `root`; it compares the archive's checksum.

    Raises:
        DataError: it could not.
    """
    from torchvision import datasets

    try:
        getattr(datasets, class_name)(root, download=True)
    except (RuntimeError, OSError, ValueError, ImportError) as error:
        said = " ".join(str(error).split())
        raise DataError(
            f"{root}: expected to fetch {class_name}, got: {said}; fetch it elsewhere and copy it "
            "there"
        ) from error


def aircraft(path: Path) -> Table:
    """FGVC-Aircraft: ``images/ID.jpg``, lists ``images_variant_PART.txt``, ``variants.txt``."""
    names = lines(path / "variants.txt")
    ids = {name: label for label, name in enumerate(names)}
    entries: list[Entry] = []
    for part, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        place = path / f"images_variant_{part}.txt"
        for number, line in enumerate(lines(place), 1):
            image, _, name = line.partition(" ")
            label = pick_id(ids, name, f"{place}:{number}")
            entries.append((path / "images" / f"{image}.jpg", label, split))
    return table(path, entries, names)


def celeba(path: Path) -> Table:
    """CelebA: ``img_align_celeba/000001.jpg``, parts and attributes in ``list_*.txt``.

    It has attributes and no classes; what its images are told apart by here is one attribute.
    """
    place = path / "list_attr_celeba.txt"
    _, names, *listed = [*lines(place), "", ""]
    column = names.split().index(ATTRIBUTE) + 1
    labels = {cells[0]: int(cells[column] == "1") for cells in map(str.split, listed) if cells}
    place = path / "list_eval_partition.txt"
    entries: list[Entry] = []
    for number, line in enumerate(lines(place), 1):
        image, _, part = line.partition(" ")
        if part.strip() not in CELEBA:
            raise DataError(
                f"{place}:{number}: expected an image and its part, 0, 1 or 2, got {line!r}; copy "
                "the list again"
            )
        label = pick_id(labels, image, f"{place}:{number}")
        entries.append((path / "img_align_celeba" / image, label, CELEBA[part.strip()]))
    return table(path, entries, [f"not {ATTRIBUTE}", ATTRIBUTE])


def caltech101(path: Path) -> Table:
    """Caltech-101: ``CLASS/image_0001.jpg``; random parts."""
    classes = [folder for folder in folders(path) if folder.name != BACKGROUND]
    return _random(path, [(c.name, images(c)) for c in classes])


def eurosat(path: Path) -> Table:
    """EuroSAT in RGB: ``CLASS/CLASS_1.jpg``; random parts."""
    return _random(path, [(folder.name, images(folder)) for folder in folders(path)])


def sun397(path: Path) -> Table:
    """SUN397: ``a/abbey/sun_ID.jpg``, ``ClassName.txt``; random parts of the sorted files.

    The published parts are of the files in the order of a file system, which is not known.
    """
    names = [line.lstrip("/") for line in lines(path / "ClassName.txt")]
    files = [(name[2:], sorted((path / name).glob("sun_*.jpg"))) for name in names]
    return _random(path, files)


def _random(path: Path, classes: list[tuple[str, list[Path]]]) -> Table:
    """Classes one after the other, divided at random."""
    found = [(file, label) for label, (_, files) in enumerate(classes) for file in files]
    parts = random_parts(len(found), SHARE, SEED)
    entries = [(*entry, split) for entry, split in zip(found, parts, strict=True)]
    return table(path, entries, [name for name, _ in classes])


def cars(path: Path) -> Table:
    """Stanford Cars: ``cars_PART/ID.jpg``, annotations as MATLAB files, names in the devkit."""
    meta = _matlab(path / "devkit" / "cars_meta.mat", "class_names")
    names = [str(name) for name in meta.tolist()]
    entries: list[Entry] = []
    test = path / "cars_test_annos_withlabels.mat"
    test = test if test.exists() else path / "devkit" / test.name
    for split, place in (("train", path / "devkit" / "cars_train_annos.mat"), ("test", test)):
        notes = _matlab(place, "annotations")
        if not {"fname", "class"} <= set(notes.dtype.names or ()):
            raise DataError(
                f"{place}: expected annotations with fname and class, got "
                f"{', '.join(notes.dtype.names or ()) or 'none'}; copy the labelled file"
            )
        for file, label in zip(notes["fname"].tolist(), notes["class"].tolist(), strict=True):
            entries.append((path / f"cars_{split}" / str(file), int(label) - 1, split))
    return table(path, entries, names)


def flowers(path: Path) -> Table:
    """Flowers-102: ``jpg/image_00001.jpg``, labels and parts as MATLAB files without names.

    The names are torchvision's, in the order of the labels.
    """
    from torchvision.datasets import Flowers102

    labels = _matlab(path / "imagelabels.mat", "labels").tolist()
    entries: list[Entry] = []
    for key, split in (("trnid", "train"), ("valid", "validation"), ("tstid", "test")):
        for image in _matlab(path / "setid.mat", key).tolist():
            if not 1 <= image <= len(labels):
                raise DataError(
                    f"{path}/setid.mat: expected images 1 to {len(labels)}, as imagelabels.mat has "
                    f"them, got {image}; copy both files again"
                )
            file = path / "jpg" / f"image_{image:05d}.jpg"
            entries.append((file, int(labels[image - 1]) - 1, split))
    # one name ends in a question mark that is no part of it
    return table(path, entries, [name.rstrip("?") for name in Flowers102.classes])


def _matlab(path: Path, key: str) -> Any:
    """A one-dimensional array of a MATLAB file; reading one runs nothing that is in it.

    Raises:
        DataError: no such file, another format, or no array of this name.
    """
    import numpy as np
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    damage = (OSError, EOFError, ValueError, LookupError, TypeError, NotImplementedError)
    try:
        return np.atleast_1d(loadmat(path, variable_names=[key], squeeze_me=True)[key])
    except (*damage, MatReadError) as error:
        raise DataError(
            f"{path}: expected a MATLAB file with {key}, got {str(error)!r}; copy the whole set"
        ) from error


def dtd(path: Path) -> Table:
    """Describable Textures, partition 1: ``images/CLASS/ID.jpg``, ``labels/PART1.txt``."""
    found = [
        (line, split)
        for part, split in (("train", "train"), ("val", "validation"), ("test", "test"))
        for line in lines(path / "labels" / f"{part}1.txt")
    ]
    names = sorted({line.partition("/")[0] for line, _ in found})
    entries = [
        (path / "images" / line, names.index(line.partition("/")[0]), split)
        for line, split in found
    ]
    return table(path, entries, names)


def food101(path: Path) -> Table:
    """Food-101: ``images/CLASS/ID.jpg``, lists in ``meta/``.

    Class ids are lines of ``classes.txt``, so a class folder that is missing or too much shifts
    none; the lists say which images there must be.
    """
    classes = lines(path / "meta" / "classes.txt")
    ids = {name: label for label, name in enumerate(classes)}
    entries: list[Entry] = []
    for split in ("train", "test"):
        place = path / "meta" / f"{split}.txt"
        for number, line in enumerate(lines(place), 1):
            label = pick_id(ids, line.partition("/")[0], f"{place}:{number}")
            entries.append((path / "images" / f"{line}.jpg", label, split))
    return table(path, entries, [name.replace("_", " ") for name in classes])


def oxford_pet(path: Path) -> Table:
    """Oxford-IIIT Pet: ``images/BREED_1.jpg``; ``annotations/PART.txt`` has the class ids."""
    entries: list[Entry] = []
    names: dict[int, str] = {}
    for part, split in (("trainval", "train"), ("test", "test")):
        place = path / "annotations" / f"{part}.txt"
        for number, line in enumerate(lines(place), 1):
            image, label, *_ = [*line.split(), ""]
            if not label.isdigit() or int(label) < 1:
                raise DataError(
                    f"{place}:{number}: expected an image and its class from 1 on, got {line!r}; "
                    "copy the list again"
                )
            breed = " ".join(word.title() for word in image.rpartition("_")[0].split("_"))
            if names.setdefault(int(label) - 1, breed) != breed:
                raise DataError(
                    f"{place}:{number}: expected {names[int(label) - 1]!r} for class {label}, got "
                    f"{breed!r}; copy the list again"
                )
            entries.append((path / "images" / f"{image}.jpg", int(label) - 1, split))
    return table(
        path, entries, [names.get(label, "") for label in range(max(names, default=-1) + 1)]
    )


LAYOUTS: dict[str, Callable[[Path], Table]] = {
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
    **layouts_imagenet.LAYOUTS,
    **layouts_wilds.LAYOUTS,
}
