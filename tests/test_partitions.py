from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from carryover.data.partitions import (
    FOOD101_CLASSES,
    FOOD101_PER_CLASS,
    expect_counts,
    partition,
    shifted,
)
from carryover.errors import ConfigError, DataError

FOOD_TOTALS = [707, 7575, 15150, 22725, 30300, 37875, 45450, 53025, 60600, 68175, 75750]
NAMES = ("apple", "bread", "cake", "dumpling")
LABELS = torch.tensor([0, 1, 2, 3] * 5)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def food() -> Tensor:
    """Labels of Food-101's training split: 750 images of each class, here in mixed order."""
    return torch.arange(FOOD101_CLASSES).repeat(750)


def counts(labels: Tensor, rows: Tensor) -> list[int]:
    return torch.bincount(labels[rows]).tolist()


def test_counts_of_food_are_the_published_ones() -> None:
    labels = food()
    names = [str(i) for i in range(FOOD101_CLASSES)]
    found = {share: partition(labels, share, draw()) for share in FOOD101_PER_CLASS}
    assert [len(rows) for rows in found.values()] == FOOD_TOTALS
    for fraction, rows in found.items():
        assert counts(labels, rows) == [FOOD101_PER_CLASS[fraction]] * FOOD101_CLASSES
        expect_counts(labels[rows], FOOD101_PER_CLASS[fraction], names, "food101")


def test_parts_are_nested_and_the_last_is_everything() -> None:
    labels = food()
    found = [partition(labels, share, draw()) for share in FOOD101_PER_CLASS]
    for smaller, larger in pairwise(found):
        assert torch.isin(smaller, larger).all()
    assert torch.equal(found[-1], torch.arange(len(labels)))


def test_another_seed_draws_other_images() -> None:
    labels = torch.arange(4).repeat(50)
    a, b = partition(labels, 0.1, draw(1)), partition(labels, 0.1, draw(2))
    assert not torch.equal(a, b)
    assert counts(labels, a) == counts(labels, b) == [5, 5, 5, 5]


def test_rows_are_sorted_and_drawn_once() -> None:
    rows = partition(torch.arange(4).repeat(50), 0.3, draw())
    assert torch.equal(rows, rows.unique())
    assert len(rows) == 60


def test_shares_are_taken_as_written() -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    assert int(100 * 0.29) == 28  # what binary arithmetic makes of it
    assert len(partition(labels, 0.29, draw())) == 29


def test_unequal_classes_keep_their_shares() -> None:
    labels = torch.tensor([0] * 39 + [1] * 20)
    assert counts(labels, partition(labels, 0.1, draw())) == [3, 2]


def test_a_class_without_an_image_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"got none of class 0 from 0\.1 of its 5 images; use a larg"
    ):
        partition(LABELS, 0.1, draw())
    with pytest.raises(DataError, match=r"adapt\.partitions: .* none of class 1 from 0.5 of its 0"):
        partition(torch.tensor([0, 0, 2, 2]), 0.5, draw(), "adapt.partitions")
    for fraction in (0.0, 1.5, -0.1):
        with pytest.raises(ConfigError, match="expected a share above 0 and up to 1, got"):
            partition(LABELS, fraction, draw())


def test_a_wrong_count_names_the_first_class() -> None:
    expect_counts(LABELS, 5, NAMES, "train")
    with pytest.raises(
        DataError, match=r"train: expected 5 .* got 4 of class 0 \('apple'\) and .*"
    ):
        expect_counts(LABELS[1:], 5, NAMES, "train")
    with pytest.raises(DataError, match=r"got 0 of class 4 \('egg'\) and other counts in 0 more"):
        expect_counts(LABELS, 5, [*NAMES, "egg"], "train")
    with pytest.raises(DataError, match=r"got 5 of class 3 \('not in the list'\)"):
        expect_counts(LABELS, 5, NAMES[:3], "train")


def test_whole_folders_shift_nothing() -> None:
    rows = partition(LABELS, 0.6, draw())
    found = shifted(LABELS, rows, NAMES)
    assert torch.equal(found.rows, rows)
    assert torch.equal(found.labels, LABELS[rows])
    assert found.classes == 4


