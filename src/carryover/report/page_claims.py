"""Claims on the page: the filters, and one block a claim with its verdicts and their evidence."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from carryover.report.page_html import downloads, interval, number, small, text
from carryover.report.page_ledger import (
    AGREES,
    CLAIMS,
    DISAGREES,
    EVIDENCE,
    FAILS,
    HOLDS,
    NOT_RUN,
    OPEN,
    VERDICTS,
    Claim,
    Verdict,
)
from carryover.report.page_studies import Study
from carryover.report.tables import Table

MARKS = {  # a sign and a word beside the colour
    HOLDS: ("holds", "\N{CHECK MARK}"),
    FAILS: ("fails", "\N{MULTIPLICATION X}"),
    OPEN: ("open", "?"),
    NOT_RUN: ("none", "\N{EN DASH}"),
    AGREES: ("holds theirs", "\N{CHECK MARK}"),
    DISAGREES: ("fails theirs", "\N{MULTIPLICATION X}"),
}
OWN, NEVER = "own", "not run in any preset"  # further choices of the filters
KEPT = re.compile(r"(reports|results|claims)/[\w./-]+")  # a file of ours; others are the original's
FEW = 3  # files of rows that stand beside a verdict; more are listed below it
EXPLAINED = (FAILS, OPEN, DISAGREES)  # verdicts whose reason stands beside them


def badge(verdict: str) -> str:
    """The verdict in words, with its sign and colour."""
    kind, sign = MARKS[verdict]
    return (
        f'<span class="badge {kind}"><span aria-hidden="true">{sign}</span> '
        f"{html.escape(verdict)}</span>"
    )


def measured(found: Verdict) -> str:
    """The value with its interval."""
    return interval(found.value, found.low, found.high)


def claimed(claim: Claim) -> str:
    """What the quantity has to be, and what was published."""
    published = ", ".join(map(number, claim.expected))
    if any(found.wanted for found in claim.verdicts):
        return f"decided by {claim.quantity}"
    if claim.kind == "value":
        return f"within {claim.margin:g} of {published}"
    if claim.kind == "equality":
        return "0 in every run" if claim.expected == (0.0,) else f"exactly {claim.expected[0]:g}"
    if claim.kind == "order":
        return f"each above the next, smallest difference above {claim.margin:g}"
    side = "above" if claim.expected[0] > claim.margin else "below"
    return f"{side} {claim.margin:g}" + ("" if claim.implied else f"; published {published}")


def filters(studies: Mapping[str, Study], claims: Sequence[Claim]) -> str:
    """Native controls, shown by the script alone, which reads and writes the address."""
    verdicts = {found.verdict for claim in claims for found in claim.verdicts}
    evidence = {found.evidence for claim in claims for found in claim.verdicts}
    by_verdict = {name: name for name in VERDICTS if name in verdicts} | {NEVER: NEVER}
    by_evidence = {OWN: "our runs, every preset"}
    by_evidence |= {name: shown for name, shown in EVIDENCE.items() if name in evidence}
    controls = "".join(
        _control(name, all_of_them, choices)
        for name, all_of_them, choices in (
            ("study", "all studies", _titles(studies, claims)),
            ("verdict", "all verdicts", by_verdict),
            ("evidence", "all evidence", by_evidence),
        )
    )
    return (
        '<form id="filters" aria-label="Filter claims" hidden>'
        f'{controls}<button type="reset">Show all</button>'
        '<p id="count" role="status"></p></form>'
    )


def _titles(studies: Mapping[str, Study], claims: Sequence[Claim]) -> dict[str, str]:
    """Studies that have claims."""
    claimed_for = {claim.study for claim in claims}
    return {name: study.title for name, study in studies.items() if name in claimed_for}


def _control(name: str, all_of_them: str, choices: Mapping[str, str]) -> str:
    options = "".join(
        f'<option value="{html.escape(value)}">{html.escape(shown)}</option>'
        for value, shown in choices.items()
    )
    return (
        f'<label><span>{name.capitalize()}</span> <select name="{name}" autocomplete="off">'
        f'<option value="">{all_of_them}</option>{options}</select></label>'
    )


def listing(study: str, claims: Sequence[Claim]) -> str:
    """A study's claims with their verdicts."""
    whole, narrow = tables(f"Claims of the study {study}.", claims)
    return (
        f'<div class="claims" id="{study}-claims"><h3>Claims</h3>\n'
        + "\n".join(map(_block, claims))
        + "\n"
        + downloads(f"carryover-{study}-claims", f"the claims of {study}", whole, narrow)
        + "</div>"
    )


def _block(claim: Claim) -> str:
    """One claim: what it says, each verdict on it, and how each was reached."""
    name = html.escape(claim.id)
    lines = "\n".join(
        _line(claim, found) for found in claim.verdicts if found.verdict != NOT_RUN
    ) + _not_run(claim)
    defect = claim.known_defect
    noted = f'<p class="defect">Known defect: {text(defect)}.</p>' if defect else ""
    return (
        f'<article class="claim" id="claim-{name}"><h4>{text(claim.said)}</h4>\n'
        f'<p class="rule"><a href="#claim-{name}">{name}</a> <span>claimed: '
        f"{text(claimed(claim))}</span></p>\n{noted}"
        f'<ul class="verdicts">\n{lines}</ul>\n{_evidence(claim)}</article>'
    )


