"""Every prediction of the retrieval study on test images, so that arms can be paired by image."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from carryover.errors import DataError
from carryover.files import write_bytes
from carryover.rows import Row

FOLDER, FILE = Path("data/predictions/retrieval"), "predictions.parquet"
METRICS = ("accuracy", "curve_accuracy", "corrupted_accuracy")  # shares of predictions
AXES = {  # of a row's cell, with their types in the file
    **{"dataset": "string", "access": "string", "k": "int32", "control": "string"},
    **{"seed": "int32", "noise": "float64", "step": "int32"},
    **{"corruption": "string", "severity": "int32"},
}
HALF = 0.5  # of an image

Place = tuple[str, frozenset[tuple[str, Any]]]  # a row's item, and its axes with their values
Right = Mapping[Place, Bool[np.ndarray, " n"]]  # by test image, in the order of the set


def write(
    path: Path,
    labels: Integer[np.ndarray, " n"],
    tests: Iterable[tuple[Mapping[str, Any], Integer[np.ndarray, " n"]]],
) -> None:
    """Write some tests as Parquet, whole or not at all: a line a test, its images in a list.

    Args:
        labels: of the test images.
        tests: of each the axes of its row, and the class named for each image.
    Raises:
        KitError: the file cannot be written.
    """
    import pyarrow as pa

    told = list(tests)
    columns = {
        name: pa.array([cell.get(name) for cell, _ in told], type=kind)
        for name, kind in AXES.items()
    }
    classes = pa.list_(pa.int16())
    columns["label"] = pa.array([labels.astype(np.int16)] * len(told), type=classes)
    columns["prediction"] = pa.array([named.astype(np.int16) for _, named in told], type=classes)
    _write(path, pa.table(columns))


def keep(paths: Iterable[Path], item: str) -> None:
    """Bring the files of an item's cells to where the pipeline keeps them, as one.

    Raises:
        KitError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _write(FOLDER / item / FILE, pa.concat_tables([pq.read_table(path) for path in paths]))


def _write(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def read(items: Iterable[str], root: Path = Path()) -> Right:
    """Which images each test of some items had right; none of those that have no file.

    Args:
        root: top folder of a checkout.
    """
    import pyarrow.parquet as pq

    found: dict[Place, Bool[np.ndarray, " n"]] = {}
    for item in items:
        path = root / FOLDER / item / FILE
        if not path.exists():
            continue
        table = pq.read_table(path)
        labels, named = (table[name].combine_chunks() for name in ("label", "prediction"))
        right = labels.flatten().to_numpy() == named.flatten().to_numpy()
        ends = np.cumsum(named.value_lengths().to_numpy())
        tests = zip(table.select(list(AXES)).to_pylist(), np.split(right, ends[:-1]), strict=True)
        found |= {_place(item, cell): each for cell, each in tests}
    return found


def _place(item: str, cell: Mapping[str, Any]) -> Place:
    return item, frozenset((axis, value) for axis, value in cell.items() if value is not None)


def right_of(row: Row, right: Right) -> Bool[np.ndarray, " n"] | None:
    """Which images a row's accuracy is of; None where that is not known.

    Raises:
        DataError: they give another accuracy, so that rows and predictions are of two runs.
    """
    share = row.split == "test" and row.metric in METRICS
    found = right.get(_place(row.item, row.cell)) if share else None
    if found is None:
        return None
    if len(found) != row.n or abs(found.sum() - row.value * row.n) > HALF:
        raise DataError(
            f"retrieval: expected predictions with an accuracy of {row.value:.4f} on {row.n} "
            f"images ({row.item} {row.cell}), got {found.mean():.4f} on {len(found)}; run "
            "`dvc repro retrieval`"
        )
    return found
