from __future__ import annotations

import math

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from carryover.errors import DataError
from carryover.measure import kmeans as measure
from carryover.solve import kmeans as module
from carryover.solve.kmeans import kmeans_each
from test_logistic import SETS, real


def channels(count: int, n: int, d: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    middles = 2 * torch.randn(count, 4, d, generator=generator)
    return middles[:, torch.arange(n) % 4] + torch.randn(count, n, d, generator=generator)


def problems() -> list[Tensor]:
    """Three shapes, one of them twice and one with more features than images."""
    shapes = ((3, 30, 5), (2, 20, 60), (4, 30, 5), (2, 12, 7))
    return [channels(*shape, seed) for seed, shape in enumerate(shapes)]


@pytest.mark.parametrize("at_once", [1, 1 << 18])
def test_every_channel_of_every_problem_is_clustered_as_by_scikit_learn(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    found = kmeans_each(problems(), 4, 10, 42)
    assert [tuple(labels.shape) for labels in found] == [(3, 30), (2, 20), (4, 30), (2, 12)]
    for features, labels in zip(problems(), found, strict=True):
        for channel, clusters in zip(features, labels, strict=True):
            fit = KMeans(4, n_init=10, random_state=42).fit(channel.numpy())
            assert adjusted_rand_score(fit.labels_, clusters) == 1


def inertia(x: Tensor, labels: Tensor) -> float:
    """Sum of squared distances of rows to the mean of their cluster."""
    parts = [x[labels == cluster] for cluster in labels.unique()]
    return math.fsum(float((part - part.mean(0)).square().sum()) for part in parts)


@pytest.mark.parametrize("name", list(SETS))
@pytest.mark.parametrize("restarts", [1, 10])
def test_clusters_are_scikit_learns_on_real_sets(
    name: str, restarts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the same initial centres, of one start and as the best of ten."""
    monkeypatch.setattr(measure, "TOGETHER", 10_000)  # above it scikit-learn itself is called
    x, y = real(name, torch.float64)
    clusters = int(y.max()) + 1
    (found,) = kmeans_each([x[None]], clusters, restarts, 42)
    fit = KMeans(clusters, n_init=restarts, random_state=42).fit(x.numpy())
    assert inertia(x, found[0]) == pytest.approx(fit.inertia_, rel=0.001)
    assert adjusted_rand_score(fit.labels_, found[0]) >= 0.999


def test_problems_together_are_those_of_each_alone() -> None:
    together = kmeans_each(problems(), 3, 4, 0)
    for features, labels in zip(problems(), together, strict=True):
        assert torch.equal(kmeans_each([features], 3, 4, 0)[0], labels)


def test_no_problems_give_no_clusters() -> None:
    assert kmeans_each([], 3, 4, 0) == []


def test_what_cannot_be_clustered_is_refused() -> None:
    with pytest.raises(DataError, match="of one device and type, got several"):
        kmeans_each([channels(1, 9, 2, 0), channels(1, 9, 2, 0).double()], 3, 4, 0)
    with pytest.raises(DataError, match="of at least 10 images, one a cluster, got 9 images"):
        kmeans_each([channels(1, 9, 2, 0)], 10, 4, 0)


@pytest.mark.parametrize(
    ("clusters", "restarts", "said"),
    [(0, 10, "got 0 and 10"), (4, 0, "got 4 and 0"), (31, 10, "of at least 31 images")],
)
def test_no_clusters_or_restarts_are_refused(clusters: int, restarts: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        kmeans_each([channels(2, 30, 5, 0)], clusters, restarts, 0)
    with pytest.raises(DataError, match=said):
        measure.kmeans(channels(2, 30, 5, 0), clusters, restarts, 0)


def test_half_precision_is_refused() -> None:
    with pytest.raises(DataError, match=r"features of float32 or float64, got torch\.float16"):
        kmeans_each([channels(2, 30, 5, 0).half()], 4, 10, 0)
