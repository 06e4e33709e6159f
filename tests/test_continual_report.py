"""The continual study's report, from handmade rows."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carryover import run as runner
from carryover.config import params as config
from carryover.config.continual import Continual
from carryover.config.continual_arms import Arm, HeadEntry, Protocol
from carryover.errors import DataError
from carryover.measure import streams
from carryover.measure.statistics import Interval, holm, wilson
from carryover.report import (
    continual_gains,
    continual_intervals,
    continual_paired,
    continual_published,
    continual_scores,
    continual_summary,
    continual_tables,
    figures,
    stored,
)
from carryover.report.continual_scores import At, Run, Scores, from_rows
from carryover.rows import Row, write_rows
from carryover.studies import continual_report
from conftest import REPOSITORY, TINY
from continual_rows import ARMS, answers_of, everything, features, matrix, row, run, untrained

RELEASED = REPOSITORY / "claims/released/continual.csv"
NAIVE = Run(
    *("s-digits", "ci-5", "frozen", "flava-nano", "tokens", "mlp"), rest="", strategy="naive"
)
CHILDREN = NAIVE._replace(item="partly", rest="freeze children-2")


@pytest.fixture(scope="module")
def scores() -> Scores:
    return from_rows(everything())


@pytest.fixture(scope="module")
def single() -> Scores:
    return from_rows(everything(1))


@pytest.fixture(scope="module")
def published() -> Scores:
    return continual_published.read(RELEASED)


# --- rows -----------------------------------------------------------------------------------------


def test_rows_become_numbers_by_run_and_moment(scores: Scores) -> None:
    found = continual_scores.numbers(scores, NAIVE, "test", "task_accuracy")
    assert found[At(experience=4, task=0)] == {0: (0.22, 72), 1: (0.24, 72), 2: (0.2, 72)}
    assert continual_scores.numbers(scores, NAIVE, "test", "forgetting")[At()][0].value == 0.3
    assert CHILDREN in scores.numbers  # what no other axis says
    assert continual_scores.arm(CHILDREN) == "partly: tokens, mlp, freeze children-2"
    assert continual_scores.seeds(scores, NAIVE) == [0, 1, 2]
    assert continual_scores.last(scores, NAIVE) == 4


def test_runs_stand_by_stream_protocol_what_trains_and_strategy(scores: Scores) -> None:
    found = continual_scores.runs(scores)
    assert list(continual_scores.places(found)) == [
        *(("s-digits", "ni-3"), ("s-digits", "ci-5"), ("s-letters", "rotated-2"))
    ]
    assert [each.strategy for each in found[:4]] == ["naive", "ewc", "replay", "joint"]
    assert [each.item for each in found[:20:4]] == [
        *("frozen", "frozen", "partly", "partly", "unfrozen")
    ]
    assert [each.features for each in found[:20:4]][:2] == ["tokens", "cls"]
    assert len(found) == 3 * 5 * 4  # neither probes nor encoders as loaded


def test_rows_that_do_not_belong_together_are_refused() -> None:
    found = run("frozen", "s-digits", "ni-3", "naive")
    with pytest.raises(DataError, match=r"one preset, got \['other', 'tiny'\]"):
        from_rows([*found, replace(found[0], preset="other")])
    with pytest.raises(
        DataError, match=r"expected one test accuracy of frozen .* got 0\.1 and 0\.5"
    ):
        from_rows([*found, replace(found[0], value=0.5)])
    with pytest.raises(DataError, match=r"one preset, got \[\]"):
        from_rows([])


def test_chance_is_of_the_classes_that_are_told_apart() -> None:
    task = NAIVE._replace(protocol="ti-5")
    plain, masked = from_rows(features()), from_rows(features(), ["ti-5"])
    assert continual_scores.chance(plain, NAIVE) == 0.1
    assert continual_scores.chance(plain, task) == 0.1
    assert continual_scores.chance(masked, task) == 0.5
    assert continual_scores.chance(plain, NAIVE._replace(stream="my-birds")) is None


def test_the_least_loss_after_a_sigmoid_is_that_of_the_specification() -> None:
    assert continual_scores.floor(NAIVE) == pytest.approx(1.4612, abs=5e-5)
    assert continual_scores.floor(NAIVE._replace(stream="s-cub-200")) == pytest.approx(
        4.3069, abs=5e-5
    )
    assert continual_scores.floor(NAIVE._replace(stream="my-birds")) is None


# --- intervals ------------------------------------------------------------------------------------


def test_an_accuracy_varies_with_images_and_seeds(scores: Scores, single: Scores) -> None:
    told = continual_intervals.accuracy(scores, NAIVE, 4)
    one = continual_intervals.accuracy(single, NAIVE, 4)
    alone = wilson(round(0.46 * 360), 360)
    assert told
    assert one
    assert told.value == pytest.approx(0.46)
    assert one.low == pytest.approx(alone.low, abs=2e-3)
    assert told.low < one.low < one.high < told.high
    assert continual_intervals.accuracy(scores, NAIVE, 9) is None


def test_ends_of_a_stream_are_those_of_its_matrix(scores: Scores) -> None:
    whole = matrix("frozen", "ci-5", "naive", 5, 0.0)
    for metric, measure in (
        ("forgetting", streams.forgetting),
        ("backward_transfer", streams.backward_transfer),
    ):
        told = continual_intervals.end(scores, NAIVE, metric)
        assert told
        assert told.value == pytest.approx(float(measure(whole)))
        assert told.low < told.value < told.high
        assert told.high - told.low < 0.05  # the three seeds forget the same
    forward = continual_intervals.end(scores, NAIVE, "forward_transfer")
    assert forward
    assert forward.value == pytest.approx(0.0)


def test_one_seed_has_an_interval_over_images_if_the_matrix_is_there() -> None:
    found = run("frozen", "s-digits", "ci-5", "naive", seeds=1)
    told = continual_intervals.end(from_rows(found), NAIVE, "forgetting")
    assert told
    assert told.high - told.low > 0.1
    chunks = from_rows(run("frozen", "s-digits", "ni-3", "naive", seeds=1))
    own = continual_intervals.end(chunks, NAIVE._replace(protocol="ni-3"), "stream_forgetting")
    assert own
    assert own.value == pytest.approx(-0.1)
    assert own.low < -0.1 < own.high
    bare = from_rows([each for each in found if each.metric != "task_accuracy"])
    told = continual_intervals.end(bare, NAIVE, "forgetting")
    assert told
    assert told.low == told.high == 0.3
    joint = from_rows(run("frozen", "s-digits", "ci-5", "joint"))
    assert continual_intervals.end(joint, NAIVE._replace(strategy="joint"), "forgetting") is None


def test_photographs_that_every_domain_repeats_count_once() -> None:
    place = NAIVE._replace(stream="s-letters", protocol="rotated-2")
    found = run("frozen", *place[:2], "naive", seeds=1)
    plain, once = from_rows(found), from_rows(found, repeated=["rotated-2"])
    for scores, n in ((plain, 720), (once, 360)):
        told = continual_intervals.accuracy(scores, place, 1)
        alone = wilson(round(0.64 * n), n)
        assert told
        assert told.value == pytest.approx(0.64)
        assert told.high - told.low == pytest.approx(alone.high - alone.low, abs=1e-3)
    own = At(experience=1, task=0)
    for metric in ("accuracy", "task_accuracy"):  # n of the rows stays
        at = own if metric == "task_accuracy" else At(experience=1)
        assert plain.numbers[place]["test", metric][at] == once.numbers[place]["test", metric][at]
    one, same = (
        continual_intervals.of(scores, place, "test", "task_accuracy", own)
        for scores in (plain, once)
    )
    assert one == same  # a domain shows each photograph once
    ni = NAIVE._replace(protocol="ni-3")
    chunks = run("frozen", *ni[:2], "naive")
    plain, once = from_rows(chunks), from_rows(chunks, repeated=["rotated-2"])
    assert continual_intervals.accuracy(plain, ni, 2) == continual_intervals.accuracy(once, ni, 2)


def test_a_diverged_run_has_as_many_photographs_as_others_of_its_stream() -> None:
    place = NAIVE._replace(stream="s-letters", protocol="rotated-2")
    found = run("frozen", *place[:2], "naive", seeds=1)
    cell = {axis: value for axis, value in found[0].cell.items() if axis != "experience"}
    cell |= {"strategy": "ewc", "experience": 1}
    failed = [*found, row("frozen", cell, "test", "accuracy", 0.1, 720)]
    told = continual_intervals.accuracy(
        from_rows(failed, repeated=["rotated-2"]), place._replace(strategy="ewc"), 1
    )
    alone = wilson(36, 360)
    assert told
    assert told.high - told.low == pytest.approx(alone.high - alone.low)


def test_forgetting_of_repeated_photographs_errs_with_them() -> None:
    place = NAIVE._replace(protocol="rotated-3")
    found = run("frozen", "s-digits", "rotated-3", "naive", seeds=1)
    one, same = (
        continual_intervals.end(from_rows(found, repeated=names), place, "forgetting")
        for names in ([], ["rotated-3"])
    )
    assert one
    assert same
    assert one.value == same.value
    assert same.high - same.low > 1.2 * (one.high - one.low)


def test_losses_vary_with_seeds_alone_and_not_with_one(scores: Scores, single: Scores) -> None:
    told = continual_intervals.of(scores, NAIVE, "train", "epoch_loss", At(0, epoch=0))
    assert told
    assert told.low < told.value < told.high
    told = continual_intervals.of(single, NAIVE, "train", "train_accuracy", At(0))
    assert told
    assert told.low == told.value == told.high


# --- gains ----------------------------------------------------------------------------------------


def test_gains_are_paired_with_the_frozen_run_of_the_same_head(scores: Scores) -> None:
    found = continual_gains.gains(scores)
    items = [gain for gain in found if gain.axis == "item"]
    assert len(items) == 3 * 3 * 4  # two partly frozen arms and an unfrozen one
    by_run = {gain.run: gain for gain in items}
    assert by_run[CHILDREN].other == NAIVE
    assert by_run[CHILDREN].difference.value == pytest.approx(0.08)
    assert [gain.p_holm for gain in items] == holm([gain.p for gain in items])
    names = {gain.run.strategy for gain in found if gain.axis == "strategy"}
    assert names == {"ewc", "replay", "joint"}


def test_runs_on_other_images_or_with_nothing_beside_them_have_no_gain() -> None:
    ours = run("frozen", "s-digits", "ni-3", "naive")
    other = [replace(each, n=7) for each in run("unfrozen", "s-digits", "ni-3", "naive")]
    assert continual_gains.gains(from_rows([*ours, *other])) == []
    assert continual_gains.gains(from_rows(other)) == []


# --- the published --------------------------------------------------------------------------------


def test_the_published_stand_beside_the_same_stream_and_arm(published: Scores) -> None:
    ours, scores = NAIVE._replace(stream="s-mnist", protocol="ni-3"), from_rows(features())
    other = continual_published.beside(published, scores, ours)
    assert other
    assert other.encoder == "flava-full"
    told = continual_intervals.accuracy(published, other, 2)
    assert told
    assert told.value == 0.9762
    assert told.low < 0.9762 < told.high
    assert continual_published.beside(published, scores, NAIVE) is None
    names = {each.strategy for each in continual_published.of_arm(published, scores, ours)}
    assert names == {"naive", "ewc", "replay"}
    masked = from_rows(features(), ["ni-3"])
    assert continual_published.of_arm(published, masked, ours) == []


def test_a_table_that_is_not_the_released_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "continual.csv"
    path.write_text("item,cell\nfrozen,stream\n")
    with pytest.raises(DataError, match="expected released numbers"):
        continual_published.read(path)


# --- tables ---------------------------------------------------------------------------------------


def by_run(table: Any) -> dict[tuple[str, ...], dict[str, str]]:
    return {tuple(line[:5]): dict(zip(table.header, line, strict=True)) for line in table.lines}


def test_results_have_a_line_a_run(scores: Scores, single: Scores) -> None:
    table = continual_tables.results(scores)
    assert len(table.lines) == len(continual_scores.runs(scores))
    found = by_run(table)
    head = "tokens, mlp (flava-nano)"
    line = found["s-digits", "ci-5", "frozen", head, "replay"]
    assert line["accuracy"].startswith("62.0 [")
    assert line["chance"] == "10.0"
    assert line["average"].startswith("62.0 [")
    assert line["forgetting"].startswith("+10.0 [")
    assert line["BWT"].startswith("-10.0 [")
    assert (line["train, current"], line["train, replayed"]) == ("72.0", "99.0")
    assert line["train, all shown"] == "85.5"
    assert (line["one class"], line["diverged"], line["lr"]) == ("0", "0", "0.05")
    assert (line["test images"], line["seeds"]) == ("360", "3")
    joint = found["s-digits", "ni-3", "frozen", head, "joint"]
    assert joint["forgetting"] == joint["train, replayed"] == continual_tables.DASH
    assert "Preset tiny" in table.title
    assert "test images and 3 seeds" in table.title
    assert "test images (1 seed)" in continual_tables.results(single).title


def test_differences_say_what_they_are_held_against(scores: Scores, single: Scores) -> None:
    found = continual_gains.gains(scores)
    table = continual_tables.differences(scores, found, "item")
    assert "minus that of the frozen encoder" in table.title
    assert "Holm" in table.title
    assert table.lines[0][-3].startswith("+8.0 [")
    assert table.lines[0][-1] == "seeds"  # from rows alone
    assert "naive training" in continual_tables.differences(scores, found, "strategy").title
    few = continual_tables.differences(single, continual_gains.gains(single), "item")
    assert "test images (1 seed)" in few.title


def test_probes_stand_beside_the_published_ones(scores: Scores, published: Scores) -> None:
    table = continual_tables.logistic(scores, published)
    ours = [line for line in table.lines if line[0] == "ours"]
    assert [line[4] for line in ours] == ["train", "validation", "test"]
    assert ours[0][5] == "95.0"  # fitted on these images, so without an interval
    told = wilson(315, 360)
    assert ours[2][5:] == [f"87.5 [{100 * told.low:.1f}, {100 * told.high:.1f}]", "360"]
    cifar = [line for line in table.lines if line[:2] == ["published", "cifar-10"]]
    assert [line[-1] for line in cifar] == ["10000", "10000"]


def test_ours_stand_beside_the_published_after_each_experience(
    scores: Scores, published: Scores
) -> None:
    mnist = from_rows(run("frozen", "s-mnist", "ni-3", "replay"))
    table = continual_tables.beside(mnist, published)
    assert [line[5] for line in table.lines] == ["0", "1", "2"]
    last = dict(zip(table.header, table.lines[2], strict=True))
    assert last["published, test"].startswith("97.1 [")
    assert last["published, training"] == "98.6"
    assert last["ours, test"].startswith("70.0 [")
    assert continual_tables.beside(scores, published).lines == []


def test_tables_for_paper_repeat_what_tells_lines_apart(scores: Scores) -> None:
    table = continual_tables.results(scores)
    parts = continual_tables.for_paper(table)
    own = len(continual_tables.KEYS)
    assert [name for part in parts for name in part.header[own:]] == list(table.header[own:])
    assert all(tuple(part.header[:own]) == continual_tables.KEYS for part in parts)
    assert all(len(part.header) <= own + continual_tables.WIDE for part in parts)


def test_the_csv_has_plain_numbers(scores: Scores) -> None:
    lines = list(csv.DictReader(io.StringIO(continual_tables.results_csv([scores]))))
    assert len(lines) == len(continual_scores.runs(scores))
    (one,) = (
        line
        for line in lines
        if (line["protocol"], line["rest"], line["strategy"])
        == ("ci-5", "freeze children-2", "replay")
    )
    assert (one["accuracy"], one["chance"], one["experiences"]) == ("0.7", "0.1", "5")
    assert float(one["accuracy_low"]) < 0.7 < float(one["accuracy_high"])
    assert (one["train_accuracy_replayed"], one["trained_parameters"]) == ("0.99", "1000.0")


# --- the summary ----------------------------------------------------------------------------------


def test_the_summary_is_nested_by_stream_arm_and_strategy(scores: Scores) -> None:
    summary = json.loads(json.dumps(continual_summary.summarise(scores)))
    found = summary["s-digits ci-5"]["partly tokens mlp flava-nano freeze children-2"]["naive"]
    assert found["accuracy"]["value"] == 0.54
    assert found["forgetting"]["value"] == 0.3
    assert found["least_cka"] == pytest.approx(1 - 0.06 * 5 * 2 / 3 * 1.1)
    assert summary["features"] == {
        "digits flava-nano cls": {"train": 0.95, "validation": 0.9, "test": 0.875}
    }
    assert summary["untrained"] == {"s-digits": {"least_cka": 1.0}}
    title, header, lines = continual_summary.headline(summary)
    assert len(lines) == len(continual_scores.runs(scores))
    assert header[-2:] == ["accuracy", "forgetting"]
    assert lines[0][:3] == ["s-digits ni-3", "frozen tokens mlp flava-nano", "naive"]
    assert (lines[0][3][:6], lines[0][4]) == ("70.0 [", "")
    assert title.startswith("continual: ")


def test_the_answer_counts_what_is_told_apart(scores: Scores) -> None:
    told = continual_summary.answer(scores, continual_gains.gains(scores))
    assert "beside the frozen encoder, partly is better in " in told
    assert "Beside naive training, ewc is " in told
    assert "of 24 comparisons (intervals that exclude 0: " in told
    assert "Most is forgotten by s-digits ci-5, unfrozen: tokens, mlp, naive: +45.0 [" in told
    assert "a log lies +9.5 to +33.5 points from test accuracy" in told
    assert told.endswith("No run names one class for all test images at its end.")


def test_predictors_of_one_class_are_named() -> None:
    failed = [
        replace(each, value=1.0) if each.metric == "is_constant" else each
        for each in run("unfrozen", "s-digits", "ni-3", "ewc")
    ]
    told = continual_summary.answer(from_rows(failed), [])
    assert told == (
        "1 of 1 runs end, for a seed or more, with one class for all: s-digits ni-3, unfrozen: "
        "tokens, mlp, ewc."
    )


def test_intervals_that_exclude_0_are_counted_beside_what_passes_holm() -> None:
    gains = [
        continual_gains.Gain(CHILDREN, NAIVE, "item", Interval(value, low, high), 0.02, "seeds", p)
        for value, low, high, p in (
            *((0.1, 0.05, 0.15, 0.04), (0.05, 0.01, 0.09, 0.5)),
            *((-0.02, -0.03, -0.01, 0.5), (0.0, -0.1, 0.1, 1.0)),
        )
    ]
    assert continual_summary.answer(
        from_rows(run("frozen", "s-digits", "ni-3", "naive")), gains
    ) == (
        "At the end of a stream, beside the frozen encoder, partly is better in 1, worse in 0 and "
        "not told apart in 3 of 4 comparisons (intervals that exclude 0: 3). No run names one "
        "class for all test images at its end."
    )


def test_comparisons_with_a_run_that_diverged_are_not_counted() -> None:
    rows = everything()
    gone = ("s-digits", "ci-5", "partly", "ewc", 1)
    axes = ("stream", "protocol", "strategy", "seed")
    for i, each in enumerate(rows):
        stream, protocol, strategy, seed = (each.cell.get(axis) for axis in axes)
        if each.metric == "diverged" and gone == (stream, protocol, each.item, strategy, seed):
            rows[i] = replace(each, value=1.0)
    scores = from_rows(rows)
    gains = continual_gains.gains(scores)
    left_out = [g for g in gains if gone[:4] == (*g.run[:3], g.run.strategy)]
    told = continual_summary.answer(scores, gains)
    assert left_out
    assert (
        f"Not counted: comparisons with a run of which a seed diverged ({len(left_out)})." in told
    )
    counted = re.findall(r"of (\d+) comparisons", told.split("Beside naive")[0])
    assert sum(map(int, counted)) == sum(g.axis == "item" for g in gains if g not in left_out)


def test_a_diverged_training_has_an_accuracy_and_nothing_else() -> None:
    cell = {"stream": "s-digits", "protocol": "ni-3", "strategy": "ewc", "seed": 0}
    found = [
        row("unfrozen", cell | {"experience": 2}, "test", "accuracy", 0.1, 360),
        row("unfrozen", cell | {"experience": 2}, "test", "is_constant", 1.0, 360),
        row("unfrozen", cell, "train", "diverged", 1.0, 0),
    ]
    (line,) = by_run(continual_tables.results(from_rows(found))).values()
    assert (line["one class"], line["diverged"], line["forgetting"]) == (
        *("1", "1"),
        continual_tables.DASH,
    )


# --- the stage ------------------------------------------------------------------------------------


def study(**changes: Any) -> Continual:
    """A section of one arm on one stream."""
    plain = {"shuffle": True, "seed": None, "task_labels": False, "mask": False, "degrees": None}
    known: dict[str, Any] = {
        "preset": "tiny",
        "encoder": "flava-nano",
        "items": tuple(ARMS),
        "streams": {"s-digits": ("digits",)},
        "protocols": {"ni-3": Protocol(kind="ni", experiences=3, **plain)},
        "heads": {"mlp": HeadEntry((100, 50), sigmoid=False)},
        "arms": {
            "frozen": Arm(
                trains="frozen",
                freeze=None,
                encoder=None,
                shuffle=None,
                stream_seed=None,
                streams=("s-digits",),
                protocols=("ni-3",),
                strategies=("naive",),
                features="tokens",
                head="mlp",
                lrs=(0.01, 0.1),
                epochs=3,
                batch_size=32,
                momentum=0.9,
                optimiser="sgd",
            )
        },
        "seeds": 3,
        "validation_fraction": 0.1,
        "memory": 50,
        "ewc_lambda": 0.4,
    }
    given = known | changes
    return replace(config.read(TINY).continual, **given)


def kept(path: Path, found: list[Row], preset: str) -> None:
    write_rows(path, [replace(each, preset=preset) for each in found])


def test_kept_rows_of_other_presets_are_tables_of_their_own(
    tmp_path: Path, scores: Scores, published: Scores
) -> None:
    found = run("frozen", "s-mnist", "ni-3", "replay")
    for preset in ("tiny", "published", "corrected"):
        kept(tmp_path / f"{preset}/continual/runs/frozen/rows.jsonl", found, preset)
    others = list(stored.kept_rows(tmp_path, "continual", "tiny"))
    assert [rows[0].preset for rows in others] == ["corrected", "published"]
    tables = continual_report.tables_of(scores, [from_rows(others[1])], published, [])
    assert [table.title.split(":")[0] for table in tables if "Preset" in table.title] == [
        *("Preset tiny", "Preset published"),
        "Preset published beside the original's logs (flava-full unless named; one run, interval "
        "over images)",
    ]


@pytest.mark.parametrize(
    ("lrs", "said"),
    [
        (
            (0.01, 0.05),
            r"of (\d+) such lines \1 chose the largest of their list and 0 the smallest",
        ),
        ((0.05, 0.1), r"of (\d+) such lines 0 chose the largest of their list and \1 the smallest"),
        ((0.01, 0.05, 0.1), r"of \d+ such lines 0 chose the largest .* and 0 the smallest"),
        ((0.05,), r"Learning rates are given, none was chosen\."),
    ],
)
def test_rates_at_the_end_of_their_list_are_told(
    scores: Scores, lrs: tuple[float, ...], said: str
) -> None:
    arm = replace(study().arms["frozen"], lrs=lrs)
    assert re.search(said, continual_report.settings(study(arms={"frozen": arm}), scores)[1])


def test_bounds_of_an_average_accuracy_are_within_what_it_can_be() -> None:
    found = [
        replace(each, value=(0.99, 0.9, 0.999)[each.cell["seed"]])
        for each in run("frozen", "s-digits", "ci-5", "naive")
        if each.metric in ("average_accuracy", "accuracy")
    ]
    told = continual_intervals.end(from_rows(found), NAIVE, "average_accuracy")
    assert told is not None
    assert told.value == pytest.approx(0.963)
    assert told.high == 1.0
    assert 0.5 < told.low < 0.9


def test_the_text_names_seeds_rates_and_faults(scores: Scores, single: Scores) -> None:
    plain = continual_report.settings(study(), scores)
    assert plain[0].startswith("Epochs of each experience: 3 in batches of 32. Replay")
    assert "Replay keeps 50 images in all, EWC's lambda is 0.4." in plain[0]
    assert "10 % of the stream's training images, held out for the first seed" in plain[1]
    faulty = study(heads={"mlp": HeadEntry((100, 50), sigmoid=True)})
    assert continual_report.settings(faulty, scores)[-1] == "A sigmoid before the loss: heads mlp."
    arm = study().arms["frozen"]
    never = {"longer": replace(arm, streams=("s-mnist",), epochs=15)}
    only = continual_report.settings(study(arms={"frozen": arm}), scores)
    assert continual_report.settings(study(arms={"frozen": arm} | never), scores) == only
    text = continual_summary.reading(scores, "flava-nano", plain)
    assert "s-digits ni-3; s-digits ci-5; s-letters rotated-2." in text
    assert "over test images and 3 seeds" in text
    assert "one seed says nothing" in continual_summary.reading(single, "flava-nano", [])


def test_the_stage_writes_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    more = {"frozen": features(), "partly": untrained(), "unfrozen": []}
    tests: dict[Any, Any] = {}
    for item in ARMS:
        found = [e for s in ("naive", "replay") for e in run(item, "s-digits", "ci-5", s, seeds=2)]
        path = continual_report.rows_of(item)
        write_rows(path, [*found, *more[item]])
        tests |= answers_of(found)
        path.with_name("drawn.jsonl").write_text("")
    continual_report.RELEASED.parent.mkdir(parents=True)
    continual_report.RELEASED.write_text(RELEASED.read_text())
    asked: list[bool] = []
    context = runner.Context("continual-report", "p", "s", lambda: asked.append(True))
    saved: list[str] = []
    predictions = Path("data/predictions/continual"), tuple(ARMS)
    monkeypatch.setattr(continual_paired, "read", lambda *of: tests if of == predictions else {})
    monkeypatch.setattr(figures, "save", lambda figure, stem: saved.append(stem.name))
    params = replace(config.read(TINY), continual=study())
    continual_report.stage(params, "", context)
    assert asked == [True]
    assert saved == [
        *("accuracy", "final", "forgetting", "matrix", "training", "training-loss"),
        *("cka", "cka-layers", "cka-between", "cka-untrained"),
    ]
    made = {path.name for path in continual_report.FOLDER.iterdir() if path.is_file()}
    texts = {"continual.csv", "continual.md", "continual.tex"}
    assert made == {*texts, "summary.json", "between.jsonl"}
    text = (continual_report.FOLDER / "continual.md").read_text()
    assert text.count("| stream | protocol |") == 3
    assert text.count("| origin | data |") == 1
    assert text.count("| seeds, images |") == 7  # 2 arms of 2 strategies, 3 replays
    latex = (continual_report.FOLDER / "continual.tex").read_text()
    assert latex.count(r"\begin{") == latex.count(r"\end{") > 4
