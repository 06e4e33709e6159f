"""The sequence study's figures and files, from handmade rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carryover import run as runner
from carryover.config import params as config
from carryover.config.sequence import Sequence
from carryover.report import (
    figures,
    sequence_curves,
    sequence_dots,
    sequence_grid,
    sequence_lines,
    sequence_maps,
    sequence_published,
    sequence_tsne,
    stored,
)
from carryover.report.page_sequence import SEQUENCE
from carryover.report.sequence_intervals import measure
from carryover.report.sequence_scores import Run, Scores, from_rows, seeds, untrained
from carryover.rows import Row, write_rows
from carryover.studies import sequence_report
from conftest import REPOSITORY, TINY
from sequence_rows import METHODS, SETS, everything, mixed, on_the_way, rows, run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RELEASED = REPOSITORY / "claims/released"
AVERAGED = Run("1", "wise-ft", "average")
NAMES = ["matrix", "tasks", "transfer-last", "backward", "mixing", "steps", "tsne"]


@pytest.fixture(scope="module")
def scores() -> Scores:
    return from_rows(everything(2))


@pytest.fixture(scope="module")
def published() -> Scores:
    return sequence_published.read(RELEASED)


def titles(figure: Figure) -> list[str]:
    found = [axis.get_title(loc="left").strip() for axis in figure.axes]
    return [title for title in found if title]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


# --- figures --------------------------------------------------------------------------------------


def test_a_map_has_the_accuracies_and_zero_shot_on_top(scores: Scores) -> None:
    figure = sequence_maps.maps(scores)
    assert titles(figure) == 2 * [
        *("finetune", "joint", "lwf", "zscl-star", "zscl", "zscl-lora", "wise-ft")
    ]
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["zero-shot", *SETS]
    written = [text.get_text() for text in axis.texts if text.get_text().isdigit()]
    assert written[:5] == ["70", "20", "10", "60", "50"]
    assert len(written) == 30
    joint = [text.get_text() for text in figure.axes[1].texts if text.get_text().isdigit()]
    assert len(joint) == 10  # neither order nor times between
    stairs = axis.lines[0]
    assert [tuple(map(float, point)) for point in zip(*stairs.get_data(), strict=True)][:3] == [
        *((-0.5, 0.5), (0.5, 0.5), (0.5, 1.5))
    ]


def test_lines_over_tasks_are_means_of_the_sets(scores: Scores) -> None:
    figure = sequence_lines.tasks(scores)
    assert titles(figure)[:3] == [
        *("all tested sets", "sets trained so far", "sets not trained so far")
    ]
    assert legend(figure) == [
        *("zero-shot", "finetune", "joint", "lwf", "zscl-star", "zscl", "zscl-lora", "wise-ft")
    ]
    zero_shot = figure.axes[0].containers[0].lines[0]
    assert [round(float(y), 3) for y in zero_shot.get_ydata()] == [0.42] * 6
    joint = figure.axes[0].containers[2].lines[0]
    assert (len(joint.get_ydata()), joint.get_linestyle()) == (2, "None")


def test_sets_outside_the_order_add_a_panel(published: Scores) -> None:
    found = from_rows(run("plain", "finetune", outside=("world",)))
    assert "sets of the order" in titles(sequence_lines.tasks(found, published))


def test_many_methods_are_drawn_by_family(scores: Scores) -> None:
    known = [Run("1", name, item) for item, names in METHODS.items() for name in names]
    assert sequence_grid.families(known[:8])[0][0] == ""
    many = [*known, Run("1", "lwf-vr", "distill")]
    found = dict(sequence_grid.families(many))
    assert list(found) == ["plain", "distill", "lora", "average"]
    assert [each.method for each in found["lora"]] == ["zero-shot", "finetune", "zscl-lora"]


def test_released_lines_are_hollow_where_the_sets_are_the_same(published: Scores) -> None:
    ours = from_rows(run("plain", "finetune", sets=published.orders["1"], seeds=1))
    figure = sequence_lines.tasks(ours, published)
    assert legend(figure)[-1] == "released (one run)"
    theirs = figure.axes[0].containers[1].lines[0]
    assert theirs.get_markerfacecolor() == "white"
    assert round(float(theirs.get_ydata()[-1]), 4) == 0.7727


def test_the_released_and_kept_have_panels_of_their_own(scores: Scores, published: Scores) -> None:
    kept = from_rows([replace(each, preset="lab") for each in run("distill", "zscl")])
    figure = sequence_dots.transfer_last(scores, published, [kept])
    assert len(titles(figure)) == 2 + 1 + 2
    heads = [text.get_text() for axis in figure.axes for text in axis.texts if text.get_text()]
    assert heads == ["preset tiny", "preset lab", "released with ZSCL, CLIP ViT-B/16"]
    point = figure.axes[3].containers[0].lines[0]
    assert round(float(point.get_xdata()[0]), 4) == 0.6939
    assert "joint" not in legend(figure)  # it has no transfer


def test_backward_transfer_is_drawn_with_and_without_the_last_set(scores: Scores) -> None:
    figure = sequence_dots.backward(scores)
    axis = figure.axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["finetune", "lwf", "zscl-star", "zscl", "zscl-lora", "wise-ft"]
    values = [float(each.lines[0].get_xdata()[0]) for each in axis.containers[:2]]
    assert values == pytest.approx([-0.2, -0.16], abs=2e-3)
    assert len(legend(figure)) == 3


def test_a_mixing_curve_has_trained_and_other_sets() -> None:
    figure = sequence_curves.mixing(from_rows([*run("average", "wise-ft"), *mixed()]))
    trained, other = (each.lines[0] for each in figure.axes[0].containers)
    assert [float(x) for x in trained.get_xdata()] == [0, 0.25, 0.5, 0.75, 1]
    first, last = float(trained.get_ydata()[0]), float(trained.get_ydata()[-1])
    assert (first, last) == pytest.approx((1 / 3, 1 / 3 + 0.25 + 0.005), abs=1e-3)
    assert float(other.get_ydata()[-1]) == pytest.approx(0.55 - 0.1 + 0.005, abs=1e-3)
    assert legend(figure) == ["sets trained", "sets not trained", "after 3 sets"]
    assert "interval over test images and 2 seeds" in figure._supxlabel.get_text()
    single = sequence_curves.mixing(from_rows([*run("average", "wise-ft"), *mixed(seeds=1)]))
    assert "interval over test images (1 seed)" in single._supxlabel.get_text()


def test_mixed_and_early_tests_are_in_no_matrix() -> None:
    plain = from_rows(run("average", "wise-ft", seeds=2))
    more = from_rows([*run("average", "wise-ft", seeds=2), *mixed()])
    assert measure(plain, AVERAGED, "average") == measure(more, AVERAGED, "average")
    assert seeds(more, AVERAGED) == [0, 1]
    early = from_rows([*run("plain", "zero-shot"), *on_the_way("plain", "zero-shot")])
    assert untrained(early, AVERAGED._replace(method="zero-shot", item="plain"))


def test_steps_of_all_sets_lie_end_to_end() -> None:
    figure = sequence_curves.steps(from_rows(on_the_way("plain", "finetune")))
    assert titles(figure) == list(SETS)
    line = figure.axes[1].lines[0]
    assert [float(x) for x in line.get_xdata()] == [float(x) for x in range(0, 201, 10)]
    own = figure.axes[1].patches[0]
    assert (own.get_x(), own.get_x() + own.get_width()) == (40, 80)


def write_maps(path: Path, *methods: str) -> None:
    """Two images of each of two sets on each method's map."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["order,method,seed,dataset,id,label,x,y"]
    for i, method in enumerate(methods):
        for dataset in ("digits", "letters"):
            lines += [f"1,{method},0,{dataset},{j},0,{i + j},{-j}" for j in range(2)]
    path.write_text("\n".join(lines) + "\n")


