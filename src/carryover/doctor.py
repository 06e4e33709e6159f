"""Is this machine fit to run the kit, and are the files here what their digests say?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from carryover import run
from carryover.config import params as config
from carryover.errors import ConfigError, KitError
from carryover.stages import PARAMS

FREE_GIB = 5.0  # below this much free disk a warning is due
MIB = 2**20

Finding = tuple[bool, str]  # good or not, and what was found


def examine(verify: bool, fix: bool) -> tuple[str, bool]:
    """Findings, one line each, and whether all are good.

    Args:
        verify: also hold every result, object of DVC's cache, shard and snapshot against its
            digest.
        fix: with `verify`, mend what is damaged, or delete what can be made again.
    Raises:
        ConfigError: `fix` without `verify`.
        KitError: something damaged cannot be deleted or written.
    """
    if fix and not verify:
        raise ConfigError("doctor: expected --fix with --verify, got it alone; add --verify")
    found = [check() for check in CHECKS]
    if verify:
        from carryover.doctor_files import digests  # imports torch

        found += list(digests(fix))
    text = "\n".join(f"{'ok  ' if good else 'BAD '} {line}" for good, line in found)
    return text, all(good for good, _ in found)


def _python() -> Finding:
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    return good, f"Python {platform.python_version()} (expected 3.11 or 3.12)"


def _packages() -> Finding:
    lock = Path("requirements.lock")
    if not lock.exists():
        return True, "packages: no requirements.lock here to hold them against"
    wrong = []
    for name, version, marker in LOCKED.findall(lock.read_text()):
        if "sys_platform" in marker and "linux" not in marker:
            continue
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if not marker:
                wrong.append(f"{name} is missing")
            continue
        if installed.split("+")[0] != version:
            wrong.append(f"{name} {installed} (locked {version})")
    if wrong:
        return (
            False,
            f"packages differ from requirements.lock: {'; '.join(wrong[:5])}; `make setup`",
        )
    return True, "packages are those of requirements.lock"


LOCKED = re.compile(r"^([a-z0-9._-]+)==([^ ;\\]+)(?: ; ([^\\]*))?", re.MULTILINE)


def _torch() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return True, f"torch {torch.__version__} on {names}"
    return True, f"torch {torch.__version__}, no GPU: everything runs on the CPU"


def _checkout() -> Finding:
    missing = [
        name
        for name in ("dvc.yaml", "params.yaml", ".dvc/config", ".git")
        if not Path(name).exists()
    ]
    tools = [name for name in ("git",) if not shutil.which(name)]
    if missing or tools:
        return False, f"checkout: missing {', '.join(missing + tools)}; run from a git checkout"
    return True, f"checkout with DVC {importlib.metadata.version('dvc')}"


def _params() -> Finding:
    try:
        config.read(PARAMS)
    except KitError as error:
        return False, str(error)
    return True, f"{PARAMS} has no fault"


def _writable() -> Finding:
    folders = [Path("data"), Path("reports"), run.scratch_root()]
    closed = []
    for folder in folders:
        nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        if not os.access(nearest, os.W_OK):
            closed.append(str(folder))
    if closed:
        return False, f"folders: user {os.getuid()} cannot write {', '.join(closed)}"
    return True, f"user {os.getuid()} can write data, reports and {run.scratch_root()}"


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / 2**30
    return free >= FREE_GIB, f"{free:.1f} GiB of disk free (expected {FREE_GIB:g})"


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    if not folder.exists():
        return True, "no /dev/shm on this system"
    size = shutil.disk_usage(folder).total / MIB
    note = "" if size >= 512 else "; small, in a container add --ipc=host or --shm-size=1g"
    return True, f"/dev/shm holds {size:.0f} MiB{note}"


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _packages,
    _torch,
    _checkout,
    _params,
    _writable,
    _disk,
    _shared_memory,
)
