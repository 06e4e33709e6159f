"""``docs/reference.md`` is what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from carryover import reference
from carryover.config.params import Params
from conftest import REPOSITORY


@dataclass(frozen=True)
class _Cat:
    objective: Literal["cat"]
    purrs: bool


@dataclass(frozen=True)
class _Dog:
    objective: Literal["dog"]
    size: int | None


@dataclass(frozen=True)
class _Home:
    pets: dict[str, _Cat | _Dog]
    rooms: tuple[float, ...]
    rents: dict[str, int] | None


def test_the_committed_page_is_the_one_that_the_code_makes() -> None:
    assert (REPOSITORY / reference.PAGE).read_text() == reference.page(REPOSITORY), "run: make docs"


def test_making_it_imports_no_torch() -> None:
    script = (
        "import sys; from pathlib import Path; from carryover import reference; "
        "reference.page(Path()); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=False)
    assert done.returncode == 0


def test_keys_have_their_types_in_words_and_say_whose_they_are() -> None:
    assert list(reference.keys(_Home, "")) == [
        ("pets", "mapping of names"),
        ("pets.NAME.objective", "`cat` or `dog`"),
        ("pets.NAME.purrs", "true or false (cat)"),
        ("pets.NAME.size", "whole number or empty (dog)"),
        ("rooms", "list of numbers"),
        ("rents", "mapping of names to whole number or empty"),
    ]


def test_every_key_of_the_parameters_is_on_the_page() -> None:
    text = (REPOSITORY / reference.PAGE).read_text()
    known = [key for key, _ in reference.keys(Params, "")]
    assert len(known) > 200
    assert [key for key in known if f"| `{key}` |" not in text] == []


def test_a_comment_is_that_of_the_key_and_of_its_list(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        "seed: 0   # of every draw\n"
        "cuts:     # how many layers\n"
        "  settings:  # fr freezes,\n"
        "  - fr       # ft removes\n"
        "pretrain:\n"
        "  mine:      # of this network alone\n"
        "    lr: 0.1  # of Adam\n"
    )
    assert reference.comments_of(path) == {
        "seed": "of every draw",
        "cuts": "how many layers",
        "cuts.settings": "fr freezes, ft removes",
        "pretrain": "",
        "pretrain.NAME.lr": "of Adam",
    }


@pytest.mark.parametrize(
    ("key", "stages"),
    [
        ("seed", ["a", "b"]),
        ("pretrain.NAME.lr", ["a"]),
        ("data", ["b"]),
        ("data.root", ["b"]),
        ("data.names", []),
    ],
)
def test_a_stage_reads_a_key_that_its_params_hold(key: str, stages: list[str]) -> None:
    pipeline = {
        "stages": {
            "a": {"do": {"params": ["seed", "pretrain.${key}"]}},
            "b": {"params": ["seed", "data.root"]},
            "c": {},
        }
    }
    assert reference.readers_of(pipeline)(key) == stages


def test_the_page_of_protocols_names_parameters_that_exist() -> None:
    known = {key for key, _ in reference.keys(Params, "")}
    sections = {key.partition(".")[0] for key in known}
    text = (REPOSITORY / "docs" / "protocols.md").read_text()
    named = set(re.findall(r"`([a-z]+(?:\.[A-Za-z_]+)+)(?::[^`]*)?`", text))
    named = {name for name in named if name.partition(".")[0] in sections}
    assert len(named) > 20
    assert named - known == set()
