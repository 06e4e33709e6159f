"""Sweeps of linear probes against loops over scikit-learn's, on embeddings made here.

A turn is one seed: 11 nested fractions of 10,000 rows of 512 features in 10 classes, 45 penalties.
Ours is timed in whole, all 495 fits; the peer on fits that are spread over the grid, 20 of
``LogisticRegression`` and 99 of ``Ridge`` a turn, and extrapolated by their mean. Both are in
float32, on as many threads, and stop at the same size of the gradient. Fits alone are timed; the
accuracies on 10,000 further rows are compared.

    make bench
    python benchmarks/probe.py --turns 5
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits
from torch import Tensor

import turns
from carryover.solve.choice import accuracies
from carryover.solve.logistic import Probes, logistic
from carryover.solve.ridge import Ridges, ridge

ROWS, WIDTH, CLASSES = 10_000, 512, 10
FRACTIONS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
L2 = np.logspace(-2, 5, 45).tolist()
TOLERANCE = 1e-6  # at scikit-learn's 1e-4 neither is near the optimum of a weak penalty
FITS, EVERY = 20, 5  # LogisticRegression a turn; every fifth penalty for Ridge
EQUAL = 0.001  # mean difference of accuracies that passes


Peer = Callable[[float], Any]


@dataclass(frozen=True)
class Data:
    """Rows to train on, further rows to score, and the nested subsets."""

    x: Tensor
    y: Tensor
    further: Tensor
    answers: Tensor
    rows: list[Tensor]


def embeddings(count: int) -> tuple[Tensor, Tensor]:
    """A Gaussian mixture whose variances fall as 1, 1/2, 1/3 ...; norms near 10 as of CLIP."""
    generator = torch.Generator().manual_seed(0)
    spread = (torch.arange(WIDTH) + 1.0).rsqrt()
    middles = 0.15 * torch.randn(CLASSES, WIDTH, generator=generator) * spread
    labels = torch.randint(CLASSES, (count,), generator=generator)
    x = middles[labels] + torch.randn(count, WIDTH, generator=generator) * spread
    turned = x @ torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator)).Q
    turned += 0.3 * spread.norm() / WIDTH**0.5 * torch.randn(WIDTH, generator=generator)
    return turned * (10 / turned.norm(dim=1).mean()), labels


def subsets(seed: int) -> list[Tensor]:
    """Nested fractions of the rows."""
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(seed + 1))
    return [order[: round(fraction * ROWS)] for fraction in FRACTIONS]


def drawn_cells(turn: int) -> list[tuple[int, int]]:
    """(fraction, penalty) of the peer's fits: all fractions, the whole range of penalties."""
    random = np.random.default_rng(turn)
    edges = np.linspace(0, len(L2), FITS + 1).astype(int)
    penalties = [random.integers(a, b) for a, b in pairwise(edges)]
    return [
        ((FITS * turn + i) % len(FRACTIONS), int(j))
        for i, j in enumerate(random.permutation(penalties))
    ]


def compared(
    data: Data, ours: Callable[[], Probes | Ridges], cells: list[tuple[int, int]], peer: Peer
) -> tuple[float, float, list[float]]:
    """Seconds of our whole grid, the peer's extrapolated ones, and differences in accuracy."""
    found: list[Probes | Ridges] = []
    mine = turns.seconds(lambda: found.append(ours()))
    taken, differences = [], []
    for i, j in cells:
        fit, part = peer(L2[j]), data.rows[i].numpy()
        x, y = data.x.numpy()[part], data.y.numpy()[part]
        y = np.eye(CLASSES, dtype=np.float32)[y] if isinstance(fit, Ridge) else y
        taken.append(turns.seconds(lambda fit=fit, x=x, y=y: fit.fit(x, y)))
        accuracy = score(data, found[0].class_weights[i, j], found[0].biases[i, j])
        differences.append(accuracy - score(data, fit.coef_, fit.intercept_))
    return mine, float(np.mean(taken)) * len(L2) * len(FRACTIONS), differences


def score(data: Data, weights: Any, biases: Any) -> float:
    """Accuracy on the further rows."""
    weights, biases = (torch.as_tensor(v, dtype=torch.float32) for v in (weights, biases))
    right = (data.further @ weights.T + biases).argmax(1) == data.answers
    return float(right.double().mean())


def main() -> None:
    """Time both in turns and write ``reports/bench/probe.json``."""
    options = turns.options(__doc__)
    features, labels = embeddings(2 * ROWS)
    every = [(i, j) for i in range(len(FRACTIONS)) for j in range(0, len(L2), EVERY)]
    found: dict[str, list[tuple[float, float, list[float]]]] = {"logistic": [], "ridge": []}
    best = []
    with threadpool_limits(options.threads):
        for turn in range(-1, options.turns):
            parts = features[:ROWS], labels[:ROWS], features[ROWS:], labels[ROWS:]
            data = Data(*parts, subsets(turn))
            if turn < 0:  # first calls load libraries
                data.rows[1:] = []
                ridge(data.x, data.y, data.rows, L2, CLASSES)
                logistic(data.x, data.y, data.rows, L2, CLASSES, 0.1, 5)
                continue
            kept: list[Probes] = []

            def sweep(data: Data = data, kept: list[Probes] = kept) -> Probes:
                kept.append(logistic(data.x, data.y, data.rows, L2, CLASSES, TOLERANCE, 1000))
                return kept[0]

            found["logistic"].append(
                compared(
                    data,
                    sweep,
                    drawn_cells(turn),
                    lambda l2: LogisticRegression(C=1 / l2, tol=TOLERANCE, max_iter=10_000),
                )
            )
            found["ridge"].append(
                compared(
                    data,
                    lambda data=data: ridge(data.x, data.y, data.rows, L2, CLASSES),
                    every,
                    lambda l2: Ridge(alpha=l2),
                )
            )
            all_rows = kept[0].class_weights[-1:], kept[0].biases[-1:]
            best.append(float(accuracies(*all_rows, data.further, data.answers).max()))
            print(f"turn {turn + 1} of {options.turns}", flush=True)
    summary: dict[str, Any] = {
        "what": f"{len(FRACTIONS)} fractions x {len(L2)} penalties, a turn is one seed; "
        f"{ROWS} x {WIDTH} embeddings, {CLASSES} classes, {options.threads} threads",
        "extrapolated": f"the peers, from {FITS} fits (logistic) and {len(every)} (ridge) a turn",
        "best_accuracy_on_all_rows": turns.spread(best),
    }
    for name, made in found.items():
        differences = np.abs(np.concatenate([each for _, _, each in made]))
        summary[name] = {
            "seconds": turns.spread([mine for mine, _, _ in made]),
            "peer_seconds": turns.spread([theirs for _, theirs, _ in made]),
            "ratio": turns.spread([theirs / mine for mine, theirs, _ in made]),
            "peer_fits": len(differences),
            "difference_in_accuracy": {
                "mean": float(differences.mean()),
                "greatest": float(differences.max()),
            },
        }
    path = turns.write("probe", summary)
    for name in found:
        one = summary[name]
        print(
            f"{name}: ours {turns.said(one['seconds'], 's')}, peer "
            f"{turns.said(one['peer_seconds'], 's')} extrapolated, ratio "
            f"{turns.said(one['ratio'], 'x')}; accuracies differ by "
            f"{one['difference_in_accuracy']['mean']:.2g} (mean)"
        )
    print(path)
    if any(summary[name]["difference_in_accuracy"]["mean"] > EQUAL for name in found):
        raise SystemExit("probe: expected the accuracies of both to agree, they do not")


if __name__ == "__main__":
    main()
