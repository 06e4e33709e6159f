"""Whether images that lie together in feature space have the same label.

Every score is a function of the contingency table: images by label and cluster. The published
study's three faults are parameters, all off where they are False.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from carryover.errors import DataError

Table = Int64[Tensor, "c k"]


def contingency(labels: Int64[Tensor, " n"], clusters: Int64[Tensor, " n"]) -> Table:
    """Images by label (rows) and cluster (columns), both in ascending order of their ids."""
    found, row = labels.unique(return_inverse=True)
    groups, column = clusters.unique(return_inverse=True)
    counts = torch.bincount(row * len(groups) + column, minlength=len(found) * len(groups))
    return counts.view(len(found), len(groups))


def adjusted_rand(table: Table) -> float:
    """Agreement of clusters with labels over pairs of images, less what chance gives.

    (s - e) / ((a + b) / 2 - e), s the pairs together in both, a those of one label, b those of
    one cluster, e = a b / all pairs.

    Returns:
        At most 1 (the same division), 0 on average for clusters drawn at random, and as low as
        -0.5; 1 where both put all images together or each image alone.
    Source: Hubert and Arabie 1985, eq. 5; equals ``sklearn.metrics.adjusted_rand_score``.
    """
    together, one_label, one_cluster = _pairs(table)
    images = int(table.sum())
    expected = one_label * one_cluster / max(images * (images - 1) // 2, 1)
    best = (one_label + one_cluster) / 2
    return 1.0 if best == expected else (together - expected) / (best - expected)


def _pairs(table: Table) -> tuple[int, int, int]:
    """Pairs of different images: of one label and cluster, of one label, of one cluster."""

    def within(counts: Tensor) -> int:
        return int((counts * (counts - 1)).sum()) // 2

    return within(table), within(table.sum(1)), within(table.sum(0))


def pair_scores(table: Table, count_diagonal: bool) -> tuple[float, float]:
    """Precision and recall of "in one cluster" as a guess at "of one label", over pairs.

    Args:
        count_diagonal: as published: half of the images, rounded down, count as further pairs
            that were rightly put together, because each image was paired with itself.
    Returns:
        Precision and recall in 0..1.
    Raises:
        DataError: no two images share a label, or none a cluster.
    """
    together, one_label, one_cluster = _pairs(table)
    if not one_label or not one_cluster:
        raise DataError(
            f"pair precision and recall: expected two images of one label and two in one cluster, "
            f"got {int(table.sum())} images in {len(table)} labels and {table.shape[1]} clusters; "
            "use more images a label"
        )
    extra = int(table.sum()) // 2 if count_diagonal else 0
    return (
        (together + extra) / (one_cluster + extra),
        (together + extra) / (one_label + extra),
    )


def cluster_accuracy(table: Table, inverse_assignment: bool) -> float:
    """Share of images whose cluster stands for their label, each cluster for another label.

    Args:
        inverse_assignment: as published: the best assignment gives the cluster of each label, and
            is read as the label of each cluster. Right only where it is its own inverse.
    Returns:
        0..1; 1 / labels or more for the best assignment.
    Raises:
        DataError: not as many clusters as labels.
    Source: Kuhn 1955 (the assignment), as in ``scipy.optimize.linear_sum_assignment``.
    """
    if table.shape[0] != table.shape[1]:
        raise DataError(
            f"cluster accuracy: expected as many clusters as labels, got {table.shape[1]} clusters "
            f"and {table.shape[0]} labels; ask for that many"
        )
    from scipy.optimize import linear_sum_assignment

    labels, clusters = linear_sum_assignment(table.numpy(), maximize=True)
    if inverse_assignment:
        labels, clusters = clusters, labels
    return int(table[labels, clusters].sum()) / int(table.sum())


# --- clusterings -------------------------------------------------------------------------------


def not_zero(features: Float[Tensor, "n d"]) -> Bool[Tensor, " n"]:
    """Which images have a direction: those whose features are not all 0."""
    return (features != 0).any(1)


def agglomerative(features: Float[Tensor, "n d"], clusters: int) -> Int64[Tensor, " n"]:
    """The cluster of every image: the closest two clusters are joined until `clusters` are left.

    Distance of images: 1 - cosine; of clusters: mean over pairs of their images. Time and memory
    grow with n^2 (26,000 images: 6 GB).

    Args:
        features: no row all zero, n >= 2.
    Raises:
        DataError: fewer than two images, fewer than clusters, or a row that is all zero.
    Source: ``sklearn.cluster.AgglomerativeClustering`` (cosine, average).
    """
    if len(features) < max(clusters, 2) or not bool(not_zero(features).all()):
        raise DataError(
            f"clustering: expected at least {max(clusters, 2)} images with features that are not "
            f"all 0, got {int(not_zero(features).sum())} such among {len(features)}; use more "
            "images"
        )
    from sklearn.cluster import AgglomerativeClustering

    fit = AgglomerativeClustering(n_clusters=clusters, metric="cosine", linkage="average")
    return torch.from_numpy(fit.fit_predict(features.double().numpy())).long()


# --- channels ----------------------------------------------------------------------------------


def over_channels(
    scores: Float[Tensor, " channels"], channel_in_scores: bool
) -> tuple[float, float]:
    """The best and the mean score of a layer's channels.

    Args:
        channel_in_scores: as published: both numbers taken over the pairs (channel id, score in
            per cent), so that the id of the last channel is the least "best" there is and the
            "mean" of a single channel 0 is half of its score. Given as a fraction here too.
    """
    if channel_in_scores:
        scores = torch.cat([torch.arange(len(scores)).to(scores) / 100, scores])
    return float(scores.max()), float(scores.mean())
