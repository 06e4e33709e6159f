"""Which test images trainings of the continual study had right at the end, from predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from carryover.measure.crossed import crossed
from carryover.measure.statistics import Interval

FILE = "predictions.parquet"


class Place(NamedTuple):
    """One test of one training on the whole stream; `freeze` is "" unless partly frozen."""

    item: str
    stream: str
    protocol: str
    strategy: str
    features: str
    head: str
    encoder: str
    freeze: str
    seed: int
    experience: int


class Answers(NamedTuple):
    """Answers of one test, in the order of its stream.

    Attributes:
        tasks: the task that tests each image, from 0; 0 where all share their images.
        ids: of the photographs within their set.
    """

    tasks: Int64[np.ndarray, " n"]
    ids: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]


Tests = Mapping[Place, Answers]


def read(folder: Path, items: Iterable[str]) -> Tests:
    """Answers of every test; none of items whose file is not there.

    Args:
        folder: with a folder an item.
    """
    import pyarrow.parquet as pq

    axes = [axis for axis in Place._fields if axis != "item"]
    found: dict[Place, Answers] = {}
    for item in items:
        path = folder / item / FILE
        if not path.exists():
            continue
        table = pq.read_table(path, columns=[*axes, "task", "id", "label", "prediction"])
        if not table.num_rows:
            continue
        codes = np.stack(
            [table[axis].combine_chunks().dictionary_encode().indices.to_numpy() for axis in axes]
        )
        begins = np.flatnonzero((codes[:, 1:] != codes[:, :-1]).any(axis=0)) + 1
        tasks, ids, labels, named = (
            np.split(table[name].to_numpy(), begins)
            for name in ("task", "id", "label", "prediction")
        )
        places = table.select(axes).take(np.r_[0, begins]).to_pylist()
        for i, place in enumerate(places):
            right = labels[i] == named[i]
            found[Place(item=item, **place)] = Answers(tasks[i], ids[i], labels[i], right)
    return found


class Photographs(NamedTuple):
    """How often each photograph was right, by what tells it from others, ascending.

    Attributes:
        by_task: they are told apart by the task too, whose place differs from seed to seed.
        right: the share of its answers, where several tasks show it.
    """

    by_task: bool
    names: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    right: Float[np.ndarray, " n"]


def photographs(answers: Answers, repeats: bool) -> Photographs:
    """A test by photograph.

    Args:
        repeats: all tasks show the same photographs; else equal ids of two tasks are of two sets.
    """
    ids = answers.ids
    by_task = not repeats and len(np.unique(ids)) < len(ids)
    if by_task:
        ids = answers.tasks * (ids.max() + 1) + ids
    names, first, at, counts = np.unique(
        ids, return_index=True, return_inverse=True, return_counts=True
    )
    shares = np.bincount(at, answers.right) / counts
    return Photographs(by_task, names, answers.labels[first], shares)


def difference(a: Sequence[Photographs], b: Sequence[Photographs]) -> tuple[Interval, float] | None:
    """Mean over seeds of a - b, its 95 % interval for other seeds and photographs, and its p.

    Args:
        a, b: a test a seed, one or more.
    Returns:
        None where the tests are not all on the same photographs, or where that is not known: equal
        ids of several sets, which may come in another order with each seed.
    Source: `measure.crossed`.
    """
    first = a[0]
    if len(a) > 1 and any(each.by_task for each in (*a, *b)):
        return None
    for each in (*a, *b):
        same = np.array_equal(each.names, first.names) and np.array_equal(each.labels, first.labels)
        if not same:
            return None
    table = np.stack([x.right - y.right for x, y in zip(a, b, strict=True)])
    return crossed([table], [1.0], step=1 / len(first.names))
