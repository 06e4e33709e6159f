"""Two sets of the same experiments side by side: ours and the released ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from carryover.errors import DataError
from carryover.measure.statistics import mean_interval
from carryover.report.cut_scores import (
    BASELINE_CUT,
    TITLES,
    CutScores,
    columns,
    repeats,
    share,
)
from carryover.report.figures import below, panels, per_cent, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS: tuple[dict[str, Any], ...] = (  # of the two sets; they differ in grey and by marker too
    {"color": "#0072b2", "marker": "o"},
    {"color": "#d55e00", "marker": "s", "markerfacecolor": "white"},
)


def compare(
    ours: CutScores,
    theirs: CutScores,
    setting: str,
    names: tuple[str, str],
    left_out: Sequence[float] = (),
) -> Figure:
    """Mean accuracy by cut of both sets with 95 % intervals: a panel a fraction that both have.

    Args:
        names: what the two sets are called in the legend.
        left_out: fractions where a set lacks repeats of some cuts; the caption names them.
    Raises:
        DataError: no fraction is in both.
    """
    fractions = [fraction for fraction in ours.images if fraction in theirs.images]
    if not fractions:
        raise DataError(
            f"{names[0]} and {names[1]}: expected a fraction in both, got {list(ours.images)} and "
            f"{list(theirs.images)}; choose sets of one experiment"
        )
    with style():
        figure, axes = panels(len(fractions), 2, 1.9)
        for axis, fraction in zip(axes, fractions, strict=True):
            found = [columns(scores, setting, fraction) for scores in (ours, theirs)]
            shown = sorted(found[0].keys() | found[1].keys())
            for shift, name, look, by_cut in zip((-0.13, 0.13), names, LOOKS, found, strict=True):
                points = [mean_interval(values) for values in by_cut.values()]
                axis.errorbar(
                    [shown.index(cut) + shift for cut in by_cut],
                    [p.value for p in points],
                    yerr=[[p.value - p.low for p in points], [p.high - p.value for p in points]],
                    linestyle="none",
                    markersize=4,
                    elinewidth=1.0,
                    capsize=2,
                    label=name,
                    **look,
                )
            axis.set_xticks(
                range(len(shown)), ["scr" if cut == BASELINE_CUT else str(cut) for cut in shown]
            )
            axis.yaxis.set_major_formatter(per_cent())
            both = [(s.images[fraction], repeats(s, fraction)) for s in (ours, theirs)]
            axis.set_title(
                f"{share(fraction)}: {both[0][0]} | {both[1][0]} images, "
                f"{both[0][1]} | {both[1][1]} repeats"
            )
        figure.supxlabel(
            below(
                "cut: first convolutions kept; scr: from scratch",
                "bars: 95 % Student t interval of the mean over repeats; "
                f"above a panel: {names[0]} | {names[1]}; {names[0]}: "
                f"{ours.measured}, n = {ours.n}; {names[1]}: {theirs.measured}, n = {theirs.n}",
                *(
                    [f"not drawn, as some cuts lack repeats: {', '.join(map(share, left_out))}"]
                    if left_out
                    else []
                ),
            )
        )
        figure.supylabel("mean accuracy, %")
        handles, labels = axes[0].get_legend_handles_labels()
        title = f"{ours.pair}, {TITLES[setting]}"
        figure.legend(handles, labels, loc="outside upper center", ncols=2, title=title)
        return figure
