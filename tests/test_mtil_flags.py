"""The table of the original's flags names every flag, and keys that there are."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import pytest

from carryover.config.params import Params
from carryover.config.sequence import Sequence
from carryover.config.sequence_parts import METHODS
from conftest import REPOSITORY

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "mtil.md"
NO_KEY = "none"


class Row(NamedTuple):
    flag: str
    here: str
    note: str


def rows() -> list[Row]:
    lines = (REPOSITORY / "docs" / "mtil-flags.md").read_text().splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    return [Row(*(cell.strip() for cell in row)) for row in cells]


def keys(cell: str) -> list[tuple[str, str]]:
    """Keys that a cell names, each with the method after it or nothing."""
    named = [each.partition(": ") for each in re.findall(r"`([^`]+)`", cell)]
    return [(key, method) for key, _, method in named]


def is_key(path: str, hint: Any = Params) -> bool:
    """Whether a dotted path leads through the sections' dataclasses; ``*`` is any name."""
    if not path:
        return True
    first, _, rest = path.partition(".")
    if isinstance(hint, UnionType):
        return any(is_key(path, part) for part in get_args(hint))
    if get_origin(hint) is dict:
        return is_key(rest, get_args(hint)[1])
    if not is_dataclass(hint):
        return False
    hints = get_type_hints(hint)
    return first in hints and is_key(rest, hints[first])


def test_the_table_has_every_flag_once() -> None:
    flags = [row.flag for row in rows()]
    assert len(flags) == len(set(flags)) == 78 + 18


@pytest.mark.skipif(not REFERENCE.exists(), reason="the original's flags are not listed here")
def test_the_flags_are_the_originals() -> None:
    text = REFERENCE.read_text()
    lines = text[text.index("## 8. Flags") :].splitlines()
    theirs = [re.match(r"\| (`[^`]+`)", line) for line in lines]
    assert [row.flag for row in rows()] == [found[1] for found in theirs if found]


@pytest.mark.parametrize("row", [row for row in rows() if row.here != NO_KEY], ids=lambda r: r.flag)
def test_a_named_key_is_one_of_params_yaml(row: Row) -> None:
    named = keys(row.here)
    assert named
    for key, method in named:
        assert is_key(key), f"{row.flag}: {key}"
        if method:
            assert key == "sequence.methods"
            assert method in {name for names in METHODS.values() for name in names}


@pytest.mark.parametrize("row", [row for row in rows() if row.here == NO_KEY], ids=lambda r: r.flag)
def test_a_flag_without_a_key_has_a_reason(row: Row) -> None:
    assert len(row.note) > 8


def test_what_is_not_built_is_said() -> None:
    missing = [row.flag.strip("`") for row in rows() if row.note.startswith("not built")]
    assert missing == []


def test_every_knob_of_the_study_that_the_original_has_is_in_the_table() -> None:
    ours = {"preset", "l2s", "validation_fraction", "precision", "crop", "accumulate"}  # no flag
    named = {key.split(".")[1] for row in rows() for key, _ in keys(row.here) if "sequence" in key}
    assert {*get_type_hints(Sequence)} - ours <= named


def test_a_path_that_leads_nowhere_is_no_key() -> None:
    assert is_key("sequence.distill.temperature")
    assert is_key("encoders.*.weights")
    assert not is_key("sequence.distill.heat")
    assert not is_key("sequence.updates.more")
