"""What every execution needs: device, seeds, digests, rows and resumable scratch.

The only module that reads environment variables and knows the folders of a checkout.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sys
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


# --- shares ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """Which cells of a stage this process computes: every `count`-th, from number `index` on.

    Where `count` is 0 it computes none, and writes the rows of stages that miss no cell.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


ROWS_ONLY = Share(0, 0)


def share() -> Share | None:
    """What ``carryover launch`` gave this process to do; None where it computes every cell."""
    given = os.environ.get("CARRYOVER_SHARE")
    return Share(*map(int, given.split("/"))) if given else None


@contextlib.contextmanager
def sharing(given: Share) -> Iterator[None]:
    """Stages run in this block compute a share of their cells."""
    os.environ["CARRYOVER_SHARE"] = str(given)
    try:
        yield
    finally:
        del os.environ["CARRYOVER_SHARE"]


# --- scratch -----------------------------------------------------------------------------------

FINISHED = "finished"  # in the folder of cells whose rows are written: they may be deleted


class Scratch:
    """Finished cells of a stage, kept so that a killed run goes on where it stopped.

    One JSON line a cell, appended and synced when the cell is done. The folder is named after a
    digest of everything that the cells depend on, so other parameters never see them. A share of
    the cells has a file of its own: no two processes write one, on whatever machines they run.
    """

    def __init__(self, stage: str, key: dict[str, Any]) -> None:
        self.folder = scratch_root() / stage.replace("@", "-") / digest(key)
        mine = share() or ROWS_ONLY
        part = f".{mine.index}-of-{mine.count}" if mine.count else ""
        self.path = self.folder / f"cells{part}.jsonl"

    def cells(self) -> dict[str, Any]:
        """Finished cells by name, of every share.

        A last line torn by a kill is dropped, and taken out of the file if that is our own:
        elsewhere it may be a line that is being written.
        """
        found: dict[str, Any] = {}
        for path in sorted(self.folder.glob("cells*.jsonl")):
            whole, cells = _whole_lines(path)
            if path == self.path:
                write_text(path, whole)
            found |= cells
        return found

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
        """Forget the cells: the stage is done.

        A launch keeps them until all stages of its study are: killed before, it computes nothing
        twice.
        """
        if share() == ROWS_ONLY:
            if self.folder.exists():
                (self.folder / FINISHED).touch()
            return
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.unlink()
        if self.folder.exists():
            self.folder.rmdir()


def _whole_lines(path: Path) -> tuple[str, dict[str, Any]]:
    """The lines of a file of cells up to the first torn one, and the cells in them."""
    whole, cells = "", {}
    for line in path.read_text().splitlines(keepends=True):
        try:
            name, value = json.loads(line)
        except ValueError:
            break
        whole += line if line.endswith("\n") else line + "\n"
        cells[name] = value
    return whole, cells


@contextlib.contextmanager
def alone(name: str, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock for the length of a block; the lock goes with the process, however it ends.

    Processes that compute shares hold it together: they run side by side, and refuse whoever
    computes all cells, as that one refuses them.

    Args:
        name: file name of the lock in the scratch folder.
        what: what runs, for the message (``carryover reproduce``).
        wait: for another process that holds it, alone also where shares are computed.
    Raises:
        KitError: another process holds it, or the file system knows no locks.
    """
    mine = share()
    together = bool(mine and mine.count) and not wait
    kind = fcntl.LOCK_SH if together else fcntl.LOCK_EX
    path = scratch_root() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "?"
            if not wait and mine != ROWS_ONLY:
                raise KitError(
                    f"expected to be the only {what} here, process {holder} is running; "
                    "wait for it or stop it, then run again"
                ) from error
            print(f"waiting for process {holder}, another {what}", file=sys.stderr)
            fcntl.flock(file, kind)
        except OSError as error:
            raise KitError(
                f"{path}: expected a file system that locks files, got {error.strerror!r}; name a "
                "folder on another one by CARRYOVER_SCRATCH, then run again"
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
