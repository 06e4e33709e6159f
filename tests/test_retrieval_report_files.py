"""The retrieval study's figures and files, from handmade rows."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from carryover import retrieval_predictions
from carryover import run as runner
from carryover.config import params as config
from carryover.config.retrieval import Retrieval, Source
from carryover.data.images import Images
from carryover.report import (
    figures,
    retrieval_attended,
    retrieval_corruptions,
    retrieval_curves,
    retrieval_dots,
    retrieval_nearest,
    retrieval_published,
    retrieval_steps,
    stored,
)
from carryover.report.page_retrieval import RETRIEVAL
from carryover.report.retrieval_nearest import Entry, Looked
from carryover.report.retrieval_scores import Scores, from_rows
from carryover.retrieval_predictions import FILE, FOLDER, METRICS
from carryover.rows import Row, write_rows
from carryover.studies import retrieval_report
from conftest import REPOSITORY, TINY
from retrieval_rows import ARMS, STEPS, N, everything, rows, run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RELEASED = REPOSITORY / "claims/released/retrieval.csv"
NAMES = [
    *("steps", "efficiency", "controls", "noise", "memory", "corruptions", "calibration"),
    "nearest",
]


@pytest.fixture(scope="module")
def scores() -> Scores:
    return from_rows(everything(2))


def titles(figure: Figure) -> list[str]:
    found = [axis.get_title(loc="left").strip() for axis in figure.axes]
    return [title for title in found if title]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def said(figure: Figure) -> str:
    return str(figure.get_supxlabel()).replace("\n", " ")


def ticks(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_yticklabels()]


# --- figures --------------------------------------------------------------------------------------


def test_lines_over_updates_are_accuracies_losses_and_what_the_published_metric_adds(
    scores: Scores,
) -> None:
    figure = retrieval_steps.steps(scores)
    assert titles(figure) == 3 * ["perceiver, digits", "resnet18, digits"]
    assert legend(figure) == [
        *("plain", "as many parameters added", "pretrained by BYOL", "nearest 10"),
        *("random 10", "vote of the neighbours, no training"),
    ]
    plain = figure.axes[0].lines[0]
    assert [float(x) for x in plain.get_xdata()] == list(STEPS)
    whole = [0.1 + 0.83 * (1 - math.exp(-step / 90)) for step in STEPS]
    assert [float(y) for y in plain.get_ydata()] == pytest.approx(whole, abs=0.01)
    assert figure.axes[2].lines[0].get_xdata()[0] == STEPS[1]  # no loss before any update
    added = figure.axes[4].lines[0].get_ydata()
    assert float(added[3]) == pytest.approx(0.012, abs=2e-3)


def test_kept_rows_are_columns_of_their_own(scores: Scores) -> None:
    lab = [replace(each, preset="lab") for each in run("perceiver", "none", None, "none")]
    figure = retrieval_steps.steps(scores, [from_rows(lab)])
    assert titles(figure)[2] == "perceiver, digits (lab)"
    assert len(titles(figure)) == 9


def test_an_axis_of_updates_is_logarithmic_where_tests_lie_close_at_first() -> None:
    late = [each for each in run("resnet18", "none", None, "none") if each.cell.get("step") != 0]
    axis = retrieval_steps.steps(from_rows(late)).axes[0]
    assert axis.get_xscale() == "log"
    assert [float(x) for x in axis.get_xticks()] == [5, 10, 20, 40, 80, 160]
    few = [each for each in late if each.cell.get("step", 100) >= 80]
    assert retrieval_steps.steps(from_rows(few)).axes[0].get_xscale() == "linear"


def test_steps_that_never_came_are_an_arrow_and_rings(scores: Scores) -> None:
    figure = retrieval_dots.efficiency(scores)
    assert legend(figure) == ["at least: some seed was never there"]
    left, right = figure.axes[2:4]
    names = ticks(left)
    assert names[0] == "plain"
    assert "vote of the nearest 10" not in names
    assert "query without noise" not in names  # the same training
    place = names.index("shuffled memory")
    arrows = [line for line in left.lines if line.get_marker() == ">" and line.get_ydata() == place]
    assert [round(float(line.get_xdata()[0])) for line in arrows] == [round(math.sqrt(160 * 240))]
    rings = [line for line in left.lines if line.get_marker() == "o" and line.get_ydata() > place]
    assert float(rings[0].get_xdata()[0]) == 240
    assert len(right.containers) == len(names)
    no_bound = from_rows(run("resnet18", "knn", 10, "none"))
    assert not retrieval_dots.efficiency(no_bound).legends


def test_controls_stand_beside_nearest(scores: Scores) -> None:
    figure = retrieval_dots.controls(scores)
    assert titles(figure)[:2] == ["accuracy, %", "minus that of nearest 10, points"]
    left, right = figure.axes[:2]
    assert len(ticks(left)) == len(ARMS)
    values = [float(each.lines[0].get_xdata()[0]) for each in left.containers]
    assert values[0] == pytest.approx(0.93 + 0.0025, abs=1e-3)
    assert len(right.containers) == len(ARMS) - 1  # not of nearest itself
    assert "right: over seeds, paired, on the same test images" in said(figure)
    single = retrieval_dots.controls(from_rows(everything(1)))
    assert "right: over test images, as if the two were tested on different ones" in said(single)
    assert retrieval_dots.controls(from_rows(run("resnet18", "none", None, "none"))).axes[0].texts


def test_noise_has_a_line_an_arm_and_a_query_without_noise_begins_where_nearest_does(
    scores: Scores,
) -> None:
    figure = retrieval_curves.noise(scores)
    assert titles(figure) == ["perceiver, digits", "resnet18, digits"]
    assert "query without noise" in legend(figure)
    assert "nearest 5" not in legend(figure)
    less = [
        each
        for each in everything(2)
        if (each.cell["control"], each.cell.get("noise")) != ("clean-query", 0.0)
    ]
    axis = retrieval_curves.noise(from_rows(less)).axes[0]
    assert [len(each.lines[0].get_xdata()) for each in axis.containers] == [5] * 7


def test_memory_has_k_and_sizes_with_the_usual_one(scores: Scores) -> None:
    published = retrieval_published.scores(RELEASED)
    figure = retrieval_curves.memory(scores, published, 40)
    left, right = figure.axes[:2]
    assert [float(x) for x in left.get_xticks()] == pytest.approx([5, 10, 30], rel=0.1)
    assert [float(x) for x in right.get_xticks()] == [5, 20, 40]
    assert "published" not in legend(figure)  # another set
    rows = [
        replace(each, cell=each.cell | {"dataset": "cifar10"})
        for each in everything(2)
        if each.item == "resnet18"
    ]
    same = retrieval_curves.memory(from_rows(rows), published, 40)
    assert legend(same)[-1] == "published"
    shown = [line for line in same.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert float(shown[0].get_ydata()[0]) == 0.9453


def test_corruptions_have_a_panel_each_and_their_mean(scores: Scores) -> None:
    figure = retrieval_corruptions.corruptions(scores)
    assert titles(figure)[:5] == ["brightness", "contrast", "gaussian-blur", "jpeg", "mean of all"]
    single, whole = figure.axes[0].containers[0].lines[0], figure.axes[4].containers[0].lines[0]
    assert float(single.get_ydata()[0]) == float(whole.get_ydata()[0])  # without corruption
    each = [axis.containers[0].lines[0].get_ydata()[-1] for axis in figure.axes[:4]]
    assert float(whole.get_ydata()[-1]) == pytest.approx(np.mean(each))


def test_calibration_is_of_arms_at_the_main_number(scores: Scores) -> None:
    figure = retrieval_dots.calibration(scores)
    names = ticks(figure.axes[0])
    assert names == [
        *("plain", "pretrained by BYOL", "probe of the features", "nearest 10"),
        *("vote of the nearest 10", "labels in the entries", "memory of zeros", "random 10"),
    ]
    assert not figure.legends
    noisy = [
        replace(each, cell=each.cell | {"noise": 0.5}, value=each.value + 0.1)
        for each in everything(2)
        if each.metric in ("ece", "nll")
    ]
    assert legend(retrieval_dots.calibration(from_rows([*everything(2), *noisy]))) == [
        *("no noise", "noise 0.5")
    ]


def looked() -> list[Looked]:
    entries = tuple(Entry(i, i % 2, 0.1 * (i + 1)) for i in range(4))
    return [Looked(7, 0, entries, 4), Looked(8, 1, entries, 4)]


def test_pictures_are_framed_by_class_with_their_weight() -> None:
    pixels = {i: np.full((4, 4), i / 10) for i in range(10)}
    figure = retrieval_nearest.nearest({"resnet18": looked()}, pixels, pixels, ("zero", "one"))
    axis = figure.axes[0]
    assert ticks(axis) == ["zero", "one"]
    assert [text.get_text() for text in axis.texts] == 2 * ["10.0", "20.0", "30.0", "40.0"]
    assert len(axis.images) == 2 * 5
    frames = [patch.get_edgecolor() for patch in axis.patches[:5]]
    assert frames[1] == frames[3] != frames[2] == frames[4]
    assert "25 if all 4 were alike" in said(figure)


def test_what_has_no_rows_says_so() -> None:
    (row,) = [each for each in run("resnet18", "none", None, "none", 1) if each.metric == "area"]
    nothing = from_rows([row])
    for figure, why in (
        (retrieval_steps.steps(nothing), "no accuracies on the way"),
        (retrieval_curves.noise(nothing), "no accuracies under noise"),
        (retrieval_curves.memory(nothing), "no other numbers of entries than one"),
        (retrieval_dots.controls(nothing), "no arms but one"),
        (retrieval_dots.calibration(nothing), "no calibration of any arm"),
        (retrieval_corruptions.corruptions(nothing), "no accuracies under corruptions"),
        (retrieval_nearest.nearest({}, {}, {}, ()), "no table of what was attended to"),
    ):
        assert [text.get_text() for text in figure.axes[0].texts] == [why]


# --- what is attended to --------------------------------------------------------------------------


def test_the_table_of_attention_is_read_by_image(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert retrieval_attended.read(tmp_path / "none.parquet") == []
    lines = [
        {"seed": seed, "image": image, "label": label, "place": place, "neighbour": 10 * place}
        | {"neighbour_label": label, "weight": 0.75 - 0.5 * place + seed}
        for seed in (1, 0)
        for image, label in ((5, 1), (9, 0))
        for place in (1, 0)
    ]
    path = tmp_path / retrieval_attended.FILE
    pq.write_table(pa.Table.from_pylist(lines), path)
    found = retrieval_attended.read(path)
    assert [(each.id, each.label, each.k) for each in found] == [(9, 0, 2), (5, 1, 2)]
    assert found[0].entries == (Entry(0, 0, 0.75), Entry(10, 0, 0.25))


def test_pictures_are_of_the_ids_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path, split: str) -> Images:
        ids = torch.tensor([7, 8]) if split == "test" else torch.arange(5)
        pixels = (ids[:, None, None, None] * 51).to(torch.uint8).expand(-1, channels, 2, 3)
        return Images(ids % 2, ("zero", "one"), ids, {}, "", pixels)

    monkeypatch.setattr(retrieval_attended.store, "load", load)
    channels = 1
    queries, memory, names = retrieval_attended.pictures(tmp_path, {"resnet18": looked()[:1]})
    assert (list(queries), list(memory), names) == ([7], [0, 1, 2, 3], ("zero", "one"))
    assert memory[3].shape == (2, 3)
    assert float(memory[3][0, 0]) == pytest.approx(0.6)
    channels = 3
    assert retrieval_attended.pictures(tmp_path, {"a": looked()})[1][3].shape == (2, 3, 3)


# --- the stage ------------------------------------------------------------------------------------


def study(**changes: Any) -> Retrieval:
    given = {"items": ("resnet18", "perceiver"), "preset": "tiny"} | changes
    return replace(config.read(TINY).retrieval, **given)


def kept(path: Path, found: list[Row], preset: str) -> None:
    write_rows(path, [replace(each, preset=preset) for each in found])


def test_kept_rows_of_other_presets_are_tables_of_their_own(tmp_path: Path, scores: Scores) -> None:
    found = run("resnet18", "none", None, "none")
    for place, preset in (
        ("tiny/retrieval", "tiny"),
        ("lab/retrieval", "lab"),
        ("published/retrieval/mnist", "published"),
    ):
        kept(tmp_path / place / "runs/resnet18/rows.jsonl", found, preset)
    others = list(stored.kept_rows(tmp_path, "retrieval", "tiny"))
    assert [each[0].preset for each in others] == ["lab", "published"]
    tables = retrieval_report.tables_of(scores, [from_rows(others[0])], [])
    assert [table.title.split(":")[0] for table in tables] == [
        *["Preset tiny"] * 5,
        *["Preset lab"] * 3,
    ]


def test_the_text_names_memory_budget_rates_and_faults() -> None:
    tiny, made = study(), from_rows(everything(1))
    plain = retrieval_report.settings(tiny, {}, made)
    assert f"{tiny.memory.per_class} images of each class of {tiny.dataset}" in plain[0]
    assert plain[2].startswith("Updates: resnet18 240, perceiver 240, in")  # of the rows
    assert plain[2].endswith(f", in batches of {tiny.batch_size}.")
    faults = replace(tiny.faults_of_original, entry_zero=True, reshaped_tokens=True)
    found = retrieval_report.settings(
        replace(tiny, faults_of_original=faults, head_classes=1000, normalise=False), {}, made
    )
    assert found[-1] == (
        "As published: every random entry is entry 0; retrieval blocks scramble the map; "
        "1000 outputs; pixels are not normalised."
    )
    resnet = replace(tiny.training["resnet18"], schedule="cosine-epoch")
    stepped = replace(tiny, drop_last=True, training=tiny.training | {"resnet18": resnet})
    assert retrieval_report.settings(stepped, {}, made)[-1] == (
        "As published: an epoch's last, smaller batch is left out; rates move once an epoch."
    )
    memory = replace(tiny.memory, images="training", exclude_own=False)
    told = retrieval_report.settings(replace(tiny, memory=memory), {}, made)[0]
    assert "which are training images too, an image's own not left out" in told


def test_rows_of_different_parameters_are_told() -> None:
    tiny, made = study(), from_rows(everything(1))
    plain = retrieval_report.settings(tiny, {}, made)
    for other, said in (("p", []), ("q", ["(digests: resnet18 p, perceiver q): do not compare"])):
        digests = {"resnet18": "p", "perceiver": other}
        found = retrieval_report.settings(tiny, {}, made, digests)
        assert found[len(said) :] == plain
        assert all(part in sentence for part, sentence in zip(said, found, strict=False))


def test_the_text_names_what_pretrained_networks_saw() -> None:
    tiny = replace(
        study(),
        items=("resnet18",),
        controls={"resnet18": ("simclr",)},
        starts={"resnet18": {"simclr": Source("simclr:resnet50", "x.pth")}},
    )
    params, made = config.read(REPOSITORY / "presets" / "mini.yaml"), from_rows(everything(1))
    memory = replace(tiny.memory, encoder=Source("pretrain:byol", None))
    found = retrieval_report.settings(replace(tiny, memory=memory), params.pretrain, made)
    assert "by pretrain:byol (images of world without labels); others" in found[0]
    assert found[1] == "Pretrained starts: resnet18, pretrained by SimCLR: simclr:resnet50."
    none = replace(tiny, controls={"resnet18": ("vote",)})
    assert retrieval_report.settings(none, {}, made)[1].startswith("Updates: ")


def test_the_stage_writes_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for item in ("resnet18", "perceiver"):
        made = rows(item, seeds=2)
        write_rows(retrieval_report.rows_of(item), made)
        shares = [row for row in made if row.metric in METRICS]
        tests = [
            (row.cell, (np.arange(row.n) >= round(row.value * row.n)).astype(int)) for row in shares
        ]
        retrieval_predictions.write(FOLDER / item / FILE, np.zeros(N, dtype=int), tests)
    retrieval_report.RELEASED.parent.mkdir(parents=True)
    retrieval_report.RELEASED.write_text(RELEASED.read_text())
    asked: list[bool] = []
    context = runner.Context("retrieval-report", "p", "s", lambda: asked.append(True))
    saved: list[str] = []
    monkeypatch.setattr(figures, "save", lambda figure, stem: saved.append(stem.name))
    retrieval_report.stage(replace(config.read(TINY), retrieval=study()), "", context)
    assert asked == [True]
    assert saved == NAMES
    assert set(RETRIEVAL.figures) == set(NAMES)
    made = {path.name for path in retrieval_report.FOLDER.iterdir() if path.is_file()}
    assert ",2,seed and image," in (retrieval_report.FOLDER / "gains.csv").read_text()
    assert made == {
        *("retrieval.csv", "retrieval.md", "retrieval.tex", "gains.csv", "summary.json")
    }
    text = (retrieval_report.FOLDER / "retrieval.md").read_text()
    assert text.count("| item | data | arm |") == 6
    latex = (retrieval_report.FOLDER / "retrieval.tex").read_text()
    assert latex.count(r"\begin{") == latex.count(r"\end{") > 6
