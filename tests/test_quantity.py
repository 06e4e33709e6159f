"""Quantities: what the schema refuses, and what an expression is worth."""

from __future__ import annotations

import math
from typing import Any

import pytest

from carryover.claims.estimate import Estimate, estimate
from carryover.claims.observations import Observation
from carryover.claims.quantity import read
from carryover.claims.runs import NotRun
from carryover.claims.schema import Schema
from carryover.errors import ConfigError
from carryover.measure.statistics import mean_interval, proportions_difference, wilson

SCHEMA = Schema(
    "sequence",
    ("plain", "distill"),
    {"method": "text", "order": "text", "after": "integer", "task": "integer", "seed": "repeat"},
    ("accuracy", "loss"),
    ("a_finding",),
)


def seen(value: float, n: int = 100, item: str = "plain", **cell: Any) -> Observation:
    plus_minus = cell.pop("plus_minus", 0.0)
    metric, split = cell.pop("metric", "accuracy"), cell.pop("split", "test")
    return Observation(item, cell, split, metric, value, n, plus_minus)


def worth(text: str, *observations: Observation) -> Estimate:
    return estimate(read(text, "test", SCHEMA, "x"), list(observations), SCHEMA.repeats)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accuracy(method='a'", "an expression"),
        ("precision(method='a')", "metric of sequence"),
        ("accuracy(depth=1)", "axis of sequence"),
        ("accuracy(seed=1)", "repeats are never fixed"),
        ("accuracy(after='one')", "after as integer"),
        ("accuracy(item='ogd')", "plain, distill"),
        ("accuracy(split='dev')", "train, validation, test"),
        ("accuracy('a')", "bare value"),
        ("mean(accuracy(method='a'))", 'over="axis"'),
        ("mean(accuracy(method='a'), over='depth')", "axis of sequence"),
        ("transfer(accuracy())", "axis=value"),
        ("transfer(after=1)", "without after; take another"),
        ("a_finding('a')", r"a_finding\(axis=value\), got a bare value"),
        ("accuracy() ** 2", r"\+ - \* /"),
        ("accuracy", r"\+ - \* /"),
        ("__import__('os')", "metric of sequence"),
        ("accuracy(method=open('x'))", "plain values"),
        ("accuracy(method={[]: 1})", "plain values"),
        ("accuracy(method='a', method='b')", "each axis once"),
        ("accuracy(**{'method': 'a'})", "each axis once"),
        ("accuracy() / 0", "divisor other than 0"),
        ("+".join(["accuracy()"] * 500), "at most 1000 characters"),
    ],
)
def test_what_rows_can_never_have_is_refused_when_it_is_written(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(text, "test", SCHEMA, "claims/sequence.yaml x")


def test_a_finding_is_named_with_its_arguments() -> None:
    assert read("a_finding(method='a')", "test", SCHEMA, "x").finding == (
        "a_finding",
        {"method": "a"},
    )


def test_repeats_are_paired_and_have_students_interval() -> None:
    rows = [seen(a, n=10_000, method="a", seed=i) for i, a in enumerate((0.5, 0.6, 0.7))]
    rows += [seen(b, n=10_000, method="b", seed=i) for i, b in enumerate((0.4, 0.45, 0.65, 0.9))]
    found = worth("accuracy(method='a') - accuracy(method='b')", *rows)
    expected = mean_interval([0.1, 0.15, 0.05])
    assert found.values == pytest.approx((0.1, 0.15, 0.05))
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))
    assert found.n == "3 repeats x 10000 images"


def test_a_single_run_has_the_interval_of_its_images() -> None:
    one = worth("accuracy(method='a')", seen(0.7, method="a"))
    both = worth(
        "accuracy(method='a') - accuracy(method='b')", seen(0.7, method="a"), seen(0.6, method="b")
    )
    assert one.interval.low == pytest.approx(wilson(70, 100).low)
    expected = proportions_difference(70, 100, 60, 100)
    assert (both.interval.low, both.interval.high) == pytest.approx((expected.low, expected.high))


def test_rounding_widens_the_interval_as_it_is() -> None:
    exact = worth("accuracy(method='a')", seen(0.7, method="a")).interval
    read_by_eye = worth("accuracy(method='a')", seen(0.7, method="a", plus_minus=0.02)).interval
    assert read_by_eye.low == pytest.approx(exact.low - 0.02)
    assert read_by_eye.high == pytest.approx(exact.high + 0.02)


def test_a_single_run_over_unknown_images_has_no_interval() -> None:
    alone = worth("loss(method='a')", seen(1.5, n=0, method="a", metric="loss", plus_minus=0.1))
    assert (alone.value, alone.interval, alone.p) == (1.5, None, None)
    assert alone.test.endswith("no interval; rounding or reading moves it by up to 0.1")
    mixed = [seen(0.7, method="a"), seen(0.6, n=0, method="b")]
    assert worth("accuracy(method='a') - accuracy(method='b')", *mixed).interval is None


