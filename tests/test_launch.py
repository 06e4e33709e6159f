from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carryover import cli, launch, launch_slurm, parallel
from carryover.errors import ConfigError, KitError
from carryover.launch_slurm import Request, Task
from carryover.scratch import Scratch, alone
from carryover.shares import ROWS_ONLY, Share, share, sharing
from carryover.stages import items, run_stage
from carryover.studies import cuts
from conftest import Checkout

CUTS = {
    "cuts.settings": ["fr", "baseline"],
    "cuts.cuts": [0, 6],
    "cuts.max_updates": 10,
    "cuts.evaluate_every": 5,
}
ADAPT = {
    "adapt.items": ["probe"],
    "adapt.probe": ["zero-shot", "probe"],
    "adapt.max_updates": 4,
}
CONTINUAL = {"continual.items": ["frozen"], "continual.seeds": 1}
SEQUENCE = {
    "sequence.items": ["plain", "lora"],
    "sequence.methods": {"plain": ["zero-shot", "finetune", "joint"], "lora": ["finetune-lora"]},
    "sequence.updates": 2,
}
LONG = SEQUENCE | {  # two trainings of one round, with time to be interrupted
    "sequence.items": ["plain"],
    "sequence.methods": {"plain": ["finetune"]},
    "sequence.lrs": {"full": [0.003], "lora": [0.01]},
    "sequence.updates": 60,
    "sequence.seeds": 2,
}
RETRIEVAL = {
    "retrieval.items": ["resnet18"],
    "retrieval.controls": {"resnet18": ["zeros", "vote"]},
    "retrieval.corruptions": None,
}
CLUSTERS = {"clusters.tsne_layers": ["input"], "clusters.tsne_images": 20}


def stages(study: str) -> list[str]:
    from carryover.config import params

    return list(items(study, params.read(Path("params.yaml")))) or [""]


