"""Reads what some test images attend to, and their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from carryover.data import store
from carryover.report.retrieval_nearest import Entry, Looked, Pictures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "attention.parquet"


def read(path: Path) -> list[Looked]:
    """The images of the first seed in the order of their labels; none where there is no table."""
    if not path.exists():
        return []
    import pyarrow.parquet as pq

    lines = pq.read_table(path).to_pylist()
    first = min((line["seed"] for line in lines), default=0)
    found: dict[tuple[int, int], list[tuple[int, Entry]]] = {}
    for line in lines:
        if line["seed"] == first:
            entry = Entry(line["neighbour"], line["neighbour_label"], line["weight"])
            found.setdefault((line["label"], line["image"]), []).append((line["place"], entry))
    return [
        Looked(image, label, tuple(entry for _, entry in sorted(entries)), len(entries))
        for (label, image), entries in sorted(found.items())
    ]


def pictures(
    folder: Path, looked: Mapping[str, Sequence[Looked]]
) -> tuple[Pictures, Pictures, tuple[str, ...]]:
    """Pixels of the test images and of the entries, and the names of the classes.

    Args:
        folder: of the prepared set; entries are of its training part.
    Raises:
        DataError: the set is not prepared.
    """
    every = [each for found in looked.values() for each in found]
    queries, names = _pixels(folder, "test", {each.id for each in every})
    entries = {entry.id for each in every for entry in each.entries}
    return queries, _pixels(folder, "train", entries)[0], names


def _pixels(folder: Path, split: str, wanted: Iterable[int]) -> tuple[Pictures, tuple[str, ...]]:
    images = store.load(folder, split)
    rows = {id_: row for row, id_ in enumerate(images.ids.tolist())}
    made: dict[int, NDArray[np.float64]] = {}
    for id_ in sorted(set(wanted) & set(rows)):
        pixels = images.image(rows[id_]).double() / 255
        made[id_] = (pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)).numpy()
    return made, images.class_names
