"""What every execution needs: device, seeds, digests, rows and resumable scratch.

The only module that reads environment variables and knows the folders of a checkout.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.errors import ConfigError, KitError, pick
from carryover.files import cannot_write, digest, write_text

if TYPE_CHECKING:
    import torch


# --- folders -----------------------------------------------------------------------------------


def root() -> Path:
    """The checkout that DVC works in; the current folder when not called by DVC."""
    return Path(os.environ.get("DVC_ROOT", "."))


def home() -> Path:
    """The checkout the user stands in, also when DVC runs in a temporary copy of it.

    ``dvc exp run --temp`` and queued experiments run in ``.dvc/tmp/exps/*`` below the checkout:
    relative paths of ``params.yaml`` and the scratch folder mean the checkout, not the copy.
    """
    here = root().resolve()
    for folder in here.parents:
        if folder.name == "exps" and folder.parent.name == "tmp":
            return folder.parents[2]
    return here


def scratch_root() -> Path:
    """Where resume state lives: ``$CARRYOVER_SCRATCH`` or ``.scratch`` of the checkout."""
    return Path(os.environ.get("CARRYOVER_SCRATCH") or home() / ".scratch")


@dataclass(frozen=True)
class Context:
    """What a stage knows of its execution.

    Attributes:
        stage: its name in ``dvc.yaml`` (``cuts@fr``).
        params, source: digests of the parameters it reads and of the code it runs.
        refuse_edited: raises when those parameters were edited since the stage started; called
            just before results are written.
    """

    stage: str
    params: str
    source: str
    refuse_edited: Callable[[], None]


# --- device and seeds --------------------------------------------------------------------------


def device(name: str) -> torch.device:
    """The device to compute on.

    Args:
        name: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
    Raises:
        ConfigError: another name, or ``cuda`` where torch finds no GPU.
    """
    import torch

    kinds = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "cpu": "cpu", "cuda": "cuda"}
    kind = pick(kinds, name, "--device")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device: expected a GPU for 'cuda', torch finds none; use --device cpu, or install a "
            "driver of version 580 or newer (in a container: --gpus all)"
        )
    if kind == "cuda":  # where float32 is asked for, no shorter number
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device(kind)


def chosen_device() -> str:
    """The name given by ``--device``, handed through DVC in ``CARRYOVER_DEVICE``."""
    return os.environ.get("CARRYOVER_DEVICE", "auto")


def quiet() -> bool:
    """Whether ``--quiet`` asked for no progress."""
    return bool(os.environ.get("CARRYOVER_QUIET"))


def workers() -> int:
    """Processes to spread independent trainings over: the cores this process may use.

    ``CARRYOVER_WORKERS`` sets another number; 0 does the work in this process.

    Raises:
        ConfigError: ``CARRYOVER_WORKERS`` is not a number of processes.
    """
    asked = os.environ.get("CARRYOVER_WORKERS", "")
    if asked and not asked.isdecimal():
        raise ConfigError(f"CARRYOVER_WORKERS: expected a number of processes, got {asked!r}")
    return int(asked) if asked else len(os.sched_getaffinity(0))


def generator(seed: int, purpose: str) -> torch.Generator:
    """A random stream of its own for each purpose, so that adding one never moves another.

    Args:
        seed: the run's seed.
        purpose: what is drawn, e.g. ``cuts/sample/3``.
    """
    import torch

    state = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(state[:8]) >> 1)


# --- scratch -----------------------------------------------------------------------------------


class Scratch:
    """Finished cells of a stage, kept so that a killed run goes on where it stopped.

    One JSON line a cell, appended and synced when the cell is done. The folder is named after a
    digest of everything that the cells depend on, so other parameters never see them.
    """

    def __init__(self, stage: str, key: dict[str, Any]) -> None:
        self.folder = scratch_root() / stage.replace("@", "-") / digest(key)
        self.path = self.folder / "cells.jsonl"

    def cells(self) -> dict[str, Any]:
        """Finished cells by name. A last line torn by a kill is dropped, here and in the file."""
        if not self.path.exists():
            return {}
        whole, cells = [], {}
        for line in self.path.read_text().splitlines(keepends=True):
            try:
                name, value = json.loads(line)
            except ValueError:
                break
            whole.append(line if line.endswith("\n") else line + "\n")
            cells[name] = value
        write_text(self.path, "".join(whole))
        return cells

    def add(self, name: str, value: Any) -> None:
        """Keep one finished cell.

        Raises:
            KitError: the disk is full.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps([name, value]) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def clear(self) -> None:
        """Forget the cells: the stage is done."""
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.unlink()
        if self.folder.exists():
            self.folder.rmdir()


@contextlib.contextmanager
def alone(name: str, what: str) -> Iterator[None]:
    """Hold a lock for the length of a block; the lock goes with the process, however it ends.

    Args:
        name: file name of the lock in the scratch folder.
        what: what runs, for the message (``carryover reproduce``).
    Raises:
        KitError: another process holds it.
    """
    path = scratch_root() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise KitError(
                f"expected to be the only {what} here, process {file.read().strip() or '?'} is "
                "running; wait for it or stop it, then run again"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


# --- telling ------------------------------------------------------------------------------------


@contextlib.contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Callable[[], None]]:
    """A progress bar for long work; calling what it yields counts one part done.

    Under ``carryover reproduce`` the count goes to the file it names, and it draws the bar.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    told = os.environ.get("CARRYOVER_PROGRESS")

    def tell() -> None:
        if told:
            with contextlib.suppress(OSError):  # a count that cannot be shown stops nothing
                Path(told).write_text(f"{done} {total}")

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console(), disable=quiet() or bool(told)) as bars:
        bar = bars.add_task(what, total=total, completed=done)

        def advance() -> None:
            nonlocal done
            done += 1
            bars.advance(bar)
            tell()

        tell()
        yield advance


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def log(stage: str, facts: dict[str, Any]) -> None:
    """Append what must not enter results (seconds, device, versions) to ``.logs/<stage>.jsonl``.

    Raises:
        KitError: the file cannot be written.
    """
    path = home() / ".logs" / f"{stage.replace('@', '-')}.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(facts, sort_keys=True) + "\n")
    except OSError as error:
        raise cannot_write(path, error) from error
