"""Retrieval in a training step against a plain re-creation of the published one, in turns.

The search: for a batch of queries the k nearest of the store's rows by the Euclidean distance, and
those rows. The peer does what the published ResNet does: in each of its eight blocks it subtracts
every query from every row, takes the norm, sorts out the k smallest and collects the rows. Ours
looks each query up once: found before training by its place (``precomputed``), or for augmented
images in each step by blocks (``blocked``). Store of 200 rows for each of 10 classes, k = 100, rows
of 512, as the published defaults hint; a batch of 64 is a slice of the published 256, for the
peer's memory, which grows with batch times rows. Ids and rows of both are compared.

The same search by faiss's exact index is beside it: 1,000 queries in 50,000 rows, the index made in
the time too. No bar: what the study needs is that a search costs little beside a training.

The step: forward, backward and SGD of ResNet-18 and the Perceiver in the published sizes, a batch
of 16 (a slice too): without retrieval, with precomputed neighbours, and with the peer's search in
it. What retrieval adds to a step is reported, with no bar.

Memory is the growth of a forked process's greatest resident size over one search, which for ours is
measured with 50,000 rows too.

    make bench
    python benchmarks/retrieval.py --turns 5
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import faiss
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

import turns
from carryover.models.retrieval import build
from carryover.solve.neighbours import neighbours

CLASSES, PER_CLASS, K, WIDTH = 10, 200, 100, 512
BATCH, PUBLISHED_BATCH, STEP_BATCH = 64, 256, 16
BLOCKS = {"resnet18": 8, "perceiver": 2}  # searches of the peer in a forward pass
LARGE = 50_000
FLAT_QUERIES = 1_000
BAR = 5
EQUAL = 0.999  # share of ids at their place that passes: the order of near equals is rounding
DIMS: dict[str, dict[str, Any]] = {
    "resnet18": {"width": 64},
    "perceiver": {
        **{"latents": 10, "width": 512, "layers": 2, "cross_heads": 1, "cross_head_width": 256},
        **{"heads": 2, "head_width": 64, "bands": 6, "max_frequency": 10.0, "dropout": 0.2},
    },
}
ROWS = {"features": WIDTH, "labels": 0, "keys": "both", "values": "both", "tokens": "positions"}
STAGES: dict[str, dict[str, Any]] = {
    "resnet18": ROWS | {"layers": 2, "heads": 1, "head_width": 64, "multiplier": 1, "dropout": 0.1},
    "perceiver": ROWS
    | {"layers": 1, "heads": 1, "head_width": 256, "multiplier": 4, "dropout": 0.2},
}
Search = Callable[[Tensor], Tensor]


def embeddings(count: int, seed: int) -> Tensor:
    """Rows around a centre for each class."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(count, WIDTH, generator=random)
    return centres[torch.arange(count) % CLASSES] + noise


def in_forward(queries: Tensor, store: Tensor, repeats: int) -> tuple[Tensor, Tensor]:
    """The peer: all differences at once, again in each block."""
    for _ in range(repeats):
        distances = (queries[:, None] - store[None]).norm(dim=2)
        ids = distances.topk(K, dim=1, largest=False).indices
        rows = store[ids]
    return ids, rows


def blocked(queries: Tensor, store: Tensor) -> tuple[Tensor, Tensor]:
    """Ours where queries are new in each step: once, without all differences at a time."""
    ids = neighbours(queries, store, K, "euclidean").ids
    return ids, gathered(store, ids)


def gathered(store: Tensor, ids: Tensor) -> Tensor:
    return store.index_select(0, ids.flatten()).unflatten(0, ids.shape)


def searches(batch: int) -> tuple[dict[str, dict[str, Any]], dict[str, Callable[[], Any]]]:
    """What each way finds, and each as a call without arguments."""
    store, queries = embeddings(CLASSES * PER_CLASS, 1), embeddings(batch, 2)
    known = neighbours(queries, store, K, "euclidean").ids
    ways: dict[str, Callable[[], Any]] = {
        "peer": partial(in_forward, queries, store, BLOCKS["resnet18"]),
        "precomputed": lambda: (known, gathered(store, known)),
        "blocked": partial(blocked, queries, store),
    }
    theirs, their_rows = ways["peer"]()
    found = {}
    for way in ("precomputed", "blocked"):
        ids, rows = ways[way]()
        same = ids == theirs
        found[way] = {
            "ids_equal": float(same.double().mean()),
            "rows_equal": bool(torch.equal(rows[same], their_rows[same])),
        }
    return found, ways


def step_of(name: str, retrieval: Mapping[str, Any] | None) -> Callable[[Tensor | None], None]:
    """A training step of a new network on noise, for rows or none."""
    random = torch.Generator().manual_seed(3)
    network: nn.Module = build(
        name,
        classes=CLASSES,
        channels=3,
        size=32,
        dims=DIMS[name],
        retrieval=retrieval,
        generator=random,
    )
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    x = torch.rand(STEP_BATCH, 3, 32, 32, generator=random)
    labels = torch.arange(STEP_BATCH) % CLASSES

    def step(rows: Tensor | None) -> None:
        optimiser.zero_grad()
        F.cross_entropy(network(x, rows), labels).backward()
        optimiser.step()

    return step


def steps(name: str) -> dict[str, Callable[[], Any]]:
    """A step without retrieval, with ours and with the peer's search in it."""
    store, queries = embeddings(CLASSES * PER_CLASS, 1), embeddings(STEP_BATCH, 2)
    known = neighbours(queries, store, K, "euclidean").ids
    plain, more = step_of(name, None), step_of(name, STAGES[name])
    return {
        "plain": lambda: plain(None),
        "precomputed": lambda: more(gathered(store, known)),
        "peer": lambda: more(in_forward(queries, store, BLOCKS[name])[1]),
    }


