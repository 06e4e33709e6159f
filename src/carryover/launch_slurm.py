"""Shares of a study as jobs of a SLURM cluster, through submitit.

All jobs are submitted at once, each array waiting for the one before, so that whoever submits may
leave. Whether a job has ended is asked of ``squeue`` and what came of it is read from its result
file: ``sacct`` is not there on every cluster. A task that is signalled before its time ends, or
before it makes room for another job, is queued again and goes on from the cells it has kept.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover import run
from carryover.errors import ConfigError, KitError, listed

SIGNAL = "SUBMITIT_PREEMPT_SIGNAL"  # submitit's variable, read when it is imported
SIGNALLED = (-signal.SIGTERM, -signal.SIGUSR1, -signal.SIGUSR2)
REQUEUES = 20  # after as many ends of its time a task is left
LOOK_SECONDS = 2.0  # between two looks at the queue
NOISE = ("submitit ", "srun:", "slurmstepd:")  # lines of a log that no command of ours wrote
RESULT_SECONDS = 15.0  # that a result may take to be seen on a shared file system


@dataclass(frozen=True)
class Request:
    """What each task asks for; None and "" leave it to the cluster."""

    minutes: int = 60
    partition: str = ""
    cpus: int | None = None
    gpus: int | None = None
    at_once: int | None = None
    others: tuple[str, ...] = ()

    def told(self) -> str:
        """The options as they stand in a sentence."""
        told = {"partition": self.partition, "cpus": self.cpus, "gpus": self.gpus}
        shown = [f"{name} {value}" for name, value in told.items() if value]
        return ", ".join(["", f"time {self.minutes}", *shown, *self.others])

    def refuse_unfit(self, on: str) -> None:
        """Stop before anything is started or said.

        Raises:
            ConfigError: a faulty option, or options of a cluster where there is none.
        """
        self.parameters()
        if on != "slurm" and (self.partition or self.cpus or self.gpus or self.at_once):
            raise ConfigError(
                "launch: expected --partition, --cpus, --gpus and --at-once with --on slurm alone, "
                f"got them with --on {on}; leave them out, or add --on slurm"
            )
        if on != "slurm" and self.others:
            raise ConfigError(
                f"launch: expected --sbatch with --on slurm alone, got it with --on {on}; leave it "
                "out, or add --on slurm"
            )

    def parameters(self) -> dict[str, Any]:
        """The same for submitit.

        Raises:
            ConfigError: an option that is not NAME=VALUE.
        """
        more: dict[str, Any] = {"requeue": True}
        for other in self.others:
            name, _, value = other.partition("=")
            if not name.strip("-") or not value:
                raise ConfigError(f"--sbatch: expected NAME=VALUE, such as qos=long, got {other!r}")
            more[name.removeprefix("--")] = value
        found: dict[str, Any] = {
            "time": self.minutes,
            "partition": self.partition or None,
            "cpus_per_task": self.cpus,
            "gpus_per_node": self.gpus,
            "wckey": None,
            "additional_parameters": more,
        }
        if self.cpus:  # srun does not take it from sbatch
            found["srun_args"] = [f"--cpus-per-task={self.cpus}"]
        if self.at_once:
            found["array_parallelism"] = self.at_once
        return found


@dataclass(frozen=True)
class Task:
    """A command that is run again where it was when the cluster takes its machine away."""

    command: list[str]
    folder: str
    variables: dict[str, str]

    def __call__(self) -> int:
        """Run it; its exit code."""
        process = subprocess.Popen(
            self.command, cwd=self.folder, env=os.environ | self.variables, start_new_session=True
        )
        try:
            code = process.wait()
            if code in SIGNALLED:  # the signal was meant for the whole job: it ends here
                time.sleep(600)
            return code
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def checkpoint(self) -> Any:
        """What to queue instead when signalled: the same, its finished cells being kept."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(study: str, arrays: Sequence[Sequence[list[str]]], request: Request, rows: bool) -> int:
    """Submit arrays of commands, each after the one before, and wait.

    Args:
        rows: whether the last command writes the rows; its exit code is returned then, else 0.
    Raises:
        KitError: no SLURM or submitit here, jobs of an earlier launch are not done, the cluster
            refused, or a task did not do its work.
    """
    executor = _executor(study, request)
    submitted = executor.folder.parent / "jobs"
    if rows:
        _refuse_beside_others(study, submitted)
    variables = {"CARRYOVER_WORKERS": str(request.cpus or 1), "CARRYOVER_QUIET": "1"}
    jobs: list[list[Any]] = []
    for commands in arrays:
        if jobs:
            executor.update_parameters(dependency=f"afterany:{_number(jobs[-1])}")
        tasks = [Task(command, str(Path.cwd()), variables) for command in commands]
        try:
            with executor.batch():
                jobs.append([executor.submit(task) for task in tasks])
        except Exception as error:  # submitit's own class, whose text is what sbatch said
            raise KitError(
                f"launch {study}: expected the cluster to take the jobs, got "
                f"{' '.join(str(error).split())!r}; mend the options, then run again"
            ) from error
        with submitted.open("a") as stream:
            print(_number(jobs[-1]), file=stream)
        print(f"job {_number(jobs[-1])}: tasks {len(tasks)}", flush=True)
    print("They go on when this command ends; `scancel` stops them.", flush=True)
    while any(_queued(_number(array)) for array in jobs):
        time.sleep(LOOK_SECONDS)
    codes = [[_code(job) for job in array] for array in jobs]
    if rows and codes[-1][0] in (0, 1):
        said = jobs[-1][0].paths.stdout.read_text().splitlines()
        print("\n".join(line for line in said if not line.startswith("submitit ")))
    if rows and codes[-1][0] == 0:
        return 0
    lost = [
        f"{job.job_id} {'left no result' if code is None else f'ended with code {code}'}"
        for array, found in zip(jobs, codes, strict=True)
        for job, code in zip(array, found, strict=True)
        if code != 0
    ]
    if lost:
        raise KitError(
            f"launch {study}: expected every task to do its work, {', '.join(lost)}; finished "
            f"cells are kept: mend it, then run again to go on ({_why(jobs, codes)})"
        )
    return 0