def _line(claim: Claim, found: Verdict) -> str:
    """A verdict with what was measured."""
    n = f"n: {found.n}".replace(" x ", " \N{MULTIPLICATION SIGN} ") if found.n else ""
    figures = f"<b>{text(measured(found))}</b>" if found.value is not None else ""
    asked = f"asked: {found.wanted}" if found.wanted else ""
    parts = (asked, small(found.p), n)
    figures += "".join(f" <span>{text(part)}</span>" for part in parts if part)
    rows = [_file(path) for path in found.rows if KEPT.fullmatch(path)]
    links = f'<span class="rows">rows: {", ".join(rows)}</span>' if 0 < len(rows) <= FEW else ""
    reason = ""
    if found.verdict in EXPLAINED and found.reason:
        reason = f'<p class="reason">{text(found.reason)}</p>'
    return (
        f'<li data-verdict="{found.verdict}" data-evidence="{_groups(found)}">'
        f'{badge(found.verdict)} <span class="who">{EVIDENCE[found.evidence]}</span> '
        f'<span class="figures">{figures}</span> {links}{reason}</li>\n'
    )


def _file(path: str) -> str:
    """A link to rows, called after what they are of."""
    name = Path(path).parent.name if Path(path).stem == "rows" else Path(path).name
    return f'<a href="{_relative(path)}">{html.escape(name)}</a>'


def _not_run(claim: Claim) -> str:
    """All presets without rows in one line, and released results that do not exist in another."""
    made = ""
    for own in (False, True):
        names = [v for v in claim.verdicts if v.verdict == NOT_RUN and v.own is own]
        if not names:
            continue
        groups = " ".join(dict.fromkeys(" ".join(map(_groups, names)).split()))
        tokens = NOT_RUN if claim.ran or not own else f"{NOT_RUN}|{NEVER}"
        shown = (
            "our runs: " + ", ".join(EVIDENCE[v.evidence].removeprefix("our run, ") for v in names)
            if own
            else "nothing released that decides it"
        )
        made += (
            f'<li class="waiting" data-verdict="{tokens}" data-evidence="{groups}">'
            f'{badge(NOT_RUN)} <span class="who">{shown}</span></li>\n'
        )
    return made


def _groups(found: Verdict) -> str:
    return f"{found.evidence} {OWN}" if found.own else found.evidence


def _evidence(claim: Claim) -> str:
    """Behind a summary: the quantity, its source, and each verdict's reason, test and digests."""
    said = {
        "quantity": f"<code>{html.escape(claim.quantity)}</code>",
        "published": "" if claim.implied else text(", ".join(map(number, claim.expected))),
        "split": html.escape(claim.split),
        "source": text(claim.source),
    }
    for found in claim.verdicts:
        said[EVIDENCE[found.evidence]] = "<br>".join(filter(None, _provenance(found)))
    items = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in said.items() if value)
    return (
        f'<details><summary>How it is decided<span class="unseen">: {html.escape(claim.id)}</span>'
        f"</summary><dl>{items}</dl></details>"
    )


def _provenance(found: Verdict) -> Iterable[str]:
    """The verdict, why, and what it was read from."""
    yield text(f"{found.verdict}: {found.reason}" if found.reason else found.verdict)
    yield text(f"test: {found.test}" if found.test else "")
    if found.rows:
        yield "rows: " + ", ".join(
            f'<a href="{_relative(path)}">{html.escape(path)}</a>'
            if KEPT.fullmatch(path)
            else html.escape(path)
            for path in found.rows
        )
    digests = (("parameters", found.params), ("data", found.data), ("code", found.code))
    yield ", ".join(
        f"{key} " + " ".join(f"<code>{html.escape(value)}</code>" for value in values)
        for key, values in digests
        if values
    )


def _relative(path: str) -> str:
    """A path of the repository as a link from the page."""
    return html.escape(Path(os.path.relpath(path, CLAIMS.parent)).as_posix())


def tables(title: str, claims: Iterable[Claim]) -> tuple[Table, Table]:
    """All fields of every verdict, and those that fit on paper."""
    whole, narrow = [], []
    for claim in claims:
        for v in claim.verdicts:
            measures = (f"{x:.6g}" if x is not None else "" for x in (v.value, v.low, v.high, v.p))
            whole.append(
                [
                    *(claim.id, claim.study, claim.statement, v.evidence, v.verdict),
                    *(*measures, v.n, claim.kind, " ".join(f"{x:g}" for x in claim.expected)),
                    *(f"{claim.margin:g}", claim.split),
                    *(v.test, v.reason, claim.source, claim.known_defect),
                    *map(" ".join, (v.rows, v.params, v.data, v.code)),
                ]
            )
            narrow.append([claim.id, v.evidence, v.verdict, measured(v), claimed(claim)])
    return Table(title, WHOLE, whole), Table(title, NARROW, narrow)


WHOLE = (
    *("claim", "study", "statement", "evidence", "verdict", "value", "low", "high", "p", "n"),
    *("kind", "expected", "margin", "split", "test", "reason", "source", "known_defect"),
    *("rows", "params", "data", "code"),
)
NARROW = ("claim", "evidence", "verdict", "measured [95 %]", "claimed")
