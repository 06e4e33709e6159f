from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset, random_split

from carryover.data.splits import (
    balanced_subset,
    expect_each,
    expect_left,
    hold_out,
    random_parts,
    with_test,
)
from carryover.errors import ConfigError, DataError
from image_files import SHARED

FRACTIONS = (0.001, 0.01, 0.1, 0.5, 1.0)
# images drawn at each fraction and images held out: table 'Sizes of the sampled training set'
PUBLISHED = {
    ("mnist", (5, 6, 7, 8, 9)): ([25, 260, 2645, 13230, 26038], 2940),
    ("fashion_mnist", (5, 7, 9)): ([15, 162, 1620, 8100, 16196], 1800),
    ("cifar10", (2, 3, 4, 5, 6, 7)): ([24, 270, 2700, 13500, 26946], 3000),
    ("fashion_mnist", tuple(range(10))): ([50, 540, 5400, 27000, 53897], 6000),
    ("mnist", tuple(range(10))): ([50, 540, 5400, 27000, 53006], 6000),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels_of(*counts: int) -> Tensor:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=seeded(9))]


@pytest.mark.parametrize(("n", "fraction"), [(29, 0.1), (100, 0.25), (7, 0.0)])
def test_unstratified_hold_out_equals_random_split(n: int, fraction: float) -> None:
    kept, held = hold_out(torch.zeros(n).long(), fraction, seeded(42), stratified=False)
    size = int(fraction * n)
    rows = TensorDataset(torch.arange(n))
    first, second = random_split(rows, [n - size, size], seeded(42))
    assert kept.tolist() == list(first.indices)
    assert held.tolist() == list(second.indices)


def test_stratified_hold_out_takes_the_share_of_each_class() -> None:
    labels = labels_of(20, 10, 4)
    kept, held = hold_out(labels, 0.3, seeded(0), stratified=True)
    assert torch.bincount(labels[held]).tolist() == [6, 3, 1]
    assert held.tolist() == sorted(held.tolist())
    assert sorted(kept.tolist() + held.tolist()) == list(range(34))
    assert not torch.equal(held, hold_out(labels, 0.3, seeded(1), stratified=True)[1])


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0])
def test_hold_out_refuses_what_is_no_share(fraction: float) -> None:
    with pytest.raises(ConfigError, match=f"at least 0 and below 1 to hold out, got {fraction}"):
        hold_out(labels_of(3, 3), fraction, seeded(0), stratified=True)


def test_balanced_subset_draws_as_published() -> None:
    labels = labels_of(30, 40, 50)
    drawn = balanced_subset(labels, 0.25, seeded(3))
    generator, wanted = seeded(3), []
    for label in range(3):
        rows = [row for row, found in enumerate(labels.tolist()) if found == label]
        order = torch.randperm(len(rows), generator=generator).tolist()
        wanted += [rows[place] for place in order[:10]]
    assert drawn.tolist() == wanted


def test_a_class_with_fewer_images_than_the_quota_gives_all() -> None:
    labels = labels_of(10, 40)
    assert torch.bincount(labels[balanced_subset(labels, 1.0, seeded(0))]).tolist() == [10, 25]


def test_smaller_fractions_are_nested_in_larger_ones() -> None:
    labels = labels_of(30, 40, 50)
    sets = [set(balanced_subset(labels, f, seeded(5)).tolist()) for f in (0.1, 0.3, 0.5, 1.0)]
    assert all(small < large for small, large in pairwise(sets))


def test_proportional_rule_keeps_the_class_balance() -> None:
    labels = labels_of(10, 40)
    drawn = balanced_subset(labels, 0.5, seeded(0), "proportional")
    assert torch.bincount(labels[drawn]).tolist() == [5, 20]
    assert len(balanced_subset(labels, 1.0, seeded(0), "proportional")) == 50


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5])
def test_balanced_subset_refuses_what_is_no_share(fraction: float) -> None:
    with pytest.raises(ConfigError, match=f"above 0 and up to 1 to draw, got {fraction}"):
        balanced_subset(labels_of(5, 5), fraction, seeded(0))


