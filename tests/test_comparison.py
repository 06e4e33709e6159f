from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from carryover.claims import released
from carryover.claims.comparison import HEADER, comparison, write
from carryover.errors import DataError
from carryover.rows import Row
from conftest import REPOSITORY

PAIR = "fashion-mnist"
HALF = 2.7764451 * (0.01**2 / 3 + 0.01**2 / 3) ** 0.5  # Student, 4 degrees of freedom


@pytest.fixture(scope="module")
def theirs() -> list[Row]:
    return released.rows(REPOSITORY / "claims" / "released" / "cuts.csv")


@pytest.fixture(scope="module")
def ours(theirs: list[Row]) -> list[Row]:
    """The released rows of one pair, as if they were ours."""
    return [replace(row, preset="published") for row in theirs if row.cell["pair"] == PAIR]


def rows(
    mean: float, repeats: int = 3, preset: str = "lab", cut: int = 2, n: int = 1000
) -> list[Row]:
    """Repeats around a mean, 0.01 apart."""
    found = Row("cuts", "fr", preset, {}, "test", "accuracy", 0.0, n, *"dwps", "float32")
    cell = {"pair": PAIR, "fraction": 0.1, "cut": cut}
    return [
        replace(found, cell=cell | {"repeat": i}, value=mean + 0.01 * (i - 1))
        for i in range(repeats)
    ]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_cell_by_hand() -> None:
    (found,) = comparison(rows(0.8), rows(0.9, preset="original"), margin=0.02)
    assert found.interval is not None
    assert found.interval.value == pytest.approx(-0.1)
    assert found.interval.low == pytest.approx(-0.1 - HALF)
    assert found.interval.high == pytest.approx(-0.1 + HALF)
    assert found.reading == "different"


@pytest.mark.parametrize(
    ("margin", "expected"), [(0.2, "same"), (0.1, "open"), (0.06, "different")]
)
def test_the_margin_decides_what_is_the_same(margin: float, expected: str) -> None:
    (found,) = comparison(rows(0.8), rows(0.9, preset="original"), margin)
    assert found.reading == expected


def test_cells_on_one_side_say_so() -> None:
    few = comparison(rows(0.8, repeats=1), rows(0.8, preset="original"))
    assert [(cell.reading, cell.interval) for cell in few] == [("open", None)]
    found = comparison(rows(0.8, cut=1), rows(0.8, preset="original"))
    assert {cell.key.cut: cell.reading for cell in found} == {1: "not published", 2: "not run"}


def test_released_rows_differ_from_themselves_by_nothing(
    ours: list[Row], theirs: list[Row]
) -> None:
    found = comparison(ours, theirs)
    assert len(found) == 5 + 3 * 35
    for cell in found:
        assert cell.interval is not None
        assert cell.interval.value == 0
        assert cell.interval.low < 0 < cell.interval.high
        assert cell.reading in ("same", "open")


def test_order_of_rows_does_not_matter(ours: list[Row], theirs: list[Row]) -> None:
    again = comparison(ours[::-1], theirs[::-1])
    for one, other in zip(comparison(ours, theirs), again, strict=True):
        assert one.key == other.key
        assert one.reading == other.reading


def test_write_puts_both_side_by_side(ours: list[Row], theirs: list[Row], tmp_path: Path) -> None:
    run = [row for row in ours if not (row.item == "ft" and row.cell["fraction"] == 1.0)]
    write(tmp_path, run, theirs)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("comparison.csv", "comparison.md", "verdicts.md")
    ]
    lines = table(tmp_path / "comparison.csv")
    assert list(lines[0]) == list(HEADER)
    assert len(lines) == 110
    assert {line["difference"] for line in lines} == {"0.0", ""}
    missing = [line for line in lines if line["reading"] == "not run"]
    assert [(m["setting"], m["fraction"], m["cut"]) for m in missing] == [
        ("ft", "1.0", str(cut)) for cut in range(7)
    ]
    assert {m["theirs"] for m in missing} >= {"0.959911"}
    page = (tmp_path / "comparison.md").read_text()
    assert "7 not run" in page
    assert "fashion-mnist, ft. Accuracy over: ours 18000 test images, theirs 18000 training" in page
    assert "| 100 % | 0-5 / 5 | 94.7 / 94.7, +0.0 [-0.9, +0.9] = | not run |" in page
    decided = (tmp_path / "verdicts.md").read_text()
    assert "| released data agree | reproduced |" in decided
    t5 = next(line for line in decided.splitlines() if line.startswith("| T5 "))
    assert t5.endswith("| released data agree | not run |")
    assert "- Ours: not run: ft at 100 % (cut 1, 2, 3, 4, 5, 6)." in decided


def test_write_warns_of_other_test_images(
    ours: list[Row], theirs: list[Row], tmp_path: Path
) -> None:
    write(tmp_path, [replace(row, n=3000) for row in ours], theirs)
    page = (tmp_path / "comparison.md").read_text()
    assert "images for fr on fashion-mnist: ours 3000 test images, theirs 18000 training" in page


def test_a_pair_that_was_never_published_stands_alone(tmp_path: Path, theirs: list[Row]) -> None:
    own = [replace(r, cell=r.cell | {"pair": "digits"}) for r in rows(0.8)]
    write(tmp_path, own, theirs)
    assert "80.0 / not published" in (tmp_path / "comparison.md").read_text()
    assert "| no released rows | not run |" in (tmp_path / "verdicts.md").read_text()


def test_scratch_with_draws_of_its_own_is_not_asked_to_equal_cut_0(
    ours: list[Row], theirs: list[Row], tmp_path: Path
) -> None:
    for seeding in ("repeat", "purpose"):
        write(tmp_path, ours, theirs, seeding=seeding)
        assert ("T10" in (tmp_path / "verdicts.md").read_text()) == (seeding == "repeat")


def test_refuses_rows_without_the_study(tmp_path: Path, theirs: list[Row]) -> None:
    with pytest.raises(DataError, match="expected rows of the cut study to compare, got none"):
        write(tmp_path, [], theirs)
    with pytest.raises(DataError, match="margin: expected a number above 0"):
        comparison(rows(0.8), rows(0.8, preset="original"), margin=-1.0)
