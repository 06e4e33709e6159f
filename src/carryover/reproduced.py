"""What ``carryover reproduce`` says at its end: summaries, verdicts, how both compare with HEAD."""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from carryover.claims.verify import accepted, changes
from carryover.config import params as config
from carryover.errors import KitError
from carryover.measure.compare import compare
from carryover.measure.revisions import rows_at
from carryover.overview import tolerances
from carryover.rows import Row
from carryover.stages import PARAMS, REPORTS, STAGES

PAGE, CLAIMS = Path("reports/index.html"), Path("reports/claims.json")


def tell(params: config.Params, seconds: float) -> int:
    """Print the studies' summaries, the comparison with HEAD and where the page is.

    Returns:
        1 where results of unchanged parameters differ significantly from HEAD's, or verdicts on
        claims from the accepted ones; else 0.
    """
    console = Console()
    for name in REPORTS.values():
        module = importlib.import_module(STAGES[name].module)
        path = module.FOLDER / "summary.json"
        if path.exists():
            console.print(_table(*module.headline(json.loads(path.read_text()))))
    text, differs = _against_head(params)
    if CLAIMS.exists():
        found = json.loads(CLAIMS.read_text())
        console.print(_table(*_scorecard(found["scorecard"])))
        before = accepted(Path())
        now = {f"{each['id']}@{each['evidence']}": each["verdict"] for each in found["claims"]}
        changed = changes(before, now) if before else []
        differs |= bool(changed)
        text += f"\n{_of_verdicts(changed)}" if before else ""
    console.print(f"{text}\nFinished in {seconds:.0f} s. Report: {PAGE}", highlight=False)
    return 1 if differs and _same_params() else 0


def _of_verdicts(changed: Sequence[str]) -> str:
    if not changed:
        return "Every verdict on a claim is the accepted one."
    return (
        f"{len(changed)} verdicts on claims are not the accepted ones, {changed[0]}; `carryover "
        "claims verify` lists them."
    )


def _scorecard(counts: dict[str, dict[str, int]]) -> tuple[str, list[str], list[list[str]]]:
    """Verdicts by study, as a title, a header and lines."""
    verdicts = list(next(iter(counts.values()), {}))
    lines = [[study, *(str(count[v] or "") for v in verdicts)] for study, count in counts.items()]
    return "Published claims by verdict (`carryover claims verify`)", ["study", *verdicts], lines


def _table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in header:
        table.add_column(name)
    for line in lines:
        table.add_row(*line)
    return table


def _against_head(params: config.Params) -> tuple[str, bool]:
    """How the rows compare with HEAD's, and whether any differs significantly."""
    try:
        committed = rows_at("HEAD", Path())
    except KitError:
        return "No commit to compare with.", False
    now = rows_at(None, Path())
    if not committed:
        return "No rows in HEAD to compare with.", False
    if _same_numbers(committed, now):
        return f"All {len(now)} rows equal those of HEAD.", False
    result = compare(committed, now, tolerances(params.diff), params.diff.level)
    changed = sum(change.significant for change in result.changes)
    text = f"Rows differ from HEAD's: {changed} significant changes; `carryover diff` lists them."
    return text, result.significant


def _same_params() -> bool:
    asked = ["git", "diff", "--quiet", "HEAD", "--", str(PARAMS)]
    return subprocess.run(asked, check=False).returncode == 0


def _same_numbers(before: list[Row], after: list[Row]) -> bool:
    def numbers(rows: list[Row]) -> list[Any]:
        return sorted(
            json.dumps([r.study, r.item, r.cell, r.split, r.metric, r.value, r.n]) for r in rows
        )

    return numbers(before) == numbers(after)
