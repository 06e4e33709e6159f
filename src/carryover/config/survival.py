"""The ``survival`` section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carryover.config.reader import at_least, between, distinct


@dataclass(frozen=True)
class Survival:
    """What is left in adapted models of what they began as."""

    preset: str
    origins: tuple[Literal["cuts", "adapt", "continual", "sequence", "retrieval"], ...]
    pretrained_on: str | None
    images: int
    train_images: int
    neighbours: int
    l2: float
    mixes: tuple[float, ...]
    corruptions: tuple[Literal["blur", "brightness", "contrast", "pixelate", "jpeg"], ...]
    severity: int

    def faults(self) -> list[str]:
        found: list[str] = []
        for name in ("origins", "mixes", "corruptions"):
            found += distinct(getattr(self, name), name)
        found += at_least(self.images, "images", LEAST_IMAGES)
        found += at_least(self.train_images, "train_images", LEAST_IMAGES)
        found += at_least(self.neighbours, "neighbours", 1)
        if self.neighbours > self.train_images:
            found.append(
                f"neighbours: expected at most the {self.train_images} train_images, got "
                f"{self.neighbours}"
            )
        found += between(self.l2, "l2", above=0.0)
        if not {0.0, 1.0} <= set(self.mixes) or list(self.mixes) != sorted(self.mixes):
            found.append(
                f"mixes: expected ascending shares from 0.0, the start, to 1.0, the adapted model, "
                f"got {list(self.mixes)}"
            )
        elif not all(0 <= mix <= 1 for mix in self.mixes):
            found.append(f"mixes: expected shares in 0..1, got {list(self.mixes)}")
        if not 1 <= self.severity <= SEVERITIES:
            found.append(f"severity: expected 1 to {SEVERITIES}, got {self.severity}")
        return found


LEAST_IMAGES = 4  # that debiased CKA needs
SEVERITIES = 5
GRID = ("origins",)  # which models, not what is seen in one
