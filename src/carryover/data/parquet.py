"""Reader of Parquet files of images, as Hugging Face's hub has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.data.images import Table
from carryover.data.sources import SPLITS, with_test_rows
from carryover.errors import DataError, listed

if TYPE_CHECKING:
    import pyarrow


def read(path: Path, test_fraction: float, seed: int) -> Table:
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
        twice = sorted({n for n in part.column_names if part.column_names.count(n) > 1})
        if twice:
            raise DataError(f"{file}: expected each column once, got {listed(twice)} twice")
        parts.append(part)
        prefix = file.name.split(".")[0].split("-")[0] if path.is_dir() else "train"
        splits += [SPLITS.get(prefix, "train")] * len(part)
    try:
        whole = pa.concat_tables(parts)
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: expected files with equal columns ({error}); mend them"
        ) from error
    return with_test_rows(_from_arrow(whole, splits, path), test_fraction, seed)


def _from_arrow(table: pyarrow.Table, splits: list[str], path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    image, own = table["image"], ("image", "label", "class_name", "split")
    columns = {name: _kept(table, name, path) for name in table.column_names if name not in own}
    if pa.types.is_struct(image.type) and image.type.get_field_index("bytes") >= 0:
        if image.type.get_field_index("path") >= 0:
            places = _values(pa.table({"path": pc.struct_field(image, "path")}), "path", path)
            columns.update({"file": places} if any(places) else {})
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
        given = _plain(table, "split", path)
        for row, name in enumerate(given):
            if name not in SPLITS:
                raise DataError(
                    f"{path}: row {row}: expected a split among {listed(SPLITS)}, got {name!r}"
                )
        splits = [SPLITS[name] for name in given]
    if "class_name" in table.column_names:
        names = _names_by_row(labels, _plain(table, "class_name", path), path)
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


def _plain(table: pyarrow.Table, name: str, path: Path) -> list[Any]:
    """The values of a column of names.

    Raises:
        DataError: they are lists or other compounds, or no value of Python can hold one.
    """
    import pyarrow as pa

    if pa.types.is_nested(table[name].type):
        raise DataError(f"{path}: column {name}: expected text, got {table[name].type}")
    return _values(table, name, path)


def _kept(table: pyarrow.Table, name: str, path: Path) -> list[Any]:
    """The values of a further column, which are stored with the set.

    Raises:
        DataError: as `_values`, or they cannot be written again as they were.
    """
    import pyarrow as pa

    values = _values(table, name, path)
    try:
        pa.array(values)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise _unusual(table, name, path, error) from error
    return values


def _values(table: pyarrow.Table, name: str, path: Path) -> list[Any]:
    import pyarrow as pa

    try:
        return list(table[name].to_pylist())
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise _unusual(table, name, path, error) from error


def _unusual(table: pyarrow.Table, name: str, path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")
    return DataError(
        f"{path}: column {name}: expected values that can be stored, got {table[name].type} "
        f"({reason}); cast the column to text or leave it out"
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
