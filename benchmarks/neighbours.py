"""Exact nearest neighbours against faiss's flat index: 10,000 queries, a bank of 50,000, k = 200.

Embeddings as of ``probe.py``, cosine similarity, float32 in and out, as many threads for both. A
turn is the whole search of both, making the index and unit lengths included; ours is timed as it is
and with candidates found in bfloat16 (``screen``). Ids are compared.

    make bench
    python benchmarks/neighbours.py --turns 5
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import normalize

import turns
from carryover.solve.neighbours import Neighbours, neighbours
from probe import WIDTH, embeddings

QUERIES, BANK, K = 10_000, 50_000, 200
EQUAL = 0.999  # share of ids at their place that passes: the order of near equals is rounding


def peer(queries: Tensor, bank: Tensor) -> np.ndarray:
    """Ids that faiss finds."""
    index = faiss.IndexFlatIP(WIDTH)
    index.add(normalize(bank, dim=1).numpy())
    return index.search(normalize(queries, dim=1).numpy(), K)[1]


def main() -> None:
    """Time both in turns and write ``reports/bench/neighbours.json``."""
    options = turns.options(__doc__)
    faiss.omp_set_num_threads(options.threads)
    x, _ = embeddings(QUERIES + BANK)
    queries, bank = x[:QUERIES].clone(), x[QUERIES:].clone()
    ways = {"float32": None, "screened": torch.bfloat16}
    times: dict[str, list[float]] = {"peer": [], **{way: [] for way in ways}}
    equal = dict.fromkeys(ways, 1.0)
    with threadpool_limits(options.threads):
        for turn in range(-1, options.turns):
            part = queries[:100] if turn < 0 else queries  # first calls load libraries
            ids: list[np.ndarray] = []
            taken = turns.seconds(lambda part=part, ids=ids: ids.append(peer(part, bank)))
            made = {"peer": taken}
            for way, screen in ways.items():
                found: list[Neighbours] = []
                made[way] = turns.seconds(
                    lambda part=part, found=found, screen=screen: found.append(
                        neighbours(part, bank, K, "cosine", screen)
                    )
                )
                same = float((found[0].ids.numpy() == ids[0]).mean())
                equal[way] = min(equal[way], same)
            if turn >= 0:
                for way, seconds in made.items():
                    times[way].append(seconds)
                print(f"turn {turn + 1} of {options.turns}", flush=True)
    summary: dict[str, Any] = {
        "what": f"{QUERIES} queries, {BANK} rows of {WIDTH}, k = {K}, cosine; "
        f"{options.threads} threads; faiss {faiss.__version__}",
        "peer_seconds": turns.spread(times["peer"]),
    }
    for way in ways:
        ratios = [p / o for p, o in zip(times["peer"], times[way], strict=True)]
        summary[way] = {
            "seconds": turns.spread(times[way]),
            "ratio": turns.spread(ratios),
            "ids_equal": equal[way],
        }
    path = turns.write("neighbours", summary)
    print(f"neighbours: peer {turns.said(summary['peer_seconds'], 's')}")
    for way in ways:
        one = summary[way]
        print(
            f"neighbours, {way}: ours {turns.said(one['seconds'], 's')}, ratio "
            f"{turns.said(one['ratio'], 'x')}; {one['ids_equal']:.4%} of ids equal"
        )
    print(path)
    if min(equal.values()) < EQUAL:
        raise SystemExit("neighbours: expected the ids of both to agree, they do not")


if __name__ == "__main__":
    main()
