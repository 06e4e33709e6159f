"""CKA over batches of images, and bands of CKA by resampling images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float64
from torch import Tensor

from carryover.errors import DataError
from carryover.measure.hsic import Kind, Layers, Sums, hsic_sums, kernel, refuse
from carryover.measure.statistics import Interval


def minibatch_cka(
    batches: Iterable[tuple[Layers, Layers]], kind: Kind = "linear", sigma: float = 1.0
) -> Float64[Tensor, "la lb"]:
    """Debiased CKA of every pair of layers from batches, of which one is held at a time.

    mean HSIC_1(K, L) / sqrt(mean HSIC_1(K, K) mean HSIC_1(L, L)), means over the batches. With one
    batch that is `cka_matrix` debiased; the expected value of each mean is the same for any batch
    size.

    Args:
        batches: layers of one encoder and of the other, of the same images; 4 images or more in
            each batch. Batches count the same, whatever their size.
        sigma: share of the median distance within each batch.
    Raises:
        DataError: no batch, another number of layers in one, fewer than 4 images, a value that is
            not finite, or a layer that does not tell the images apart in any batch.
    Source: Nguyen et al. 2021, eq. 2 and 3; Song et al. 2012, eq. 5 (HSIC_1).
    """
    total: Sums | None = None
    for layers_a, layers_b in batches:
        found = hsic_sums(layers_a, layers_b, kind, True, sigma)
        n = len(layers_a[0])
        parts = [x / (n * (n - 3)) for x in (found.pairs, found.a, found.b)]
        if total is not None:
            if total.pairs.shape != found.pairs.shape:
                raise DataError(
                    "CKA: expected as many layers in every batch, got "
                    f"{tuple(total.pairs.shape)} and {tuple(found.pairs.shape)}; keep the order"
                )
            parts = [x + y for x, y in zip((total.pairs, total.a, total.b), parts, strict=True)]
        total = Sums(*parts)
    if total is None:
        raise DataError("CKA: expected at least one batch of images, got none; give some")
    return total.cka()


def cka_bands(
    layers_a: Layers,
    layers_b: Layers,
    kind: Kind,
    debiased: bool,
    *,
    draws: int,
    generator: torch.Generator,
    level: float = 0.95,
    sigma: float = 1.0,
) -> list[Interval]:
    """CKA of each layer with its counterpart, and a bootstrap band over images.

    With w_i how often image i is drawn, HSIC becomes
    sum_(i != j) w_i w_j K_ij L_ij + sum_i w_i K_ii L_ii, the kernels centred once on all images.
    An image drawn twice is not compared with itself as if it were two images that are alike, which
    would raise every drawn CKA above the value. To first order that is the bootstrap with centring
    again.

    Args:
        layers_a, layers_b: the i-th of one with the i-th of the other.
        draws: resamples of the images; 1,000 do for a 95 % band. All layers see the same ones.
        generator: moved on by the draws.
    Returns:
        Percentiles of the drawn CKA, widened to the value where it lies outside.
    Raises:
        DataError: as `cka_matrix`, different numbers of layers, no draws, or a level not in 0..1.
    Source: Efron and Tibshirani 1993, section 13.3.
    """
    if len(layers_a) != len(layers_b):
        raise DataError(
            f"CKA bands: expected as many layers in both, got {len(layers_a)} and {len(layers_b)}; "
            "give pairs"
        )
    if draws < 1 or not 0 < level < 1:
        raise DataError(
            f"CKA bands: expected 1 draw or more and a level between 0 and 1, got {draws} and "
            f"{level}; 1000 draws do for 0.95"
        )
    refuse([*layers_a, *layers_b], 4 if debiased else 2)
    n, device = len(layers_a[0]), layers_a[0].device
    drawn = torch.randint(n, (draws, n), generator=generator)
    weights = torch.zeros(draws, n, dtype=torch.float64)
    weights = weights.scatter_add_(1, drawn, torch.ones_like(weights)).to(device)
    weights = torch.cat([torch.ones_like(weights[:1]), weights])  # the first is the value itself
    bounds = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64, device=device)
    bands = []
    for place, (a, b) in enumerate(zip(layers_a, layers_b, strict=True)):
        left, right = (kernel(x, kind, debiased, sigma) for x in (a, b))
        products = (left * right, left.square(), right.square())
        pair, own_a, own_b = (_weighted(x, weights) for x in products)
        if not (float(own_a[0]) > 0 and float(own_b[0]) > 0):
            raise DataError(
                f"CKA bands: expected layers that tell the images apart, got a constant one in "
                f"pair {place}; leave it out"
            )
        told = (own_a > 0) & (own_b > 0)  # a draw of few images may hold only equal ones
        found = (pair[told] / (own_a[told] * own_b[told]).sqrt()).clamp(-1, 1)
        low, high = torch.quantile(found[1:] if len(found) > 1 else found, bounds).tolist()
        value = float(found[0])
        bands.append(Interval(value, min(low, value), max(high, value)))
    return bands


def _weighted(
    products: Float64[Tensor, "n n"], weights: Float64[Tensor, "draws n"]
) -> Float64[Tensor, " draws"]:
    once = products.diagonal().clone()
    twice = products - torch.diag(once)
    return ((weights @ twice) * weights).sum(1) + weights @ once
