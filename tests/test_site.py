from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from carryover.errors import DataError
from carryover.report import page_claims, page_ledger, page_scorecard, site
from carryover.report.page_html import blocks, figure, interval, small, table, text
from carryover.report.page_studies import STUDIES
from carryover.report.tables import Table, markdown
from carryover.stages import run_stage
from conftest import Checkout
from page_entries import (
    AGREES,
    CLAIMS,
    DISAGREES,
    FAILS,
    HOLDS,
    NOT_RUN,
    entry,
    write,
    write_claims,
)

VOID = {"meta", "link", "img", "br"}


class Reader(HTMLParser):
    """Every element with its attributes; complains about elements that are not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ledger and reports of the small page, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write()
    return tmp_path


@pytest.fixture
def ledger(inputs: Path) -> page_ledger.Ledger:
    return page_ledger.read(STUDIES)


@pytest.fixture
def page(inputs: Path) -> str:
    return site.page()


def claim(*entries: dict[str, Any]) -> page_ledger.Claim:
    write_claims(list(entries))
    return page_ledger.read(STUDIES).claims[0]


# --- the ledger --------------------------------------------------------------------------------


def test_claims_come_study_by_study_with_their_verdicts(ledger: page_ledger.Ledger) -> None:
    names = ["cuts-t1", "cuts-t2", "cuts-t10", "sequence-m4", "retrieval-r3"]
    assert [found.id for found in ledger.claims] == names
    first = ledger.claims[0]
    assert [v.evidence for v in first.verdicts] == ["released", "published", "corrected", "mini"]
    assert (first.ran, ledger.claims[2].ran) == (True, False)
    assert ledger.pairs == {"cuts-t1": (HOLDS, FAILS)}
    assert [found.id for found in ledger.of("sequence")] == ["sequence-m4"]


def test_no_ledger_says_what_to_run(inputs: Path) -> None:
    Path("reports/claims.json").unlink()
    with pytest.raises(DataError, match=r"claims\.json: expected this file, found none; run `dvc"):
        site.page()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda found: found["claims"][0].pop("low"),
            "expected the fields low, got 'cuts-t1' with",
        ),
        (
            lambda found: found["claims"][0].update(study="x"),
            "expected study one of survival, cuts, .*'x' in",
        ),
        (lambda found: found["claims"][0].update(evidence="x"), "evidence one of released, .*'x'"),
        (lambda found: found["claims"][0].update(verdict="x"), "verdict one of reproduced, .*'x'"),
        (lambda found: found.pop("claims"), "expected an object with a list 'claims'"),
        (lambda found: found["pairs"][0].update(id="x"), "pairs of claims that it lists, got 'x'"),
    ],
)
def test_a_faulty_ledger_is_refused(
    inputs: Path, spoil: Callable[[Any], Any], message: str
) -> None:
    found = json.loads(Path("reports/claims.json").read_text())
    spoil(found)
    Path("reports/claims.json").write_text(json.dumps(found))
    with pytest.raises(DataError, match=message):
        site.page()


def test_a_cut_file_is_refused(inputs: Path) -> None:
    Path("reports/claims.json").write_text('{"claims": [')
    with pytest.raises(DataError, match="expected JSON"):
        site.page()


@pytest.mark.parametrize(
    ("changes", "low", "high", "refuted"),
    [
        ({}, 0.01, 0.019, True),
        ({}, 0.01, 0.021, False),
        ({"expected": -0.1, "margin": 0.0}, 0.001, 0.1, True),
        ({"expected": -0.1, "margin": 0.0}, -0.001, 0.1, False),
        ({"kind": "value", "expected": 0.5}, 0.521, 0.6, True),
        ({"kind": "value", "expected": 0.5}, 0.519, 0.6, False),
        ({"kind": "equality", "expected": 0, "margin": 0}, 0.0, 0.0, False),
        ({"kind": "equality", "expected": 1, "margin": 0}, 0.0, 0.0, True),
        ({"kind": "order", "expected": [0.2, 0.3], "margin": 0}, -0.2, -0.1, True),
        ({}, None, None, False),
    ],
)
def test_a_claim_is_refuted_by_a_whole_interval(
    inputs: Path, changes: dict[str, Any], low: float | None, high: float | None, refuted: bool
) -> None:
    found = claim(entry("cuts-t1", "mini", FAILS, low=low, high=high, **changes))
    assert found.refuted(found.verdicts[0]) is refuted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "above 0.02; published 0.1610"),
        ({"kind": "trend", "expected": -0.894, "margin": 0}, "below 0; published -0.8940"),
        ({"expected": 0.001}, "below 0.02; published 0.0010"),
        ({"kind": "value", "expected": 0.5}, "within 0.02 of 0.5000"),
        ({"kind": "equality", "expected": 0}, "0 in every run"),
        ({"kind": "equality", "expected": 1}, "exactly 1"),
        (
            {"kind": "order", "expected": [0.3, 0.2], "margin": 0},
            "each above the next, smallest difference above 0",
        ),
    ],
)
def test_the_rule_of_a_claim_in_words(inputs: Path, changes: dict[str, Any], said: str) -> None:
    assert page_claims.claimed(claim(entry("cuts-t1", "mini", HOLDS, **changes))) == said


# --- the first screen --------------------------------------------------------------------------


def test_counts_are_of_claims(ledger: page_ledger.Ledger) -> None:
    assert page_scorecard.counts(ledger.claims) == {
        "reproduced": 1,
        "not reproduced": 1,
        "inconclusive": 1,
        "not run": 3,
        "released data agree": 2,
        "released data disagree": 2,
    }
    assert sum(page_scorecard.counts(ledger.of("retrieval")).values()) == 1
    said = page_scorecard.sentence(ledger)
    assert said.startswith("5 published claims of 3 studies, ")
    assert "Our runs have judged 2 so far; released results decide 4, and disagree" in said
    assert said.endswith("in 2 cases.")


def finding(page: str, title: str) -> str:
    """What stands below a finding's heading."""
    start = page.index(f"<h3>{title}")
    end = min(i for i in (page.find("<h3>", start + 1), page.find("</section>", start)) if i > 0)
    return page[start:end]


