"""How alike two encoders see the same images: centred kernel alignment (CKA).

All functions take embeddings with one image a row, the same images in the same order on both
sides. CKA(K, L) = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), where K and L hold the similarity of
every two images. Two estimators of HSIC:

- biased: of centred matrices, sum_ij K_ij L_ij. It grows with the width of the embeddings for few
  images, also where nothing is alike.
- debiased: the same sum over matrices centred without their diagonal (U-centred), which is n (n-3)
  times the unbiased HSIC_1. It is near 0 for independent embeddings and can be negative.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from carryover.errors import DataError
from carryover.measure.hsic import Kind, Layers, Sums, hsic_sums


def linear_cka(
    a: Float[Tensor, "n d1"], b: Float[Tensor, "n d2"], debiased: bool = False
) -> Float64[Tensor, ""]:
    """Similarity of two encoders' embeddings of the same images.

    |A'B|^2 / (|A'A| |B'B|), Frobenius norms, columns centred first.

    Args:
        a, b: any widths and scales; n >= 2, debiased n >= 4.
    Returns:
        0..1, debiased -1..1; 1 where b is a rotated and scaled a.
    Raises:
        DataError: as `cka_matrix`.
    Source: Kornblith et al. 2019, Table 1 (linear CKA); Song et al. 2012, eq. 5 (debiased).
    """
    return cka_matrix([a], [b], "linear", debiased)[0, 0]


def rbf_cka(
    a: Float[Tensor, "n d1"], b: Float[Tensor, "n d2"], sigma: float, debiased: bool = False
) -> Float64[Tensor, ""]:
    """As `linear_cka` with the similarity exp(-|x - y|^2 / (2 s^2)) of two images.

    Args:
        sigma: s as a share of the median distance between two different images, so that the scale
            of the embeddings has no effect. 0.2, 0.4 and 0.8 in the source.
    Raises:
        DataError: as `cka_matrix`.
    Source: Kornblith et al. 2019, section 3 (RBF CKA).
    """
    return cka_matrix([a], [b], "rbf", debiased, sigma)[0, 0]


def cka_matrix(
    layers_a: Layers,
    layers_b: Layers,
    kind: Kind,
    debiased: bool,
    sigma: float = 1.0,
) -> Float64[Tensor, "la lb"]:
    """CKA of every layer of one encoder with every layer of another.

    The linear kernel's sums come from Gram matrices in panels, each layer's once, or from
    cross-covariances in float64 where there are many more images than features. Within 1e-5 of the
    same in float64. The RBF kernel holds 8 n^2 bytes a layer.

    Args:
        layers_a, layers_b: one tensor a layer, same rows; a tensor in both is looked at once.
        sigma: see `rbf_cka`; the linear kernel has none.
    Raises:
        DataError: layers with different numbers of images or too few of them, a value that is not
            finite, or a layer that does not tell the images apart, for which CKA has no value.
    """
    return hsic_sums(layers_a, layers_b, kind, debiased, sigma).cka()


def cka_of_told(
    layers_a: Layers, layers_b: Layers, kind: Kind, debiased: bool, sigma: float = 1.0
) -> Float64[Tensor, "la lb"]:
    """As `cka_matrix`, but not a number where a layer does not tell the images apart."""
    found = hsic_sums(layers_a, layers_b, kind, debiased, sigma)
    a, b = found.a > 0, found.b > 0
    made = torch.full_like(found.pairs, math.nan)
    made[a[:, None] & b] = Sums(found.pairs[a][:, b], found.a[a], found.b[b]).cka().flatten()
    return made


def published_cka(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float64[Tensor, ""]:
    """The score that the original study printed as CKA. It is not CKA.

    |A*B| / (|A*A| |B*B|), products element by element, Frobenius norms, nothing centred. For equal
    inputs it is 1 / |A*A|: the scale of the embeddings, not their likeness.

    Raises:
        DataError: an input is all 0 or not finite.
    """
    a, b = a.detach().double(), b.detach().double()
    norms = (a * a).norm() * (b * b).norm()
    if not 0 < float(norms) < float("inf"):
        raise DataError(
            "published_cka: expected finite embeddings that are not all 0, got others; look for "
            "images or weights that are not finite"
        )
    return (a * b).norm() / norms
