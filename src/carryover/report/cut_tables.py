"""Tables of the cut study: accuracy, rank groups, and every test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

from carryover.measure.ranks import (
    SignedRank,
    between,
    holm_p,
    letters,
    published_ranks,
    settings_test,
)
from carryover.measure.statistics import mean_interval
from carryover.report.cut_scores import (
    BASELINE,
    BASELINE_CUT,
    TITLES,
    CutScores,
    Differs,
    columns,
    cuts,
    gain,
    repeats,
    repeats_needed,
    settings,
    share,
)
from carryover.report.cut_summary import rounded
from carryover.report.tables import Table, percent, to_csv

LEVEL = 0.05  # below it a p-value is called significant
SHADES = {"**": "green!30", "*": "green!10", "": ""}  # of a line in LaTeX


@dataclass(frozen=True)
class Compared:
    """A signed-rank test of two cells at one fraction.

    Attributes:
        a, b: setting and cut of the cells.
        p_holm: p adjusted for all tests of these settings at this fraction.
        higher: the cell with the higher mean, None where p_holm is not below 0.05.
    """

    fraction: float
    a: tuple[str, int]
    b: tuple[str, int]
    test: SignedRank
    p_holm: float
    higher: tuple[str, int] | None


# --- accuracy ----------------------------------------------------------------------------------


def accuracy_table(scores: CutScores, setting: str) -> Table:
    """Accuracy of every cut of one setting."""
    lines = [
        [
            share(fraction),
            str(images),
            str(repeats(scores, fraction)),
            *(percent(mean_interval(v)) for v in columns(scores, setting, fraction).values()),
        ]
        for fraction, images in scores.images.items()
    ]
    header = ["data", "images", "repeats", *_heads(scores, setting)]
    return Table(f"Accuracy, {TITLES[setting]}.", header, lines)


def cells_csv(scores: CutScores) -> str:
    """Every cell: mean accuracy and gain with intervals."""
    lines: list[list[object]] = []
    for fraction, images in scores.images.items():
        cells = [(BASELINE, BASELINE_CUT)]
        cells += [(setting, cut) for setting in settings(scores) for cut in cuts(scores, setting)]
        for setting, cut in cells:
            accuracy = rounded(mean_interval(scores.values[setting, fraction, cut]))
            more = rounded(gain(scores, setting, fraction, cut))
            count = repeats(scores, fraction)
            place = (setting, fraction, images, cut, count, scores.n)
            lines.append([*place, *accuracy.values(), *more.values()])
    header = ["setting", "fraction", "images", "cut", "repeats", "test_images", "accuracy"]
    return to_csv([*header, "low", "high", "gain", "gain_low", "gain_high"], lines)


# --- groups ------------------------------------------------------------------------------------


def ranks(scores: CutScores, setting: str) -> dict[float, dict[int, int]]:
    """Rank group of every cut, and of training from scratch, by fraction: the original's rule."""
    return {f: published_ranks(columns(scores, setting, f), LEVEL) for f in scores.images}


def letter_groups(scores: CutScores, setting: str) -> dict[float, dict[int, str]]:
    """Letters of every cut, and of training from scratch, by fraction, after Holm's correction."""
    return {f: letters(columns(scores, setting, f), LEVEL) for f in scores.images}


def ranks_table(scores: CutScores, shown: Sequence[str]) -> Table:
    """Rank groups by the original's rule and letters after Holm's correction."""
    lines = []
    for setting in shown:
        by_rank, by_letter = ranks(scores, setting), letter_groups(scores, setting)
        for fraction in scores.images:
            groups = zip(by_rank[fraction].values(), by_letter[fraction].values(), strict=True)
            texts = [f"{rank} {letter}" for rank, letter in groups]
            lines.append([setting, share(fraction), str(repeats(scores, fraction)), *texts])
    heads = _heads(scores, shown[0])
    needed = repeats_needed(comb(len(heads), 2))
    title = (
        "Groups of cuts: rank by the original's rule (1 is best; signed-rank tests at p < 0.05, "
        "not adjusted, one cut standing for its group), and letters: cuts that share one do not "
        f"differ after Holm's correction, which takes {needed} repeats or more."
    )
    return Table(title, ["setting", "data", "repeats", *heads], lines)


def _heads(scores: CutScores, setting: str) -> list[str]:
    return ["from scratch", *(f"cut {cut}" for cut in cuts(scores, setting))]


# --- tests -------------------------------------------------------------------------------------


