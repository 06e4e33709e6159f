"""Is this checkout consistent without its data? ``python -m carryover.consistent``; exit 1 if not.

``dvc status`` also reports outputs that were merely not pulled. This tells them from real faults:
an edited result, parameter, source file or command, and stages that the lock file still holds
although ``params.yaml`` no longer lists them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from carryover.errors import KitError

NOT_PULLED = "not in cache"
DELETED = "deleted"


def faults(status: dict[str, Any], missing: set[str]) -> list[str]:
    """What ``dvc status --json`` reports beside data that is not here.

    Args:
        status: the parsed report.
        missing: DVC-cached outputs that do not exist in this checkout, and folders of nothing else.
    """
    found = []
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):
                found.append(f"{stage}: {change}")
                continue
            for kind, paths in change.items():
                for path, state in paths.items():
                    absent = path in missing and state in (NOT_PULLED, DELETED)
                    if not absent:
                        found.append(f"{stage}: {kind}: {path}: {state}")
    return found


def cached_outputs(lock: dict[str, Any]) -> set[str]:
    """Outputs that the lock file records, whether git or DVC's cache holds them."""
    stages = lock["stages"].values()
    return {out["path"] for stage in stages for out in stage.get("outs", [])}


def stale_stages(lock: dict[str, Any], listed: set[str]) -> list[str]:
    """Stages of the lock file that no longer exist, and stages that it lacks."""
    locked = set(lock["stages"])
    return [f"dvc.lock: {name} is no longer a stage" for name in sorted(locked - listed)] + [
        f"dvc.lock: {name} was never run" for name in sorted(listed - locked)
    ]


def main() -> int:
    """Check the checkout in the current folder; prints each fault."""
    found, told = examined()
    for fault in found:
        print(fault)
    print(told)
    return 1 if found else 0


def examined() -> tuple[list[str], str]:
    """The faults of the checkout in the current folder, and how much was looked at.

    Raises:
        KitError: DVC cannot tell.
    """
    from ruamel.yaml import YAML

    lock = YAML(typ="safe", pure=True).load(Path("dvc.lock").read_text())
    ignored = {path for path in cached_outputs(lock) if _ignored_by_git(path)}
    missing = {path for path in ignored if not Path(path).exists()}
    folders = {
        str(Path(path).parent) for path in missing
    }  # a stage may depend on all that is below
    missing |= {folder for folder in folders if not Path(folder).exists()}
    status = json.loads(_dvc("status", "--json") or "{}")
    listed = set(_dvc("stage", "list", "--all", "--name-only").split())
    found = stale_stages(lock, listed) + faults(status, missing)
    told = f"{len(listed)} stages, {len(missing & ignored)} outputs not pulled, {len(found)} faults"
    return found, told


def _ignored_by_git(path: str) -> bool:
    return subprocess.run(["git", "check-ignore", "-q", path], check=False).returncode == 0


def _dvc(*arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KitError(
            f"dvc {arguments[0]}: expected DVC to read this checkout, got "
            f"{' '.join(done.stderr.split())!r}; mend that first"
        )
    return done.stdout


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KitError as error:
        sys.exit(f"carryover: {error}")
