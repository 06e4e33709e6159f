"""HSIC, the sum over pairs of images that CKA is made of, for all pairs of layers at once.

Of centred kernels K and L, with the similarity of every two images: sum_ij K_ij L_ij. Debiased, the
kernels are centred without their diagonal (U-centred), and the sum is n (n-3) HSIC_1, whose
expected value is that of infinitely many images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from carryover.errors import DataError

Kind = Literal["linear", "rbf"]
Layers = Sequence[Float[Tensor, "_ _"]]

ROWS = 64  # of a Gram matrix in a panel: fewer leave out more of its other half, but are slower
SUMMED = 1 << 15  # products added up in float32, then in float64
HELD = 1 << 26  # numbers of all layers' panels held at once (256 MB in float32)
ROUNDING = 16.0  # what is smaller than this many roundings of its parts counts as 0


@dataclass(frozen=True, eq=False)
class Sums:
    """HSIC of every pair of layers and of each layer with itself, up to one factor.

    A layer that does not tell the images apart has exactly 0 everywhere.
    """

    pairs: Float64[Tensor, "la lb"]
    a: Float64[Tensor, " la"]
    b: Float64[Tensor, " lb"]

    def cka(self) -> Float64[Tensor, "la lb"]:
        """The pairs over the roots of the layers' own.

        Raises:
            DataError: a layer's own is 0.
        """
        for name, own in (("first", self.a), ("second", self.b)):
            if not bool((own > 0).all()):
                raise DataError(
                    "CKA: expected layers that tell the images apart, got a constant one (or one "
                    f"image against equal others), number {int((own <= 0).nonzero()[0])} of the "
                    f"{name} encoder; leave it out"
                )
        return (self.pairs / (self.a.sqrt()[:, None] * self.b.sqrt())).clamp(-1, 1)


def hsic_sums(
    layers_a: Layers,
    layers_b: Layers,
    kind: Kind,
    debiased: bool,
    sigma: float = 1.0,
) -> Sums:
    """Sums of products of the centred kernels, as `cka_matrix` takes them.

    Debiased, they are n (n-3) HSIC_1: over the same number of images they add up.

    Raises:
        DataError: as `cka_matrix`, but for a layer that does not tell the images apart.
    """
    together = {id(x): x for x in (*layers_a, *layers_b)}
    place = {key: i for i, key in enumerate(together)}
    a, b = ([place[id(x)] for x in layers] for layers in (layers_a, layers_b))
    layers = list(together.values())
    refuse(layers, 4 if debiased else 2)
    if kind == "rbf":
        flat = torch.stack([kernel(x, kind, debiased, sigma).flatten() for x in layers])
        found = flat @ flat.T
    else:
        centred = [_centred(x) for x in layers]
        squares = torch.stack([torch.linalg.vecdot(x, x).double() for x in centred])
        if _features_are_cheaper(layers, len(a) * len(b) + len(layers)):
            found = _by_features(centred, a, b, debiased)
        else:
            found = _by_images(centred, squares, debiased)
        parts = zip(layers, squares.sum(1), strict=True)
        least = torch.stack([(_rounding(x) * total).square() for x, total in parts])
        found.diagonal()[found.diagonal() <= least] = 0
    own = found.diagonal()
    found[(own == 0)[:, None] | (own == 0)] = 0
    return Sums(found[a][:, b], own[a], own[b])


def refuse(layers: Layers, fewest: int) -> None:
    """Raise where layers are not of the same images or of too few."""
    counts = sorted({len(x) for x in layers})
    if len(counts) != 1:
        raise DataError(
            f"CKA: expected layers of the same images, got {counts or 'no layers'}; give as many "
            "rows for each"
        )
    if counts[0] < fewest:
        raise DataError(
            f"CKA: expected {fewest} images or more, got {counts[0]}; take more, or leave the "
            "smaller last batch out"
        )


def _centred(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Columns less their means, float32 or float64; all 0 where rounding alone is left."""
    x = x.detach()
    x = x if x.dtype == torch.float64 else x.float()
    ones = x.new_ones(1, len(x))
    mean = (ones @ x) / len(x)
    centred = x - mean
    centred -= (ones @ centred) / len(x)  # what rounding left of a mean far from 0
    size = float(centred.norm())
    if not math.isfinite(size):
        raise DataError(
            "CKA: expected finite embeddings, got some that are not; look for images or weights "
            "that are not finite"
        )
    constant = size <= _rounding(x) * float(mean.norm()) * len(x) ** 0.5
    return torch.zeros_like(centred) if constant else centred


def _rounding(x: Float[Tensor, "n d"]) -> float:
    """The share of its parts below which a sum over them counts as 0."""
    return ROUNDING * torch.finfo(torch.float64 if x.dtype == torch.float64 else torch.float32).eps


def _features_are_cheaper(layers: Layers, pairs: int) -> bool:
    """Whether cross-covariances in float64 cost fewer multiplications than Gram matrices."""
    n, widths = len(layers[0]), [x.shape[1] for x in layers]
    of_images = n * sum(widths) / 2 + n * len(layers) ** 2 / 2
    of_features = 2 * pairs * (sum(widths) / len(widths)) ** 2
    return of_features < of_images


