"""The adaptation study's figures, the published values and the times that they show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from adapt_rows import everything, rows
from carryover.errors import DataError
from carryover.measure.statistics import wilson
from carryover.report import adapt_fault, adapt_lines, adapt_published, adapt_time, figures
from carryover.report.adapt_scores import AdaptScores, from_rows
from conftest import REPOSITORY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RELEASED = REPOSITORY / "claims/released/adapt.csv"


@pytest.fixture(scope="module")
def scores() -> AdaptScores:
    return from_rows(everything())


def test_published_curves_are_the_readmes() -> None:
    found = adapt_published.read(RELEASED)
    assert adapt_published.partitions(found) == [0.01, *(i / 10 for i in range(1, 11))]
    probe = found.curves["clip-vit-b-32", "probe"]
    assert probe[0.3].value == 0.765  # a floored 76 %
    assert probe[0.3].low == pytest.approx(wilson(19316, 25250).low - 0.005)
    assert found.zero_shot.value == pytest.approx(17840 / 25250)
    assert all(curve[1.0].high < curve[0.5].low for curve in found.curves.values())


def test_a_table_that_is_not_the_released_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapt.csv"
    path.write_text("item,cell\n")
    with pytest.raises(DataError, match="expected accuracies of each model on food-101"):
        adapt_published.read(path)
    path.write_text("item,cell\nllrd,dataset\n")
    with pytest.raises(DataError, match="expected released accuracies"):
        adapt_published.read(path)


def test_times_of_another_form_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapt.json"
    with pytest.raises(DataError, match=r"adapt\.json: expected seconds_per_epoch .*make bench"):
        adapt_time.read(path)
    method = {"seconds_per_epoch": [], "images": 5}
    path.write_text(
        json.dumps(
            {
                "methods": {"probe": method},
                "machine": "two cores",
                "encoder": "clip-nano",
                "dataset": "digits",
            }
        )
    )
    with pytest.raises(DataError, match="expected one turn or more"):
        adapt_time.read(path)


# --- figures -----------------------------------------------------------------------------------

TIMED = adapt_time.Timed(
    {"probe": [0.01, 0.03, 0.02], "llrd": [2.0, 2.5, 2.2]},
    {"probe": 1000, "llrd": 1000},
    "two cores",
    what="clip-nano adapted to digits",
)


def drawn(scores: AdaptScores, name: str) -> Figure:
    published = adapt_published.read(RELEASED)
    if name == "fault":
        return adapt_fault.fault(scores, published)
    if name == "time":
        return adapt_time.time(TIMED)
    if name == "beside":
        return adapt_lines.accuracy(replace(scores, dataset="food-101"), published)
    made: Figure = getattr(adapt_lines, name)(scores)
    return made


def words(figure: Figure) -> str:
    from matplotlib.text import Text

    found = (text.get_text() for text in figure.findobj(Text) if text.get_visible())
    return " ".join(found).replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")


@pytest.mark.parametrize(
    "name", ["accuracy", "beside", "fault", "retention", "calibration", "time"]
)
def test_no_letter_is_small_or_outside_and_n_is_said(scores: AdaptScores, name: str) -> None:
    from matplotlib.text import Text

    figure = drawn(scores, name)
    assert "n = 1000" if name == "time" else "n = 400" in words(figure)
    assert ("turns" if name == "time" else "3 seeds") in words(figure)
    assert figure.get_size_inches()[0] == (figures.COLUMN if name == "time" else figures.PAGE)
    with figures.style():
        figure.draw_without_rendering()
        unseen = {  # ticks beyond the ends of an axis, which are not drawn
            id(text)
            for axis in figure.axes
            for text in axis.get_xticklabels()
            if not axis.get_xlim()[0] <= text.get_position()[0] <= axis.get_xlim()[1]
        }
        for text in figure.findobj(Text):
            if text.get_visible() and text.get_text() and id(text) not in unseen:
                assert text.get_fontsize() >= 7, text
                box = text.get_window_extent()
                corners = np.array([[box.x0, box.y0], [box.x1, box.y1]]) / figure.bbox.size
                assert ((corners > -0.002) & (corners < 1.002)).all(), text


@pytest.mark.parametrize("without", [("digits", "zero-shot"), ("zero-shot",), ("digits",)])
def test_figures_are_drawn_without_zero_shot_accuracies(without: tuple[str, ...]) -> None:
    """As of a data set whose class names the encoder does not know."""
    scores = from_rows(
        row
        for row in everything()
        if row.cell["method"] not in without
        and not (row.metric == "zeroshot_accuracy" and row.cell["dataset"] in without)
    )
    said = {}
    for name in ("accuracy", "beside", "fault", "retention", "calibration"):
        figure = drawn(scores, name)
        with figures.style():
            figure.draw_without_rendering()
        said[name] = words(figure)
    assert ("band" in said["accuracy"]) == ("zero-shot" not in without)
    if "zero-shot" in without:
        assert said["retention"].strip() == "no zero-shot accuracies before and after adapting"
    else:
        assert "mean of 2 other sets" in said["retention"]
        assert "digits itself" not in said["retention"]


def test_accuracy_has_a_panel_a_family_and_the_probe_in_each(scores: AdaptScores) -> None:
    panels = drawn(scores, "accuracy").axes
    heads = [axis.get_legend().get_title().get_text() for axis in panels]
    assert heads == [
        *("encoder frozen", "unfrozen by kind", "embedding or everything", "unfrozen by depth"),
        "norms, falling rates",
    ]
    lines = {
        head: {c.get_label() for c in axis.containers}
        for head, axis in zip(heads, panels, strict=True)
    }
    assert lines["unfrozen by kind"] == {"probe", "norms"}
    assert lines["embedding or everything"] == {"probe", "all"}
    for axis in panels:
        labels = [text.get_text() for text in axis.get_legend().get_texts()]
        assert "probe" in labels
        line = next(c for c in axis.containers if c.get_label() == "probe").lines[0]
        assert list(line.get_ydata()) == pytest.approx([0.6, 0.7, 0.8])
    dashed = [line for line in panels[4].lines if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [0.35]


def test_published_values_stand_beside_ours_on_the_same_set_alone(scores: AdaptScores) -> None:
    assert "published" not in words(drawn(scores, "accuracy"))
    axes = drawn(scores, "beside").axes
    lines = {c.get_label(): c.lines[0] for axis in axes for c in axis.containers}
    assert list(lines["published: probe"].get_ydata()) == [0.725, 0.695, 0.545]
    assert list(lines["published: norms, LLRD"].get_ydata()) == [0.795, 0.825, 0.615]


def test_faulty_partitions_stand_beside_the_correct_and_the_published(scores: AdaptScores) -> None:
    ours, theirs = drawn(scores, "fault").axes
    assert [c.get_label() for c in ours.containers] == [
        *("correct", "a class folder missing", "a class folder too many")
    ]
    assert len(theirs.containers) == 5
    assert theirs.containers[4].lines[0].get_ydata()[0] == 0.0202
    assert [line.get_xdata()[0] for line in ours.lines if line.get_linestyle() == ":"] == [0.5]


def test_retention_has_the_set_itself_above_the_others(scores: AdaptScores) -> None:
    axes = drawn(scores, "retention").axes
    assert [axes[0].get_ylabel(), axes[2].get_ylabel()] == ["digits itself", "mean of 2 other sets"]
    lines = {c.get_label(): c.lines[0] for c in axes[2].containers}
    assert list(lines["all"].get_ydata()) == pytest.approx([0.68, 0.6, 0.5])
    frozen = from_rows(rows("probe"))
    assert "no zero-shot accuracies" in words(adapt_lines.retention(frozen))


def test_no_note_below_calibration_is_broken(scores: AdaptScores) -> None:
    said = drawn(scores, "calibration").get_supxlabel().replace("\N{NO-BREAK SPACE}", " ")
    assert said.split("\n")[1:3] == [
        "0: of the answers given with 80 % confidence, 80 % are right",
        "bars: 95 % Student t interval over seeds, none below 0; zero-shot has none",
    ]


def test_times_are_the_median_and_the_range_of_the_turns() -> None:
    axis = adapt_time.time(TIMED).axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["probe", "llrd"]
    assert [text.get_text() for text in axis.texts] == ["0.02 s", "2.2 s"]
    assert [list(line.get_xdata()) for line in axis.lines[::2]] == [[0.01, 0.03], [2.0, 2.5]]


def test_times_without_epochs_are_told_apart() -> None:
    assert "without epochs" not in words(adapt_time.time(TIMED))
    more = replace(
        TIMED,
        seconds=TIMED.seconds | {"zero-shot, in all": [0.1]},
        images=TIMED.images | {"zero-shot, in all": 0},
    )
    told = words(adapt_time.time(more))
    assert "n = 1000 images an epoch; in all: without epochs" in told
