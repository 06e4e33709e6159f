"""Runs of the cut study and of its clusters, read from rows, by cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from carryover.claims import published
from carryover.errors import DataError
from carryover.rows import Row

RELEASED = "original"  # preset of the released results
BY_TEST = (RELEASED, "published")  # presets whose protocol chooses a cut on test images
BASELINE_CUT = -1
CLUSTERED = ("agglomerative", "finetune")  # published: method, and images


class Key(NamedTuple):
    """A cell of the cut study; the baseline has cut -1."""

    pair: str
    setting: str
    fraction: float
    cut: int


class Layer(NamedTuple):
    """A cell of the cluster study; `depth` is 1 for the first convolution, ``conv0``."""

    pair: str
    fraction: float
    depth: int


@dataclass(frozen=True)
class Cell:
    """Accuracies of one cell by repeat, each over the same `n` images."""

    values: dict[int, float]
    n: int


@dataclass(frozen=True)
class Runs:
    """Rows by cell.

    Attributes:
        test, train: accuracies of the cut study.
        ari: adjusted Rand index of a layer's clusters by repeat.
        released: they are the originals' released results.
        validation: accuracies that cuts are chosen by; none where test accuracies choose.
    """

    test: dict[Key, Cell]
    train: dict[Key, Cell]
    ari: dict[Layer, dict[int, float]]
    released: bool
    validation: dict[Key, Cell] = field(default_factory=dict)

    def pairs(self) -> list[str]:
        return sorted({key.pair for key in self.test})

    def has(self, pair: str, setting: str) -> bool:
        """Whether a setting was run; ``clusters`` asks for the cluster study."""
        if setting == "clusters":
            return any(layer.pair == pair for layer in self.ari)
        return any(key[:2] == (pair, setting) for key in self.test)

    def fractions(self, pair: str) -> list[float]:
        """Fractions of the training images: the published ones, or those of an own pair."""
        if pair in published.FRACTIONS_OF:
            return list(published.FRACTIONS_OF[pair])
        found = {key.fraction for key in self.test if key.pair == pair}
        return sorted(found)

    def cuts(self, pair: str, setting: str) -> list[int]:
        """Cuts of a setting: the published ones, or those of an own pair.

        Raises:
            NotRun: an own pair has fewer than two.
        """
        if pair in published.CUTS:
            return list(published.CUTS[pair])
        found = sorted({key.cut for key in self.test if key[:2] == (pair, setting)})
        if len(found) < 2:
            raise NotRun(f"two cuts of {setting}")
        return found

    def ample(self, pair: str) -> list[float]:
        """Fractions of a half and more, the largest first; of an own pair at least the largest."""
        fractions = self.fractions(pair)[::-1]
        return [fraction for fraction in fractions if fraction >= 0.5] or fractions[:1]

    def keys(self, pair: str, setting: str, fraction: float) -> list[Key]:
        """Cells of a setting at one fraction, cuts ascending; the baseline is one cell."""
        cuts = [BASELINE_CUT] if setting == "baseline" else self.cuts(pair, setting)
        return [Key(pair, setting, fraction, cut) for cut in cuts]

    def need(self, keys: Iterable[Key]) -> None:
        """Raise `NotRun` with all of these that hold fewer than two repeats."""
        lacking = {k for k in keys if k not in self.test or len(self.test[k].values) < 2}
        if lacking:
            raise NotRun(described(lacking))

    def table(self, keys: Sequence[Key]) -> Float[np.ndarray, "cells repeats"]:
        """Test accuracies of cells, one column a repeat that all of them have.

        Raises:
            NotRun: fewer than two repeats in common.
        """
        repeats = self._common(keys)
        return np.array([[self.test[key].values[r] for r in repeats] for key in keys])

    def choosing(self, keys: Sequence[Key]) -> Float[np.ndarray, "cells repeats"]:
        """Accuracies to choose among cells by, as in `table`: see `chosen_on`."""
        found = self.validation or self.test
        repeats = self._common(keys)
        return np.array([[found[key].values[r] for r in repeats] for key in keys])

    @property
    def chosen_on(self) -> str:
        """Which images choose a cut: ``validation``, or ``test`` where the protocol has it so."""
        return "validation" if self.validation else "test"

    def _common(self, keys: Sequence[Key]) -> list[int]:
        self.need(keys)
        repeats = set.intersection(*(set(self.test[key].values) for key in keys))
        if len(repeats) < 2:
            raise NotRun(f"two repeats in common of {described(keys)}")
        return sorted(repeats)

    def images(self, keys: Iterable[Key]) -> dict[str, int]:
        """Images that each setting was tested on."""
        return {key.setting: self.test[key].n for key in keys}

    def need_same_images(self, keys: Iterable[Key]) -> None:
        """Raise `NotRun` where settings were tested on different images, as their numbers tell."""
        images = self.images(keys)
        if len(set(images.values())) > 1:
            tested = ", ".join(f"{setting} on {n}" for setting, n in images.items())
            raise NotRun(f"settings on the same test images (tested: {tested})")

    def step(self, keys: Sequence[Key]) -> float:
        """What accuracies of these cells are rounded to, the coarsest."""
        return 1 / min(self.test[key].n for key in keys)


class NotRun(Exception):
    """Cells that a claim needs are not there; the text names them."""


def described(keys: Iterable[Key]) -> str:
    """Cells in words: ``fr at 0.1 % (cut 4, 5), baseline at 1 %``."""
    parts = []
    for (setting, fraction), group in groupby(sorted(keys, key=_order), key=_place):
        cuts = ", ".join(str(key.cut) for key in group if key.cut >= 0)
        parts.append(f"{setting} at {share(fraction)}" + (f" (cut {cuts})" if cuts else ""))
    return ", ".join(parts)


def _order(key: Key) -> tuple[str, float, int]:
    return key[1:]


def _place(key: Key) -> tuple[str, float]:
    return key.setting, key.fraction


def share(fraction: float) -> str:
    """``0.1 %`` for 0.001."""
    return f"{100 * fraction:.4g} %"


def gather(rows: Iterable[Row]) -> Runs:
    """Cells of the cut study, and of the cluster study as the final state did it.

    Those are agglomerative clusters of the images to fine-tune on. Released runs at another
    learning rate, and second runs of a repeat, are left out: their cells say ``lr`` or ``trial``.

    Raises:
        DataError: two values for one repeat, or released and other rows together.
    """
    accuracies: dict[str, dict[Key, Cell]] = {"test": {}, "train": {}, "validation": {}}
    ari: dict[Layer, dict[int, float]] = {}
    rows = [row for row in rows if not {"lr", "trial"} & row.cell.keys()]
    clusters = [row for row in rows if row.study == "clusters" and row.metric == "ari"]
    for row in rows:
        if row.study == "cuts" and row.metric == "accuracy" and row.split in accuracies:
            key = Key(row.cell["pair"], row.item, row.cell["fraction"], row.cell["cut"])
            _add_(accuracies[row.split].setdefault(key, Cell({}, row.n)).values, row)
    for row in clusters:
        number = str(row.cell["layer"]).removeprefix("conv")
        kind = (row.cell["method"], row.cell["images"])
        if kind == CLUSTERED and number.isdigit():
            layer = Layer(row.cell["pair"], row.cell["fraction"], int(number) + 1)
            _add_(ari.setdefault(layer, {}), row)
    released = {row.preset == RELEASED for row in rows}
    if len(released) > 1:
        raise DataError("expected released rows or others, got both; decide claims for each alone")
    test, validation = accuracies["test"], accuracies["validation"]
    lacking = any(
        key not in validation or not cell.values.keys() <= validation[key].values.keys()
        for key, cell in test.items()
    )
    by_test = lacking or any(row.preset in BY_TEST for row in rows)
    return Runs(test, accuracies["train"], ari, released == {True}, {} if by_test else validation)


def _add_(values: dict[int, float], row: Row) -> None:
    if row.cell["repeat"] in values:
        raise DataError(
            f"expected one {row.metric} a repeat, got two for {row.item} {row.cell}; read rows of "
            "one preset and state alone"
        )
    values[row.cell["repeat"]] = row.value
