from __future__ import annotations

from pathlib import Path

import pytest
import torch

from carryover.errors import DataError
from carryover.solve import retrieve as module
from carryover.solve.neighbours import majority
from carryover.solve.retrieve import entry_zero, kept, nearest, own_rows, sampled, voted
from carryover.solve.store import Store, single, stored, zeroed

NOBODY = torch.full((5,), -1)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(m: int = 12, d: int = 4, seed: int = 0) -> Store:
    features = torch.randn(m, d, generator=draws(seed))
    return stored(features, torch.arange(m) % 3, 100 + 7 * torch.arange(m), "set/train")


def queries(n: int = 5, d: int = 4, seed: int = 9) -> torch.Tensor:
    return torch.randn(n, d, generator=draws(seed))


# --- whose row is whose -------------------------------------------------------------------------


def test_own_rows_are_found_by_source_and_id() -> None:
    store = some(4)  # ids 100, 107, 114, 121
    ids = torch.tensor([107, 99, 121, 108, 100, 500])
    assert own_rows(store, ids, "set/train").tolist() == [1, -1, 3, -1, 0, -1]
    assert own_rows(store, ids, "set/test").tolist() == [-1] * 6  # equal ids of another split


def test_own_rows_do_not_ask_for_an_order() -> None:
    store = stored(torch.eye(4), torch.zeros(4).long(), torch.tensor([9, 2, 7, 4]), "set/train")
    assert own_rows(store, torch.tensor([2, 4, 7, 9, 3]), "set/train").tolist() == [1, 3, 2, 0, -1]


# --- the nearest --------------------------------------------------------------------------------


def test_the_nearest_by_hand() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    store = stored(line, torch.tensor([0, 0, 1, 1]), torch.arange(4), "set/train")
    near = nearest(store, torch.tensor([[2.5], [6.0]]), torch.tensor([-1, -1]), 2)
    assert near.ids.tolist() == [[2, 1], [3, 2]]
    assert near.similarities.flatten().tolist() == pytest.approx([-0.5, -1.5, -1, -3])
    assert majority(near, store.labels, 2).tolist() == [0, 1]  # of equals the smaller class


def test_a_vote_is_won_by_the_nearer_of_classes_with_as_many() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    store = stored(line, torch.tensor([2, 2, 1, 1]), torch.arange(4), "set/train")
    asked = torch.tensor([[0.2], [4.5], [3.4], [9.0]])
    near = nearest(store, asked, torch.full((4,), -1), 4)  # two votes each
    # sums of distances to class 2 and 1: 1.0, 9.6; 8.0, 4.0; 5.8, 4.0; 17.0, 8.0
    assert voted(store, near, 3).tolist() == [2, 1, 1, 1]
    near = nearest(store, asked, torch.full((4,), -1), 3)  # the far one of the other class is out
    assert voted(store, near, 3).tolist() == [2, 1, 2, 1]
    same = stored(torch.zeros(2, 1), torch.tensor([1, 0]), torch.arange(2), "set/train")
    even = nearest(same, torch.zeros(1, 1), torch.tensor([-1]), 2)
    assert voted(same, even, 2).tolist() == [0]  # equal in both: the smaller


def test_a_vote_counts_before_it_measures() -> None:
    line = torch.tensor([[0.0], [5.0], [5.1]])
    store = stored(line, torch.tensor([0, 1, 1]), torch.arange(3), "set/train")
    near = nearest(store, torch.tensor([[0.1]]), torch.tensor([-1]), 3)
    assert voted(store, near, 2).tolist() == [1]


def test_a_querys_own_image_is_left_out() -> None:
    store = some()
    own = own_rows(store, store.ids, "set/train")
    near = nearest(store, store.features, own, 11)
    for row, ids in enumerate(near.ids.tolist()):
        assert sorted([*ids, row]) == list(range(12))
    # without exclusion each finds itself first
    assert nearest(store, store.features, torch.full((12,), -1), 1).ids[:, 0].tolist() == [
        *range(12)
    ]


def test_leaving_out_is_by_id_and_not_by_distance() -> None:
    same = torch.ones(3, 2)  # three images with equal features
    store = stored(same, torch.tensor([0, 1, 2]), torch.tensor([4, 5, 6]), "set/train")
    own = own_rows(store, torch.tensor([5, 5, 8]), "set/train")
    assert nearest(store, same, own, 2).ids.tolist() == [[0, 2], [0, 2], [0, 1]]


def test_only_the_query_whose_image_is_stored_loses_a_row() -> None:
    store = some()
    x, own = torch.cat([store.features[:1], queries(3)]), torch.tensor([0, -1, -1, -1])
    found = nearest(store, x, own, 4)
    free = nearest(store, x, torch.full((4,), -1), 5)
    assert torch.equal(found.ids[0], free.ids[0, 1:])
    assert torch.equal(found.ids[1:], free.ids[1:, :4])
    assert torch.equal(found.similarities[1:], free.similarities[1:, :4])


def test_k_may_be_the_whole_store_and_no_more() -> None:
    store = some()
    assert nearest(store, queries(), NOBODY, 12).ids.sort(1).values.tolist() == [[*range(12)]] * 5
    assert sampled(store, NOBODY, 12, draws()).sort(1).values.tolist() == [[*range(12)]] * 5
    for k in (13, 0, -1):
        said = f"k: expected 1 to the 12 entries of the memory, got {k};"
        with pytest.raises(DataError, match=said):
            nearest(store, queries(), NOBODY, k)
        with pytest.raises(DataError, match=said):
            sampled(store, NOBODY, k, draws())
        with pytest.raises(DataError, match=said):
            kept(store, queries(), NOBODY, k, Path("never"))


