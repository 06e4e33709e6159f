"""Which images the original cut study's accuracies are over: its pairs of sets, and their sizes.

The released files hold accuracies, no counts. An accuracy is a count divided by the size of a set,
so that the sets it can be over are few, and among the known ones there is one.

Source: ``tusharmanekar/mp-tl-study`` at 8c95619 and 02c3591; images of each class as counted in
the published sets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carryover.errors import DataError

VALIDATION_SHARE = 0.1  # of the target's training images; the rest is sampled from
LARGEST_SET = 60_000
DECIMALS = 4  # of the rounded accuracies in some seed-era files
UNKNOWN = "unknown images"

MNIST = (
    (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
)
FASHION_MNIST = ((6000,) * 10, (1000,) * 10)
CIFAR10 = ((5000,) * 10, (1000,) * 10)
ALL = tuple(range(10))


@dataclass(frozen=True)
class Pair:
    """Source and target of the files in one of the original's folders.

    Attributes:
        source, target: class ids, of the ``regular`` choice where there are several.
        images: of each class of the target's set, in its train and test part.
        whole: images sampled at 100 %, where some class has fewer than its share.
    """

    folder: str
    source: tuple[int, ...]
    target: tuple[int, ...]
    images: tuple[tuple[int, ...], tuple[int, ...]]
    whole: int


PAIRS = {
    "mnist": Pair("MNIST", ALL[:5], ALL[5:], MNIST, 26038),
    "fashion-mnist": Pair("FashionMNIST", (0, 1, 2, 3, 4, 6, 8), (5, 7, 9), FASHION_MNIST, 16196),
    "cifar10": Pair("CIFAR", (0, 1, 8, 9), (2, 3, 4, 5, 6, 7), CIFAR10, 26946),
    "mnist-to-fashion-mnist": Pair("MNIST_to_FashionMNIST", ALL, ALL, FASHION_MNIST, 53897),
    "fashion-mnist-to-mnist": Pair("FashionMNIST_to_MNIST", ALL, ALL, MNIST, 53006),
}
CHOICES = ("random", "reverse")  # of classes, beside the regular one
# In FashionMNIST's folder, with accuracies over the 4861 test images of MNIST's classes 5 to 9.
MISFILED = {"baselines_freeze_True_pool_False_lr_0.001_dummy_run_MNIST": "mnist"}


@dataclass(frozen=True)
class Sets:
    """The sets of one file.

    Attributes:
        name: the pair, with the choice of classes unless it is the regular one.
        pair: None where the file's own folder and class lists are not among the original's.
        classes: of the target.
    """

    name: str
    pair: Pair | None
    classes: tuple[int, ...]

    def tested(self, accuracies: Sequence[float]) -> tuple[int, str]:
        """Size of the set that all accuracies are over, and which part it is."""
        if self.pair is None:
            return _smallest(accuracies), UNKNOWN
        train, test = (sum(part[c] for c in self.classes) for part in self.pair.images)
        for n, part in ((test, "test images"), (train, "train images")):
            if fits(accuracies, n):
                return n, part
        return test, UNKNOWN

    def trained(self, fraction: float, accuracies: Sequence[float] = ()) -> int:
        """Images sampled for training at a fraction: as many from each class.

        A class with fewer than its share gives all it has, and a trial run held out a larger
        validation part, so it is the largest number up to the share that all accuracies fit.
        """
        if self.pair is None:
            return _smallest(accuracies)
        images = sum(self.pair.images[0][c] for c in self.classes)
        share = (images - int(VALIDATION_SHARE * images)) * fraction / len(self.classes)
        most = int(share) * len(self.classes)
        if fraction == 1 and self.classes == self.pair.target:
            most = self.pair.whole
        return next((n for n in range(most, 0, -1) if fits(accuracies, n)), most)


def sets_of(path: Path, parameters: Mapping[str, Any], tested: Sequence[float]) -> Sets:
    """The sets of a file: by its folder, else by its class lists if the test accuracies fit.

    Args:
        tested: the file's test accuracies, or none.
    Raises:
        DataError: a class of the target that its set does not have.
    """
    choice = next((f"-{c}" for c in CHOICES if f"{c}_classes" in path.name), "")
    lists = tuple(
        tuple(sorted(parameters.get(key) or ()))
        for key in ("pre_train_classes", "fine_tune_classes")
    )
    folders = {pair.folder: name for name, pair in PAIRS.items()}
    above = [folders[part] for part in reversed(path.resolve().parts[:-1]) if part in folders]
    for name in [MISFILED[path.stem]] if path.stem in MISFILED else above[:1]:
        pair = PAIRS[name]
        # trial runs between data sets carry the class lists of another study
        chosen = lists[1] if lists[1] and pair.target != ALL else pair.target
        if not set(chosen) <= set(ALL):
            raise DataError(
                f"{path}: fine_tune_classes: expected classes from 0 to 9, got {list(chosen)}; "
                "correct the file"
            )
        return Sets(name + choice, pair, chosen)
    for name, pair in PAIRS.items():
        sets = Sets(name, pair, pair.target)
        if lists == (pair.source, pair.target) != (ALL, ALL) and sets.tested(tested)[1] != UNKNOWN:
            return sets
    return Sets(slug(path.resolve().parent.name) + choice, None, lists[1])


def slug(name: str) -> str:
    """A folder's name as the name of a pair: a-z, 0-9 and -."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unknown"


def choice_of(name: str) -> str:
    """The choice of classes in a pair's name, ``regular`` where it names none."""
    return next((choice for choice in CHOICES if name.endswith(f"-{choice}")), "regular")


def folder_of(name: str) -> str:
    """The original's folder of a pair, or the pair's own name."""
    known = PAIRS.get(name.removesuffix(f"-{choice_of(name)}"))
    return known.folder if known else name


def fits(accuracies: Sequence[float], n: int) -> bool:
    """Whether each accuracy is a count among n, exactly or rounded to four decimals."""
    values = np.asarray(accuracies, dtype=np.float64)
    counted = np.rint(values * n) / n
    exact = np.abs(values - counted) < 1e-12
    rounded = (values == values.round(DECIMALS)) & (counted.round(DECIMALS) == values)
    return bool((exact | rounded).all())


def _smallest(accuracies: Sequence[float]) -> int:
    """The smallest set that all accuracies can be over; the largest known one if there is none."""
    return next((n for n in range(1, LARGEST_SET) if fits(accuracies, n)), LARGEST_SET)
