"""Verdicts by kind of claim, and from whole folders of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ledger as small
from carryover.claims.decide import Decision, corrected
from carryover.claims.shown import as_json, as_markdown, listing, table, verdicts
from carryover.claims.verify import ACCEPTED, Entry, accept, differing, verify
from carryover.errors import DataError

SEEDS = range(5)
NOISE = (-0.01, 0.0, 0.01, 0.005, -0.005)


def decided(root: Path, gain: float, spread: float = 1.0, **change: Any) -> Entry:
    """The verdict of mini rows with a paired gain of llrd over probe."""
    small.write(root, change)
    rows = [small.row("probe", 0.6, seed) for seed in SEEDS]
    rows += [small.row("llrd", 0.6 + gain + spread * NOISE[s], s) for s in SEEDS]
    small.keep(root, rows)
    found = {entry.evidence: entry for entry in verify(root)}
    return found["mini"]


@pytest.mark.parametrize(
    ("gain", "spread", "verdict"),
    [
        (0.05, 1, "reproduced"),
        (-0.05, 1, "not reproduced"),
        (0.02, 10, "inconclusive"),
    ],
)
def test_an_inequality(tmp_path: Path, gain: float, spread: float, verdict: str) -> None:
    found = decided(tmp_path, gain, spread)
    assert found.decision.verdict == verdict
    assert found.decision.value == pytest.approx(gain)
    assert found.decision.n == "5 repeats x 1000 images"
    assert "above 0.01 (published 0.05)" in found.decision.reason


@pytest.mark.parametrize(
    ("gain", "spread", "verdict"),
    [(0.05, 1, "reproduced"), (0.1, 1, "not reproduced"), (0.05, 10, "inconclusive")],
)
def test_a_value_is_an_equivalence(
    tmp_path: Path, gain: float, spread: float, verdict: str
) -> None:
    found = decided(tmp_path, gain, spread, kind="value", margin=0.02)
    assert found.decision.verdict == verdict
    assert "within 0.02 of 0.05" in found.decision.reason


def test_an_equality_holds_in_every_run_or_not_at_all(tmp_path: Path) -> None:
    zero = {"kind": "equality", "expected": 0.0, "margin": 0.0}
    assert decided(tmp_path / "a", 0.0, 0.0, **zero).decision.verdict == "reproduced"
    assert decided(tmp_path / "b", 0.0, 0.1, **zero).decision.verdict == "not reproduced"


def test_a_bound_holds_in_every_run_or_not_at_all(tmp_path: Path) -> None:
    above = {"kind": "bound", "quantity": 'accuracy(item="llrd")', "expected": 0.65}
    held = decided(tmp_path / "a", 0.0, **above, margin=0.589).decision  # the least is 0.59
    assert (held.verdict, held.p, held.test) == ("reproduced", None, "every run")
    assert held.reason == "nearest in any run 0.5900, expected above 0.589"
    assert decided(tmp_path / "b", 0.0, **above, margin=0.591).decision.verdict == "not reproduced"
    equal = decided(tmp_path / "c", 0.0, 0.0, **above, margin=0.59).decision
    assert equal.verdict == "reproduced"


def test_an_order_needs_every_neighbour(tmp_path: Path) -> None:
    order = {
        "kind": "order",
        "margin": 0.0,
        "quantity": ['accuracy(item="llrd")', 'accuracy(item="probe")'],
        "expected": [0.65, 0.6],
    }
    assert decided(tmp_path / "a", 0.05, **order).decision.verdict == "reproduced"
    assert decided(tmp_path / "b", -0.05, **order).decision.verdict == "not reproduced"


def test_a_claim_without_rows_says_what_is_missing(tmp_path: Path) -> None:
    small.write(tmp_path, {})
    small.keep(tmp_path, [small.row("probe", 0.6, seed) for seed in SEEDS])
    found = {entry.evidence: entry.decision for entry in verify(tmp_path)}
    assert found["mini"].verdict == found["published"].verdict == "not run"
    assert found["mini"].reason == "missing: test accuracy (item llrd)"
    assert found["published"].reason == "no rows of adapt with preset published"
    assert "released" not in found


def test_released_results_agree_or_disagree_and_never_mix_with_rows(tmp_path: Path) -> None:
    folder = small.write(tmp_path, {})
    (folder / "released/adapt.csv").write_text(
        "item,cell,split,metric,value,n,plus_minus,source\n"
        "probe,method=probe,test,accuracy,0.635,25250,0.005,README at 00bc0f7\n"
        "llrd,method=llrd,test,accuracy,0.685,25250,0.005,README at 00bc0f7\n"
    )
    found = {entry.evidence: entry for entry in verify(tmp_path)}
    assert found["released"].decision.verdict == "released data agree"
    assert found["released"].decision.value == pytest.approx(0.05)
    assert found["released"].made_from["rows"] == ["claims/released/adapt.csv (README at 00bc0f7)"]
    assert found["mini"].decision.verdict == "not run"


@pytest.mark.parametrize("value", ["nan", "1.7"])
def test_a_released_number_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    folder = small.write(tmp_path, {})
    (folder / "released/adapt.csv").write_text(
        "item,cell,split,metric,value,n,plus_minus,source\n"
        f"probe,method=probe,test,accuracy,{value},25250,0.005,README\n"
    )
    with pytest.raises(DataError, match=r"adapt\.csv:2: expected an accuracy in 0\.\.1"):
        verify(tmp_path)


def test_a_refuted_value_has_the_p_of_the_nearer_end(tmp_path: Path) -> None:
    found = decided(tmp_path, 0.1, 5, kind="value", margin=0.02).decision
    nearer = decided(tmp_path, 0.1, 5, margin=0.07, expected=0.05).decision
    assert found.p == pytest.approx(nearer.p)


def test_holm_takes_back_what_only_stands_alone() -> None:
    weak, strong = Decision("reproduced", p=0.03), Decision("not reproduced", p=1e-6)
    several = [weak, strong, Decision("inconclusive", p=0.5), Decision("reproduced", p=None)]
    found = corrected(several)
    assert [each.verdict for each in found] == [
        *("inconclusive", "not reproduced", "inconclusive", "reproduced"),
    ]
    assert "Holm: 0.06" in found[0].reason
    assert corrected([weak]) == [weak]


def test_accepting_and_what_differs_afterwards(tmp_path: Path) -> None:
    decided(tmp_path, 0.05)
    assert accept(tmp_path) == 2
    assert differing(tmp_path, verify(tmp_path)) == []
    assert verdicts(tmp_path, "", False)[1]
    rows = [
        small.row(i, 0.6 - 0.1 * (i == "llrd") + NOISE[s], s)
        for s in SEEDS
        for i in ("probe", "llrd")
    ]
    small.keep(tmp_path, rows)
    text, same = verdicts(tmp_path, "", False)
    assert not same
    assert "adapt-gain@mini: accepted reproduced, now not reproduced" in text
    assert "adapt-gain@mini: reproduced" in (tmp_path / ACCEPTED).read_text()
    assert accept(tmp_path) == 1  # the changed one, once


def test_json_has_what_a_program_needs(tmp_path: Path) -> None:
    decided(tmp_path, 0.05)
    text, same = verdicts(tmp_path, "adapt", True)
    found = json.loads(text)
    assert not same
    first = found["claims"][0]
    assert (first["id"], first["study"], first["evidence"]) == ("adapt-gain", "adapt", "mini")
    assert (first["verdict"], first["value"]) == ("reproduced", pytest.approx(0.05))
    assert first["low"] < first["value"] < first["high"]
    assert first["rows"] == [f"reports/adapt/runs/{i}/rows.jsonl" for i in ("llrd", "probe")]
    assert found["scorecard"]["adapt"] == {
        "reproduced": 1,
        "not reproduced": 0,
        "inconclusive": 0,
        "not run": 0,
        "released data agree": 0,
        "released data disagree": 0,
    }


def test_what_vanishes_when_corrected_is_a_pair(tmp_path: Path) -> None:
    small.write(tmp_path, {"presets": ["published", "corrected"]})
    rows = [
        small.row(item, 0.6 + (item == "llrd") * gain + NOISE[s] / 10, s, preset=preset)
        for preset, gain in (("published", 0.05), ("corrected", 0.0))
        for item in ("probe", "llrd")
        for s in SEEDS
    ]
    small.keep(tmp_path, rows)
    assert as_json(verify(tmp_path))["pairs"] == [
        {"id": "adapt-gain", "as_published": "reproduced", "corrected": "not reproduced"}
    ]


def test_lists_and_tables_name_every_claim(tmp_path: Path) -> None:
    decided(tmp_path, 0.05)
    assert listing(tmp_path, "adapt").endswith("Tuning layer norms beats the probe.\n1 claims")
    entries = verify(tmp_path)
    assert "| adapt-gain | mini | reproduced | 0.05 |" in as_markdown(entries)
    assert table(entries).lines[1][:3] == ("adapt-gain", "published", "not run")
