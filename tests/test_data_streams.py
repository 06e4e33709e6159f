"""Streams of tasks over row numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from carryover.data import streams
from carryover.data.streams import Stream
from carryover.errors import DataError

CLASSES, EACH, TESTED = 6, 10, 4
LABELS = torch.arange(CLASSES).repeat(EACH)  # of 60 training rows
TEST_LABELS = torch.arange(CLASSES).repeat(TESTED)
ROWS = torch.arange(len(LABELS)) + 100  # row numbers need not start at 0
TEST_ROWS = torch.arange(len(TEST_LABELS)) + 500


def chunks(experiences: int = 3, seed: int = 42, shuffle: bool = False) -> Stream:
    return streams.iid_chunks(
        ROWS, LABELS, TEST_ROWS, TEST_LABELS, experiences, seed=seed, shuffle=shuffle
    )


def classes(
    experiences: int = 3, seed: int = 1234, shuffle: bool = True, labels: bool = False
) -> Stream:
    return streams.class_tasks(
        *(ROWS, LABELS, TEST_ROWS, TEST_LABELS, experiences),
        seed=seed,
        shuffle=shuffle,
        task_labels=labels,
    )


def parts(made: Stream) -> list[list[int]]:
    return [task.train.tolist() for task in made.tasks]


def label_of(row: Tensor) -> Tensor:
    return LABELS[row - 100]


def test_chunks_hold_every_row_once_and_all_classes_evenly() -> None:
    for shuffle in (False, True):
        made = chunks(shuffle=shuffle)
        assert torch.equal(torch.cat([task.train for task in made.tasks]).sort().values, ROWS)
        for task in made.tasks:
            counts = torch.bincount(label_of(task.train), minlength=CLASSES)
            assert set(counts.tolist()) <= {EACH // 3, EACH // 3 + 1}
            assert task.classes == tuple(range(CLASSES))
            assert task.label == 0
            assert torch.equal(task.test, TEST_ROWS)
        assert made.shared_test


def test_unshuffled_chunks_take_each_class_in_its_order() -> None:
    first = chunks().tasks[0].train
    assert label_of(first).tolist() == sorted(label_of(first).tolist())
    zeros = ROWS[LABELS == 0]
    assert first[label_of(first) == 0].tolist() == zeros[:4].tolist()  # 10 rows: 4, 3 and 3


def test_the_seed_decides_shuffled_streams_and_nothing_else_does() -> None:
    for make in (chunks, classes):
        torch.manual_seed(1)
        once = make(seed=3, shuffle=True)
        torch.manual_seed(2)
        again, other = make(seed=3, shuffle=True), make(seed=4, shuffle=True)
        assert parts(once) == parts(again)
        assert parts(once) != parts(other)


def test_global_random_states_stay_as_they_were() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with streams.own_random():
        torch.manual_seed(5)
        np.random.seed(5)
        random.seed(5)
    assert random.getstate() == before[2]
    chunks(shuffle=True)
    classes()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_chunks_are_those_of_avalanches_benchmark() -> None:
    from avalanche.benchmarks import nc_benchmark, ni_benchmark
    from torch.utils.data import TensorDataset

    sets = [TensorDataset(labels, labels) for labels in (LABELS, TEST_LABELS)]
    with streams.own_random():
        ni = ni_benchmark(*sets, 3, shuffle=True, seed=42, balance_experiences=True)
        nc = nc_benchmark(*sets, 3, task_labels=True, shuffle=True, seed=1234)
    for experience, task in zip(ni.train_stream, chunks(shuffle=True).tasks, strict=True):
        assert list(experience.dataset.targets) == label_of(task.train).tolist()
    assert [len(ni.test_stream), len(ni.test_stream[0].dataset)] == [1, len(TEST_ROWS)]
    made = classes(labels=True)
    for experience, task in zip(nc.train_stream, made.tasks, strict=True):
        assert tuple(experience.classes_in_this_experience) == task.classes
        assert experience.task_label == task.label
    assert parts(made) == [ROWS[part].tolist() for part in nc.train_exps_patterns_assignment]


def test_class_tasks_share_no_class_and_test_on_their_own() -> None:
    made = classes()
    seen = [label for task in made.tasks for label in task.classes]
    assert sorted(seen) == list(range(CLASSES))
    for task in made.tasks:
        assert set(label_of(task.train).tolist()) == set(task.classes)
        assert set(TEST_LABELS[task.test - 500].tolist()) == set(task.classes)
        assert len(task.test) == 2 * TESTED
    assert not made.shared_test
    assert [task.classes for task in classes(shuffle=False).tasks] == [(0, 1), (2, 3), (4, 5)]


def test_task_labels_number_the_tasks_and_mask_the_test() -> None:
    assert [task.label for task in classes(labels=True).tasks] == [0, 1, 2]
    assert classes(labels=True).masked
    assert [task.label for task in classes().tasks] == [0, 0, 0]
    assert not classes().masked


def test_splits_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(DataError, match="a divisor of the 6 classes, got 4"):
        classes(experiences=4)
    with pytest.raises(DataError, match=r"at most the 10 training rows .* got 11"):
        chunks(experiences=11)
    some = TEST_LABELS < 5
    with pytest.raises(DataError, match="the 6 classes of the training rows, got 5"):
        streams.class_tasks(
            *(ROWS, LABELS, TEST_ROWS[some], TEST_LABELS[some], 3),
            seed=0,
            shuffle=False,
            task_labels=False,
        )
    with pytest.raises(DataError, match="got 60 and 0 in domain 1"):
        streams.domain_tasks([(ROWS, TEST_ROWS), (ROWS, TEST_ROWS[:0])])


def test_chunks_need_no_class_numbers_without_gaps() -> None:
    made = streams.iid_chunks(
        ROWS, LABELS * 7, TEST_ROWS, TEST_LABELS * 7, 3, seed=42, shuffle=False
    )
    assert [task.train.tolist() for task in made.tasks] == [
        t.train.tolist() for t in chunks().tasks
    ]
    assert made.tasks[0].classes == (0, 7, 14, 21, 28, 35)


def test_a_domain_is_a_task() -> None:
    made = streams.domain_tasks([(ROWS, TEST_ROWS), (ROWS + 1000, TEST_ROWS + 1000)], range(6))
    assert [int(task.train[0]) for task in made.tasks] == [100, 1100]
    assert [int(task.test[0]) for task in made.tasks] == [500, 1500]
    assert made.tasks[1].classes == tuple(range(6))
    assert not made.shared_test


def images() -> Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=drawn)


def test_permuted_domains_move_pixels_alike_in_all_images_and_channels() -> None:
    pixels = images()
    first, second, third = streams.permuted(pixels, 3, torch.Generator().manual_seed(0))
    assert first is pixels
    flat, moved = pixels.reshape(15, 64), second.reshape(15, 64)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(moved, flat[:, order])
    assert torch.equal(third.flatten(1).sort().values, pixels.flatten(1).sort().values)
    assert not torch.equal(second, third)
    again = streams.permuted(pixels[:2], 3, torch.Generator().manual_seed(0))
    assert torch.equal(again[2], third[:2])


def test_rotated_domains_turn_counter_clockwise() -> None:
    pixels = images()
    plain, quarter, half, eighth = streams.rotated(pixels, [0, 90, 180, 45.0])
    assert plain is pixels
    assert torch.equal(quarter, torch.rot90(pixels, 1, (2, 3)))
    assert torch.equal(half, pixels.flip(2, 3))
    assert eighth.shape == pixels.shape
    assert not eighth[:, :, 0, 0].any()  # a corner that comes into view
