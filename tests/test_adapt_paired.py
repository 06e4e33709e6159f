"""Differences of the adaptation study paired by test image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapt_rows import SETS, everything
from carryover.errors import DataError
from carryover.measure.crossed import crossed
from carryover.report import adapt_intervals
from carryover.report.adapt_paired import Place, Right, read
from carryover.report.adapt_scores import AdaptScores, from_rows


def right_of(nested: bool) -> dict[Place, np.ndarray]:
    """Images in one order for every test, or in one of its own where they are not `nested`."""
    found = {}
    for i, row in enumerate(everything()):
        heads = {"accuracy": "trained", "zeroshot_accuracy": "text"}
        if row.split != "test" or row.metric not in heads:
            continue
        cell = row.cell
        place = Place(cell["method"], 1.0, 0, cell["dataset"], "text")
        if cell["method"] != "zero-shot":
            at = (cell["method"], cell["partition"], cell["seed"], cell["dataset"])
            place = Place(*at, heads[row.metric])
        right = np.arange(row.n) < round(row.value * row.n)
        found[place] = right if nested else np.random.default_rng(i).permutation(right)
    return found


def scores(right: Right | None = None) -> AdaptScores:
    return from_rows(everything(), right)


def test_gains_are_paired_by_image_and_seed() -> None:
    right = right_of(nested=True)
    found, p = adapt_intervals.gain(scores(right), "unfreeze-norm", [0.1, 0.5], "probe")
    places = [
        [(Place(name, at, seed, "digits", "trained"), sign) for at in (0.1, 0.5)]
        for seed in range(3)
        for name, sign in (("unfreeze-norm", 0.5), ("probe", -0.5))
    ]
    table = np.zeros((3, SETS["digits"]))
    for i, terms in enumerate(places):
        table[i // 2] += sum(weight * right[place] for place, weight in terms)
    step = (2 * (1 / 400) ** 2 / 2) ** 0.5 / 2**0.5
    assert (found, p) == crossed([table], [1.0], step)
    assert found.value == pytest.approx(0.05)
    apart, _ = adapt_intervals.gain(scores(right_of(False)), "unfreeze-norm", [0.1, 0.5], "probe")
    assert apart.value == pytest.approx(found.value)
    assert apart.high - apart.low > 1.5 * (found.high - found.low)  # by image they go together


def test_what_was_kept_changes_by_set_and_image() -> None:
    right = right_of(nested=True)
    after, change = adapt_intervals.kept(scores(right), "llrd", 1.0, ["shapes", "letters"])
    tables = [
        np.stack(
            [
                right[Place("llrd", 1.0, seed, name, "text")].astype(float) / 2
                - right[Place("zero-shot", 1.0, 0, name, "text")] / 2
                for seed in range(3)
            ]
        )
        for name in ("shapes", "letters")
    ]
    wanted, _ = crossed(tables, [0.5, 0.5], 0.0)
    assert (change.value, change.low) == (
        pytest.approx(wanted.value),
        pytest.approx(wanted.low, abs=1e-3),
    )
    assert after == adapt_intervals.kept(scores(), "llrd", 1.0, ["shapes", "letters"])[0]


def test_zero_shot_is_paired_by_image_too() -> None:
    right = right_of(nested=True)
    found, _ = adapt_intervals.gain(scores(right), "zero-shot", [0.1], "probe")
    assert found.value == pytest.approx(-0.25)
    changed, _ = adapt_intervals.change(scores(right), "probe", 0.1, 0.5)
    assert changed.value == pytest.approx(0.1)


def test_where_a_prediction_is_missing_differences_are_over_seeds() -> None:
    right = right_of(nested=True)
    del right[Place("llrd", 0.5, 1, "digits", "trained")]
    assert not scores(right).right
    found = adapt_intervals.gain(scores(right), "unfreeze-norm", [0.1], "probe")
    assert found == adapt_intervals.gain(scores(), "unfreeze-norm", [0.1], "probe")


def test_predictions_in_another_order_than_their_set_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    rows = [0, 1, 2, 0, 1, 2]
    same = {"method": "probe", "partition": 0.1, "dataset": "digits", "head": "trained"}
    columns = {name: [value] * 6 for name, value in same.items()}
    columns |= {"seed": [0, 0, 0, 1, 1, 1], "row": rows, "label": [0] * 6}
    columns["prediction"] = [0, 1, 0, 0, 0, 0]
    pq.write_table(pa.table(columns), path)
    found = read([path, tmp_path / "none.parquet"])
    assert [right.tolist() for right in found.values()] == [[True, False, True], [True] * 3]
    assert [place.seed for place in found] == [0, 1]
    pq.write_table(pa.table(columns | {"row": [0, 2, 1, 0, 1, 2]}), path)
    with pytest.raises(DataError, match="in the order"):
        read([path])


def test_predictions_of_other_trainings_are_refused() -> None:
    right = right_of(nested=True)
    place = Place("probe", 0.1, 0, "digits", "trained")
    with pytest.raises(DataError, match=r"accuracy of 0\.6200 .*dvc repro adapt"):
        scores(right | {place: ~right[place]})
    with pytest.raises(DataError, match="on 400 images"):
        scores(right | {place: right[place][:-1]})
    assert replace(scores(right)).right
