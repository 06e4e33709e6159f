"""The cut study in short: the best cut of every setting and fraction, and what it gains."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from carryover.measure.statistics import Interval, holm, mean_interval, paired_p
from carryover.report.cut_scores import (
    BASELINE,
    BASELINE_CUT,
    CutScores,
    Values,
    gain,
    repeats,
    settings,
    share,
)
from carryover.report.tables import Table, percent

NOTHING_KEPT_AT_0 = ("fr", "r", "ft")  # settings that reset or remove all layers at cut 0


def best_cut(chosen_by: Values, setting: str, fraction: float) -> int:
    """The cut with the highest mean; the shallowest of equals.

    Cut 0 does not compete where it keeps nothing of the source network.
    """
    every = sorted({cut for name, _, cut in chosen_by if name == setting})
    kept = [cut for cut in every if cut or setting not in NOTHING_KEPT_AT_0] or every
    return max(kept, key=lambda cut: (fmean(chosen_by[setting, fraction, cut]), -cut))


def summarise(scores: CutScores, chosen_by: Values) -> dict[str, Any]:
    """Gain of the best cut by setting and training images, with Holm-corrected p-values.

    Args:
        chosen_by: accuracies that pick the best cut.
    """
    summary: dict[str, Any] = {}
    places, p_values = [], []
    for setting in settings(scores):
        for fraction, images in scores.images.items():
            cut = best_cut(chosen_by, setting, fraction)
            best = scores.values[setting, fraction, cut]
            scratch = scores.values[BASELINE, fraction, BASELINE_CUT]
            place: dict[str, Any] = {
                "best_cut": cut,
                "accuracy": rounded(mean_interval(best)),
                "gain": rounded(gain(scores, setting, fraction, cut)),
            }
            summary.setdefault(setting, {})[f"{images}_images"] = place
            places.append(place)
            p_values.append(paired_p(best, scratch, step=1 / scores.n))
    for place, p in zip(places, holm(p_values), strict=True):
        place["gain"]["p_holm"] = round(float(p), 6)
    summary[BASELINE] = {
        f"{images}_images": {
            "accuracy": rounded(mean_interval(scores.values[BASELINE, fraction, BASELINE_CUT]))
        }
        for fraction, images in scores.images.items()
    }
    return summary


def rounded(interval: Interval) -> dict[str, float]:
    """Value and bounds to six decimals, as files hold them."""
    return {name: round(float(getattr(interval, name)), 6) for name in ("value", "low", "high")}


def best_table(summary: Mapping[str, Any], scores: CutScores) -> Table:
    """Gain of the best cut over training from scratch."""
    lines = []
    for setting in settings(scores):
        for fraction, images in scores.images.items():
            place, scratch = (summary[s][f"{images}_images"] for s in (setting, BASELINE))
            lines.append(
                [
                    setting,
                    share(fraction),
                    str(images),
                    str(repeats(scores, fraction)),
                    percent(Interval(**scratch["accuracy"])),
                    str(place["best_cut"]),
                    percent(Interval(**place["accuracy"])),
                    percent(_gain(place), signed=True),
                    f"{place['gain']['p_holm']:.3g}",
                ]
            )
    header = ["setting", "data", "images", "repeats", "from scratch", "best cut", "accuracy"]
    return Table(
        "Gain of the best cut over training from scratch.", [*header, "gain", "p (Holm)"], lines
    )


def headline(summary: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """The terminal's table of a summary: title, header and lines."""
    images = sorted(summary[BASELINE], key=lambda key: int(key.split("_")[0]))
    lines = []
    for setting in (name for name in summary if name != BASELINE):
        places = [summary[setting][key] for key in images]
        cells = [f"{percent(_gain(p), signed=True)} (cut {p['best_cut']})" for p in places]
        lines.append([setting, *cells])
    title = "cuts: accuracy gained over training from scratch by the best cut, points [95 %]"
    return title, ["setting", *(key.replace("_", " ") for key in images)], lines


def _gain(place: Mapping[str, Any]) -> Interval:
    return Interval(**{name: place["gain"][name] for name in ("value", "low", "high")})
