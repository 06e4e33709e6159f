"""Box plots of the cut study: accuracy by cut, coloured by rank group."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from math import comb
from statistics import median
from typing import TYPE_CHECKING

from carryover.report.cut_scores import (
    BASELINE_CUT,
    TITLES,
    CutScores,
    Differs,
    columns,
    repeats,
    repeats_needed,
    share,
)
from carryover.report.figures import GREY, below, box_plot, panels, per_cent, ramp, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Ranks = Mapping[float, Mapping[int, int]]  # fraction, cut -> 1 is best
Labels = Mapping[float, Mapping[int, str]]  # fraction, cut
Against = Mapping[float, Mapping[int, Differs]]  # fraction, cut

HATCHES = {"higher": "**", "lower": "////", "": ""}
MARKS = {"higher": "*", "lower": "/", "": ""}  # beside the rank: a box may be too flat to hatch
DRAWN = (
    "box: quartiles, median; whiskers: within 1.5 box lengths; dots: repeats; dotted line: median "
    "from scratch (scr)"
)
RANKED = "rank: groups by the original's rule (p < 0.05, not adjusted), 1 is best"


def boxes(
    scores: CutScores,
    setting: str,
    ranks: Ranks,
    letters: Labels | None = None,
    against: Against | None = None,
    other: str = "",
    floor: float | None = None,
    log: bool = False,
    baseline_as_cut_0: bool = False,
) -> Figure:
    """Accuracy by cut of one setting: a panel a fraction, a box and dots over repeats.

    Args:
        ranks: rank groups, which colour the boxes; printed above them with the median.
        letters: printed too: cuts that share one do not differ significantly.
        against: how a cut compares with the same cut of setting `other`: stars on its box where it
            is significantly higher, slashes where lower, after Holm's correction.
        floor: lower limit of the accuracy axis; by default the data's.
        log: logarithmic accuracy axis.
        baseline_as_cut_0: show the rank of cut 0 for training from scratch, where both are the
            same experiment.
    """
    with style():
        figure, axes = panels(len(scores.images), 2, 2.2)
        for axis, fraction in zip(axes, scores.images, strict=True):
            values = columns(scores, setting, fraction)
            rank = ranks[fraction]
            if baseline_as_cut_0:
                rank = {**rank, BASELINE_CUT: rank[0]}
            differs = against[fraction] if against else {}
            draw(axis, values, rank, _worst(ranks), differs)
            if log:
                _logarithmic(axis)
            axis.yaxis.set_major_formatter(per_cent())
            if floor is not None:
                axis.set_ylim(bottom=floor)
            printed = [
                ("median", [f"{100 * median(found):.1f}" for found in values.values()]),
                ("rank", [f"{rank[cut]}{MARKS[differs.get(cut, '')]}" for cut in values]),
            ]
            if letters:
                printed.append(("letters", [letters[fraction][cut] for cut in values]))
            _print_above(axis, printed)
            axis.set_title(
                f"{share(fraction)}: {scores.images[fraction]} images, "
                f"{repeats(scores, fraction)} repeats",
                pad=5 + 10 * len(printed),
            )
        notes = ["cut: first convolutions kept", DRAWN, RANKED]
        shown = len(columns(scores, setting, next(iter(scores.images))))
        if letters:
            needed = repeats_needed(comb(shown, 2))
            notes.append(
                "letters: cuts that share one do not differ (p < 0.05 after Holm, which takes "
                f"{needed} repeats)"
            )
        if against:
            needed = repeats_needed(shown - 1)
            notes.append(
                f"hatching and mark: higher (*) or lower (/) than {other.upper()} at the same cut "
                f"(p < 0.05 after Holm: {needed} repeats)"
            )
        figure.supxlabel(below(*notes))
        figure.supylabel(f"{scores.measured}, % (n = {scores.n} images)")
        _legend(figure, _worst(ranks), f"{scores.pair}, {TITLES[setting]}", bool(against))
        return figure


def overview(scores: CutScores, settings: Sequence[str], ranks: Mapping[str, Ranks]) -> Figure:
    """Accuracy by cut of all settings: a column a setting, a row a fraction.

    Args:
        ranks: rank groups of each setting.
    """
    with style():
        figure, axes = panels(
            len(settings) * len(scores.images), len(settings), 1.25, sharey="row", sharex=True
        )
        worst = max(_worst(ranks[setting]) for setting in settings)
        for i, axis in enumerate(axes):
            fraction, setting = list(scores.images)[i // len(settings)], settings[i % len(settings)]
            values = columns(scores, setting, fraction)
            draw(axis, values, ranks[setting][fraction], worst, {}, dot=1.4)
            if i < len(settings):
                name, _, meaning = TITLES[setting].partition(": ")
                axis.set_title(f"{name}\n{textwrap.fill(meaning, 16)}")
            if i % len(settings) == 0:
                axis.set_ylabel(
                    f"{share(fraction)}: {scores.images[fraction]} images\n"
                    f"{repeats(scores, fraction)} repeats",
                    fontsize=7,
                )
            axis.yaxis.set_major_formatter(per_cent())
        figure.supxlabel(below("cut: first convolutions kept", DRAWN, RANKED))
        figure.supylabel(f"{scores.measured}, % (n = {scores.n} images)")
        _legend(figure, worst, scores.pair, False)
        return figure


def draw(
    axis: Axes,
    values: Mapping[int, Sequence[float]],
    ranks: Mapping[int, int],
    worst: int,
    against: Mapping[int, Differs],
    dot: float = 2.0,
) -> None:
    """Draw boxes and dots by cut into `axis`; colours run over ranks 1 to `worst`."""
    places = range(len(values))
    drawn = box_plot(axis, list(values.values()))
    colours = _colours(worst)
    for place, cut, box in zip(places, values, drawn["boxes"], strict=True):
        box.set(
            facecolor=colours[ranks[cut] - 1], linewidth=0.7, hatch=HATCHES[against.get(cut, "")]
        )
        found = values[cut]
        spread = [place + 0.3 + 0.05 * (i % 3 - 1) for i in range(len(found))]
        axis.plot(spread, found, ".", color="black", markersize=dot, alpha=0.8)
    axis.axhline(median(values[BASELINE_CUT]), color=GREY, linewidth=0.9, linestyle=":")
    axis.set_xlim(-0.55, len(values) - 0.45)
    axis.set_xticks(list(places), ["scr" if cut == BASELINE_CUT else str(cut) for cut in values])


def _print_above(axis: Axes, printed: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Rows of text above the panel, one text a box, their names on the left."""
    up = axis.get_xaxis_transform()
    for row, (name, texts) in enumerate(reversed(printed)):
        for place, text in ((-0.65, name), *enumerate(texts)):
            axis.annotate(
                text,
                (place, 1.0),
                (0, 5 + 10 * row),
                xycoords=up,
                textcoords="offset points",
                ha="right" if place < 0 else "center",
                va="center",
                fontsize=7,
                annotation_clip=False,
            )


def _legend(figure: Figure, worst: int, title: str, hatched: bool) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=colour, edgecolor="black", linewidth=0.7, label=f"rank {i}")
        for i, colour in enumerate(_colours(worst), 1)
    ]
    if hatched:
        handles += [
            Patch(
                facecolor="white", edgecolor="black", linewidth=0.7, hatch=HATCHES[name], label=name
            )
            for name in ("higher", "lower")
        ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), title=title)


def _logarithmic(axis: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.yaxis.set_minor_locator(NullLocator())


def _colours(worst: int) -> list[str]:
    """The best rank lightest; none so dark that hatching and median would not show on it.

    Up to rank 4 a rank has the same colour in every figure.
    """
    return ramp(max(worst, 4), darkest=0.35)[::-1][:worst]


def _worst(ranks: Ranks) -> int:
    return max(rank for by_cut in ranks.values() for rank in by_cut.values())
