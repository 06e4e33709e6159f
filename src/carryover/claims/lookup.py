"""The observations that a term of a quantity stands for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from carryover.claims.functions import MATRICES, Key
from carryover.claims.observations import Observation
from carryover.claims.quantity import Term
from carryover.claims.runs import NotRun
from carryover.errors import ConfigError


def look_up(
    term: Term, observations: Iterable[Observation], repeat_axes: Sequence[str]
) -> dict[Any, dict[Key, Observation]]:
    """A term's observations by repeat (None where rows have none), then by open axes.

    Axes that have one value among them are closed. Where `after` is open, tests before any training
    (0) are left out of those after some: the released matrices have none.

    Raises:
        NotRun: none.
        ConfigError: two for one cell and repeat.
    """
    metric = "accuracy" if term.metric in MATRICES else term.metric
    cells: list[tuple[dict[str, Any], Any, Observation]] = []
    for each in observations:
        if each.metric != metric or each.split != term.split:
            continue
        axes = {"item": each.item, **each.cell}
        if any(axes.get(axis) != value for axis, value in term.fixed):
            continue
        repeat = tuple(axes.pop(axis) for axis in repeat_axes if axis in axes) or None
        for axis, _ in term.fixed:
            axes.pop(axis, None)
        cells.append((axes, repeat, each))
    if not cells:
        raise NotRun(str(term))
    if term.metric not in MATRICES and any(axes.get("after") for axes, _, _ in cells):
        cells = [cell for cell in cells if cell[0].get("after") != 0]
    names = {axis for axes, _, _ in cells for axis in axes}
    keep = {axis for axis in names if len({axes.get(axis) for axes, _, _ in cells}) > 1}
    if term.metric in MATRICES:
        keep |= {"after", "task"}
    if "task" in keep:
        keep -= {"dataset"}  # the task says which
    found: dict[Any, dict[Key, Observation]] = {}
    for axes, repeat, each in cells:
        key = frozenset((axis, axes.get(axis)) for axis in keep)
        if key in found.setdefault(repeat, {}):
            raise ConfigError(
                f"{term}: expected one row a cell and repeat, got two for {dict(key)} of repeat "
                f"{repeat}; fix one more axis in the quantity"
            )
        found[repeat][key] = each
    return found
