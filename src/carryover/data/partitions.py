"""Growing parts of a training set, and what one class folder too few or too many does to labels.

The published parts of Food-101 were made by hand and read with class ids by sorted folder name.
Here a part is drawn from the official split with the official class ids, and its counts are
checked; `shifted` makes the published fault on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Int64
from torch import Tensor

from carryover.errors import ConfigError, DataError

FOOD101_CLASSES = 101  # images of each class by part; source: the published study, its section 2
FOOD101_PER_CLASS = {0.01: 7, 0.1: 75, 0.2: 150, 0.3: 225, 0.4: 300, 0.5: 375}
FOOD101_PER_CLASS |= {0.6: 450, 0.7: 525, 0.8: 600, 0.9: 675, 1.0: 750}


def partition(
    labels: Int64[Tensor, " n"],
    fraction: float,
    generator: torch.Generator,
    path: str = "fraction",
) -> Int64[Tensor, " drawn"]:
    """Sorted rows of a part of a training set: ``floor(n_class * fraction)`` images a class.

    The whole order of every class is drawn whatever the fraction: from one state of the generator
    the rows of a smaller part are among those of a larger one.

    Args:
        fraction: 0 < fraction <= 1, taken as the decimal number it is written as.
        path: the parameter that holds the fraction, for messages.
    Raises:
        ConfigError: the fraction is outside its range.
        DataError: some class would give no image.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"{path}: expected a share above 0 and up to 1, got {fraction}")
    counts = torch.bincount(labels).tolist()
    quotas = [math.floor(Fraction(str(fraction)) * count) for count in counts]
    if min(quotas) == 0:
        raise DataError(
            f"{path}: expected at least one image of each class, got none of class "
            f"{quotas.index(0)} from {fraction} of its {counts[quotas.index(0)]} images; "
            "use a larger share"
        )
    drawn = []
    for label, quota in enumerate(quotas):
        rows = (labels == label).nonzero()[:, 0]
        drawn.append(rows[torch.randperm(len(rows), generator=generator)[:quota]])
    return torch.cat(drawn).sort().values


def expect_counts(
    labels: Int64[Tensor, " n"], per_class: int, class_names: Sequence[str], origin: str
) -> None:
    """Refuse a part that has not equally many images of each official class.

    Raises:
        DataError: a label outside the list, or a class with another count; names the first.
    """
    counts = torch.bincount(labels, minlength=len(class_names)).tolist()
    names = [*class_names, *["not in the list"] * (len(counts) - len(class_names))]
    wanted = [per_class] * len(class_names) + [0] * (len(counts) - len(class_names))
    wrong = [label for label, count in enumerate(counts) if count != wanted[label]]
    if wrong:
        raise DataError(
            f"{origin}: expected {per_class} images of each of {len(class_names)} classes, got "
            f"{counts[wrong[0]]} of class {wrong[0]} ({names[wrong[0]]!r}) and other counts in "
            f"{len(wrong) - 1} more; make the part again from the official split"
        )


@dataclass(frozen=True, eq=False)
class Shifted:
    """Training rows as a folder loader reads them from one folder too few or too many.

    Attributes:
        rows: of the training set; an added folder's images are copies, so rows repeat.
        labels: the class that each row is taken for.
        classes: outputs that a head needs for these labels.
    """

    rows: Int64[Tensor, " m"]
    labels: Int64[Tensor, " m"]
    classes: int


def shifted(
    labels: Int64[Tensor, " n"],
    rows: Int64[Tensor, " drawn"],
    class_names: Sequence[str],
    *,
    drop: Sequence[int] = (),
    add: Sequence[str] = (),
) -> Shifted:
    """The published fault: the training folder lacks class folders or has others beside them.

    A folder loader numbers folders by sorted name, the test folder is whole. So a training image's
    label is the class that has its folder's place in the whole list: one folder less lowers every
    later label by one, one more raises it. Without `drop` and `add` nothing changes
    (sorted rows stay as they are).

    An added folder holds copies of the images of the folder before it (of the one behind it where
    it is first). With more folders than classes the last label is C, for which a head of C outputs
    has no place: training stops with an error there, so such a run cannot have given a published
    number with the published 101-way head. Here the head is widened instead: `classes` is C + 1,
    and the new output is never right. With fewer folders the head keeps C outputs, as published.

    Args:
        rows: of the part, class ids as in `class_names`.
        drop: class ids whose folders are missing.
        add: names of further folders.
    Raises:
        ConfigError: an id that is no class, fewer than two folders left, or a name that is one.
    """
    whole = sorted(class_names)
    strange = [str(label) for label in drop if not 0 <= label < len(class_names)]
    taken = [name for name in add if name in whole]
    folders = sorted((set(whole) - {class_names[i] for i in drop if not strange}) | set(add))
    if strange or taken or len(set(folders) - set(add)) < 2:
        raise ConfigError(
            f"shift: expected class ids 0..{len(class_names) - 1} to drop that leave two classes, "
            f"and new names to add, got drop {list(drop)} and add {list(add)}; mend them"
        )
    official = {name: label for label, name in enumerate(class_names)}
    meant = [official[name] for name in whole] + list(range(len(whole), len(folders)))
    chosen, given = [], []
    for place, folder in enumerate(folders):
        source = official[folder if folder in official else _neighbour(folders, place, official)]
        part = rows[labels[rows] == source]
        chosen.append(part)
        given.append(torch.full_like(part, meant[place]))
    read = torch.cat(chosen)
    order = read.argsort(stable=True)
    return Shifted(read[order], torch.cat(given)[order], max(len(whole), len(folders)))


def _neighbour(folders: Sequence[str], place: int, official: dict[str, int]) -> str:
    """The class folder whose images an added one copies."""
    nearest = [*reversed(folders[:place]), *folders[place + 1 :]]
    return next(name for name in nearest if name in official)
