from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from carryover.adapt.replay import PUBLISHED_CANDIDATES, Memory, herded, herding, remembered
from carryover.errors import ConfigError


def embeddings(n: int, seed: int = 0, width: int = 5) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=random) + torch.arange(width)


def filled(sets: int, capacity: int, rows: int, published: bool = False) -> list[Memory]:
    """The memory after each of so many sets of four classes, sorted by class."""
    states: list[Memory] = [{}]
    for t in range(sets):
        labels = torch.arange(rows) * 4 // rows
        states.append(
            remembered(
                states[-1], f"s{t}", embeddings(rows, t), labels, capacity, published=published
            )
        )
    return states[1:]


def slow_herding(z: Tensor, count: int, unit_mean: bool) -> list[int]:
    z = z.double()
    target = z.mean(0)
    target = target / target.norm() if unit_mean else target
    picks: list[int] = []
    for _ in range(count):
        distances = {}
        for i in range(len(z)):
            if i not in picks:
                mean = z[[*picks, i]].mean(0)
                mean = mean / mean.norm() if unit_mean else mean
                distances[i] = float((target - mean).norm())
        picks.append(min(distances, key=lambda i: distances[i]))
    return picks


@pytest.mark.parametrize("unit_mean", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_herding_agrees_with_a_slow_plain_version(seed: int, unit_mean: bool) -> None:
    z = F.normalize(embeddings(30, seed))
    assert herding(z, 12, unit_mean=unit_mean).tolist() == slow_herding(z, 12, unit_mean)


def test_herding_by_hand() -> None:
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.6, 0.8]])
    z = torch.cat([z, z[:1]])  # the mean leans towards the first axis
    assert herding(z, 2).tolist()[0] == 2
    assert sorted(herding(z, 9).tolist()) == [0, 1, 2, 3, 4]  # all, none twice
    assert herding(z, 0).tolist() == []


def test_herded_rows_have_a_nearer_mean_than_rows_drawn() -> None:
    z = F.normalize(embeddings(200))
    mean = F.normalize(z.mean(0), dim=0)

    def distance(rows: Tensor) -> float:
        return float((F.normalize(z[rows].mean(0), dim=0) - mean).norm())

    drawn = [torch.randperm(200, generator=torch.Generator().manual_seed(i))[:10] for i in range(9)]
    assert distance(herding(z, 10)) < min(map(distance, drawn)) / 3


def test_herded_takes_each_class_in_turn_by_its_own_herding() -> None:
    x, labels = embeddings(30), torch.arange(30) % 3
    rows = herded(3 * x, labels, 12)
    assert labels[rows].tolist() == [0, 1, 2] * 4
    for c in range(3):
        own = (labels == c).nonzero().squeeze(1)
        expected = own[slow_herding(F.normalize(x[own]), 4, unit_mean=True)]
        assert rows[c::3].tolist() == expected.tolist()
    assert herded(x, labels, 7).tolist() == rows[:7].tolist()


def test_what_a_small_class_lacks_goes_to_the_others() -> None:
    labels = torch.tensor([0] * 2 + [1] * 20 + [7] * 20)
    rows = herded(embeddings(42), labels, 20)
    assert len(rows) == len(set(rows.tolist())) == 20
    assert labels[rows].bincount()[[0, 1, 7]].tolist() == [2, 9, 9]
    assert sorted(herded(embeddings(42), labels, 99).tolist()) == list(range(42))


def test_every_set_has_an_equal_share() -> None:
    for t, memory in enumerate(filled(5, 100, 120), start=1):
        assert {name: len(rows) for name, rows in memory.items()} == {
            f"s{i}": 100 // t for i in range(t)
        }


def test_earlier_sets_keep_their_first_picks_and_stay_balanced() -> None:
    states = filled(4, 100, 120)
    first = states[0]["s0"]
    for t, memory in enumerate(states, start=1):
        assert torch.equal(memory["s0"], first[: 100 // t])
        counts = (memory["s0"] // 30).bincount(minlength=4)  # 30 rows a class
        assert int(counts.max() - counts.min()) <= 1
    assert len(first) == 100  # the states before are as they were


def test_published_counts_exceed_the_capacity() -> None:
    states = filled(6, 120, 150, published=True)
    sizes = [sum(map(len, memory.values())) for memory in states]
    assert sizes == [120, *(2 * 120 * (t - 1) // t for t in range(2, 7))]
    assert sizes[1] == 120
    assert sizes[5] == 200
    assert [len(memory[f"s{t}"]) for t, memory in enumerate(states)] == [120, 60, 80, 90, 96, 100]
    for t, memory in enumerate(states[1:], start=2):
        assert {len(memory[f"s{i}"]) for i in range(t - 1)} == {120 // t}


def test_published_first_set_is_its_first_rows_which_lack_classes() -> None:
    corrected, published = (filled(1, 40, 120, published=fault)[0]["s0"] for fault in (False, True))
    assert published.tolist() == list(range(40))
    assert (published // 30).unique().tolist() == [0, 1]
    assert (corrected // 30).bincount().tolist() == [10] * 4


def test_published_picks_ignore_classes_and_the_means_length() -> None:
    x = embeddings(60, 3)
    memory = remembered({"a": torch.arange(20)}, "b", x, torch.arange(60) % 4, 20, published=True)
    assert memory["b"].tolist() == slow_herding(F.normalize(x), 10, unit_mean=False)


def test_published_herding_looks_at_the_first_rows_only() -> None:
    n = PUBLISHED_CANDIDATES
    x = torch.cat([torch.tensor([[1.0, 0.0]]).expand(n, 2), torch.tensor([[0.0, 1.0]] * 9)])
    before = {"a": torch.arange(4)}
    labels = torch.zeros(len(x), dtype=torch.int64)
    assert remembered(before, "b", x, labels, 4, published=True)["b"].max() < n


def test_a_small_set_keeps_all_its_rows_and_leaves_the_rest_free() -> None:
    memory = remembered({}, "a", embeddings(8), torch.arange(8) % 2, 20)
    assert sorted(memory["a"].tolist()) == list(range(8))
    memory = remembered(memory, "b", embeddings(50), torch.arange(50) % 2, 20)
    assert [len(rows) for rows in memory.values()] == [8, 10]


def test_messages_say_what_to_do() -> None:
    memory = {"a": torch.arange(2)}
    x, labels = embeddings(4), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ConfigError, match="expected a data set that is not in memory yet, got a"):
        remembered(memory, "a", x, labels, 10)
    with pytest.raises(ConfigError, match="at least a row for each of 2 data sets, got 1; raise"):
        remembered(memory, "b", x, labels, 1)
