"""How a number is told in a table's cell, and how a wide table comes onto pages."""

from __future__ import annotations

from collections.abc import Sequence

from carryover.measure.statistics import Interval
from carryover.report.tables import Table, percent

DASH = "\N{EN DASH}"  # where there is no such number
LEAST_P = 1e-9  # no smaller one is written


def told_percent(found: Interval | None, signed: bool = False) -> str:
    """Per cent with its interval; alone where both ends are the value."""
    if found is None:
        return DASH
    if found.low == found.high:
        return f"{100 * found.value:{'+' if signed else ''}.1f}"
    return percent(found, signed)


def told_p(p: float) -> str:
    """A chance: two digits, ``<1e-09`` below that."""
    return f"<{LEAST_P:g}" if p < LEAST_P else f"{p:.2g}"


def bounds(found: Interval | None) -> list[object]:
    """Value and bounds as plain numbers; no bounds where they are the value itself."""
    if found is None:
        return ["", "", ""]
    value, low, high = (round(each, 6) for each in (found.value, found.low, found.high))
    return [value, "", ""] if low == high else [value, low, high]


def in_parts(table: Table, keys: Sequence[int], most: int) -> list[Table]:
    """The table in parts as wide as a page.

    Args:
        keys: columns that tell lines apart and are in each part.
        most: other columns that a page has room for.
    """
    rest = [i for i in range(len(table.header)) if i not in keys]
    parts = []
    for start in range(0, len(rest), most):
        shown = [*keys, *rest[start : start + most]]
        lines = [[line[i] for i in shown] for line in table.lines]
        parts.append(Table(table.title, [table.header[i] for i in shown], lines))
    return parts
