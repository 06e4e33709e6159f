"""A study's cells in shares, on this machine or a cluster; then its rows, as one process has them.

Every worker does the same, whoever starts it: of each stage of the study it computes its share of
the cells that wait and keeps them in a file of its own (`Scratch`). Where a study chooses rates
by a first round of cells, the second waits for all of the first: workers are started once a round.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover import continual_rates, run
from carryover.config import params as config
from carryover.errors import ConfigError, KitError, pick
from carryover.launch_slurm import Request, submit
from carryover.parallel import Elsewhere, part
from carryover.scratch import FINISHED, alone, forget
from carryover.shares import ROWS_ONLY, Share, sharing
from carryover.stages import PARAMS, STAGES, items, run_stage

SLURM_SHARES = 8  # tasks of an array where no other number is asked for


@dataclass(frozen=True)
class Work:
    """Cells of one stage: rounds of them, each complete before the next begins."""

    stage: str
    rounds: tuple[Sequence[Any], ...]
    together: Callable[[Any], Hashable] | None

    def counts(self, number: int, shares: Sequence[Share]) -> list[int]:
        """Cells that each share has in a round."""
        cells = self.rounds[number] if number < len(self.rounds) else ()
        return [len(part(cells, share, self.together)) for share in shares]

    def most(self) -> int:
        """Into how many shares its largest round can be divided."""
        together = self.together or (lambda cell: cell)
        return max((len(set(map(together, cells))) for cells in self.rounds), default=1)


def launch(study: str, on: str, shards: int, shard: str, dry_run: bool, request: Request) -> int:
    """Compute a study in shares and write its rows.

    Args:
        on: ``local`` or ``slurm``.
        shards: how many shares; 0 for one a core, or on a cluster `SLURM_SHARES`, and in no case
            more than the largest round can be divided into.
        shard: ``i/n`` to compute this share alone, and no rows.
        dry_run: say what would be done.
        request: what each task asks the cluster for.
    Returns:
        Exit code: 0, or 1 where cells still wait.
    Raises:
        KitError: an unknown study or place, a faulty share, or a worker that failed.
    """
    place = pick(PLACES, on, "--on")
    work = plan(study)
    only = share_of(shard) if shard else None
    request.refuse_unfit(on)
    if only and shards:
        raise ConfigError("launch: expected --shards or --shard, got both; leave one out")
    shares = [only] if only else _shares(work, shards or place.shares())
    if shards > len(shares):
        print(f"launch: {shards} shares wanted, {len(shares)} have work", file=sys.stderr)
    if dry_run:
        print(described(study, on, work, shares, request))
        return 0
    if only and on == "local":
        return compute(study, only)
    rounds = 1 if only else max(len(each.rounds) for each in work)
    with alone(f"launch-{study}.lock", f"`carryover launch` of {study}"):
        return place.work(study, shares, rounds, only is None, request)


def plan(study: str) -> list[Work]:
    """The cells of all stages of a study, finished ones too.

    Raises:
        ConfigError: it has none.
    """
    listing = pick(CELLS, study, "launch")
    params = config.read(PARAMS)
    module = importlib.import_module(STAGES[study].module)
    together = getattr(module, "unit_of", None)
    return [
        Work(_stage(study, item), tuple(filter(None, listing(module, params, item))), together)
        for item in items(study, params) or ("",)
    ]


def _stage(study: str, item: str) -> str:
    return f"{study}@{item}" if item else study


def _shares(work: Sequence[Work], count: int) -> list[Share]:
    """That many shares, or as many as have a cell."""
    count = min(count, max(each.most() for each in work))
    return [Share(index, count) for index in range(count)]


def share_of(text: str) -> Share:
    """The share that ``i/n`` stands for.

    Raises:
        ConfigError: it stands for none.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if not match or not int(match[1]) < int(match[2]):
        raise ConfigError(
            f"--shard: expected i/n with 0 <= i < n, such as 0/4 for the first of 4, got {text!r}"
        )
    return Share(int(match[1]), int(match[2]))