def test_a_map_has_a_panel_a_method_and_a_colour_a_set(tmp_path: Path) -> None:
    write_maps(tmp_path / "b.csv", "zscl")
    write_maps(tmp_path / "a.csv", "zero-shot", "finetune")
    found = sequence_tsne.read_maps([tmp_path / "b.csv", tmp_path / "a.csv"])
    assert list(found) == ["zero-shot", "finetune", "zscl"]
    assert found["finetune"][1] == ("digits", 2.0, -1.0)
    figure = sequence_tsne.maps(found)
    assert titles(figure) == [
        *("before any set (n = 4)", "finetune, after all sets (n = 4)"),
        "zscl, after all sets (n = 4)",
    ]
    assert legend(figure) == ["digits", "letters"]
    places = [tuple(map(float, xy)) for xy in figure.axes[1].collections[0].get_offsets()]
    assert places == [(1.0, 0.0), (2.0, -1.0)]


def test_what_has_no_rows_says_so() -> None:
    nothing = from_rows(run("plain", "zero-shot"))
    for figure, why in (
        (sequence_maps.maps(nothing), "no accuracies of a method that trains"),
        (sequence_dots.backward(nothing), "no backward transfer of any method"),
        (sequence_curves.mixing(nothing), "no tests of mixed weights"),
        (sequence_curves.steps(nothing), "no tests between the ends of sets"),
        (sequence_tsne.maps({}), "no maps: sequence.curves.map_images is 0"),
    ):
        assert [text.get_text() for text in figure.axes[0].texts] == [why]


