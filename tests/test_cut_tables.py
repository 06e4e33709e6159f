from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from carryover.errors import DataError
from carryover.measure.medians import median_difference
from carryover.measure.statistics import Interval
from carryover.report import cut_tables
from carryover.report.cut_scores import CutScores, accuracies, from_rows, repeats_needed
from carryover.report.tables import Table, latex, markdown, percent, to_csv
from carryover.rows import Row
from cut_scores import generator, made_up


@pytest.fixture
def scores() -> CutScores:
    return made_up()


# --- forms ---------------------------------------------------------------------------------------


def test_a_table_in_each_form() -> None:
    table = Table("Gain of 5 %", ["a", "b_c"], [["1", "2 & 3"]])
    assert markdown(table) == "Gain of 5 %\n\n| a | b_c |\n| --- | --- |\n| 1 | 2 & 3 |\n"
    assert latex(table) == (
        "\\begin{table}\n\\caption{Gain of 5 \\%}\n\\begin{tabular}{ll}\n\\toprule\n"
        "a & b\\_c \\\\\n\\midrule\n1 & 2 \\& 3 \\\\\n\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )
    assert to_csv(["a", "b"], [[1, 0.5], ["x,y", 2]]) == 'a,b\n1,0.5\n"x,y",2\n'


def test_a_long_table_breaks_over_pages_and_shades_its_lines() -> None:
    table = Table("T", ["p < 1"], [["0.1"]] * 41, ["green!30", *[""] * 40])
    lines = latex(table).splitlines()
    assert lines[:2] == [r"\begin{longtable}{l}", r"\caption{T} \\"]
    assert lines[2:6] == [r"\toprule", r"p $<$ 1 \\", r"\midrule", r"\endhead"]
    assert lines[6:8] == [r"\rowcolor{green!30} 0.1 \\", r"0.1 \\"]
    assert len(lines) == 6 + 41 + 2


def test_per_cent_has_one_digit_and_a_sign_for_differences() -> None:
    assert percent(Interval(0.58, 0.531, 0.6294)) == "58.0 [53.1, 62.9]"
    assert percent(Interval(0.05, -0.01, 0.11), signed=True) == "+5.0 [-1.0, +11.0]"


# --- tests -------------------------------------------------------------------------------------


def test_significant_pairs_are_marked_after_holm_and_before(scores: CutScores) -> None:
    compared = cut_tables.between_cuts(scores, "fr")
    assert len(compared) == 2 * 6
    by_pair = {(line.fraction, line.a[1], line.b[1]): line for line in compared}
    clear = by_pair[0.1, -1, 6]
    assert clear.test.p == pytest.approx(2 / 2**12)
    assert clear.higher == ("fr", 6)
    assert by_pair[1.0, -1, 6].higher is None
    table = cut_tables.tests_table(scores, "T.", compared)
    line = next(line for line in table.lines if line[:2] == ["10 %", "scratch, cut 6"])
    assert line[2:] == ["0", "0.000488", f"{clear.p_holm:.6f}", "**", "cut 6"]
    assert table.shades[table.lines.index(line)] == "green!30"
    assert "10 % 0.00049 (12 repeats), 100 % 0.062 (5 repeats)" in table.title
    assert "with 8 repeats or more" in table.title  # of 6 tests


def test_the_repeats_that_a_number_of_tests_needs() -> None:
    assert [repeats_needed(count) for count in (1, 2, 7, 28)] == [6, 7, 9, 11]
    # 2^(1-n) < 0.05 / tests: 1/32 < 0.05, 1/64 < 0.025, 1/256 < 0.0071, 1/1024 < 0.0018


def test_groups_of_cuts_in_a_table(scores: CutScores) -> None:
    table = cut_tables.ranks_table(scores, ["fr"])
    assert table.header[3:] == ["from scratch", "cut 0", "cut 3", "cut 6"]
    assert [cell.split()[0] for cell in table.lines[0][3:]][2:] == ["2", "1"]
    assert table.lines[1] == ["fr", "100 %", "5", "1 a", "1 a", "1 a", "1 a"]


# --- medians -----------------------------------------------------------------------------------


def test_the_bootstrap_of_a_constant_difference_has_no_width() -> None:
    a = [0.5, 0.7, 0.6, 0.9]
    interval = median_difference([x + 0.1 for x in a], a, 0.95, 200, generator())
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.1, 0.1, 0.1))