def rows(study: str) -> dict[str, bytes]:
    """Every file that the stages of a study write, by path."""
    folders = (f"reports/{study}", f"data/predictions/{study}", f"data/checkpoints/{study}")
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def undisturbed(study: str) -> dict[str, bytes]:
    """The same of plain runs, which leave nothing else behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARRYOVER_SCRATCH", "other-scratch")
        for item in stages(study):
            run_stage(study, item)
    found = rows(study)
    assert found
    for folder in ("reports", "data/predictions", "data/checkpoints"):
        shutil.rmtree(folder, ignore_errors=True)
    return found


def kept(share: str = "*") -> dict[str, list[str]]:
    """Names of the cells that shares have kept, by folder of the stage."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(".scratch").glob(f"*/*/cells.{share}.jsonl")):
        names = [json.loads(line)[0] for line in path.read_text().splitlines()]
        found.setdefault(path.parts[1], []).extend(names)
    return found


@pytest.fixture
def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What the command line says of something that the user must mend."""

    def said(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["carryover", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        assert (left.value.code, out) == (2, "")
        assert len(err.splitlines()) == 1
        return err

    return said


# --- shares --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_shares_are_a_partition_and_as_even_as_can_be(count: int) -> None:
    cells = [("a", i) for i in range(17)]
    parts = [parallel.part(cells, Share(i, count)) for i in range(count)]
    assert sorted(cell for part in parts for cell in part) == cells
    sizes = sorted(map(len, parts))
    assert sizes[-1] - sizes[0] <= 1


def test_cells_that_belong_together_stay_together() -> None:
    cells = [(cut, repeat) for cut in range(5) for repeat in range(3)]
    parts = [parallel.part(cells, Share(i, 2), lambda cell: cell[0]) for i in range(2)]
    assert [{cut for cut, _ in part} for part in parts] == [{0, 2, 4}, {1, 3}]
    assert sorted(parts[0] + parts[1]) == cells


def test_a_process_without_a_share_has_all_cells_and_goes_on() -> None:
    assert parallel.own([1, 2, 3]) == [1, 2, 3]
    parallel.end_round(0)
    with sharing(Share(1, 2)):
        assert parallel.own([1, 2, 3]) == [2]
        parallel.end_round(0, last=False)
        with pytest.raises(parallel.Elsewhere):  # the rows are not its own to write
            parallel.end_round(0)
    with sharing(ROWS_ONLY):
        assert parallel.own([1, 2, 3]) == []
        parallel.end_round(0)
        with pytest.raises(parallel.Elsewhere, match="3 cells are missing"):
            parallel.end_round(3, last=False)
    assert share() is None


@pytest.mark.parametrize(
    "text", ["", "1", "2/2", "0/0", "-1/2", "1/2/3", "a/b", "1.0/2", "\u0661/\u0662"]
)
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--shard: expected i/n with 0 <= i < n, .*got '"):
        launch.share_of(text)
    assert launch.share_of("1/2") == Share(1, 2)


def test_every_share_keeps_its_cells_in_its_own_file_and_reads_all(tiny: Checkout) -> None:
    states = []
    for each in (Share(0, 2), Share(1, 2)):
        with sharing(each):
            states.append(Scratch("cuts@fr", {}))
        states[-1].add(f"of {each}", each.index)
    assert [state.path.name for state in states] == ["cells.0-of-2.jsonl", "cells.1-of-2.jsonl"]
    plain = Scratch("cuts@fr", {})
    plain.add("plain", 2)
    for state in (*states, plain):
        assert state.cells() == {"of 0/2": 0, "of 1/2": 1, "plain": 2}


def test_a_line_that_another_process_is_writing_is_left_alone(tiny: Checkout) -> None:
    with sharing(Share(0, 2)):
        writer = Scratch("cuts@fr", {})
    writer.add("a", 1)
    with writer.path.open("a") as file:
        file.write('["b", [1,')
    before = writer.path.read_bytes()
    reader = Scratch("cuts@fr", {})
    assert reader.cells() == {"a": 1}
    assert writer.path.read_bytes() == before
    assert writer.cells() == {"a": 1}
    assert writer.path.read_bytes() == b'["a", 1]\n'  # its own: mended, to be written on


def test_shares_run_side_by_side_and_never_beside_a_plain_run(tiny: Checkout) -> None:
    with contextlib.ExitStack() as held:
        for share in (Share(0, 2), Share(1, 2)):
            with sharing(share):
                held.enter_context(alone("x.lock", "job"))
        with pytest.raises(KitError, match="the only job here"), alone("x.lock", "job"):
            raise AssertionError("a plain run beside shares")
    with (
        alone("x.lock", "job"),
        sharing(Share(0, 2)),
        pytest.raises(KitError, match="the only job here"),
        alone("x.lock", "job"),
    ):
        raise AssertionError("a share beside a plain run")


def test_who_waits_for_a_lock_gets_it_afterwards(
    tiny: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    order = []

    def second() -> None:
        with alone("x.lock", "job", wait=True):
            order.append("second")

    with alone("x.lock", "job"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert capsys.readouterr().err == f"waiting for process {os.getpid()}, another job\n"


def test_a_file_system_without_locks_is_told(
    tiny: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unknown)
    with pytest.raises(KitError, match=r"x\.lock: expected a file system that locks files, got 'F"):
        alone("x.lock", "job").__enter__()


# --- a study in shares ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("study", "changes", "rounds"),
    [
        ("cuts", CUTS, 1),
        ("adapt", ADAPT, 2),
        pytest.param("clusters", CLUSTERS, 1, marks=pytest.mark.slow),
        pytest.param("continual", CONTINUAL, 2, marks=pytest.mark.slow),
        pytest.param("sequence", SEQUENCE, 2, marks=pytest.mark.slow),
        pytest.param("retrieval", RETRIEVAL, 2, marks=pytest.mark.slow),
    ],
)
def test_two_shares_give_the_bytes_of_one_process(
    embedded: Checkout,
    capsys: pytest.CaptureFixture[str],
    study: str,
    changes: dict[str, Any],
    rounds: int,
) -> None:
    embedded.edit(**changes)
    expected = undisturbed(study)
    shares = (Share(1, 2), Share(0, 2))  # the order is nobody's
    for number in range(rounds):
        assert launch.write_rows(study) == 1
        assert "cells wait" in capsys.readouterr().out
        before = rows(study)  # of stages that have one round less
        for each in shares:
            assert launch.compute(study, each) == 0
        told = capsys.readouterr().out.splitlines()
        assert all("share" in line for line in told)
        assert rows(study) == before, "a worker wrote rows"
        if number == 0 and rounds == 2:  # whoever came first could not know the rates
            assert any("cells wait for other shares" in line for line in told)
    of_shares = [kept(f"{each.index}-of-2") for each in shares]
    work = {each.stage.replace("@", "-"): each for each in launch.plan(study)}
    for stage, each in work.items():
        first, second = (set(names.get(stage, ())) for names in of_shares)
        assert not first & second
        assert len(first | second) >= len(each.rounds[-1])
    capsys.readouterr()
    assert launch.write_rows(study) == 0
    assert set(capsys.readouterr().out.splitlines()) == {
        f"{each.stage}: rows are written" for each in work.values()
    }
    assert rows(study) == expected
    assert not set(kept()) & set(work)  # nothing of them is left in scratch


def test_a_launch_killed_between_two_stages_computes_no_cell_again(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained.edit(**CUTS)
    expected = undisturbed("cuts")
    launch.compute("cuts", Share(0, 1))
    before = kept()
    assert set(before) == {"cuts-fr", "cuts-baseline"}
    (path,) = Path(".scratch").glob("cuts-baseline/*/cells.0-of-1.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert launch.write_rows("cuts") == 1  # one stage is written, and one misses a cell
    assert [path for path in rows("cuts") if path.startswith("reports")] == [
        "reports/cuts/runs/fr/rows.jsonl"
    ]
    trained: list[Any] = []
    real = cuts.train
    monkeypatch.setattr(cuts, "train", lambda *given: trained.append(given[1]) or real(*given))
    launch.compute("cuts", Share(0, 1))
    assert trained == ["baseline"]
    assert launch.write_rows("cuts") == 0
    assert rows("cuts") == expected
    capsys.readouterr()
    assert launch.write_rows("cuts") == 1  # the cells are let go
    written = "reports/cuts/runs/fr/rows.jsonl has those of an earlier run"
    assert capsys.readouterr().out.splitlines()[0].endswith(f" cells wait; {written}")


