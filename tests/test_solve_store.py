from __future__ import annotations

import pytest
import torch
from torch import Tensor

from carryover.errors import DataError
from carryover.solve.store import Store, chosen, shuffled, single, stored, zeroed


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(m: int = 12, d: int = 4, classes: int | None = None, seed: int = 0) -> Store:
    features = torch.randn(m, d, generator=draws(seed))
    return stored(features, torch.arange(m) % 3, 100 + torch.arange(m), "set/train", classes)


def rows(x: Tensor) -> list[tuple[float, ...]]:
    return sorted(map(tuple, x.tolist()))


def test_contents_are_the_features_or_those_and_the_label() -> None:
    plain, both = some(), some(classes=5)
    assert torch.equal(plain.contents, plain.features)
    assert both.contents.shape == (12, 9)
    assert torch.equal(both.contents[:, :4], plain.features)
    assert both.contents[:4, 4:].tolist() == [
        [1, 0, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [1, 0, 0, 0, 0],
    ]


def test_rows_are_handed_out_as_asked() -> None:
    store = some(classes=3)
    index = torch.tensor([[3, 3], [0, 11], [7, 2]])
    found = store.handed(index)
    assert found.shape == (3, 2, 7)
    for i in range(3):
        for j in range(2):
            assert torch.equal(found[i, j], store.contents[index[i, j]])


def test_the_digest_is_of_everything_that_is_held() -> None:
    store = some()
    digests = {store.digest(), some(classes=3).digest(), some(seed=1).digest()}
    digests |= {zeroed(store).digest(), single(store, 0).digest()}
    features, labels, ids = store.features, store.labels, store.ids
    digests.add(stored(features, labels, ids, "set/test").digest())
    digests.add(stored(features, labels.flip(0), ids, "set/train").digest())
    digests.add(stored(features, labels, ids + 1, "set/train").digest())
    assert len(digests) == 8
    assert some().digest() == store.digest()
    assert store.to(torch.device("cpu")).digest() == store.digest()


def test_an_empty_store_is_refused() -> None:
    with pytest.raises(DataError, match="expected at least one image, got none"):
        some(0)


def test_an_image_twice_is_refused() -> None:
    with pytest.raises(DataError, match="got 3 entries of 2 images"):
        stored(torch.ones(3, 2), torch.zeros(3).long(), torch.tensor([5, 6, 5]), "set/train")


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="expected finite features"):
        stored(torch.tensor([[torch.nan]]), torch.tensor([0]), torch.tensor([0]), "set/train")


def test_labels_beyond_the_classes_are_refused_where_they_are_handed_out() -> None:
    with pytest.raises(DataError, match=r"expected labels of 0\.\.1, got 0 to 2"):
        some(classes=2)


# --- which images are stored --------------------------------------------------------------------


def test_as_many_of_each_class_are_chosen_and_none_twice() -> None:
    labels = torch.tensor([2, 0, 1, 1, 2, 0, 0, 2, 1, 0])
    for seed in range(20):
        found = chosen(labels, 3, draws(seed))
        assert labels[found].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert len(found.unique()) == 9


def test_every_image_may_be_chosen() -> None:
    labels = torch.arange(20) % 2
    found = torch.cat([chosen(labels, 1, draws(seed)) for seed in range(120)])
    assert found.unique().tolist() == list(range(20))


def test_a_smaller_store_is_part_of_a_larger_one() -> None:
    labels = torch.randint(4, (90,), generator=draws(1))
    few, more = (set(chosen(labels, n, draws(7)).tolist()) for n in (3, 9))
    assert few < more
    assert len(more) == 36


@pytest.mark.parametrize("per_class", [0, -1, 3])
def test_too_many_or_no_images_of_a_class_are_refused(per_class: int) -> None:
    with pytest.raises(DataError, match=f"expected 1 to 2 images per class.*got {per_class};"):
        chosen(torch.tensor([0, 0, 0, 1, 1]), per_class, draws())


def test_a_set_without_images_is_refused() -> None:
    with pytest.raises(DataError, match="expected 1 to 0 images per class"):
        chosen(torch.zeros(0).long(), 1, draws())


# --- controls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [None, 3])
def test_controls_change_what_is_handed_out_and_nothing_else(classes: int | None) -> None:
    store = some(classes=classes)
    before = store.digest()
    for control in (zeroed(store), single(store, 2), shuffled(store, draws())):
        assert control.contents.shape == store.contents.shape
        assert not torch.equal(control.contents, store.contents)
        assert control.features is store.features
        assert control.labels is store.labels
        assert (control.ids is store.ids, control.source) == (True, "set/train")
    assert store.digest() == before


def test_a_store_of_zeros_hands_out_no_label_either() -> None:
    index = torch.tensor([[0, 5], [11, 3]])
    assert torch.equal(zeroed(some(classes=3)).handed(index), torch.zeros(2, 2, 7))


def test_a_single_entry_comes_whatever_is_asked_for() -> None:
    store = some(classes=3)
    found = single(store, 4).handed(torch.tensor([[0, 5, 4], [11, 3, 2]]))
    assert torch.equal(found, store.contents[4].expand(2, 3, 7))


def test_shuffled_entries_are_the_same_ones_each_in_anothers_place() -> None:
    store = some(classes=3)
    for seed in range(20):
        found = shuffled(store, draws(seed)).contents
        assert rows(found) == rows(store.contents)
        assert not (found == store.contents).all(1).any()


def test_shuffles_follow_their_seed() -> None:
    first, again, other = (shuffled(some(30), draws(seed)).contents for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