def test_the_bootstrap_agrees_with_a_plain_loop() -> None:
    random = generator()
    a, b = random.random(9), random.random(9)
    found = median_difference(a, b, 0.9, 4000, generator())
    resamples = [random.integers(9, size=9) for _ in range(4000)]
    plain = [float(np.median(a[i]) - np.median(b[i])) for i in resamples]
    assert found.value == float(np.median(a) - np.median(b))
    assert found.low == pytest.approx(np.quantile(plain, 0.05), abs=0.05)
    assert found.high == pytest.approx(np.quantile(plain, 0.95), abs=0.05)


@pytest.mark.parametrize(
    ("a", "b", "draws", "message"),
    [
        ([1.0], [1.0], 10, "expected two or more pairs of finite values, got 1 and 1"),
        ([1.0, 2.0], [1.0], 10, "got 2 and 1"),
        ([1.0, float("nan")], [1.0, 2.0], 10, "finite"),
        ([1.0, 2.0], [1.0, 2.0], 0, "expected draws >= 1"),
    ],
)
def test_medians_of_what_is_no_pairs_are_refused(
    a: list[float], b: list[float], draws: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        median_difference(a, b, 0.95, draws, generator())


# --- rows --------------------------------------------------------------------------------------


def row(repeat: int, value: float, **changes: Any) -> Row:
    cell = {"pair": "digits", "fraction": 1.0, "cut": 0, "repeat": repeat}
    fields: dict[str, Any] = {"item": "fr", "cell": cell, "split": "test", "n": 10, "value": value}
    same = dict.fromkeys(("preset", "data", "weights", "params", "source", "precision"), "")
    return Row(**(same | {"study": "cuts", "metric": "accuracy"} | fields | changes))


def test_repeats_are_paired_by_number_not_by_order() -> None:
    found = accuracies([row(1, 0.2), row(0, 0.1), row(2, 0.3)], "test")
    assert found == {("fr", 1.0, 0): [0.1, 0.2, 0.3]}


def test_cells_with_other_repeats_are_refused() -> None:
    other = {"pair": "digits", "fraction": 1.0, "cut": 3, "repeat": 5}
    with pytest.raises(DataError, match="expected rows with one set of repeats at fraction 1"):
        accuracies([row(0, 0.1), row(5, 0.1, cell=other)], "test")


def test_rows_of_several_pairs_or_none_are_refused() -> None:
    other = {"pair": "letters", "fraction": 1.0, "cut": 0, "repeat": 0}
    with pytest.raises(DataError, match=r"one pair .* in split test, got \['digits', 'letters'\]"):
        accuracies([row(0, 0.1), row(0, 0.2, cell=other)], "test")
    with pytest.raises(DataError, match=r"in split validation, got \[\]"):
        accuracies([row(0, 0.1)], "validation")


def test_settings_tested_on_other_images_are_refused() -> None:
    with pytest.raises(DataError, match="expected rows with one number of test images, got"):
        from_rows([row(0, 0.1), row(0, 0.2, item="ft", n=20)], "test accuracy")
    with pytest.raises(DataError, match=r"digits: expected rows of training images at fractions"):
        from_rows([row(0, 0.1)], "test accuracy")


def test_a_fraction_that_only_training_from_scratch_has_is_not_shown() -> None:
    cell = {"pair": "digits", "fraction": 0.3, "cut": -1, "repeat": 0}
    alone = row(0, 0.1, item="baseline", cell=cell)
    found = from_rows([row(0, 0.1), row(0, 1.0, split="train", n=7), alone], "test accuracy")
    assert (found.images, found.n, found.pair) == ({1.0: 7}, 10, "digits")
