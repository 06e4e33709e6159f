"""Dot plots of the retrieval study: sample efficiency, controls, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carryover.measure.statistics import Interval
from carryover.report.blocks import HOLLOW, Block, blocks, key, legend, notes, nothing, reach
from carryover.report.figures import GREY, per_cent, style
from carryover.report.retrieval_intervals import (
    STEPS,
    Difference,
    Reach,
    accuracy,
    difference,
    differences_over,
    mean,
    steps,
)
from carryover.report.retrieval_lines import apart, at_main, over, over_seeds_alone
from carryover.report.retrieval_names import base, look, name, ordered
from carryover.report.retrieval_scores import (
    CLEAN,
    NEAREST,
    Arm,
    At,
    Place,
    Scores,
    arms,
    main,
    number,
    numbers,
    places,
    plain,
)
from carryover.report.retrieval_steps import THRESHOLD

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.185  # inches of a line of dots
SAME = ("clean-query",)  # differs in the test alone
CALIBRATED = ("none", "corpus", "simclr", "vote", "probe", "labels", "zeros")  # controls
LATER = 0.18  # of a line, between what stands side by side on it


def efficiency(scores: Scores) -> Figure:
    """Steps to 80 % and area under the accuracy curve by arm; a row of panels an item."""
    shown = {
        place: [
            arm
            for arm in _lines(scores, place)
            if arm.control not in SAME and (steps(scores, arm) or _area(scores, arm))
        ]
        for place in places(scores)
    }
    shown = {place: found for place, found in shown.items() if found}
    if not shown:
        return nothing("no steps to an accuracy of 80 %")
    with style():
        figure, made = blocks(
            [
                Block(
                    f"{item}, {dataset}",
                    [
                        f"updates until {100 * THRESHOLD:g} % of the test images",
                        "area under the curve, %",
                    ],
                )
                for item, dataset in shown
            ],
            2,
            [0.75 + ROW * len(found) for found in shown.values()],
        )
        bound = False
        for (left, right), (place, found) in zip(made, shown.items(), strict=True):
            for i, arm in enumerate(found):
                told = steps(scores, arm)
                if told:
                    _reached(left, told, i, arm)
                    bound = bound or told.bound
                area = _area(scores, arm)
                if area:
                    _dot(right, area, i, arm)
            _named(left, found, first=True)
            _named(right, found, first=False)
            _log_steps(left, [steps(scores, arm) for arm in found])
            right.xaxis.set_major_formatter(per_cent())
            _reference(right, _area(scores, plain(place)))
        if bound:
            arrow = {"color": "black", "linestyle": "", "markersize": 4}
            legend(figure, [key("at least: some seed was never there", marker=">", **arrow)])
        every = [arm for found in shown.values() for arm in found]
        counts = [len(number(scores, arm, STEPS)) for arm in every]
        notes(
            figure,
            "the first step that was evaluated with so many right; area: of accuracy on all test "
            "images by updates, divided by them. Grey line: plain",
            f"{over_seeds_alone(counts)}; steps: geometric mean. Ticks: single seeds; a ring: "
            "never there, its last step",
        )
        return figure


def _lines(scores: Scores, place: Place) -> list[Arm]:
    return ordered(arms(scores, place))


def _area(scores: Scores, arm: Arm) -> Interval | None:
    return mean(scores, arm, "area")


def _reached(axis: Axes, told: Reach, place: int, arm: Arm) -> None:
    """A dot with its interval, or an arrow where it is a bound; ticks of the seeds."""
    if told.bound:
        axis.plot(told.interval.value, place, ">", color=look(arm)["color"], markersize=4.5)
    else:
        _dot(axis, told.interval, place, arm)
    for value, there in told.each:
        looks: dict[str, Any] = {"marker": "|", "markersize": 4}
        looks |= {} if there else {"marker": "o", "markersize": 2.5}
        axis.plot(
            value,
            place + 0.36,
            linestyle="",
            color=GREY,
            markerfacecolor="none",
            markeredgewidth=0.7,
            **looks,
        )


def _dot(axis: Axes, told: Interval, place: float, arm: Arm, **more: object) -> None:
    axis.errorbar(
        [told.value],
        [place],
        xerr=reach([told]),
        elinewidth=0.8,
        **{"markersize": 4, "markeredgewidth": 0} | look(arm) | {"linestyle": ""} | more,
    )


def _named(axis: Axes, found: Sequence[Arm], first: bool) -> None:
    axis.set_yticks(range(len(found)), [name(arm, found) for arm in found])
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0, labelleft=first)
    axis.grid(visible=False)
    axis.grid(visible=True, axis="x")


def _log_steps(axis: Axes, found: Sequence[Reach | None]) -> None:
    """A logarithmic axis with numbers where some seed was."""
    each = {value for told in found if told for value, _ in told.each}
    ticks = apart(each, 1.25)
    axis.set_xscale("log")
    axis.minorticks_off()
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xlim(min(each, default=1) / 1.5, max(each, default=1) * 1.3)


def _reference(axis: Axes, told: Interval | None) -> None:
    if told:
        axis.axvline(told.value, color=GREY, linewidth=0.7, zorder=0)


# --- controls -------------------------------------------------------------------------------------


def controls(scores: Scores) -> Figure:
    """Accuracy of every arm, and what each has beyond nearest neighbours; a row an item."""
    shown = {
        place: [arm for arm in _lines(scores, place) if accuracy(scores, arm)]
        for place in places(scores)
    }
    shown = {place: found for place, found in shown.items() if len(found) > 1}
    if not shown:
        return nothing("no arms but one")
    mains = {place: main(scores, place, NEAREST) or plain(place) for place in shown}
    with style():
        figure, made = blocks(
            [
                Block(
                    f"{place[0]}, {place[1]}",
                    ["accuracy, %", f"minus that of {base(mains[place])}, points"],
                )
                for place in shown
            ],
            2,
            [0.7 + ROW * len(found) for found in shown.values()],
        )
        drawn: list[Difference] = []
        for (left, right), (place, found) in zip(made, shown.items(), strict=True):
            for i, arm in enumerate(found):
                told = accuracy(scores, arm)
                apart = difference(scores, arm, mains[place])
                if told:
                    _dot(left, told, i, arm)
                if apart and arm != mains[place]:
                    _dot(right, apart.interval, i, arm)
                    drawn.append(apart)
            _named(left, found, first=True)
            _named(right, found, first=False)
            _reference(left, accuracy(scores, plain(place)))
            right.axvline(0, color="black", linewidth=0.7)
            for axis in (left, right):
                axis.xaxis.set_major_formatter(per_cent())
        every = [arm for found in shown.values() for arm in found]
        notes(
            figure,
            "accuracy after the last update, on test images without noise. Grey line: plain",
            f"bars left: 95 % interval over {over(scores, every)}; right: "
            f"{differences_over(drawn)}, not corrected for their number (the tables' p is)",
            "the left axis does not begin at 0",
        )
        return figure


# --- calibration ----------------------------------------------------------------------------------


CALIBRATION = {"ece": "expected calibration error, points", "nll": "loss (NLL), nats"}


def calibration(scores: Scores) -> Figure:
    """Calibration error and loss by arm, with and without noise; a row of panels an item."""
    shown = {
        place: [
            arm
            for arm in at_main(scores, place, CALIBRATED)
            if any(_told(scores, arm, metric) for metric in CALIBRATION)
        ]
        for place in places(scores)
    }
    shown = {place: found for place, found in shown.items() if found}
    if not shown:
        return nothing("no calibration of any arm")
    noises = _noises(scores, [arm for found in shown.values() for arm in found])
    with style():
        figure, made = blocks(
            [Block(f"{item}, {dataset}", list(CALIBRATION.values())) for item, dataset in shown],
            2,
            [0.7 + ROW * len(found) for found in shown.values()],
        )
        for axes, (_, found) in zip(made, shown.items(), strict=True):
            for axis, metric in zip(axes, CALIBRATION, strict=True):
                for i, arm in enumerate(found):
                    for j, told in enumerate(_told(scores, arm, metric, noises).values()):
                        shift = LATER * (j - (len(noises) - 1) / 2)
                        _dot(axis, told, i + shift, arm, **(HOLLOW if j else {}))
                _named(axis, found, first=axis is axes[0])
                axis.set_xlim(left=0)
                axis.locator_params(axis="x", nbins=6)
            axes[0].xaxis.set_major_formatter(per_cent())
        marks = {"color": "black", "linestyle": "", "marker": "o", "markersize": 4}
        said = [f"noise {noise:g}" if noise else "no noise" for noise in noises]
        keys = [key(each, **marks | (HOLLOW if i else {})) for i, each in enumerate(said)]
        if len(keys) > 1:
            legend(figure, keys)
        every = [arm for found in shown.values() for arm in found]
        counts = [len(number(scores, arm, "ece")) for arm in every]
        notes(
            figure,
            "lower is better; after the last update, on all test images"
            + ("" if len(noises) > 1 else " without noise"),
            over_seeds_alone(counts, " of the logarithm"),
        )
        return figure


def _told(
    scores: Scores, arm: Arm, metric: str, noises: Sequence[float] = (0.0,)
) -> Mapping[float, Interval]:
    found = {noise: mean(scores, arm, metric, At(noise)) for noise in noises}
    return {noise: told for noise, told in found.items() if told}


def _noises(scores: Scores, every: Sequence[Arm]) -> list[float]:
    """No noise, and the weakest that calibration was measured with."""
    known = {
        at.noise for arm in every for metric in CALIBRATION for at in numbers(scores, arm, metric)
    }
    return sorted(known | {CLEAN.noise})[:2]
