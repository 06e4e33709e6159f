"""A comparison of rows as JSON, as a table of text and as Markdown for a pull request."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from carryover.measure.compare import Change, Comparison, Unpaired
from carryover.report.tables import Table, markdown

AXES = ("study", "item", "cell", "split", "metric")
NUMBERS = ("before", "after", "difference", "interval", "p", "pairs")


def as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as a plain dict; numbers that are not finite become null."""
    return {"significant": comparison.significant, **_plain(asdict(comparison))}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_table(comparison: Comparison, limit: int) -> list[list[str]]:
    """A comparison as header and at most `limit` lines of text, worst first.

    Significant changes, rows that have gone, other changes, then rows that are new.
    """
    changes = [_line(change) for change in comparison.changes]
    worst = sum(change.significant for change in comparison.changes)
    gone = [_line_unpaired(rows, "gone") for rows in comparison.only_before]
    new = [_line_unpaired(rows, "new") for rows in comparison.only_after]
    return [
        [*AXES, *NUMBERS, "verdict"],
        *(changes[:worst] + gone + changes[worst:] + new)[:limit],
    ]


def _line(change: Change) -> list[str]:
    verdict = "significant: " if change.significant else ""
    return [
        *_place(change),
        f"{change.before:.4g}",
        f"{change.after:.4g}",
        f"{change.difference.value:+.4g}",
        f"[{change.difference.low:+.4g}, {change.difference.high:+.4g}]",
        f"{change.p:.2g}",
        str(change.n_pairs),
        verdict + change.reason,
    ]


def _line_unpaired(rows: Unpaired, what: str) -> list[str]:
    verdict = f"{what}: {_count(rows.n_rows, 'row')}"
    return [*_place(rows), *[""] * len(NUMBERS), verdict + ("" if rows.whole else " of this cell")]


def _place(entry: Change | Unpaired) -> list[str]:
    cell = " ".join(f"{axis}={value}" for axis, value in sorted(entry.cell.items()))
    return [entry.study, entry.item, cell, entry.split, entry.metric]


def as_markdown(comparison: Comparison, limit: int) -> str:
    """A comparison for a pull request: counts, then at most `limit` lines, worst first."""
    header, *lines = as_table(comparison, limit)
    summary = f"**{_summary(comparison)}**"
    if not lines:
        return summary
    safe = [[text.replace("|", r"\|") for text in line] for line in lines]
    table = markdown(Table(summary, header, safe)).rstrip("\n")
    unpaired = len(comparison.only_before) + len(comparison.only_after)
    more = len(comparison.changes) + unpaired - len(lines)
    return table + (f"\n\nand {more} more: `carryover diff --json`" if more else "")


def _summary(comparison: Comparison) -> str:
    """The verdict, and how many groups of rows moved, stayed, went and came."""
    n, changed = comparison.n_groups, len(comparison.changes)
    worst = sum(change.significant for change in comparison.changes)
    verdict = "Significant change" if comparison.significant else "No significant change"
    found = [
        f"{worst} of {_count(n, 'group')} of rows beyond tolerance and chance",
        f"{changed - worst} within one of them",
        f"{n - changed} equal",
    ]
    for what, rows in (("gone from", comparison.only_before), ("new in", comparison.only_after)):
        found += [f"rows {what} {_count(len(rows), 'group')}"] if rows else []
    return f"{verdict}: {'; '.join(found)}; {100 * comparison.level:g} % intervals"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
