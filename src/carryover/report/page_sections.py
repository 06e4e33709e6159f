"""A study's section of the page: figures, tables, ours beside the published, faults, claims."""

from __future__ import annotations

import csv
import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from carryover.errors import DataError
from carryover.report.page_claims import badge, listing
from carryover.report.page_html import blocks, count_of, downloads, figure, table, text
from carryover.report.page_ledger import NOT_RUN, Claim, Ledger
from carryover.report.page_studies import Study
from carryover.report.tables import Table

REPORTS, RESULTS = Path("reports"), Path("results")
REASONS = 4  # of what is missing that stand open


def section(name: str, study: Study, ledger: Ledger) -> str:
    """All that the page has of a study.

    Raises:
        DataError: its report is not there.
    """
    claims = ledger.of(name)
    parts = [
        *_report(name, study),
        *_comparisons(name),
        _faults(name, study, claims, ledger.pairs),
    ]
    body = "\n".join(f'<div class="part">{part}</div>' for part in parts if part)
    return (
        f'<section class="study" id="{name}" data-study="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{html.escape(study.title)}</h2>\n'
        f'<p class="question">{text(study.question)}</p>\n'
        f'<p class="note">Claims of {html.escape(study.origin)}.</p>\n'
        f"{_missing(claims)}\n{body}\n"
        + (
            listing(name, claims)
            if claims
            else '<p class="note">The ledger lists no claims under this study.</p>'
        )
        + "</section>"
    )


def _missing(claims: Sequence[Claim]) -> str:
    """What has not been run: all of it, or some claims."""
    waiting = [claim for claim in claims if not claim.ran]
    if not waiting:
        return ""
    reasons = Counter(
        reason.removeprefix("missing: ")
        for claim in waiting
        for reason in {v.reason for v in claim.verdicts if v.own and v.verdict == NOT_RUN}
        if reason
    )
    items = [
        f'<li>{text(reason)} <span class="note">({count_of(n, "claim")})</span></li>'
        for reason, n in sorted(reasons.items(), key=lambda found: (-found[1], found[0]))
    ]
    rest = len(items) - REASONS
    more = (
        f"<details><summary>{rest} more</summary><ul>{''.join(items[REASONS:])}</ul></details>"
        if rest > 0
        else ""
    )
    count = count_of(len(claims), "claim")
    said = f"No rows of ours decide {len(waiting)} of {count}"
    if len(waiting) == len(claims):
        said = f"Not run: no rows of ours decide any of its {count}"
    return (
        f'<div class="part missing"><p><strong>{said}{"; missing:" if items else "."}</strong></p>'
        + (f"<ul>{''.join(items[:REASONS])}</ul>{more}" if items else "")
        + "</div>"
    )


def _report(name: str, study: Study) -> list[str]:
    """Figures, what they are of, and the tables of the study's report; its first stands open."""
    if not study.figures:
        return []
    folder = REPORTS / name
    needed = [folder / f"{name}.md", *(folder / f"{each}.svg" for each in study.figures)]
    for path in needed:
        if not path.exists():
            raise DataError(
                f"{path}: expected this file, found none; run `carryover report --only {name}`"
            )
    shown = [
        figure(folder / f"{each}.svg", what.alt, what.caption)
        for each, what in study.figures.items()
    ]
    found = blocks(needed[0].read_text())
    said = "".join(f"<p>{text(each)}</p>\n" for each in found if isinstance(each, str))
    tables = [each for each in found if isinstance(each, Table)]
    made = [table(each, f"{name}-table-{i}") for i, each in enumerate(tables, 1)]
    rest = (
        f"<details><summary>{count_of(len(made) - 1, 'more table')}</summary>\n"
        + "\n".join(made[1:])
        + "</details>"
        if len(made) > 1
        else ""
    )
    return [
        f'<h3>Figures</h3>\n<div class="gallery">{"".join(shown)}</div>',
        f"<h3>Our results in this checkout</h3>\n{said}{''.join(made[:1])}\n{rest}",
    ]


