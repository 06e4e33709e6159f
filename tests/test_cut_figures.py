from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carryover.errors import DataError
from carryover.report import cut_boxes, cut_compare, cut_lines, cut_maps, cut_tables, figures
from carryover.report.cut_scores import CutScores, columns, varying
from cut_scores import CUTS, IMAGES, everything, generator, made_up

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@pytest.fixture
def scores() -> CutScores:
    return made_up()


FIGURES = ("box", "box of one", "difference", "gain", "mean", "range", "bars", "heat map")
FIGURES += ("surface", "compare")


def words(figure: Figure) -> list[Any]:
    """Every text that is drawn."""
    from matplotlib.text import Text

    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def lines(axis: Any) -> list[Any]:
    """Error bars of an axis in the order drawn: their middle line."""
    return [container.lines[0] for container in axis.containers]


# --- what every figure holds to ----------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_no_letter_is_small_or_outside_the_page(scores: CutScores, name: str) -> None:
    figure = everything(scores)[name]()
    assert figure.get_size_inches()[0] == figures.PAGE
    with figures.style():
        figure.draw_without_rendering()
        page = figure.bbox
        texts = words(figure)
        assert len(texts) > 10
        for text in texts:
            assert text.get_fontsize() >= 7, text
            box = text.get_window_extent()
            corners = np.array([[box.x0, box.y0], [box.x1, box.y1]]) / page.size
            assert ((corners > -0.002) & (corners < 1.002)).all(), text


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_pair_images_and_repeats(scores: CutScores, name: str) -> None:
    said = " ".join(text.get_text() for text in words(everything(scores)[name]()))
    said = said.replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")
    assert "digits" in said
    assert "n = 500" in said
    assert "12" in said
    assert "repeats" in said


def test_every_figure_is_tried(scores: CutScores) -> None:
    assert set(everything(scores)) == set(FIGURES)


def test_a_small_svg_draws_the_same_in_half_the_bytes(scores: CutScores) -> None:
    for name in ("box of one", "surface", "heat map"):
        buffer = io.BytesIO()
        figure = everything(scores)[name]()
        with figures.style():
            figure.savefig(buffer, format="svg")
        svg = buffer.getvalue().decode()
        small = figures.small_svg(svg)
        assert len(small) < 0.65 * len(svg)
        assert small.count("<use") == svg.count("<use")
        assert small.count("<path") == svg.count("<path")
        named = re.findall(r' id="([^"]+)"', small)
        assert len(named) == len(set(named))
        assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', small)) == set(named)
        assert figures.small_svg(small) == small


def test_axes_are_written_in_per_cent() -> None:
    written = figures.per_cent()
    assert [written(x) for x in (0.0, 0.1 + 0.2, -0.025, 1.0)] == [
        "0",
        "30",
        "\N{MINUS SIGN}2.5",
        "100",
    ]


# --- boxes -------------------------------------------------------------------------------------


def test_a_box_has_its_median_rank_and_letters_above(scores: CutScores) -> None:
    ranks = {0.1: {-1: 2, 0: 2, 3: 1, 6: 1}, 1.0: {-1: 1, 0: 1, 3: 1, 6: 1}}
    letters = {f: dict.fromkeys((-1, *CUTS), "ab") for f in IMAGES}
    figure = cut_boxes.boxes(scores, "fr", ranks, letters=letters)
    axis = figure.axes[0]
    above = [text.get_text() for text in axis.texts]
    assert above[:5] == ["letters", *["ab"] * 4]
    assert above[5:10] == ["rank", "2", "2", "1", "1"]
    values = columns(scores, "fr", 0.1).values()
    assert above[10:] == ["median", *(f"{100 * median(v):.1f}" for v in values)]
    assert axis.get_title() == "10 %: 10 images, 12 repeats"
    colours = [patch.get_facecolor() for patch in axis.patches]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    dots = [line for line in axis.lines if line.get_marker() == "."]
    assert [list(dot.get_ydata()) for dot in dots] == [list(v) for v in values]


