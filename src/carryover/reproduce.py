"""Running the pipeline through DVC: progress, comparison with what is committed, summary."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from carryover import afresh, presets, run
from carryover.config import params as config
from carryover.errors import ConfigError, KitError, listed
from carryover.prepare import SETS, source_here
from carryover.report import survival_files
from carryover.reproduced import PAGE, tell
from carryover.scratch import alone
from carryover.stages import PARAMS, REPORTS, expanded, in_dvc

STARTS = "Running stage '"  # how DVC announces a stage
SKIPS = ("didn't change, skipping", "is cached - skipping run")  # and one that need not run
BUSY = ("Unable to acquire lock", "is busy, it is being blocked")  # DVC's words
GRACE_SECONDS = 10.0  # between asking DVC to stop and killing it


def reproduce(
    studies: Sequence[str], fresh: bool, once: bool, preset: str = "", data: str = ""
) -> int:
    """Run all stages, or those of some studies; compare; print.

    Args:
        fresh: run every stage, also those whose results are up to date; of all studies the same
            command goes on with a run that was stopped.
        once: with `fresh`, only if these parameters were not finished here before.
        preset, data: written into ``params.yaml`` first (`presets.apply`), where anything is given.
    Returns:
        Exit code: 0, or 1 when results of unchanged parameters differ significantly from HEAD's,
        or verdicts on claims from the accepted ones.
    Raises:
        KitError: faulty parameters, an unknown study, another `reproduce` at work, or what a
            stage refused.
    """
    for study in studies:
        if study not in REPORTS:
            raise ConfigError(f"reproduce: expected a study of {listed(REPORTS)}, got {study!r}")
    if run.chosen_device() == "cuda":
        run.device("cuda")
    with alone_with_parameters():
        if preset or data:
            print(presets.apply(preset, "", data), file=sys.stderr)
        params = config.read(PARAMS)
        fresh = fresh and not (once and afresh.is_finished())
        started = time.monotonic()
        if not fresh:
            for name in stale_sets(params):
                _run_dvc(params, ["--single-item", f"data@{name}", "--force"], fresh=True)
        if studies:
            force = ["--force"] if fresh else []
            _run_dvc(params, [in_dvc(REPORTS[study]) for study in studies] + force, fresh)
            _run_dvc(params, ["--single-item", "claims", "report", *force], fresh)
        else:
            left = afresh.begin() if fresh else 0
            if left:
                print(
                    f"going on with a run that was stopped: {left} stages are left (for all of "
                    "them: git checkout dvc.lock)",
                    file=sys.stderr,
                )
            _run_dvc(params, [], fresh)
            afresh.finish()
        return tell(params, time.monotonic() - started)


def alone_with_parameters() -> contextlib.AbstractContextManager[None]:
    """Held while the pipeline works with ``params.yaml``, and while a preset replaces it."""
    return alone("reproduce.lock", "`carryover reproduce` or change of preset")


def stale_sets(params: config.Params) -> list[str]:
    """Prepared sets whose external files have changed since; DVC does not watch those files."""
    data = params.data
    prepared = [name for name in data.names if (SETS / name / "manifest.json").exists()]
    found = {name: source_here(data, name) for name in prepared}
    external = {name: source for name, source in found.items() if source and not source.embedded}
    if not external:
        return []
    from carryover.data import store

    digests = run.scratch_root() / "digests"
    return [name for name, at in external.items() if store.is_stale(SETS / name, at, digests)]


def report(only: str) -> str:
    """Make the reports of all studies, or of one, and the page again; says where they are."""
    params = config.read(PARAMS)
    if only and only not in REPORTS:
        raise ConfigError(f"--only: expected one of {listed(REPORTS)}, got {only!r}")
    for name in [only] if only else REPORTS:
        if REPORTS[name] == name:  # a stage that measures too
            survival_files.remake()
        else:
            _run_here(REPORTS[name], params)
    for name in ("claims", "report"):
        _run_here(name, params)
    return str(PAGE)


def _run_here(name: str, params: config.Params) -> None:
    from carryover.stages import run_stage

    run_stage(name, "")


# --- DVC ---------------------------------------------------------------------------------------


def _run_dvc(params: config.Params, targets: list[str], fresh: bool) -> None:
    """`dvc repro` with a bar for the stages and one for the work inside the stage."""
    error = run.scratch_root() / "error"
    progress = run.scratch_root() / "progress"
    for path in (error, progress):
        path.unlink(missing_ok=True)
    if not importlib.util.find_spec("dvc"):
        raise KitError(
            "reproduce: expected DVC to be installed, it is not; `make setup` installs it, and "
            "`carryover run STAGE` runs single stages without it"
        )
    command = [sys.executable, "-m", "dvc", "repro", *targets]
    command += ["--no-run-cache"] if fresh else []
    bin_folder = str(Path(sys.executable).parent)
    environment = os.environ | {
        "PATH": os.pathsep.join([bin_folder, os.environ.get("PATH", "")]),
        "CARRYOVER_PROGRESS": str(progress.resolve()),
        "CARRYOVER_ERROR": str(error.resolve()),
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )
    previous = {
        sign: signal.signal(sign, lambda sign, _: _stop(process, sign))
        for sign in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        total = 0 if targets else len(list(expanded(params)))
        tail = _follow(process, total, progress)
        code = process.wait()
    finally:
        for sign, handler in previous.items():
            signal.signal(sign, handler)
    if error.exists():
        raise KitError(error.read_text())
    if any(words in line for line in tail for words in BUSY):
        raise KitError(
            "reproduce: expected to be the only DVC at work here, another holds its lock (one "
            "that a killed run left behind goes on until its stage ends); wait for it or stop it, "
            "then run again"
        )
    if code:
        print("".join(tail), file=sys.stderr)
        raise RuntimeError(f"dvc repro ended with code {code}; its output is above")


def _heed_interrupts() -> None:
    """In DVC's process: SIGINT stops it also where this one began in a script's background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _stop(process: subprocess.Popen[str], sign: int) -> None:
    """Stop DVC and its stage, then end as the signal asks. Finished cells stay in scratch."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    print("stopped; run again to go on from here", file=sys.stderr)
    raise SystemExit(128 + sign)


def _follow(process: subprocess.Popen[str], total: int, counted: Path) -> list[str]:
    """Draw progress from DVC's lines and the running stage's counts; returns the last lines."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    tail: list[str] = []
    seen = 0  # stages that run, ran or need not run again
    ended = threading.Event()
    bars = Progress(*columns, console=console, disable=run.quiet() or not console.is_terminal)
    with bars:
        stages = bars.add_task("stages", total=total or None)
        inside = bars.add_task("", total=None, visible=False)

        def watch() -> None:
            while not ended.wait(0.2):
                try:
                    finished, of = map(int, counted.read_text().split())
                except (OSError, ValueError):
                    continue
                bars.update(inside, completed=finished, total=of, visible=True)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        assert process.stdout
        for line in process.stdout:
            tail = [*tail[-60:], line]
            if any(words in line for words in SKIPS):
                seen += 1
                bars.update(stages, completed=seen)
            if line.startswith(STARTS):
                seen += 1
                name = line.removeprefix(STARTS).split("'")[0]
                counted.unlink(missing_ok=True)
                bars.update(inside, description=name, visible=False)
                bars.update(stages, completed=seen - 1)
                if not console.is_terminal and not run.quiet():
                    of = f" of {total}" if total else ""
                    console.print(f"stage {seen}{of}: {name}", highlight=False)
        ended.set()
        watcher.join()
        bars.update(stages, completed=total or seen)
        bars.update(inside, visible=False)
    return tail


# --- what came out -----------------------------------------------------------------------------
