"""measure/compare.py: tolerance-aware comparison of rows, and rows of a git revision."""

import math
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carryover.errors import DataError
from carryover.measure.compare import Change, Comparison, Tolerance, compare
from carryover.measure.revisions import rows_at
from carryover.measure.statistics import paired_difference, paired_p
from carryover.rows import Row, write_rows

ROW = Row("cuts", "fr", "mini", {}, "test", "accuracy", 0.5, 448, "d", "w", "p", "s", "float32")


def group(values: list[float], cut: int = 0, metric: str = "accuracy", n: int = 448) -> list[Row]:
    return [
        replace(ROW, cell={"cut": cut, "repeat": i}, metric=metric, value=value, n=n)
        for i, value in enumerate(values)
    ]


def only(comparison: Comparison) -> Change:
    assert len(comparison.changes) == 1
    return comparison.changes[0]


def up_to(absolute: float, relative: float) -> list[Tolerance]:
    return [Tolerance("*", absolute, relative)]


# --- compare -----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["accuracy", "task_accuracy", "mixed_accuracy"])
def test_one_image_more_is_within_chance_for_every_accuracy(metric: str) -> None:
    one = compare(group([0.5], 0, metric, 100), group([0.51], 0, metric, 100), up_to(0.0, 0.0))
    assert not only(one).significant
    three = compare(
        group([0.5] * 3, 0, metric, 100), group([0.51] * 3, 0, metric, 100), up_to(0.0, 0.0)
    )
    assert not only(three).significant


def test_equal_rows_in_another_order_have_no_change() -> None:
    rows = group([0.5, 0.6]) + group([0.7, 0.8], cut=1)
    comparison = compare(rows, rows[::-1], up_to(0.0, 0.0))
    assert (comparison.n_groups, comparison.changes, comparison.significant) == (2, [], False)


def test_repeats_are_paired_by_repeat_and_seed_and_not_by_position() -> None:
    before, after = group([0.5, 0.6, 0.7]), group([0.52, 0.61, 0.74])
    change = only(compare(before, after[::-1], up_to(0.0, 0.0)))
    assert change.difference == paired_difference([0.52, 0.61, 0.74], [0.5, 0.6, 0.7])
    assert change.p == pytest.approx(paired_p([0.52, 0.61, 0.74], [0.5, 0.6, 0.7]))
    assert (change.cell, change.n_pairs) == ({"cut": 0}, 3)
    assert (change.before, change.after) == pytest.approx((0.6, 0.62333), abs=1e-5)


def test_steady_drop_is_significant_beyond_the_tolerance_only() -> None:
    before, after = group([0.80, 0.82, 0.81, 0.79]), group([0.70, 0.73, 0.70, 0.68])
    beyond, within = (
        compare(before, after, up_to(0.05, 0.0)),
        compare(before, after, up_to(0.0, 0.2)),
    )
    assert beyond.significant
    assert only(beyond).reason == "beyond the tolerance of 0.05 and beyond chance"
    assert not within.significant
    assert only(within).reason == "within the tolerance of 0.161"


def test_tolerance_is_the_larger_of_absolute_and_relative() -> None:
    before, after = group([100.0, 100.0], metric="updates"), group([104.0, 104.0], metric="updates")
    answers = [
        compare(before, after, up_to(*t)).significant for t in [(0, 0.05), (5, 0), (1, 0.01)]
    ]
    assert answers == [False, False, True]


def test_difference_of_exactly_the_tolerance_is_within_it() -> None:
    before, after = group([0.70], metric="alignment"), group([0.71], metric="alignment")
    assert not compare(before, after, up_to(0.01, 0.0)).significant


def test_noise_is_not_significant_however_small_the_tolerance() -> None:
    change = only(compare(group([0.5, 0.6, 0.7]), group([0.7, 0.5, 0.65]), up_to(0.0, 0.0)))
    assert not change.significant
    assert change.reason == "beyond the tolerance of 0, within chance"


def test_two_accuracies_that_moved_by_equally_many_images_are_no_certainty() -> None:
    before, after = [0.5, 0.75], [0.75, 1.0]
    assert not compare(group(before, n=8), group(after, n=8), up_to(0.0, 0.0)).significant
    exact = only(compare(group(before, metric="x"), group(after, metric="x"), up_to(0.0, 0.0)))
    assert (exact.significant, exact.p) == (True, 0.0)


def test_one_pair_of_accuracies_is_tested_as_two_proportions() -> None:
    small = only(compare(group([0.6], n=100), group([0.4], n=100), up_to(0.0, 0.0)))
    assert small.p == pytest.approx(0.0046777, abs=1e-7)
    assert small.difference.low < -0.2 < small.difference.high < 0
    assert not compare(group([0.6], n=10), group([0.4], n=10), up_to(0.0, 0.0)).significant