def _comparisons(name: str) -> list[str]:
    """Ours beside the published numbers, for each kept grid that has a comparison."""
    made = []
    for path in sorted(RESULTS.glob(f"*/{name}/*/comparison.csv")):
        preset, pair = path.parts[1], path.parts[3]
        shown = "".join(
            figure(
                svg,
                f"Accuracy by cut, ours and the released: {preset}, {pair}",
                f"Preset {preset}, {pair}: ours and the released results; the numbers are below.",
            )
            for svg in sorted(path.parent.glob("*-both.svg"))
        )
        beside = table(_beside(path, preset, pair), f"{name}-{preset}-{pair}")
        made.append(f"{shown}{beside}")
    return [f"<h3>Ours and the published numbers</h3>\n{''.join(made)}"] if made else []


def _beside(path: Path, preset: str, pair: str) -> Table:
    """The cells that were run: ours, published, difference with its interval."""
    with path.open(newline="") as file:
        cells = list(csv.DictReader(file))
    ran = [cell for cell in cells if cell["ours"]]
    lines = [
        [
            cell["setting"],
            f"{100 * float(cell['fraction']):.4g} %",
            "scratch" if cell["cut"] == "-1" else cell["cut"],
            f"{100 * float(cell['ours']):.1f}",
            f"{100 * float(cell['theirs']):.1f}" if cell["theirs"] else "",
            f"{100 * float(cell['difference']):+.1f}" if cell["difference"] else "",
            f"[{100 * float(cell['low']):+.1f}, {100 * float(cell['high']):+.1f}]"
            if cell["low"]
            else "",
            cell["reading"],
            f"{cell['repeats_ours']} / {cell['repeats_theirs']}",
            f"{cell['images_ours']} / {cell['images_theirs']}",
        ]
        for cell in ran
    ]
    other = any(cell["images_theirs"] not in ("", cell["images_ours"]) for cell in ran)
    images = " NOT the same test images: the difference is one of images too." if other else ""
    title = (
        f"Preset {preset}, {pair}: mean test accuracy in per cent over repeats, ours and "
        "published; difference in points with Welch's 95 % interval, not adjusted for their "
        "number. same: equivalent within 2 points by two one-sided tests at 5 %; different: the "
        f"interval lies outside; open: too few repeats to tell.{images} "
        f"{len(ran)} of {len(cells)} cells; the others have not been run."
    )
    header = ["setting", "data", "cut", "ours", "published", "difference", "95 %", "reading"]
    return Table(title, [*header, "repeats", "test images"], lines)


def _faults(
    name: str, study: Study, claims: Sequence[Claim], pairs: Mapping[str, tuple[str, str]]
) -> str:
    """The original's faults beside what a corrected run does, and what that does to claims."""
    if not study.faults:
        return ""
    lines = [[fault.matter, fault.published, fault.corrected] for fault in study.faults]
    ran = bool(study.figures) or any(claim.ran for claim in claims)
    title = "The original's protocol and " + (
        "the corrected one." if ran else "what a corrected run is to do."
    )
    header = ["matter", "as published", "corrected"]
    found = table(Table(title, header, lines), f"{name}-faults", prose=True)
    return f"<h3>Faults, as published and corrected</h3>\n{found}\n{_protocols(claims, pairs)}"


def _protocols(claims: Sequence[Claim], pairs: Mapping[str, tuple[str, str]]) -> str:
    """Claims that were run under both protocols: the two verdicts beside each other."""
    both = [c for c in claims if c.id in pairs and NOT_RUN not in pairs[c.id]]
    if not both:
        return ""
    lines = "".join(
        f'<tr><th scope="row"><a href="#claim-{html.escape(c.id)}">{text(c.said)}</a></th>'
        f'<td data-label="as published">{badge(pairs[c.id][0])}</td>'
        f'<td data-label="corrected">{badge(pairs[c.id][1])}</td></tr>\n'
        for c in both
    )
    name = f"{both[0].study}-protocols"
    title = "Verdicts of our runs under both protocols."
    plain = Table(
        title, ["claim", "as published", "corrected"], [[c.id, *pairs[c.id]] for c in both]
    )
    return (
        f'<div class="table"><p class="title" id="{name}">{title}</p><div class="box" '
        f'role="group" tabindex="0" aria-labelledby="{name}"><table class="prose" '
        f'aria-labelledby="{name}"><thead><tr><th scope="col">claim</th>'
        '<th scope="col">as published</th><th scope="col">corrected</th></tr></thead>\n'
        f"<tbody>{lines}</tbody></table></div>\n"
        f"{downloads(f'carryover-{name}', title, plain)}</div>"
    )
