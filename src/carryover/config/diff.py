"""The ``diff`` section."""

from __future__ import annotations

import math
from dataclasses import dataclass

from carryover.config.reader import between


@dataclass(frozen=True)
class Pattern:
    """How far the metrics of a pattern may move (`measure.compare.Tolerance`)."""

    match: str
    absolute: float
    relative: float

    def faults(self) -> list[str]:
        numbers = {"absolute": self.absolute, "relative": self.relative}
        wrong = [
            f"{name}: expected a finite number of 0 or more, got {value}"
            for name, value in numbers.items()
            if not 0 <= value < math.inf
        ]
        return wrong + ([] if self.match else ["match: expected a pattern, got nothing"])


@dataclass(frozen=True)
class Diff:
    """What ``carryover diff`` lets pass."""

    level: float
    tolerances: tuple[Pattern, ...]

    def faults(self) -> list[str]:
        last = len(self.tolerances) - 1
        hidden = [i for i, one in enumerate(self.tolerances) if one.match == "*" and i < last]
        return between(self.level, "level", above=0.0, below=1.0) + [
            f"tolerances[{i}].match: expected '*' in the last entry alone, got it before others, "
            "which would never count; move it down"
            for i in hidden
        ]
