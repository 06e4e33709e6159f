"""report/changes.py: a comparison as JSON, table and Markdown."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from carryover.measure.compare import Tolerance, compare
from carryover.report.changes import as_json, as_markdown, as_table
from carryover.rows import Row

ROW = Row("cuts", "fr", "mini", {}, "test", "k", 0.5, 448, "d", "w", "p", "s", "float32")
ONE = [Tolerance("*", 1.0, 0.0)]


def rows(values: dict[int, float]) -> list[Row]:
    return [replace(ROW, cell={"cut": cut}, value=value) for cut, value in values.items()]


BEFORE = rows({0: 3.0, 1: 3.0, 2: 3.0, 4: 3.0})
AFTER = rows({0: 3.5, 1: 1.0, 3: 3.0, 4: 3.0})


def test_json_holds_every_field_and_null_for_what_is_no_number() -> None:
    value = as_json(compare(rows({0: 0.5}), rows({0: math.nan}), ONE))
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert (value["significant"], value["n_groups"], value["level"]) == (True, 1, 0.95)
    change = value["changes"][0]
    assert change["after"] is None
    assert change["difference"] == {"value": None, "low": None, "high": None}
    assert (change["cell"], change["tolerance"]) == ({"cut": 0}, 1.0)


def test_table_has_a_header_and_the_worst_lines_up_to_the_limit() -> None:
    table = as_table(compare(BEFORE, AFTER, ONE), 3)
    assert len({len(line) for line in table}) == 1
    assert table[0][:5] == ["study", "item", "cell", "split", "metric"]
    assert table[1] == [
        *["cuts", "fr", "cut=1", "test", "k", "3", "1", "-2", "[-2, -2]", "0", "1"],
        "significant: beyond the tolerance of 1 and beyond chance",
    ]
    assert [line[-1] for line in table[2:]] == ["gone: 1 row", "within the tolerance of 1"]
    assert as_table(compare(BEFORE, AFTER, ONE), 9)[-1][-1] == "new: 1 row"


def test_markdown_counts_then_lists_the_worst_first_and_says_what_is_left_out() -> None:
    lines = as_markdown(compare(BEFORE, AFTER, ONE), 2).split("\n")
    assert lines[0] == (
        "**Significant change: 1 of 3 groups of rows beyond tolerance and chance; "
        "1 within one of them; 1 equal; rows gone from 1 group; rows new in 1 group; "
        "95 % intervals**"
    )
    assert lines[1] == ""
    assert lines[2].startswith("| study | item | cell | split | metric | before | after |")
    assert lines[3] == "| " + " | ".join(["---"] * 12) + " |"
    assert lines[4] == (
        "| cuts | fr | cut=1 | test | k | 3 | 1 | -2 | [-2, -2] | 0 | 1 | "
        "significant: beyond the tolerance of 1 and beyond chance |"
    )
    assert lines[5].endswith("| gone: 1 row |")
    assert lines[6:] == ["", "and 2 more: `carryover diff --json`"]


def test_markdown_of_equal_rows_is_one_line() -> None:
    assert as_markdown(compare(BEFORE, BEFORE, ONE), 9) == (
        "**No significant change: 0 of 4 groups of rows beyond tolerance and chance; "
        "0 within one of them; 4 equal; 95 % intervals**"
    )


def test_rows_that_have_gone_are_a_significant_change_in_markdown_too() -> None:
    first = as_markdown(compare(BEFORE, BEFORE[:2], ONE), 9).split("\n")[0]
    assert first.startswith("**Significant change: 0 of 2 groups of rows beyond tolerance")
    assert "; rows gone from 2 groups; " in first


def test_bar_in_a_name_does_not_end_the_cell() -> None:
    old = [replace(row, cell={"pair": "a|b"}) for row in rows({0: 3.0})]
    new = [replace(row, value=9.0) for row in old]
    assert "| pair=a\\|b |" in as_markdown(compare(old, new, ONE), 9)
