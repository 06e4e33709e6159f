"""Made-up accuracies of a cut study and all its figures, for the tests of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from carryover.report import cut_boxes, cut_compare, cut_lines, cut_maps, cut_tables
from carryover.report.cut_scores import CutScores, settings, varying

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = {0.1: 10, 1.0: 100}
CUTS = (0, 3, 6)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def made_up() -> CutScores:
    """12 repeats at 10 % and 5 at 100 %; at 10 % FT is better than FR, deeper cuts are better."""
    random = generator()
    values = {}
    for fraction, count in ((0.1, 12), (1.0, 5)):
        for setting, start in (("baseline", 0.4), ("fr", 0.4), ("ft", 0.6), ("none", 0.7)):
            for cut in (-1,) if setting == "baseline" else CUTS:
                slope = 0.02 * max(cut, 0) if fraction < 1 and setting != "none" else 0.0
                drawn = start + slope + 0.01 * random.random(count)
                values[setting, fraction, cut] = [float(x) for x in drawn]
        for cut in CUTS:
            values["none", fraction, cut] = values["none", fraction, 0]
    return CutScores(values, IMAGES, 500, "test accuracy", "digits")


def everything(scores: CutScores) -> dict[str, Callable[[], Figure]]:
    """Every figure of the cut study."""
    shown = varying(scores)
    ranks = {setting: cut_tables.ranks(scores, setting) for setting in shown}
    first, last = shown[0], shown[-1]
    return {
        "box": lambda: cut_boxes.overview(scores, shown, ranks),
        "box of one": lambda: cut_boxes.boxes(
            scores,
            last,
            ranks[last],
            letters=cut_tables.letter_groups(scores, last),
            against=cut_tables.against(scores, last, first),
            other=first,
        ),
        "difference": lambda: cut_lines.difference(scores, settings(scores), generator),
        "gain": lambda: cut_lines.gains(scores, settings(scores)),
        "mean": lambda: cut_lines.means(scores, settings(scores)),
        "range": lambda: cut_lines.ranges(scores, first),
        "bars": lambda: cut_lines.bars(scores, shown),
        "heat map": lambda: cut_maps.heat_map(scores, shown),
        "surface": lambda: cut_maps.surface(scores, shown),
        "compare": lambda: cut_compare.compare(scores, scores, first, ("ours", "released")),
    }