def test_a_quota_of_nothing_names_the_smallest_usable_fraction() -> None:
    labels = labels_of(30, 40, 50)
    with pytest.raises(DataError, match=r"the smallest usable fraction is 0\.025"):
        balanced_subset(labels, 0.001, seeded(0))
    assert len(balanced_subset(labels, 0.025, seeded(0))) == 3
    with pytest.raises(DataError, match=r"the smallest usable fraction is 0\.033334"):
        balanced_subset(labels, 0.03, seeded(0), "proportional")


def test_with_test_holds_out_of_train_only_where_there_is_no_test() -> None:
    labels, splits = [0, 1] * 10, ["train"] * 16 + ["validation"] * 4
    named = with_test(labels, splits, 0.25, seeded(0))
    assert named.count("test") == 4
    assert named[16:] == ["validation"] * 4
    assert with_test(labels, ["test"] * 20, 0.25, seeded(0)) == ["test"] * 20
    with pytest.raises(DataError, match=r"data\.test_fraction: .* got none from 0\.01 of 16"):
        with_test(labels, splits, 0.01, seeded(0))


def test_less_than_two_classes_to_train_on_are_refused() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    expect_left(labels, 0.5, 8, "x")
    for left, classes in ((labels[:2], 1), (labels[:0], 0)):
        said = f"x: expected a share .*, got 0.9 of 20 images, which leaves {classes}; lower it"
        with pytest.raises(ConfigError, match=said):
            expect_left(left, 0.9, 20, "x")


def test_a_validation_set_leaves_an_image_of_each_class() -> None:
    labels, rows = torch.tensor([0, 0, 4, 4]), torch.arange(4)
    expect_each(labels, rows[1:3], rows[:1], "x")
    for kept in (rows[:2], rows[:0]):
        with pytest.raises(ConfigError, match="x: expected a share that leaves at least one image"):
            expect_each(labels, kept, rows[2:], "x")
    with pytest.raises(ConfigError, match="x: expected a share that holds out at least one image"):
        expect_each(labels, rows, rows[:0], "x")


def test_published_sizes_follow_from_the_class_counts() -> None:
    labels = labels_of(*[5400] * 10)
    sizes = [len(balanced_subset(labels, f, seeded(0))) for f in FRACTIONS[:4]]
    assert sizes == [50, 540, 5400, 27000]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the packed data sets are not here")
@pytest.mark.parametrize(("name", "classes"), PUBLISHED)
def test_published_sizes_of_the_sampled_sets(name: str, classes: Sequence[int]) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(SHARED / f"{name}.parquet", columns=["label", "split"])
    labels = torch.tensor(table["label"].to_pylist())
    train = torch.tensor([split == "train" for split in table["split"].to_pylist()])
    target = labels[train & torch.isin(labels, torch.tensor(classes))]
    kept, held = hold_out(target, 0.1, seeded(42), stratified=False)
    sizes = [len(balanced_subset(target[kept], fraction, seeded(1))) for fraction in FRACTIONS]
    published, held_out = PUBLISHED[name, tuple(classes)]
    assert len(held) == held_out
    assert sizes[:4] == published[:4]
    # The packed files are grouped by class, the official ones are not, so the same permutation
    # leaves other class counts in train, and the whole of it differs by some images.
    assert sizes[4] == pytest.approx(published[4], rel=0.002)


def test_random_parts_are_those_of_torch() -> None:
    rows = torch.arange(101)
    generator = torch.Generator().manual_seed(42)
    train, _ = random_split(TensorDataset(rows), [80, 21], generator=generator)
    found = random_parts(101, 0.8, 42)
    assert [row for row, part in enumerate(found) if part == "train"] == sorted(train.indices)
    assert (found.count("train"), found.count("test")) == (80, 21)
    assert random_parts(101, 0.8, 43) != found


def test_random_parts_have_the_published_sizes() -> None:
    for count, train in ((8677, 6941), (27_000, 21_600), (108_754, 87_003)):
        assert random_parts(count, 0.8, 42).count("train") == train
