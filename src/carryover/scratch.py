"""Finished cells of a stage, kept until its rows are written, and locks beside them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carryover.errors import KitError
from carryover.files import cannot_write, digest, write_text
from carryover.run import scratch_root
from carryover.shares import ROWS_ONLY, share

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
        forget(self.folder)


def forget(folder: Path) -> None:
    """Delete a folder of cells, their list first: a kill on the way leaves none named without
    the files that it made."""
    for path in folder.glob("cells*.jsonl"):
        path.unlink()
    if folder.exists():
        shutil.rmtree(folder)


def _whole_lines(path: Path) -> tuple[str, dict[str, Any]]:
    """The lines of a file of cells up to the first torn one, and the cells in them."""
    whole, cells = "", {}
    for line in path.read_bytes().splitlines():
        try:
            name, value = json.loads(line)
            cells[name] = value
        except (ValueError, TypeError):
            break
        whole += line.decode() + "\n"
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
