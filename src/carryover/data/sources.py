"""Readers of data sets: each gives a `Table` of images, labels and splits, not yet decoded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from carryover import run
from carryover.data.catalog import files_below
from carryover.data.images import Table
from carryover.data.splits import with_test
from carryover.errors import DataError, listed

if TYPE_CHECKING:
    import pyarrow

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
    return _with_test(
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
    return _with_test(table, test_fraction, seed)


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


def parquet(path: Path, test_fraction: float, seed: int) -> Table:
    """A Parquet file in Hugging Face's layout, or a folder of such files, ``train-*.parquet``.

    Columns: ``image`` (bytes, or a struct of ``bytes`` and ``path``), ``label`` (whole numbers
    0..C-1), optional ``class_name`` and ``split``; others are kept. Class names come from
    ``class_name``, else from the ClassLabel in the file's metadata, else they are the numbers.
    Without test rows a share of each class is held out of train.

    Raises:
        DataError: no whole Parquet file, a column is missing or of the wrong type, or a label,
            name, split or image of some row cannot be used.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"{path}: expected a Parquet file, found none; mend the path")
    parts, splits = [], []
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                part = opened.read()
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{file}: expected a whole Parquet file, got {file.stat().st_size} bytes that are "
                f"none ({error}); copy the file again"
            ) from error
        missing = [name for name in ("image", "label") if name not in part.column_names]
        if missing:
            raise DataError(
                f"{file}: expected the columns image and label, got {listed(part.column_names)}; "
                f"rename or add {' and '.join(missing)}"
            )
        parts.append(part)
        prefix = file.name.split(".")[0].split("-")[0] if path.is_dir() else "train"
        splits += [SPLITS.get(prefix, "train")] * len(part)
    try:
        whole = pa.concat_tables(parts)
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: expected files with equal columns ({error}); mend them"
        ) from error
    return _with_test(_from_arrow(whole, splits, path), test_fraction, seed)


def _from_arrow(table: pyarrow.Table, splits: list[str], path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    image, own = table["image"], ("image", "label", "class_name", "split")
    columns = {name: table[name].to_pylist() for name in table.column_names if name not in own}
    if pa.types.is_struct(image.type) and image.type.get_field_index("bytes") >= 0:
        if image.type.get_field_index("path") >= 0:
            names = pc.struct_field(image, "path").to_pylist()
            columns.update({"file": names} if any(names) else {})
        image = pc.struct_field(image, "bytes")
    if not (pa.types.is_binary(image.type) or pa.types.is_large_binary(image.type)):
        raise DataError(
            f"{path}: column image: expected bytes or a struct with bytes, got {image.type}; "
            "store the images themselves"
        )
    images = image.to_pylist()
    if image.null_count:
        raise DataError(
            f"{path}: row {images.index(None)}: expected image bytes, got none; add them"
        )
    if not pa.types.is_integer(table["label"].type):
        raise DataError(
            f"{path}: column label: expected whole numbers 0..C-1, got {table['label'].type}; "
            "number the classes and keep their names in class_name"
        )
    labels = table["label"].to_pylist()
    if None in labels:
        raise DataError(f"{path}: row {labels.index(None)}: expected a label, got none; add it")
    if "split" in table.column_names:
        given = table["split"].to_pylist()
        for row, name in enumerate(given):
            if name not in SPLITS:
                raise DataError(
                    f"{path}: row {row}: expected a split among {listed(SPLITS)}, got {name!r}"
                )
        splits = [SPLITS[name] for name in given]
    if "class_name" in table.column_names:
        names = _names_by_row(labels, table["class_name"].to_pylist(), path)
    else:
        names = _names_in_metadata(table.schema.metadata or {})
    count = max(len(names), len(set(labels)))
    return Table(
        origin=str(path),
        images=images,
        labels=labels,
        splits=splits,
        class_names=tuple(str(names.get(label, label)) for label in range(count)),
        columns=columns,
    )


def _names_by_row(labels: Sequence[int], given: Sequence[Any], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    owner: dict[str, int] = {}
    for row, (label, name) in enumerate(zip(labels, given, strict=True)):
        if name is None or names.setdefault(label, name) != name:
            wanted = f"{names[label]!r} for label {label}" if label in names else "a name"
            raise DataError(f"{path}: row {row}: class_name: expected {wanted}, got {name!r}")
        if owner.setdefault(name, label) != label:
            raise DataError(
                f"{path}: row {row}: class_name: expected {name!r} for label {owner[name]} only, "
                f"got it for label {label} too; give each class its own name"
            )
    return names


def _names_in_metadata(metadata: dict[bytes, bytes]) -> dict[int, str]:
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return dict(enumerate(map(str, features["label"]["names"])))
    except (KeyError, TypeError, ValueError):
        return {}  # this metadata is optional: without it the numbers are the names


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


def _with_test(table: Table, test_fraction: float, seed: int) -> Table:
    generator = run.generator(seed, "data/test")
    return replace(table, splits=with_test(table.labels, table.splits, test_fraction, generator))
