"""Claim T8: the clusters of a layer's features tell which layers transfer."""

from __future__ import annotations

import numpy as np

from carryover.claims.choice import bootstrap, rank_correlations
from carryover.claims.gains import DRAWS, SEED
from carryover.claims.runs import Layer, NotRun, Runs, share
from carryover.claims.verdicts import Finding, drawn, from_checks


def clusters_tell_layers(runs: Runs, pair: str) -> Finding:
    """T8: a convolution's median ARI ranks as the mean accuracy of the FR cut just behind it.

    Keeping i convolutions makes the i-th the last kept one. Two checks: the rank correlation over
    convolutions, averaged over fractions, above 0; and at more than half of the fractions the
    convolution with the highest ARI is the last one kept by the most accurate cut. Repeats of both
    studies are drawn on their own.
    """
    found = [layer for layer in runs.ari if layer.pair == pair]
    if not found:
        raise NotRun("agglomerative clusters of the layers' features")
    generator = np.random.default_rng(SEED)
    shared = [f for f in runs.fractions(pair) if any(f == layer.fraction for layer in found)]
    if not shared:
        raise NotRun("clusters at the fractions of the cut study")
    rho, matches, notes = np.zeros(DRAWS + 1), np.zeros(DRAWS + 1), []
    for fraction in shared:
        depths = sorted(layer.depth for layer in found if layer.fraction == fraction)
        keys = [key for key in runs.keys(pair, "fr", fraction) if key.cut in depths]
        if len(keys) < len(depths):
            raise NotRun(f"fr at {share(fraction)} for cuts {depths}")
        cells = [runs.ari[Layer(pair, fraction, depth)] for depth in depths]
        repeats = sorted(set.intersection(*map(set, cells)))
        if len(repeats) < 2:
            raise NotRun(f"two repeats of the clusters at {share(fraction)}")
        ari = np.array([[cell[repeat] for repeat in repeats] for cell in cells])
        accuracy = runs.table(keys)
        by_draw = [  # of all repeats, then of every draw
            np.vstack([middle(t, axis=1), middle(bootstrap(t, DRAWS, generator), axis=2)])
            for t, middle in ((ari, np.median), (accuracy, np.mean))
        ]
        rho += rank_correlations(*by_draw) / len(shared)
        top = [values.argmax(axis=1) for values in by_draw]
        matches += (top[0] == top[1]) / len(shared)
        best_ari, last_kept = (f"conv{depths[int(places[0])] - 1}" for places in top)
        notes.append(
            f"{share(fraction)} (n = {len(repeats)}): ARI highest at {best_ari} "
            f"({by_draw[0][0].max():.3f}), accuracy when {last_kept} is the last one kept"
        )
    what = "share of fractions whose best layers agree"
    return from_checks(
        [
            drawn("rank correlation", float(rho[0]), rho[1:], "above"),
            drawn(what, float(matches[0]), matches[1:], "above", 0.5),
        ],
        f"median ARI and mean accuracy over repeats, {DRAWS} bootstrap draws of repeats",
        notes,
    )
