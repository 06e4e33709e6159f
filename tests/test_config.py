from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carryover.config import params as config
from carryover.config import reader
from carryover.errors import ConfigError
from conftest import ABSENT, REPOSITORY, Checkout

PARAMS = Path("params.yaml")


def refused(checkout: Checkout, **changes: Any) -> list[str]:
    """Lines of the message that these changes give."""
    checkout.edit(**changes)
    with pytest.raises(ConfigError) as caught:
        config.read(PARAMS)
    lines = str(caught.value).splitlines()
    assert all(line.startswith("params.yaml: ") for line in lines)
    return [line.removeprefix("params.yaml: ") for line in lines]


def test_a_good_file_reads_as_typed_values(tiny: Checkout) -> None:
    params = config.read(PARAMS)
    assert params.cuts.fractions == (0.05, 1.0)
    assert params.pretrain["cnn6-digits-0-4"].network.channels == 4
    assert params.data.root is None
    assert isinstance(params.cuts.lr, float)


def test_all_faults_are_reported_at_once_under_their_paths(tiny: Checkout) -> None:
    changes = {
        "cuts.lr": "fast",
        "cuts.epochs": ABSENT,
        "cuts.depth": 6,
        "data.digits_size": 4,
        "pretrain.cnn6-digits-0-4.network.kernel": 4,
        "seed": True,
    }
    lines = refused(tiny, **changes)
    assert sorted(line.split(":")[0] for line in lines) == [
        "cuts.depth",
        "cuts.epochs",
        "cuts.lr",
        "data.digits_size",
        "pretrain.cnn6-digits-0-4.network.kernel",
        "seed",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cuts.learning_rate": 0.1}, "cuts.learning_rate: unknown key, expected lr, batch_size"),
        (
            {"extra": {}},
            "extra: unknown key, expected seed, data, pretrain, encoders, cuts, clusters, adapt, "
            "continual, sequence, retrieval, survival, diff; take it out",
        ),
        ({"cuts.lr": ABSENT}, "cuts.lr: expected this key, it is missing; add it"),
        ({"cuts": ABSENT}, "cuts: expected this section, it is missing; add it"),
        ({"data": ABSENT}, "data: expected this section, it is missing; add it"),
        (
            {"pretrain.cnn6-digits-0-4.network": ABSENT},
            "pretrain.cnn6-digits-0-4.network: expected this section, it is missing; add it",
        ),
        ({"cuts": None}, "cuts: expected a mapping, got nothing"),
        ({"cuts.lr": "fast"}, "cuts.lr: expected a number, got text ('fast')"),
        ({"cuts.lr": True}, "cuts.lr: expected a number, got true or false (True)"),
        ({"cuts.epochs": 1.5}, "cuts.epochs: expected a whole number, got a number (1.5)"),
        ({"cuts.epochs": None}, "cuts.epochs: expected a whole number, got nothing"),
        ({"cuts.preset": 3}, "cuts.preset: expected text, got a whole number (3)"),
        (
            {"cuts.stratified_validation": "yes"},
            "cuts.stratified_validation: expected true or false, got text ('yes')",
        ),
        ({"cuts.classes": 5}, "cuts.classes: expected a list with at least one entry, got a whole"),
        ({"cuts.cuts": []}, "cuts.cuts: expected a list with at least one entry, got an empty one"),
        ({"cuts.classes": [5, "x"]}, "cuts.classes[1]: expected a whole number, got text ('x')"),
        ({"cuts.seeding": "time"}, "cuts.seeding: expected one of purpose, repeat, got 'time'"),
        (
            {"cuts.settings": ["fr", "rf", "baseline"]},
            "cuts.settings[1]: expected one of fr, f, r, none, ft, baseline, got 'rf'",
        ),
        ({"cuts.settings": ["fr"]}, "cuts.settings: expected 'baseline' among them"),
        (
            {"cuts.fractions": [0, 1.0]},
            "cuts.fractions[0]: expected a share of the training images above 0 and at most 1, got",
        ),
        (
            {"cuts.fractions": [0.1, 1.5]},
            "cuts.fractions[1]: expected a share of the training images above 0 and at most 1, got",
        ),
        (
            {"cuts.classes": [4, 5, 6, 0]},
            "cuts.classes: expected none of the classes that cnn6-digits-0-4 was pretrained on, "
            "got 0, 4 in both; take them out of one list",
        ),
        (
            {"cuts.fractions": [0.1, 0.1]},
            "cuts.fractions: expected each entry once, got 0.1 twice",
        ),
        ({"cuts.cuts": [0, 0]}, "cuts.cuts: expected each entry once, got 0 twice"),
        ({"cuts.classes": [5, 5]}, "cuts.classes: expected each entry once, got 5 twice"),
        ({"cuts.classes": [5]}, "cuts.classes: expected at least 2, got 1"),
        ({"cuts.cuts": [0, 7]}, "cuts.cuts[1]: expected 0 to 6 (the depth of cnn6-digits-0-4), "),
        ({"cuts.cuts": [-1]}, "cuts.cuts[0]: expected 0 to 6 (the depth of cnn6-digits-0-4), got"),
        ({"cuts.repeats": [8]}, "cuts.repeats: expected one number a fraction (2), got 1"),
        ({"cuts.repeats": [8, 1]}, "cuts.repeats[1]: expected at least 2, got 1"),
        (
            {"cuts.pretrained": "cnn9"},
            "cuts.pretrained: expected one of cnn6-digits-0-4, got 'cnn9'; describe it under",
        ),
        (
            {"cuts.dataset": "minst"},
            "cuts.dataset: expected one of digits, letters, world, got 'minst'; add it to "
            "data.names",
        ),
        (
            {"pretrain.cnn6-digits-0-4.dataset": "minst"},
            "pretrain.cnn6-digits-0-4.dataset: expected one of digits, letters, world, got 'minst'",
        ),
        ({"data.names": ["Digits", "digits"]}, "data.names: expected names of a-z, 0-9 and -, got"),
        ({"data.test_fraction": 1.0}, "data.test_fraction: expected a number above 0 and below 1"),
        ({"cuts.lr": 0.0}, "cuts.lr: expected a number above 0, got 0.0"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"diff.level": 95.0}, "diff.level: expected a number above 0 and below 1, got 95.0"),
        (
            {"diff.tolerances": [{"match": "*", "absolute": -1, "relative": 0}]},
            "diff.tolerances[0].absolute: expected a finite number of 0 or more, got -1.0",
        ),
        (
            {"diff.tolerances": [{"match": "*", "absolute": 1, "relative": 0}] * 2},
            "diff.tolerances[0].match: expected '*' in the last entry alone, got it before others",
        ),
        ({"survival.mixes": [0.0, 0.5]}, "survival.mixes: expected ascending shares from 0.0"),
        ({"survival.neighbours": 61}, "survival.neighbours: expected at most the 60 train_images"),
        ({"survival.images": 3}, "survival.images: expected at least 4, got 3"),
        ({"survival.severity": 6}, "survival.severity: expected 1 to 5, got 6"),
        ({"survival.pretrained_on": "x"}, "survival.pretrained_on: expected one of digits"),
        ({"diff.tolerances": [{"match": "*"}]}, "diff.tolerances[0].absolute: expected this key"),
    ],
)
def test_a_fault_has_its_line(tiny: Checkout, changes: dict[str, Any], said: str) -> None:
    lines = refused(tiny, **changes)
    assert any(line.startswith(said) for line in lines), lines


