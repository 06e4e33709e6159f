"""The sequence study's report, from handmade rows."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carryover.config.sequence import METHODS as NAMED
from carryover.errors import DataError
from carryover.measure import streams
from carryover.measure.combined import combination_p
from carryover.measure.statistics import holm, wilson
from carryover.report import (
    sequence_differences,
    sequence_gains,
    sequence_grid,
    sequence_intervals,
    sequence_published,
    sequence_scores,
    sequence_summary,
    sequence_tables,
)
from carryover.report.sequence_intervals import LINEAR, measure
from carryover.report.sequence_scores import Run, Scores, from_rows
from carryover.report.sequence_tables import DASH
from carryover.rows import Row
from conftest import REPOSITORY
from sequence_rows import IMAGES, METHODS, ORDERS, SETS, everything, matrix, run

RELEASED = REPOSITORY / "claims/released"
FINETUNE = Run("1", "finetune", "plain")
ZERO_SHOT, JOINT = FINETUNE._replace(method="zero-shot"), FINETUNE._replace(method="joint")
ZSCL = Run("1", "zscl", "distill")


@pytest.fixture(scope="module")
def scores() -> Scores:
    return from_rows(everything())


@pytest.fixture(scope="module")
def single() -> Scores:
    return from_rows(everything(1))


@pytest.fixture(scope="module")
def published() -> Scores:
    return sequence_published.read(RELEASED)


# --- rows -----------------------------------------------------------------------------------------


def test_rows_become_a_matrix_a_seed(scores: Scores) -> None:
    assert scores.orders == ORDERS
    assert sequence_scores.seeds(scores, FINETUNE) == [0, 1, 2]
    found = sequence_scores.matrix(scores, FINETUNE, 0)
    whole = matrix("plain", "finetune", SETS)
    assert len(found) == 6 * 5
    assert found[3, 1].n == IMAGES["colours"]
    assert all(
        found[i, j + 1].value == pytest.approx(whole[i, j], abs=3e-3) for i, j in np.ndindex(6, 5)
    )
    assert len(sequence_scores.matrix(scores, JOINT, 0)) == 2 * 5


def test_what_never_trains_is_the_same_at_all_times_and_has_one_seed(scores: Scores) -> None:
    assert sequence_scores.untrained(scores, ZERO_SHOT)
    assert not sequence_scores.untrained(scores, JOINT)
    assert sequence_scores.seeds(scores, ZERO_SHOT) == [0]
    found = sequence_scores.matrix(scores, ZERO_SHOT, 0)
    assert {found[after, 2] for after in range(6)} == {found[0, 2]}


def test_runs_stand_by_order_and_method(scores: Scores) -> None:
    found = sequence_scores.by_order(sequence_scores.runs(scores))
    names = ["zero-shot", "finetune", "joint", "lwf", "zscl-star", "zscl", "zscl-lora", "wise-ft"]
    assert [each.method for each in found["2"]] == names
    assert list(found) == ["1", "2"]


def test_methods_of_the_study_have_a_place_and_a_look() -> None:
    known = {name for each in NAMED.values() for name in each}
    assert known <= set(sequence_scores.METHODS)
    looks = [tuple(sequence_grid.look(name).values()) for name in known]
    assert len(set(looks)) == len(known)


def test_rows_that_do_not_belong_together_are_refused() -> None:
    found = run("plain", "finetune")
    with pytest.raises(DataError, match=r"one preset, got \['other', 'tiny'\]"):
        from_rows([*found, replace(found[0], preset="other")])
    with pytest.raises(
        DataError, match=r"expected one test accuracy of plain .* got 0\.7 and 0\.5"
    ):
        from_rows([*found, replace(found[0], value=0.5)])
    with pytest.raises(DataError, match=r"one preset, got \[\]"):
        from_rows([])
    other = run("plain", "joint", sets=SETS[::-1])
    with pytest.raises(DataError, match="expected one set as task 1 of order 1, got colours and"):
        from_rows([*found, *other])


def test_an_axis_that_is_not_known_tells_runs_apart() -> None:
    more = [replace(each, cell=each.cell | {"train": "text"}) for each in run("plain", "finetune")]
    found = from_rows([*run("plain", "finetune"), *more])
    assert [each.name for each in sequence_scores.runs(found)] == [
        "finetune",
        "finetune, train text",
    ]


# --- intervals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LINEAR, "forgetting"])
def test_a_measure_is_that_of_the_matrix(scores: Scores, name: str) -> None:
    told = measure(scores, FINETUNE, name)
    assert told
    values = []
    for seed in range(3):
        found = sequence_scores.matrix(scores, FINETUNE, seed)
        whole = np.array([[found[i, j].value for j in range(1, 6)] for i in range(6)])
        values.append(float(getattr(streams, name)(whole)))
    assert told.value == pytest.approx(np.mean(values), abs=1e-9)
    assert told.low < told.value < told.high


def test_weights_of_a_measure_are_those_of_the_formula() -> None:
    found = sequence_intervals.weights("transfer", {}, 3)
    assert found == pytest.approx({(1, 2): 1 / 2, (1, 3): 1 / 4, (2, 3): 1 / 4})
    found = sequence_intervals.weights("backward_transfer_with_last", {}, 2)
    assert found == pytest.approx({(2, 1): 1 / 2, (1, 1): -1 / 2})


def test_one_seed_has_the_interval_of_its_images(single: Scores, scores: Scores) -> None:
    one = from_rows(run("plain", "finetune", seeds=1))
    told = measure(one, FINETUNE, "last")
    known = sequence_scores.matrix(one, FINETUNE, 0)
    halves = [wilson(round(known[5, j].value * known[5, j].n), known[5, j].n) for j in range(1, 6)]
    assert told
    below = np.hypot.reduce([each.value - each.low for each in halves]) / 5
    assert told.value - told.low == pytest.approx(below)
    several = measure(scores, FINETUNE, "last")
    assert several
    assert several.high - several.low > told.high - told.low


def test_measures_that_a_run_lacks_are_none(scores: Scores) -> None:
    assert measure(scores, JOINT, "transfer") is None
    assert measure(scores, JOINT, "last")
    assert measure(scores, ZERO_SHOT, "transfer")
    assert measure(scores, ZERO_SHOT, "forgetting") is None
    less = [each for each in run("plain", "finetune") if each.cell.get("after") != 2]
    assert measure(from_rows(less), FINETUNE, "average") is None
    assert measure(from_rows(less), FINETUNE, "last")


def test_forgetting_is_held_against_the_best_of_each_set() -> None:
    def better(each: Row) -> Row:
        place = each.metric, each.cell.get("after"), each.cell.get("task")
        return replace(each, value=0.7) if place == ("accuracy", 3, 2) else each

    found = from_rows([better(each) for each in run("plain", "finetune", seeds=1)])
    told = measure(found, FINETUNE, "forgetting")
    assert told
    known = sequence_scores.matrix(found, FINETUNE, 0)
    lost = [max(known[i, j].value for i in range(j, 5)) - known[5, j].value for j in range(1, 5)]
    assert told.value == pytest.approx(np.mean(lost))


def test_means_over_sets_are_of_those_trained_or_not(scores: Scores) -> None:
    known = sequence_scores.matrix(scores, ZERO_SHOT, 0)
    for which, tasks in (("trained", (1, 2)), ("other", (3, 4, 5)), ("all", (1, 2, 3, 4, 5))):
        told = sequence_intervals.over_sets(scores, ZERO_SHOT, 2, which)
        assert told
        assert told.value == pytest.approx(np.mean([known[0, task].value for task in tasks]))
    assert sequence_intervals.over_sets(scores, ZERO_SHOT, 0, "trained") is None
    assert sequence_intervals.over_sets(scores, JOINT, 3, "all") is None


def test_sets_outside_the_order_count_among_all_and_not_among_the_orders() -> None:
    found = from_rows(run("plain", "finetune", seeds=1, outside=("world",)))
    known = [
        each.value for at, each in sequence_scores.matrix(found, FINETUNE, 0).items() if at[0] == 5
    ]
    told = {
        w: sequence_intervals.over_sets(found, FINETUNE, 5, w) for w in ("all", "order", "other")
    }
    values = [each.value for each in told.values() if each]
    assert values == pytest.approx([np.mean([*known, 0.55]), np.mean(known), 0.55])
    assert sequence_tables.tested(found, FINETUNE) == sum(IMAGES[name] for name in SETS)


# --- differences ----------------------------------------------------------------------------------


def test_differences_are_paired_by_seed_on_the_same_images(scores: Scores, single: Scores) -> None:
    told = sequence_differences.difference(scores, ZSCL, FINETUNE, "transfer")
    mine, theirs = measure(scores, ZSCL, "transfer"), measure(scores, FINETUNE, "transfer")
    assert told
    assert told.whole
    assert mine
    assert theirs
    assert told.value == pytest.approx(mine.value - theirs.value)
    assert told.whole.high - told.whole.low < told.images.high - told.images.low
    one = sequence_differences.difference(single, ZSCL, FINETUNE, "transfer")
    assert one
    assert one.whole is None
    assert (one.p < 0.05) == (one.images.low > 0)


def test_what_draws_nothing_has_no_scatter_of_seeds(scores: Scores) -> None:
    ridge = [  # every seed alike, as the study writes it
        replace(each, cell=each.cell | {"method": "ridge", "seed": seed})
        for each in run("plain", "finetune", seeds=1)
        for seed in (0, 1, 2)
    ]
    found = from_rows([*run("plain", "zero-shot"), *run("plain", "finetune"), *ridge])
    (of_ridge,) = [each for each in sequence_scores.runs(found) if each.method == "ridge"]
    told = sequence_differences.difference(found, of_ridge, ZERO_SHOT, "last")
    assert told
    assert told.whole is None
    assert told.images.low < told.value < told.images.high
    beside = sequence_differences.difference(found, of_ridge, FINETUNE, "last")
    assert beside
    assert beside.whole


def test_the_chance_over_images_is_that_of_the_interval(single: Scores) -> None:
    for name, other in (("transfer", ZERO_SHOT), ("last", FINETUNE), ("forgetting", FINETUNE)):
        mine, theirs = (sequence_intervals.terms(single, run, 0, name) for run in (ZSCL, other))
        every = [*mine, *((outcome, -weight) for outcome, weight in theirs)]
        counts = [(round(o.value * o.n), o.n) for o, _ in every]
        slow = combination_p(
            counts, [w for _, w in every], images=sequence_intervals.image_numbers(every)
        )
        found = sequence_differences.images_p(every)
        assert found == pytest.approx(slow, rel=1e-4, abs=1e-11)
    same = [*mine, *((outcome, -weight) for outcome, weight in mine)]
    assert sequence_differences.images_p(same) == pytest.approx(1)


def test_differences_need_the_same_images(scores: Scores) -> None:
    other = [replace(each, n=7, value=round(each.value)) for each in run("distill", "zscl")]
    found = from_rows([*run("plain", "finetune"), *other])
    assert sequence_differences.difference(found, ZSCL, FINETUNE, "last") is None
    assert sequence_differences.difference(scores, ZERO_SHOT, FINETUNE, "forgetting") is None


def test_gains_are_adjusted_by_reference_and_measure(scores: Scores) -> None:
    found = sequence_gains.gains(scores)
    one = [g for g in found if (g.other.method, g.measure) == ("finetune", "last")]
    assert len(one) == 2 * 7
    assert [g.p_holm for g in one] == holm([g.difference.p for g in one])
    assert {g.run.order for g in one if g.other.order == "1"} == {"1"}
    assert sequence_gains.gains(from_rows(run("lora", "zscl-lora"))) == []


# --- the released ---------------------------------------------------------------------------------


def test_released_matrices_give_the_published_measures(published: Scores) -> None:
    wanted = {"finetune": (0.4456, 0.5585, 0.7727), "zscl": (0.6814, 0.7539, 0.8362)}
    for method, values in wanted.items():
        run = sequence_published.beside(published, published.orders["1"], method)
        assert run
        told = [measure(published, run, name) for name in ("transfer", "average", "last")]
        assert [round(each.value, 4) for each in told if each] == list(values)


def test_what_collapsed_is_left_out_and_the_thesis_is_a_line(published: Scores) -> None:
    names = {run.method for run in sequence_published.methods(published)}
    assert {"zero-shot", "zscl", "icarl"} <= names
    assert not any("imagenet" in name for name in names)
    thesis = sequence_published.same_order(published, ("dtd", "mnist", "eurosat", "flowers"))
    assert "zscl-ogd" in {run.method for run in thesis}
    told = sequence_intervals.over_sets(published, thesis[0], 4, "all")
    assert told
    assert (told.value, told.low, told.high) == (0.0475, 0.0475, 0.0475)
    assert sequence_published.beside(published, SETS, "zscl") is None


def test_a_table_that_is_not_the_released_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sequence.csv").write_text("order,method\n1,zscl\n")
    with pytest.raises(DataError, match="expected released numbers with a column correct"):
        sequence_published.read(tmp_path)


# --- tables ---------------------------------------------------------------------------------------


def lines_of(table: Any) -> dict[tuple[str, ...], dict[str, str]]:
    return {tuple(line[:2]): dict(zip(table.header, line, strict=True)) for line in table.lines}


def test_results_have_a_line_a_run(scores: Scores, single: Scores) -> None:
    table = sequence_tables.results(scores)
    found = lines_of(table)
    assert len(table.lines) == 2 * sum(map(len, METHODS.values()))
    line = found["1", "finetune"]
    assert line["forgetting"].startswith("+20.0 [")
    assert line["BWT"].startswith("-20.0 [")
    assert line["BWT with last"].startswith("-16.0 [")
    assert (line["n"], line["seeds"]) == (str(sum(IMAGES[name] for name in SETS)), "3")
    assert line["per class, last"] == "55.0"
    assert (found["1", "zero-shot"]["learned"], found["1", "zero-shot"]["seeds"]) == (DASH, DASH)
    assert found["1", "joint"]["transfer"] == DASH
    assert "test images and 3 seeds" in table.title
    assert "test images (1 seed)" in sequence_tables.results(single).title


def test_differences_show_both_intervals_with_several_seeds(scores: Scores, single: Scores) -> None:
    table = sequence_tables.differences(scores, sequence_gains.gains(scores), "finetune")
    line = lines_of(table)["1", "zscl"]
    assert line["transfer"].startswith("+9.4 [+")
    assert line["transfer, images"].startswith("[+")
    assert ("1", "finetune") not in lines_of(table)
    assert "Holm" in table.title
    few = sequence_tables.differences(single, sequence_gains.gains(single), "finetune")
    assert list(few.header) == [
        *("order", "method"),
        *(each for name in sequence_gains.MEASURES for each in (name, "p")),
    ]
    assert sequence_tables.differences(single, [], "finetune").lines == []


def test_ours_stand_beside_the_released_on_the_same_sets(scores: Scores, published: Scores) -> None:
    assert sequence_tables.beside(scores, published).lines == []
    ours = from_rows(run("plain", "finetune", sets=published.orders["1"], seeds=1))
    (line,) = lines_of(sequence_tables.beside(ours, published)).values()
    assert line["last, released"].startswith("77.3 [")
    assert line["last, ours"] != line["last, released"]


def test_training_is_told_as_it_is_in_the_rows(scores: Scores) -> None:
    found = lines_of(sequence_tables.training(scores))
    assert found["1", "zscl"]["images seen"] == "6400"
    assert ("1", "zero-shot") not in found


def test_tables_for_paper_repeat_order_and_method(scores: Scores) -> None:
    table = sequence_tables.results(scores)
    parts = sequence_tables.for_paper(table)
    assert [name for part in parts for name in part.header[2:]] == list(table.header[2:])
    assert all(len(part.header) <= 2 + sequence_tables.WIDE for part in parts)


def test_the_csv_has_plain_numbers(scores: Scores) -> None:
    found = list(csv.DictReader(io.StringIO(sequence_tables.results_csv([scores]))))
    (one,) = (line for line in found if (line["order"], line["method"]) == ("2", "joint"))
    assert (one["sets"], one["transfer"]) == (" ".join(SETS[::-1]), "")
    assert float(one["last_low"]) < float(one["last"]) == 0.72 < float(one["last_high"])
    cells = list(csv.DictReader(io.StringIO(sequence_tables.matrices_csv([scores]))))
    found = [c for c in cells if (c["order"], c["method"], c["after"]) == ("1", "joint", "5")]
    assert [c["dataset"] for c in found] == list(SETS)
    assert len([c for c in cells if c["method"] == "finetune"]) == 2 * 30


# --- the summary ----------------------------------------------------------------------------------


def test_the_summary_is_nested_by_order_and_method(scores: Scores) -> None:
    summary = json.loads(json.dumps(sequence_summary.summarise(scores)))
    found = summary["order 1"]["finetune"]
    assert found["forgetting"]["value"] == pytest.approx(0.2, abs=2e-3)
    assert set(summary["order 1"]["joint"]) == {"last", "top5_last", "per_class_last"}
    title, header, lines = sequence_summary.headline(summary)
    assert title.startswith("sequence: ")
    assert len(lines) == len(sequence_scores.runs(scores))
    assert lines[0][:2] == ["1", "zero-shot"]
    assert (lines[0][2][:6], lines[0][-1]) == ("35.0 [", "")
    assert header[2:] == ["transfer", "average", "last", "forgetting"]


def test_the_answer_counts_what_is_told_apart(scores: Scores) -> None:
    told = sequence_summary.answer(scores, sequence_gains.gains(scores))
    assert "Order 1: transfer of zero-shot 35.0 [" in told
    assert "Its best average is that of zscl, 55.6 [" in told
    assert (
        "Beside finetune, transfer is higher in 12 and lower in 0 of 12 comparisons after Holm's "
        "correction; by the intervals over test images alone in 11 and 0."
    ) in told
    assert sequence_summary.answer(from_rows(run("plain", "joint")), []) == ""


def test_the_text_names_orders_and_seeds(scores: Scores, single: Scores) -> None:
    text = sequence_summary.reading(scores, "clip-nano", ["Some setting."])
    assert "order 2: textures, shapes, letters, digits, colours" in text
    assert "one seed says nothing" not in text
    assert text.endswith("Some setting.")
    assert "one seed says nothing" in sequence_summary.reading(single, "clip-nano", [])
