"""The files of the report on what survived, from its rows alone.

``reports/survival/``: ``summary.json`` (what ``dvc metrics diff`` compares), ``survival`` as CSV
(every number), Markdown and LaTeX, and as SVG and PNG ``kept``, ``layers`` and ``mixing``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carryover.files import write_json, write_text
from carryover.report import (
    figures,
    survival_kept,
    survival_layers,
    survival_mixing,
    survival_tables,
)
from carryover.report.survival_scores import from_rows
from carryover.report.survival_summary import reading, summarise
from carryover.report.tables import latex, markdown
from carryover.rows import Row, read_rows

FOLDER = Path("reports/survival")


def write_report(rows: Sequence[Row], preset: str) -> None:
    """Write every file.

    Raises:
        DataError: rows of another preset, or none.
    """
    scores = from_rows(rows, preset)
    tables = [make(scores) for make in (survival_tables.kept, survival_tables.beside)]
    tables.append(survival_tables.began(scores))
    drawn = {
        "kept": survival_kept.kept(scores),
        "layers": survival_layers.layers(scores),
        "mixing": survival_mixing.mixing(scores),
    }
    write_json(FOLDER / "summary.json", summarise(scores))
    write_text(FOLDER / "survival.csv", survival_tables.every_csv(scores))
    parts = [f"# What survived\n\n{reading(scores)}\n", *map(markdown, tables)]
    write_text(FOLDER / "survival.md", "\n".join(parts))
    write_text(FOLDER / "survival.tex", "\n".join(map(latex, tables)))
    for name, figure in drawn.items():
        figures.save(figure, FOLDER / name)


def remake() -> None:
    """Write every file again from the rows that are there.

    Raises:
        DataError: there are none.
    """
    rows = read_rows(FOLDER / "runs" / "all" / "rows.jsonl")
    write_report(rows, rows[0].preset if rows else "")
