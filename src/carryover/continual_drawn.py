"""Numbers of the continual study that figures alone read, in less space than rows.

Loss and accuracy by epoch, bands and pairs of layers of CKA, and CKA before the end of a stream
would be half of all rows. They lie beside the rows, a line a training and metric; whoever reads
them gets what rows would say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from carryover.errors import DataError
from carryover.files import write_text

Number = tuple[str, str, dict[str, int], float, int]  # split, metric, axes, value, n

NAME = "drawn.jsonl"
DRAWN = ("epoch_loss", "epoch_accuracy", "cka_low", "cka_high", "cka_pair")
DIGITS = 6


def is_drawn(number: Number, last: int) -> bool:
    """Whether a number is one of these; `last` is the last experience of its stream."""
    _, metric, at, _, _ = number
    return metric in DRAWN or (metric == "cka" and at.get("experience", last) != last)


def write_drawn(path: Path, found: Iterable[tuple[dict[str, Any], Iterable[Number]]]) -> None:
    """Write numbers by the axes of their training, whole or not at all."""
    lines = []
    for cell, numbers in found:
        groups: dict[tuple[str, str, tuple[str, ...]], list[list[float]]] = {}
        for split, metric, at, value, n in numbers:
            group = groups.setdefault((split, metric, tuple(at)), [])
            group.append([*at.values(), n, round(value, DIGITS)])
        lines += [
            {"cell": cell, "split": split, "metric": metric, "axes": axes, "values": values}
            for (split, metric, axes), values in groups.items()
        ]
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def read_drawn(path: Path) -> Iterator[tuple[dict[str, Any], Number]]:
    """What `write_drawn` wrote, number by number.

    Raises:
        DataError: no such file, or a line that is not of such numbers.
    """
    if not path.exists():
        raise DataError(f"{path}: expected numbers, found no file; run `dvc repro continual`")
    for line in path.read_text().splitlines():
        try:
            told = json.loads(line)
            for *places, n, value in told["values"]:
                at = dict(zip(told["axes"], map(int, places), strict=True))
                yield told["cell"], (told["split"], told["metric"], at, float(value), int(n))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected numbers to draw, got {line[:60]!r}") from error