def test_boxes_are_hatched_where_settings_differ(scores: CutScores) -> None:
    against = cut_tables.against(scores, "ft", "fr")
    assert against[0.1] == dict.fromkeys(CUTS, "higher")  # 12 repeats
    assert against[1.0] == dict.fromkeys(CUTS, "")  # 5 repeats tell nothing apart
    lower = cut_tables.against(scores, "fr", "ft")
    assert lower[0.1] == dict.fromkeys(CUTS, "lower")
    figure = cut_boxes.boxes(
        scores, "fr", cut_tables.ranks(scores, "fr"), against=lower, other="ft"
    )
    assert [patch.get_hatch() for patch in figure.axes[0].patches][1:] == ["////"] * 3
    assert not any(patch.get_hatch() for patch in figure.axes[1].patches)
    assert [t.get_text()[-1] for t in figure.axes[0].texts][2:5] == ["/"] * 3
    stars = cut_boxes.boxes(scores, "ft", cut_tables.ranks(scores, "ft"), against=against)
    assert [patch.get_hatch() for patch in stars.axes[0].patches] == ["", "**", "**", "**"]


def test_box_plots_have_a_floor_a_log_axis_and_cut_0s_rank_for_the_baseline(
    scores: CutScores,
) -> None:
    ranks = {f: {-1: 4, 0: 2, 3: 1, 6: 1} for f in IMAGES}
    plain = cut_boxes.boxes(scores, "fr", ranks).axes[0]
    assert plain.get_yscale() == "linear"
    assert [text.get_text() for text in plain.texts][1] == "4"
    axis = cut_boxes.boxes(scores, "fr", ranks, floor=0.2, log=True, baseline_as_cut_0=True).axes[0]
    assert axis.get_yscale() == "log"
    assert axis.get_ylim()[0] == pytest.approx(0.2)
    assert [text.get_text() for text in axis.texts][1] == "2"


def test_a_missing_cell_is_refused(scores: CutScores) -> None:
    values = {key: v for key, v in scores.values.items() if key != ("fr", 1.0, 3)}
    with pytest.raises(DataError, match=r"digits, fr, fraction 1: expected equally many repeats"):
        columns(replace(scores, values=values), "fr", 1.0)


# --- lines and bars ----------------------------------------------------------------------------


def test_differences_are_of_medians_and_gains_of_means(scores: CutScores) -> None:
    def at(middle: Callable[..., float], cut: int, fraction: float) -> float:
        scratch = scores.values["baseline", fraction, -1]
        return middle(scores.values["fr", fraction, cut]) - middle(scratch)

    for figure, middle in (
        (cut_lines.difference(scores, ["fr"], generator), median),
        (cut_lines.gains(scores, ["fr"]), fmean),
    ):
        drawn = lines(figure.axes[0])
        assert len(drawn) == len(CUTS)
        for line, cut in zip(drawn, CUTS, strict=True):
            assert line.get_ydata() == pytest.approx([at(middle, cut, f) for f in IMAGES])
        assert figure.axes[0].get_xscale() == "log"


def test_a_setting_that_is_the_same_at_every_cut_has_one_line(scores: CutScores) -> None:
    assert varying(scores) == ["fr", "ft"]
    axis = cut_lines.gains(scores, ["fr", "none"]).axes[1]
    assert len(lines(axis)) == 1
    assert lines(axis)[0].get_xdata() == pytest.approx(list(IMAGES))  # not set aside


def test_mean_lines_have_the_deviation_of_the_repeats(scores: CutScores) -> None:
    bars = cut_lines.means(scores, ["fr"]).axes[0].containers
    assert len(bars) == len(CUTS) + 1  # with training from scratch
    (low, high), _ = bars[1].lines[2][0].get_segments()
    values = scores.values["fr", 0.1, 3]
    assert low[1] == pytest.approx(fmean(values) - stdev(values))
    assert high[1] == pytest.approx(fmean(values) + stdev(values))