def _by_features(
    layers: Sequence[Float[Tensor, "n _"]], a: list[int], b: list[int], debiased: bool
) -> Float64[Tensor, "l l"]:
    """|X'Y|^2 of the pairs asked for; of others 0. Columns are centred.

    Debiased: |X'Y|^2 - n/(n-2) sum_i |x_i|^2 |y_i|^2 + |X|^2 |Y|^2 / ((n-1)(n-2)), which is HSIC_1
    of centred columns, where the rows of XX' add up to 0.
    """
    n, count = len(layers[0]), len(layers)
    wanted = {(i, j) for i in a for j in b} | {(i, i) for i in range(count)}
    found = layers[0].new_zeros(count, count, dtype=torch.float64)
    for i in range(count):
        left = layers[i].double().T
        for j in range(count):
            if (i, j) in wanted:
                found[i, j] = (left @ layers[j].double()).square().sum()
    if debiased:
        squares = torch.stack([x.double().square().sum(1) for x in layers])
        totals = squares.sum(1)
        found -= n / (n - 2) * squares @ squares.T
        found += totals[:, None] * totals / ((n - 1) * (n - 2))
    return found


def _by_images(
    layers: Sequence[Float[Tensor, "n _"]], squares: Float64[Tensor, "l n"], debiased: bool
) -> Float64[Tensor, "l l"]:
    """The same from Gram matrices, of which only the part above the diagonal is made.

    Every panel of rows is made for all layers and multiplied while it is in the cache. With centred
    columns the rows of K = XX' add up to 0, so U-centring needs its diagonal k alone:
    K_ij + (k_i + k_j) / (n-2) - sum k / ((n-1)(n-2)).
    """
    n, count = len(layers[0]), len(layers)
    wide = n <= ROWS or any(x.dtype == torch.float64 for x in layers)  # few images average little
    kept = torch.float64 if wide else torch.float32
    scale = squares.mean(1).sqrt()  # products of four small or large numbers leave float32's range
    scale[scale == 0] = 1
    layers = [x.to(kept) / float(size) for x, size in zip(layers, scale, strict=True)]
    squares = squares / scale[:, None] ** 2
    rows = max(1, min(n, max(ROWS, n // 16), HELD // (n * count)))
    shares = ((squares - squares.sum(1, keepdim=True) / (2 * (n - 1))) / max(n - 2, 1)).to(kept)
    memory = torch.empty(count * rows * n, dtype=kept, device=layers[0].device)
    found = torch.zeros(count, count, dtype=torch.float64, device=layers[0].device)
    for first in range(0, n, rows):
        last = min(first + rows, n)
        panel = memory[: count * (last - first) * (n - first)].view(count, last - first, n - first)
        for i, x in enumerate(layers):
            torch.mm(x[first:last], x[first:].T, out=panel[i])
            if debiased:
                panel[i].add_(shares[i, first:last, None]).add_(shares[i, first:])
        panel[:, :, : last - first].triu_(1)
        for part in panel.flatten(1).split(SUMMED, 1):
            found += 2 * (part @ part.T).double()
    if not debiased:
        found += squares @ squares.T
    return found * (scale[:, None] * scale) ** 2


# --- one kernel in full ------------------------------------------------------------------------


def kernel(
    x: Float[Tensor, "n d"], kind: Kind, debiased: bool, sigma: float = 1.0
) -> Float64[Tensor, "n n"]:
    """The centred matrix of similarities of one layer's images, debiased U-centred.

    Returns:
        All 0 where the layer does not tell the images apart.
    Raises:
        DataError: rbf, and more than half of all pairs of images are at distance 0.
    Source: Szekely and Rizzo 2014, eq. 2.4 (U-centred).
    """
    centred, n = _centred(x).double(), len(x)
    found = centred @ centred.T
    if kind == "rbf":
        found = _rbf(found, sigma)
    least = _rounding(x) * found.trace()
    if debiased:
        found.fill_diagonal_(0)
        rows = found.sum(1) / (n - 2)
        found -= rows[:, None] + rows - rows.sum() / (n - 1)
        found.fill_diagonal_(0)
    else:
        rows = found.mean(1)
        found -= rows[:, None] + rows - rows.mean()
    return torch.zeros_like(found) if bool(found.norm() <= least) else found


def _rbf(gram: Float64[Tensor, "n n"], sigma: float) -> Float64[Tensor, "n n"]:
    squares = gram.diagonal()
    distances = (squares[:, None] + squares - 2 * gram).clamp(min=0)
    if not bool(distances.any()):
        return torch.ones_like(gram)
    above = torch.ones_like(gram, dtype=torch.bool).triu_(1)
    median = distances[above].median()  # of squares; the root keeps the order
    if not (float(median) > 0 and sigma > 0):
        raise DataError(
            f"RBF CKA: expected a median distance and a sigma above 0, got {float(median) ** 0.5} "
            f"and {sigma}; take the linear kernel where most images are equal"
        )
    return (distances / (-2 * sigma**2 * median)).exp()
