"""The continual study's figures, from handmade rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carryover.report import (
    blocks,
    continual_accuracy,
    continual_between,
    continual_cka,
    continual_dots,
    continual_grid,
    continual_maps,
    continual_published,
    continual_scores,
    continual_training,
    figures,
)
from carryover.report.continual_scores import Scores, from_rows
from conftest import REPOSITORY
from continual_rows import between, features, run, untrained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PUBLISHED = continual_published.read(REPOSITORY / "claims/released/continual.csv")
NAMES = (
    *("accuracy", "final", "forgetting", "matrix", "training", "training-loss"),
    *("cka", "cka-layers"),
)
PARTLY = ("tokens", "mlp", "children-2")


def small(seeds: int = 3) -> Scores:
    """Two arms and two strategies on two streams, one of them the original's."""
    found = [*untrained(), *features()]
    for strategy in ("naive", "replay"):
        found += run("frozen", "s-digits", "ci-5", strategy, seeds=seeds)
        found += run("partly", "s-digits", "ci-5", strategy, PARTLY, seeds)
        found += run("frozen", "s-mnist", "ni-3", strategy, seeds=seeds)
    return from_rows(found)


@pytest.fixture(scope="module")
def scores() -> Scores:
    return small()


def drawn(scores: Scores, name: str) -> Figure:
    made: dict[str, Any] = {
        "accuracy": lambda: continual_accuracy.accuracy(scores, PUBLISHED),
        "final": lambda: continual_dots.final(scores, PUBLISHED),
        "forgetting": lambda: continual_dots.forgetting(scores),
        "matrix": lambda: continual_maps.matrix(scores),
        "training": lambda: continual_training.training(scores, "epoch_accuracy"),
        "training-loss": lambda: continual_training.training(scores, "epoch_loss", {"mlp"}),
        "cka": lambda: continual_cka.by_depth(scores, "linear, debiased"),
        "cka-layers": lambda: continual_maps.layers(scores),
        "cka-between": lambda: continual_between.between(scores, from_rows(between()), "linear"),
        "cka-untrained": lambda: continual_cka.untrained(scores, PUBLISHED),
    }
    figure: Figure = made[name]()
    return figure


def words(figure: Figure) -> str:
    from matplotlib.text import Text

    found = (text.get_text() for text in figure.findobj(Text) if text.get_visible())
    return " ".join(found).replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")


def titles(figure: Figure) -> list[str]:
    return [axis.get_title(loc="left").strip().replace("\n", " ") for axis in figure.axes]


@pytest.mark.parametrize("name", [*NAMES, "cka-between", "cka-untrained"])
def test_no_letter_is_small_or_outside_and_n_is_said(scores: Scores, name: str) -> None:
    from matplotlib.text import Text

    figure = drawn(scores, name)
    wanted = {"matrix": "n = 72", "cka": "n = 256", "cka-layers": "n = 256", "training": "seed"}
    wanted["training-loss"] = "seed"
    wanted["cka-between"] = "n = 256 test images; 1 seed"
    wanted["cka-untrained"] = "n = 256 images for CKA"
    assert wanted.get(name, "n = 360") in words(figure)
    narrow = name == "cka-untrained"
    assert figure.get_size_inches()[0] == (figures.COLUMN if narrow else figures.PAGE)
    with figures.style():
        figure.draw_without_rendering()
        unseen = {  # ticks beyond the ends of an axis, which are not drawn
            id(text)
            for axis in figure.axes
            for ticks, ends, i in (
                (axis.get_xticklabels(), axis.get_xlim(), 0),
                (axis.get_yticklabels(), axis.get_ylim(), 1),
            )
            for text in ticks
            if not min(ends) <= text.get_position()[i] <= max(ends)
        }
        for text in figure.findobj(Text):
            if text.get_visible() and text.get_text().strip() and id(text) not in unseen:
                assert text.get_fontsize() >= 7, text
                box = text.get_window_extent()
                corners = np.array([[box.x0, box.y0], [box.x1, box.y1]]) / figure.bbox.size
                assert ((corners > -0.002) & (corners < 1.002)).all(), text


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_is_drawn_and_said(name: str) -> None:
    assert "1 seed" in words(drawn(small(1), name)) or name == "cka-layers"


