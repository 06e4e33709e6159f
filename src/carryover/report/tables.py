"""Tables: one structure, written as Markdown, CSV and LaTeX.

LaTeX takes the packages booktabs, longtable, and xcolor with its option ``table``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from carryover.measure.statistics import Interval

ESCAPED = {ord(c): f"\\{c}" for c in "&%_#$"} | {ord(c): f"${c}$" for c in "<>"}
LINES_ON_A_PAGE = 40  # a longer table is broken over pages in LaTeX


@dataclass(frozen=True)
class Table:
    """A titled table of text.

    Attributes:
        title: what is in it, with n and what the intervals are over.
        header: one name a column.
        lines: one text a column.
        shades: a LaTeX colour behind each line, or nothing; empty where no line has one.
    """

    title: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    shades: Sequence[str] = ()


def percent(interval: Interval, signed: bool = False) -> str:
    """``58.0 [53.1, 62.9]``: per cent with its interval; `signed` shows the sign (a difference)."""
    form = "{:+.1f}" if signed else "{:.1f}"
    value, low, high = (form.format(100 * v) for v in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def markdown(table: Table) -> str:
    """The table in Markdown, its title above it."""
    header, *lines = ("| " + " | ".join(line) + " |" for line in (table.header, *table.lines))
    rule = "| " + " | ".join(["---"] * len(table.header)) + " |"
    return "\n".join([table.title, "", header, rule, *lines, ""])


def latex(table: Table) -> str:
    """The table in LaTeX with booktabs; a long one breaks over pages."""
    columns = "l" * len(table.header)
    header, *lines = (
        " & ".join(map(_escaped, line)) + r" \\" for line in (table.header, *table.lines)
    )
    if table.shades:
        shades = (f"\\rowcolor{{{shade}}} " if shade else "" for shade in table.shades)
        lines = [shade + line for shade, line in zip(shades, lines, strict=True)]
    caption = f"\\caption{{{_escaped(table.title)}}}"
    body = "\n".join([*lines, r"\bottomrule"])
    if len(lines) > LINES_ON_A_PAGE:
        return (
            f"\\begin{{longtable}}{{{columns}}}\n{caption} \\\\\n\\toprule\n{header}\n\\midrule\n"
            f"\\endhead\n{body}\n\\end{{longtable}}\n"
        )
    return (
        f"\\begin{{table}}\n{caption}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n{header}\n"
        f"\\midrule\n{body}\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def _escaped(text: str) -> str:
    return text.translate(ESCAPED)


def to_csv(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """CSV with Unix line ends; numbers as Python writes them."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return buffer.getvalue()
