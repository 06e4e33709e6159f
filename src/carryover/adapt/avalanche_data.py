"""Avalanche's streams over row numbers, and the random streams that it draws from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carryover.data.streams import Stream
from carryover.run import generator


def benchmark(stream: Stream, labels: Tensor) -> tuple[Any, Any]:
    """Avalanche's training and test streams over the rows of a stream.

    A data set's item is a place in the list of all its stream's rows; a batch is rows, labels,
    experiences and task labels.
    """
    from avalanche.benchmarks import (
        benchmark_from_datasets,
        with_classes_timeline,
        with_task_labels,
    )

    labels = labels.cpu()
    tested = stream.tasks[:1] if stream.shared_test else stream.tasks
    made = with_task_labels(
        with_classes_timeline(
            benchmark_from_datasets(
                train=_datasets([(task.train, task.label) for task in stream.tasks], labels),
                test=_datasets([(task.test, task.label) for task in tested], labels),
            )
        )
    )
    return made.train_stream, made.test_stream


def _datasets(parts: Sequence[tuple[Tensor, int]], labels: Tensor) -> list[Any]:
    from avalanche.benchmarks.utils import (
        ConstantSequence,
        DataAttribute,
        TaskAwareSupervisedClassificationDataset,
    )

    look = _look(parts, labels)
    made, first = [], 0
    for rows, label in parts:
        attributes = [
            DataAttribute(labels[rows].tolist(), "targets"),
            DataAttribute(ConstantSequence(label, len(rows)), "targets_task_labels"),
        ]
        places = range(first, first + len(rows))
        made.append(
            TaskAwareSupervisedClassificationDataset(
                [places], data_attributes=attributes, collate_fn=look
            )
        )
        first += len(rows)
    return made


def _look(
    parts: Sequence[tuple[Tensor, int]], labels: Tensor
) -> Callable[[Sequence[int]], list[Tensor]]:
    rows = torch.cat([part for part, _ in parts])
    sizes = torch.tensor([len(part) for part, _ in parts])
    experiences = torch.arange(len(parts)).repeat_interleave(sizes)
    tasks = torch.tensor([label for _, label in parts]).repeat_interleave(sizes)

    def look(places: Sequence[int]) -> list[Tensor]:
        chosen = torch.tensor(places)
        found = rows[chosen]
        return [found, labels[found], experiences[chosen], tasks[chosen]]

    return look


def seed_all(seed: int, experience: int) -> None:
    """Start an experience's own random stream, which is all that Avalanche draws from."""
    number = generator(seed, f"stream/{experience}").initial_seed()
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)
