"""A whole run made afresh: it takes no stage for done, and goes on where it was stopped."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from carryover import run
from carryover.files import write_text
from carryover.stages import PARAMS

LOCK = Path("dvc.lock")
COMMAND = re.compile(r"^(    cmd: |    cmd:\n    - )", re.MULTILINE)  # of a stage, as DVC writes it
MARK = "again "  # before the command of a stage that is still to run


def begin() -> int:
    """Let DVC run every stage, or those that a run which was stopped has left.

    DVC runs a stage whose command is not the one in its lock, so each is marked there; a stage
    that ends writes its own again. DVC's `--force` would start from the first stage each time.

    Returns:
        How many stages a stopped run has left; 0 where none was stopped.
    """
    if not LOCK.exists():
        return 0
    lock = LOCK.read_text()
    left = len(re.findall(COMMAND.pattern + MARK, lock, re.MULTILINE))
    if not left:
        write_text(LOCK, COMMAND.sub(rf"\1{MARK}", lock))
    return left


def finish() -> None:
    """Remember that all stages ran with these parameters."""
    write_text(_marker(), _params_digest())


def is_finished() -> bool:
    """Whether all stages ran here with the parameters as they stand."""
    return _marker().exists() and _marker().read_text() == _params_digest()


def _marker() -> Path:
    return run.scratch_root() / "reproduced"


def _params_digest() -> str:
    return hashlib.sha256(PARAMS.read_bytes()).hexdigest()