@pytest.mark.parametrize("name", NAMES)
def test_what_no_row_has_is_said_instead(name: str) -> None:
    figure = drawn(from_rows(features()), name)
    assert words(figure).strip().startswith("no ")


def test_accuracy_has_a_panel_an_arm_and_the_published_hollow(scores: Scores) -> None:
    figure = drawn(scores, "accuracy")
    assert titles(figure) == [
        *("frozen: tokens, mlp", "partly: tokens, mlp, freeze children-2", "frozen: tokens, mlp")
    ]
    frozen, _, mnist = figure.axes
    ours = [container.lines[0] for container in frozen.containers]
    assert list(ours[0].get_ydata()) == pytest.approx([0.22, 0.316, 0.388, 0.436, 0.46])
    hollow = [c.lines[0] for c in mnist.containers if c.lines[0].get_markerfacecolor() == "white"]
    assert len(hollow) == 3  # with EWC, which ours lack
    assert list(hollow[1].get_ydata()) == [0.9641, 0.9734, 0.9749]
    assert "s-digits, ci-5 (n = 360)" in words(figure)
    dashed = [line for line in frozen.lines if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [0.1]


def test_streams_of_unknown_classes_have_no_chance_line() -> None:
    found = [
        replace(each, cell=each.cell | {"stream": "my-birds"})
        for each in run("frozen", "s-digits", "ni-3", "naive")
    ]
    for name in ("accuracy", "final"):
        assert "chance" not in words(drawn(from_rows(found), name))


def test_training_accuracies_stand_beside_test_accuracy(scores: Scores) -> None:
    frozen = drawn(scores, "final").axes[0]
    found = {
        (line.get_marker(), round(float(line.get_ydata()[0])), round(float(line.get_xdata()[0]), 3))
        for line in (container.lines[0] for container in frozen.containers)
    }
    assert {("o", 0, 0.46), ("o", 1, 0.62), ("^", 1, 0.72), ("s", 1, 0.99)} <= found
    assert not any(marker == "s" and row == 0 for marker, row, _ in found)  # naive replays nothing


def test_panels_of_high_accuracies_alone_have_a_scale_of_their_own() -> None:
    """Both arms' tokens are above 80 per cent, and below them the class token is drawn from 0."""
    found = run("frozen", "s-digits", "ni-3", "naive")
    found += run("frozen", "s-digits", "ni-3", "naive", ("cls", "mlp", ""))
    found += run("partly", "s-digits", "ni-3", "naive", PARTLY)
    high = [
        replace(each, value=0.8 + each.value / 5)
        if "accuracy" in each.metric and each.cell["features"] == "tokens"
        else each
        for each in found
    ]
    accuracy, final = (drawn(from_rows(high), name) for name in ("accuracy", "final"))
    tokens, cls, partly = accuracy.axes
    assert tokens.get_ylim() == partly.get_ylim() != cls.get_ylim()
    assert 0.8 < tokens.get_ylim()[0] < 0.9
    assert cls.get_ylim()[0] == 0
    assert [axis.yaxis.get_tick_params()["labelleft"] for axis in accuracy.axes] == [True] * 3
    assert [sum(line.get_linestyle() == "--" for line in a.lines) for a in accuracy.axes] == [
        *(0, 1, 0)  # chance, where it is on the scale
    ]
    ticks = [list(axis.get_xticks()) for axis in final.axes]
    assert ticks[0] == ticks[2] == pytest.approx([0.9, 0.95, 1.0])
    assert [round(axis.get_xlim()[0], 3) for axis in final.axes] == [0.898, -0.02, 0.898]
    dotted = [sum(line.get_linestyle() == "--" for line in axis.lines) for axis in final.axes]
    assert dotted == [0, 1, 0]
    low = [axis.get_ylim()[0] for axis in drawn(from_rows(found), "accuracy").axes]
    assert low == [0, 0, 0]


def test_forgetting_is_avalanches_where_there_is_one_test_set(scores: Scores) -> None:
    figure = drawn(scores, "forgetting")
    classes, chunks = figure.axes
    assert titles(figure) == ["s-digits, ci-5 (n = 360)", "s-mnist, ni-3 (n = 10000, one test set)"]
    values = {round(float(c.lines[0].get_xdata()[0]), 3) for c in classes.containers}
    assert values == {0.3, 0.1}
    assert {round(float(c.lines[0].get_xdata()[0]), 3) for c in chunks.containers} == {-0.1}


def test_a_map_is_the_mean_accuracy_matrix(scores: Scores) -> None:
    figure = drawn(scores, "matrix")
    assert titles(figure)[:4] == ["naive", "replay", "naive", "replay"]
    image = figure.axes[0].images[0].get_array()
    assert image.shape == (6, 5)
    assert image[5].tolist() == pytest.approx([0.22, 0.34, 0.46, 0.58, 0.7])
    assert image[0].tolist() == pytest.approx([0.1] * 5)
    assert "s-mnist" not in words(figure)


def test_trainings_at_once_leave_rows_of_a_map_empty() -> None:
    found = [each for s in ("naive", "joint") for each in run("frozen", "s-digits", "ci-5", s)]
    naive, joint = drawn(from_rows(found), "matrix").axes[:2]
    assert naive.images[0].get_array().shape == joint.images[0].get_array().shape
    seen = ~np.isnan(np.ma.filled(joint.images[0].get_array(), np.nan)).all(axis=1)
    assert seen.tolist() == [True, False, False, False, False, True]


def test_training_goes_on_from_experience_to_experience(scores: Scores) -> None:
    accuracy, *_ = drawn(scores, "training").axes
    loss, *_ = drawn(scores, "training-loss").axes
    line = loss.lines[0]
    assert list(line.get_xdata()) == [float(epoch) for epoch in range(1, 11)]
    assert line.get_ydata()[1] == pytest.approx(1.6)
    floor = continual_scores.floor(continual_scores.runs(scores)[0])
    assert [round(each.get_ydata()[0], 4) for each in loss.lines if each.get_linestyle() == "-."]
    assert floor in [each.get_ydata()[0] for each in loss.lines]
    assert accuracy.lines[0].get_ydata()[1] == pytest.approx(0.72)
    assert "least loss" not in words(continual_training.training(scores, "epoch_loss"))


def test_many_strategies_of_an_arm_are_drawn_in_parts() -> None:
    every = [
        each
        for s in ("naive", "ewc", "replay", "joint")
        for each in run("frozen", "s-digits", "ci-5", s)
    ]
    every += [
        replace(each, cell=each.cell | {"strategy": "lwf"})
        for each in run("frozen", "s-digits", "ci-5", "naive")
    ]
    figure = drawn(from_rows(every), "training")
    assert titles(figure) == [f"frozen: tokens, mlp ({part} of 2)" for part in (1, 2)]
    naive, other = ([tuple(axis.lines[0].get_ydata())] for axis in figure.axes)
    assert naive == other  # in both, to be held against
    markers = [[line.get_marker() for line in axis.lines] for axis in figure.axes]
    assert [[m for m in found if m != "None"] for found in markers] == [
        ["o", "s", "^", "v"],
        ["o", "X"],
    ]


def test_blocks_that_fit_stand_side_by_side() -> None:
    block = blocks.Block
    found = [block("a", ["1", "2"]), block("b", ["1"]), block("c" * 30, ["1"]), block("d", ["1"])]
    figure, made = continual_grid.blocks(found, 4, 1.0)
    rows = [[axis.get_subplotspec().rowspan.start for axis in axes] for axes in made]
    columns = [[axis.get_subplotspec().colspan.start for axis in axes] for axes in made]
    assert rows == [[0, 0], [0], [1], [1]]
    assert columns == [[0, 1], [2], [0], [2]]  # the third's heading is two panels long
    assert figure.get_figheight() == pytest.approx(1.0 + 2 * 1.61)
    _, (first, second) = continual_grid.blocks([block("", ["1"] * 6), found[1]], 4, [1.0, 2.0])
    assert [axis.get_subplotspec().rowspan.start for axis in first] == [0] * 4 + [1] * 2
    assert second[0].get_subplotspec().rowspan.start == 2  # not under the heading of the first


def test_cka_is_drawn_by_depth_with_a_line_an_experience(scores: Scores) -> None:
    naive = drawn(scores, "cka").axes[0]
    assert len(naive.lines) == 5
    assert list(naive.lines[0].get_ydata()) == pytest.approx([1.0, 0.978, 0.956])
    low = naive.collections[0].get_paths()[0].vertices[:, 1].min()
    assert "CKA (linear, debiased) of each layer" in words(drawn(scores, "cka"))
    assert low < 0.956 - 0.02  # wider than over images alone


def test_frozen_partly_frozen_and_unfrozen_encoders_are_compared_in_one_panel(
    scores: Scores,
) -> None:
    more = [*run("partly", "s-digits", "ci-5", "naive", PARTLY)]
    more += run("unfrozen", "s-digits", "ci-5", "naive")
    figure = continual_between.between(from_rows(more), from_rows(between()), "linear, debiased")
    assert titles(figure) == ["children-2, naive"]
    (axis,) = figure.axes
    loaded = [1.0, 0.9, 0.8]  # of the first seed after the last of five experiences
    found = [list(line.get_ydata()) for line in axis.lines]
    assert found == [pytest.approx(each) for each in (loaded, loaded, [0.9, 0.8, 0.7])]
    band = axis.collections[2].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(0.65), pytest.approx(0.93))
    alone = continual_between.between(from_rows(features()), from_rows(between()))
    assert len(alone.axes[0].lines) == 1
    assert words(continual_between.between(scores, None)).startswith("no partly frozen encoder")


