"""A small ledger and reports of two studies, for tests of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carryover.report.page_studies import STUDIES
from carryover.report.tables import Table, markdown

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="504pt" height="201.6pt" '
    'viewBox="0 0 504 201.6"><path d="M0 0L504 201.6" stroke="#000"/></svg>'
)
COMPARISON = (
    "pair,setting,fraction,cut,ours,theirs,difference,low,high,equivalence_p,reading,"
    "repeats_ours,repeats_theirs,images_ours,images_theirs\n"
    "mnist,baseline,0.001,-1,0.71,0.66,0.05,0.01,0.09,0.9,open,25,25,4861,29404\n"
    "mnist,fr,0.001,0,0.7,,,,,,not published,25,0,4861,\n"
    "mnist,fr,0.001,4,0.87,0.82,0.05,0.036,0.068,1,different,25,25,4861,29404\n"
    "mnist,fr,0.01,4,,0.93,,,,,not run,0,25,,29404\n"
)


def entry(name: str, evidence: str, verdict: str, **changes: Any) -> dict[str, Any]:
    """One line of the ledger; numbers only where something was measured."""
    ran = verdict != "not run"
    rows = {
        "released": f"claims/released/{name.split('-')[0]}.csv",
        "mini": "reports/cuts/runs/fr/rows.jsonl",
    }.get(evidence, f"results/{evidence}/cuts/mnist/runs/fr/rows.jsonl")
    made: dict[str, Any] = {
        "id": name,
        "evidence": evidence,
        "study": name.split("-")[0],
        "statement": f"statement of <{name}> & more.",
        "source": "T1; results.json at 8c95619",
        "kind": "inequality",
        "quantity": 'accuracy(cut=4, item="fr") - accuracy(cut=-1, item="baseline")',
        "split": "test",
        "expected": 0.161,
        "implied": False,
        "wanted": "",
        "margin": 0.02,
        "verdict": verdict,
        "value": 0.08137 if ran else None,
        "low": 0.0642 if ran else None,
        "high": 0.0985 if ran else None,
        "p": 0.0012 if ran else None,
        "n": "25 repeats x 4861 images" if ran else "",
        "test": "paired t over repeats" if ran else "",
        "reason": f"why {name} is {verdict}" if ran else f"no rows of {name} with {evidence}",
        "known_defect": "",
        "rows": [rows] if ran else [],
        "params": ["3834ba9f9acff267"] if ran else [],
        "data": ["827a2faea57e9435"] if ran else [],
        "code": ["75ac3366942fd3c0"] if ran else [],
    }
    return made | changes


HOLDS, FAILS, OPEN, NOT_RUN = "reproduced", "not reproduced", "inconclusive", "not run"
AGREES, DISAGREES = "released data agree", "released data disagree"
CLAIMS = [
    entry("cuts-t1", "mini", HOLDS),
    entry("cuts-t1", "published", HOLDS),
    entry("cuts-t1", "corrected", FAILS, value=-0.01, low=-0.03, high=0.01),
    entry("cuts-t1", "released", AGREES),
    entry("cuts-t2", "mini", OPEN, low=-0.01),
    entry("cuts-t2", "lab", NOT_RUN),
    entry("cuts-t2", "released", DISAGREES, value=0.01, low=-0.02, high=0.015),
    entry("cuts-t10", "lab", NOT_RUN, kind="equality", expected=0, margin=0),
    entry("cuts-t10", "released", DISAGREES, kind="equality", expected=0, margin=0, low=-0.1),
    entry("sequence-m4", "mini", NOT_RUN, kind="order", expected=[0.75, 0.72, 0.6], margin=0),
    entry("sequence-m4", "released", AGREES, kind="order", expected=[0.75, 0.72, 0.6], margin=0),
    entry("retrieval-r3", "mini", NOT_RUN, kind="value", expected=0.9582, known_defect="bug 9"),
]
PAIRS = [{"id": "cuts-t1", "as_published": HOLDS, "corrected": FAILS}]


def write(claims: list[dict[str, Any]] | None = None) -> None:
    """Everything that the page is made of, below the current folder."""
    tables = [
        Table("Gain of the best cut.", ["setting", "data", "gain"], [["fr", "10 %", "-1.5"]]),
        Table("Accuracy, FR.", ["data", "cut 0"], [["10 %", "76.3 [72.4, 80.2]"]]),
    ]
    for study, shown in STUDIES.items():
        if not shown.figures:
            continue
        folder = Path("reports") / study
        folder.mkdir(parents=True)
        text = "\n".join(map(markdown, tables))
        (folder / f"{study}.md").write_text(f"# {study}\n\nPreset mini; a < b.\n\n{text}")
        for name in shown.figures:
            (folder / f"{name}.svg").write_text(SVG)
    kept = Path("results/corrected/cuts/mnist")
    kept.mkdir(parents=True)
    (kept / "comparison.csv").write_text(COMPARISON)
    (kept / "fr-both.svg").write_text(SVG)
    write_claims(CLAIMS if claims is None else claims)


def write_claims(claims: list[dict[str, Any]]) -> None:
    """The ledger alone."""
    made = {"claims": claims, "pairs": PAIRS, "scorecard": {}}
    Path("reports/claims.json").write_text(json.dumps(made))
