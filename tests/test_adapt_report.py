"""The adaptation study's report, from handmade rows."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapt_rows import IMAGES, ITEMS, PARTITIONS, everything, rows
from carryover import run
from carryover.config import params as config
from carryover.config.adapt import Adapt
from carryover.errors import DataError
from carryover.measure.statistics import holm
from carryover.report import (
    adapt_csv,
    adapt_gains,
    adapt_tables,
    figures,
)
from carryover.report.adapt_scores import AdaptScores, family, from_rows, methods, title
from carryover.report.adapt_summary import answer, headline, summarise
from carryover.rows import write_rows
from carryover.studies import adapt_report
from conftest import REPOSITORY, TINY

RELEASED = REPOSITORY / "claims/released/adapt.csv"
ENTRY = config.read(TINY).encoders["clip-nano"]


@pytest.fixture(scope="module")
def scores() -> AdaptScores:
    return from_rows(everything())


def study(**changes: Any) -> Adapt:
    known: dict[str, Any] = {
        "preset": "tiny",
        "encoder": "clip-nano",
        "dataset": "digits",
        "others": ("shapes", "letters"),
        "items": ("probe", "unfreeze", "llrd"),
        "probe": ITEMS["probe"],
        "unfreeze": ("norm", "all", "last-2"),
        "llrd": ("llrd",),
        "partitions": PARTITIONS,
        "seeds": 3,
        "partition_fault": "none",
        "fault_class": 1,
        "fault_from": 0.5,
        "blocks_from": 1,
        "decay": 0.9,
        "decay_blocks": 0.7,
        "decay_per": "group",
        "head": "zeros",
        "softmax": dict.fromkeys(("probe", "unfreeze", "llrd"), "none"),
        "adam": "float32",
        "precision": "float32",
        "schedule": "cosine",
        "lrs": {"probe": (0.01,), "unfreeze": (0.001,), "llrd": (0.001,)},
        "l2s": (0.1,),
        "validation_fraction": 0.1,
        "batch_size": 16,
        "epochs": {"probe": 2, "unfreeze": 3, "llrd": 4},
        "max_updates": 60,
        "test_batch": 64,
    }
    names = Adapt.__dataclass_fields__
    return Adapt(**{name: value for name, value in (known | changes).items() if name in names})


# --- rows --------------------------------------------------------------------------------------


def test_rows_become_scores_by_method_and_partition(scores: AdaptScores) -> None:
    assert (scores.dataset, scores.encoder, scores.n) == ("digits", "clip-nano", 400)
    assert scores.images == IMAGES  # of the correct partitions
    assert scores.seeds == (0, 1, 2)
    assert scores.tested["probe", 0.5, "accuracy"] == {0: 0.72, 1: 0.68, 2: 0.7}
    assert list(scores.before) == ["digits", "shapes", "letters"]
    assert scores.fault_from == {"probe-missing-class": 0.5, "probe-extra-class": 1.0}


def test_methods_stand_in_families_and_faults_last(scores: AdaptScores) -> None:
    assert methods(scores) == [
        *("probe", "probe-logistic", "unfreeze-norm", "unfreeze-all", "unfreeze-last-2", "llrd"),
        *("probe-missing-class", "probe-extra-class"),
    ]
    assert family("unfreeze-last-12") == "unfrozen by depth"
    assert (title("unfreeze-last-12"), title("unfreeze-bias")) == ("last 12", "unfreeze-bias")


def test_rows_that_do_not_belong_together_are_refused() -> None:
    found = everything()
    other = replace(found[-1], cell={**found[-1].cell, "encoder": "clip"})
    with pytest.raises(DataError, match="one encoder, got"):
        from_rows([*found, other])
    fewer = [row for row in found if (row.cell.get("seed"), row.cell["method"]) != (2, "llrd")]
    with pytest.raises(DataError, match=r"one set of seeds, got \['\(0, 1\)', '\(0, 1, 2\)'\]"):
        from_rows(fewer)


def test_cells_that_the_parameters_list_must_be_there() -> None:
    found = everything()
    assert adapt_report.cells_listed(found, study()) == found
    less = adapt_report.cells_listed(found, study(partitions=(0.1, 1.0), seeds=2))
    assert from_rows(less).images == {0.1: 100, 1.0: 1000}
    assert from_rows(less).seeds == (0, 1)
    with pytest.raises(DataError, match=r"llrd/rows\.jsonl: .*partition 0\.3, seed 0, found none"):
        adapt_report.cells_listed(found, study(partitions=(0.3,)))
    with pytest.raises(DataError, match="run `dvc repro adapt@"):
        adapt_report.cells_listed(found, study(dataset="letters"))


# --- tables ------------------------------------------------------------------------------------


def test_holm_is_over_all_gains_and_over_their_means(scores: AdaptScores) -> None:
    found = adapt_gains.gains(scores, "probe")
    names = ["zero-shot", "probe-logistic", "unfreeze-norm", "unfreeze-all", "unfreeze-last-2"]
    assert [each.method for each in found][::3] == [*names, "llrd"]
    assert [each.p_holm for each in found] == holm([each.p for each in found])
    means = adapt_gains.mean_gains(scores, "probe")
    assert len(means) == 6
    by_name = {each.method: each for each in means}
    assert by_name["llrd"].difference.value == pytest.approx(0.05)
    assert by_name["zero-shot"].difference.value == pytest.approx(-0.35)
    assert by_name["probe-logistic"].p_holm == 1


def test_the_same_gains_are_told_over_the_solvers_probe() -> None:
    rows = [
        replace(row, value=row.value + 0.1)
        if (row.cell["method"], row.split, row.metric) == ("probe-logistic", "test", "accuracy")
        else row
        for row in everything()
    ]
    scores = from_rows(rows)
    assert adapt_gains.references(scores) == ["probe", "probe-logistic"]
    by_name = {each.method: each for each in adapt_gains.mean_gains(scores, "probe-logistic")}
    assert sorted(by_name) == [
        *("llrd", "probe", "unfreeze-all", "unfreeze-last-2", "unfreeze-norm", "zero-shot")
    ]
    assert by_name["probe"].difference.value == pytest.approx(-0.1)
    assert by_name["llrd"].difference.value == pytest.approx(-0.05)
    means = {over: adapt_gains.mean_gains(scores, over) for over in ("probe", "probe-logistic")}
    told = answer(scores, means, [])
    assert (
        "zero-shot, probe, unfreeze-norm, unfreeze-all, unfreeze-last-2 and llrd are worse than "
        "the frozen probe by the solver and no method is better"
    ) in told
    adam = from_rows(row for row in rows if row.cell["method"] != "probe-logistic")
    assert adapt_gains.references(adam) == ["probe"]


def test_changes_go_from_each_partition_to_the_next(scores: AdaptScores) -> None:
    found = {(each.method, each.places): each for each in adapt_gains.changes(scores)}
    assert found["probe", (0.1, 0.5)].difference.value == pytest.approx(0.1)
    assert found["probe-extra-class", (0.5, 1.0)].difference.value == pytest.approx(-0.3)
    assert len(found) == 8 * 2


def test_tables_have_a_line_a_method(scores: AdaptScores) -> None:
    table = adapt_tables.accuracy_table(scores)
    assert table.header == ["method", "0 %", "10 %", "50 %", "100 %"]
    assert table.lines[0] == ["training images", "0", "100", "500", "1000"]
    assert table.lines[1] == ["zero-shot", "35.0 [30.5, 39.8]", "", "", ""]
    assert table.lines[2][0] == "probe"
    assert table.lines[2][3].startswith("70.0 [6")
    assert "400 test images of digits; mean over 3 seeds" in table.title
    gains, means = adapt_gains.gains(scores, "probe"), adapt_gains.mean_gains(scores, "probe")
    gained = adapt_tables.gains_table(scores, "probe", gains, means)
    line = next(line for line in gained.lines if line[0] == "probe-logistic")
    assert line[1:] == ["+0.0 [-0.1, +0.1], p 1", *["+0.0 [-0.3, +0.3], p 1"] * 3]
    kept = adapt_tables.retention_tables(scores)
    assert [len(table.lines) for table in kept] == [4, 4, 5]
    assert kept[2].header[2] == "shapes (n = 250)"
    assert kept[2].lines[1][2].startswith("60.0 [")
    calibration = adapt_tables.calibration_table(scores)
    assert calibration.lines[0][1] == "20.0"


def test_tables_for_paper_repeat_the_method(scores: AdaptScores) -> None:
    table = adapt_tables.accuracy_table(scores)
    wide = replace(table, header=[*table.header, "x"], lines=[[*ln, "y"] for ln in table.lines])
    parts = adapt_tables.for_paper(wide)
    assert [part.header for part in parts] == [table.header, ["method", "x"]]
    assert parts[1].lines[1] == ["zero-shot", "y"]


def test_csv_files_have_every_cell(scores: AdaptScores) -> None:
    def lines(text: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(text)))

    cells = lines(adapt_csv.cells_csv(scores))
    assert len(cells) == 4 + 8 * 3 * (4 + 4)
    (one,) = (
        c for c in cells if (c["method"], c["partition"], c["metric"]) == ("llrd", "0.1", "lr")
    )
    assert (one["mean"], one["low"], one["train_images"]) == ("0.001", "", "100")
    gains, means = adapt_gains.gains(scores, "probe"), adapt_gains.mean_gains(scores, "probe")
    gained = lines(adapt_csv.gains_csv(scores, gains, means))
    assert len(gained) == 6 * 4
    assert {line["over"] for line in gained} == {"probe"}
    assert sum(line["partition"] == "" for line in gained) == 6
    kept = lines(adapt_csv.retention_csv(scores))
    assert len(kept) == 4 * 3 * (3 + 1)
    assert {line["test_images"] for line in kept if line["dataset"] == "others"} == {"750"}


def test_the_summary_is_nested_by_method_and_partition(scores: AdaptScores) -> None:
    gains, means = adapt_gains.gains(scores, "probe"), adapt_gains.mean_gains(scores, "probe")
    changes = adapt_gains.changes(scores)
    summary = summarise(scores, gains, means, changes)
    assert summary["unfreeze-all"]["100_percent"]["accuracy"]["value"] == 0.9
    assert summary["unfreeze-all"]["100_percent"]["gain"]["value"] == 0.1
    assert summary["unfreeze-all"]["mean"]["gain"]["value"] == pytest.approx(0.016667)
    assert summary["llrd"]["50_percent"]["zero_shot_itself"] == 0.25
    assert summary["llrd"]["50_percent"]["zero_shot_others"] == 0.6
    assert summary["probe-missing-class"]["largest_fall"]["value"] == pytest.approx(-0.1)
    assert summary["zero-shot"]["accuracy"]["value"] == 0.35
    _, header, lines = headline(json.loads(json.dumps(summary)))
    assert header == ["method", "10 %", "50 %", "100 %"]
    assert lines[0] == ["zero-shot", "35.0 [30.5, 39.8]", "", ""]
    told = answer(scores, {"probe": means}, changes)
    assert "+10.0 [+9.7, +10.3] points with correct partitions (10 % to 50 %, p " in told
    assert "-30.0 [-30.3, -29.7] points with a class folder too many (50 % to 100 %, p " in told
    assert (
        "Averaged over all partitions, unfreeze-norm, unfreeze-all, unfreeze-last-2 and llrd are "
        "better than the frozen probe and zero-shot is worse (p below 0.05 after Holm's correction "
        "over 6 methods); with 3 seeds, no other method can be told apart from it."
    ) in told


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (("zero-shot",), "zero-shot is worse than the frozen probe and no method is better"),
        (("llrd", "unfreeze-all"), "unfreeze-all and llrd are better than the frozen probe and no"),
        (("probe-logistic",), "With 3 seeds, no method can be told apart from the frozen probe (p"),
        ((), ""),
    ],
)
def test_methods_are_set_against_the_probe_in_whole_sentences(
    scores: AdaptScores, kept: tuple[str, ...], said: str
) -> None:
    means = adapt_gains.mean_gains(scores, "probe")
    told = answer(scores, {"probe": [each for each in means if each.method in kept]}, [])
    assert said in told if said else told == ""


def test_partitions_with_the_studys_own_fault_are_not_called_correct(scores: AdaptScores) -> None:
    changes = adapt_gains.changes(scores)
    for fault, folders in (
        ("none", "correct partitions"),
        ("extra-class", "a class folder too many"),
    ):
        named = adapt_report.folders_of(study(partition_fault=fault))
        told = answer(scores, {}, changes, named)
        assert f"+10.0 [+9.7, +10.3] points with {folders} (10 % to 50 %" in told
        assert ("correct" in told) == (fault == "none")


def test_the_text_names_seeds_and_faults(scores: AdaptScores) -> None:
    plain = adapt_report.reading(study(), scores, ENTRY)
    assert "over test images and 3 seeds" in plain
    assert "As published" not in plain
    mixed = {"probe": "batch", "unfreeze": "classes", "llrd": "classes"}
    same = dict.fromkeys(mixed, "batch")
    faulty = study(softmax=same, partition_fault="missing-class", decay_per="tensor")
    told = "a softmax over the batch (probe) and a softmax over the classes (unfreeze, llrd) before"
    assert told in adapt_report.reading(study(softmax=mixed), scores, ENTRY)
    text = adapt_report.reading(faulty, scores, ENTRY)
    assert text.endswith(
        "As published: a class folder missing from 50 % on; a softmax over the batch before the "
        "loss; learning rates that fall from tensor to tensor."
    )
    assert "unfreeze also trains" not in adapt_report.reading(
        study(items=("probe",)), scores, ENTRY
    )
    assert "one seed says nothing" in adapt_report.reading(study(), from_rows(everything(1)), ENTRY)


def test_a_solver_that_stopped_before_it_converged_is_told(scores: AdaptScores) -> None:
    assert "converged" not in adapt_report.reading(study(), scores, ENTRY)
    for ended, told in (((1.0, 1.0, 1.0), ""), ((1.0, 0.0, 1.0), "in 1 of 3 fits.")):
        by_seed = {("probe-logistic", 0.5, "converged"): dict(enumerate(ended))}
        text = adapt_report.reading(
            study(), replace(scores, trained=scores.trained | by_seed), ENTRY
        )
        assert ("It stopped before it converged" in text) == bool(told)
        assert told in text


def test_the_text_names_passes_and_rates_at_the_ends_of_their_lists(scores: AdaptScores) -> None:
    lists = {"probe": (0.001, 0.01), "unfreeze": (0.0001, 0.001), "llrd": (0.0001, 0.001, 0.01)}
    told = adapt_report.reading(study(lrs=lists), scores, ENTRY)
    # 60 updates of 16: 7 batches are one pass over 100 images, 63 over 1000
    assert "are 8.6 passes over the images of 10 % and 1.0 over those of 100 %. Under one" in told
    assert (
        "At some of the 3 partitions (how many stands in brackets) the rate chosen is the largest "
        "of its list for unfreeze-norm (3), unfreeze-all (3), unfreeze-last-2 (3) and the smallest "
        "of its list for probe (3), where others may do better."
    ) in told
    assert "llrd (" not in told
    finer = study(lrs=dict.fromkeys(lists, (0.0001, 0.001, 0.01)))
    inner = adapt_report.reading(finer, scores, ENTRY)
    assert "No rate that was chosen is at an end of its list." in inner
    plain = adapt_report.reading(study(max_updates=0, batch_size=8), scores, ENTRY)
    assert "passes over" not in plain
    assert "its list" not in plain
    small = adapt_report.reading(study(batch_size=32), scores, ENTRY)
    assert "1.9 over those of 100 %." in small
    assert "Under one pass" not in small


def test_the_text_names_epochs_and_rates_of_single_partitions(scores: AdaptScores) -> None:
    changes = {
        "epochs": {"probe": 2, "unfreeze": 3, "llrd@10%": 9, "llrd": 4},
        "lrs": {"probe": (0.01,), "unfreeze": (0.1,), "llrd": (0.1,), "llrd@50%": (0.001, 0.01)},
    }
    told = adapt_report.reading(study(**changes), scores, ENTRY)
    assert "at most 2 (probe), 3 (unfreeze), 4 (llrd), 9 (llrd@10%) epochs" in told
    assert "Of several learning rates" in told
    assert "rate chosen is the smallest of its list for llrd (1), where" in told


def test_the_text_says_what_each_falling_rate_is_of(scores: AdaptScores) -> None:
    told = adapt_report.reading(study(llrd=("llrd-blocks",)), scores, ENTRY)
    assert (
        "llrd-blocks trains all weights, with rates that are multiplied by 0.7 from group" in told
    )
    assert "llrd trains" not in told
    assert [family(name) for name in ("llrd", "llrd-blocks")] == [
        "norms, falling rates",
        "embedding or everything",
    ]
    assert "llrd-blocks trains" not in adapt_report.reading(study(), scores, ENTRY)


# --- class names that the encoder does not know -----------------------------------------------


def test_zero_shot_on_the_other_sets_alone_is_all_that_a_set_without_words_needs() -> None:
    less = [
        row
        for row in everything()
        if row.cell["method"] != "zero-shot" or row.cell["dataset"] != "digits"
    ]
    found = adapt_report.cells_listed(less, study())
    assert found == less
    scores = from_rows(less)
    assert list(scores.before) == ["shapes", "letters"]
    told = adapt_report.reading(study(), scores, ENTRY)
    assert "The encoder knows no text for the classes of digits, so that zero-shot is on" in told
    assert "zero-shot takes" not in told
    assert "knows no text" not in adapt_report.reading(study(), from_rows(everything()), ENTRY)


def unnamed(*without: str) -> AdaptScores:
    """Rows without some zero-shot accuracies: of a set, or of the encoder before adapting."""
    return from_rows(
        row
        for row in everything()
        if row.cell["method"] not in without
        and not (row.metric == "zeroshot_accuracy" and row.cell["dataset"] in without)
    )


@pytest.mark.parametrize(
    ("without", "tables"), [(("digits", "zero-shot"), 0), (("zero-shot",), 0), (("digits",), 2)]
)
def test_tables_and_text_do_without_zero_shot_accuracies(
    without: tuple[str, ...], tables: int
) -> None:
    scores = unnamed(*without)
    gains, means = adapt_gains.gains(scores, "probe"), adapt_gains.mean_gains(scores, "probe")
    changes = adapt_gains.changes(scores)
    retained = adapt_tables.retention_tables(scores)
    assert len(retained) == tables
    shown = [
        adapt_tables.accuracy_table(scores),
        adapt_tables.gains_table(scores, "probe", gains, means),
        adapt_tables.calibration_table(scores),
        *retained,
    ]
    named = {line[0] for table in shown for line in table.lines}
    assert ("zero-shot" in named) == ("zero-shot" not in without)
    assert all("nan" not in cell for table in shown for line in table.lines for cell in line)
    summary = summarise(scores, gains, means, changes)
    assert "zero_shot_itself" not in summary["llrd"]["50_percent"]
    assert ("zero_shot_others" in summary["llrd"]["50_percent"]) == bool(tables)
    _, _, lines = headline(json.loads(json.dumps(summary)))
    assert ("zero-shot" in [line[0] for line in lines]) == ("zero-shot" not in without)
    told = answer(scores, {"probe": means}, changes)
    assert ("zero-shot" in told) == ("zero-shot" not in without)
    assert adapt_csv.cells_csv(scores).count("zero-shot") == (0 if "zero-shot" in without else 4)
    assert adapt_csv.retention_csv(scores).count("\n") == 1 + tables // 2 * 4 * 3 * 3


# --- the stage ---------------------------------------------------------------------------------


def test_the_stage_writes_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for item in ITEMS:
        write_rows(adapt_report.rows_of(item), rows(item))
    for path, text in (
        (adapt_report.RELEASED, RELEASED.read_text()),
        (
            adapt_report.TIMES,
            json.dumps(
                {
                    "methods": {"probe": {"seconds_per_epoch": [0.1], "images": 10}},
                    "machine": "two cores",
                    "encoder": "clip-nano",
                    "dataset": "digits",
                }
            ),
        ),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    asked: list[bool] = []
    context = run.Context("adapt-report", "p", "s", lambda: asked.append(True))
    saved: list[str] = []
    monkeypatch.setattr(figures, "save", lambda figure, stem: saved.append(stem.name))

    params = replace(config.read(TINY), adapt=study())
    adapt_report.stage(params, "", context)
    assert asked == [True]
    assert saved == ["accuracy", "fault", "retention", "calibration", "time"]
    made = {path.name for path in adapt_report.FOLDER.iterdir() if path.is_file()}
    names = [f"{stem}.{end}" for stem in ("adapt", "gains", "retention") for end in ("csv", "md")]
    assert made == {*names, "adapt.tex", "gains.tex", "retention.tex", "summary.json"}
    text = (adapt_report.FOLDER / "adapt.md").read_text()
    assert text.count("| method |") == 8
    assert "no other method can be told apart from it" in text
    latex = (adapt_report.FOLDER / "adapt.tex").read_text()
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 8
    gained = (adapt_report.FOLDER / "gains.md").read_text()
    assert gained.count("minus that of the frozen probe by the solver, points") == 1
    over = [
        line["over"]
        for line in csv.DictReader(io.StringIO((adapt_report.FOLDER / "gains.csv").read_text()))
    ]
    assert over == 3 * 6 * ["probe"] + 3 * 6 * ["probe-logistic"] + 6 * ["probe"] + 6 * [
        "probe-logistic"
    ]
