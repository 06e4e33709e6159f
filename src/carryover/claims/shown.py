"""Verdicts as people and programs read them: JSON, Markdown, and what the command line prints.

The stage ``claims`` writes ``reports/claims.{json,md,csv,tex}``, and all rows that there are to
``reports/results.parquet``.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from carryover import run
from carryover.claims.ledger import read
from carryover.claims.verify import CLAIMS, Entry, differing, verify
from carryover.errors import pick
from carryover.files import write_text
from carryover.report.export_rows import all_rows, write_parquet
from carryover.report.tables import Table, latex, markdown, to_csv

REPORTS = Path("reports")
VERDICTS = (
    *("reproduced", "not reproduced", "inconclusive", "not run"),
    *("released data agree", "released data disagree"),
)


def stage(params: object, item: str, context: run.Context) -> None:
    """Write every verdict as JSON and as a table, and all rows as one table."""
    entries, rows = verify(Path()), all_rows(Path())
    context.refuse_edited()
    write_parquet(rows, REPORTS / "results.parquet")
    write_text(REPORTS / "claims.json", json.dumps(as_json(entries), indent=1) + "\n")
    write_text(REPORTS / "claims.md", as_markdown(entries))
    every = table(entries)
    write_text(REPORTS / "claims.csv", to_csv(every.header, every.lines))
    numbers = Table(every.title, every.header[:8], [line[:8] for line in every.lines])
    write_text(REPORTS / "claims.tex", latex(counted(scorecard(entries))) + latex(numbers))


def listing(root: Path, study: str) -> str:
    """One line a claim: id, kind, presets that can decide it (else "released"), statement."""
    claims, _ = read(root / CLAIMS)
    known = dict.fromkeys(claim.study for claim in claims)
    if study:
        pick(known, study, "--study")
    chosen = [claim for claim in claims if study in ("", claim.study)]
    width = max(len(claim.id) for claim in chosen)
    lines = [
        f"{claim.id:{width}}  {claim.kind:10}  {','.join(claim.presets) or 'released':31}  "
        f"{claim.statement}"
        for claim in chosen
    ]
    return "\n".join([*lines, f"{len(chosen)} claims"])


def verdicts(root: Path, study: str, as_data: bool) -> tuple[str, bool]:
    """All verdicts as text, and whether they are the accepted ones."""
    entries = verify(root, study)
    changed = differing(root, entries, study)
    if as_data:
        found = {**as_json(entries), "differing": changed}
        return json.dumps(found, indent=1), not changed
    width = max(len(entry.name) for entry in entries)
    lines = [
        f"{entry.name:{width}}  {entry.decision.verdict:22}  {_interval(entry)}"
        for entry in entries
    ]
    counts = [
        f"{name}: " + ", ".join(f"{n} {verdict}" for verdict, n in count.items() if n)
        for name, count in scorecard(entries).items()
    ]
    end = changed or ["Every verdict is the accepted one."]
    if changed:
        end = [*changed, f"{len(changed)} verdicts differ; `carryover claims accept` takes them."]
    return "\n".join([*lines, "", *counts, "", *end]), not changed


def _interval(entry: Entry) -> str:
    decision = entry.decision
    if decision.value is None:
        return decision.reason
    bounds = f" [{_number(decision.low)}, {_number(decision.high)}]"
    return _number(decision.value) + (bounds if decision.low is not None else " (no interval)")


def as_json(entries: list[Entry]) -> dict[str, Any]:
    """Entries, verdicts by study, and claims that hold as published but not when corrected."""
    card = scorecard(entries)
    by_claim: dict[str, dict[str, str]] = {}
    for entry in entries:
        by_claim.setdefault(entry.claim.id, {})[entry.evidence] = entry.decision.verdict
    pairs = [
        {"id": name, "as_published": verdicts["published"], "corrected": verdicts["corrected"]}
        for name, verdicts in by_claim.items()
        if {"published", "corrected"} <= verdicts.keys()
        and "not run" not in (verdicts["published"], verdicts["corrected"])
    ]
    return {"claims": [_entry(entry) for entry in entries], "scorecard": card, "pairs": pairs}


def scorecard(entries: list[Entry]) -> dict[str, dict[str, int]]:
    """Claims by study and verdict.

    A claim counts once under each verdict that some preset gives it, under ``not run`` where no
    preset decides it, and once for what was released.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        key = (entry.claim.study, entry.claim.id)
        found.setdefault(key, set()).add(entry.decision.verdict)
    counts: dict[str, Counter[str]] = {}
    for (study, _), verdicts in found.items():
        own = verdicts & set(VERDICTS[:3])
        counts.setdefault(study, Counter()).update(verdicts - {"not run"} if own else verdicts)
    return {
        study: {verdict: count[verdict] for verdict in VERDICTS} for study, count in counts.items()
    }


def _entry(entry: Entry) -> dict[str, Any]:
    claim, decision = entry.claim, entry.decision
    order = claim.kind == "order"
    return {
        "id": claim.id,
        "evidence": entry.evidence,
        "study": claim.study,
        "statement": claim.statement,
        "source": claim.source,
        "kind": claim.kind,
        "quantity": " > ".join(quantity.text for quantity in claim.quantity),
        "split": claim.split,
        "expected": list(claim.expected) if order else claim.expected[0],
        "implied": claim.implied,
        "expected_n": claim.expected_n,
        "margin": claim.margin,
        "verdict": decision.verdict,
        "value": decision.value,
        "low": decision.low,
        "high": decision.high,
        "p": decision.p,
        "n": decision.n,
        "test": decision.test,
        "reason": decision.reason,
        "wanted": decision.wanted,
        "known_defect": claim.known_defect,
        **entry.made_from,
    }


def counted(card: dict[str, dict[str, int]]) -> Table:
    """The scorecard as a table."""
    return Table(
        "Claims by study and verdict; not run: decided by rows of no preset.",
        ["study", *VERDICTS],
        [[study, *map(str, count.values())] for study, count in card.items()],
    )


def table(entries: list[Entry]) -> Table:
    """Every claim from every kind of evidence, a line each."""
    header = (
        *("claim", "evidence", "verdict", "value", "low", "high", "p", "n", "published", "margin"),
        *("statement", "reason"),
    )
    lines = [
        (
            entry.claim.id,
            entry.evidence,
            entry.decision.verdict,
            *map(_number, (entry.decision.value, entry.decision.low, entry.decision.high)),
            _number(entry.decision.p),
            entry.decision.n,
            "" if entry.claim.implied else ", ".join(map(_number, entry.claim.expected)),
            _number(entry.claim.margin),
            entry.claim.statement,
            entry.decision.reason,
        )
        for entry in entries
    ]
    return Table("Every claim from every kind of evidence; 95 % intervals.", header, lines)


def as_markdown(entries: list[Entry]) -> str:
    """Scorecard and all verdicts as Markdown tables."""
    return f"# Claims\n\n{markdown(counted(scorecard(entries)))}\n{markdown(table(entries))}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
