from __future__ import annotations

import pytest
import torch

from carryover.errors import DataError
from carryover.measure.tsne import tsne


def blobs() -> torch.Tensor:
    noise = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    return noise + 30 * (torch.arange(40) % 2)[:, None]


def test_groups_that_lie_apart_stay_apart_on_the_map() -> None:
    points = tsne(blobs(), 42)
    assert points.shape == (40, 2)
    distances = torch.cdist(points, points) + 1e9 * torch.eye(40)
    nearest = distances.argmin(1)
    assert torch.equal(nearest % 2, torch.arange(40) % 2)


def test_a_map_is_the_same_each_time() -> None:
    first = tsne(blobs(), 42)
    assert torch.equal(first, tsne(blobs(), 42))
    assert first.isfinite().all()


def test_five_images_are_the_fewest() -> None:
    assert tsne(blobs()[:5], 42).shape == (5, 2)
    with pytest.raises(DataError, match="at least 5 images with 2 features, got 4 with 6; map"):
        tsne(blobs()[:4], 42)
    with pytest.raises(DataError, match="got 40 with 1"):
        tsne(blobs()[:, :1], 42)