# --- the stage ------------------------------------------------------------------------------------


def study(**changes: Any) -> Sequence:
    given = {"items": tuple(METHODS), "preset": "tiny"} | changes
    return replace(config.read(TINY).sequence, **given)


def kept(path: Path, found: list[Row], preset: str) -> None:
    write_rows(path, [replace(each, preset=preset) for each in found])


def test_kept_rows_of_other_presets_are_tables_of_their_own(
    tmp_path: Path, scores: Scores, published: Scores
) -> None:
    found = run("distill", "zscl")
    for place, preset in (
        ("tiny/sequence", "tiny"),
        ("lab/sequence", "lab"),
        ("published/sequence/thesis", "thesis"),
    ):
        kept(tmp_path / place / "runs/distill/rows.jsonl", found, preset)
    others = list(stored.kept_rows(tmp_path, "sequence", "tiny"))
    assert [each[0].preset for each in others] == ["lab", "thesis"]
    tables = sequence_report.tables_of(scores, [from_rows(others[0])], published, [])
    assert [table.title.split(":")[0] for table in tables] == [
        *("Preset tiny", "Preset tiny", "Preset lab", "Preset lab")
    ]


def test_the_text_names_budget_rates_and_faults(scores: Scores) -> None:
    plain = sequence_report.settings(study(), scores)
    assert plain[0] == "Updates of each set: 8 in batches of 16."
    assert "names most of 40 % of each set's training images" in plain[1]
    assert plain[2:] == ["Train mode whole: a set's classes are told by its prompts."]
    other = study(train_mode="image-fc", template="imagenet", precision="bfloat16")
    assert sequence_report.settings(other, scores)[2] == (
        "Train mode image-fc: a set's classes are told by its head once it was trained, by its "
        "prompts before; with the templates of imagenet; computed in bfloat16."
    )
    rates = {"full": (0.001, 0.003, 0.01), "lora": (0.01, 0.03)}
    told = sequence_report.settings(study(lrs=rates), scores)[1]
    ends = "for all weights 0.001 of 0.001, 0.003, 0.01, where the list ends; for adapters 0.001 of"
    assert ends in told
    one = study(lrs={"full": (0.1,), "lora": (0.1,)})
    assert sequence_report.settings(one, scores)[1] == "Learning rates are given, none was chosen."
    faults = replace(study().faults_of_original, resume_bug=True)
    found = sequence_report.settings(study(faults_of_original=faults), scores)
    assert found[-1] == "As published: later sets train one update at rate 0."


def test_the_stage_writes_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for item in METHODS:
        found = [each for each in rows(item, seeds=2) if each.cell["order"] == "2"]
        write_rows(sequence_report.rows_of(item), found)
        write_maps(sequence_report.rows_of(item).with_name("tsne.csv"), item)
    sequence_report.RELEASED.mkdir(parents=True)
    for name in ("sequence.csv", "sequence-thesis.csv"):
        (sequence_report.RELEASED / name).write_text((RELEASED / name).read_text())
    asked: list[bool] = []
    context = runner.Context("sequence-report", "p", "s", lambda: asked.append(True))
    saved: list[str] = []
    monkeypatch.setattr(figures, "save", lambda figure, stem: saved.append(stem.name))
    sequence_report.stage(replace(config.read(TINY), sequence=study()), "", context)
    assert asked == [True]
    assert saved == NAMES
    assert set(SEQUENCE.figures) <= set(NAMES)
    made = {path.name for path in sequence_report.FOLDER.iterdir() if path.is_file()}
    assert made == {"sequence.csv", "sequence.md", "sequence.tex", "matrices.csv", "summary.json"}
    text = (sequence_report.FOLDER / "sequence.md").read_text()
    assert text.count("| order | method |") == 1 + 3 + 1
    latex = (sequence_report.FOLDER / "sequence.tex").read_text()
    assert latex.count(r"\begin{") == latex.count(r"\end{") > 4
