"""The retrieval study's report, from handmade rows."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carryover.config.retrieval import CONTROLS as NAMED
from carryover.errors import DataError
from carryover.measure.combined import student
from carryover.measure.statistics import Interval, holm, wilson
from carryover.report import (
    retrieval_gains,
    retrieval_intervals,
    retrieval_lines,
    retrieval_names,
    retrieval_published,
    retrieval_scores,
    retrieval_summary,
    retrieval_tables,
)
from carryover.report.retrieval_intervals import accuracy, steps
from carryover.report.retrieval_scores import CLEAN, Arm, At, Scores, from_rows, number
from carryover.report.retrieval_tables import DASH
from conftest import REPOSITORY
from retrieval_rows import ARMS, CORRUPTIONS, OFF, SEVERITIES, N, everything, run

RELEASED = REPOSITORY / "claims/released/retrieval.csv"
PLACE = ("perceiver", "digits")
PLAIN = Arm(*PLACE, "none")
NEAREST = Arm(*PLACE, "knn", 10)
RANDOM = Arm(*PLACE, "sampled", 10)


@pytest.fixture(scope="module")
def scores() -> Scores:
    return from_rows(everything())


@pytest.fixture(scope="module")
def single() -> Scores:
    return from_rows(everything(1))


@pytest.fixture(scope="module")
def printed() -> list[retrieval_published.Printed]:
    return retrieval_published.read(RELEASED)


# --- rows -----------------------------------------------------------------------------------------


def test_rows_become_numbers_by_arm_place_and_seed(scores: Scores) -> None:
    assert len(retrieval_scores.arms(scores, PLACE)) == len(ARMS)
    assert retrieval_scores.places(scores) == [PLACE, ("resnet18", "digits")]
    found = number(scores, PLAIN, "accuracy", At(0.5))
    wanted = [0.1 + (0.93 + off / 2 - 0.1) * (1 - 0.5) for off in OFF]
    assert [each.value for each in found.values()] == pytest.approx(wanted, abs=1e-3)
    assert list(found) == [0, 1, 2]
    assert {each.n for each in found.values()} == {N}
    assert number(scores, PLAIN, "accuracy", At(0.4)) == {}


def test_no_entries_are_no_k() -> None:
    (row,) = [each for each in run("resnet18", "none", None, "none", 1) if each.metric == "area"]
    same = replace(row, cell=row.cell | {"k": 0})
    assert list(from_rows([row, same]).numbers) == [Arm("resnet18", "digits", "none")]


def test_the_main_arm_is_the_one_that_most_is_known_of(scores: Scores) -> None:
    assert retrieval_scores.main(scores, PLACE, "knn") == NEAREST
    assert retrieval_scores.main(scores, PLACE, "sampled") == RANDOM
    less = from_rows(run("resnet18", "none", None, "none"))
    assert retrieval_scores.main(less, ("resnet18", "digits"), "knn") is None


def test_rows_that_do_not_belong_together_are_refused() -> None:
    found = run("resnet18", "none", None, "none")
    with pytest.raises(DataError, match=r"one preset, got \['other', 'tiny'\]"):
        from_rows([*found, replace(found[0], preset="other")])
    with pytest.raises(DataError, match=r"one test accuracy of resnet18 .* got 0\.9\d+ and 0\.5"):
        from_rows([*found, replace(found[0], value=0.5)])
    with pytest.raises(DataError, match=r"expected the axes access, .* got depth"):
        from_rows([replace(found[0], cell=found[0].cell | {"depth": 1})])
    with pytest.raises(DataError, match=r"one preset, got \[\]"):
        from_rows([])


def test_a_training_that_diverged_is_named(scores: Scores) -> None:
    assert retrieval_lines.diverged_said(scores) == ""
    flags = [
        replace(each, metric="diverged", value=float(each.cell["seed"] == 1))
        for each in run("resnet18", "none", None, "none")
        if each.metric == "lr"
    ]
    told = from_rows([*everything(), *flags])
    said = retrieval_lines.diverged_said(told)
    assert said.startswith("Diverged: resnet18, digits, plain (1 of 3 seeds). From there on")
    assert said in retrieval_tables.results(told).title
    assert said in retrieval_summary.reading(told, [])
    assert not retrieval_tables.results(scores).title.endswith(" ")
    line = lines_of(retrieval_tables.training(told))["resnet18", "plain"]
    assert line["diverged"] == "0.3333333333"


# --- names ----------------------------------------------------------------------------------------


def test_arms_are_named_by_what_they_change() -> None:
    named = {
        PLAIN: "plain",
        NEAREST: "nearest 10",
        RANDOM: "random 10",
        NEAREST._replace(control="zeros"): "memory of zeros",
        RANDOM._replace(control="zeros"): "memory of zeros (random 10)",
        NEAREST._replace(control="vote", k=5): "vote of the nearest 5",
        NEAREST._replace(control="memory-20"): "memory of 20 a class",
        NEAREST._replace(control="other-thing"): "other-thing",
    }
    assert {arm: retrieval_names.name(arm) for arm in named} == named
    twice = [NEAREST._replace(control="zeros", k=k) for k in (5, 10)]
    assert retrieval_names.name(twice[0], twice) == "memory of zeros (nearest 5)"


def test_controls_of_the_study_have_a_name() -> None:
    assert set(NAMED) - {"memory-sizes"} <= set(retrieval_names.CONTROLS)


def test_the_guide_names_arms_as_the_report_does() -> None:
    guide = (REPOSITORY / "docs/retrieval.md").read_text()
    table = guide.split("## Arms\n")[1].strip().split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:4]] for line in table]
    told = {control.strip("`"): name for access, control, name in cells if control != "`none`"}
    sized = retrieval_names.name(NEAREST._replace(control="memory-5")).replace("5", "N")
    assert told.pop("memory-sizes") == sized
    assert told.pop("vote") == retrieval_names.name(NEAREST._replace(control="vote"))[:-2] + "k"
    assert told == {
        control: name
        for control, (_, name) in retrieval_names.CONTROLS.items()
        if control not in ("none", "vote")
    }


def test_arms_stand_by_access_plain_ones_first(scores: Scores) -> None:
    found = retrieval_names.ordered(retrieval_scores.arms(scores, PLACE)[::-1])
    names = [retrieval_names.name(arm) for arm in found]
    assert names[:2] == ["plain", "as many parameters added"]
    assert names[-2:] == ["random 10", "entry 0 alone"]
    assert names.index("nearest 5") < names.index("nearest 30") < names.index("memory of zeros")
    sizes = [name for name in names if name.startswith("memory of ") and name.endswith("class")]
    assert sizes == ["memory of 5 a class", "memory of 20 a class"]


# --- intervals ------------------------------------------------------------------------------------


def test_an_accuracy_has_the_interval_of_images_and_seeds(scores: Scores, single: Scores) -> None:
    one, several = accuracy(single, PLAIN), accuracy(scores, PLAIN)
    assert one
    assert several
    whole = wilson(round(number(single, PLAIN, "accuracy")[0].value * N), N)
    assert (one.low, one.high) == pytest.approx((whole.low, whole.high))
    assert several.high - several.low > one.high - one.low
    assert accuracy(scores, PLAIN, At(0.4)) is None


def test_losses_and_calibration_errors_have_no_bound_below_0() -> None:
    values = [0.01, 0.02, 0.09]  # mean 0.04; Student's half 4.303 * 0.04359 / sqrt(3) = 0.1083
    for metric in ("nll", "ece", "curve_loss"):
        told = retrieval_intervals.alone(metric, values)
        assert told.value == pytest.approx(0.04)
        assert told.low == pytest.approx(0.04 * math.exp(-0.10828 / 0.04), rel=1e-3)
        assert told.high == pytest.approx(0.04 * math.exp(0.10828 / 0.04), rel=1e-3)
    assert retrieval_intervals.alone("area", values).low < 0
    near = retrieval_intervals.alone("nll", [1.0, 1.001, 0.999])
    plain = retrieval_intervals.alone("area", [1.0, 1.001, 0.999])
    assert (near.low, near.high) == pytest.approx((plain.low, plain.high), abs=1e-5)
    assert retrieval_intervals.alone("ece", [0.0, 0.0]) == Interval(0.0, 0.0, 0.0)
    assert retrieval_intervals.alone("ece", [0.2]) == Interval(0.2, 0.2, 0.2)


def test_corruptions_are_averaged_over_the_same_images(scores: Scores) -> None:
    told = retrieval_intervals.corrupted(scores, PLAIN)
    assert told
    every = [
        number(scores, PLAIN, "corrupted_accuracy", At(0.0, None, name, severity))[seed].value
        for name in CORRUPTIONS
        for severity in SEVERITIES
        for seed in range(3)
    ]
    assert told.value == pytest.approx(np.mean(every))
    hardest = retrieval_intervals.corrupted(scores, PLAIN, 5)
    assert hardest
    assert hardest.value < told.value
    assert told.high - told.low > 2 * 0.02  # not that of twelve times as many images


def test_steps_are_a_geometric_mean_over_seeds(scores: Scores) -> None:
    told = steps(scores, NEAREST._replace(control="memory-5", item="resnet18"))
    assert told
    values = [value for value, _ in told.each]
    assert len(set(values)) > 1
    logs = student([math.log(value) for value in values])[0]
    assert told.interval.value == pytest.approx(math.prod(values) ** (1 / 3))
    assert told.interval.high == pytest.approx(math.exp(logs.high))
    assert (told.bound, told.reached, told.of) == (False, 3, 3)


def test_steps_that_never_came_are_a_bound_without_an_interval(scores: Scores) -> None:
    told = steps(scores, NEAREST._replace(control="shuffled", item="resnet18"))
    assert told
    assert (told.bound, told.reached, told.of) == (True, 1, 3)
    assert told.interval.low == told.interval.high == told.interval.value
    assert told.each[1] == (240.0, False)
    assert retrieval_tables.reached(told) == "at least 210 (1 of 3 there)"
    assert steps(scores, NEAREST._replace(control="vote")) is None


def test_differences_are_paired_by_seed(scores: Scores, single: Scores) -> None:
    told = retrieval_intervals.difference(scores, NEAREST, PLAIN)
    assert told
    assert told.interval.value == pytest.approx(0.015, abs=1e-3)
    assert told.interval.high - told.interval.low < 0.01
    assert told.seeds == 3
    one = retrieval_intervals.difference(single, NEAREST, PLAIN)
    assert one
    assert one.interval.high - one.interval.low > 0.02  # over images alone
    assert retrieval_intervals.difference(single, NEAREST, PLAIN, "area") is None
    area = retrieval_intervals.difference(scores, NEAREST, PLAIN, "area")
    assert area
    values = [
        number(scores, NEAREST, "area")[s].value - number(scores, PLAIN, "area")[s].value
        for s in range(3)
    ]
    assert area.interval == student(values)[0]


def test_other_test_images_are_not_compared() -> None:
    mine = run("resnet18", "knn", 10, "none")
    other = [replace(each, n=7) for each in run("resnet18", "none", None, "none")]
    found = from_rows([*mine, *(each for each in other if each.metric == "area")])
    nearest, plain = (arm._replace(item="resnet18") for arm in (NEAREST, PLAIN))
    assert retrieval_intervals.difference(found, nearest, plain, "area") is None


def test_noise_costs_what_is_lost(scores: Scores) -> None:
    told = retrieval_intervals.noise_cost(scores, PLAIN, 0.5)
    assert told
    clean, noisy = accuracy(scores, PLAIN), accuracy(scores, PLAIN, At(0.5))
    assert clean
    assert noisy
    assert told.interval.value == pytest.approx(clean.value - noisy.value)
    assert retrieval_intervals.noise_cost(scores, PLAIN, 0.4) is None


def test_gains_are_adjusted_by_reference_and_measure(scores: Scores) -> None:
    found = retrieval_gains.gains(scores)
    for item in ("resnet18", "perceiver"):
        about = ("plain", "accuracy", item)
        one = [g for g in found if (g.reference, g.measure, g.arm.item) == about]
        assert len(one) == len(ARMS) - 1
        assert [g.p_holm for g in one] == holm([g.difference.p for g in one])
    assert not [
        g for g in found if g.reference == "nearest" and g.arm.access == "none" == g.arm.control
    ]
    assert {g.other for g in found if g.reference == "nearest" and g.arm.item == "perceiver"} == {
        NEAREST
    }
    assert all(g.arm != g.other for g in found)


# --- the published --------------------------------------------------------------------------------


def test_published_numbers_are_read_with_their_blur(
    printed: list[retrieval_published.Printed],
) -> None:
    baseline = Arm("resnet18", "cifar10", "none")
    (found,) = [e for e in printed if (e.arm, e.metric) == (baseline, "accuracy")]
    assert (found.value, found.plus_minus, found.at) == (0.9582, 0.0058, CLEAN)
    curves = {e.at.step for e in printed if e.metric == "running_max_accuracy"}
    assert curves == {0, 300, 5000, 10000, 46700}
    same = retrieval_published.scores(RELEASED)
    assert number(same, baseline, "accuracy")[0] == (0.9582, 0)


def test_a_table_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "retrieval.csv").write_text("item,value\nresnet18,1\n")
    with pytest.raises(DataError, match="published numbers with a column plus_minus"):
        retrieval_published.read(tmp_path / "retrieval.csv")


# --- tables ---------------------------------------------------------------------------------------


def lines_of(table: Any) -> dict[tuple[str, ...], dict[str, str]]:
    found = {}
    for line in table.lines:
        found[line[0], line[2]] = dict(zip(table.header, line, strict=True))
    return found


def test_results_have_a_line_an_arm(scores: Scores, single: Scores) -> None:
    table = retrieval_tables.results(scores)
    found = lines_of(table)
    assert len(table.lines) == len(found) == 2 * len(ARMS)
    line = found["perceiver", "nearest 10"]
    assert line["accuracy"].startswith("94.4 [92.")
    assert (line["steps to 80 %"], line["n"], line["seeds"]) == ("40", "898", "3")
    vote = found["perceiver", "vote of the nearest 10"]
    assert (vote["steps to 80 %"], vote["area"]) == (DASH, DASH)
    assert found["resnet18", "shuffled memory"]["steps to 80 %"] == "at least 210 (1 of 3 there)"
    assert "898 test images and 3 seeds" in table.title
    assert "898 test images (1 seed)" in retrieval_tables.results(single).title


def test_noise_has_a_column_a_level_and_what_is_lost(scores: Scores) -> None:
    table = retrieval_tables.noises(scores)
    assert list(table.header[3:]) == ["0", "0.1", "0.2", "0.3", "0.5", "lost"]
    line = lines_of(table)["perceiver", "plain"]
    assert line["0.5"].startswith("51.4 [")
    assert line["lost"].startswith("+41.5 [+")


def test_differences_name_their_reference(scores: Scores, single: Scores) -> None:
    found = retrieval_gains.gains(scores)
    table = retrieval_tables.differences(scores, found, "nearest")
    assert "minus nearest 10" in table.title
    assert "over seeds, paired, on the same test images" in table.title
    line = lines_of(table)["perceiver", "memory of zeros"]
    assert line["accuracy"].startswith("-2.0 [-2.")
    assert lines_of(table)["perceiver", "probe of the features"]["area"] == DASH
    assert ("perceiver", "nearest 10") not in lines_of(table)
    few = retrieval_tables.differences(single, retrieval_gains.gains(single), "plain")
    assert "over test images, as if the two were tested on different ones" in few.title


def test_ours_stand_beside_the_published_on_the_same_set(
    scores: Scores, printed: list[retrieval_published.Printed]
) -> None:
    table = retrieval_tables.beside(scores, printed)
    assert len(table.lines) == len(printed)
    assert {line[-1] for line in table.lines} == {DASH}
    rows = [
        replace(each, cell=each.cell | {"dataset": "cifar10"})
        for each in run("resnet18", "none", None, "none")
    ]
    same = retrieval_tables.beside(from_rows(rows), printed)
    ours = {(line[2], line[3]): line[-1] for line in same.lines if line[-1] != DASH}
    assert list(ours) == [("plain, step 0", "running max accuracy"), ("plain", "accuracy")]
    assert ours["plain", "accuracy"].startswith("92.9 [")
    (line,) = [
        line for line in same.lines if line[2:4] == ["plain", "accuracy"] and "5.82" in line[4]
    ]
    assert line[4:6] == ["95.82 %", "0.58 %"]


def test_training_is_told_as_it_is_in_the_rows(scores: Scores) -> None:
    found = lines_of(retrieval_tables.training(scores))
    assert found["perceiver", "nearest 10"]["trained numbers"] == "1000000"
    assert found["perceiver", "plain"]["updates"] == "240"
    assert ("perceiver", "probe of the features") not in found


def test_tables_for_paper_repeat_item_and_arm(scores: Scores) -> None:
    table = retrieval_tables.results(scores)
    parts = retrieval_tables.for_paper(table)
    assert [name for part in parts for name in part.header[3:]] == list(table.header[3:])
    assert all(len(part.header) <= 3 + retrieval_tables.WIDE for part in parts)


def test_the_csv_has_every_number(scores: Scores) -> None:
    found = list(csv.DictReader(io.StringIO(retrieval_tables.cells_csv([scores]))))
    wanted = {"item": "perceiver", "access": "knn", "k": "10", "control": "none"}
    mine = [line for line in found if wanted.items() <= line.items()]
    (one,) = [each for each in mine if (each["metric"], each["noise"]) == ("accuracy", "0.5")]
    assert float(one["low"]) < float(one["mean"]) < float(one["high"])
    assert (one["seeds"], one["images"], one["step"]) == ("3", str(N), "")
    assert {each["severity"] for each in mine if each["corruption"] == "jpeg"} == {"1", "3", "5"}
    gained = retrieval_tables.gains_csv(retrieval_gains.gains(scores))
    lines = list(csv.DictReader(io.StringIO(gained)))
    assert {line["minus"] for line in lines} == {"plain", "nearest"}
    assert all(float(line["p"]) <= float(line["p_holm"]) for line in lines)


# --- the summary ----------------------------------------------------------------------------------


def test_the_summary_is_nested_by_item_and_arm(scores: Scores) -> None:
    summary = json.loads(json.dumps(retrieval_summary.summarise(scores)))
    found = summary["resnet18, digits"]["shuffled memory"]
    assert found["reached_080"] == {"value": pytest.approx(1 / 3, abs=1e-6)}
    assert found["steps_to_080"] == {"value": pytest.approx(210, abs=1), "censored": 2}
    exact = summary["perceiver, digits"]["nearest 10"]["steps_to_080"]
    assert exact == {"value": 40, "low": 40, "high": 40, "censored": 0}
    assert found["accuracy, noise 0.5"]["value"] < found["accuracy"]["value"]
    assert {"area", "ece", "nll", "corrupted_accuracy"} <= set(found)
    title, header, lines = retrieval_summary.headline(summary)
    assert title.startswith("retrieval: ")
    assert len(lines) == 2 * len(ARMS)
    by_name = {tuple(line[:2]): line for line in lines}
    assert by_name["resnet18, digits", "shuffled memory"][3] == "at least 210"
    assert by_name["perceiver, digits", "nearest 10"][3] == "40"
    assert by_name["perceiver, digits", "probe of the features"][3:] == ["", ""]
    assert header[2:] == ["accuracy", "steps to 80 %", "area"]


def test_the_answer_says_what_is_gained_and_what_of_it_stays(scores: Scores) -> None:
    told = retrieval_summary.answer(scores, retrieval_gains.gains(scores))
    assert "perceiver on digits: accuracy of plain 92.9 [" in told
    assert "vote of the nearest 10 88.9 [" in told
    assert "probe of the features 89.9 [" in told
    best = "Above probe of the features, which trains no network (89.9 %): nearest 10 and plain."
    assert best in told
    assert "Nearest 10 minus plain: area +24.1 [+23.1, +25.0] points (p " in told
    assert "Updates until 80 % were right: 240 without, 40 with retrieval." in told
    assert "memory of zeros 59.6 [" in told
    assert "Noise of deviation 0.1 costs plain +8.2 [" in told
    alone = from_rows(run("resnet18", "none", None, "none"))
    assert retrieval_summary.answer(alone, []) == ""


def test_a_gain_has_its_p_alone_and_corrected(single: Scores) -> None:
    found = retrieval_gains.gains(single)
    told = retrieval_summary.answer(single, found)
    assert "Nearest 10 minus plain: accuracy +1." in told
    measured = {(gain.measure, gain.reference) for gain in found}
    assert ("accuracy", "plain") in measured
    assert "after Holm's correction for all arms)." in told


def test_the_text_names_items_and_seeds(scores: Scores, single: Scores) -> None:
    text = retrieval_summary.reading(scores, ["Some setting."])
    assert "(perceiver, digits; resnet18, digits)" in text
    assert "one seed says nothing" not in text
    assert text.endswith("Some setting.")
    assert "one seed says nothing" in retrieval_summary.reading(single, [])
