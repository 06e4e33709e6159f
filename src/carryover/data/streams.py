"""Streams of tasks over the rows of a store: which rows train and which test, task after task.

Nothing here holds an image: a task is two lists of row numbers. Chunks and class splits are made by
Avalanche's own generators, so that a stream is the published one for the published seed. The
domains of a stream (permuted or rotated pixels, another set) are further rows of the store.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from carryover.errors import DataError

ROTATED_AT_ONCE = 4096  # images; bounds the memory that the float copies take


@dataclass(frozen=True, eq=False)
class Task:
    """One experience.

    Attributes:
        train, test: rows of the store.
        classes: that its training rows have.
        label: the task label, 0 where there is none.
    """

    train: Int64[Tensor, " n"]
    test: Int64[Tensor, " m"]
    classes: tuple[int, ...]
    label: int


@dataclass(frozen=True, eq=False)
class Stream:
    """Tasks in order.

    Attributes:
        shared_test: every task is tested on the same images (i.i.d. chunks).
        masked: the task label is used: only the classes of an image's task are trained and
            predicted. The published runs had labels and did not use them; ``dataclasses.replace``
            takes the mask off.
    """

    tasks: tuple[Task, ...]
    shared_test: bool
    masked: bool = False


def iid_chunks(
    train_rows: Int64[Tensor, " n"],
    train_labels: Int64[Tensor, " n"],
    test_rows: Int64[Tensor, " m"],
    test_labels: Int64[Tensor, " m"],
    experiences: int,
    *,
    seed: int,
    shuffle: bool,
    balanced: bool = True,
) -> Stream:
    """The training rows cut into parts that each hold every class, all tested on all test rows.

    The split of Avalanche's ``ni_benchmark``, which others call domain-incremental: the parts come
    from one distribution, so nothing shifts from one to the next.

    Args:
        experiences: parts.
        seed, shuffle: unshuffled, each class's rows are cut in their order.
        balanced: classes are spread evenly over the parts.
    Raises:
        DataError: fewer training rows of some class than parts.
    """
    from avalanche.benchmarks import ni_benchmark

    fewest = int(train_labels.unique(return_counts=True)[1].min())
    if fewest < experiences:
        raise DataError(
            f"experiences: expected at most the {fewest} training rows of the smallest class, got "
            f"{experiences}; take fewer"
        )
    numbered = train_labels.unique(return_inverse=True)[1]  # Avalanche counts classes 0..c-1
    with own_random():
        made = ni_benchmark(
            _Labelled(numbered),
            _Labelled(test_labels),
            experiences,
            shuffle=shuffle,
            seed=seed,
            balance_experiences=balanced,
        )
    parts = [torch.tensor(part) for part in made.train_exps_patterns_assignment]
    tasks = [
        Task(train_rows[part], test_rows, _classes(train_labels[part]), label=0) for part in parts
    ]
    return Stream(tuple(tasks), shared_test=True)


def class_tasks(
    train_rows: Int64[Tensor, " n"],
    train_labels: Int64[Tensor, " n"],
    test_rows: Int64[Tensor, " m"],
    test_labels: Int64[Tensor, " m"],
    experiences: int,
    *,
    seed: int,
    shuffle: bool,
    task_labels: bool,
) -> Stream:
    """Equally many classes a task, each tested on its own: the split of ``nc_benchmark``.

    Args:
        seed, shuffle: order of the classes; unshuffled, ascending.
        task_labels: tasks are labelled 0, 1, ... and told apart: the logits of classes
            outside the image's task are masked (task-incremental); else all labels are 0 and any
            class can be predicted (class-incremental).
    Raises:
        DataError: the classes do not divide, or train and test have different ones.
    """
    from avalanche.benchmarks import nc_benchmark

    classes = _classes(train_labels)
    if len(classes) % experiences:
        raise DataError(
            f"experiences: expected a divisor of the {len(classes)} classes, got {experiences}; "
            "take one that leaves every task equally many"
        )
    if _classes(test_labels) != classes:
        raise DataError(
            f"test_labels: expected the {len(classes)} classes of the training rows, got "
            f"{len(_classes(test_labels))} classes that are not the same; mend the split"
        )
    with own_random():
        made = nc_benchmark(
            _Labelled(train_labels),
            _Labelled(test_labels),
            experiences,
            task_labels,
            shuffle=shuffle,
            seed=seed,
        )
    parts = zip(
        made.train_exps_patterns_assignment, made.test_exps_patterns_assignment, strict=True
    )
    tasks = [
        Task(train_rows[a], test_rows[b], _classes(train_labels[a]), i if task_labels else 0)
        for i, (a, b) in enumerate(parts)
    ]
    return Stream(tuple(tasks), shared_test=False, masked=task_labels)


def domain_tasks(
    domains: Sequence[tuple[Int64[Tensor, " _"], Int64[Tensor, " _"]]], classes: Sequence[int] = ()
) -> Stream:
    """One task a domain: the same classes, other images; no task label.

    Args:
        domains: training and test rows of each, in order.
        classes: that every domain has.
    Raises:
        DataError: a domain without training or test rows.
    """
    for i, (train, test) in enumerate(domains):
        if not len(train) or not len(test):
            raise DataError(
                f"domains: expected training and test rows in each, got {len(train)} and "
                f"{len(test)} in domain {i}; take it out or give it rows"
            )
    tasks = [Task(train, test, tuple(classes), label=0) for train, test in domains]
    return Stream(tuple(tasks), shared_test=False)


def permuted(
    pixels: UInt8[Tensor, "n c h w"], experiences: int, generator: torch.Generator
) -> list[UInt8[Tensor, "n c h w"]]:
    """The images as they are, then with their pixels in one new order a domain.

    All images and channels of a domain share the order. From one state of the generator training
    and test images get the same orders.
    """
    n, c, h, w = pixels.shape
    orders = [torch.randperm(h * w, generator=generator) for _ in range(experiences - 1)]
    flat = pixels.reshape(n, c, h * w)
    return [pixels] + [flat[:, :, order].reshape(n, c, h, w) for order in orders]


def rotated(
    pixels: UInt8[Tensor, "n c h w"], degrees: Sequence[float]
) -> list[UInt8[Tensor, "n c h w"]]:
    """The images turned counter-clockwise by so many degrees a domain; 0 leaves them as they are.

    Bilinear, same size, corners that come into view are black.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import rotate

    def turned(angle: float) -> Tensor:
        parts = pixels.split(ROTATED_AT_ONCE)
        return torch.cat([rotate(part, angle, InterpolationMode.BILINEAR) for part in parts])

    return [turned(angle) if angle % 360 else pixels for angle in degrees]


@contextmanager
def own_random() -> Iterator[None]:
    """Put the global random states of torch, NumPy and Python, which Avalanche sets, back after."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class _Labelled(Dataset[int]):
    """As much of a data set as Avalanche needs to split it: its labels, as plain numbers."""

    def __init__(self, labels: Tensor) -> None:
        self.targets: list[int] = labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> int:
        return row


def _classes(labels: Tensor) -> tuple[int, ...]:
    return tuple(labels.unique().tolist())
