"""The first screen: what was found in one sentence, claims by study and verdict, and findings."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode

from carryover.report.page_claims import MARKS, NEVER, badge, claimed, measured, tables
from carryover.report.page_html import count_of, downloads, text
from carryover.report.page_ledger import (
    AGREES,
    DISAGREES,
    EVIDENCE,
    FAILS,
    HOLDS,
    NOT_RUN,
    OPEN,
    RELEASED,
    Claim,
    Ledger,
    Verdict,
)
from carryover.report.page_studies import Study
from carryover.report.tables import Table

SHOWN = 3  # claims of a finding that stand open
COLUMNS = {  # own rows, then released results: what stands above the column
    HOLDS: "repro\N{SOFT HYPHEN}duced",
    FAILS: "not repro\N{SOFT HYPHEN}duced",
    OPEN: "incon\N{SOFT HYPHEN}clusive",
    NOT_RUN: "not run",
    AGREES: "agree",
    DISAGREES: "dis\N{SOFT HYPHEN}agree",
}


def counts(claims: Sequence[Claim]) -> dict[str, int]:
    """Claims with each verdict; presets that differ count a claim under each of their verdicts."""
    found = {
        verdict: sum(any(v.verdict == verdict for v in claim.verdicts) for claim in claims)
        for verdict in COLUMNS
    }
    return found | {NOT_RUN: sum(not claim.ran for claim in claims)}


def sentence(ledger: Ledger) -> str:
    """What was judged, and how far."""
    total, found = len(ledger.claims), counts(ledger.claims)
    studies = len({claim.study for claim in ledger.claims})
    judged = found[AGREES] + found[DISAGREES]
    return (
        f"{count_of(total, 'published claim')} of {count_of(studies, 'study', 'studies')}, each "
        f"held against rows of our own and against what its authors released. Our runs have "
        f"judged {total - found[NOT_RUN]} so far; released results decide {judged}, and disagree "
        f"with the claim in {count_of(found[DISAGREES], 'case')}."
    )


def scorecard(studies: Mapping[str, Study], ledger: Ledger) -> str:
    """Claims by study and verdict, own rows and released results apart."""
    lines, plain = [], []
    for name, study in studies.items():
        claims = ledger.of(name)
        if not claims:
            continue  # its claims are another study's
        lines.append(_row(f'<a href="#{name}">{html.escape(study.title)}</a>', claims, name))
        plain.append([study.title, str(len(claims)), *map(str, counts(claims).values())])
    lines.append(_row("All", ledger.claims, ""))
    own = '<th scope="colgroup" colspan="4">our own runs</th>'
    released = '<th scope="colgroup" colspan="2">their released results</th>'
    heads = "".join(f'<th scope="col" class="num">{head}</th>' for head in COLUMNS.values())
    title = "Claims by study and verdict."
    header = ["study", "claims", *(name for name in COLUMNS)]
    return (
        '<section id="scorecard" aria-labelledby="scorecard-title">'
        f'<h2 id="scorecard-title">Scorecard</h2>\n'
        '<table class="score" aria-labelledby="scorecard-title"><thead>'
        f'<tr><td colspan="2"></td>{own}{released}</tr>\n'
        f'<tr><th scope="col">study</th><th scope="col" class="num">claims</th>{heads}</tr></thead>'
        f"\n<tbody>{''.join(lines)}</tbody></table>\n"
        '<p class="note">Numbers of claims. Where presets differ, a claim counts under each of '
        "their verdicts; not run: in no preset.</p>\n"
        + downloads("carryover-scorecard", "the scorecard", Table(title, header, plain))
        + "</section>"
    )


def _row(title: str, claims: Sequence[Claim], study: str) -> str:
    """A study's line; each number leads to its claims."""
    cells = []
    for verdict, n in counts(claims).items():
        kind = MARKS[verdict][0]
        if n == 0:
            cells.append(f'<td class="num zero" data-label="{verdict}">0</td>')
            continue
        chosen = {"study": study, "verdict": NEVER if verdict == NOT_RUN else verdict}
        wanted = html.escape(urlencode({key: value for key, value in chosen.items() if value}))
        place = f"#{study}-claims" if study else "#studies"
        cells.append(
            f'<td class="num {kind}" data-label="{verdict}">'
            f'<a href="{place}" data-filter="{wanted}">{n}<span class="unseen"> {verdict}</span>'
            "</a></td>"
        )
    return (
        f'<tr><th scope="row">{title}</th><td class="num" data-label="claims">{len(claims)}</td>'
        f"{''.join(cells)}</tr>\n"
    )