def test_one_pair_of_another_metric_differs_as_a_point() -> None:
    change = only(compare(group([3.0], metric="k"), group([2.0], metric="k"), up_to(0.5, 0.0)))
    assert asdict(change.difference) == {"value": -1.0, "low": -1.0, "high": -1.0}
    assert (change.significant, change.p, change.n_pairs) == (True, 0.0, 1)


def test_p_values_are_adjusted_over_groups_that_differ() -> None:
    before = [row for cut in range(10) for row in group([0.60, 0.61, 0.62, 0.63], cut)]
    moved = group([0.57, 0.58, 0.60, 0.60], 0)
    alone = only(compare(before, moved + before[4:], up_to(0.0, 0.0)))
    noisy = [replace(row, value=row.value + 0.01 * (-1) ** i) for i, row in enumerate(before[4:])]
    among = compare(before, moved + noisy, up_to(0.0, 0.0))
    assert alone.significant
    assert len(among.changes) == 10
    assert among.changes[0].p == pytest.approx(10 * alone.p)


def test_rows_that_have_gone_are_significant_and_new_ones_are_not() -> None:
    rows = group([0.5, 0.6, 0.7]) + group([0.8], cut=1)
    less = compare(rows, rows[:2], up_to(0.0, 0.0))
    more = compare(rows[:2], rows, up_to(0.0, 0.0))
    assert [(gone.cell, gone.n_rows, gone.whole) for gone in less.only_before] == [
        ({"cut": 0}, 1, False),
        ({"cut": 1}, 1, True),
    ]
    assert (less.significant, less.only_after) == (True, [])
    assert (more.significant, more.only_before) == (False, [])
    assert more.only_after == less.only_before


def test_value_that_stopped_being_a_number_is_significant_and_a_lasting_one_is_not() -> None:
    good, bad = group([0.5, 0.6]), group([0.5, math.nan])
    change = only(compare(good, bad, up_to(1.0, 1.0)))
    assert (change.significant, change.reason) == (True, "a value is not a finite number")
    assert not compare(bad, bad, up_to(0.0, 0.0)).significant
    assert only(compare(group([math.inf]), group([-math.inf]), up_to(1.0, 1.0))).significant


def test_worst_change_comes_first() -> None:
    before = [row for cut in range(3) for row in group([0.80, 0.81, 0.82, 0.83], cut)]
    shifts = {0: 0.05, 1: 0.3, 2: 0.001}
    after = [
        replace(row, value=row.value - shifts[row.cell["cut"]] - 0.002 * (row.cell["repeat"] % 2))
        for row in before
    ]
    comparison = compare(before, after, up_to(0.01, 0.0))
    assert [change.cell["cut"] for change in comparison.changes] == [1, 0, 2]
    assert [change.significant for change in comparison.changes] == [True, True, False]


def test_two_rows_for_one_repeat_are_refused() -> None:
    rows = group([0.5])
    with pytest.raises(DataError, match=r"expected one row for cuts fr .* got two after; run"):
        compare(rows, rows + rows, up_to(0.0, 0.0))


def test_negative_tolerance_is_refused() -> None:
    said = r"expected finite tolerances of 0 or more, got -0.1 and 0.0 for \*; give numbers"
    with pytest.raises(DataError, match=said):
        compare([], [], up_to(-0.1, 0.0))
    with pytest.raises(DataError, match=r"got 0\.0 and inf"):
        compare([], [], up_to(0.0, math.inf))


def test_first_tolerance_that_matches_study_item_and_metric_counts() -> None:
    before = group([100.0, 101.0], metric="updates") + group([0.5, 0.6], metric="share")
    before += [replace(row, study="clusters") for row in before]
    after = [replace(row, value=row.value * 1.2) for row in before]
    tolerances = [
        Tolerance("clusters/*", 1.0, 0.0),
        Tolerance("*/fr/updates", 0.0, 0.5),
        Tolerance("*/updates", 0.0, 0.0),
    ]
    found = compare(before, after, tolerances).changes
    allowed = {(change.study, change.metric): change.tolerance for change in found}
    assert allowed == {
        ("clusters", "updates"): 1.0,
        ("clusters", "share"): 1.0,
        ("cuts", "updates"): pytest.approx(50.25),
        ("cuts", "share"): 0.0,  # no tolerance matches
    }
    assert {change.tolerance for change in compare(before, after, []).changes} == {0.0}


def test_patterns_tell_upper_from_lower_case_and_match_the_whole_name() -> None:
    before, after = group([3.0], metric="k"), group([4.0], metric="k")
    for match, holds in (("cuts/fr/k", True), ("cuts/FR/k", False), ("fr/k", False), ("*k", True)):
        comparison = compare(before, after, [Tolerance(match, 1.0, 0.0)])
        assert comparison.significant is not holds


