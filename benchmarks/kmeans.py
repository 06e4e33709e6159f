"""K-means of hidden channels against a loop over scikit-learn's.

As many problems as the published cut study has at 0.1 % of the images: 64 channels of 6 layers on
25 subsets of 25 images, 5 clusters, 10 restarts. Features are made here: each channel of a layer
is a rectified mixture of 5 classes in a few of its directions, as wide as the study's layers (28,
14 and 7 pixels a side). Ours is timed in whole, the peer on some channels of every layer and
extrapolated by their number. Both find clusters with the same draws, and their adjusted Rand
indices against the classes are compared.

    make bench
    python benchmarks/kmeans.py --turns 5
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits
from torch import Tensor

import turns
from carryover.solve.kmeans import kmeans_each

SIDES, CHANNELS, REPEATS = (28, 28, 14, 14, 7, 7), 64, 25
IMAGES, CLASSES, DIRECTIONS, RESTARTS, SEED = 25, 5, 12, 10, 42
SLICE = 40  # the peer's channels of a layer a turn
EQUAL = 0.01  # mean difference of the adjusted Rand index that passes


def channels(side: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features of one layer and subset, and the classes of the images."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(IMAGES) % CLASSES
    middles = torch.randn(CHANNELS, CLASSES, DIRECTIONS, generator=generator)
    inner = middles[:, labels] + torch.randn(CHANNELS, IMAGES, DIRECTIONS, generator=generator)
    outer = torch.randn(CHANNELS, DIRECTIONS, side * side, generator=generator)
    return (inner @ outer).relu(), labels


def main() -> None:
    """Time both in turns and write ``reports/bench/kmeans.json``."""
    options = turns.options(__doc__)
    made = [
        channels(side, REPEATS * layer + repeat)
        for layer, side in enumerate(SIDES)
        for repeat in range(REPEATS)
    ]
    problems, labels = [x for x, _ in made], made[0][1].numpy()
    mine, theirs, scores, differences = [], [], [], []
    with threadpool_limits(options.threads):
        kmeans_each(problems[:2], CLASSES, RESTARTS, SEED)  # first calls load libraries
        KMeans(CLASSES, n_init=RESTARTS, random_state=SEED).fit(problems[0][0].numpy())
        for turn in range(options.turns):
            found: list[Tensor] = []
            mine.append(
                turns.seconds(
                    lambda found=found: found.extend(kmeans_each(problems, CLASSES, RESTARTS, SEED))
                )
            )
            taken = []
            for layer in range(len(SIDES)):
                for i in range(SLICE):
                    place, channel = REPEATS * layer + (SLICE * turn + i) % REPEATS, i % CHANNELS
                    x = problems[place][channel].numpy()
                    fit = KMeans(CLASSES, n_init=RESTARTS, random_state=SEED)
                    taken.append(turns.seconds(lambda fit=fit, x=x: fit.fit(x)))
                    ours = adjusted_rand_score(labels, found[place][channel].numpy())
                    scores.append(ours)
                    differences.append(abs(ours - adjusted_rand_score(labels, fit.labels_)))
            theirs.append(float(np.mean(taken)) * len(problems) * CHANNELS)
            print(f"turn {turn + 1} of {options.turns}", flush=True)
    summary: dict[str, Any] = {
        "what": f"{CHANNELS} channels x {len(SIDES)} layers x {REPEATS} repeats, {IMAGES} images, "
        f"{CLASSES} clusters, {RESTARTS} restarts; {options.threads} threads",
        "extrapolated": f"the peer, from {SLICE * len(SIDES)} fits a turn",
        "seconds": turns.spread(mine),
        "peer_seconds": turns.spread(theirs),
        "ratio": turns.spread([p / o for p, o in zip(theirs, mine, strict=True)]),
        "adjusted_rand": float(np.mean(scores)),
        "difference_in_adjusted_rand": {
            "mean": float(np.mean(differences)),
            "greatest": max(differences),
        },
    }
    path = turns.write("kmeans", summary)
    print(
        f"kmeans: ours {turns.said(summary['seconds'], 's')}, peer "
        f"{turns.said(summary['peer_seconds'], 's')} extrapolated, ratio "
        f"{turns.said(summary['ratio'], 'x')}; adjusted Rand {summary['adjusted_rand']:.3f}, "
        f"differs by {np.mean(differences):.2g} (mean)"
    )
    print(path)
    if np.mean(differences) > EQUAL:
        raise SystemExit("kmeans: expected the clusters of both to agree, they do not")


if __name__ == "__main__":
    main()
