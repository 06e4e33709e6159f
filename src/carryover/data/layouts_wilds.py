"""Official layouts with a table of images: two sets of WILDS, and the captions of MTIL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from carryover.data.images import Table
from carryover.data.lists import Entry, lines, of_present, pick_id, rows
from carryover.errors import DataError

NEW, NEWER = 2013, 2016  # years: FMoW trains before the first and tests from the second on
CAPTIONS = "Validation_GCC-1.1.0-Validation"


def fmow(path: Path) -> Table:
    """FMoW of WILDS: ``images/rgb_img_ROW.png``, ``rgb_metadata.csv``; the official parts by year.

    Trained and validated on images before 2013, tested on those from 2016 on. Names are the
    categories of the table.
    """
    found = list(rows(path / "rgb_metadata.csv", ("split", "category", "timestamp")))
    names = sorted({row["category"] for row in found})
    entries: list[Entry] = []
    for number, row in enumerate(found):
        year, label = int(row["timestamp"][:4]), names.index(row["category"])
        file = path / "images" / f"rgb_img_{number}.png"
        if row["split"] == "test" and year >= NEWER:
            entries.append((file, label, "test"))
        elif row["split"] in ("train", "val") and year < NEW:
            entries.append((file, label, "train" if row["split"] == "train" else "validation"))
    return of_present(path, entries, names)


def iwildcam(path: Path) -> Table:
    """iWildCam of WILDS: ``train/FILE``, ``metadata.csv``; parts of other cameras.

    Names are those of ``categories.csv``, in Latin; classes without images in these parts are left
    out.
    """
    listed = {row["y"]: row["name"] for row in rows(path / "categories.csv", ("y", "name"))}
    ids = {key: int(key) for key in listed}
    names = [listed.get(str(label), "") for label in range(max(ids.values(), default=-1) + 1)]
    parts = {"train": "train", "val": "validation", "test": "test"}
    place = path / "metadata.csv"
    entries = [
        (path / "train" / row["filename"], pick_id(ids, row["y"], str(place)), parts[row["split"]])
        for row in rows(place, ("split", "filename", "y"))
        if row["split"] in parts
    ]
    return of_present(path, entries, names)


def captions(path: Path) -> Table:
    """Sentences of Conceptual Captions in column ``caption``, each beside one grey pixel.

    The images are not used and need not be there. The file is the official one (a sentence and an
    address a line) or the one that downloads the images (columns ``title`` and ``filepath``).
    """
    official = path / f"{CAPTIONS}.tsv"
    if official.exists():
        found = [line.partition("\t")[0].strip() for line in lines(official)]
    else:
        fetched = path / f"{CAPTIONS}_output.csv"
        found = [row["title"].strip() for row in rows(fetched, ("title",), "\t")]
    if len(found) < 2 or not all(found):
        raise DataError(
            f"{path}: expected a sentence in each line, got {len(found)} lines, of which "
            f"{found.count('')} have none; copy the file again"
        )
    count = len(found)
    return Table(
        origin=str(path),
        images=torch.full((count, 1, 1, 1), 128, dtype=torch.uint8),
        labels=[row % 2 for row in range(count)],
        splits=["train"] * count,
        class_names=("sentence of an even row", "sentence of an odd row"),
        columns={"caption": found},
    )


LAYOUTS: dict[str, Callable[[Path], Table]] = {
    "fmow": fmow,
    "iwildcam": iwildcam,
    "conceptual-captions": captions,
}