def described(
    study: str, on: str, work: Sequence[Work], shares: Sequence[Share], request: Request
) -> str:
    """What a launch would do: the cells of each share, by round and stage."""
    rounds = max(len(each.rounds) for each in work)
    lines = [["round", "stage", *map(str, shares)]]
    for number in range(rounds):
        for each in work:
            counts = each.counts(number, shares)
            if any(counts):
                lines.append([str(number + 1), each.stage, *map(str, counts)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    what = f"{len(shares)} tasks a round{request.told()}" if on == "slurm" else "processes here"
    heading = f"{study} on {on}: shares {len(shares)}, rounds {rounds}, {what}; nothing was started"
    return "\n".join([heading, "cells of each share, finished ones too:", *table])


# --- what a worker does -------------------------------------------------------------------------


def compute(study: str, share: Share) -> int:
    """Compute a share of every stage of a study, as far as the cells of others let it; 0."""
    name = f"launch-{study}-{share.index}-of-{share.count}.lock"
    with alone(name, f"worker of share {share} of {study}", wait=True), sharing(share):
        for stage, missing in _run_stages(study):
            waits = f", {missing} cells wait for other shares" if missing else ""
            print(f"{stage}: share {share} is done{waits}", flush=True)
    return 0


def write_rows(study: str) -> int:
    """Write the rows of every stage of a study whose cells are all there; 1 where some wait."""
    pick(CELLS, study, "launch")
    code = 0
    with sharing(ROWS_ONLY):
        for stage, missing in _run_stages(study):
            waits = f"{missing} cells wait{_earlier(stage)}"
            print(f"{stage}: {waits if missing else 'rows are written'}")
            code = 1 if missing else code
    if not code:
        for item in items(study, config.read(PARAMS)) or ("",):
            folder = run.scratch_root() / _stage(study, item).replace("@", "-")
            for mark in folder.glob(f"*/{FINISHED}"):
                forget(mark.parent)
    return code


def _earlier(stage: str) -> str:
    """A word on rows that are there although cells wait: these are let go once rows are written."""
    study, _, item = stage.partition("@")
    path = Path("reports") / study / "runs" / (item or "all") / "rows.jsonl"
    return f"; {path} has those of an earlier run" if path.exists() else ""


def _run_stages(study: str) -> Iterator[tuple[str, int]]:
    """Run every stage for the share of this process; how many cells each still misses."""
    for item in items(study, config.read(PARAMS)) or ("",):
        missing = 0
        try:
            run_stage(study, item)
        except Elsewhere as left:
            missing = left.missing
        yield _stage(study, item), missing


def worker(study: str, share: Share) -> list[str]:
    """The command that computes a share, on any machine that has this folder."""
    return [sys.executable, "-m", "carryover", "launch", study, "--shard", str(share)]


# --- here ---------------------------------------------------------------------------------------


def on_this_machine(
    study: str, shares: Sequence[Share], rounds: int, rows: bool, request: Request
) -> int:
    """Start the workers of each round, which divide the cores; then write the rows."""
    cores = run.workers()
    for _ in range(rounds):
        started = []
        for number, share in enumerate(shares):
            fair = cores // len(shares) + (number < cores % len(shares))
            variables = {"CARRYOVER_WORKERS": str(max(fair, 1) if cores else 0)}
            variables["CARRYOVER_QUIET"] = "1"  # bars of several would overwrite each other
            environment = os.environ | variables
            command = worker(study, share)
            started.append(subprocess.Popen(command, env=environment, start_new_session=True))
        _await(study, dict(zip(shares, started, strict=True)))
    return write_rows(study) if rows else 0


def _await(study: str, started: dict[Share, subprocess.Popen[bytes]]) -> None:
    """Wait for all workers; one that fails lets the others end, so that their cells are kept."""

    def stop(sign: int, _: Any) -> None:
        for process in started.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        print("stopped; run again to go on from here", file=sys.stderr)
        raise SystemExit(128 + sign)

    previous = {sign: signal.signal(sign, stop) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        codes = {share: process.wait() for share, process in started.items()}
    finally:
        for sign, handler in previous.items():
            signal.signal(sign, handler)
    failed = [f"{share} with code {code}" for share, code in codes.items() if code]
    if failed:
        raise KitError(
            f"launch {study}: expected every share to be computed, {', '.join(failed)} ended "
            "early; finished cells are kept: mend what it said, then run again to go on"
        )


# --- on a cluster -------------------------------------------------------------------------------


def on_slurm(study: str, shares: Sequence[Share], rounds: int, rows: bool, request: Request) -> int:
    """Submit an array of workers a round and a job that writes the rows, one after the other."""
    commands = [[worker(study, share) for share in shares]] * rounds
    if rows:
        commands.append([[sys.executable, "-m", "carryover", "launch", study, "--rows"]])
    return submit(study, commands, request, rows)


@dataclass(frozen=True)
class Place:
    """Where workers run, and how many where no number is asked for."""

    work: Callable[[str, Sequence[Share], int, bool, Request], int]
    shares: Callable[[], int]


PLACES = {
    "local": Place(on_this_machine, lambda: max(run.workers(), 1)),
    "slurm": Place(on_slurm, lambda: SLURM_SHARES),
}
CELLS: dict[str, Callable[[Any, config.Params, str], Sequence[Sequence[Any]]]] = {
    "cuts": lambda study, params, item: (study.distinct_cells(params.cuts, item),),
    "clusters": lambda study, params, _: (study.cells(params.clusters),),
    "adapt": lambda study, params, item: study.cells(params.adapt, item),
    "continual": lambda study, params, item: (
        continual_rates.candidates(params.continual, item),
        study.cells(params.continual, item),
    ),
    "sequence": lambda study, params, item: study.cells(params.sequence, item),
    "retrieval": lambda study, params, item: study.cells(params.retrieval, item),
    "survival": lambda study, params, _: (list(study.adapted_models(params)),),
}
