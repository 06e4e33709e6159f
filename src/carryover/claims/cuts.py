"""The cut study's claims T1 to T11, decided from rows for each pair of source and target.

`verdicts` takes rows, ours or released, and holds both to the same rules. Differences are paired
by repeat: within a repeat all settings and cuts saw the same training images. Intervals are 95 %.
Where a claim speaks of the best cut, its gain is taken on repeats that had no say in the choice.
Figures, margins and their source: ``published.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from carryover.claims import gains, published, settings
from carryover.claims.clusters import clusters_tell_layers
from carryover.claims.runs import gather
from carryover.claims.verdicts import Claim, Verdict, applies, judge
from carryover.rows import Row


def verdicts(rows: Iterable[Row]) -> list[Verdict]:
    """Every claim for every pair in the rows, by claim and then pair.

    Raises:
        DataError: released and other rows together, or two values for one repeat.
    """
    runs = gather(rows)
    return [
        judge(name, claim, runs, pair)
        for name, claim in CLAIMS.items()
        for pair in runs.pairs()
        if applies(claim, runs, pair)
    ]


CLAIMS = {
    "T1": Claim(
        "the best number of kept layers falls as target data grows",
        gains.best_cut_falls,
        published.PAIRS,
    ),
    "T2": Claim(
        "with little target data, reuse beats training from scratch by a lot",
        gains.little_data_gains,
        published.PAIRS,
    ),
    "T3": Claim(
        "with all target data the gain is small or nothing", gains.all_data_gains, published.PAIRS
    ),
    "T4": Claim(
        "with half of the data or more, freezing everything is never best and worse than training "
        "from scratch (FashionMNIST at 50 % excepted)",
        gains.all_frozen_loses,
        published.PAIRS,
    ),
    "T5": Claim(
        "removing the later layers is a usable alternative to resetting them, with fewer weights",
        gains.truncation_is_usable,
        ("fashion-mnist",),
        ("ft",),
    ),
    "T6": Claim(
        "removing the later layers beats resetting them at many cuts",
        settings.truncation_beats_reset,
        ("cifar10",),
        ("ft",),
    ),
    "T7": Claim(
        "keeping the later layers trainable helps at shallow cuts, resetting them at deep cuts",
        settings.shallow_keeps_deep_resets,
        ("fashion-mnist",),
        ("f",),
    ),
    "T8": Claim(
        "clustering quality of a layer's features tells which layers transfer",
        clusters_tell_layers,
        ("fashion-mnist",),
        ("clusters",),
    ),
    "T9": Claim(
        "no two cuts differ significantly at 50 % or 100 %",
        settings.no_cuts_differ,
        published.PAIRS,
    ),
    "T10": Claim(
        "cut 0 with FR is the same experiment as training from scratch",
        settings.reset_all_is_baseline,
        published.PAIRS,
    ),
    "T11": Claim(
        "the deepest cut is the same experiment under FR, F and FT",
        settings.all_frozen_is_one,
        ("fashion-mnist", "cifar10"),
        ("f", "ft"),
    ),
}
