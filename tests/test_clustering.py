from __future__ import annotations

import json
import math
from itertools import combinations

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from carryover.errors import DataError
from carryover.measure import kmeans as module
from carryover.measure.clustering import (
    adjusted_rand,
    agglomerative,
    cluster_accuracy,
    contingency,
    not_zero,
    over_channels,
    pair_scores,
)
from carryover.measure.kmeans import kmeans, principal
from conftest import REPOSITORY

RELEASED = REPOSITORY.parent / (
    "shared/reference/published/mp-tl-study/final/FashionMNIST/regular_classes_cluster.json"
)

# 6 images: labels 0 0 0 1 1 1, clusters 0 0 1 1 1 1
HAND = torch.tensor([[2, 1], [0, 3]])


def drawn(seed: int, n: int, clusters: int) -> Tensor:
    return torch.randint(clusters, (n,), generator=torch.Generator().manual_seed(seed))


def blobs(channels: int, n: int, d: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of four labels around one centre a label in every channel."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    centres = torch.randn(channels, 4, d, generator=random, dtype=torch.float64)
    noise = torch.randn(channels, n, d, generator=random, dtype=torch.float64)
    return centres[:, labels] + spread * noise, labels


# --- scores ------------------------------------------------------------------------------------


def test_a_contingency_table_by_hand() -> None:
    labels, clusters = torch.tensor([3, 3, 3, 7, 7, 7]), torch.tensor([5, 5, 9, 9, 9, 9])
    assert torch.equal(contingency(labels, clusters), HAND)


def test_adjusted_rand_by_hand() -> None:
    # pairs: 1 + 0 + 0 + 3 = 4 together, 6 of one label, 1 + 6 = 7 of one cluster, 15 in all
    expected = 6 * 7 / 15
    assert adjusted_rand(HAND) == pytest.approx((4 - expected) / (6.5 - expected))


@pytest.mark.parametrize("seed", range(20))
def test_adjusted_rand_is_scikit_learns(seed: int) -> None:
    labels, clusters = drawn(seed, 30, 4), drawn(seed + 100, 30, 1 + seed % 5)
    expected = adjusted_rand_score(labels, clusters)
    assert adjusted_rand(contingency(labels, clusters)) == pytest.approx(expected, abs=1e-12)


def test_no_score_depends_on_the_names_of_labels_and_clusters() -> None:
    labels, clusters = drawn(1, 40, 4), drawn(2, 40, 4)
    names = torch.tensor([7, 0, 9, 3])
    before = contingency(labels, clusters)
    after = contingency(names[labels], names.flip(0)[clusters])
    assert not torch.equal(before, after)
    assert adjusted_rand(after) == adjusted_rand(before)
    assert pair_scores(after, False) == pair_scores(before, False)
    assert cluster_accuracy(after, False) == cluster_accuracy(before, False)


def test_equal_divisions_score_one_and_random_ones_about_zero() -> None:
    labels = drawn(3, 200, 5)
    equal = contingency(labels, (labels + 2) % 5)
    assert adjusted_rand(equal) == 1
    assert pair_scores(equal, False) == (1, 1)
    assert cluster_accuracy(equal, False) == 1
    chance = [adjusted_rand(contingency(labels, drawn(seed, 200, 5))) for seed in range(9, 209)]
    assert abs(sum(chance) / len(chance)) < 0.002
    assert min(chance) < 0


def test_one_cluster_of_one_label_scores_one() -> None:
    assert adjusted_rand(torch.tensor([[5]])) == 1
    assert adjusted_rand(torch.tensor([[1]])) == 1
    assert adjusted_rand(torch.eye(4, dtype=torch.int64)) == 1


def test_pair_scores_by_hand_and_by_counting_pairs() -> None:
    assert pair_scores(HAND, False) == pytest.approx((4 / 7, 4 / 6))
    labels, clusters = drawn(4, 25, 3).tolist(), drawn(5, 25, 4).tolist()
    pairs = list(combinations(range(25), 2))
    same = {(i, j) for i, j in pairs if labels[i] == labels[j]}
    put = {(i, j) for i, j in pairs if clusters[i] == clusters[j]}
    found = pair_scores(contingency(torch.tensor(labels), torch.tensor(clusters)), False)
    assert found == (len(same & put) / len(put), len(same & put) / len(same))


def test_counting_each_image_with_itself_turns_30_true_pairs_into_37() -> None:
    alike = torch.tensor([[5, 0, 0], [0, 5, 0], [0, 0, 5]])
    assert pair_scores(alike, False) == pair_scores(alike, True) == (1, 1)
    one_off = torch.tensor([[4, 1, 0], [0, 5, 0], [0, 0, 5]])  # 26 pairs, of 30 and 6 + 15 + 10
    assert pair_scores(one_off, False) == (26 / 31, 26 / 30)
    assert pair_scores(one_off, True) == (33 / 38, 33 / 37)


def test_pairs_that_do_not_exist_have_no_score() -> None:
    with pytest.raises(DataError, match="got 3 images in 3 labels and 3 clusters; use more images"):
        pair_scores(torch.eye(3, dtype=torch.int64), False)


def test_cluster_accuracy_by_hand_and_over_all_assignments() -> None:
    assert cluster_accuracy(HAND, False) == 5 / 6
    table = contingency(drawn(6, 50, 3), drawn(7, 50, 3))
    ways = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    best = max(sum(int(table[label, way[label]]) for label in range(3)) for way in ways)
    assert cluster_accuracy(table, False) == best / 50


def test_the_assignment_read_backwards_is_wrong_unless_it_is_its_own_inverse() -> None:
    swapped = torch.tensor([[0, 4, 0], [4, 0, 0], [0, 0, 4]])
    turned = torch.tensor([[0, 4, 0], [0, 0, 4], [4, 0, 0]])  # label 0 to cluster 1 to 2 to 0
    assert cluster_accuracy(swapped, False) == cluster_accuracy(swapped, True) == 1
    assert cluster_accuracy(turned, False) == 1
    assert cluster_accuracy(turned, True) == 0


def test_an_assignment_needs_as_many_clusters_as_labels() -> None:
    with pytest.raises(DataError, match="as many clusters as labels, got 3 clusters and 2 labels"):
        cluster_accuracy(torch.tensor([[1, 2, 3], [4, 5, 6]]), False)


def test_the_best_and_mean_channel_and_the_published_fault() -> None:
    scores = torch.tensor([0.25, 0.75, 0.5])
    assert over_channels(scores, False) == (0.75, 0.5)
    best, mean = over_channels(scores, True)
    assert (best, mean) == pytest.approx((0.75, (0 + 1 + 2 + 25 + 75 + 50) / 600))
    best, mean = over_channels(torch.tensor([0.4]), True)  # the input is one channel, its id 0
    assert mean == best / 2 == pytest.approx(0.2)
    least, _ = over_channels(torch.zeros(30), True)
    assert least == pytest.approx(0.29)  # the id of the last channel


@pytest.mark.shared
def test_the_faulty_recall_and_precision_are_those_released() -> None:
    """At 0.1 % 15 images were clustered; both scores then give the released ARI back."""
    if not RELEASED.exists():
        pytest.skip(f"{RELEASED} is absent")
    rows = [row for row in json.loads(RELEASED.read_text()) if row["Percentage"] == 0.001]
    assert len(rows) == 150
    for row in rows:
        together = round(row["Recall"] * 37) - 7
        assert row["Recall"] == pytest.approx((together + 7) / 37)
        one_cluster = round((together + 7) / row["Precision"]) - 7
        expected = 30 * one_cluster / 105
        ari = (together - expected) / ((30 + one_cluster) / 2 - expected)
        assert row["ARI"] == pytest.approx(ari, abs=1e-9)


# --- clusterings -------------------------------------------------------------------------------


def test_agglomerative_finds_what_is_separable_by_angle() -> None:
    angles = torch.tensor([0.0, 1.5, 3.0]).repeat_interleave(6) + 0.02 * torch.arange(18)
    lengths = 1 + torch.arange(18) % 5  # the distance is an angle, lengths say nothing
    features = lengths[:, None] * torch.stack([angles.cos(), angles.sin()], 1)
    labels = torch.arange(3).repeat_interleave(6)
    assert adjusted_rand(contingency(labels, agglomerative(features, 3))) == 1


def test_agglomerative_joins_by_the_mean_distance() -> None:
    """Against the plain rule: join the two clusters with the least mean of 1 - cosine."""
    features = torch.randn(14, 3, generator=torch.Generator().manual_seed(8))
    unit = features.double() / features.double().norm(dim=1, keepdim=True)
    distances = 1 - unit @ unit.T
    groups = [[i] for i in range(14)]
    while len(groups) > 4:
        a, b = min(
            combinations(range(len(groups)), 2),
            key=lambda p: float(distances[groups[p[0]]][:, groups[p[1]]].mean()),
        )
        groups[a] += groups.pop(b)
    expected = torch.tensor(
        [next(g for g, rows in enumerate(groups) if i in rows) for i in range(14)]
    )
    assert adjusted_rand(contingency(expected, agglomerative(features, 4))) == 1


def test_images_without_a_direction_are_refused() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, -1.0]])
    assert not_zero(features).tolist() == [True, False, True]
    with pytest.raises(DataError, match=r"expected at least 2 images .* got 2 such among 3"):
        agglomerative(features, 2)
    with pytest.raises(DataError, match=r"expected at least 3 images .* got 2 such among 2"):
        agglomerative(features[[0, 2]], 3)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(("n", "d"), [(8, 30), (40, 12), (120, 3)])
