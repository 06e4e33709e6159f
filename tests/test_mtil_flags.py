"""The table of the original's flags names every flag, and keys that there are and that act."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import pyarrow.parquet as pq
import pytest

from carryover.config.params import Params
from carryover.config.sequence import Sequence
from carryover.config.sequence_parts import METHODS
from carryover.sequence_methods import item_of
from conftest import REPOSITORY, Checkout
from test_sequence import Runs, run_methods

__all__ = ["run_methods"]

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "mtil.md"
NO_KEY = "none"

SHORT = {"lrs.full": [0.003], "lrs.lora": [0.01], "updates": 4, "curves.mixes": [0.0, 1.0]}
SHORT |= {"curves.eval_every": 0}
MIXED = {"lwf": "previous", "lwf-vr": "previous", "icarl": "previous", "zscl": "mixed"}
PROMPTS = {"distill.sentences": "prompts", "distill.sentences_of": "digits"}
MOVES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (  # method, given, other values
    (
        "finetune",
        {},
        {
            "batch_size": 8,
            "lrs.full": [0.001],
            "lr_factors": {"digits": 3.0},
            "smoothing": 0.0,
            "warm_up": 4,
            "updates": 3,
            "precision": "bfloat16",  # no flag of the original's
        },
    ),
    ("wc", {}, {"consolidation": 100.0}),
    (
        "zscl",
        {},
        {
            "distill.teachers": MIXED | {"zscl": "previous"},
            "distill.reference_images": 50,
            "distill.sentences": "random",
            "distill.sentence_count": 20,
            "distill.temperature": 1.0,
            "distill.weight": 0.5,
            "distill.by_image": False,
            "distill.by_text": False,
        },
    ),
    ("zscl", {"distill.teachers": MIXED}, {"distill.teacher_mix": 0.2}),
    ("zscl", PROMPTS, {"distill.sentences_of": "letters"}),
    ("lwf-vr", {}, {"distill.random_sentences": 10}),
    ("icarl", {}, {"distill.memory_size": 10, "faults_of_original.icarl_counts": True}),
    ("ogd", {}, {"ogd.images": 3, "ogd.energy": 0.5}),
    ("ogd", {"ogd.version": "published"}, {"ogd.samples": 2}),
    (
        "finetune-lora",
        {},
        {"lora.rank": 2, "lora.alpha": 16, "lora.targets": ["mlp.c_fc"], "lora.dropout": 0.5},
    ),
    ("wise-ft", {}, {"average.merge_mix": 0.5, "average.merge_anchor": "zero-shot"}),
    ("wise-at-test", {}, {"average.test_mix": 0.2}),
    ("running-mean", {}, {"average.every": 3}),
    ("running-mean-wise", {}, {"average.mean_mix": 0.5}),
    ("moving-average", {}, {"average.pull_mix": 0.5, "average.pull_anchor": "zero-shot"}),
    ("ema", {}, {"average.ema_decay": 0.5}),
)
ELSEWHERE = {  # keys of the study whose tests, without their ``test_``, stand in other files
    "encoder": "sequence_published::two_official_sets_are_trained_one_after_another",
    "datasets": "sequence::sets_outside_an_order_are_tested_and_have_no_task",
    "orders": "sequence_published::two_official_sets_are_trained_one_after_another",
    "items": "sequence::every_method_has_its_rows_with_their_n",
    "methods": "sequence::every_method_has_its_rows_with_their_n",
    "seeds": "sequence::the_number_of_processes_changes_no_byte",
    "train_mode": "sequence::what_the_mode_names_trains_alone",
    "freeze": "sequence::held_ends_stay_as_they_were",
    "template": "sequence::sentences_of_another_set_are_tested_and_trained_with",
    "epochs": "sequence::passes_over_the_images_give_each_set_its_own_number_of_updates",
    "accumulate": "sequence_losses::parts_of_a_batch_add_up_to_it",
    "curves.eval_every": "sequence::tests_on_the_way_end_at_those_after_sets_and_change_nothing",
    "distill.reference": "sequence::the_start_has_what_its_parameters_say",
    "ogd.version": "sequence::ogd_of_the_paper_and_as_released_differ_after_the_first_task",
    "faults_of_original.extra_step": "sequence::the_extra_step_has_rate_zero_and_is_counted",
    "faults_of_original.resume_bug": "sequence::the_resume_bug_makes_later_tasks_do_nothing",
}

NO_FLAG = {  # keys of the study that no flag of the original sets
    *("preset", "l2s", "validation_fraction", "precision", "crop", "accumulate"),
    *("ogd.gradients", "ogd.scope", "average.ema_decay", "faults_of_original.eval_student"),
    *("curves.seeds", "curves.eval_methods", "curves.map_images"),
    *("curves.mixes", "curves.mix_after", "curves.mix_methods"),
}


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


def leaves(section: type, before: str = "") -> Iterator[str]:
    """Dotted keys of a section, down to plain values."""
    for key, hint in get_type_hints(section).items():
        if is_dataclass(hint) and isinstance(hint, type):
            yield from leaves(hint, f"{before}{key}.")
        else:
            yield before + key


def test_every_knob_of_the_study_is_in_the_table_or_known_to_have_no_flag() -> None:
    named = [key for row in rows() for key, _ in keys(row.here)]
    flags = {
        key for key in leaves(Sequence) for n in named if f"sequence.{key}.".startswith(f"{n}.")
    }
    assert {*leaves(Sequence)} - flags == NO_FLAG


def test_a_path_that_leads_nowhere_is_no_key() -> None:
    assert is_key("sequence.distill.temperature")
    assert is_key("encoders.*.weights")
    assert not is_key("sequence.distill.heat")
    assert not is_key("sequence.updates.more")


def test_every_key_of_the_table_has_a_test() -> None:
    moved = {f"sequence.{key}" for _, _, others in MOVES for key in others}
    tested = moved | {f"sequence.{key}" for key in ELSEWHERE}
    assert len(tested) == len(moved) + len(ELSEWHERE)
    for row in rows():
        for key, _ in keys(row.here):
            if key.startswith("sequence."):
                assert any(f"{each}.".startswith(f"{key}.") for each in tested), (row.flag, key)
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        text = (REPOSITORY / "tests" / f"test_{file}.py").read_text()
        assert f"def test_{name}(" in text, place


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "given", "others"), MOVES, ids=[f"{each[0]}-{'-'.join(each[2])}" for each in MOVES]
)
def test_another_value_of_a_key_ends_in_another_model(
    run_methods: Runs,
    embedded: Checkout,
    method: str,
    given: dict[str, Any],
    others: dict[str, Any],
) -> None:
    first = {key: value_of(embedded.tree()["sequence"], key) for key in others} | SHORT | given

    def told(changes: dict[str, Any]) -> list[float]:
        values = {key.replace(".", "__"): value for key, value in (first | changes).items()}
        run_methods(method, **values)
        path = Path("data/predictions/sequence") / item_of(method) / "predictions.parquet"
        table = pq.read_table(path).to_pydict()
        columns = (table[name] for name in ("after", "mix", "prediction_probability"))
        lines = zip(*columns, strict=True)
        return [share for after, mix, share in lines if after == 2 and mix is None]

    before = told({})
    assert len(before) == 1258 + 36
    assert [key for key, value in others.items() if told({key: value}) == before] == []
    assert told({}) == before


def value_of(section: Any, path: str) -> Any:
    for name in path.split("."):
        section = section[name]
    return section
