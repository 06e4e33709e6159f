"""A map of images in the plane: near in feature space, near on the map."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from carryover.errors import DataError

NEIGHBOURS = 30  # perplexity, scikit-learn's default


def tsne(features: Float[Tensor, "n d"], seed: int) -> Float[Tensor, "n 2"]:
    """t-SNE of one image a row, begun at the first two principal components.

    Neighbourhoods of about 30 images, or a third of them where there are fewer. Distances between
    far groups on the map mean nothing.

    Args:
        seed: scikit-learn's ``random_state``.
    Raises:
        DataError: fewer than five images, or fewer than two features.
    Source: van der Maaten and Hinton 2008, as in ``sklearn.manifold.TSNE``.
    """
    n, d = features.shape
    if n < 5 or d < 2:
        raise DataError(
            f"t-SNE: expected at least 5 images with 2 features, got {n} with {d}; map more images"
        )
    from sklearn.manifold import TSNE

    fit = TSNE(
        n_components=2, perplexity=min(NEIGHBOURS, (n - 1) / 3), init="pca", random_state=seed
    )
    return torch.from_numpy(fit.fit_transform(features.numpy()))
