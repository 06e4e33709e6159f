"""State of unfinished work: what was written comes back, or nothing does."""

from __future__ import annotations

import fcntl
import hashlib
import io
import tracemalloc
from pathlib import Path

import pytest
import torch

from carryover import snapshots
from carryover.files import write_bytes

CPU = torch.device("cpu")


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.pt"
    state = {"x": torch.tensor([0.1, 2.0]), "n": 3, "names": ["a", None], "deep": {1: {"y": True}}}
    snapshots.write(path, state)
    found = snapshots.read(path, CPU)
    assert found is not None
    assert torch.equal(found.pop("x"), state.pop("x"))
    assert found == state
    assert snapshots.is_whole(path)


def test_a_file_is_what_torch_writes_and_its_sum(tmp_path: Path) -> None:
    state = {"x": torch.arange(5.0), "n": 3}
    snapshots.write(tmp_path / "a.pt", state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    written = buffer.getvalue()
    assert (tmp_path / "a.pt").read_bytes() == written + hashlib.sha256(written).digest()


def test_a_state_is_held_once_more_while_it_is_written(tmp_path: Path) -> None:
    state = {"x": torch.ones(2**22)}  # 16 MiB, which tracemalloc does not see
    tracemalloc.start()
    try:
        snapshots.write(tmp_path / "a.pt", state)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * state["x"].nbytes


def test_no_file_is_no_state_and_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert snapshots.read(tmp_path / "a.pt", CPU) is None
    assert capsys.readouterr().err == ""


def test_every_flipped_byte_and_every_cut_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.pt"
    snapshots.write(path, {"x": torch.ones(2)})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert not snapshots.is_whole(path)
    assert snapshots.read(path, CPU) is None
    said = f"{path}: expected the bytes that were written, got others; what it was kept for starts"
    assert capsys.readouterr().err.startswith(said)
    for length in (0, 1, 31, 32, 33, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert not snapshots.is_whole(path)


def test_what_a_killed_writer_left_is_deleted_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "rows[1].jsonl"
    left = tmp_path / ".rows[1].jsonl.abcdefgh"
    others = [tmp_path / name for name in (".rows[1].jsonl.lock", ".rows1.jsonl.abcdefgh", "x")]
    for each in (left, *others):
        each.write_text("half")
    write_bytes(path, b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])
    assert path.read_bytes() == b"whole"


def test_what_another_process_writes_now_is_left_to_it(tmp_path: Path) -> None:
    path, writing = tmp_path / "a", tmp_path / ".a.abcdefgh"
    with writing.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_bytes(path, b"mine")
        assert writing.exists()
    write_bytes(path, b"mine")
    assert not writing.exists()
