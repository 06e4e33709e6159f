"""What `make audit` says of an answer of the advisory database, and of none."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from conftest import REPOSITORY


@pytest.fixture
def audit() -> ModuleType:
    place = REPOSITORY / "requirements" / "audit.py"
    spec = importlib.util.spec_from_file_location("audit", place)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ANSWER = {
    "dependencies": [
        {"name": "good", "version": "1.0", "vulns": []},
        {"name": "unknown", "skip_reason": "not there"},
        {
            "name": "bad",
            "version": "2.0",
            "vulns": [
                {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"]},
                {"id": "PYSEC-2", "aliases": [], "fix_versions": []},
            ],
        },
    ]
}


def test_each_advisory_has_a_line_and_a_reason_lets_it_pass(audit: ModuleType) -> None:
    lines, count = audit.told(ANSWER, {"CVE-1": "not called here", "CVE-9": "gone"})
    assert lines == [
        "PYSEC-1: bad 2.0, fixed in 2.1; let pass: not called here",
        "PYSEC-2: bad 2.0, fixed in nowhere",
        "CVE-9: expected an advisory that is still there; take it out",
        "3 packages asked for, 1 not known to it (unknown); 1 open advisories",
    ]
    assert count == 1


def test_without_an_answer_nothing_is_known(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess([], 1, "", "trace\nno route to host\n")

    monkeypatch.setattr(audit.subprocess, "run", run)
    assert audit.main() == 2
    assert "got 'no route to host'; nothing is known of the lock" in capsys.readouterr().err


def test_the_exceptions_are_ids_with_reasons(audit: ModuleType, tmp_path: Path) -> None:
    audit.EXCEPTIONS = tmp_path / "exceptions"
    audit.EXCEPTIONS.write_text("# why\n\nCVE-1 not called here  # 2026\n")
    assert audit.exceptions() == {"CVE-1": "not called here"}