def test_a_claim_that_the_correction_turns_is_the_first_finding(page: str) -> None:
    found = finding(page, "Holds as published, vanishes when corrected")
    assert re.findall(r'href="#(claim-[^"]+)"', found) == ["claim-cuts-t1"]
    assert "our run, as published 0.0814 [0.0642, 0.0985]; our run, corrected" in found
    assert "claim-cuts-t1" not in finding(page, "Not reproduced by our runs")  # said above


def test_what_released_data_settle_comes_before_what_they_leave_open(page: str) -> None:
    found = finding(page, "Not borne out")
    assert "2 claims" in found
    assert re.findall(r'href="#(claim-[^"]+)"', found) == ["claim-cuts-t2", "claim-cuts-t10"]
    assert found.count("by the estimate alone: its interval leaves it open") == 1


def test_findings_follow_the_ledger(inputs: Path) -> None:
    write_claims([found for found in CLAIMS if found["id"] != "cuts-t2"])
    assert "claim-cuts-t2" not in site.page()
    plain = [entry("cuts-t1", "mini", HOLDS)]
    made = {"claims": plain, "pairs": [], "scorecard": {}}
    Path("reports/claims.json").write_text(json.dumps(made))
    page = site.page()
    assert "None: 0 of 1 claim ran under both protocols." in page
    assert "None." in finding(page, "Not borne out")


def test_many_claims_of_a_finding_start_with_one_of_each_study(inputs: Path) -> None:
    names = [f"cuts-t{i}" for i in range(1, 6)] + ["adapt-c1", "sequence-m1"]
    write_claims(
        [*CLAIMS[:3], *(entry(n, "released", DISAGREES, low=-1, high=0) for n in names[1:])]
    )
    found = finding(site.page(), "Not borne out")
    shown = re.findall(r'href="#claim-([^"]+)"', found)
    assert shown == ["cuts-t2", "adapt-c1", "sequence-m1", "cuts-t3", "cuts-t4", "cuts-t5"]
    assert "<summary>3 more" in found


# --- claims and sections -----------------------------------------------------------------------


