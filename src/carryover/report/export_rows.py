"""All rows in one Parquet file, for data frames and SQL: a line a row, a column an axis."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from carryover.errors import DataError, listed
from carryover.files import write_bytes
from carryover.rows import Row, read_rows

BEFORE_AXES = ("study", "item", "preset")
NUMBERS = {"value": float, "n": int}
COLUMNS = tuple(field.name for field in fields(Row) if field.name != "cell")
PLACES = ("reports/*/runs/*/rows.jsonl", "results/**/runs/*/rows.jsonl")


def all_rows(root: Path) -> list[Row]:
    """Rows of the current runs and of all kept ones, each once, sorted by file.

    Args:
        root: the checkout.
    Raises:
        DataError: a line that is not a row.
    """
    files = [path for place in PLACES for path in sorted(root.glob(place))]
    rows = [row for path in files for row in read_rows(path)]
    return list({json.dumps(asdict(row), sort_keys=True): row for row in rows}.values())


def write_parquet(rows: list[Row], path: Path) -> None:
    """Write rows as Parquet; equal sets of rows give equal bytes, in whatever order they come.

    The columns of `Row`, and between ``preset`` and ``split`` one for each axis of any cell, in
    alphabetical order and empty where a row lacks it: whole numbers, numbers, text, or true and
    false. Bytes are those of one version of pyarrow.

    Raises:
        DataError: an axis has the name of another column, or text and numbers in one study.
        KitError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    axes = _axis_types(rows)
    kinds = dict.fromkeys(BEFORE_AXES, str) | axes | dict.fromkeys(COLUMNS, str) | NUMBERS
    arrow = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    schema = pa.schema(
        [pa.field(name, arrow[kind], nullable=name in axes) for name, kind in kinds.items()]
    )
    lines = sorted(
        (
            {**asdict(row), **{axis: _as(axes[axis], value) for axis, value in row.cell.items()}}
            for row in rows
        ),
        key=lambda line: _place(line, kinds),
    )
    columns = {name: [line.get(name) for line in lines] for name in kinds}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def _axis_types(rows: list[Row]) -> dict[str, type]:
    """The type of each axis, alphabetically; text where studies write different ones."""
    found: dict[str, dict[str, set[type]]] = {}
    for row in rows:
        for axis, value in row.cell.items():
            if value is not None:
                found.setdefault(axis, {}).setdefault(row.study, set()).add(type(value))
    taken = sorted(found.keys() & set(COLUMNS))
    if taken:
        raise DataError(
            f"expected axes with names of their own, got {listed(taken)}; rename them in the study"
        )
    types: dict[str, type] = {}
    for axis, studies in sorted(found.items()):
        kinds = {_kind(axis, seen) for seen in studies.values()}
        types[axis] = float if kinds == {int, float} else kinds.pop() if len(kinds) == 1 else str
    return types


def _kind(axis: str, seen: set[type]) -> type:
    """The one type of an axis in one study."""
    kind = float if seen == {int, float} else next(iter(seen))
    if kind not in (str, int, float, bool) or (len(seen) > 1 and kind is not float):
        names = listed(sorted(each.__name__ for each in seen))
        raise DataError(
            f"axis {axis}: expected text, numbers or true and false throughout, got {names}; "
            "write one kind in the study"
        )
    return kind


def _as(kind: type, value: Any) -> Any:
    return str(value) if kind is str and value is not None else value


def _place(line: dict[str, Any], names: Iterable[str]) -> list[Any]:
    """What lines are sorted by: columns from left to right, an empty axis before any value."""
    values = [repr(line[name]) if name == "value" else line.get(name) for name in names]
    return [(value is not None, value) for value in values]