def test_ranges_reach_from_the_least_to_the_greatest(scores: CutScores) -> None:
    axes = cut_lines.ranges(scores, "fr").axes
    assert [axis.get_title() for axis in axes] == ["cut 0", "cut 3", "cut 6"]
    band = np.asarray(axes[1].collections[1].get_paths()[0].vertices)[:, 1]
    values = scores.values["fr", 0.1, 3]
    assert {min(values), max(values)} <= {float(x) for x in band}
    line = axes[1].lines[1]
    assert line.get_ydata() == pytest.approx([median(scores.values["fr", f, 3]) for f in IMAGES])


def test_bars_start_at_zero_and_reach_the_mean(scores: CutScores) -> None:
    axis = cut_lines.bars(scores, ["fr"]).axes[0]
    assert axis.get_ylim()[0] == 0
    found = [patch.get_height() for patch in axis.patches]
    wanted = [
        fmean(scores.values[key, f, cut])
        for key, cut in (("baseline", -1), *(("fr", cut) for cut in CUTS))
        for f in IMAGES
    ]
    assert found == pytest.approx(wanted)


def test_series_side_by_side_never_reach_the_next_fraction() -> None:
    for count in (2, 8, 30):
        shifts = figures.side_by_side([0.1, 0.5, 1.0], count)
        assert len(set(shifts)) == count
        assert max(0.5 * shift for shift in shifts) < min(shift for shift in shifts)
        assert shifts[0] * shifts[-1] == pytest.approx(1)
    assert figures.side_by_side([1.0], 1) == [1.0]


# --- maps --------------------------------------------------------------------------------------


def test_the_heat_map_prints_every_mean(scores: CutScores) -> None:
    axis = cut_maps.heat_map(scores, ["fr"]).axes[0]
    found = [text.get_text() for text in axis.texts]
    wanted = [f"{100 * fmean(v):.1f}" for f in IMAGES for v in columns(scores, "fr", f).values()]
    assert found == wanted


def test_the_surface_meets_what_was_measured_and_has_no_new_extremes() -> None:
    x, y = np.array([-3.0, -2.0, -0.3, 0.0]), np.arange(7.0)
    values = generator().random((4, 7))
    fine_x, fine_y, z = cut_maps.interpolated(x, y, values)
    assert z.shape == (100, 100)
    assert (z[0, 0], z[-1, -1]) == pytest.approx((values[0, 0], values[-1, -1]))
    assert values.min() - 1e-12 <= z.min()
    assert z.max() <= values.max() + 1e-12
    assert z[33] == pytest.approx([np.interp(fine_x[33], fine_x, z[:, j]) for j in range(100)])
    plane = x[:, None] + 2 * y
    assert cut_maps.interpolated(x, y, plane)[2] == pytest.approx(
        fine_x[:, None] + 2 * fine_y, abs=1e-9
    )


def test_a_surface_of_one_fraction_is_refused() -> None:
    with pytest.raises(DataError, match="expected two or more fractions and cuts"):
        cut_maps.interpolated(np.zeros(1), np.arange(3.0), np.zeros((1, 3)))


# --- theirs and ours ---------------------------------------------------------------------------


def test_two_sets_stand_beside_each_other(scores: CutScores) -> None:
    moved = {key: [x + 0.1 for x in v] for key, v in scores.values.items()}
    theirs = replace(scores, values=moved, n=900)
    figure = cut_compare.compare(scores, theirs, "fr", ("ours", "released"))
    for axis, fraction in zip(figure.axes, IMAGES, strict=True):
        ours, released = (line.get_ydata() for line in lines(axis))
        assert ours == pytest.approx([fmean(v) for v in columns(scores, "fr", fraction).values()])
        assert released - ours == pytest.approx(0.1)
    assert figure.axes[0].get_title() == "10 %: 10 | 10 images, 12 | 12 repeats"
    assert "not drawn" not in figure.get_supxlabel()
    figure = cut_compare.compare(scores, theirs, "fr", ("ours", "released"), [0.05, 0.3])
    told = figure.get_supxlabel().replace("\N{NO-BREAK SPACE}", " ")
    assert told.endswith("not drawn, as some cuts lack repeats: 5 %, 30 %")
    with pytest.raises(DataError, match="ours and released: expected a fraction in both"):
        cut_compare.compare(scores, replace(scores, images={0.3: 5}), "fr", ("ours", "released"))
