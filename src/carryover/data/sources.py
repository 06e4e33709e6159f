"""Readers of data sets: each gives a `Table` of images, labels and splits, not yet decoded.

Parquet files have their own, `carryover.data.parquet`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from carryover import run
from carryover.data.catalog import files_below
from carryover.data.images import Table
from carryover.data.splits import with_test
from carryover.errors import DataError, listed

SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(
    ("validation", "valid", "val"), "validation"
)
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)
SIDE_SUFFIXES = frozenset(  # notes that data sets and file managers leave beside images
    {".txt", ".csv", ".tsv", ".json", ".xml", ".md", ".html", ".db", ".ini", ".mat", ".yaml"}
)

TORCHVISION_ERRORS = (RuntimeError, ValueError, AssertionError, OSError, EOFError, LookupError)


def digits(size: int, test_fraction: float, seed: int) -> Table:
    """Scikit-learn's 1,797 handwritten digits of 8x8 px, grey, enlarged.

    Bilinear (``align_corners=False``); values 0..16 become 0..255. At a size of 8, 16, 32, 64 the
    sums are exact, so the pixels are the same on every machine.

    Args:
        size: px, at least 8.
        test_fraction: share of each class held out for test, as `seed` says.
    Raises:
        DataError: the size is below 8.
    """
    from sklearn.datasets import load_digits

    if size < 8:
        raise DataError(f"data.digits_size: expected at least 8 px, got {size}; enlarge it")
    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None]
    x = torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear")
    return with_test_rows(
        Table(
            origin="digits of scikit-learn",
            images=(x * (255 / 16)).round().to(torch.uint8),
            labels=bunch.target.tolist(),
            splits=["train"] * len(x),
            class_names=tuple(str(name) for name in bunch.target_names),
        ),
        test_fraction,
        seed,
    )


def folder(path: Path, test_fraction: float, seed: int) -> Table:
    """A folder with one sub-folder of images a class; sorted names are the class ids.

    Above the classes there may be ``train``, ``test`` and ``validation`` (``val``, ``valid``).
    Without ``test`` a share of each class is held out of train. Column ``file`` is kept.

    Raises:
        DataError: no such folder, no images, a class without images or missing in train, one
            class only, or a file that is neither image nor note.
    """
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder of class folders, found none; mend the path")
    files: list[Path] = []
    splits: list[str] = []
    classes: list[str] = []
    for split, place in _split_folders(path):
        names = _sub_folders(place)
        if not names:
            raise DataError(f"{place}: expected class folders with images, found none; add them")
        for name in names:
            images = [file for file in files_below(place / name) if _is_image(file)]
            if not images:
                raise DataError(f"{place / name}: expected images, found none; take the folder out")
            files += images
            splits += [split] * len(images)
            classes += [name] * len(images)
    trained = {name for name, split in zip(classes, splits, strict=True) if split == "train"}
    for name, split in zip(classes, splits, strict=True):
        if trained and name not in trained:
            raise DataError(
                f"{path}: expected the same class folders in every split, got {name!r} in {split} "
                "and not in train; rename it or take it out"
            )
    class_names = tuple(sorted(set(classes)))
    table = Table(
        origin=str(path),
        images=files,
        labels=[class_names.index(name) for name in classes],
        splits=splits,
        class_names=class_names,
        columns={"file": [file.relative_to(path).as_posix() for file in files]},
    )
    return with_test_rows(table, test_fraction, seed)


def _split_folders(path: Path) -> list[tuple[str, Path]]:
    names = _sub_folders(path)
    if not any(name in SPLITS and _sub_folders(path / name) for name in names):
        return [("train", path)]
    strange = [name for name in names if name not in SPLITS]
    if strange:
        raise DataError(
            f"{path}: expected split folders only ({listed(SPLITS)}) beside each other, got "
            f"{strange[0]!r} too; move it out"
        )
    return [(SPLITS[name], path / name) for name in sorted(names, key=list(SPLITS).index)]


def _sub_folders(path: Path) -> list[str]:
    for file in path.iterdir():
        if file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != ".":
            if any(entry.is_dir() for entry in path.iterdir()):
                raise DataError(f"{file}: expected images in class folders; move it into one")
            return []
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _is_image(file: Path) -> bool:
    suffix = file.suffix.lower()
    if suffix not in IMAGE_SUFFIXES and suffix not in SIDE_SUFFIXES:
        raise DataError(
            f"{file}: expected an image ({listed(sorted(IMAGE_SUFFIXES))}), got {suffix!r}; "
            "convert it or take it out"
        )
    return suffix in IMAGE_SUFFIXES


def torchvision_files(root: Path, class_name: str, download: bool = False) -> Table:
    """MNIST, FashionMNIST, CIFAR10 or CIFAR100 from the official files, as torchvision reads them.

    CIFAR's files are pickles. Torchvision compares their MD5 with the official one before it opens
    them, and nothing here turns that check off.

    Args:
        root: the folder that torchvision's classes take.
        class_name: the class in ``torchvision.datasets``.
        download: fetch the files first where they are absent.
    Raises:
        DataError: a file is absent or altered, or cannot be fetched.
    """
    from torchvision import datasets

    pixels, labels, splits = [], [], []
    for split in ("train", "test"):
        try:
            part = getattr(datasets, class_name)(root, train=split == "train", download=download)
        except TORCHVISION_ERRORS as error:
            said = " ".join(str(error).split())
            again = "copy them again, or have `carryover data prepare` fetch them with --download"
            remedy = "fetch them elsewhere and copy them there" if download else again
            raise DataError(
                f"{root}: expected the official files of {class_name}, got: {said}; {remedy}"
            ) from error
        x = torch.as_tensor(part.data)
        pixels.append(x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous())
        labels += [int(label) for label in part.targets]
        splits += [split] * len(x)
    # MNIST's class names are "0 - zero": the number is what other copies of it say
    names = tuple(name.split(" - ")[0] for name in part.classes)
    return Table(str(root), torch.cat(pixels), labels, splits, names)


def with_test_rows(table: Table, test_fraction: float, seed: int) -> Table:
    """The table itself, or a share of each class of its ``train`` made ``test`` if it has none."""
    generator = run.generator(seed, "data/test")
    return replace(table, splits=with_test(table.labels, table.splits, test_fraction, generator))
