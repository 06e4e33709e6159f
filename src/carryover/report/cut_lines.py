"""The cut study against the amount of data: lines and bars, one a cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any

from carryover.measure.medians import median_difference
from carryover.measure.statistics import Interval, mean_interval
from carryover.report.cut_scores import (
    BASELINE,
    BASELINE_CUT,
    TITLES,
    CutScores,
    columns,
    cuts,
    gain,
    repeats,
    same_at_every_cut,
    share,
)
from carryover.report.figures import (
    GREY,
    MARKERS,
    below,
    counts_note,
    fraction_axis,
    panels,
    per_cent,
    ramp,
    side_by_side,
    style,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

DRAWS = 2000  # resamples of a bootstrap

Cell = tuple[str, float, int]  # setting, fraction, cut


def difference(
    scores: CutScores, settings: Sequence[str], generator: Callable[[], np.random.Generator]
) -> Figure:
    """Median accuracy minus the median from scratch against the fraction, one line a cut.

    Args:
        generator: makes the generator of one bootstrap; the same stream each time keeps cells
            independent of each other's order.
    """

    def cell(setting: str, fraction: float, cut: int) -> Interval:
        scratch = scores.values[BASELINE, fraction, BASELINE_CUT]
        values = scores.values[setting, fraction, cut]
        return median_difference(values, scratch, 0.95, DRAWS, generator())

    return _lines(
        scores,
        settings,
        cell,
        f"median {scores.measured} minus median from scratch, percentage points",
        f"bars: 95 % bootstrap interval over paired repeats ({DRAWS} resamples), not adjusted",
        from_scratch=False,
    )


def gains(scores: CutScores, settings: Sequence[str]) -> Figure:
    """Mean accuracy minus the mean from scratch against the fraction, one line a cut."""
    return _lines(
        scores,
        settings,
        lambda setting, fraction, cut: gain(scores, setting, fraction, cut),
        f"mean {scores.measured} minus mean from scratch, percentage points",
        "bars: 95 % Student t interval over paired repeats, not adjusted",
        from_scratch=False,
    )


def means(scores: CutScores, settings: Sequence[str]) -> Figure:
    """Mean accuracy with the standard deviation of the repeats, one line a cut."""

    def cell(setting: str, fraction: float, cut: int) -> Interval:
        values = scores.values[setting, fraction, cut]
        middle, spread = fmean(values), stdev(values)
        return Interval(middle, middle - spread, middle + spread)

    return _lines(
        scores,
        settings,
        cell,
        f"mean {scores.measured}, %",
        "bars: standard deviation of one repeat (not of the mean)",
        from_scratch=True,
    )


def _lines(
    scores: CutScores,
    settings: Sequence[str],
    cell: Callable[[str, float, int], Interval],
    measured: str,
    bars: str,
    from_scratch: bool,
) -> Figure:
    """A panel a setting. With `from_scratch` its line is drawn too, without a line at zero is."""
    with style():
        figure, axes = panels(len(settings), 2, 2.3, sharex=True, sharey=True)
        fractions = list(scores.images)
        every = sorted({cut for setting in settings for cut in cuts(scores, setting)})
        looks = _looks(every)
        for axis, setting in zip(axes, settings, strict=True):
            shown = cuts(scores, setting)
            if same_at_every_cut(scores, setting):
                shown = shown[:1]  # one line says it
            drawn: list[tuple[str, int, dict[str, Any]]] = [
                (setting, cut, looks[cut] if len(shown) > 1 else {"color": "black", "marker": "o"})
                for cut in shown
            ]
            if from_scratch:
                drawn.append((BASELINE, BASELINE_CUT, looks[BASELINE_CUT]))
            for shift, (name, cut, look) in zip(
                side_by_side(fractions, len(drawn)), drawn, strict=True
            ):
                points = [cell(name, fraction, cut) for fraction in fractions]
                axis.errorbar(
                    [fraction * shift for fraction in fractions],
                    [p.value for p in points],
                    yerr=[[p.value - p.low for p in points], [p.high - p.value for p in points]],
                    markersize=4,
                    linewidth=0.9,
                    elinewidth=0.8,
                    **look,
                )
            if not from_scratch:
                axis.axhline(0, color="black", linewidth=0.8)
            fraction_axis(axis, fractions)
            axis.yaxis.set_major_formatter(per_cent())
            axis.set_title(TITLES[setting] + (" (any cut)" if len(shown) == 1 else ""))
        counts = counts_note(scores.images, {f: repeats(scores, f) for f in fractions})
        figure.supxlabel(
            below(
                "share of the target training images (%)",
                f"{bars}; lines are set side by side; {counts}; n = {scores.n} images",
            )
        )
        figure.supylabel(measured)
        _legend(figure, every, scores.pair, from_scratch)
        return figure


def ranges(scores: CutScores, setting: str) -> Figure:
    """Median accuracy and range of the repeats: a panel a cut, beside training from scratch."""
    with style():
        fractions = list(scores.images)
        found = cuts(scores, setting)
        figure, axes = panels(len(found), 3, 1.7, sharex=True, sharey=True)
        looks = _looks(found)
        for axis, cut in zip(axes, found, strict=True):
            for name, key, look, label in (
                (BASELINE, BASELINE_CUT, looks[BASELINE_CUT], "from scratch"),
                (setting, cut, {"color": "#0072b2", "marker": "o"}, "cut"),
            ):
                values = [scores.values[name, fraction, key] for fraction in fractions]
                axis.fill_between(
                    fractions,
                    [min(v) for v in values],
                    [max(v) for v in values],
                    facecolor=(look["color"], 0.25),
                    edgecolor=(look["color"], 0.7),
                    linewidth=0.5,
                    linestyle=look.get("linestyle", "-"),
                )
                axis.plot(
                    fractions,
                    [median(v) for v in values],
                    markersize=3.2,
                    linewidth=1.1,
                    color=look["color"],
                    marker=look["marker"],
                    linestyle=look.get("linestyle", "-"),
                    label=label,
                )
            fraction_axis(axis, fractions)
            axis.yaxis.set_major_formatter(per_cent())
            axis.set_title(f"cut {cut}")
        counts = counts_note(scores.images, {f: repeats(scores, f) for f in fractions})
        figure.supxlabel(
            below(
                "share of the target training images (%)",
                f"line: median; band: least to greatest of the repeats, wider with more of them; "
                f"{counts}",
            )
        )
        figure.supylabel(f"{scores.measured}, % (n = {scores.n} images)")
        handles, labels = axes[0].get_legend_handles_labels()
        title = f"{scores.pair}, {TITLES[setting]}"
        figure.legend(handles, labels, loc="outside upper center", ncols=2, title=title)
        return figure


def bars(scores: CutScores, settings: Sequence[str]) -> Figure:
    """Mean accuracy at every fraction, one bar a cut, with 95 % intervals; a panel a setting."""
    from matplotlib.patheffects import withStroke

    with style():
        figure, axes = panels(len(settings), 1, 1.5, sharex=True, sharey=True)
        fractions = list(scores.images)
        every = sorted({cut for setting in settings for cut in cuts(scores, setting)})
        looks = _looks(every)
        for axis, setting in zip(axes, settings, strict=True):
            shown = [BASELINE_CUT, *cuts(scores, setting)]
            for i, cut in enumerate(shown):
                points = [mean_interval(columns(scores, setting, f)[cut]) for f in fractions]
                drawn = axis.bar(
                    [g + 0.84 * ((i + 0.5) / len(shown) - 0.5) for g in range(len(fractions))],
                    [p.value for p in points],
                    0.8 / len(shown),
                    yerr=[[p.value - p.low for p in points], [p.high - p.value for p in points]],
                    color=looks[cut]["color"],
                    hatch="/////" if cut == BASELINE_CUT else "",
                    edgecolor="white",
                    linewidth=0.3,
                    error_kw={"elinewidth": 0.8, "ecolor": "black"},
                )
                whiskers = drawn.errorbar.lines[2] if drawn.errorbar else ()
                for line in whiskers:  # seen on dark bars too
                    line.set_path_effects([withStroke(linewidth=2.0, foreground="white")])
            axis.yaxis.set_major_formatter(per_cent())
            axis.set_title(TITLES[setting])
            axis.margins(x=0.02)
            axis.set_xticks(
                range(len(fractions)),
                [
                    f"{share(f)}\n{scores.images[f]} images\n{repeats(scores, f)} repeats"
                    for f in fractions
                ],
            )
        figure.supxlabel(
            below(
                "share of the target training images",
                f"bars start at 0; black lines: 95 % Student t interval of the mean over repeats; "
                f"n = {scores.n} images",
            )
        )
        figure.supylabel(f"mean {scores.measured}, %")
        _bar_legend(figure, looks, scores.pair)
        return figure


def _looks(cuts: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Colour and marker of each cut, and of training from scratch."""
    colours = ramp(len(cuts))
    looks: dict[int, dict[str, Any]] = {
        cut: {
            "color": colours[i],
            "marker": MARKERS[i % len(MARKERS)],
            "markeredgewidth": 0,
        }
        for i, cut in enumerate(cuts)
    }
    return {BASELINE_CUT: {"color": GREY, "marker": "x", "linestyle": ":"}, **looks}


def _legend(figure: Figure, cuts: Sequence[int], title: str, from_scratch: bool) -> None:
    from matplotlib.lines import Line2D

    looks = _looks(cuts)
    shown = [*([BASELINE_CUT] if from_scratch else []), *cuts]
    handles = [
        Line2D([], [], markersize=4, linewidth=1, label=_name(cut), **looks[cut]) for cut in shown
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(shown), title=title)


def _bar_legend(figure: Figure, looks: Mapping[int, Mapping[str, Any]], title: str) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=look["color"],
            edgecolor="white",
            hatch="/////" if cut == BASELINE_CUT else "",
            label=_name(cut),
        )
        for cut, look in looks.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), title=title)


def _name(cut: int) -> str:
    return "from scratch" if cut == BASELINE_CUT else f"cut {cut}"