def test_a_plain_run_takes_up_what_shares_have_kept(pretrained: Checkout) -> None:
    pretrained.edit(**CUTS)
    expected = undisturbed("cuts")
    launch.compute("cuts", Share(1, 2))
    count = sum(map(len, kept().values()))
    assert count > 0
    for item in ("fr", "baseline"):
        run_stage("cuts", item)
    logs = [
        json.loads(Path(f".logs/cuts-{i}.jsonl").read_text().splitlines()[-1])
        for i in ("fr", "baseline")
    ]
    whole = sum(sum(map(len, each.rounds)) for each in launch.plan("cuts"))
    assert sum(log["cells"] for log in logs) == whole - count
    assert rows("cuts") == expected


# --- on this machine -----------------------------------------------------------------------------


@pytest.mark.slow  # seven processes that import torch
def test_a_worker_killed_half_way_loses_no_cell_and_changes_no_byte(pretrained: Checkout) -> None:
    pretrained.edit(**CUTS | {"cuts.epochs": 200, "cuts.max_updates": 200})
    expected = undisturbed("cuts")
    variables = {"CARRYOVER_WORKERS": "2"}
    process = subprocess.Popen(
        pretrained.command("launch", "cuts", "--shards", "2"),
        env=pretrained.environment(**variables),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not kept("1-of-2").get("cuts-fr"):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        (pid,) = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if told(path).endswith("launch cuts --shard 1/2") and parent(path) == process.pid
        ]
        os.kill(pid, signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 2
    assert "expected every share to be computed, 1/2 with code -9 ended early" in err
    assert not rows("cuts")
    before = kept()
    assert len(before["cuts-fr"]) >= 4 + 1  # the other share went to its end
    again = pretrained.run("launch", "cuts", "--shards", "2", **variables)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-2:] == [
        "cuts@fr: rows are written",
        "cuts@baseline: rows are written",
    ]
    assert rows("cuts") == expected