def in_turns(
    ways: Mapping[str, Callable[[], Any]], count: int, repeats: int = 1
) -> dict[str, list[float]]:
    """Seconds of each way in each turn; the first turn makes room and is not counted."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(count + 1):
        for way, work in ways.items():
            found[way].append(turns.seconds(lambda w=work: [w() for _ in range(repeats)]) / repeats)
    return {way: made[1:] for way, made in found.items()}


def growth(work: Callable[[], Any]) -> float:
    """Megabytes by which the greatest resident size grows over one call, in its own process."""

    def measured() -> float:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    return float(turns.in_child(measured, 1))


def memory(ways: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Of a search of the slice, and of ours over a store as large as a whole training set."""
    large, queries = embeddings(LARGE, 1), embeddings(PUBLISHED_BATCH, 2)
    return {
        **{f"{way}_megabytes": growth(work) for way, work in ways.items()},
        f"blocked_megabytes_{PUBLISHED_BATCH}_queries_{LARGE}_rows": growth(
            partial(blocked, queries, large)
        ),
        f"peer_megabytes_{PUBLISHED_BATCH}_queries_{LARGE}_rows_reckoned": (
            PUBLISHED_BATCH * LARGE * WIDTH * 4 / 2**20
        ),
    }


def flat(queries: Tensor, store: Tensor) -> Tensor:
    """Ids that faiss's exact index finds."""
    index = faiss.IndexFlatL2(WIDTH)
    index.add(store.numpy())
    return torch.from_numpy(index.search(queries.numpy(), K)[1])


def beside_faiss(count: int, threads: int) -> dict[str, Any]:
    """Our search and faiss's in turns over a store as large as a whole training set."""
    queries, store = embeddings(FLAT_QUERIES, 2), embeddings(LARGE, 1)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: neighbours(queries, store, K, "euclidean").ids,
        "faiss": partial(flat, queries, store),
    }
    faiss.omp_set_num_threads(threads)
    with threadpool_limits(threads), torch.no_grad():
        equal = float((ways["ours"]() == ways["faiss"]()).double().mean())
        times = in_turns(ways, count)
    ratios = [f / o for f, o in zip(times["faiss"], times["ours"], strict=True)]
    return {
        "what": f"{FLAT_QUERIES} queries in {LARGE} rows of {WIDTH}, k = {K}, Euclidean; faiss "
        f"{faiss.__version__}",
        "seconds": turns.spread(times["ours"]),
        "peer_seconds": turns.spread(times["faiss"]),
        "ratio": turns.spread(ratios),
        "ids_equal": equal,
    }


def main() -> None:
    """Time all in turns and write ``reports/bench/retrieval.json``."""
    options = turns.options(__doc__)
    found, ways = searches(BATCH)
    with torch.no_grad():
        summary: dict[str, Any] = {
            "what": f"search of {BATCH} queries (a slice of {PUBLISHED_BATCH}) in "
            f"{CLASSES * PER_CLASS} rows of {WIDTH}, k = {K}, the peer's in {BLOCKS['resnet18']} "
            f"blocks; a step of {STEP_BATCH} images; {options.threads} threads",
            "memory": memory(ways),
        }
        times = in_turns(ways, options.turns)
    summary["peer_seconds"] = turns.spread(times["peer"])
    for way in found:
        ratios = [p / o for p, o in zip(times["peer"], times[way], strict=True)]
        summary[way] = {
            "seconds": turns.spread(times[way]),
            "ratio": turns.spread(ratios),
            "bar": BAR,
            **found[way],
        }
        print(
            f"search, {way}: ours {turns.said(summary[way]['seconds'], 's')}, peer "
            f"{turns.said(summary['peer_seconds'], 's')}, ratio "
            f"{turns.said(summary[way]['ratio'], 'x')} (bar {BAR}); "
            f"{found[way]['ids_equal']:.4%} of ids equal",
            flush=True,
        )
    summary["faiss"] = one = beside_faiss(options.turns, options.threads)
    print(
        f"search, faiss: ours {turns.said(one['seconds'], 's')}, faiss "
        f"{turns.said(one['peer_seconds'], 's')}, ratio {turns.said(one['ratio'], 'x')}; "
        f"{one['ids_equal']:.4%} of ids equal",
        flush=True,
    )
    for name in BLOCKS:
        made = in_turns(steps(name), options.turns)
        one = {way: turns.spread(taken) for way, taken in made.items()}
        for way in ("precomputed", "peer"):
            ratios = [o / p for o, p in zip(made[way], made["plain"], strict=True)]
            one[f"{way}_over_plain"] = turns.spread(ratios)
        summary[f"step_{name}"] = one
        print(
            f"step, {name}: plain {turns.said(one['plain'], 's')}; precomputed "
            f"{turns.said(one['precomputed_over_plain'], 'x')}, with the peer's search "
            f"{turns.said(one['peer_over_plain'], 'x')} of it",
            flush=True,
        )
    print(turns.write("retrieval", summary))
    found_equal = [one["ids_equal"] for one in (*found.values(), summary["faiss"])]
    if min(found_equal) < EQUAL or not all(one["rows_equal"] for one in found.values()):
        raise SystemExit("retrieval: expected ids and rows of both to agree, they do not")


if __name__ == "__main__":
    main()