def between_cuts(scores: CutScores, setting: str) -> list[Compared]:
    """Every pair of cuts of a setting, training from scratch too, at every fraction."""
    found = []
    for fraction in scores.images:
        by_cut = columns(scores, setting, fraction)
        tests = between(by_cut)
        for pair, p in holm_p(tests).items():
            best = max(pair, key=lambda cut: math.fsum(by_cut[cut]))
            higher = (setting, best) if p < LEVEL else None
            a, b = ((setting, cut) for cut in pair)
            found.append(Compared(fraction, a, b, tests[pair], p, higher))
    return found


def between_settings(scores: CutScores, first: str, second: str) -> list[Compared]:
    """Two settings at every cut that both have, at every fraction."""
    found = []
    for fraction in scores.images:
        by_cut = [_cuts_alone(columns(scores, s, fraction)) for s in (first, second)]
        for cut, contrast in settings_test(by_cut[0], by_cut[1], LEVEL).items():
            a, b = (first, cut), (second, cut)
            higher = {"first": a, "second": b, "none": None}[contrast.higher]
            found.append(Compared(fraction, a, b, contrast.test, contrast.p, higher))
    return found


def against(scores: CutScores, setting: str, other: str) -> dict[float, dict[int, Differs]]:
    """Whether a setting is significantly ``higher`` or ``lower`` than another at each cut."""
    found: dict[float, dict[int, Differs]] = {fraction: {} for fraction in scores.images}
    for line in between_settings(scores, setting, other):
        differs: dict[object, Differs] = {line.a: "higher", line.b: "lower", None: ""}
        found[line.fraction][line.a[1]] = differs[line.higher]
    return found


def tests_table(scores: CutScores, title: str, compared: Sequence[Compared]) -> Table:
    """Tests of cuts or of settings; ``*``: p < 0.05, ``**``: also after Holm's correction."""
    several = len({line.a[0] for line in compared} | {line.b[0] for line in compared}) > 1
    lines = []
    for line in compared:
        names = [_name(cell, several) for cell in (line.a, line.b)]
        lines.append(
            [
                share(line.fraction),
                f"{names[0]}, {names[1]}",
                str(int(line.test.statistic)),
                f"{line.test.p:.6f}",
                f"{line.p_holm:.6f}",
                _stars(line),
                _name(line.higher, several) if line.higher else "",
            ]
        )
    header = ["data", "pair", "statistic", "p", "p (Holm)", "significant", "higher"]
    shades = [SHADES[_stars(line)] for line in compared]
    return Table(f"{title} {_least(scores, compared)}", header, lines, shades)


def tests_csv(compared: Sequence[Compared]) -> str:
    """Every test, statistics and p-values in full."""
    header = ["fraction", "setting_a", "cut_a", "setting_b", "cut_b", "repeats", "statistic"]
    lines = [
        (
            *(line.fraction, *line.a, *line.b, line.test.n, line.test.statistic),
            *(line.test.p, line.test.smallest_p, line.p_holm, *(line.higher or ("", ""))),
        )
        for line in compared
    ]
    more = ["p", "smallest_p", "p_holm", "higher_setting", "higher_cut"]
    return to_csv([*header, *more], lines)


def all_tests(scores: CutScores, varying: Sequence[str]) -> dict[str, list[Compared]]:
    """Tests by title: between the cuts of each setting that varies, and between all settings."""
    names = settings(scores)
    within = {f"Tests between cuts, {TITLES[s]}.": between_cuts(scores, s) for s in varying}
    across = {
        f"Tests between settings {a} and {b}.": between_settings(scores, a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }
    return within | across


def _least(scores: CutScores, compared: Sequence[Compared]) -> str:
    """What the table's tests can show at all."""
    least = {line.fraction: line.test.smallest_p for line in compared}
    count = len(compared) // len(least)
    parts = [f"{share(f)} {p:.2g} ({repeats(scores, f)} repeats)" for f, p in least.items()]
    return (
        f"Two-sided signed-rank tests over paired repeats, {count} a fraction; the smallest p "
        f"that the repeats can give: {', '.join(parts)}. Of {count} tests one can be significant "
        f"after Holm's correction with {repeats_needed(count)} repeats or more. One star: p < "
        f"{LEVEL}; two: also after the correction."
    )


def _stars(line: Compared) -> str:
    return "**" if line.p_holm < LEVEL else "*" if line.test.p < LEVEL else ""


def _name(cell: tuple[str, int], several: bool) -> str:
    setting, cut = cell
    name = "scratch" if cut == BASELINE_CUT else f"cut {cut}"
    return f"{setting} {name}" if several else name


def _cuts_alone(by_cut: Mapping[int, Sequence[float]]) -> dict[int, Sequence[float]]:
    return {cut: values for cut, values in by_cut.items() if cut != BASELINE_CUT}
