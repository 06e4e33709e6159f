"""Tables: one structure, written as Markdown, CSV and LaTeX (booktabs)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from carryover.measure.statistics import Interval


@dataclass(frozen=True)
class Table:
    """A titled table of text.

    Attributes:
        title: what is in it, with n and what the intervals are over.
        header: one name a column.
        lines: one text a column.
    """

    title: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]


def percent(interval: Interval, signed: bool = False) -> str:
    """``58.0 [53.1, 62.9]``: per cent with its interval; `signed` shows the sign (a difference)."""
    form = "{:+.1f}" if signed else "{:.1f}"
    value, low, high = (form.format(100 * v) for v in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def markdown(table: Table) -> str:
    """The table in Markdown, its title above it."""
    lines = [table.header, ["---"] * len(table.header), *table.lines]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{table.title}\n\n{body}\n"


def latex(table: Table) -> str:
    """The table in LaTeX with booktabs."""
    columns = "l" * len(table.header)
    lines = [" & ".join(map(_escaped, line)) + r" \\" for line in (table.header, *table.lines)]
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return (
        f"\\begin{{table}}\n\\caption{{{_escaped(table.title)}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def _escaped(text: str) -> str:
    for letter in "&%_#$":
        text = text.replace(letter, f"\\{letter}")
    return text


def to_csv(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """CSV with Unix line ends; numbers as Python writes them."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return buffer.getvalue()
