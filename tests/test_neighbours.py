from __future__ import annotations

import math

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from carryover.errors import DataError
from carryover.solve import neighbours as module
from carryover.solve.neighbours import Metric, Neighbours, majority, neighbours, votes
from test_logistic import SETS, real


def drawn(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def plain(queries: Tensor, bank: Tensor, k: int, metric: Metric) -> Neighbours:
    """All similarities in float64, sorted."""
    left, right = queries.double(), bank.double()
    if metric == "cosine":
        left, right = (torch.nn.functional.normalize(x, dim=1) for x in (left, right))
        similarities = left @ right.T
    else:
        similarities = -(left[:, None] - right).norm(dim=2)
    order = similarities.argsort(dim=1, descending=True, stable=True)[:, :k]
    return Neighbours(order, similarities.gather(1, order))


@pytest.mark.parametrize("name", list(SETS))
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_predictions_are_scikit_learns_on_real_sets(name: str, metric: Metric) -> None:
    x, y = real(name)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train, test = order[: len(y) // 2], order[len(y) // 2 :]
    for k in (1, 5, 20):
        found = neighbours(x[test], x[train], k, metric)
        ours = majority(found, y[train], int(y.max()) + 1)
        fit = KNeighborsClassifier(k, metric=metric, algorithm="brute")
        fit.fit(x[train].numpy(), y[train].numpy())
        assert (ours == torch.from_numpy(fit.predict(x[test].numpy()))).double().mean() >= 0.999


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("m", [9, 40, 257, 1000])
def test_neighbours_are_those_of_a_plain_search(
    metric: Metric, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, bank = drawn(31, 6, 0), drawn(m, 6, 1)
    monkeypatch.setattr(module, "TILE", 600)
    for size in (300, 1 << 16):
        monkeypatch.setattr(module, "BANK", size)
        found, expected = neighbours(queries, bank, 7, metric), plain(queries, bank, 7, metric)
        assert torch.equal(found.ids, expected.ids)
        assert torch.allclose(found.similarities.double(), expected.similarities, atol=1e-5)


def test_neighbours_by_hand() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.0]])
    near = neighbours(torch.tensor([[2.0, 0.0]]), bank, 3, "cosine")
    assert near.ids.tolist() == [[0, 2, 1]]
    assert near.similarities[0].tolist() == pytest.approx([1, math.sqrt(0.5), 0], abs=1e-6)
    near = neighbours(torch.tensor([[2.0, 0.0]]), bank, 3, "euclidean")
    assert near.ids.tolist() == [[0, 1, 3]]
    assert near.similarities[0].tolist() == pytest.approx([-1, -math.sqrt(8), -3])


@pytest.mark.parametrize("size", [16, 1 << 16])
def test_of_equal_rows_the_smaller_ids_come_first(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BANK", size)
    bank = torch.eye(4)[torch.arange(200) % 4]  # every row 50 times
    found = neighbours(torch.eye(4)[[2, 1]], bank, 6, "cosine")
    assert found.ids.tolist() == [[2, 6, 10, 14, 18, 22], [1, 5, 9, 13, 17, 21]]
    found = neighbours(torch.eye(4)[[3]], bank, 52, "euclidean")
    assert found.ids[0, -3:].tolist() == [199, 0, 1]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_order_of_the_queries_changes_nothing(metric: Metric) -> None:
    queries, bank = drawn(50, 8, 2), drawn(300, 8, 3)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(4))
    whole, moved = (neighbours(q, bank, 5, metric) for q in (queries, queries[order]))
    assert torch.equal(whole.ids[order], moved.ids)


@pytest.mark.parametrize("spare", [1.0, 1.5, 60.0])
def test_screening_in_a_shorter_type_gives_the_same(
    spare: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no spare candidates hardly any query is proven; with 60 a neighbour all rows are."""
    monkeypatch.setattr(module, "SPARE", spare)
    monkeypatch.setattr(module, "TILE", 3000)
    queries, bank = drawn(60, 16, 5), drawn(500, 16, 6)
    expected = neighbours(queries, bank, 10, "cosine")
    for size in (128, 1 << 16):
        monkeypatch.setattr(module, "BANK", size)
        found = neighbours(queries, bank, 10, "cosine", torch.bfloat16)
        assert torch.equal(found.ids, expected.ids)
        assert torch.allclose(found.similarities, expected.similarities, atol=1e-6)


def test_votes_by_hand() -> None:
    found = Neighbours(torch.tensor([[0, 1, 2]]), torch.tensor([[0.9, 0.2, 0.2]]))
    labels = torch.tensor([1, 0, 0])
    assert votes(found, labels, 3, None).tolist() == [[2.0, 1.0, 0.0]]
    weighted = votes(found, labels, 3, 0.1)[0]
    assert weighted.tolist() == pytest.approx([2 * math.exp(-7), 1, 0], rel=1e-5)
    assert majority(found, labels, 3).tolist() == [0]
    assert int(weighted.argmax()) == 1


def test_equal_votes_go_to_the_smallest_class() -> None:
    found = Neighbours(torch.tensor([[0, 1, 2, 3]]), torch.zeros(1, 4))
    assert majority(found, torch.tensor([2, 1, 1, 2]), 3).tolist() == [1]


def test_a_tiny_temperature_follows_the_nearest_neighbour() -> None:
    x = drawn(40, 4, 7)
    labels = torch.arange(40) % 3
    found = neighbours(drawn(20, 4, 8), x, 10, "cosine")
    scores = votes(found, labels, 3, 1e-6)
    assert torch.isfinite(scores).all()
    assert torch.equal(scores.argmax(1), labels[found.ids[:, 0]])


def test_what_cannot_be_searched_is_refused() -> None:
    x = drawn(5, 3, 9)
    for k in (0, 6):
        with pytest.raises(DataError, match=f"expected k of 1 to the 5 rows of the bank, got {k}"):
            neighbours(x, x, k, "cosine")
    with pytest.raises(DataError, match="expected the cosine where candidates are found"):
        neighbours(x, x, 1, "euclidean", torch.bfloat16)
    x[0, 0] = math.nan
    with pytest.raises(DataError, match="some in the bank that are not"):
        neighbours(drawn(2, 3, 0), x, 1, "cosine")


@pytest.mark.gpu
def test_a_gpu_finds_the_same() -> None:
    queries, bank = drawn(60, 16, 5), drawn(5000, 16, 6)
    here = neighbours(queries, bank, 10, "cosine")
    for screen in (None, torch.bfloat16):
        there = neighbours(queries.cuda(), bank.cuda(), 10, "cosine", screen)
        assert (here.ids == there.ids.cpu()).double().mean() > 0.999


def test_features_of_another_type_and_no_temperature_are_refused() -> None:
    x = drawn(4, 3, 0)
    for queries, bank in ((x.half(), x.half()), (x, x.double())):
        with pytest.raises(DataError, match="queries and bank both of float32 or of float64"):
            neighbours(queries, bank, 1, "cosine")
    found = neighbours(x, x, 2, "cosine")
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(DataError, match="votes: expected a temperature above 0"):
            votes(found, torch.zeros(4, dtype=torch.int64), 2, temperature)


def test_rows_of_zeros_have_no_similarity_rather_than_nan() -> None:
    assert neighbours(torch.zeros(2, 3), drawn(4, 3, 0), 2, "cosine").similarities.eq(0).all()
