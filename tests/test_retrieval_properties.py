"""What holds of the memory whatever it holds: drawn cases against slow plain versions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from carryover.data.corruptions import gaussian_noise
from carryover.measure.curves import area, running_maximum, steps_to
from carryover.solve.retrieve import kept, nearest, own_rows, sampled
from carryover.solve.store import Store, chosen, shuffled, single, stored, zeroed

CASES = range(24)


@dataclass
class Case:
    """A set of images with a store of some of them, and who asks.

    Attributes:
        rows: of the set that are stored.
        asking: rows of the set, stored or not.
    """

    features: Tensor
    labels: Tensor
    ids: Tensor
    rows: Tensor
    store: Store
    asking: Tensor
    own: Tensor
    k: int


def drawn(case: int) -> Case:
    random = torch.Generator().manual_seed(case)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=random))

    n, d, classes, per_class = number(24, 60), number(1, 6), number(2, 4), number(1, 4)
    # whole numbers: many distances are equal, and all of them exact
    features = torch.randint(-3, 4, (n, d), generator=random).float()
    labels = torch.arange(n) % classes
    labels = labels[torch.randperm(n, generator=random)]
    ids = 5 * torch.randperm(n, generator=random)
    rows = chosen(labels, per_class, random)
    handed = (None, classes)[number(0, 1)]
    store = stored(features[rows], labels[rows], ids[rows], "set/train", handed)
    asking = torch.randperm(n, generator=random)[: number(1, n)]
    own = own_rows(store, ids[asking], "set/train")
    k = number(1, len(store) - int(bool((own >= 0).any())) or 1)
    return Case(features, labels, ids, rows, store, asking, own, k)


def usable(case: int) -> Case:
    """A case where the store has k rows for everyone: not one row that asks itself."""
    while True:
        found = drawn(case)
        if len(found.store) > 1:
            return found
        case += 1000


@pytest.mark.parametrize("case", CASES)
def test_own_rows_are_those_of_a_plain_look_up(case: int) -> None:
    c = usable(case)
    stored_ids = c.store.ids.tolist()
    expected = [stored_ids.index(i) if i in stored_ids else -1 for i in c.ids[c.asking].tolist()]
    assert c.own.tolist() == expected
    assert own_rows(c.store, c.ids[c.asking], "set/test").tolist() == [-1] * len(c.asking)


@pytest.mark.parametrize("case", CASES)
def test_nearest_rows_are_those_of_a_plain_search_without_oneself(case: int) -> None:
    c = usable(case)
    found = nearest(c.store, c.features[c.asking], c.own, c.k)
    for x, own, ids, similarities in zip(
        c.features[c.asking], c.own.tolist(), found.ids.tolist(), found.similarities, strict=True
    ):
        off = (c.store.features - x).double().norm(dim=1).tolist()
        order = sorted((d, i) for i, d in enumerate(off) if i != own)[: c.k]
        assert own not in ids
        assert len(set(ids)) == c.k
        expected = torch.tensor([-d for d, _ in order])
        assert torch.allclose(similarities.double(), expected.double(), atol=1e-3)
        chosen_off = sorted(off[i] for i in ids)
        assert chosen_off == pytest.approx([d for d, _ in order], abs=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_a_smaller_k_gives_the_first_of_a_larger_one(case: int) -> None:
    c = usable(case)
    far = nearest(c.store, c.features[c.asking], c.own, c.k)
    for k in range(1, c.k + 1):
        near = nearest(c.store, c.features[c.asking], c.own, k)
        assert torch.allclose(near.similarities, far.similarities[:, :k], atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_an_image_gets_the_same_rows_alone_as_among_others(case: int) -> None:
    c = usable(case)
    whole = nearest(c.store, c.features[c.asking], c.own, c.k)
    for i, row in enumerate(c.asking[:8].tolist()):
        alone = nearest(c.store, c.features[row : row + 1], c.own[i : i + 1], c.k)
        assert torch.allclose(alone.similarities[0], whole.similarities[i], atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_samples_are_distinct_rows_of_the_store_without_oneself(case: int) -> None:
    c = usable(case)
    found = sampled(c.store, c.own, c.k, torch.Generator().manual_seed(case))
    assert found.shape == (len(c.asking), c.k)
    assert 0 <= int(found.min()) <= int(found.max()) < len(c.store)
    assert all(len(set(row)) == c.k for row in found.tolist())
    assert not (found == c.own[:, None]).any()


@pytest.mark.parametrize("case", CASES)
def test_no_image_is_handed_its_own_features_and_label(case: int) -> None:
    # features by which every image is known; the label of an image is in its own row alone
    c = usable(case)
    known = c.features.clone()
    known[:, 0] = c.ids.float()
    store = stored(known[c.rows], c.labels[c.rows], c.ids[c.rows], "set/train")
    near = nearest(store, known[c.asking], c.own, c.k).ids
    drawn_rows = sampled(store, c.own, c.k, torch.Generator().manual_seed(case))
    for index in (near, drawn_rows):
        who = store.handed(index)[..., 0]
        assert not (who == c.ids[c.asking].float()[:, None]).any()


@pytest.mark.parametrize("case", CASES)
def test_controls_hand_out_what_they_say(case: int) -> None:
    c = usable(case)
    index = nearest(c.store, c.features[c.asking], c.own, c.k).ids
    random = torch.Generator().manual_seed(case)
    assert int(zeroed(c.store).handed(index).count_nonzero()) == 0
    one = single(c.store, 0).handed(index)
    assert torch.equal(one, c.store.contents[0].expand_as(one))
    moved = shuffled(c.store, random)
    entries = sorted(map(tuple, c.store.contents.tolist()))
    assert sorted(map(tuple, moved.contents.tolist())) == entries
    assert nearest(moved, c.features[c.asking], c.own, c.k).ids.tolist() == index.tolist()


@pytest.mark.parametrize("case", CASES[:10])
def test_kept_rows_are_the_nearest_for_the_store_and_its_controls(
    case: int, tmp_path: Path
) -> None:
    c = usable(case)
    index = nearest(c.store, c.features[c.asking], c.own, c.k).ids
    for store in (c.store, zeroed(c.store), single(c.store, 1)):
        found = kept(store, c.features[c.asking], c.own, c.k, tmp_path)
        assert torch.equal(found, index)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("case", CASES[:10])
def test_noise_does_not_know_of_batches(case: int) -> None:
    random = torch.Generator().manual_seed(case)
    x = torch.rand(9, 1, 6, 6, generator=random)
    ids = torch.randperm(30, generator=random)[:9]

    def made(index: Tensor) -> Tensor:
        return gaussian_noise(x[index], ids[index], 0.3, seed=case, source="s", clip=False)

    whole = made(torch.arange(9))
    order = torch.randperm(9, generator=random)
    cut = int(torch.randint(1, 9, (1,), generator=random))
    assert torch.equal(torch.cat([made(order[:cut]), made(order[cut:])]), whole[order])


@pytest.mark.parametrize("case", CASES)
def test_curves_agree_with_one_another(case: int) -> None:
    random = torch.Generator().manual_seed(case)
    steps = torch.randperm(60, generator=random)[:9].sort().values.tolist()
    right = torch.rand(9, 50, generator=random) < torch.linspace(0.1, 0.9, 9)[:, None]
    curve = right.double().mean(1).tolist()
    assert min(curve) <= area(steps, curve) <= max(curve)
    found = [steps_to(steps, curve, t) for t in (0.2, 0.5, 0.8, 1.1)]
    assert [f.step for f in found] == sorted(f.step for f in found)
    assert [f.reached for f in found] == [max(curve) >= t for t in (0.2, 0.5, 0.8, 1.1)]
    # with every image drawn and one epoch it is the largest so far
    best = running_maximum(right, steps, 1000, random, images=50)
    assert best == pytest.approx([max(curve[: i + 1]) for i in range(9)])
