"""Dividing images into train and validation, and drawing smaller training sets.

The published cut study (section 'Protocol' of its notes) holds out an unstratified tenth and draws
equally many images of each class; both are here beside their corrected forms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from carryover import run
from carryover.errors import ConfigError, DataError

Rule = Literal["equal", "proportional"]


def hold_out(
    labels: Int64[Tensor, " n"], fraction: float, generator: torch.Generator, stratified: bool
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
    """Rows to train on and rows held out.

    Args:
        fraction: share to hold out, 0 <= fraction < 1.
        stratified: hold out ``round(fraction * n_class)`` images of each class, both results
            sorted; else ``int(fraction * n)`` images of a permutation of all rows, in its order,
            exactly as ``torch.utils.data.random_split`` with this generator.
    Raises:
        ConfigError: the fraction is outside its range.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(
            f"fraction: expected a share of at least 0 and below 1 to hold out, got {fraction}"
        )
    if not stratified:
        rows = torch.randperm(len(labels), generator=generator)
        kept = len(labels) - int(fraction * len(labels))
        return rows[:kept], rows[kept:]
    held = torch.zeros(len(labels), dtype=torch.bool)
    for rows in _shuffled_classes(labels, generator):
        held[rows[: round(fraction * len(rows))]] = True
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def expect_some(held: Int64[Tensor, " held"], path: str) -> None:
    """Refuse an empty validation set; `path` is the parameter that made it.

    Raises:
        ConfigError: no image is held out.
    """
    if not len(held):
        raise ConfigError(
            f"{path}: expected a share that holds out at least one image, got one that holds out "
            "none; raise it"
        )


def expect_each(
    labels: Int64[Tensor, " n"],
    kept: Int64[Tensor, " kept"],
    held: Int64[Tensor, " held"],
    path: str,
) -> None:
    """Refuse an empty validation set, and one that leaves no image of some class to train on.

    Args:
        labels: of all images; `kept`, `held` are rows of them, `path` the parameter that parts
            them.
    Raises:
        ConfigError: no image is held out, or all of a class are.
    """
    expect_some(held, path)
    if len(labels[kept].unique()) < len(labels.unique()):
        raise ConfigError(
            f"{path}: expected a share that leaves at least one image of each class to train on, "
            "got one that leaves none of some class; lower it"
        )


def expect_left(labels: Int64[Tensor, " kept"], fraction: float, images: int, path: str) -> None:
    """Refuse to train on what is left beside a validation set where that is less than two classes.

    Args:
        labels: of the images left.
        fraction: the share held out, of `images`; `path` is the parameter that it is.
    Raises:
        ConfigError: images of one class or none are left.
    """
    classes = len(labels.unique())
    if classes < 2:
        raise ConfigError(
            f"{path}: expected a share that leaves images of two classes or more to train on, got "
            f"{fraction:g} of {images} images, which leaves {classes}; lower it"
        )


def with_test(
    labels: Sequence[int], splits: Sequence[str], fraction: float, generator: torch.Generator
) -> list[str]:
    """Split names as given, or a stratified share of ``train`` made ``test`` where there is none.

    Raises:
        ConfigError: the fraction is not a share.
        DataError: no image would be in test.
    """
    rows = [row for row, split in enumerate(splits) if split == "train"]
    named = list(splits)
    if "test" in named or not rows:
        return named
    kept = torch.tensor([labels[row] for row in rows])
    _, held = hold_out(kept, fraction, generator, stratified=True)
    if not len(held):
        raise DataError(
            f"data.test_fraction: expected a share that gives test images, got none from {fraction}"
            f" of {len(rows)} images; raise it"
        )
    for position in held.tolist():
        named[rows[position]] = "test"
    return named


def random_parts(count: int, share: float, seed: int) -> list[str]:
    """``train`` for ``int(share * count)`` rows drawn from all, ``test`` for the rest.

    The rows are those that ``torch.utils.data.random_split`` draws with a generator of this seed.
    """
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    named = ["test"] * count
    for row in drawn[: int(share * count)]:
        named[row] = "train"
    return named


def repeat_generator(seed: int, seeding: str, repeat: int) -> torch.Generator:
    """What draws a repeat's training images in every study of cut networks.

    Args:
        seeding: ``purpose``: a stream of the run's seed; ``repeat``: the repeat is the seed, as
            published.
    """
    if seeding == "repeat":
        return torch.Generator().manual_seed(repeat)
    return run.generator(seed, f"cuts/images/{repeat}")


def expect_other_sizes(sizes: Mapping[float, int], path: str) -> None:
    """Refuse two fractions that give equally many images; `path` is the parameter of both.

    Raises:
        ConfigError: names both.
    """
    first: dict[int, float] = {}
    for fraction, size in sizes.items():
        if size in first:
            raise ConfigError(
                f"{path}: expected each to give another number of images, got {size} from both "
                f"{first[size]} and {fraction}; take one out"
            )
        first[size] = fraction


def balanced_subset(
    labels: Int64[Tensor, " n"],
    fraction: float,
    generator: torch.Generator,
    per_class_rule: Rule = "equal",
    path: str = "fraction",
) -> Int64[Tensor, " drawn"]:
    """Rows of a smaller training set, class after class, drawn without replacement.

    One full permutation a class is drawn whatever the quota, so with one generator seed the rows
    of a smaller fraction are among those of a larger one.

    Args:
        fraction: of all images, 0 < fraction <= 1.
        per_class_rule: ``equal``: ``int(n * fraction / C)`` images of each class, and of a class
            with fewer all it has; ``proportional``: ``int(n_class * fraction)``.
        path: the parameter that holds the fraction, for messages.
    Raises:
        ConfigError: the fraction is outside its range.
        DataError: some class would give no image.
    Source: the published cut study, final state (``equal``).
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"{path}: expected a share above 0 and up to 1 to draw, got {fraction}")
    counts = [count for count in torch.bincount(labels).tolist() if count]
    if per_class_rule == "equal":
        quotas = [int(len(labels) * fraction / len(counts))] * len(counts)
        smallest = len(counts) / len(labels)
    else:
        quotas = [int(count * fraction) for count in counts]
        smallest = 1 / min(counts)
    if min(quotas) == 0:
        raise DataError(
            f"{path}: expected at least one image a class, got none from {fraction} of "
            f"{len(labels)} images in {len(counts)} classes; "
            f"the smallest usable fraction is {math.ceil(smallest * 1e6) / 1e6:g}"
        )
    classes = zip(_shuffled_classes(labels, generator), quotas, strict=True)
    return torch.cat([rows[:quota] for rows, quota in classes])


def _shuffled_classes(
    labels: Int64[Tensor, " n"], generator: torch.Generator
) -> Iterator[Int64[Tensor, " _"]]:
    for label in torch.bincount(labels).nonzero()[:, 0].tolist():
        rows = (labels == label).nonzero()[:, 0]
        yield rows[torch.randperm(len(rows), generator=generator)]
