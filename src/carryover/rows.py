"""A result is a row: one JSON line a number, with what it was made from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from carryover.errors import DataError
from carryover.files import write_text


@dataclass(frozen=True)
class Row:
    """One number of a study, with what it was made from.

    Attributes:
        study, item: the study and the stage item that made it (``cuts``, ``fr``).
        preset: the preset that the study's parameters started from.
        cell: the axes (fraction, cut, repeat, task, ...) and their values.
        split: ``train``, ``validation`` or ``test``.
        metric, value: what was measured; accuracies lie in 0..1.
        n: images that the value is over.
        data, weights, params, source: digests of the images, the pretrained weights, the
            parameters and the code.
        precision: floating-point type of the computation.
    """

    study: str
    item: str
    preset: str
    cell: dict[str, Any]
    split: str
    metric: str
    value: float
    n: int
    data: str
    weights: str
    params: str
    source: str
    precision: str


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON lines, whole or not at all.

    Raises:
        ValueError: a value that is not finite.
    """
    write_text(path, "".join(json.dumps(asdict(row), allow_nan=False) + "\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """Rows of one ``rows.jsonl``.

    Raises:
        DataError: no such file, or a line that is not a row.
    """
    if not path.exists():
        raise DataError(f"{path}: expected rows, found no file; run the stage that writes it")
    try:
        return parse_rows(path.read_text(), str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected rows as UTF-8 text, got other bytes") from error


def parse_rows(text: str, origin: str) -> list[Row]:
    """Rows from the text of a ``rows.jsonl``; `origin` names it in messages.

    Raises:
        DataError: a line is not a row.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            rows.append(_row(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise DataError(f"{origin}:{number}: expected a row, got {line[:60]!r}") from error
    return rows


def _row(fields: dict[str, Any]) -> Row:
    row = Row(**fields)
    texts = (value for name, value in fields.items() if name not in ("cell", "value", "n"))
    if not (
        isinstance(row.cell, dict)
        and type(row.value) in (int, float)
        and math.isfinite(row.value)
        and type(row.n) is int
        and row.n >= 0
        and all(isinstance(text, str) for text in texts)
    ):
        raise TypeError("fields of other types")
    return row
