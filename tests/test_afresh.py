from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from carryover import afresh, reproduce
from carryover.errors import KitError
from conftest import REPOSITORY, Checkout

LOCK = """schema: '2.0'
stages:
  data@digits:
    cmd: PYTHONPATH=src python -m carryover run data --item digits
    deps:
    - path: src/cmd.py
      md5: 0123
  report:
    cmd:
    - python first
    - python second
    outs:
    - path: reports/index.html
      md5: 4567
"""


def stages(text: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(text)["stages"]
    return found


def test_every_stage_has_another_command_and_nothing_else_changes(tiny: Checkout) -> None:
    Path("dvc.lock").write_text(LOCK)
    assert afresh.begin() == 0
    marked, before = stages(Path("dvc.lock").read_text()), stages(LOCK)
    assert marked["data@digits"]["cmd"].startswith("again PYTHONPATH=src python -m carryover")
    assert marked["report"]["cmd"] == ["again python first", "python second"]
    for name, stage in before.items():
        assert marked[name] | {"cmd": stage["cmd"]} == stage


def test_the_commands_of_the_committed_lock_are_all_found() -> None:
    lock = (REPOSITORY / "dvc.lock").read_text()
    names = [line for line in lock.splitlines() if line[:2] == "  " and line[2:3].isalnum()]
    assert len(names) > 30
    assert len(afresh.COMMAND.findall(lock)) == len(names)


def test_what_is_left_is_left_alone_and_counted(tiny: Checkout) -> None:
    lock = Path("dvc.lock")
    lock.write_text(LOCK)
    afresh.begin()
    stopped = lock.read_text().replace("again PYTHONPATH", "PYTHONPATH")  # the first one ended
    lock.write_text(stopped)
    assert afresh.begin() == 1
    assert lock.read_text() == stopped
    lock.write_text(LOCK)  # both did, or the lock was taken from git
    assert afresh.begin() == 0
    assert lock.read_text() != LOCK


def test_without_a_lock_every_stage_runs_as_it_is(tiny: Checkout) -> None:
    assert afresh.begin() == 0
    assert not Path("dvc.lock").exists()


def test_a_finished_run_is_one_of_its_parameters(tiny: Checkout) -> None:
    assert not afresh.is_finished()
    afresh.finish()
    assert afresh.is_finished()
    tiny.edit(seed=1)
    assert not afresh.is_finished()


def test_reproduce_forces_studies_and_marks_all_of_them(
    tiny: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[list[str], bool]] = []
    monkeypatch.setattr(reproduce, "_run_dvc", lambda _, told, fresh: called.append((told, fresh)))
    monkeypatch.setattr(reproduce, "tell", lambda *_: 0)
    Path("dvc.lock").write_text(LOCK)
    reproduce.reproduce(["cuts"], fresh=True, once=False)
    assert called == [
        (["cuts-report", "--force"], True),
        (["--single-item", "claims", "report", "--force"], True),
    ]
    assert Path("dvc.lock").read_text() == LOCK
    called.clear()
    reproduce.reproduce([], fresh=True, once=True)
    assert called == [([], True)]
    assert "cmd: again " in Path("dvc.lock").read_text()
    called.clear()
    reproduce.reproduce([], fresh=True, once=True)  # finished a moment ago
    assert called == [([], False)]


def test_a_run_that_failed_goes_on(
    tiny: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise KitError("expected a disk")

    monkeypatch.setattr(reproduce, "_run_dvc", refuse)
    Path("dvc.lock").write_text(LOCK)
    for left in (0, 2):
        with pytest.raises(KitError, match="expected a disk"):
            reproduce.reproduce([], fresh=True, once=True)
        said = capsys.readouterr().err
        assert (f"was stopped: {left} stages are left" in said) is (left > 0)


@pytest.mark.slow
def test_a_stopped_fresh_run_does_not_repeat_a_stage(tiny: Checkout) -> None:
    whole = YAML(typ="safe", pure=True)
    pipeline = whole.load(Path("dvc.yaml").read_text())
    with Path("dvc.yaml").open("w") as file:
        whole.dump({"stages": {"data": pipeline["stages"]["data"]}}, file)
    tiny.commit()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = tiny.environment(PATH=path, PYTHONUNBUFFERED="1", CARRYOVER_QUIET="")
    run = tiny.command("reproduce", "--fresh")

    def ran(text: str) -> list[str]:
        return [line.split()[-1] for line in text.splitlines() if line.startswith("stage ")]

    whole_run = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    order = ran(whole_run.stderr)
    assert len(order) == 3
    made = tiny.files()

    def stopped() -> int:
        """Stages that a run leaves that is stopped once its first has ended."""
        with subprocess.Popen(run, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            for line in process.stderr:
                if order[1] in line:
                    process.send_signal(signal.SIGTERM)
                    break
            began = time.monotonic()
            process.communicate(timeout=60)
        assert process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM)
        assert time.monotonic() - began < 30
        return Path("dvc.lock").read_text().count("cmd: again ")

    left = next((count for _ in range(3) if (count := stopped())), 0)  # 0: it ended meanwhile
    assert left in (1, 2)
    again = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert f"going on with a run that was stopped: {left} stages are left" in again.stderr
    assert ran(again.stderr) == order[-left:]
    assert f"\nstage {4 - left} of " in again.stderr  # those before it are counted
    assert {n: c for n, c in tiny.files().items() if not n.startswith(".")} == {
        n: c for n, c in made.items() if not n.startswith(".")
    }