def test_equal_values_of_few_repeats_have_no_interval() -> None:
    rows = [
        seen(v, n=0, method="a", task=t, seed=s) for s in (0, 1) for t, v in ((1, 0.2), (2, 0.3))
    ]
    found = worth("peak(accuracy(method='a'), over='task')", *rows)
    assert (found.value, found.interval) == (2.0, None)


def test_equal_differences_to_the_best_are_sure_to_a_step_of_the_accuracies() -> None:
    rows = [
        seen(v, n=50, method="a", task=t, seed=s)
        for s in (0, 1, 2)
        for t, v in ((1, 0.2), (2, 0.3))
    ]
    of = "accuracy(method='a', task=2) - {}(accuracy(method='a'), over='task')"
    found = worth(of.format("best"), *rows)
    assert found.interval is not None
    assert -0.1 < found.interval.low < found.value == 0.0 < found.interval.high < 0.1
    assert found.interval == worth(f"-({of.format('best')})", *rows).interval
    assert worth(f"{of.format('peak')} + 1.7", *rows).interval is None


def test_a_cell_without_its_partner_is_missed() -> None:
    rows = [seen(0.6, method="a", task=t) for t in (1, 2)] + [seen(0.5, method="b", task=1)]
    rows += [seen(0.5, method="b", task=3)]
    with pytest.raises(NotRun, match="other side at task 2; task 3"):
        worth("mean(accuracy(method='a') - accuracy(method='b'), over='task')", *rows)


def test_a_repeat_that_lacks_a_cell_is_left_out() -> None:
    rows = [seen(0.1 * s + 0.2 * t, method="a", task=t, seed=s) for s in (0, 1, 2) for t in (1, 2)]
    found = worth("mean(accuracy(method='a'), over='task')", *rows[:-1])
    assert found.values == pytest.approx((0.3, 0.4))


def test_a_trend_of_few_places_is_never_sure() -> None:
    rows = [seen(v, n=10_000, method="a", task=t) for t, v in enumerate((0.9, 0.7, 0.5, 0.3))]
    found = worth("correlation(accuracy(method='a'), over='task')", *rows)
    assert found.value == -1
    assert found.p is not None
    assert found.p(0.0) == pytest.approx(2 / 24)
    assert "4 places in order: no p below 0.083" in found.test


def test_the_interval_of_a_correlation_ends_at_1() -> None:
    rising = [
        [seen(value, after=after, seed=seed) for after, value in enumerate(values, start=1)]
        for seed, values in enumerate(((0.1, 0.2, 0.3, 0.4), (0.2, 0.1, 0.3, 0.4)))
    ]
    found = worth("correlation(accuracy(), over='after')", *rising[0], *rising[1])
    assert found.values == (1.0, pytest.approx(0.8))
    assert found.interval is not None
    assert found.inner is not None
    assert (found.interval.low, found.interval.high) == (pytest.approx(-0.3706, abs=1e-4), 1.0)
    assert found.inner.high == 1.0
    spread = worth("correlation(accuracy(), over='after') * 1", *rising[0], *rising[1])
    assert spread.interval is not None
    assert spread.interval.high > 1


def test_tests_before_any_training_are_no_place_of_a_trend() -> None:
    rows = [seen(v, n=10_000, after=after) for after, v in enumerate((0.1, 0.9, 0.7, 0.5, 0.3))]
    assert worth("correlation(accuracy(), over='after')", *rows).value == -1
    assert worth("accuracy(after=0)", *rows).value == 0.1
    assert worth("accuracy(method='a')", seen(0.2, method="a", after=0)).value == 0.2


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("accuracy(method='a')", (0.0, 1.0)),
        ("accuracy(method='a') - accuracy(method='b')", (-1.0, 1.0)),
        ("best(accuracy(), over='method') + 1", (1.0, 2.0)),
        ("-transfer(method='a')", (-1.0, 0.0)),
        ("loss(method='a') - 1", (-math.inf, math.inf)),
        ("accuracy(method='a') / accuracy(method='b')", (-math.inf, math.inf)),
    ],
)
def test_the_ends_of_a_quantity_are_those_of_its_terms(
    text: str, ends: tuple[float, float]
) -> None:
    assert read(text, "test", SCHEMA, "claim").ends == ends


def test_the_interval_of_an_accuracy_ends_at_1() -> None:
    found = worth(
        "accuracy(method='a')", *(seen(v, method="a", seed=s) for s, v in enumerate((1.0, 0.9)))
    )
    assert found.interval is not None
    assert found.interval.high == 1
    assert found.interval.low < 0.9


