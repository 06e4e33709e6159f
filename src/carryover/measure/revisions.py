"""Rows of a git revision or of an experiment, read without checking it out."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

from carryover.errors import DataError, listed
from carryover.rows import Row, parse_rows, read_rows

ROWS = "reports/*/runs/*/rows.jsonl"


def rows_at(revision: str | None, folder: Path) -> list[Row]:
    """All rows of a checkout's ``reports/*/runs/*/rows.jsonl``, sorted by path.

    Args:
        revision: whatever git resolves to a commit, or the name of a DVC experiment; the commit
            is read without checking it out. None reads the working tree.
        folder: the checkout.
    Raises:
        DataError: no git checkout, no such revision, or a line that is not a row.
    """
    if revision is None:
        return [row for path in sorted(folder.glob(ROWS)) for row in read_rows(path)]
    commit = _commit(revision, folder)
    blobs = _blobs(commit, folder)
    texts = _contents(list(blobs.values()), folder)
    return [
        row
        for path, text in zip(blobs, texts, strict=True)
        for row in parse_rows(text, f"{revision}:{path}")
    ]


def _commit(revision: str, folder: Path) -> str:
    there = _git(folder, "rev-parse", "--git-dir")
    if there.returncode:
        raise DataError(
            f"{folder}: expected a git checkout, got {there.stderr.decode().strip()!r}; run this "
            "in the folder that was cloned"
        )
    if not revision.startswith("-"):  # git would take it for an option
        found = _git(folder, "rev-parse", "--verify", "-q", revision + "^{commit}")
        if found.returncode == 0:
            return found.stdout.decode().strip()
    refs = _git(folder, "for-each-ref", "--format=%(refname)", "refs/exps").stdout.decode().split()
    named = [ref for ref in refs if ref.rpartition("/")[2] == revision]
    if not named:
        raise DataError(
            "expected a git revision or the name of an experiment, got "
            f"{revision!r}; `git log` and `dvc exp list -A` show them"
        )
    if len(named) > 1:
        raise DataError(
            f"expected one experiment named {revision!r}, got {len(named)}; give one of "
            f"{listed(named)}"
        )
    return _git(folder, "rev-parse", "--verify", named[0]).stdout.decode().strip()


def _blobs(commit: str, folder: Path) -> dict[str, str]:
    """Path below the folder and git's id of each file of rows, sorted by path."""
    listing = _git(folder, "ls-tree", "-r", "-z", commit, "--", "reports/").stdout.decode()
    entries = (entry.split("\t", 1) for entry in listing.split("\0") if entry)
    return {
        path: about.split()[2]
        for about, path in sorted(entries, key=lambda entry: entry[1])
        if PurePosixPath(path).match(ROWS) and path.count("/") == ROWS.count("/")
    }


def _contents(ids: list[str], folder: Path) -> list[str]:
    """Texts of git objects, read by one process."""
    answer = _git(folder, "cat-file", "--batch", given="".join(f"{id_}\n" for id_ in ids))
    texts, rest = [], answer.stdout
    for id_ in ids:
        header, _, rest = rest.partition(b"\n")
        words = header.split()
        if len(words) != 3:
            raise DataError(
                f"expected git to hold {id_}, got {header.decode()!r}; fetch the whole history "
                "(`git fetch --unshallow`)"
            )
        size = int(words[2])
        texts.append(rest[:size].decode(errors="replace"))
        rest = rest[size + 1 :]
    return texts


def _git(folder: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, input=given.encode(), capture_output=True, check=False)
    except FileNotFoundError as error:
        raise DataError(
            "expected git to be installed, found no such program; install it"
        ) from error
