"""The numbers in the README are those of the reports."""

from __future__ import annotations

import json
from typing import Any

import pytest

from carryover.claims.shown import counted
from carryover.report.tables import markdown
from conftest import REPOSITORY

TEXT = (REPOSITORY / "README.md").read_text()
CLAIMS: dict[str, Any] = json.loads((REPOSITORY / "reports/claims.json").read_text())
VALUES = {(entry["id"], entry["evidence"]): entry for entry in CLAIMS["claims"]}
SUMMARY: dict[str, Any] = json.loads((REPOSITORY / "reports/cuts/summary.json").read_text())


def test_the_scorecard_is_that_of_the_ledger() -> None:
    table = markdown(counted(CLAIMS["scorecard"])).split("\n\n", 1)[1].strip()
    assert table in TEXT


@pytest.mark.parametrize(
    ("said", "claim"),
    [
        ("reach 4.9 % and", "continual-f9-test"),
        ("and 5.0 %.", "continual-f10-test"),
    ],
)
def test_a_finding_has_the_value_that_the_ledger_has(said: str, claim: str) -> None:
    found = VALUES[claim, "released"]
    assert said in " ".join(TEXT.split())
    assert f"{100 * found['value']:.1f}" in said
    assert found["verdict"] == "released data disagree"


def test_the_same_networks_differ_by_as_much_as_the_readme_says() -> None:
    entry = VALUES["cuts-t6-cifar10", "released"]
    assert "differ by 3.6 points" in " ".join(TEXT.split())
    assert "+0.0362 at 100 % though train accuracies of 80 of 80 runs are equal" in entry["reason"]
    assert entry["verdict"] == "released data disagree"


def test_the_ranking_holds_in_the_released_matrices() -> None:
    for claim in ("sequence-m4-ranking", "sequence-m5-ranking"):
        entry = VALUES[claim, "released"]
        assert entry["verdict"] == "released data agree"
        assert entry["low"] > 0
    assert VALUES["sequence-m4-close", "released"]["p"] > 0.05


def test_the_figure_caption_has_the_numbers_of_the_summary() -> None:
    little, all_ = SUMMARY["fr"]["10_images"]["gain"], SUMMARY["fr"]["398_images"]["gain"]
    words = " ".join(TEXT.split())
    for gain in (little, all_):
        low, high = 100 * gain["low"], 100 * gain["high"]
        assert f"{100 * gain['value']:.1f} " in words
        assert f"[{low:.1f}, {high:.1f}]" in words
