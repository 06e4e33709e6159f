"""Rows are read whole or refused with the line that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carryover.errors import DataError
from carryover.rows import Row, read_rows, write_rows

TEXTS = dict.fromkeys(("study", "item", "preset", "split", "metric"), "x")
TEXTS |= dict.fromkeys(("data", "weights", "params", "source", "precision"), "x")
FIELDS: dict[str, Any] = TEXTS | {"cell": {"repeat": 1}, "value": 0.5, "n": 10}


def test_rows_come_back(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [Row(**FIELDS)])
    assert read_rows(tmp_path / "rows.jsonl") == [Row(**FIELDS)]


@pytest.mark.parametrize(
    "other",
    [
        {"value": "x"},
        {"value": float("nan")},
        {"value": True},
        {"cell": []},
        {"n": -5},
        {"n": 1.5},
        {"split": None},
        {"more": 1},
    ],
)
def test_a_field_of_another_type_is_refused_with_its_line(
    other: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(FIELDS)}\n{json.dumps(FIELDS | other)}\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: expected a row, got"):
        read_rows(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="expected rows as UTF-8 text"):
        read_rows(path)