def test_a_verdict_has_its_numbers_and_its_evidence(page: str) -> None:
    block = page[page.index('id="claim-cuts-t1"') : page.index('id="claim-cuts-t2"')]
    assert "Statement of &lt;cuts-t1&gt; &amp; more." in block
    assert "<b>0.0814 [0.0642, 0.0985]</b> <span>p = 0.0012</span>" in block
    assert "n: 25 repeats \N{MULTIPLICATION SIGN} 4861 images" in block
    assert 'href="../results/published/cuts/mnist/runs/fr/rows.jsonl">fr</a>' in block
    assert 'href="cuts/runs/fr/rows.jsonl">' in block
    assert 'href="../claims/released/cuts.csv">cuts.csv</a>' in block
    for digest in ("3834ba9f9acff267", "827a2faea57e9435", "75ac3366942fd3c0"):
        assert block.count(f"<code>{digest}</code>") == 4
    assert '<p class="reason">why cuts-t1 is not reproduced</p>' in block


def test_only_files_of_ours_are_linked(inputs: Path) -> None:
    write_claims([*CLAIMS[:3], entry("adapt-c1", "released", AGREES, rows=["CLIP/README.md <b>"])])
    page = site.page()
    block = page[page.index('id="claim-adapt-c1"') :]
    assert "rows: CLIP/README.md &lt;b&gt;<br>" in block
    assert 'README.md"' not in block
    assert 'class="rows"' not in block


def test_presets_without_rows_share_a_line(inputs: Path) -> None:
    write_claims(
        [
            *CLAIMS[:3],
            *(entry("adapt-c1", name, NOT_RUN) for name in ("mini", "lab", "released")),
        ]
    )
    page = site.page()
    block = page[page.index('id="claim-adapt-c1"') :]
    assert 'data-evidence="lab own mini"' in block
    assert '<span class="who">our runs: lab, mini</span>' in block
    assert "nothing released that decides it" in block
    assert block.count("not run in any preset") == 1


def test_a_study_without_rows_says_so_and_what_is_missing(page: str) -> None:
    part = page[page.index('<section class="study" id="sequence"') :]
    part = part[: part.index("</section>")]
    assert "Not run: no rows of ours decide any of its 1 claim; missing:" in part
    assert "no rows of sequence-m4 with mini" in part
    assert AGREES in part
    assert "The original's protocol and the corrected one." in html.unescape(part)
    adapt = page[page.index('<section class="study" id="adapt"') :]
    assert "lists no claims" in adapt[: adapt.index("</section>")]


def test_a_study_without_figures_and_rows_says_what_is_to_be_done(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STUDIES, "retrieval", replace(STUDIES["retrieval"], figures={}))
    page = site.page()
    part = page[page.index('<section class="study" id="retrieval"') :]
    assert "what a corrected run is to do." in part[: part.index("</section>")]


def test_ours_stand_beside_the_published(page: str) -> None:
    start = page.index('id="cuts-corrected-mnist"')
    part = page[start : page.index("</table>", start)]
    cells = ["4", "87.0", "82.0", "+5.0", "[+3.6, +6.8]", "different", "25 / 25", "4861 / 29404"]
    found = re.findall(r"<td[^>]*>([^<]*)</td>", part)
    assert found[-len(cells) :] == cells
    assert found.count("scratch") == 1
    unpublished = ["0", "70.0", "", "", "", "not published", "25 / 0", "4861 / "]
    assert found[-17:-9] == unpublished
    assert "3 of 4 cells; the others have not been run." in part
    assert "NOT the same test images" in part


def test_faults_and_both_verdicts_stand_side_by_side(page: str) -> None:
    assert page.count("real test images</td>") == 1
    start = page.index('id="cuts-protocols"')
    part = page[start : page.index("</table>", start)]
    assert re.findall(r"</span> ([a-z ]+)</span>", part) == [HOLDS, FAILS]


def test_a_report_that_is_absent_says_what_to_run(inputs: Path) -> None:
    Path("reports/clusters/predict.svg").unlink()
    with pytest.raises(DataError, match=r"predict\.svg: .*run `carryover report --only clusters`"):
        site.page()


# --- the page as a file ------------------------------------------------------------------------


