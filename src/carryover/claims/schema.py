"""``claims/schema.yaml``: items, axes and metrics that the rows of each study may have.

With it a claim can be written, and checked, before its study is built.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carryover.config import reader
from carryover.errors import ConfigError, listed

KINDS = {"text": str, "number": int | float, "integer": int, "repeat": int}
KEYS = {"axes", "items", "metrics"}


@dataclass(frozen=True)
class Schema:
    """What rows of one study may hold.

    Attributes:
        axes: name and kind of each axis of a cell; ``repeat`` numbers the repeats.
        findings: quantities of the study that are functions of their own (``CLAIMS`` of a study).
        needs: what a run of a preset wants beyond the project, by preset, in words.
    """

    study: str
    items: tuple[str, ...]
    axes: dict[str, str]
    metrics: tuple[str, ...]
    findings: tuple[str, ...] = ()
    needs: dict[str, str] = field(default_factory=dict)

    @property
    def repeats(self) -> tuple[str, ...]:
        """Axes that number repeats."""
        return tuple(axis for axis, kind in self.axes.items() if kind == "repeat")

    def expect_metric(self, name: str, where: str) -> None:
        """Raise `ConfigError` where rows of the study have no such metric."""
        if name not in self.metrics:
            raise ConfigError(
                f"{where}: expected a metric of {self.study} ({listed(self.metrics)}) or a "
                f"function, got {name!r}; add it to claims/schema.yaml if its rows will have it"
            )

    def expect_open(self, axes: tuple[str, ...], fixed: dict[str, Any], where: str) -> None:
        """Raise `ConfigError` also where rows have one of `axes` not, or it has a value already."""
        lacking = [axis for axis in axes if axis not in self.axes or axis in fixed]
        if lacking:
            raise ConfigError(
                f"{where}: expected rows by {listed(axes)}, all of them left open, got "
                f"{self.study}'s without {listed(lacking)}; take another function"
            )
        self.expect_axes(fixed, where)

    def expect_axes(self, fixed: dict[str, Any], where: str) -> None:
        """Raise `ConfigError` where an axis is unknown, numbers repeats, or has another type.

        Args:
            fixed: values by axis; ``item`` and ``split`` too; None where only the name counts.
        """
        for axis, value in fixed.items():
            if axis == "split":
                allowed: Iterable[str] = ("train", "validation", "test")
            elif axis == "item":
                allowed = self.items
            elif axis in self.axes and self.axes[axis] != "repeat":
                if value is not None and not isinstance(value, KINDS[self.axes[axis]]):
                    raise ConfigError(
                        f"{where}: expected {axis} as {self.axes[axis]}, got {value!r}"
                    )
                continue
            else:
                open_axes = [name for name, kind in self.axes.items() if kind != "repeat"]
                raise ConfigError(
                    f"{where}: expected an axis of {self.study} ({listed(open_axes)}), item or "
                    f"split, got {axis!r}; repeats are never fixed"
                )
            if value is not None and value not in allowed:
                raise ConfigError(f"{where}: expected {axis} {listed(allowed)}, got {value!r}")


def read(path: Path, findings: dict[str, tuple[str, ...]]) -> dict[str, Schema]:
    """Schemas by study.

    Raises:
        ConfigError: a study without items, axes or metrics, or an axis of an unknown kind.
    """
    found = {}
    for study, entry in reader.load(path).items():
        parts = entry if isinstance(entry, dict) else {}
        maps = (parts.get("axes"), parts.get("needs", {}))
        whole = KEYS <= set(parts) <= KEYS | {"needs"}
        if not whole or not all(isinstance(each, dict) for each in maps):
            raise ConfigError(
                f"{path}: {study}: expected items, axes and metrics, and needs or none, got "
                f"{entry!r}"
            )
        wrong = {axis: kind for axis, kind in parts["axes"].items() if kind not in KINDS}
        if wrong:
            raise ConfigError(f"{path}: {study}.axes: expected {listed(KINDS)}, got {wrong}")
        found[study] = Schema(
            study,
            tuple(map(str, parts["items"])),
            dict(parts["axes"]),
            tuple(map(str, parts["metrics"])),
            findings.get(study, ()),
            {str(preset): str(text) for preset, text in parts.get("needs", {}).items()},
        )
    return found
