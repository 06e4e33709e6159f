"""Cells of a stage dealt out to several processes, by ``carryover launch``."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from carryover.errors import ConfigError


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
    """What ``carryover launch`` gave this process to do; None where it computes every cell.

    Raises:
        ConfigError: ``CARRYOVER_SHARE`` is no share.
    """
    given = os.environ.get("CARRYOVER_SHARE")
    if not given:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", given, re.ASCII)
    if not match or int(match[1]) >= int(match[2]) > 0 or (match[2] == "0" and match[1] != "0"):
        raise ConfigError(
            f"CARRYOVER_SHARE: expected i/n with 0 <= i < n, got {given!r}; take it out, "
            "`carryover launch` sets it"
        )
    return Share(int(match[1]), int(match[2]))


@contextlib.contextmanager
def sharing(given: Share) -> Iterator[None]:
    """Stages run in this block compute a share of their cells."""
    os.environ["CARRYOVER_SHARE"] = str(given)
    try:
        yield
    finally:
        del os.environ["CARRYOVER_SHARE"]