def test_encoders_that_did_not_change_are_named_and_drawn_once() -> None:
    found = [
        replace(each, value=1.0) if each.metric.startswith("cka") else each
        for strategy in ("naive", "replay")
        for each in run("partly", "s-digits", "ci-5", strategy, PARTLY)
    ]
    same = from_rows(found)
    assert "CKA is 1 at every layer: partly: tokens, mlp, freeze children-2" in words(
        drawn(same, "cka")
    )
    assert titles(drawn(same, "cka-layers"))[:1] == [
        "partly: tokens, mlp, freeze children-2, naive"
    ]
    assert len(drawn(same, "cka-layers").axes) == 2  # the map and its colours


def test_the_published_score_stands_beside_cka(scores: Scores) -> None:
    axis = drawn(scores, "cka-untrained").axes[0]
    found = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert found == {
        "CKA, ours": [1.0] * 3,
        "published formula, ours": [0.8, 0.5, 0.4],
        "published (read by eye)": [0.855, 0.473, 0.512, 0.431],
    }
    bare = continual_cka.untrained(from_rows(features()), PUBLISHED)
    assert "no rows of ours" in words(bare)


def test_strategies_and_arms_look_different_from_each_other(scores: Scores) -> None:
    looks = [tuple(look.values()) for look in continual_grid.LOOKS.values()]
    assert len(set(looks)) == len(continual_scores.STRATEGIES)
    found = continual_grid.arm_looks(continual_scores.runs(scores))
    assert [look["color"] for look in found.values()] == ["#0072b2", "#009e73"]


def test_columns_fill_the_rows_of_the_largest_block() -> None:
    assert continual_grid.across([5, 2], 5) == 5
    assert continual_grid.across([6], 5) == 3
    assert continual_grid.across([6, 1], 5) == 5
    assert continual_grid.across([2, 1], 5) == 3
    assert continual_grid.across([1], 5) == 1


def test_a_figure_is_saved_the_same_twice(tmp_path: Path, scores: Scores) -> None:
    for name in ("a", "b"):
        figures.save(drawn(scores, "forgetting"), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").stat().st_size > 5000
