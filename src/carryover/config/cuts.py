"""The ``cuts`` section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carryover.config.networks import Training, classes, shares
from carryover.config.reader import between, distinct, each_slug

Setting = Literal["fr", "f", "r", "none", "ft", "baseline"]


@dataclass(frozen=True)
class Cuts(Training):
    """The cut study."""

    preset: str
    pair: str
    pretrained: str
    dataset: str
    classes: tuple[int, ...]
    settings: tuple[Setting, ...]
    cuts: tuple[int, ...]
    fractions: tuple[float, ...]
    repeats: tuple[int, ...]
    sampling: Literal["equal", "proportional"]
    validation_images: Literal["all", "fraction"]
    lr_kept: float
    reinit_both_dense: bool
    precision: Literal["float32", "bfloat16"]
    seeding: Literal["purpose", "repeat"]
    test_on: Literal["test", "train"]
    best_by: Literal["validation", "test"]

    def faults(self) -> list[str]:
        found = super().faults() + classes(self.classes) + each_slug((self.pair,), "pair")
        found += between(self.lr_kept, "lr_kept", above=0.0)
        for name in ("settings", "cuts", "fractions"):
            found += distinct(getattr(self, name), name)
        if "baseline" not in self.settings:
            found.append("settings: expected 'baseline' among them, every gain is measured to it")
        if not {"fr", "f", "r", "ft"} & set(self.settings):
            found.append("settings: expected at least one of fr, f, r, ft, which have cuts")
        found += shares(self.fractions, self.repeats)
        return found


GRID = ("settings", "cuts", "fractions", "repeats", "best_by")  # which cells, not what is in one
