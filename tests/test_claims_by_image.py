"""Claims about arms that were tested on the same images, of which every prediction is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from carryover import retrieval_predictions
from carryover.claims.estimate import Estimate, estimate
from carryover.claims.evidence import gather_all
from carryover.claims.observations import Observation
from carryover.claims.quantity import read
from carryover.claims.schema import Schema
from carryover.errors import DataError
from carryover.measure.combined import student
from carryover.measure.crossed import crossed
from carryover.retrieval_predictions import FILE, FOLDER, METRICS
from carryover.rows import write_rows
from retrieval_rows import run

N, SEEDS = 60, 3
SCHEMA = Schema(
    "retrieval", ("resnet18",), {"k": "integer", "seed": "repeat"}, ("accuracy",), ("a_finding",)
)
RIGHT = np.random.default_rng(0).random((3, SEEDS, N)) < np.array([0.5, 0.7, 0.8])[:, None, None]
KS = (1, 5, 10)


def seen() -> list[Observation]:
    return [
        Observation("resnet18", {"k": k, "seed": s}, "test", "accuracy", each.mean(), N, right=each)
        for k, seeds in zip(KS, RIGHT, strict=True)
        for s, each in enumerate(seeds)
    ]


def worth(text: str, observations: list[Observation]) -> Estimate:
    return estimate(read(text, "test", SCHEMA, "x"), observations, SCHEMA.repeats)


@pytest.mark.parametrize(
    ("text", "weights", "beside", "most"),
    [
        ("accuracy(k=5) - accuracy(k=1)", (-1.0, 1.0, 0.0), 0.0, 1.0),
        ("accuracy(k=10) * 2 - accuracy(k=1) - 0.1", (-1.0, 0.0, 2.0), -0.1, 2.0),
        ("mean(accuracy(), over='k')", (1 / 3, 1 / 3, 1 / 3), 0.0, 1.0),
    ],
)
def test_weighted_sums_are_for_other_seeds_and_other_images(
    text: str, weights: tuple[float, ...], beside: float, most: float
) -> None:
    table = np.tensordot(weights, RIGHT.astype(float), 1)
    found = worth(text, seen())
    assert found.interval is not None
    assert found.inner is not None
    assert found.p is not None
    assert found.value == pytest.approx(table.mean() + beside)
    for told, level in ((found.interval, 0.95), (found.inner, 0.9)):
        wanted, _ = crossed([table], [most], 1 / N, level)
        assert (told.low, told.high) == pytest.approx((wanted.low + beside, wanted.high + beside))
    assert found.p(0.2) == pytest.approx(crossed([table + beside - 0.2], [most], 1 / N)[1])
    assert found.test == "repeats and test images both samples (crossed), paired by both"


def test_where_a_prediction_is_missing_or_nothing_is_added_up_it_is_over_repeats() -> None:
    text = "accuracy(k=5) - accuracy(k=1)"
    lacking = [replace(seen()[0], right=None), *seen()[1:]]
    found = worth(text, lacking)
    values = (RIGHT[1] - RIGHT[0].astype(float)).mean(1).tolist()
    assert found.interval is not None
    wanted = vars(student(values, step=1 / N)[0])
    assert vars(found.interval) == pytest.approx(wanted)
    assert "Student" in found.test
    assert "Student" in worth("best(accuracy(), over='k')", seen()).test
    other = worth("accuracy(k=10) - accuracy(k=5)", lacking)  # of two that are whole
    assert "crossed" in other.test


def test_a_reports_rows_have_their_predictions_and_kept_ones_none(tmp_path: Path) -> None:
    rows = run("resnet18", "none", None, "none")
    shares = [row for row in rows if row.metric in METRICS]
    tests = [
        (row.cell, (np.arange(row.n) >= round(row.value * row.n)).astype(int)) for row in shares
    ]
    labels = np.zeros(shares[0].n, dtype=int)
    retrieval_predictions.write(tmp_path / FOLDER / "resnet18" / FILE, labels, tests)
    for folder, known in (("results/tiny/retrieval", 0), ("reports/retrieval", len(shares))):
        path = tmp_path / folder / "runs/resnet18/rows.jsonl"
        write_rows(path, rows)
        observations = gather_all(tmp_path, ["retrieval"])["retrieval", "tiny"].observations
        right = [each for each in observations if each.right is not None]
        assert len(right) == known
        assert all(each.right.mean() == pytest.approx(each.value, abs=1e-6) for each in right)
        path.unlink()
    write_rows(path, [replace(row, value=0.25) for row in shares])
    with pytest.raises(DataError, match=r"expected predictions with an accuracy of 0\.2500"):
        _ = gather_all(tmp_path, ["retrieval"])["retrieval", "tiny"].observations
