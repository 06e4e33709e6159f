"""``reports/index.html``: one self-contained page from the ledger, the studies' tables and figures.

It asks for nothing from anywhere: style, script and figures are inside, and a content policy says
so to the browser. Equal inputs give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from carryover import run
from carryover.files import write_text
from carryover.report import page_ledger, page_scorecard
from carryover.report.page_claims import filters
from carryover.report.page_sections import section
from carryover.report.page_studies import STUDIES

REPORTS = Path("reports")


def stage(params: object, item: str, context: run.Context) -> None:
    """Write the page."""
    made = page()
    context.refuse_edited()
    write_text(REPORTS / "index.html", made)


def page() -> str:
    """The page as HTML.

    Raises:
        DataError: the ledger or a study's report is not there or not whole.
    """
    ledger = page_ledger.read(STUDIES)
    style, script = _asset("page.css"), _asset("page.js")
    parts = {
        "policy": (
            f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
            f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
        ),
        "style": style,
        "script": script,
        "sentence": page_scorecard.sentence(ledger),
        "scorecard": page_scorecard.scorecard(STUDIES, ledger),
        "findings": page_scorecard.findings(ledger),
        "legend": page_scorecard.legend(),
        "everything": page_scorecard.everything(ledger),
        "filters": filters(STUDIES, ledger.claims),
        "sections": "\n".join(section(name, study, ledger) for name, study in STUDIES.items()),
    }
    return PAGE.format(**parts)


def _asset(name: str) -> str:
    return (resources.files("carryover.report") / name).read_text(encoding="utf-8")


def _hash(inside: str) -> str:
    """What the content policy calls an element that may be inline."""
    return "sha256-" + base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>carryover: what survives the next task</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<a class="skip" href="#studies">Skip to the studies</a>
<header>
<p class="name">carryover</p>
<h1>What does a pretrained vision representation carry over to the next task?</h1>
<p class="lede">{sentence}</p>
</header>
<main>
<div class="first">
{scorecard}
{findings}
<div class="more">
{legend}
{everything}
</div>
</div>
{filters}
<div id="studies" tabindex="-1">
{sections}
</div>
</main>
<script>{script}</script>
</body>
</html>
"""
