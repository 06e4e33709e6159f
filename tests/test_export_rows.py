"""report/export_rows.py: all rows in one Parquet file."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carryover.errors import DataError
from carryover.report.export_rows import COLUMNS, all_rows, write_parquet
from carryover.rows import Row, write_rows
from conftest import REPOSITORY

ROW = Row("cuts", "fr", "mini", {}, "test", "accuracy", 0.5, 448, "d", "w", "p", "s", "float32")

ROWS = [
    replace(ROW, cell={"cut": 2, "fraction": 0.1}, value=0.25),
    replace(ROW, cell={"cut": 1, "fraction": 1}, metric="updates", value=60, n=0),
    replace(ROW, study="clusters", cell={"layer": "conv0", "whole": True}, value=-0.1),
    replace(ROW, study="clusters", cell={"layer": "conv0", "whole": False}, value=0.1 + 0.2),
    replace(ROW, cell={}),
]


def written(rows: list[Row], path: Path) -> list[dict[str, Any]]:
    write_parquet(rows, path)
    lines: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return lines


def flat(row: Row, axes: list[str]) -> dict[str, Any]:
    """A row as it should come back."""
    columns = {name: value for name, value in asdict(row).items() if name != "cell"}
    return columns | {axis: row.cell.get(axis) for axis in axes}


def test_every_row_comes_back_with_a_column_an_axis(tmp_path: Path) -> None:
    lines = written(ROWS, tmp_path / "results.parquet")
    expected = [flat(row, ["cut", "fraction", "layer", "whole"]) for row in ROWS]
    assert len(lines) == len(expected)
    assert all(line in expected for line in lines)
    assert [line["study"] for line in lines] == ["clusters"] * 2 + ["cuts"] * 3
    assert [line["cut"] for line in lines] == [None, None, None, 1, 2]


def test_columns_are_those_of_a_row_with_the_axes_in_their_own_types(tmp_path: Path) -> None:
    write_parquet(ROWS, tmp_path / "results.parquet")
    schema = pq.read_schema(tmp_path / "results.parquet")
    assert schema.names == [
        *("study", "item", "preset", "cut", "fraction", "layer", "whole", "split", "metric"),
        *("value", "n", "data", "weights", "params", "source", "precision"),
    ]
    kinds = {name: schema.field(name).type for name in ("cut", "fraction", "layer", "whole")}
    assert kinds == {
        "cut": pa.int64(),
        "fraction": pa.float64(),
        "layer": pa.string(),
        "whole": pa.bool_(),
    }
    assert (schema.field("value").type, schema.field("n").type) == (pa.float64(), pa.int64())
    nullable = [name for name in schema.names if schema.field(name).nullable]
    assert nullable == list(kinds)
    assert b"pandas" not in (schema.metadata or {})


def test_bytes_are_equal_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = [*ROWS, replace(ROW, value=math.nan), replace(ROW, value=math.nan, source="t")]
    contents = set()
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        write_parquet(rows, tmp_path / f"{seed}.parquet")
        contents.add((tmp_path / f"{seed}.parquet").read_bytes())
    assert len(contents) == 1
    assert contents.pop().startswith(b"PAR1")


def test_a_value_that_is_no_number_stays_one_and_not_empty(tmp_path: Path) -> None:
    write_parquet([replace(ROW, value=math.nan)], tmp_path / "results.parquet")
    column = pq.read_table(tmp_path / "results.parquet")["value"]
    assert (column.null_count, math.isnan(column[0].as_py())) == (0, True)


def test_no_rows_are_a_file_with_the_columns_alone(tmp_path: Path) -> None:
    assert written([], tmp_path / "results.parquet") == []
    assert pq.read_schema(tmp_path / "results.parquet").names == list(COLUMNS)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([{"item": 1}], "expected axes with names of their own, got item; rename"),
        ([{"cut": 1}, {"cut": "a"}], "axis cut: expected text, numbers .* got int, str; write one"),
        ([{"cut": [1]}], "axis cut: expected text, .* throughout, got list; write"),
    ],
)
def test_axes_that_make_no_column_are_refused(
    tmp_path: Path, cells: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        write_parquet([replace(ROW, cell=cell) for cell in cells], tmp_path / "results.parquet")
    assert not list(tmp_path.iterdir())


def test_an_axis_that_studies_write_differently_is_text(tmp_path: Path) -> None:
    rows = [
        replace(ROW, cell={"layer": "conv1"}),
        replace(ROW, study="continual", cell={"layer": 1}),
        replace(ROW, study="adapt", cell={"layer": None}),
    ]
    lines = written(rows, tmp_path / "results.parquet")
    assert [line["layer"] for line in lines] == [None, "1", "conv1"]


def test_all_rows_are_those_of_current_and_kept_runs_each_once(tmp_path: Path) -> None:
    write_rows(tmp_path / "reports/cuts/runs/fr/rows.jsonl", ROWS[:2])
    write_rows(tmp_path / "results/published/cuts/mnist/runs/fr/rows.jsonl", ROWS[1:4])
    write_rows(tmp_path / "results/lab/retrieval/runs/all/rows.jsonl", ROWS[4:])
    write_rows(tmp_path / "reports/cuts/rows.jsonl", [replace(ROW, value=0.9)])
    assert all_rows(tmp_path) == [*ROWS[:2], ROWS[4], *ROWS[2:4]]


def test_committed_rows_come_back_equal(tmp_path: Path) -> None:
    rows = all_rows(REPOSITORY)
    assert len(rows) > 1000
    axes = sorted({axis for row in rows for axis in row.cell})
    lines = written(rows, tmp_path / "results.parquet")
    assert pq.read_schema(tmp_path / "results.parquet").field("layer").type == pa.string()

    def key(line: dict[str, Any]) -> str:  # a layer has a number in one study, a name in another
        values = {**line, "layer": str(line["layer"])}
        return repr(sorted((name, value) for name, value in values.items() if name != "value"))

    ours = sorted((flat(row, axes) for row in rows), key=key)
    theirs = sorted(lines, key=key)
    assert [line["value"] for line in theirs] == [line["value"] for line in ours]
    assert [key(line) for line in theirs] == [key(line) for line in ours]