def findings(ledger: Ledger) -> str:
    """What matters most, from the verdicts: what a correction changes, and what does not hold."""
    changed = {
        name for name, pair in ledger.pairs.items() if pair in ((HOLDS, FAILS), (FAILS, HOLDS))
    }
    both = sum(NOT_RUN not in pair for pair in ledger.pairs.values())
    total = count_of(len(ledger.claims), "claim")

    def paired(*wanted: str) -> list[Claim]:
        return [claim for claim in ledger.claims if ledger.pairs.get(claim.id) == wanted]

    def with_own(verdict: str) -> list[Claim]:
        found = (c for c in ledger.claims if c.id not in changed)
        return [c for c in found if any(v.own and v.verdict == verdict for v in c.verdicts)]

    contradicted = [c for c in ledger.claims if any(v.verdict == DISAGREES for v in c.verdicts)]
    parts = [
        _finding(
            "Holds as published, vanishes when corrected",
            paired(HOLDS, FAILS),
            lambda v: v.evidence in ("published", "corrected"),
            f"None: {both} of {total} ran under both protocols.",
        ),
        _finding(
            "Not borne out by the original\N{RIGHT SINGLE QUOTATION MARK}s own released data",
            contradicted,
            lambda v: v.evidence == RELEASED,
            "None.",
        ),
        _finding(
            "Not reproduced by our runs",
            with_own(FAILS),
            lambda v: v.own and v.verdict == FAILS,
            "None so far.",
        ),
        _finding(
            "Fails as published, holds when corrected",
            paired(FAILS, HOLDS),
            lambda v: v.evidence in ("published", "corrected"),
            "",
        ),
        _finding(
            "Holds as published and when corrected",
            paired(HOLDS, HOLDS),
            lambda v: v.evidence in ("published", "corrected"),
            "",
        ),
    ]
    return (
        '<section id="findings" aria-labelledby="findings-title"><h2 id="findings-title">'
        f"Findings</h2>\n{''.join(parts)}</section>"
    )


def _finding(
    title: str, claims: Sequence[Claim], wanted: Callable[[Verdict], bool], none: str
) -> str:
    """A heading with the number of claims, and the claims; `none` where there is no such claim."""
    if not claims:
        return f'<h3>{title}</h3><p class="note">{none}</p>\n' if none else ""
    seen: Counter[tuple[bool, str]] = Counter()
    turns = []  # what is settled first; the first claim of each study before the second of any
    for place, claim in enumerate(claims):
        chosen = [v for v in claim.verdicts if wanted(v)]
        left_open = not any(map(claim.refuted, chosen))
        seen[left_open, claim.study] += 1
        turns.append((left_open, seen[left_open, claim.study], place, _item(claim, chosen)))
    items = [item for _, _, _, item in sorted(turns)]
    rest = len(items) - SHOWN
    more = (
        f'<details><summary>{rest} more<span class="unseen">: {title}</span></summary>'
        f"<ul>{''.join(items[SHOWN:])}</ul></details>"
        if rest > 0
        else ""
    )
    return (
        f'<h3>{title} <span class="count">{count_of(len(items), "claim")}</span></h3>\n'
        f"<ul>{''.join(items[:SHOWN])}</ul>{more}\n"
    )


def _item(claim: Claim, verdicts: Sequence[Verdict]) -> str:
    """A claim with the numbers that put it there."""
    said = "; ".join(
        f"{EVIDENCE[v.evidence]} {measured(v)}{_open(claim, v)}".rstrip() for v in verdicts
    )
    if not any(v.wanted for v in verdicts):
        said += f"; claimed {claimed(claim)}"
    return (
        f'<li><a href="#claim-{html.escape(claim.id)}">{text(claim.said)}</a> '
        f'<span class="note">{html.escape(claim.study)}: {text(said)}</span></li>\n'
    )


def _open(claim: Claim, found: Verdict) -> str:
    """What to add where the number shown does not settle the verdict by itself."""
    if found.wanted:
        return f" ({found.wanted})"
    if found.verdict not in (FAILS, DISAGREES) or claim.refuted(found) or found.value is None:
        return ""
    if found.verdict == DISAGREES and not claim.holds_at(found.value):
        return ", by the estimate alone: its interval leaves it open"
    return ", decided by further checks"


def legend() -> str:
    """What the verdicts and presets mean."""
    items = "".join(f"<dt>{badge(verdict)}</dt><dd>{said}</dd>" for verdict, said in MEANINGS)
    return (
        '<details class="legend" open><summary>What the verdicts mean</summary>'
        f'<dl>{items}</dl><p class="note">{PRESETS}</p></details>'
    )


def everything(ledger: Ledger) -> str:
    """Downloads of all claims with all verdicts."""
    whole, narrow = tables("Claims and verdicts.", ledger.claims)
    return (
        '<div class="all"><span>All claims and verdicts:</span> '
        + downloads("carryover-claims", "all claims", whole, narrow)
        + '<a href="claims.json">JSON</a></div>'
    )


MEANINGS = (
    (
        HOLDS,
        "the estimate from our rows and its 95 % interval lie where the claim says, also after "
        "Holm's correction over the study's claims on the preset; mini: on its own small data",
    ),
    (FAILS, "the same, but where the claim does not say"),
    (OPEN, "the interval reaches both, or the correction leaves it open"),
    (NOT_RUN, "rows that would decide it are missing"),
    (
        AGREES,
        "the estimate from what the authors released lies where the claim says, whatever its "
        "interval",
    ),
    (DISAGREES, "it does not"),
)
PRESETS = (
    "As published: the original's protocol with its faults. Corrected: the same size, faults "
    "mended. Lab, mini-full and mini: corrected, smaller."
)
