"""The report on what survived, from rows made here."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carryover.errors import DataError
from carryover.report import (
    survival_kept,
    survival_layers,
    survival_mixing,
    survival_summary,
    survival_tables,
)
from carryover.report.survival_files import remake, write_report
from carryover.report.survival_scores import (
    Kind,
    Scores,
    found,
    from_rows,
    mean,
    models,
    shown_seeds,
    single,
    starts,
)
from carryover.rows import Row, write_rows

TUNED = Kind("adapt", "unfreeze", "unfreeze-all", "digits")
CUT = Kind("cuts", "fr", "cut 10", "digits")
LLRD = Kind("adapt", "llrd", "llrd", "digits")
OWN, PROBE, ALL = {"by": "own"}, {"by": "probe"}, {"layer": "all"}


def row(kind: Kind, metric: str, value: float, seed: int | None = 0, **axes: Any) -> Row:
    cell = kind._asdict() | axes | ({} if seed is None else {"seed": seed})
    digests = ("d", "w", "p", "s")
    return Row("survival", "all", "mini", cell, "test", metric, value, 100, *digests, "float32")


def rows() -> list[Row]:
    made = []
    for seed, share in enumerate((0.2, 0.4)):
        for by, more in (("own", 0.0), ("probe", 0.5), ("neighbours", 2.0)):
            made.append(row(TUNED, "kept", share + more, seed, by=by))
        made.append(row(TUNED, "cka", 0.8, seed, layer="embedding"))
        made.append(row(TUNED, "distance", 0.1, seed, layer="all"))
        for mix, source, target in ((0.0, 0.5, 0.6), (0.5, 0.55, 0.7), (1.0, 0.3, 0.9)):
            at = {"mix": mix, "by": "own", "dataset": "letters"}
            made.append(row(TUNED, "mixed_accuracy", source, seed, role="source", **at))
            made.append(row(TUNED, "mixed_accuracy", target, seed, role="target", **at))
    made += [
        row(Kind("cuts", "fr", f"cut {cut}", "digits"), "kept", 1.0, 0, by="probe")
        for cut in (10, 2)
    ]
    made.append(row(Kind("cuts", "baseline", "scratch", "digits"), "kept", 0.1, 0, by="probe"))
    began = Kind("adapt", "start", "clip-nano", "digits")
    at = {"role": "source", "by": "own"}
    made.append(row(began, "accuracy", 0.5, None, dataset="letters", **at))
    made.append(row(began, "accuracy", 0.7, None, dataset="shapes", **at))
    return made


@pytest.fixture
def scores() -> Scores:
    return from_rows(rows(), "mini")


def test_kinds_stand_in_order_and_numbers_by_size(scores: Scores) -> None:
    assert [kind.name for kind in models(scores)] == [
        "unfreeze-all",
        *("fr, cut 2", "fr, cut 10", "scratch"),
    ]
    assert [kind.method for kind in starts(scores)] == ["clip-nano"]


def test_a_mean_is_over_seeds_with_students_interval(scores: Scores) -> None:
    told = mean(scores, TUNED, "kept", by="own")
    assert told is not None
    assert told.value == pytest.approx(0.3)
    # two seeds 0.1 to each side of the mean: 12.706 sqrt(0.02) / sqrt(2)
    assert told.high - told.value == pytest.approx(1.2706, abs=1e-3)
    assert mean(scores, TUNED, "ece") is None


def test_bounds_are_within_what_a_metric_can_be() -> None:
    values = {
        "accuracy": (0.95, 0.99),
        "barrier": (0.0, 0.02),
        "cka": (0.9, 1.0),
        "kept": (0.9, 1.0),
    }
    made = [row(TUNED, m, v, seed) for m, pair in values.items() for seed, v in enumerate(pair)]
    scores = from_rows(made, "mini")
    bounds = {m: told for m in values if (told := mean(scores, TUNED, m))}
    assert bounds["accuracy"].high == 1.0
    assert 0 < bounds["accuracy"].low < 0.97
    assert bounds["barrier"].low == 0.0
    assert bounds["cka"].high == 1.0
    assert bounds["kept"].high > 1.0


def test_a_mean_over_sets_weighs_each_alike(scores: Scores) -> None:
    (began,) = starts(scores)
    told = mean(scores, began, "accuracy", role="source", by="own")
    assert told is not None
    assert (told.value, told.low, told.high) == pytest.approx((0.6, 0.6, 0.6))
    assert len(found(scores, began, "accuracy")) == 2


def test_the_table_has_a_dash_where_nothing_was_measured(scores: Scores) -> None:
    table = survival_tables.kept(scores)
    assert table.header[4:] == ["untaught", "probe", "kNN", "CKA", "distance", "n", "seeds"]
    dash = survival_tables.DASH
    cells = ["cuts", "fr", "cut 2", "digits", dash, "1.00", dash, dash, dash, "0", "1"]
    assert table.lines[1] == cells
    assert table.lines[0][4].startswith("0.30 [")
    assert "chance" in table.title


BEGAN = Kind("adapt", "start", "clip-nano", "digits")


def calibrated() -> list[Row]:
    """Calibration of a start and of what it became, and of a network without answers."""
    at = {"by": "own", "role": "source", "dataset": "letters"}
    made = [row(BEGAN, "ece", 0.1, None, **at), row(BEGAN, "nll", 1.5, None, **at)]
    for seed in (0, 1):
        made += [row(TUNED, "ece", 0.4, seed, **at), row(TUNED, "nll", 3.0, seed, **at)]
    return [*made, row(CUT, "kept", 1.0, by="probe")]


def test_calibration_is_told_before_and_after() -> None:
    table = survival_tables.beside(from_rows(calibrated(), "mini"))
    names = ["ECE, before", "ECE, after", "NLL, before", "NLL, after", "seeds"]
    assert table.header[-5:] == names
    tuned, cut = table.lines
    assert tuned[-5:] == ["10.0", "40.0", "1.50", "3.00", "2"]
    assert cut[-5:] == [*[survival_tables.DASH] * 4, "1"]


def test_the_start_of_a_model_is_that_of_its_weights_and_images() -> None:
    other = Kind("adapt", "start", "clip-photos", "digits")
    two = [*calibrated(), replace(row(other, "ece", 0.3, None), weights="v")]
    assert from_rows(two, "mini").began == {TUNED: BEGAN}
    unclear = [*calibrated(), row(other, "ece", 0.3, None)]
    assert from_rows(unclear, "mini").began == {}
    (tuned, _) = survival_tables.beside(from_rows(unclear, "mini")).lines
    assert tuned[-5:-3] == [survival_tables.DASH, "40.0"]


def test_one_model_of_a_kind_is_said_to_be_one(scores: Scores) -> None:
    assert single(scores).startswith("one seed: n = 1 model, whose spread is not known")
    assert "some ways of cuts:" in single(scores)  # of adapt there are two seeds
    for table in (survival_tables.kept(scores), survival_tables.beside(scores)):
        assert "One seed: n = 1 model" in table.title
    alone = [each for each in rows() if each.cell["origin"] == "adapt"]
    assert single(from_rows(alone, "mini")) == ""
    assert "n = 1" not in survival_tables.kept(from_rows(alone, "mini")).title


def similar(kind: Kind, values: dict[str, tuple[float, ...]]) -> list[Row]:
    return [
        row(kind, "cka", value, seed, layer=layer)
        for layer, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]


DEEP = {"embed": (1.0, 1.0), "block2": (0.9, 0.5), "block10": (0.4, 0.3), "output": (0.3, 0.3)}


def test_layers_stand_from_input_to_output_whatever_the_order_of_rows() -> None:
    order = ["embed", "block2", "block10", "output", "embedding"]
    made = similar(TUNED, DEEP | {"embedding": (0.2, 0.2)})
    for given in (made, made[::-1]):
        ((shown,), right) = survival_layers.columns_of_maps(from_rows(given, "mini"))
        assert (shown.title, shown.layers, right) == ("adapt", order, [])
    names = ["output", "linear0", "conv10", "conv2", "stem", "layer1-0", "embedding"]
    assert sorted(names, key=survival_layers.depth_of) == [
        *("stem", "conv2", "conv10", "layer1-0", "linear0", "output", "embedding"),
    ]


def test_networks_with_fewer_layers_stand_with_the_whole_and_others_apart() -> None:
    whole = Kind("retrieval", "resnet18", "simclr", "digits")
    part = Kind("retrieval", "resnet18", "corpus", "digits")
    other = Kind("retrieval", "perceiver", "corpus", "digits")
    made = [
        *similar(whole, {"stem": (1.0,), "layer1-0": (0.5,), "embedding": (0.5,)}),
        *similar(part, {"stem": (1.0,), "embedding": (0.5,)}),
        *similar(other, {"embed": (1.0,), "block0": (0.5,), "embedding": (0.5,)}),
    ]
    left, right = survival_layers.columns_of_maps(from_rows(made, "mini"))
    assert left == []
    assert [(each.title, each.layers, len(each.lines)) for each in right] == [
        ("retrieval", ["embed", "block0", "embedding"], 1),
        ("retrieval", ["stem", "layer1-0", "embedding"], 2),
    ]


def test_a_map_has_the_means_and_marks_seeds_that_differ() -> None:
    figure = survival_layers.layers(from_rows(similar(TUNED, DEEP), "mini"))
    axis = figure.axes[0]
    (cells,) = axis.images[0].get_array()  # type: ignore[misc]
    assert list(cells) == pytest.approx([1.0, 0.7, 0.35, 0.3])
    assert [text.get_text() for text in axis.texts] == ["70", "35", "30"]  # 100 is not written
    (mark,) = axis.lines
    assert round(float(mark.get_xdata()[0])) == 1  # type: ignore[arg-type, index]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == list(DEEP)[::-1]


def test_cells_of_deep_networks_have_no_numbers_and_every_second_layer_a_name() -> None:
    blocks = {f"block{i}": (0.5,) for i in range(60)}
    figure = survival_layers.layers(from_rows(similar(TUNED, blocks), "mini"))
    axis = figure.axes[0]
    assert len(axis.texts) == 0
    named = [tick.get_text() for tick in axis.get_xticklabels()]
    assert named == [f"block{i}" for i in range(59, 0, -2)]
    assert "no number" not in figure._supxlabel.get_text()  # type: ignore[attr-defined]


def test_maps_of_the_same_layers_name_them_once() -> None:
    after = Kind("sequence", "plain", "finetune", "1")
    made = [*similar(TUNED, DEEP), *similar(after, DEEP)]
    (left, _) = survival_layers.columns_of_maps(from_rows(made, "mini"))
    assert [(each.title, each.named) for each in left] == [("adapt", False), ("sequence", True)]
    shallow = similar(after, {"embed": (1.0,), "output": (1.0,)})
    (left, _) = survival_layers.columns_of_maps(from_rows([*made[:8], *shallow], "mini"))
    assert [each.named for each in left] == [True, True]


def test_models_without_layers_have_no_map() -> None:
    scores = from_rows([row(CUT, "diverged", 1.0)], "mini")
    assert survival_layers.columns_of_maps(scores) == [[], []]
    (axis,) = survival_layers.layers(scores).axes
    assert axis.texts[0].get_text() == "no layers of adapted models"


def test_the_csv_has_every_number(scores: Scores) -> None:
    lines = list(csv.DictReader(survival_tables.every_csv(scores).splitlines()))
    assert len(lines) == 5 + 6 + 3 + 2
    (half,) = [line for line in lines if (line["mix"], line["role"]) == ("0.5", "source")]
    assert (half["method"], half["value"], half["seeds"]) == ("unfreeze-all", "0.55", "2")


def test_the_curve_goes_from_the_start_to_the_model(scores: Scores) -> None:
    assert survival_mixing.curve_of(scores, TUNED) == (
        pytest.approx([0.5, 0.55, 0.3]),
        pytest.approx([0.6, 0.7, 0.9]),
    )
    assert survival_mixing.curve_of(scores, CUT) is None


def test_a_model_that_does_not_move_has_no_curve() -> None:
    still = [
        row(CUT, "mixed_accuracy", 0.5, 0, role=role, mix=mix)
        for role in ("source", "target")
        for mix in (0.0, 1.0)
    ]
    assert survival_mixing.curve_of(from_rows(still, "mini"), CUT) is None


def test_lines_of_the_figure_stand_by_study(scores: Scores) -> None:
    left, right = survival_kept.columns_of(scores)
    assert [name for name, _ in left] == ["adapt", "unfreeze-all (2)"]
    assert [name for name, _ in right] == ["cuts", "fr, cut 2 (1)", "fr, cut 10 (1)", "scratch (1)"]


def test_what_lies_beyond_the_axis_is_drawn_at_its_edge(scores: Scores) -> None:
    figure = survival_kept.kept(scores)
    axis = figure.axes[0]
    drawn = [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 1]
    assert max(drawn) == survival_kept.EDGES[1]
    assert "drawn at the edge" in figure._supxlabel.get_text()  # type: ignore[attr-defined]


def test_the_words_name_what_kept_most_and_least(scores: Scores) -> None:
    text = survival_summary.reading(scores)
    assert "cuts, a probe: all keep 1.00." in text
    more = [*rows(), row(LLRD, "kept", 0.9, 0, by="own")]
    text = survival_summary.reading(from_rows(more, "mini"))
    said = "most is kept by llrd (0.90, one seed), least by unfreeze-all (0.30 [-0.97, 1.57]); the"
    assert said in text
    more = [*rows(), *(row(LLRD, "kept", 5.0 + seed / 10, seed, by="own") for seed in (0, 1))]
    assert "least by unfreeze-all (0.30 [-0.97, 1.57])." in survival_summary.reading(
        from_rows(more, "mini")
    )


def test_no_words_on_models_that_are_their_start_or_have_nothing_of_it() -> None:
    empty, whole = Kind("cuts", "ft", "cut 0", "digits"), Kind("cuts", "f", "cut 0", "digits")
    more = [
        *rows(),
        *(row(LLRD, metric, 0.0, 0, **at) for metric, at in (("kept", OWN), ("distance", ALL))),
        row(empty, "kept", 3.0, 0, by="probe"),
    ]
    text = survival_summary.reading(from_rows(more, "mini"))
    assert "llrd" not in text
    assert "ft, cut 0" not in text
    text = survival_summary.reading(from_rows([*rows(), row(whole, "kept", 3.0, **PROBE)], "mini"))
    assert "most is kept by f, cut 0 (3.00, one seed)" in text


def test_many_lines_stand_by_what_was_adapted_to() -> None:
    kinds = [Kind("continual", "unfrozen", f"m{i}", f"to-{i % 2}") for i in range(10)]
    moved = [
        row(kind, "mixed_accuracy", 0.5 + mix / 10, 0, role=role, mix=mix)
        for kind in kinds
        for role in ("source", "target")
        for mix in (0.0, 1.0)
    ]
    panels = survival_mixing.panels_of(from_rows(moved, "mini"))
    assert {name: len(curves) for name, curves in panels.items()} == {
        "continual: unfrozen, to-0": 5,
        "continual: unfrozen, to-1": 5,
    }


def test_weights_that_are_not_finite_are_named() -> None:
    lost = [*rows(), row(CUT, "diverged", 1.0)]
    assert "not finite: fr, cut 10." in survival_summary.reading(from_rows(lost, "mini"))


def test_the_summary_has_value_and_bounds(scores: Scores) -> None:
    summary = survival_summary.summarise(scores)
    assert summary["cuts"]["fr, cut 2, digits"] == {
        "probe": {"value": 1.0, "low": 1.0, "high": 1.0}
    }
    _, header, lines = survival_summary.headline(summary)
    assert header == ["study", "by", "most", "least"]
    assert lines[0] == [
        *("adapt", "untaught"),
        *("0.30 (unfreeze-all, digits)", "0.30 (unfreeze-all, digits)"),
    ]


def test_equal_rows_give_equal_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for name, given in (("1", rows()), ("2", rows()[::-1])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        write_report(given, "mini")
        made.append({p.name: p.read_bytes() for p in Path("reports/survival").iterdir()})
    assert made[0].keys() == {
        *("summary.json", "survival.csv", "survival.md", "survival.tex"),
        *("kept.svg", "kept.png", "layers.svg", "layers.png", "mixing.svg", "mixing.png"),
    }
    assert {name for name in made[0] if made[0][name] != made[1][name]} <= {"survival.csv"}


def test_the_report_is_made_again_from_the_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="expected rows, found no file"):
        remake()
    write_rows(Path("reports/survival/runs/all/rows.jsonl"), rows())
    remake()
    assert "adapt" in json.loads(Path("reports/survival/summary.json").read_text())


def test_rows_of_another_preset_or_none_are_refused() -> None:
    other = replace(rows()[0], preset="lab")
    with pytest.raises(DataError, match="expected rows of preset mini, got some of lab; run"):
        from_rows([other], "mini")
    with pytest.raises(DataError, match="expected rows of adapted models, found none; run"):
        from_rows([], "mini")


def test_what_has_no_seed_is_no_model_of_one_seed() -> None:
    frozen = Kind("continual", "frozen", "frozen", "s-digits")
    made = [row(LLRD, "kept", 0.5, seed, by="own") for seed in (0, 1)]
    known = from_rows([*made, row(frozen, "kept", 1.0, None, by="probe")], "mini")
    assert single(known) == ""
    assert shown_seeds(known) == "2"
    assert [line[-1] for line in survival_tables.beside(known).lines] == ["2", "\N{EN DASH}"]
