"""Claims T1 to T5: which cut is best, and what the best one gains or loses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from carryover.claims import published
from carryover.claims.choice import best, bootstrap, leave_one_out, rank_correlations, shares
from carryover.claims.runs import Runs, share
from carryover.claims.verdicts import Check, Finding, Side, drawn, from_checks, numbers, paired
from carryover.measure.statistics import Interval, paired_difference

DRAWS = 2000
SEED = 0  # of every bootstrap, so that equal rows give equal verdicts


def best_cut_falls(runs: Runs, pair: str) -> Finding:
    """T1: rank correlation of fraction and best FR cut below 0, by bootstrap over repeats."""
    generator = np.random.default_rng(SEED)
    fractions, cuts = runs.fractions(pair), runs.cuts(pair, "fr")
    runs.need([key for fraction in fractions for key in runs.keys(pair, "fr", fraction)])
    chosen, by_fraction, notes = [], [], []
    for fraction in fractions:
        table = runs.choosing(runs.keys(pair, "fr", fraction))
        chosen.append(cuts[best(table)])
        draws = bootstrap(table, DRAWS, generator).mean(axis=2).argmax(axis=1)
        by_fraction.append(draws)
        often = ", ".join(f"cut {cut} {100 * s:.0f} %" for cut, s in shares(draws, cuts).items())
        notes.append(f"{share(fraction)} (n = {table.shape[1]}) {often}")
    value = rank_correlations(np.array([chosen], dtype=float), np.array([fractions]))[0]
    by_draw = np.stack(by_fraction, axis=1).astype(float)
    rho = rank_correlations(by_draw, np.tile(fractions, (DRAWS, 1)))
    theirs = published.BEST_CUTS.get(pair)
    return from_checks(
        [drawn("rank correlation", float(value), rho, "below")],
        f"Spearman's rank correlation of fraction and best cut on {runs.chosen_on} images, "
        f"{DRAWS} bootstrap draws of repeats",
        [
            f"best cuts {_listed(chosen)} at {', '.join(map(share, fractions))}"
            + (f", published {_listed(theirs)}" if theirs else ""),
            f"the correlation is negative in {100 * np.mean(rho < 0):.0f} % of the draws",
            "best cut by draw: " + "; ".join(notes),
        ],
    )


def _listed(cuts: Sequence[int]) -> str:
    return ", ".join(map(str, cuts))


def little_data_gains(runs: Runs, pair: str) -> Finding:
    """T2: gain of the best FR cut at 0.1 % and 1 % (else the least data) above a margin."""
    fractions = runs.fractions(pair)
    little = [fraction for fraction in fractions if fraction <= 0.01] or fractions[:1]
    return _gains(runs, pair, little, "above", published.A_LOT)


def all_data_gains(runs: Runs, pair: str) -> Finding:
    """T3: gain of the best FR cut with all data below a margin."""
    return _gains(runs, pair, runs.fractions(pair)[-1:], "below", published.SMALL)


def _gains(
    runs: Runs,
    pair: str,
    fractions: Sequence[float],
    side: Side,
    bound: float,
) -> Finding:
    places = {
        fraction: [
            *runs.keys(pair, "baseline", fraction),
            *(key for key in runs.keys(pair, "fr", fraction) if key.cut),  # cut 0 reuses nothing
        ]
        for fraction in fractions
    }
    runs.need([key for keys in places.values() for key in keys])
    checks, notes = [], []
    for fraction, keys in places.items():
        table, step = runs.table(keys), runs.step(keys)
        by = runs.choosing(keys)[1:]
        i = best(by) + 1
        plain = paired_difference(table[i], table[0], step=step)
        theirs = published.GAINS.get(pair, {}).get(fraction)
        what = f"gain at {share(fraction)}, n = {table.shape[1]}"
        checks.append(paired(what, leave_one_out(table[1:], by), table[0], side, bound, step))
        notes.append(
            f"cut {keys[i].cut}, chosen and measured on the same repeats at {share(fraction)}: "
            f"{numbers(plain)}" + (f", published {theirs:+.4f}" if theirs is not None else "")
        )
    return from_checks(
        checks,
        f"paired t over repeats, each repeat's cut chosen on the others' {runs.chosen_on} images",
        notes,
    )


def all_frozen_loses(runs: Runs, pair: str) -> Finding:
    """T4: at 50 % and more the deepest FR cut is below the baseline and the best other cut."""
    places = {
        fraction: [*runs.keys(pair, "baseline", fraction), *runs.keys(pair, "fr", fraction)]
        for fraction in runs.ample(pair)
    }
    runs.need([key for keys in places.values() for key in keys])
    checks, notes = [], []
    for fraction, keys in places.items():
        table, step = runs.table(keys), runs.step(keys)
        theirs = published.ALL_FROZEN.get(pair, {}).get(fraction)
        what = f"cut {keys[-1].cut} minus baseline at {share(fraction)}, n = {table.shape[1]}"
        what += f", published {theirs:+.3f}" if theirs is not None else ""
        lost = paired(what, table[-1], table[0], "below", step=step)
        if (pair, fraction) == published.ALL_FROZEN_EXCEPTION:
            notes.append(f"excepted by the claim: {what} {numbers(lost.interval)}")
        else:
            checks.append(lost)
        others = leave_one_out(table[1:-1], runs.choosing(keys)[1:-1])
        what = f"minus the best other cut at {share(fraction)}"
        checks.append(paired(what, table[-1], others, "below", step=step))
    return from_checks(
        checks,
        "paired t over repeats, best other cut chosen on the other repeats' "
        f"{runs.chosen_on} images",
        notes,
    )


def truncation_is_usable(runs: Runs, pair: str) -> Finding:
    """T5: with all data the best FT cut loses little to the best FR cut and has fewer weights."""
    fraction = runs.fractions(pair)[-1]
    ft = [key for key in runs.keys(pair, "ft", fraction) if key.cut]
    fr = [key for key in runs.keys(pair, "fr", fraction) if key.cut]
    runs.need(ft + fr)
    runs.need_same_images(ft + fr)
    table = runs.table(ft + fr)
    truncated, reset = table[: len(ft)], table[len(ft) :]
    by_ft, by_fr = np.split(runs.choosing(ft + fr), [len(ft)])
    a, b = best(by_ft), best(by_fr)
    theirs = published.TRUNCATED.get(pair)
    notes = [
        f"best FT {truncated[a].mean():.4f} at cut {ft[a].cut}, "
        f"best FR {reset[b].mean():.4f} at cut {fr[b].cut}"
        + (f", published {theirs[0]} and {theirs[1]}" if theirs else "")
    ]
    what = f"best FT minus best FR at {share(fraction)}, n = {table.shape[1]}"
    fair = (leave_one_out(truncated, by_ft), leave_one_out(reset, by_fr))
    checks = [paired(what, *fair, "above", -published.USABLE, runs.step(ft + fr))]
    if pair in published.NETWORKS:
        few, all_ = published.weights(pair, ft[a].cut), published.weights(pair, 6)
        ratio = few / all_
        checks.append(Check("weights, FT to FR", Interval(ratio, ratio, ratio), "below", 1.0))
        notes.append(f"{few:,} weights to {all_:,} in the published network")
    return from_checks(
        checks,
        f"paired t over repeats, best cuts chosen on the other repeats' {runs.chosen_on} images",
        notes,
    )
