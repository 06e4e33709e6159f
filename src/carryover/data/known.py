"""Facts of data sets that are known by name. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["digits", "rendered", "parquet", "folder", "torchvision", "official"]


@dataclass(frozen=True)
class Dataset:
    """Facts of a known data set; a copy that differs from them is refused.

    Attributes:
        images: all splits together; None where it is not known.
        classes: class ids are 0..classes-1; None where it is not known.
        source: who made it, and its terms; "not sourced" where no word of the makers was found.
        splits: images per split; empty where the split is ours or not known. A copy may leave
            ``validation`` out.
        shape: channels, height and width; None where the size is chosen or differs.
        kind: how the official files are read; "" where there are none to find.
        torchvision_class: name in ``torchvision.datasets`` of what reads or fetches them, or none.
        places: folders below ``data.root`` where the official files may lie; the first that holds
            one of `present` counts.
        present: what shows that they are there, inside such a folder; "" is the folder itself.
        get: where to get the files by hand; "" where torchvision fetches them with a checksum.
        copies: other copies in use, by their images per split, and their classes.
    """

    images: int | None
    classes: int | None
    source: str
    splits: Mapping[str, int] = field(default_factory=dict)
    shape: tuple[int, int, int] | None = None
    kind: Literal["", "torchvision", "official"] = ""
    torchvision_class: str = ""
    places: tuple[str, ...] = ()
    present: tuple[str, ...] = ("",)
    get: str = ""
    copies: tuple[tuple[Mapping[str, int], int], ...] = ()


RENDERED = ("letters", "shapes", "textures", "colours", "world")  # drawn by `data.rendered`

SMALL: dict[str, Dataset] = {
    "digits": Dataset(
        images=1797,
        classes=10,
        source="handwritten digits of 8x8 px from UCI, shipped with scikit-learn (BSD-3-Clause)",
    ),
    "mnist": Dataset(
        images=70_000,
        classes=10,
        source="LeCun, Cortes, Burges; usually cited as CC BY-SA 3.0",
        splits={"train": 60_000, "test": 10_000},
        shape=(1, 28, 28),
        kind="torchvision",
        torchvision_class="MNIST",
        places=("MNIST",),
        present=("raw",),
    ),
    "fashion-mnist": Dataset(
        images=70_000,
        classes=10,
        source="Zalando Research; MIT",
        splits={"train": 60_000, "test": 10_000},
        shape=(1, 28, 28),
        kind="torchvision",
        torchvision_class="FashionMNIST",
        places=("FashionMNIST",),
        present=("raw",),
    ),
    "cifar10": Dataset(
        images=60_000,
        classes=10,
        source="Krizhevsky 2009; no licence found, not sourced",
        splits={"train": 50_000, "test": 10_000},
        shape=(3, 32, 32),
        kind="torchvision",
        torchvision_class="CIFAR10",
        places=("cifar-10-batches-py",),
    ),
    "cifar100": Dataset(
        images=60_000,
        classes=100,
        source="Krizhevsky 2009; no licence found, not sourced",
        splits={"train": 50_000, "test": 10_000},
        shape=(3, 32, 32),
        kind="torchvision",
        torchvision_class="CIFAR100",
        places=("cifar-100-python",),
    ),
}
