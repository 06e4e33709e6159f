"""The ledger: what is refused when a claim is written, and what the committed one holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import ledger as small
from carryover.claims.ledger import PRESETS, read
from carryover.claims.verify import verify
from carryover.errors import ConfigError
from conftest import REPOSITORY


def test_a_claim_is_read_as_it_stands(tmp_path: Path) -> None:
    (claim,), _ = read(small.write(tmp_path, {}))
    assert claim.id == "adapt-gain"
    assert claim.above
    assert claim.expected == (0.05,)
    assert set(claim.quantity[0].terms) == {"accuracy(item='llrd')", "accuracy(item='probe')"}
    assert claim.known_defect == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quantity": "precision()"}, "metric of adapt"),
        ({"quantity": 'accuracy(depth="1")'}, "axis of adapt"),
        ({"id": "gain"}, "begins with adapt-"),
        ({"id": "adapt-Gain"}, "lower-case id"),
        ({"kind": "better"}, "kind: expected"),
        ({"presets": ["tiny"]}, "presets: expected"),
        ({"presets": None}, "presets: expected"),
        ({"split": "dev"}, "split: expected"),
        ({"expected": float("nan")}, "finite numbers"),
        ({"expected": [0.1, 0.2]}, "one quantity and one value"),
        ({"statement": " "}, "statement: expected text"),
        ({"margin": 0.05}, "does not lie on"),
        ({"colour": "red"}, "expected the keys"),
        ({"kind": "equality"}, "expected 0 and a margin of 0"),
        ({"quantity": 5}, "quantity: expected text"),
        ({"margin": True}, "finite numbers"),
        ({"expected_n": 25250.7}, "a number of images"),
        ({"expected_n": -7}, "a number of images"),
        ({"presets": ["mini", "mini"]}, "presets: expected"),
        ({"presets": [["mini"]]}, "presets: expected"),
        ({"implied": "no"}, "true or false"),
        ({"kind": "value", "margin": -1.0}, "0 or more"),
    ],
)
def test_a_faulty_claim_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(small.write(tmp_path, change))


@pytest.mark.parametrize(
    "change",
    [
        {"expected": 0.013, "expected_n": 25250},  # 0.003 to decide, 0.0087 to each side
        {"expected_n": 200},
        {"kind": "value", "margin": 0.02, "expected_n": 2000},
        {
            "kind": "order",
            "margin": 0.0,
            "quantity": ['accuracy(item="llrd")', 'accuracy(item="probe")'],
            "expected": [0.601, 0.6],
        },
    ],
)
def test_a_claim_that_its_images_cannot_decide_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="an interval that can decide"):
        read(small.write(tmp_path, change))


def test_enough_images_decide_the_same_claim(tmp_path: Path) -> None:
    (claim,), _ = read(small.write(tmp_path, {"expected": 0.013, "expected_n": 25250 * 12}))
    assert claim.expected_n == 303_000


def test_an_order_falls(tmp_path: Path) -> None:
    order = {
        "kind": "order",
        "margin": 0.0,
        "quantity": ['accuracy(item="llrd")', 'accuracy(item="probe")'],
        "expected": [0.5, 0.7],
    }
    with pytest.raises(ConfigError, match="falling order"):
        read(small.write(tmp_path, order))


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(small.write(tmp_path, {"kind": "x"}, {"id": "adapt-b", "split": "y"}))
    assert len(str(caught.value).splitlines()) == 2


def test_an_id_stands_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="adapt-gain twice"):
        read(small.write(tmp_path, {}, {}))


@pytest.mark.parametrize(
    ("text", "got"), [("", "nothing"), ("a: 1\n", "dict"), ("\t- a\n", "YAML")]
)
def test_a_file_that_is_no_list_of_claims_is_refused(tmp_path: Path, text: str, got: str) -> None:
    folder = small.write(tmp_path, {})
    (folder / "adapt.yaml").write_text(text)
    with pytest.raises(ConfigError, match=got):
        read(folder)


def test_claims_that_have_gone_are_missed_where_results_were_released(tmp_path: Path) -> None:
    folder = small.write(tmp_path, {})
    (folder / "released/adapt.csv").write_text("")
    (folder / "adapt.yaml").unlink()
    with pytest.raises(ConfigError, match="expected the claims of adapt, found no file"):
        read(folder)


def test_a_claim_without_rows_says_what_they_need(tmp_path: Path) -> None:
    folder = small.write(tmp_path, {"presets": ["mini", "published"]})
    text = (folder / "schema.yaml").read_text()
    assert "needs" not in text
    (folder / "schema.yaml").write_text(
        text.replace("adapt:\n", "adapt:\n  needs:\n    published: Food-101 and a GPU\n", 1)
    )
    reasons = [entry.decision.reason for entry in verify(tmp_path)]
    plain = "no rows of adapt with preset"
    assert reasons == [f"{plain} mini", f"{plain} published, which needs Food-101 and a GPU"]
    (folder / "schema.yaml").write_text(text.replace("adapt:\n", "adapt:\n  needs: much\n", 1))
    with pytest.raises(ConfigError, match="expected items, axes and metrics, and needs or none"):
        verify(tmp_path)


def test_the_committed_ledger_is_whole() -> None:
    claims, schemas = read(REPOSITORY / "claims")
    studies = {"cuts", "adapt", "continual", "sequence", "retrieval", "survival"}
    assert {claim.study for claim in claims} == studies <= set(schemas)
    assert len(claims) >= 60
    published = {
        "cuts": [f"T{i}" for i in range(1, 12)],
        "adapt": [f"C{i}" for i in range(1, 9)],
        "continual": [f"F{i}" for i in range(1, 14)],
        "sequence": [f"M{i}" for i in range(1, 12)],
        "retrieval": [f"R{i}" for i in range(1, 8)],
    }
    for study, items in published.items():
        sources = " ".join(claim.source for claim in claims if claim.study == study)
        assert [item for item in items if not re.search(rf"\b{item}\b", sources)] == []
    assert all(set(claim.presets) <= set(PRESETS) for claim in claims)
