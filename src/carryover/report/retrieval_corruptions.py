"""Accuracy of the retrieval study's arms under common corruptions of the test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from carryover.measure.statistics import Interval
from carryover.report.blocks import Block, across, blocks, legend, notes, nothing
from carryover.report.figures import per_cent, style
from carryover.report.retrieval_intervals import accuracy, corrupted
from carryover.report.retrieval_lines import arm_keys, at_main, barred, over
from carryover.report.retrieval_names import look
from carryover.report.retrieval_scores import (
    Arm,
    At,
    Place,
    Scores,
    numbers,
    places,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEAN = "mean of all"
SHOWN = ("none", "corpus", "vote", "labels")  # controls
METRIC = "corrupted_accuracy"
MOST = 5  # panels in a row


def corruptions(scores: Scores) -> Figure:
    """Accuracy by severity, a panel a corruption and one of their mean; rows of panels an item."""
    shown = {place: _shown(scores, place) for place in places(scores)}
    shown = {place: found for place, found in shown.items() if found}
    if not shown:
        return nothing("no accuracies under corruptions")
    titles = {place: [*_names(scores, found), MEAN] for place, found in shown.items()}
    with style():
        columns = across(map(len, titles.values()), MOST)
        figure, made = blocks(
            [Block(f"{item}, {dataset}", titles[item, dataset]) for item, dataset in shown],
            columns,
            [1.6] * len(shown),
        )
        for axes, (place, found) in zip(made, shown.items(), strict=True):
            for axis, title in zip(axes, titles[place], strict=True):
                for i, arm in enumerate(found):
                    shift = 0.25 * ((i + 0.5) / len(found) - 0.5)
                    barred(axis, _curve(scores, arm, title), look(arm), shift)
                axis.set_xticks(_severities(scores, found))
                axis.set_ylim(0, 1.02)
                axis.yaxis.set_major_formatter(per_cent())
                axis.tick_params(labelleft=axes.index(axis) % columns == 0)
        every = [arm for found in shown.values() for arm in found]
        legend(figure, arm_keys(every))
        figure.supylabel("accuracy on all test images, %")
        notes(
            figure,
            "severity of the corruption; 0: none. The query is as corrupted as the image",
            f"bars: 95 % interval over {over(scores, every)}; arms are set side by side",
        )
        return figure


def _shown(scores: Scores, place: Place) -> list[Arm]:
    return [arm for arm in at_main(scores, place, SHOWN) if numbers(scores, arm, METRIC)]


def _names(scores: Scores, found: Sequence[Arm]) -> list[str]:
    return sorted(
        {at.corruption for arm in found for at in numbers(scores, arm, METRIC) if at.corruption}
    )


def _severities(scores: Scores, found: Sequence[Arm]) -> list[int]:
    return sorted({0} | {at.severity or 0 for arm in found for at in numbers(scores, arm, METRIC)})


def _curve(scores: Scores, arm: Arm, title: str) -> dict[float, Interval]:
    """Accuracy by severity; without corruption first."""
    clean = accuracy(scores, arm)
    found = {0.0: clean} if clean else {}
    for severity in _severities(scores, [arm])[1:]:
        told = (
            corrupted(scores, arm, severity)
            if title == MEAN
            else accuracy(scores, arm, At(0.0, None, title, severity), METRIC)
        )
        if told:
            found[float(severity)] = told
    return found