def _executor(study: str, request: Request) -> Any:
    """submitit's executor; its files lie below the scratch folder, which all machines see."""
    if not importlib.util.find_spec("submitit"):
        raise KitError(
            "launch --on slurm: expected submitit to be installed, it is not; `make setup` "
            "installs it, or start `carryover launch STUDY --shard i/n` in jobs of your own"
        )
    if not all(map(shutil.which, ("sbatch", "srun", "squeue"))):
        raise KitError(
            "launch --on slurm: expected sbatch, srun and squeue on the path, they are not all "
            "there; run this where jobs are submitted, or use --on local"
        )
    os.environ.setdefault(SIGNAL, "USR1")  # here for the script, which hands it to the tasks
    import submitit

    folder = run.scratch_root().resolve() / "launch" / study / "%j"
    executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
    executor.update_parameters(job_name=f"carryover-{study}", **request.parameters())
    return executor


def _refuse_beside_others(study: str, submitted: Path) -> None:
    """Stop where jobs of an earlier launch wait or run: its last one uses up what both keep."""
    submitted.parent.mkdir(parents=True, exist_ok=True)
    earlier = submitted.read_text().split() if submitted.exists() else []
    live = [number for number in earlier if _queued(number)]
    if live:
        raise KitError(
            f"launch {study}: expected no job of an earlier launch in the queue, got "
            f"{listed(live)}; they go on by themselves: wait until `squeue --jobs "
            f"{','.join(live)}` is empty, or stop them by `scancel {' '.join(live)}` and run again"
        )
    submitted.unlink(missing_ok=True)


def _why(jobs: Sequence[Sequence[Any]], codes: Sequence[Sequence[int | None]]) -> str:
    """What the first task that failed said last, and where the rest of it is."""
    pairs = zip(itertools.chain(*jobs), itertools.chain(*codes), strict=True)
    failed = [job for job, code in pairs if code]
    if not failed:
        return "no task said why"
    log = failed[0].paths.stderr
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    said = [line for line in lines if line.strip() and not line.startswith(NOISE)]
    return f"{log}: {said[-1].strip()!r}" if said else str(log)


def _number(array: Sequence[Any]) -> str:
    """The number that the cluster gave to an array."""
    number: str = array[0].job_id.split("_")[0]
    return number


def _queued(number: str) -> bool:
    """Whether a task of an array waits or runs; yes where the cluster does not answer."""
    command = ["squeue", "--noheader", "--jobs", number, "--format", "%i"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        return "Invalid job id" not in asked.stderr
    return bool(asked.stdout.strip())


def _code(job: Any) -> int | None:
    """The exit code of a task that has left the queue; None where it did not come to its end."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    end = time.monotonic() + RESULT_SECONDS
    while not job.paths.result_pickle.exists():
        if time.monotonic() > end:
            return None
        time.sleep(0.5)
    try:
        code: int = job.result()
    except (FailedJobError, UncompletedJobError):
        return None
    return code