def test_the_same_classes_of_another_set_are_no_overlap(tiny: Checkout) -> None:
    tiny.edit(**{"data.names": ["digits", "letters", "world", "mnist"], "cuts.dataset": "mnist"})
    tiny.edit(**{"cuts.classes": [0, 1]})
    assert config.read(PARAMS).cuts.classes == (0, 1)


@pytest.mark.parametrize("text", ["1e-5", "1.0e-5", "0.00001", "1E-5"])
def test_a_small_number_may_be_written_in_any_form(tiny: Checkout, text: str) -> None:
    original = tiny.params.read_text()
    assert original.count("\n  lr: 0.02\n") == 1
    tiny.params.write_text(original.replace("\n  lr: 0.02\n", f"\n  lr: {text}\n"))
    assert config.read(PARAMS).cuts.lr == 1e-5


@pytest.mark.parametrize("word", ["yes", "no", "on", "off"])
def test_words_of_old_yaml_stay_text(tmp_path: Path, word: str) -> None:
    (tmp_path / "x.yaml").write_text(f"key: {word}\n")
    assert reader.load(tmp_path / "x.yaml") == {"key": word}


def test_numbers_are_read_as_dvc_reads_them(tiny: Checkout) -> None:
    from dvc.utils.serialize import load_yaml

    assert reader.load(PARAMS) == load_yaml(str(PARAMS))
    tiny.params.write_text("a: 1e-5\nb: 012\nc: 1_000\nd: 0o17\ne: 12:30\nf: .5\ng: 1.\n")
    assert reader.load(PARAMS) == load_yaml(str(PARAMS))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [1, 2", "params.yaml: expected YAML, got: "),
        ("a: 1\na: 2\n", "params.yaml: expected YAML, got: "),
        ("- 1\n- 2\n", "params.yaml: expected a mapping of sections, got a list"),
        ("", "params.yaml: expected a mapping of sections, got nothing"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_refused(tiny: Checkout, content: str, said: str) -> None:
    tiny.params.write_text(content)
    with pytest.raises(ConfigError) as caught:
        config.read(PARAMS)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_key_twice_is_named(tiny: Checkout) -> None:
    tiny.params.write_text(tiny.params.read_text() + "seed: 1\n")
    with pytest.raises(ConfigError, match=r"duplicate key \"?seed"):
        config.read(PARAMS)


def test_bytes_that_are_no_text_are_refused(tiny: Checkout) -> None:
    tiny.params.write_bytes(b"seed: \xff\xfe\n")
    with pytest.raises(ConfigError, match="expected YAML"):
        config.read(PARAMS)


def test_a_missing_file_says_where_to_go(tiny: Checkout) -> None:
    tiny.params.unlink()
    with pytest.raises(ConfigError, match="found none; call carryover from the top folder"):
        config.read(PARAMS)


def test_an_edited_section_is_noticed_and_another_is_not(tiny: Checkout) -> None:
    before = reader.section_digest(PARAMS, "seed", "cuts")
    tiny.edit(**{"data.digits_size": 16})
    reader.refuse_edited(PARAMS, before, "seed", "cuts")
    tiny.edit(**{"cuts.lr": 0.5})
    with pytest.raises(ConfigError, match="expected seed, cuts to stay as they were") as caught:
        reader.refuse_edited(PARAMS, before, "seed", "cuts")
    assert "nothing was written, run again" in str(caught.value)


def test_the_digest_of_a_section_ignores_comments_and_order(tiny: Checkout) -> None:
    before = reader.section_digest(PARAMS, "cuts")
    tiny.edit()  # written anew, without comments
    assert tiny.params.read_text() != (REPOSITORY / "tests" / "params.yaml").read_text()
    assert reader.section_digest(PARAMS, "cuts") == before


KERNEL = "pretrain.cnn6-digits-0-4.network.kernel"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({KERNEL: -1}, f"{KERNEL}: expected at least 1, got -1"),
        ({"cuts.validation_seed": 2**64}, "cuts.validation_seed: expected a whole number of -2^63"),
        ({"seed": 2**63}, "seed: expected a whole number of -2^63 + 1 to 2^63 - 1, got 9223372036"),
        ({"adapt.l2s": [1e300]}, "adapt.l2s[0]: expected 0 or a number of 1e-30 to 1e+30 in size"),
        ({"adapt.l2s": [10**400]}, "adapt.l2s[0]: expected 0 or a number of 1e-30 to 1e+30 in"),
        ({"cuts.lr": float("nan")}, "cuts.lr: expected 0 or a number of 1e-30 to 1e+30 in size"),
        ({"adapt.lrs.llrd": [0.1, 0.1]}, "adapt.lrs.llrd: expected each entry once, got 0.1 twice"),
        (
            {"adapt.partitions": [0.1, 0.10000001, 1.0]},
            "adapt.partitions: expected each entry once, got 0.1 twice by their first six digits",
        ),
        ({"encoders.clip-nano.threads": 10**12}, "encoders.clip-nano.threads: expected 1 to 1024"),
        ({"adapt.preset": "../mini"}, "adapt.preset: expected a name of a-z, 0-9, - and single"),
        ({"cuts.preset": "a\nb"}, "cuts.preset: expected a name of a-z, 0-9, - and single slashes"),
    ],
)
def test_values_that_no_computation_holds_are_refused(
    tiny: Checkout, changes: dict[str, Any], said: str
) -> None:
    assert any(line.startswith(said) for line in refused(tiny, **changes))