def test_a_method_that_was_killed_before_its_first_task_is_not_run() -> None:
    rows = [seen(0.5, method="zscl", after=0, task=t) for t in (1, 2)]
    with pytest.raises(NotRun, match="4 cells"):
        worth("last(method='zscl')", *rows)


def test_functions_over_an_axis() -> None:
    rows = [seen(v, method="a", task=t) for t, v in enumerate((0.5, 0.9, 0.7), 1)]
    values = {
        "mean": 0.7,
        "best": 0.9,
        "worst": 0.5,
        "peak": 2.0,
        "correlation": 0.5,
    }
    for name, value in values.items():
        found = worth(f"{name}(accuracy(method='a'), over='task')", *rows)
        assert found.interval.value == pytest.approx(value), name
        assert found.interval.low <= value <= found.interval.high, name


def test_an_axis_left_open_is_refused() -> None:
    rows = [seen(0.5, method="a", task=1), seen(0.6, method="a", task=2)]
    with pytest.raises(ConfigError, match="over task"):
        worth("accuracy(method='a')", *rows)


def test_two_rows_for_one_cell_are_refused() -> None:
    with pytest.raises(ConfigError, match="got two"):
        worth("accuracy(method='a')", seen(0.5, method="a"), seen(0.6, method="a"))


def test_rows_that_are_missing_are_named() -> None:
    with pytest.raises(NotRun, match="method b"):
        worth("accuracy(method='b')", seen(0.5, method="a"))
    with pytest.raises(NotRun, match="1 cells of an accuracy matrix"):
        worth(
            "last(method='a')",
            *(seen(0.5, method="a", after=1, task=t) for t in (1, 2)),
            seen(0.5, method="a", after=2, task=1),
        )


def test_an_accuracy_matrix_gives_transfer_and_last() -> None:
    rows = [
        seen(v, method="a", after=i, task=j)
        for (i, j), v in {(1, 1): 0.9, (1, 2): 0.4, (2, 1): 0.5, (2, 2): 0.8}.items()
    ]
    assert worth("transfer(method='a')", *rows).interval.value == pytest.approx(0.4)
    assert worth("last(method='a')", *rows).interval.value == pytest.approx(0.65)
    zero = [seen(v, method="zero-shot", after=0, task=j) for j, v in ((1, 0.3), (2, 0.6))]
    assert worth("transfer(method='zero-shot')", *zero).interval.value == pytest.approx(0.6)


def test_runs_on_the_same_images_move_as_one() -> None:
    """Eleven tests of one model on the same images tell no more than one."""
    rows = [seen(0.5, n=100, method="a", after=i, task=1) for i in range(1, 12)]
    found = worth("mean(accuracy(method='a', task=1), over='after')", *rows).interval
    assert found.low == pytest.approx(wilson(50, 100).low)


def test_a_mean_over_sets_weighs_their_images() -> None:
    rows = [seen(0.5, n=100, method="a", task=1), seen(0.5, n=400, method="a", task=2)]
    found = worth("mean(accuracy(method='a'), over='task')", *rows).interval
    half = 1.96 * (0.25 / 100 / 4 + 0.25 / 400 / 4) ** 0.5
    assert found.high - found.value == pytest.approx(half, rel=0.05)


def test_a_ratio_over_repeats_has_the_interval_of_its_logarithm() -> None:
    slow, fast = (1000.0, 300.0, 600.0), (100.0, 200.0, 100.0)
    observations = [
        seen(value, 0, metric="loss", method=method, seed=seed)
        for method, values in (("slow", slow), ("fast", fast))
        for seed, value in enumerate(values)
    ]
    text = "loss(method='slow') / loss(method='fast')"
    found = worth(text, *observations)
    logs = [math.log(a / b) for a, b in zip(slow, fast, strict=True)]
    middle, low, high = (math.exp(end) for end in vars(mean_interval(logs)).values())
    assert found.value == pytest.approx(middle) == pytest.approx((10 * 1.5 * 6) ** (1 / 3))
    assert found.interval is not None
    assert found.p is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert found.interval.low > 0  # Student's of 10, 1.5 and 6 themselves reaches -4.7
    assert found.p(low) == pytest.approx(0.05)
    assert found.p(0.0) == 0.0
    assert "logarithm" in found.test
    turned = worth("loss(method='fast') / loss(method='slow')", *observations)
    assert turned.interval is not None
    assert turned.interval.high == pytest.approx(1 / found.interval.low)
    halved = worth("loss(method='slow') / 2", *observations)  # no ratio of two parts
    assert halved.interval is not None
    assert halved.interval.low < 0 < halved.value
    assert halved.value == pytest.approx(1900 / 6)
