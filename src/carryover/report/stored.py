"""Rows that a study's report is made of: those of its run, and those kept of other presets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from carryover.errors import DataError
from carryover.rows import Row, read_rows


def rows_of_preset(rows: Sequence[Row], preset: str, study: str) -> list[Row]:
    """The rows of a study's run, which must all be of the parameters' preset.

    Raises:
        DataError: rows of another preset, or no test accuracy.
    """
    runs = f"reports/{study}/runs"
    other = sorted({row.preset for row in rows} - {preset})
    if other:
        raise DataError(
            f"{runs}: expected rows of preset {preset}, got some of {', '.join(other)}; run "
            f"`dvc repro {study}`"
        )
    if not any((row.split, row.metric) == ("test", "accuracy") for row in rows):
        raise DataError(f"{runs}: expected test accuracies, found none; run `dvc repro {study}`")
    return list(rows)


def kept_rows(folder: Path, study: str, preset: str) -> Iterator[list[Row]]:
    """A study's rows of every other preset that `carryover keep` has kept, a list each."""
    found: dict[str, list[Row]] = {}
    for path in sorted(folder.glob(f"*/{study}/**/runs/*/rows.jsonl")):
        for row in read_rows(path):
            if row.preset != preset:
                found.setdefault(row.preset, []).append(row)
    yield from (rows for _, rows in sorted(found.items()))
