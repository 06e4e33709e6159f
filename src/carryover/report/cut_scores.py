"""What the cut study's tables and figures are made of: accuracies by setting, fraction and cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from carryover.errors import DataError
from carryover.measure.statistics import Interval, paired_difference, smallest_signed_rank_p
from carryover.rows import Row

T = TypeVar("T")

BASELINE, BASELINE_CUT = "baseline", -1
MEASURED = {"test": "test accuracy", "train": "accuracy on training images"}  # by cuts.test_on

Differs = Literal["higher", "lower", ""]  # significantly; "" is not
Values = Mapping[tuple[str, float, int], Sequence[float]]


@dataclass(frozen=True, eq=False)
class CutScores:
    """Accuracies of one pair of source and target.

    Attributes:
        values: accuracies of the repeats, in 0..1 and the same order everywhere, by setting,
            fraction and cut; training from scratch is ``("baseline", fraction, -1)``.
        images: training images at each fraction that is shown, ascending.
        n: images that each accuracy is over.
        measured: what was measured, for labels (``test accuracy``).
        pair: source and target, for titles.
    """

    values: Values
    images: Mapping[float, int]
    n: int
    measured: str
    pair: str


def from_rows(rows: Iterable[Row], measured: str) -> CutScores:
    """Test accuracies, and the fractions that more than training from scratch has.

    Raises:
        DataError: several numbers of test images, a fraction without rows of training images, or
            as `accuracies`.
    """
    rows = list(rows)
    test = [row for row in rows if (row.split, row.metric) == ("test", "accuracy")]
    values = accuracies(rows, "test")
    trained = {float(row.cell["fraction"]): row.n for row in rows if row.split == "train"}
    fractions = sorted({fraction for setting, fraction, _ in values if setting != BASELINE})
    n = _one({row.n for row in test}, "number of test images")
    pair = test[0].cell["pair"]
    if not trained.keys() >= set(fractions):
        raise DataError(
            f"{pair}: expected rows of training images at fractions {fractions}, got them at "
            f"{sorted(trained)}; take the rows of every split"
        )
    images = {fraction: trained[fraction] for fraction in fractions}
    return CutScores(values=values, images=images, n=n, measured=measured, pair=pair)


def accuracies(rows: Iterable[Row], split: str) -> dict[tuple[str, float, int], list[float]]:
    """Accuracies of a split by setting, fraction and cut, in the order of the repeats.

    Raises:
        DataError: no accuracies, or of several pairs of source and target; or cells of one
            fraction have different repeats, so that they cannot be compared by repeat.
    """
    rows = [row for row in rows if (row.split, row.metric) == (split, "accuracy")]
    _one({str(row.cell["pair"]) for row in rows}, f"pair of source and target in split {split}")
    found: dict[tuple[str, float, int], dict[int, float]] = {}
    for row in rows:
        key = (row.item, float(row.cell["fraction"]), row.cell["cut"])
        found.setdefault(key, {})[row.cell["repeat"]] = row.value
    for fraction in sorted({key[1] for key in found}):
        repeats = {tuple(sorted(cell)) for key, cell in found.items() if key[1] == fraction}
        _one(repeats, f"set of repeats at fraction {fraction:g}")
    return {key: [cell[i] for i in sorted(cell)] for key, cell in found.items()}


def _one(values: set[T], name: str) -> T:
    if len(values) != 1:
        raise DataError(
            f"expected rows with one {name}, got {sorted(map(str, values))}; take rows that belong "
            "together"
        )
    return next(iter(values))


def settings(scores: CutScores) -> list[str]:
    """Settings but training from scratch, in the order of the values."""
    return list(dict.fromkeys(setting for setting, _, _ in scores.values if setting != BASELINE))


def cuts(scores: CutScores, setting: str) -> list[int]:
    """Cuts of a setting, ascending."""
    return sorted({cut for name, _, cut in scores.values if name == setting})


def columns(scores: CutScores, setting: str, fraction: float) -> dict[int, Sequence[float]]:
    """Accuracies by cut at one fraction, those from scratch first, under cut -1.

    Raises:
        DataError: a cut of the setting has no values at this fraction, or not as many as others.
    """
    keys = [(BASELINE, BASELINE_CUT), *((setting, cut) for cut in cuts(scores, setting))]
    found = {cut: scores.values.get((name, fraction, cut), ()) for name, cut in keys}
    lengths = {cut: len(values) for cut, values in found.items()}
    if min(lengths.values()) < 2 or len(set(lengths.values())) > 1:
        raise DataError(
            f"{scores.pair}, {setting}, fraction {fraction:g}: expected equally many repeats, two "
            f"or more, at every cut (-1: from scratch), got {lengths}; run what is missing"
        )
    return found


def repeats(scores: CutScores, fraction: float) -> int:
    """Repeats from scratch at a fraction."""
    return len(scores.values[BASELINE, fraction, BASELINE_CUT])


def varying(scores: CutScores) -> list[str]:
    """Settings less those that give the same at every cut: with nothing frozen or reset."""
    return [name for name in settings(scores) if not same_at_every_cut(scores, name)]


def same_at_every_cut(scores: CutScores, setting: str) -> bool:
    """Whether a setting has several cuts and they all have the same accuracies."""
    found = cuts(scores, setting)
    return len(found) > 1 and all(
        len({tuple(scores.values[setting, fraction, cut]) for cut in found}) == 1
        for fraction in scores.images
    )


def gain(scores: CutScores, setting: str, fraction: float, cut: int) -> Interval:
    """Mean accuracy minus that from scratch, over repeats of the same training images."""
    return paired_difference(
        scores.values[setting, fraction, cut],
        scores.values[BASELINE, fraction, BASELINE_CUT],
        step=1 / scores.n,
    )


def repeats_needed(tests: int, level: float = 0.05) -> int:
    """The fewest repeats with which one of many signed-rank tests can be significant after Holm."""
    n = 1
    while tests * smallest_signed_rank_p(n) >= level:
        n += 1
    return n


def share(fraction: float) -> str:
    """A fraction in per cent, ``0.1 %``."""
    return f"{100 * fraction:.4g} %"


TITLES = {
    "fr": "FR: keep frozen, reset the rest",
    "f": "F: keep frozen, tune the rest",
    "r": "R: keep, reset the rest, tune all",
    "none": "none: keep and tune all",
    "ft": "FT: keep frozen, remove the rest",
}
