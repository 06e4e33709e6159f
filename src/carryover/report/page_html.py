"""Pieces of the page: escaped text, numbers, tables with their downloads, figures."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

from carryover.report.tables import Table, latex, to_csv

NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e-?\d+)?( %)?|")
MINUS = re.compile(r"(?<![\w.)-])-(?=\d)")
PIXELS = 4 / 3  # of CSS, to a point


def text(value: str) -> str:
    """Escaped, with a real minus before a number."""
    return html.escape(MINUS.sub("\N{MINUS SIGN}", value))


def number(value: float) -> str:
    """Four decimals: accuracies and their differences are over some ten thousand images at most."""
    return f"{value + 0.0:.4f}" if abs(value) < 10 else f"{value:.4g}"


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """``0.0814 [0.0642, 0.0985]``; nothing where nothing was measured."""
    if value is None:
        return ""
    bounds = "" if low is None or high is None else f" [{number(low)}, {number(high)}]"
    return number(value) + bounds


def small(p: float | None) -> str:
    """``p = 0.012``, or nothing."""
    if p is None:
        return ""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def count_of(count: int, one: str, many: str = "") -> str:
    """``1 claim``, ``2 claims``."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def link(content: str, kind: str, name: str, shown: str, what: str) -> str:
    """A link that saves `content` as a file; nothing is fetched."""
    coded = base64.b64encode(content.encode()).decode()
    return (
        f'<a download="{name}" href="data:{kind};charset=utf-8;base64,{coded}">{shown}'
        f'<span class="unseen"> of {html.escape(what)}</span></a>'
    )


def downloads(name: str, what: str, as_csv: Table, as_latex: Table | None = None) -> str:
    """Links that save a table as CSV and LaTeX.

    Args:
        name: of the files, without suffix.
        what: which table it is, for those who hear the links only.
        as_latex: a narrower form for paper; the same table if not given.
    """
    comma = link(to_csv(as_csv.header, as_csv.lines), "text/csv", f"{name}.csv", "CSV", what)
    tex = link(latex(as_latex or as_csv), "text/x-tex", f"{name}.tex", "LaTeX", what)
    return f'<p class="files">{comma} {tex}</p>'


def table(found: Table, name: str, prose: bool = False) -> str:
    """A table below its title, in a box of its own that scrolls, with its downloads.

    Args:
        name: its id on the page, and the name of its files.
        prose: cells hold sentences, which break; on a phone they stand below each other.
    """
    columns = list(zip(*found.lines, strict=True)) if found.lines else [()] * len(found.header)
    kinds = [' class="num"' if all(map(NUMBER.fullmatch, column)) else "" for column in columns]
    labels = [f' data-label="{html.escape(name)}"' if prose else "" for name in found.header]
    head = "".join(
        f'<th scope="col"{kind}>{text(cell)}</th>'
        for cell, kind in zip(found.header, kinds, strict=True)
    )
    body = "\n".join(
        f'<tr><th scope="row"{kinds[0]}>{text(line[0])}</th>'
        + "".join(
            f"<td{kind}{label}>{text(cell)}</td>"
            for cell, kind, label in zip(line[1:], kinds[1:], labels[1:], strict=True)
        )
        + "</tr>"
        for line in found.lines
    )
    shape = ' class="prose"' if prose else ""
    return (
        f'<div class="table" id="{name}"><p class="title" id="{name}-title">{text(found.title)}</p>'
        f'\n<div class="box" role="group" tabindex="0" aria-labelledby="{name}-title">'
        f'<table{shape} aria-labelledby="{name}-title">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
        f"{downloads(f'carryover-{name}', found.title, found)}</div>"
    )


def figure(path: Path, alt: str, caption: str) -> str:
    """An SVG file with its caption, in a box that scrolls where the screen is narrower."""
    svg = path.read_bytes()
    size = "".join(
        f' {key}="{round(float(found[0]) * PIXELS)}"'
        for key in ("width", "height")
        if (found := re.findall(rf'<svg\b[^>]*?\s{key}="([\d.]+)pt"', svg[:2000].decode()))
    )
    return (
        f'<figure><div class="box" role="group" tabindex="0" aria-label="{html.escape(alt)}">'
        f'<img alt="{html.escape(alt)}"{size} src="data:image/svg+xml;base64,'
        f'{base64.b64encode(svg).decode()}"></div>\n'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def blocks(markdown: str) -> list[str | Table]:
    """Paragraphs and tables of the Markdown that `report.tables` writes.

    The paragraph above a table is its title; the document's own heading is left out.
    """
    found: list[str | Table] = []
    for block in markdown.split("\n\n"):
        lines = block.strip().splitlines()
        if not lines or lines[0].startswith("# "):
            continue
        if not lines[0].startswith("|"):
            found.append(" ".join(lines))
            continue
        cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
        title = found.pop() if found and isinstance(found[-1], str) else ""
        found.append(Table(str(title), cells[0], cells[2:]))
    return found
