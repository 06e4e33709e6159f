"""Official folder layouts: images below one folder, lists of them for each split."""

from __future__ import annotations

from pathlib import Path

from carryover.data.images import Table
from carryover.errors import DataError


def food101(path: Path, download: bool = False) -> Table:
    """Food-101 as its authors pack it: ``images/CLASS/ID.jpg``, lists in ``meta/``.

    Class ids are lines of ``classes.txt``, so a class folder that is missing or too much shifts
    none; the lists say which images there must be.

    Args:
        path: the folder ``food-101``.
        download: let torchvision fetch and unpack it where it is absent.
    Raises:
        DataError: a list is missing or names a class that ``classes.txt`` has not, or the set
            cannot be fetched.
    """
    if download and not path.exists():
        from torchvision.datasets import Food101

        try:
            Food101(path.parent, download=True)
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"{path}: expected to fetch Food-101, got {str(error)!r}; fetch it by hand"
            ) from error
    classes = _lines(path / "meta" / "classes.txt")
    ids = {name: label for label, name in enumerate(classes)}
    files, labels, splits = [], [], []
    for split in ("train", "test"):
        for number, line in enumerate(_lines(path / "meta" / f"{split}.txt"), 1):
            name = line.partition("/")[0]
            if name not in ids:
                raise DataError(
                    f"{path}/meta/{split}.txt:{number}: expected a class of classes.txt, got "
                    f"{name!r}; copy the lists again"
                )
            files.append(path / "images" / f"{line}.jpg")
            labels.append(ids[name])
            splits.append(split)
    return Table(
        origin=str(path),
        images=files,
        labels=labels,
        splits=splits,
        class_names=tuple(name.replace("_", " ") for name in classes),
        columns={"file": [file.relative_to(path).as_posix() for file in files]},
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError as error:
        raise DataError(
            f"{path}: expected this list of Food-101, got {error.strerror!r}; copy the whole set"
        ) from error
