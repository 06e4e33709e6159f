"""Rows that a study's report takes: of its run, and kept of other presets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from carryover.errors import DataError
from carryover.report.stored import kept_rows, rows_of_preset
from carryover.rows import Row, write_rows
from test_continual_report import run


@pytest.fixture(scope="module")
def found() -> list[Row]:
    return run("frozen", "s-digits", "ni-3", "naive")


def test_rows_of_another_preset_or_none_are_refused(found: list[Row]) -> None:
    assert rows_of_preset(found, "tiny", "continual") == found
    with pytest.raises(
        DataError,
        match="continual/runs: expected rows of preset lab, got some of tiny; run `dvc repro cont",
    ):
        rows_of_preset(found, "lab", "continual")
    untested = [row for row in found if (row.split, row.metric) != ("test", "accuracy")]
    assert untested
    with pytest.raises(DataError, match="expected test accuracies, found none; run `dvc repro"):
        rows_of_preset(untested, "tiny", "continual")


def test_kept_rows_are_of_one_study_and_of_other_presets(found: list[Row], tmp_path: Path) -> None:
    for place, preset in (
        ("tiny/continual", "tiny"),
        ("lab/continual", "lab"),
        ("lab/continual/more", "lab"),
        ("lab/retrieval", "lab"),
        ("published/continual/mnist", "published"),
    ):
        path = tmp_path / place / "runs/frozen/rows.jsonl"
        path.parent.mkdir(parents=True)
        write_rows(path, [replace(row, preset=preset) for row in found])
    lab, published = kept_rows(tmp_path, "continual", "tiny")
    assert {row.preset for row in lab} == {"lab"}
    assert len(lab) == 2 * len(found)
    assert {row.preset for row in published} == {"published"}