def test_k_may_be_one_less_where_queries_are_stored_themselves() -> None:
    store = some()
    own = torch.tensor([3, -1, 5, 0, -1])
    said = "k: expected 1 to the 11 entries of the memory that are not a query's own image"
    for k in (12, 0):
        with pytest.raises(DataError, match=said):
            nearest(store, queries(), own, k)
        with pytest.raises(DataError, match=said):
            sampled(store, own, k, draws())
    assert sampled(store, own, 11, draws()).shape == (5, 11)


def test_no_queries_get_no_rows() -> None:
    store, nobody = some(), torch.zeros(0).long()
    assert sampled(store, nobody, 3, draws()).shape == (0, 3)
    assert entry_zero(0, 3).shape == (0, 3)


# --- random ones --------------------------------------------------------------------------------


def test_samples_differ_between_images_and_between_steps() -> None:
    store, nobody = some(40), torch.full((64,), -1)
    generator = draws()
    first, second = sampled(store, nobody, 5, generator), sampled(store, nobody, 5, generator)
    sets = {tuple(sorted(row)) for row in torch.cat([first, second]).tolist()}
    assert len(sets) == 128  # of 658,008 sets: two alike in one run of 80
    assert not (first.sort(1).values == second.sort(1).values).all(1).any()


def test_samples_have_no_row_twice_and_cover_the_store() -> None:
    store, nobody = some(40), torch.full((64,), -1)
    found = sampled(store, nobody, 10, draws(1))
    assert all(len(set(row)) == 10 for row in found.tolist())
    assert found.unique().tolist() == list(range(40))


def test_every_row_is_as_likely() -> None:
    store, n, k = some(), 6000, 4
    own = torch.arange(n) % 13 - 1  # -1 to 11
    found = sampled(store, own, k, draws(2))
    counts = torch.zeros(13, 12).index_put_(
        ((own + 1).repeat_interleave(k), found.flatten()), torch.tensor(1.0), accumulate=True
    )
    asked = n / 13
    for image in range(13):
        rows = counts[image]
        free = rows[rows > 0]
        assert len(free) == (12 if image == 0 else 11)
        assert image == 0 or rows[image - 1] == 0  # its own
        # five standard deviations of a binomial
        share = k / len(free)
        assert float((free / asked - share).abs().max()) < 5 * (share * (1 - share) / asked) ** 0.5


def test_samples_follow_the_generator_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    store, own = some(40), torch.arange(30) - 10
    whole = sampled(store, own.clamp(min=-1), 6, draws(3))
    assert torch.equal(whole, sampled(store, own.clamp(min=-1), 6, draws(3)))
    monkeypatch.setattr(module, "TILE", 100)  # two images at once
    assert torch.equal(whole, sampled(store, own.clamp(min=-1), 6, draws(3)))


def test_entry_zero_is_what_a_memory_of_the_first_entry_hands_out() -> None:
    store = some()
    index = entry_zero(5, 3)
    assert index.tolist() == [[0, 0, 0]] * 5
    alone = single(store, 0).handed(sampled(store, NOBODY, 3, draws()))
    assert torch.equal(store.handed(index), alone)


# --- kept ---------------------------------------------------------------------------------------


def test_kept_neighbours_are_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, own = some(), torch.tensor([3, -1, 5, 0, -1])
    expected = nearest(store, queries(), own, 4).ids
    calls = []
    real = module.nearest
    monkeypatch.setattr(module, "nearest", lambda *a: calls.append(1) or real(*a))
    for _ in range(3):
        assert torch.equal(kept(store, queries(), own, 4, tmp_path / "near"), expected)
    assert torch.equal(kept(zeroed(store), queries(), own, 4, tmp_path / "near"), expected)
    assert len(calls) == 1
    assert len(list((tmp_path / "near").iterdir())) == 1


def test_other_content_is_never_read_from_a_file_of_the_first(tmp_path: Path) -> None:
    store, x = some(), queries()
    wanted = [
        (store, x, NOBODY, 4),
        (store, x, NOBODY, 3),
        (store, x + 1, NOBODY, 4),
        (some(seed=1), x, NOBODY, 4),
        (store, x, torch.tensor([0, 1, 2, 3, 4]), 4),
        (store, x[:4], NOBODY[:4], 4),
    ]
    for one in wanted:
        assert torch.equal(kept(*one, tmp_path), nearest(*one).ids)
    assert len(list(tmp_path.iterdir())) == len(wanted)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_damaged_files_are_made_again(tmp_path: Path, damage: str) -> None:
    store = some()
    expected = kept(store, queries(), NOBODY, 4, tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    broken = {
        "cut": content[:-9],
        "flipped": content[:-8] + bytes([content[-8] ^ 1]) + content[-7:],
        "empty": b"",
        "other": b"ids" * 50,
    }
    path.write_bytes(broken[damage])
    assert torch.equal(kept(store, queries(), NOBODY, 4, tmp_path), expected)
    assert path.read_bytes() == content