def test_the_page_is_whole_and_asks_for_nothing(page: str) -> None:
    found = Reader(page)
    ids = found.values("id")
    assert len(ids) == len(set(ids)) > 40
    places = {href[1:] for href in found.values("href") if href.startswith("#")}
    assert places <= set(ids)
    names = " ".join(found.values("aria-labelledby")).split()
    assert set(names) <= set(ids)
    assert all(src.startswith("data:image/svg+xml;base64,") for src in found.values("src"))
    plain = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch\(", plain)
    assert str(Path.cwd()) not in page
    assert [tag for tag, _ in found.elements].count("h1") == 1


def test_the_policy_names_style_and_script(page: str) -> None:
    import hashlib

    for name in ("style", "script"):
        inside = re.search(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)
        assert inside
        digest = base64.b64encode(hashlib.sha256(inside[1].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_equal_inputs_give_equal_bytes(page: str) -> None:
    assert site.page() == page


def saved(page: str, name: str) -> str:
    """The content of a download."""
    found = re.search(rf'download="{name}" href="data:[^;]+;charset=utf-8;base64,([^"]+)"', page)
    assert found
    return base64.b64decode(found[1]).decode()


CLAIMED = {entry["study"] for entry in CLAIMS}


def test_every_table_offers_csv_and_latex(page: str) -> None:
    tables = page.count("<table")
    assert tables == 1 + 14 + 1 + 6 + 1  # scorecard, reports, comparison, faults, both protocols
    lists = 3 + 1  # claims of three studies, of all
    assert page.count('.csv" href="data:text/csv') == tables + lists
    assert page.count('.tex" href="data:text/x-tex') == tables + lists
    assert saved(page, "carryover-cuts-table-1.csv") == "setting,data,gain\nfr,10 %,-1.5\n"
    assert r"fr & 10 \% & -1.5 \\" in saved(page, "carryover-cuts-table-1.tex")
    scores = list(csv.DictReader(io.StringIO(saved(page, "carryover-scorecard.csv"))))
    titles = [study.title for name, study in STUDIES.items() if name in CLAIMED]
    assert [line["study"] for line in scores] == titles
    assert [line["not run"] for line in scores] == ["1", "1", "1"]
    lines = list(csv.DictReader(io.StringIO(saved(page, "carryover-claims.csv"))))
    assert len(lines) == len(CLAIMS)
    assert {line["verdict"] for line in lines if line["claim"] == "cuts-t10"} == {
        NOT_RUN,
        DISAGREES,
    }
    assert lines[0]["value"] == "0.08137"
    assert len(saved(page, "carryover-sequence-claims.csv").splitlines()) == 3


def test_the_stage_writes_the_page(tiny: Checkout) -> None:
    write()
    run_stage("report", "")
    assert Path("reports/index.html").read_text() == site.page()


# --- pieces ------------------------------------------------------------------------------------


def test_text_is_escaped_and_has_a_real_minus() -> None:
    assert text("a < b & -0.5 [-1, cnn6-digits-0-4, 6-20]") == (
        "a &lt; b &amp; \u22120.5 [\u22121, cnn6-digits-0-4, 6-20]"
    )


def test_numbers_have_four_decimals_and_an_interval() -> None:
    assert interval(0.08137, 0.0642, 0.0985) == "0.0814 [0.0642, 0.0985]"
    assert interval(2345.6, None, None) == "2346"
    assert interval(-0.0, None, None) == "0.0000"
    assert interval(None, None, None) == ""
    assert (small(0.0123), small(1e-7), small(None)) == ("p = 0.012", "p < 0.0001", "")


def test_markdown_comes_apart_into_paragraphs_and_titled_tables() -> None:
    made = markdown(Table("T < U.", ["x", "y"], [["1", "a | b"[:1]]]))
    found = blocks(f"# Heading\n\nOne\nparagraph.\n\n{made}")
    assert found == ["One paragraph.", Table("T < U.", ["x", "y"], [["1", "a"]])]


def test_columns_of_numbers_are_set_right() -> None:
    made = table(Table("T.", ["name", "n", "95 %"], [["a<b", "-1.5", "[1, 2]"]]), "t")
    assert '<th scope="row">a&lt;b</th><td class="num">\u22121.5</td><td>[1, 2]</td>' in made
    assert '<th scope="col" class="num">n</th>' in made


def test_a_figure_has_its_size_and_both_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text('<svg xmlns="x" width="504pt" height="201.6pt"></svg>')
    made = figure(path, "A plot", "What it shows & how.")
    assert 'alt="A plot" width="672" height="269"' in made
    assert "<figcaption>What it shows &amp; how.</figcaption>" in made
