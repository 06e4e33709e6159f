from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from carryover import files, provenance, run
from carryover.errors import ConfigError, DataError, KitError
from carryover.files import digest, digest_of_files, write_json, write_text
from carryover.rows import Row, read_rows, write_rows

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def row(**changes: Any) -> Row:
    values: dict[str, Any] = {
        "study": "cuts",
        "item": "fr",
        "preset": "mini",
        "cell": {"fraction": 0.05, "cut": 3, "repeat": 0},
        "split": "test",
        "metric": "accuracy",
        "value": 0.1 + 0.2,
        "n": 10,
        "data": "d",
        "weights": "w",
        "params": "p",
        "source": "s",
        "precision": "float32",
    }
    return Row(**(values | changes))


# --- folders -----------------------------------------------------------------------------------


def test_home_is_the_checkout_also_in_a_temporary_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CARRYOVER_SCRATCH", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert run.home() == tmp_path
    monkeypatch.chdir(copy)
    assert run.home() == tmp_path
    assert run.scratch_root() == tmp_path / ".scratch"
    monkeypatch.chdir("/")
    monkeypatch.setenv("DVC_ROOT", str(copy))
    assert run.home() == tmp_path


def test_a_folder_called_exps_alone_is_no_temporary_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "exps" / "kit").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "exps" / "kit")
    assert run.home() == tmp_path / "exps" / "kit"
    (tmp_path / "tmp" / "exps" / "kit").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "tmp" / "exps" / "kit")
    assert run.home() == tmp_path / "tmp" / "exps" / "kit"


# --- digests -----------------------------------------------------------------------------------


def test_a_digest_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert digest([1, 2]) != digest([2, 1])
    assert digest({"a": 1}) == "015abd7f5cc57a2d"  # the first half of SHA-256 of {"a":1}


def test_a_digest_of_files_is_of_their_bytes_in_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    first = digest_of_files([a, b])
    assert first != digest_of_files([b, a])
    assert first == digest_of_files([a, b])
    b.write_text("3")
    assert digest_of_files([a, b]) != first


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Names of the modules that `a` needs in a package made of these texts."""
    folder = tmp_path / provenance.PACKAGE.name
    monkeypatch.setattr(provenance, "PACKAGE", folder)

    def names(**texts: str) -> list[str]:
        folder.mkdir()
        for name, text in texts.items():
            path = folder / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return [str(p.relative_to(folder)) for p in provenance.modules_of("carryover.a")]

    return names


def test_modules_are_found_through_every_form_of_import(package: Callable[..., list[str]]) -> None:
    found = package(
        a="import carryover.b\nfrom carryover import c\n"
        "def f():\n    from carryover.sub.d import x",
        b="import os",
        c="from carryover.e import y",
        e="",
        sub__d="",
        unused="",
    )
    assert found == ["a.py", "b.py", "c.py", "e.py", "sub/d.py"]


def test_imports_for_type_checking_do_not_count(package: Callable[..., list[str]]) -> None:
    found = package(
        a="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from carryover.b import T\n"
        "if True:\n    import carryover.c",
        b="",
        c="import carryover.a",
    )
    assert found == ["a.py", "c.py"]


def test_the_source_digest_of_a_study_covers_the_training_loop_and_not_the_cli() -> None:
    names = {path.name for path in provenance.modules_of("carryover.studies.cuts")}
    assert {"cuts.py", "train.py", "cut.py", "store.py", "run.py", "errors.py"} <= names
    assert not {"cli.py", "stages.py", "params.py"} & names


# --- device and seeds --------------------------------------------------------------------------


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--device: expected one of auto, cpu, cuda, got 'tpu'"):
        run.device("tpu")


def test_cuda_without_a_gpu_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run.device("cpu") == run.device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="expected a GPU for 'cuda', torch finds none; use"):
        run.device("cuda")


def test_a_purpose_has_its_own_stream() -> None:
    def draws(seed: int, purpose: str) -> list[float]:
        return torch.rand(4, generator=run.generator(seed, purpose)).tolist()

    assert draws(0, "cuts/images/1") == draws(0, "cuts/images/1")
    streams = [draws(0, "cuts/images/1"), draws(0, "cuts/images/2"), draws(1, "cuts/images/1")]
    assert len({tuple(stream) for stream in streams}) == 3


def test_a_stream_is_the_same_on_every_machine() -> None:
    assert run.generator(0, "data/test").initial_seed() == 5519380443158630614


def test_workers_default_to_the_cores_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CARRYOVER_WORKERS", raising=False)
    assert run.workers() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("CARRYOVER_WORKERS", "3")
    assert run.workers() == 3


# --- rows --------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [row(), row(value=1.0, cell={"fraction": 1.0, "cut": -1, "repeat": 1})]
    path = tmp_path / "new" / "rows.jsonl"
    write_rows(path, rows)
    assert read_rows(path) == rows
    assert read_rows(path)[0].value == 0.1 + 0.2
    assert [p.name for p in path.parent.iterdir()] == ["rows.jsonl"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row()])
    path.write_text(path.read_text() + '{"study": "cuts"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2: expected a row, got '\{\"study\""):
        read_rows(path)
    path.write_text("not JSON\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:1: expected a row, got 'not JSON'"):
        read_rows(path)
    with pytest.raises(DataError, match="expected rows, found no file; run the stage"):
        read_rows(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("failing", ["fsync", "replace", "chmod"])
def test_a_full_disk_leaves_the_old_rows_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row()])
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise FULL

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(KitError) as caught:
        write_rows(path, [row(), row()])
    said = "rows.jsonl: expected to write this file, got 'No space left on device'; nothing was "
    assert said + "changed: free space" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]
    assert path.read_bytes() == before


def test_a_full_disk_before_the_first_byte_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise FULL

    monkeypatch.setattr(files.tempfile, "mkstemp", full)
    with pytest.raises(KitError, match="No space left on device"):
        write_rows(tmp_path / "rows.jsonl", [row()])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "x", "1")
    assert list(tmp_path.iterdir()) == []


def test_equal_values_give_equal_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": 1, "a": [0.5]})
    write_json(tmp_path / "b", {"a": [0.5], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_text() == '{\n  "a": [\n    0.5\n  ],\n  "b": 1\n}\n'


# --- telling -----------------------------------------------------------------------------------


def test_progress_goes_to_the_file_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARRYOVER_PROGRESS", str(tmp_path / "told"))
    with run.progress("cells", 5, done=2) as advance:
        assert (tmp_path / "told").read_text() == "2 5"
        advance()
    assert (tmp_path / "told").read_text() == "3 5"