def test_kmeans_is_scikit_learns_in_every_channel(n: int, d: int, spread: float) -> None:
    features, _ = blobs(5, n, d, spread)
    found = kmeans(features, 4, 10, 42)
    for channel in range(5):
        fit = KMeans(4, n_init=10, random_state=42).fit(features[channel].numpy())
        assert adjusted_rand_score(fit.labels_, found[channel]) == 1


def test_kmeans_keeps_its_clusters_where_images_repeat() -> None:
    """Starts then coincide and clusters lose all their images on the way."""
    few = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 5.0], dtype=torch.float64)
    features = few[None, :, None]
    fit = KMeans(3, n_init=10, random_state=42).fit(features[0].numpy())
    assert adjusted_rand_score(fit.labels_, kmeans(features, 3, 10, 42)[0]) == 1


def test_an_empty_cluster_takes_the_furthest_image() -> None:
    x = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    labels, centres = torch.tensor([0, 0, 0, 0]), torch.tensor([[1.0], [50.0]])
    moved = module._means(x[None], labels[None, None], centres[None, None])
    assert moved.flatten().tolist() == [1.0, 9.0]


def test_many_images_and_few_images_take_one_way_each_to_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, labels = blobs(3, 60, 5, 0.5)
    together = kmeans(features, 4, 3, 1)
    monkeypatch.setattr(module, "TOGETHER", 10)
    alone = kmeans(features, 4, 3, 1)
    for channel in range(3):
        assert adjusted_rand_score(alone[channel], together[channel]) == 1
    assert adjusted_rand(contingency(labels, together[0])) > 0.5


