from __future__ import annotations

from pathlib import Path

import pytest

from carryover.claims.evidence import gather_all
from carryover.errors import DataError
from carryover.rows import Row, write_rows


def row(item: str, dataset: str, metric: str = "accuracy") -> Row:
    cell = {"dataset": dataset, "encoder": "e", "method": item, "partition": 1.0, "seed": 0}
    made_from = {"data": "d", "weights": "w", "params": "p", "source": "s", "precision": "float32"}
    return Row("adapt", item, "mini", cell, "test", metric, 0.5, 100, **made_from)


def write(root: Path, **items: list[Row]) -> None:
    (root / "claims/released").mkdir(parents=True)
    for item, rows in items.items():
        write_rows(root / f"reports/adapt/runs/{item}/rows.jsonl", rows)


def test_zero_shot_rows_of_other_sets_belong_to_the_study(tmp_path: Path) -> None:
    other = row("llrd", "letters", "zeroshot_accuracy")
    write(tmp_path, probe=[row("probe", "digits")], llrd=[row("llrd", "digits"), other])
    found = gather_all(tmp_path, ["adapt"])["adapt", "mini"]
    assert len(found.observations) == 3


def test_items_of_two_data_sets_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path, probe=[row("probe", "birds")], llrd=[row("llrd", "digits")])
    with pytest.raises(DataError, match=r"got mini: digits \(.*llrd.*\) and mini: birds \(.*probe"):
        gather_all(tmp_path, ["adapt"])
