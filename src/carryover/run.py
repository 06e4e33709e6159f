"""What every execution needs: folders, device, seeds, progress and the log of seconds.

Here alone the user's environment variables are read and the folders of a checkout known.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.errors import ConfigError, pick
from carryover.files import cannot_write

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
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
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
    if kind == "cuda":  # the same numbers again, and where float32 is asked for none shorter
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before cuBLAS is first used
        torch.use_deterministic_algorithms(True, warn_only=True)
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