def test_kmeans_stops_after_its_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    features, _ = blobs(2, 50, 4, 3.0)
    monkeypatch.setattr(module, "STEPS", 2)
    found = kmeans(features, 4, 3, 7)
    for channel in range(2):
        data = features[channel].numpy()
        fit = KMeans(4, n_init=3, max_iter=2, random_state=7).fit(data)
        assert adjusted_rand_score(fit.labels_, found[channel]) == 1


def test_kmeans_needs_an_image_a_cluster() -> None:
    features, _ = blobs(1, 4, 2, 1.0)
    with pytest.raises(DataError, match="of at least 5 images, one a cluster, got 4 images"):
        kmeans(features, 5, 10, 42)
    features[0, 0, 0] = math.nan
    with pytest.raises(DataError, match="expected finite features"):
        kmeans(features, 2, 10, 42)


@pytest.mark.parametrize(("n", "d"), [(30, 6), (6, 30)])
def test_principal_directions_are_those_of_scikit_learn(n: int, d: int) -> None:
    features, _ = blobs(2, n, d, 1.0)
    found = principal(features, 3)
    for channel in range(2):
        expected = PCA(3, svd_solver="full").fit_transform(features[channel].numpy())
        ours = found[channel].flip(1).numpy()  # scikit-learn has the strongest first
        assert abs(ours) == pytest.approx(abs(expected), abs=1e-9)


def test_without_a_number_of_directions_all_distances_stay() -> None:
    for n, d, kept in ((6, 30, 6), (30, 6, 6), (20, 30, 30)):
        features, _ = blobs(2, n, d, 1.0)
        found = principal(features, 0)
        assert found.shape == (2, n, kept)
        before, after = (torch.nn.functional.pdist(of[1]) for of in (features, found))
        assert torch.allclose(before, after)
    assert principal(blobs(1, 5, 9, 1.0)[0], 50).shape == (1, 5, 5)