def told(cmdline: Path) -> str:
    """The command line of a process, "" when it has gone."""
    try:
        return cmdline.read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def parent(cmdline: Path) -> int:
    return int((cmdline.parent / "stat").read_text().rsplit(")", 1)[1].split()[1])


def test_a_dry_run_starts_nothing_and_counts_every_cell(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("something was started")

    for name in ("Popen", "run"):
        monkeypatch.setattr(subprocess, name, started)
    before = pretrained.files()
    request = Request(90, "long", 4, 1, None, ("qos=high",))
    for study in launch.CELLS.keys() - {"survival"}:  # which wants models of the others
        assert launch.launch(study, "slurm", 3, "", True, request) == 0
        heading, _, header, *lines = capsys.readouterr().out.splitlines()
        assert heading.startswith(f"{study} on slurm: shares 3, ")
        assert "time 90, partition long, cpus 4, gpus 1, qos=high" in heading
        assert header.split() == ["round", "stage", "0/3", "1/3", "2/3"]
        counted = sum(int(count) for line in lines for count in line.split()[2:])
        assert counted == sum(len(cells) for each in launch.plan(study) for cells in each.rounds)
    assert pretrained.files() == before
    assert not Path(".scratch").exists()


def test_no_share_is_without_a_cell_in_every_stage(
    tiny: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.edit(**CUTS | {"cuts.cuts": [0], "cuts.fractions": [1.0], "cuts.repeats": [3]})
    launch.launch("cuts", "local", 50, "", True, Request())
    assert capsys.readouterr().out.splitlines()[2:] == [
        "round  stage          0/1",
        "1      cuts@fr        3",  # repeats stay together
        "1      cuts@baseline  3",
    ]


def test_a_faulty_command_is_refused_in_one_sentence(
    tiny: Checkout, refusal: Callable[..., str]
) -> None:
    assert "launch: expected one of cuts, clusters, adapt" in refusal("launch", "digits")
    assert "--on: expected one of local, slurm, got 'cloud'" in refusal(
        "launch", "cuts", "--on", "cloud"
    )
    assert "--shard: expected i/n with 0 <= i < n" in refusal("launch", "cuts", "--shard", "4/4")
    assert "--shard: expected i/n with 0 <= i < n" in refusal("launch", "cuts", "--shard", "")
    assert "expected --rows alone" in refusal("launch", "cuts", "--rows", "--shard", "0/2")
    assert "expected --shards or --shard, got both" in refusal(
        "launch", "cuts", "--shard", "0/4", "--shards", "4"
    )
    with alone("launch-cuts.lock", "test"):
        assert "expected to be the only `carryover launch` of cuts here" in refusal(
            "launch", "cuts"
        )


# --- on a cluster --------------------------------------------------------------------------------


def test_without_a_cluster_the_reason_is_told(
    tiny: Checkout, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert "launch --on slurm: expected s" in refusal("launch", "cuts", "--on", "slurm")


def test_options_reach_the_cluster_and_a_faulty_one_is_refused() -> None:
    found = Request(90, "long", 4, 1, 2, ("--qos=high", "account=me")).parameters()
    assert found["time"] == 90
    assert (found["cpus_per_task"], found["srun_args"]) == (4, ["--cpus-per-task=4"])
    assert (found["partition"], found["gpus_per_node"]) == ("long", 1)
    assert found["array_parallelism"] == 2
    assert found["additional_parameters"] == {"requeue": True, "qos": "high", "account": "me"}
    assert Request().parameters()["partition"] is None
    with pytest.raises(ConfigError, match=r"--sbatch: expected NAME=VALUE, .*got 'qos'"):
        Request(others=("qos",)).parameters()


def test_a_second_launch_is_refused_while_jobs_of_the_first_are_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text("""#!/bin/sh\n[ "$3" = 34 ] && echo 34_1; exit 0\n""")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    jobs = tmp_path / "launch" / "cuts" / "jobs"
    launch_slurm._refuse_beside_others("cuts", jobs)  # the first launch of all
    jobs.write_text("33\n34\n")
    with pytest.raises(KitError, match=r"got 34; they go on .* `scancel 34` and run again"):
        launch_slurm._refuse_beside_others("cuts", jobs)
    assert jobs.read_text() == "33\n34\n"
    jobs.write_text("33\n")
    launch_slurm._refuse_beside_others("cuts", jobs)
    assert not jobs.exists()


def test_the_first_failed_task_says_why(tmp_path: Path) -> None:
    def job(name: str, text: str) -> SimpleNamespace:
        path = tmp_path / name
        path.write_text(text)
        return SimpleNamespace(paths=SimpleNamespace(stderr=path))

    noise = "srun: error: node: task 0: Exited\n"
    arrays = [[job("a", ""), job("b", "carryover: no digits\n" + noise)], [job("c", "last\n")]]
    assert launch_slurm._why(arrays, [[0, 2], [1]]) == f"{tmp_path / 'b'}: 'carryover: no digits'"
    assert launch_slurm._why(arrays, [[2, 0], [0]]) == str(tmp_path / "a")
    assert launch_slurm._why(arrays, [[0, None], [0]]) == "no task said why"


def test_a_task_gives_the_exit_code_of_its_command(tmp_path: Path) -> None:
    code = "import os, sys; sys.exit(int(os.environ['CODE']))"
    task = Task([sys.executable, "-c", code], str(tmp_path), {"CODE": "7"})
    assert task() == 7


def _no_cluster() -> str:
    """Why nothing can be submitted here, "" where it can."""
    if not importlib.util.find_spec("submitit"):
        return "submitit is not installed"
    if not all(map(shutil.which, ("sbatch", "srun", "squeue", "scancel", "scontrol"))):
        return "SLURM's commands are not on the path"
    asked = subprocess.run(["sinfo", "--noheader"], capture_output=True, check=False)
    return "no SLURM cluster answers" if asked.returncode else ""


PATIENCE = 300  # seconds of a busy machine


def trained_cells() -> int:
    """Cells of the cut study that the second share has kept."""
    return len(kept("1-of-2").get("cuts-fr", ()))


def trained_tasks() -> int:
    """States of the sequence study's second cell, which has tasks behind it."""
    return len(list(Path(".scratch").glob("sequence-plain/*/finetune@1@1.pt")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "changes", "begun"),
    [
        ("cuts", CUTS | {"cuts.epochs": 400, "cuts.max_updates": 400}, trained_cells),
        ("sequence", LONG, trained_tasks),
    ],
)
def test_a_task_that_is_preempted_goes_on_to_the_same_bytes(
    embedded: Checkout, study: str, changes: dict[str, Any], begun: Callable[[], int]
) -> None:
    if reason := _no_cluster():
        pytest.skip(reason)
    embedded.edit(**changes)
    expected = undisturbed(study)
    command = embedded.command("launch", study, "--on", "slurm", "--shards", "2", "--time", "20")
    process = subprocess.Popen(
        command,
        env=embedded.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        number = process.stdout.readline().removeprefix("job ").split(":")[0]
        task = f"{number}_1"
        deadline = time.monotonic() + PATIENCE
        while not begun():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        subprocess.run(["scancel", "--signal=USR1", task], check=True)
        while process.poll() is None:  # a task that was queued again waits for minutes, unless:
            assert time.monotonic() < deadline + PATIENCE
            subprocess.run(
                ["scontrol", "update", f"jobid={task}", "starttime=now"],
                capture_output=True,
                check=False,
            )
            time.sleep(1)
        out, err = process.communicate()
    finally:
        process.kill()
        subprocess.run(["scancel", f"--name=carryover-{study}"], capture_output=True, check=False)
    assert process.returncode == 0, err
    written = [f"{each.stage}: rows are written" for each in launch.plan(study)]
    assert out.splitlines()[-len(written) :] == written
    log = Path(f".scratch/launch/{study}/{task}/{task}_0_log.out").read_text()
    assert f"Requeued job {task}" in log
    assert log.count(f"{launch.plan(study)[-1].stage}: share 1/2 is done") == 1
    assert rows(study) == expected
