"""``carryover claims``: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import ledger as small
from carryover import cli

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    """Calls ``carryover claims`` in a folder with a small ledger and rows that decide it."""
    small.write(tmp_path, {})
    small.keep(
        tmp_path,
        [
            small.row(item, v + s / 100, s)
            for item, v in (("probe", 0.6), ("llrd", 0.7))
            for s in (0, 1)
        ],
    )
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["carryover", "claims", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return call


def test_verify_says_no_until_the_verdicts_are_accepted(claims: Cli) -> None:
    code, out, _ = claims("verify")
    assert code == 1
    assert "adapt-gain@mini: accepted nothing, now reproduced" in out
    code, out, _ = claims("accept")
    assert (code, out) == (0, "2 verdicts changed; claims/verdicts.yaml\n")
    code, out, _ = claims("verify")
    assert code == 0
    assert out.endswith("adapt: 1 reproduced\n\nEvery verdict is the accepted one.\n")


def test_verify_prints_json_alone(claims: Cli) -> None:
    code, out, _ = claims("verify", "--json", "--study", "adapt")
    assert code == 1
    assert [entry["evidence"] for entry in json.loads(out)["claims"]] == ["mini", "published"]


def test_rows_that_a_quantity_did_not_foresee_leave_its_claim_alone_undecided(
    claims: Cli,
) -> None:
    rows = [small.row("llrd", 0.6, seed) for seed in range(3)]
    other = [
        replace(each, cell=each.cell | {"partition": 0.2})
        for item in ("llrd", "probe")
        for each in [small.row(item, 0.5, seed) for seed in range(3)]
    ]
    rows += [small.row("probe", 0.5, seed) for seed in range(3)]
    small.keep(Path(), rows + other)
    code, out, _ = claims("verify", "--json")
    (mini, _) = json.loads(out)["claims"]
    assert (code, mini["verdict"]) == (1, "not run")
    assert "does not fit these rows: " in mini["reason"]
    assert "expected one value, got 2 over partition" in mini["reason"]


def test_list_names_the_claims(claims: Cli) -> None:
    code, out, _ = claims("list")
    assert (code, out.splitlines()[-1]) == (0, "1 claims")
    assert out.startswith("adapt-gain  inequality")


@pytest.mark.parametrize("command", ["list", "verify"])
def test_an_unknown_study_is_refused(claims: Cli, command: str) -> None:
    code, _, err = claims(command, "--study", "cutz")
    assert code == 2
    assert err == "carryover: --study: expected one of adapt, got 'cutz'\n"


def test_a_faulty_ledger_is_refused_and_nothing_is_written(claims: Cli) -> None:
    Path("claims/adapt.yaml").write_text("- id: adapt-x\n")
    code, _, err = claims("accept")
    assert code == 2
    assert "claims/adapt.yaml[0]: expected the keys" in err
    assert not Path("claims/verdicts.yaml").exists()


def test_a_faulty_released_table_is_refused(claims: Cli) -> None:
    Path("claims/released/adapt.csv").write_text("item,value\nprobe,0.5\n")
    code, _, err = claims("verify")
    assert code == 2
    assert "claims/released/adapt.csv: expected the columns item, cell" in err
