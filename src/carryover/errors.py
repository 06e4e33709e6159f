"""Errors that the user can mend: one sentence, no traceback, exit code 2."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")
SHOWN = 4000  # letters of a line of a message
MACHINE = (  # what a user mends
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENOMEM, errno.EIO),
    *(errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP),
)
NO_MEMORY = ("can't allocate memory", "CUDA out of memory")  # torch's words


class KitError(Exception):
    """The user's to mend. The message says what was expected, what came and what to do."""


class ConfigError(KitError):
    """``params.yaml`` cannot be used; the message names every fault under its dotted path."""


class DataError(KitError):
    """A file, folder or table of images or rows cannot be used."""


class Diverged(KitError):
    """A loss is not finite; the message names the step, the learning rate and the last loss."""


def of_machine(error: Exception) -> KitError | None:
    """What to say of an error that disk, memory or permissions made; None of another."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        first = str(error).partition("\n")[0] or "no more memory"
        return KitError(
            f"expected memory enough for these sizes, got {first!r}; make batches, networks or "
            "sets smaller, then run again"
        )
    if not isinstance(error, OSError) or error.errno not in MACHINE:
        return None
    return KitError(
        f"{error.filename or 'the system'}: expected to read or write here, got "
        f"{error.strerror!r}; mend the path, its permissions or the space, then run again"
    )


def pick(table: Mapping[str, T], name: str, path: str) -> T:
    """The entry of a table by its name.

    Args:
        table: known names and what they stand for.
        name: the name asked for.
        path: where the name was read, for the message (``cuts.dataset``).
    Raises:
        ConfigError: the table has no such name; the message lists the known ones.
    """
    if name in table:
        return table[name]
    raise ConfigError(f"{path}: expected one of {listed(table)}, got {name!r}")


def printable(message: str) -> str:
    """A message as a terminal may show it: control characters escaped, endless lines cut."""
    lines = []
    for line in message.split("\n"):
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        left = len(text) - SHOWN
        lines.append(
            text
            if left <= 0
            else f"{text[: SHOWN // 2]} [... {left} letters] {text[-SHOWN // 2 :]}"
        )
    return "\n".join(lines)


def listed(names: Iterable[str]) -> str:
    """Names as they stand in a sentence: ``a, b, c``, or ``nothing`` when there are none."""
    return ", ".join(names) or "nothing"
