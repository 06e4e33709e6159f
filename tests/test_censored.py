"""Verdicts where what was counted had not come by the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from carryover.claims.decide import Decision, decide
from carryover.claims.estimate import estimate
from carryover.claims.ledger import Claim
from carryover.claims.ledger import read as read_ledger
from carryover.claims.observations import Observation, of_rows
from carryover.claims.quantity import read
from carryover.claims.schema import Schema
from carryover.rows import Row
from conftest import REPOSITORY

SCHEMA = Schema(
    "retrieval",
    ("perceiver",),
    {"access": "text", "k": "integer", "seed": "repeat"},
    ("steps_to_080", "accuracy"),
)
RATIO = 'steps_to_080(access="none") / steps_to_080(access="knn")'
MEAN = 'mean(steps_to_080(access="knn"), over="k")'


def row(metric: str, value: float, seed: int, access: str = "none") -> Row:
    cell = {"access": access, "seed": seed}
    digests = ("data", "weights", "params", "source", "float32")
    return Row("retrieval", "perceiver", "mini", cell, "test", metric, value, 10, *digests)


def seen(access: str, values: Sequence[float], never: Sequence[int] = ()) -> list[Observation]:
    """Steps by seed; those of some seeds never came."""
    rows = [row("steps_to_080", float(value), seed, access) for seed, value in enumerate(values)]
    rows += [
        row("reached_080", float(seed not in never), seed, access) for seed in range(len(values))
    ]
    return of_rows(rows, "x")


def decided(observations: list[Observation], **changes: Any) -> Decision:
    claims, _ = read_ledger(REPOSITORY / "claims")
    (claim,) = [each for each in claims if each.id == "retrieval-r1-clean"]
    made: Claim = replace(claim, quantity=(read(RATIO, "test", SCHEMA, "x"),), **changes)
    return decide(made, observations, None, SCHEMA, released=False)


def test_a_flag_of_the_same_cell_marks_a_number_as_the_least() -> None:
    found = seen("none", [240, 100, 240], never=[0])
    steps = [each for each in found if each.metric == "steps_to_080"]
    assert [each.least for each in steps] == [True, False, False]
    assert not any(each.least for each in found if each.metric != "steps_to_080")


@pytest.mark.parametrize(
    ("slow", "fast", "beyond"),
    [
        ((), (), set()),
        ((0,), (), {"above"}),
        ((), (1,), {"below"}),
        ((0,), (1,), {"above", "below"}),
    ],
)
def test_a_ratio_is_a_bound_on_the_side_of_what_never_came(
    slow: Sequence[int], fast: Sequence[int], beyond: set[str]
) -> None:
    found = seen("none", [240, 200, 220], slow) + seen("knn", [40, 50, 60], fast)
    told = estimate(read(RATIO, "test", SCHEMA, "x"), found, SCHEMA.repeats)
    assert told.beyond == beyond
    assert told.value == pytest.approx((6 * 4 * 220 / 60) ** (1 / 3))  # the geometric mean


def test_a_lower_bound_above_the_margin_decides_and_says_so() -> None:
    found = seen("none", [240, 230, 240], never=[0, 2]) + seen("knn", [40, 42, 44])
    told = decided(found)
    assert told.verdict == "reproduced"
    assert told.reason.endswith("a lower bound, as some runs ended before what was counted came")


def test_a_lower_bound_below_the_margin_decides_nothing() -> None:
    slow = [50, 51, 52]
    firm = decided(seen("none", slow) + seen("knn", [40, 42, 44]))
    assert (firm.verdict, firm.p is not None) == ("not reproduced", True)
    told = decided(seen("none", slow, never=[1]) + seen("knn", [40, 42, 44]))
    assert (told.verdict, told.p) == ("inconclusive, no", None)


def test_an_upper_bound_above_the_margin_decides_nothing() -> None:
    found = seen("none", [240, 230, 240]) + seen("knn", [40, 42, 44], never=[2])
    assert decided(found).verdict.startswith("inconclusive")
    below = seen("none", [50, 51, 52]) + seen("knn", [40, 42, 44], never=[2])
    assert decided(below).verdict == "not reproduced"


def test_a_value_is_refuted_by_a_bound_on_the_far_side_alone() -> None:
    near = seen("none", [82, 85, 90]) + seen("knn", [40, 42, 44])
    value = {"kind": "value", "expected": (2.05,), "margin": 0.5}
    assert decided(near, **value).verdict == "reproduced"
    bound = seen("none", [82, 85, 90], never=[0]) + seen("knn", [40, 42, 44])
    assert decided(bound, **value).verdict.startswith("inconclusive")
    far = seen("none", [240, 241, 250], never=[0]) + seen("knn", [40, 42, 44])
    assert decided(far, **value).verdict == "not reproduced"


def test_a_mean_over_one_value_of_an_axis_is_that_value() -> None:
    found = seen("knn", [40, 50, 60])
    told = estimate(read(MEAN, "test", SCHEMA, "x"), found, SCHEMA.repeats)
    assert told.values == (40, 50, 60)
    several = [
        replace(each, cell=each.cell | {"k": k}, value=each.value + k)
        for k in (0, 10)
        for each in found
    ]
    told = estimate(read(MEAN, "test", SCHEMA, "x"), several, SCHEMA.repeats)
    assert told.values == (45, 55, 65)