def test_intervals_are_of_the_level_asked_for() -> None:
    before, after = group([0.5, 0.6, 0.7]), group([0.52, 0.61, 0.74])
    comparison = compare(before, after, [], level=0.8)
    assert comparison.level == 0.8
    assert only(comparison).difference == paired_difference(
        [0.52, 0.61, 0.74], [0.5, 0.6, 0.7], 0.8, step=1 / 448
    )


def drawn(generator: np.random.Generator, groups: int, repeats: int) -> list[Row]:
    chance = np.linspace(0.15, 0.95, groups)[:, None]
    spread = 0.015 * generator.standard_normal((groups, repeats))
    values = generator.binomial(448, np.clip(chance + spread, 0, 1)) / 448
    return [row for cut in range(groups) for row in group(list(values[cut]), cut)]


def test_rows_of_equal_chance_seldom_raise_an_alarm() -> None:
    generator = np.random.default_rng(0)
    alarms = sum(
        compare(drawn(generator, 40, 5), drawn(generator, 40, 5), up_to(0.0, 0.0)).significant
        for _ in range(100)
    )
    assert alarms <= 11  # 0.05 * 100 and 2.8 standard errors


def test_thousands_of_rows_take_well_under_a_second() -> None:
    generator = np.random.default_rng(0)
    before, after = drawn(generator, 700, 5), drawn(generator, 700, 5)
    start = time.perf_counter()
    assert compare(before, after, up_to(0.01, 0.0)).n_groups == 700
    assert time.perf_counter() - start < 1


# --- rows_at -----------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits of rows (0.1, then 0.2), an experiment `calm-fox` (0.3), and 0.4 uncommitted."""
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):  # set inside a git hook
        monkeypatch.delenv(name, raising=False)
    git(tmp_path, "init", "-q", "-b", "main")
    for value in (0.1, 0.2, 0.3):
        write_rows(tmp_path / "reports/cuts/runs/fr/rows.jsonl", group([value]))
        write_rows(tmp_path / "reports/adapt/runs/probe/rows.jsonl", group([value], 7))
        write_rows(tmp_path / "reports/cuts/runs/fr/old/rows.jsonl", group([9.0]))
        write_rows(tmp_path / "reports/cuts/rows.jsonl", group([9.0]))
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", str(value))
    git(tmp_path, "update-ref", f"refs/exps/ab/{'c' * 38}/calm-fox", "HEAD")
    git(tmp_path, "reset", "-q", "--hard", "HEAD~1")
    write_rows(tmp_path / "reports/cuts/runs/fr/rows.jsonl", group([0.4]))
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    author = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command: list[Any] = ["git", "-C", folder, *author, *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("revision", "values"),
    [
        (None, [0.2, 0.4]),
        ("HEAD", [0.2, 0.2]),
        ("main~1", [0.1, 0.1]),
        ("calm-fox", [0.3, 0.3]),
        (f"refs/exps/ab/{'c' * 38}/calm-fox", [0.3, 0.3]),
    ],
)
def test_rows_at_reads_a_revision_an_experiment_or_the_files(
    checkout: Path, revision: str | None, values: list[float]
) -> None:
    rows = rows_at(revision, checkout)
    assert [row.value for row in rows] == values
    assert rows[0] == group([values[0]], 7)[0]


def test_rows_at_leaves_the_checkout_as_it_was(checkout: Path) -> None:
    path = checkout / "reports/cuts/runs/fr/rows.jsonl"
    content = path.read_text()
    rows_at("main~1", checkout)
    assert path.read_text() == content


def test_rows_at_of_a_revision_without_reports_are_none(checkout: Path) -> None:
    git(checkout, "rm", "-rqf", "reports")
    git(checkout, "commit", "-q", "-m", "none")
    assert rows_at("HEAD", checkout) == []


@pytest.mark.parametrize("name", ["xyz", "--all", "HEAD:reports"])
def test_rows_at_names_an_unknown_revision(checkout: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        rows_at(name, checkout)
    assert str(caught.value) == (
        f"expected a git revision or the name of an experiment, got '{name}'; "
        "`git log` and `dvc exp list -A` show them"
    )


def test_rows_at_refuses_a_name_of_two_experiments(checkout: Path) -> None:
    git(checkout, "update-ref", f"refs/exps/ff/{'0' * 38}/calm-fox", "HEAD")
    with pytest.raises(DataError, match=r"expected one experiment named 'calm-fox', got 2; give"):
        rows_at("calm-fox", checkout)


def test_rows_at_refuses_a_folder_that_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_DIR", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(DataError, match=r"expected a git checkout, got 'fatal: not a git repo"):
        rows_at("HEAD", tmp_path)


def test_rows_at_names_the_file_of_a_line_that_is_no_row(checkout: Path) -> None:
    (checkout / "reports/cuts/runs/fr/rows.jsonl").write_text("{}\n")
    git(checkout, "commit", "-qam", "bad")
    with pytest.raises(DataError, match=r"^HEAD:reports/cuts/runs/fr/rows.jsonl:1: expected a row"):
        rows_at("HEAD", checkout)
