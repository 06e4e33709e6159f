from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from carryover.errors import KitError
from carryover.scratch import Scratch, alone
from conftest import SRC

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARRYOVER_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def test_finished_cells_are_found_again(scratch: Path) -> None:
    first = Scratch("cuts@fr", {"params": "a"})
    first.add("0.5/1/0", [["test", 0.25]])
    first.add("0.5/1/1", [["test", 0.1 + 0.2]])
    again = Scratch("cuts@fr", {"params": "a"})
    assert again.cells() == {"0.5/1/0": [["test", 0.25]], "0.5/1/1": [["test", 0.1 + 0.2]]}


def test_cells_of_other_parameters_are_not_seen(scratch: Path) -> None:
    Scratch("cuts@fr", {"params": "a"}).add("x", 1)
    assert Scratch("cuts@fr", {"params": "b"}).cells() == {}
    assert Scratch("cuts@ft", {"params": "a"}).cells() == {}


@pytest.mark.parametrize(
    "torn", ['["c", {"va', '["c"', "[", '["c", 3]', "\x00\x00\x00", "5\n", "[[1], 2]"]
)
def test_a_line_torn_by_a_kill_is_dropped_and_work_goes_on(scratch: Path, torn: str) -> None:
    state = Scratch("cuts@fr", {})
    state.add("a", 1)
    state.add("b", 2)
    with state.path.open("a") as file:
        file.write(torn)
    whole = {"a": 1, "b": 2} | ({"c": 3} if torn == '["c", 3]' else {})  # only its end is gone
    assert state.cells() == whole
    state.add("d", 4)
    assert state.cells() == whole | {"d": 4}


def test_a_line_of_other_bytes_is_dropped(scratch: Path) -> None:
    state = Scratch("cuts@fr", {})
    state.add("a", 1)
    with state.path.open("ab") as file:
        file.write(b"\xff\xfe\n")
    assert state.cells() == {"a": 1}
    assert state.path.read_text() == '["a", 1]\n'


def test_clearing_forgets_the_cells_and_what_lies_beside(scratch: Path) -> None:
    state = Scratch("cuts@fr", {})
    state.clear()  # nothing there yet
    state.add("a", 1)
    (state.folder / "training.pt").write_bytes(b"1")
    state.clear()
    assert state.cells() == {}
    assert not state.folder.exists()


def test_a_full_disk_is_told_when_a_cell_is_kept(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise FULL

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KitError, match=r"cells\.jsonl: expected to write this file, got 'No space"):
        Scratch("cuts@fr", {}).add("a", 1)


HOLD = """
import sys
from carryover.scratch import alone
with alone("x.lock", "job"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_told_who_holds(scratch: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(
                KitError, match=f"expected to be the only job here, process {holder.pid}"
            ),
            alone("x.lock", "job"),
        ):
            raise AssertionError("both hold it")
        holder.kill()  # whatever the holder's end, the lock goes with it
        holder.wait()
    with alone("x.lock", "job"):
        assert (scratch / "x.lock").read_text() == str(os.getpid())


def test_another_lock_is_free_and_a_lock_is_freed(scratch: Path) -> None:
    with alone("x.lock", "job"), alone("y.lock", "job"):
        pass
    with alone("x.lock", "job"):
        pass
