"""The commands of the documentation: every fenced block of its pages, and the tag before it.

``<!-- ci -->`` runs in a copy of the checkout in which no stage has run; the blocks of a page run
one after the other, so that they may build on each other. ``<!-- ci: small -->`` runs on the
parameters of ``tests/params.yaml``, with their data, networks and embeddings made; ``exit N`` is
the exit code that the block ends with, where it is not 0. ``<!-- slow -->`` takes minutes to
hours, ``<!-- host: NEEDS -->`` needs what a machine may lack (`NEEDS`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
KINDS = ("ci", "slow", "host")
LANGUAGES = ("sh", "python", "yaml", "diff", "text", "json")
FENCE = re.compile(r"```(.*)")
TAG = re.compile(r"<!-- (ci|slow|host)(?:: (.+))? -->")


def _runs(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


NEEDS: dict[str, Callable[[], bool]] = {
    "docker": lambda: _runs("docker", "info"),
    "slurm": lambda: _runs("sbatch", "--version"),
    "gpu": lambda: _runs("nvidia-smi"),
    "network": lambda: bool(os.environ.get("DOCS_NETWORK")),  # said, as no probe is sure of it
    "data": lambda: bool(os.environ.get("DATA")),  # a folder with the originals' sets
    "weights": lambda: bool(os.environ.get("WEIGHTS")),  # a folder with published weights
    "s3": lambda: bool(os.environ.get("AWS_ENDPOINT_URL") and os.environ.get("BUCKET")),
    "kubernetes": lambda: bool(os.environ.get("JOB_COMPLETION_INDEX")),
    "grid-engine": lambda: bool(os.environ.get("SGE_TASK_ID")),
}


@dataclass(frozen=True)
class Block:
    """Commands of a page.

    Attributes:
        line: of the fence, from 1.
        kind: one of `KINDS`; "" where it has no tag.
        notes: what follows the kind in the tag.
    """

    page: str
    line: int
    language: str
    kind: str
    notes: tuple[str, ...]
    script: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def code(self) -> int:
        """The exit code it says it ends with."""
        codes = [int(note.removeprefix("exit ")) for note in self.notes if "exit " in note]
        return codes[0] if codes else 0

    @property
    def missing(self) -> list[str]:
        """What this machine lacks for it."""
        return [note for note in self.notes if note in NEEDS and not NEEDS[note]()]


def blocks(text: str, page: str) -> Iterator[Block]:
    """Every fenced block of a page."""
    lines = text.splitlines()
    start: int | None = None
    for i, line in enumerate(lines):
        fence = FENCE.fullmatch(line)
        if fence is None:
            continue
        if start is None:
            start = i
            continue
        tag = TAG.fullmatch(lines[start - 1]) if start else None
        said = (tag[2] or "") if tag else ""
        notes = tuple(note.strip() for note in said.split(",") if note.strip())
        script = "\n".join(lines[start + 1 : i]) + "\n"
        language = lines[start].removeprefix("```")
        yield Block(page, start + 1, language, tag[1] if tag else "", notes, script)
        start = None
    assert start is None, f"{page}:{(start or 0) + 1}: a block that does not end"


FOUND = [
    block
    for path in PAGES
    for block in blocks(path.read_text(), path.relative_to(REPOSITORY).as_posix())
]
COMMANDS = [block for block in FOUND if block.language == "sh"]
