"""CKA of 13 x 13 layers, 512 images, width 768, against one pair of layers after another.

The peer does what torch_cka does for one batch: for every pair of layers it makes the Gram matrix
of the second again, takes HSIC_1 of the pair and of the second with itself from the trace of a
product of two matrices, and that of the first once a row. It has the features already, as ours
has. Layers are made here as a residual stream: each adds noise to the one before; the second
encoder is the first one after further noise. Timed are one encoder with itself (13 layers in all)
and two encoders (26). Both results are compared with the definition in float64.

    make bench
    python benchmarks/cka.py --turns 5
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

import turns
from carryover.measure.similarity import cka_matrix

LAYERS, IMAGES, WIDTH, DIRECTIONS, SEED = 13, 512, 768, 40, 0
MEAN = 1.0  # of a feature, in its standard deviations
EQUAL = 1e-5  # greatest difference from float64 that passes


def encoders() -> tuple[list[Tensor], list[Tensor]]:
    """Layers of an encoder before and after training."""
    generator = torch.Generator().manual_seed(SEED)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    stream = noise(IMAGES, DIRECTIONS) @ noise(DIRECTIONS, WIDTH) / DIRECTIONS**0.5
    stream = stream + MEAN * noise(WIDTH)
    before, after = [], []
    for depth in range(LAYERS):
        stream = stream + 0.5 * noise(IMAGES, DIRECTIONS) @ noise(DIRECTIONS, WIDTH) / 6
        before.append(stream.clone())
        after.append(stream + 0.1 * depth * noise(IMAGES, WIDTH))
    return before, after


def unbiased(k: Tensor, other: Tensor) -> float:
    """HSIC_1 of two Gram matrices without their diagonals, by its formula."""
    n = len(k)
    ones = torch.ones(n, 1, dtype=k.dtype)
    found = torch.trace(k @ other)
    found = found + (ones.T @ k @ ones @ ones.T @ other @ ones).item() / ((n - 1) * (n - 2))
    found = found - (ones.T @ k @ other @ ones).item() * 2 / (n - 2)
    return found.item() / (n * (n - 3))


def gram(x: Tensor) -> Tensor:
    return (x @ x.T).fill_diagonal_(0)


def peer(layers_a: list[Tensor], layers_b: list[Tensor]) -> Tensor:
    """CKA pair by pair."""
    found = torch.zeros(len(layers_a), len(layers_b))
    for i, a in enumerate(layers_a):
        k = gram(a)
        own = unbiased(k, k)
        for j, b in enumerate(layers_b):
            other = gram(b)
            found[i, j] = unbiased(k, other) / (own * unbiased(other, other)) ** 0.5
    return found


def main() -> None:
    """Time both in turns and write ``reports/bench/cka.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="", help="not used: the layers are made here")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    before, after = encoders()
    summary: dict[str, Any] = {
        "what": f"{LAYERS} x {LAYERS} layers, {IMAGES} images, width {WIDTH}, linear, debiased; "
        f"{options.threads} threads",
    }
    wrong = 0.0
    for way, pair in (("one_encoder", (before, before)), ("two_encoders", (before, after))):
        exact = peer(*([x.double() - x.double().mean(0) for x in layers] for layers in pair))
        mine, theirs = [], []
        for turn in range(-1, options.turns):
            few = 1 if turn < 0 else LAYERS  # first calls load libraries
            cut = (pair[0][:few], pair[1][:few])
            found: list[Tensor] = []
            ours = turns.seconds(
                lambda found=found, cut=cut: found.append(
                    cka_matrix(cut[0], cut[1], "linear", True)
                )
            )
            peers = turns.seconds(lambda found=found, cut=cut: found.append(peer(*cut)))
            if turn >= 0:
                mine.append(ours)
                theirs.append(peers)
                print(f"{way}: turn {turn + 1} of {options.turns}", flush=True)
        differences = [float((x - exact).abs().max()) for x in found]
        wrong = max(wrong, differences[0])
        summary[way] = {
            "seconds": turns.spread(mine),
            "peer_seconds": turns.spread(theirs),
            "ratio": turns.spread([p / o for p, o in zip(theirs, mine, strict=True)]),
            "difference_from_float64": differences[0],
            "peer_difference_from_float64": differences[1],
        }
    path = turns.write("cka", summary)
    for way in ("one_encoder", "two_encoders"):
        one = summary[way]
        print(
            f"cka, {way}: ours {turns.said(one['seconds'], 's')}, peer "
            f"{turns.said(one['peer_seconds'], 's')}, ratio {turns.said(one['ratio'], 'x')}; "
            f"off by {one['difference_from_float64']:.2g}, the peer by "
            f"{one['peer_difference_from_float64']:.2g}"
        )
    print(path)
    if wrong > EQUAL:
        raise SystemExit("cka: expected the values of float64, got others")


if __name__ == "__main__":
    main()