def test_a_missing_folder_lowers_every_later_label() -> None:
    rows = torch.arange(20)
    found = shifted(LABELS, rows, NAMES, drop=(1,))
    assert found.rows.tolist() == [row for row in range(20) if LABELS[row] != 1]
    assert torch.equal(found.labels, torch.tensor([0, 9, 1, 2])[LABELS[found.rows]])
    assert found.classes == 4


def test_a_further_folder_raises_every_later_label_and_widens_the_head() -> None:
    rows = torch.arange(8)
    found = shifted(LABELS, rows, NAMES, add=["bread copy"])
    assert found.classes == 5
    pairs = sorted(zip(found.rows.tolist(), found.labels.tolist(), strict=True))
    assert pairs == [
        (0, 0), (1, 1), (1, 2), (2, 3), (3, 4), (4, 0), (5, 1), (5, 2), (6, 3), (7, 4),
    ]  # fmt: skip


def test_a_folder_that_sorts_first_copies_the_one_behind_it_and_shifts_all() -> None:
    found = shifted(LABELS, torch.arange(4), NAMES, add=[".cache"])
    pairs = sorted(zip(found.rows.tolist(), found.labels.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 2), (2, 3), (3, 4)]


def test_one_folder_less_and_one_more_shift_the_labels_between() -> None:
    found = shifted(LABELS, torch.arange(4), NAMES, drop=[0], add=["cake (1)"])
    assert found.classes == 4
    pairs = sorted(zip(found.rows.tolist(), found.labels.tolist(), strict=True))
    assert pairs == [(1, 0), (2, 1), (2, 2), (3, 3)]


def test_shift_goes_by_sorted_names_where_official_ids_do_not() -> None:
    names = ("zero", "one", "two")  # sorted: one, two, zero
    labels = torch.tensor([0, 1, 2])
    found = shifted(labels, torch.arange(3), names, drop=[1])
    assert found.rows.tolist() == [0, 2]
    assert found.labels.tolist() == [2, 1]  # zero read as two, two as one


def test_labels_before_the_missing_class_stay_right_in_any_part() -> None:
    labels = food()
    names = [f"{i:03}" for i in range(FOOD101_CLASSES)]
    rows = partition(labels, 0.1, draw())
    found = shifted(labels, rows, names, drop=[40])
    truth = labels[found.rows]
    assert len(found.rows) == 7500
    assert torch.equal(found.labels, truth - (truth > 40).long())
    assert (found.labels == truth).double().mean() == pytest.approx(40 / 100)


def test_impossible_shifts_are_refused() -> None:
    rows = torch.arange(20)
    for drop, add in (([4], []), ([0, 1, 2], []), ([], ["cake"]), ([-1], [])):
        with pytest.raises(ConfigError, match=r"expected class ids 0\.\.3 to drop .* got drop \["):
            shifted(LABELS, rows, NAMES, drop=drop, add=add)


def test_a_classifier_of_shifted_labels_is_wrong_from_the_missing_class_on() -> None:
    classes, drop = 10, 6
    labels = torch.arange(classes).repeat(20)
    x = 10 * torch.eye(classes)[labels] + torch.randn(200, classes, generator=draw(1))
    names = [str(i) for i in range(classes)]

    def right(missing: list[int]) -> list[float]:
        found = shifted(labels, torch.arange(200), names, drop=missing)
        means = torch.full((found.classes, classes), 1e6)
        for label in found.labels.unique().tolist():
            means[label] = x[found.rows[found.labels == label]].mean(dim=0)
        nearest = torch.cdist(x, means).argmin(dim=1)
        return [(nearest[labels == i] == i).double().mean().item() for i in range(classes)]

    assert right([]) == [1.0] * 10
    accuracy = right([drop])
    assert accuracy[:drop] == [1.0] * 6
    assert accuracy[drop] < 0.5  # its images have no place; the next class goes by its number
    assert accuracy[drop + 1 :] == [0.0] * 3
