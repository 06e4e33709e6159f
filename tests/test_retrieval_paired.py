"""Differences of the retrieval study paired by seed and test image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from carryover import retrieval_predictions
from carryover.errors import DataError
from carryover.measure.crossed import crossed
from carryover.measure.curves import area
from carryover.report import retrieval_tables
from carryover.report.retrieval_gains import gains
from carryover.report.retrieval_intervals import difference, differences_over, noise_cost
from carryover.report.retrieval_scores import CLEAN, Arm, At, Scores, from_rows, numbers
from carryover.retrieval_predictions import METRICS, Right
from carryover.rows import Row
from retrieval_rows import STEPS, N, run

PLAIN = Arm("resnet18", "digits", "none")
NEAREST = Arm("resnet18", "digits", "knn", 10)


def some_rows(seeds: int = 3) -> list[Row]:
    arms = (("none", None, "none"), ("knn", 10, "none"))
    return [row for arm in arms for row in run("resnet18", *arm, seeds)]


def predicted(rows: list[Row]) -> Right:
    """For each share of images so many of them, other ones in every test."""
    made = {}
    for i, row in enumerate(each for each in rows if each.metric in METRICS):
        right = np.arange(N) < round(row.value * N)
        place = (row.item, frozenset(row.cell.items()))
        made[place] = np.random.default_rng(i).permutation(right)
    return made


@pytest.fixture(scope="module")
def scores() -> Scores:
    rows = some_rows()
    return from_rows(rows, predicted(rows))


def table(scores: Scores, one: Arm, other: Arm, at: At = CLEAN, from_: At = CLEAN) -> np.ndarray:
    first, second = (
        [scores.right[a] for a in ((x, y, s) for s in range(3))]
        for x, y in ((one, at), (other, from_))
    )
    return np.stack(first).astype(float) - np.stack(second)


def test_differences_are_over_seeds_and_images_where_predictions_are_at_hand(
    scores: Scores,
) -> None:
    told = difference(scores, NEAREST, PLAIN)
    interval, p = crossed([table(scores, NEAREST, PLAIN)], [1.0], 1 / N)
    assert told == (interval, p, 3, True)
    by_seed = difference(from_rows(some_rows()), NEAREST, PLAIN)
    assert by_seed is not None
    assert not by_seed.by_image
    assert told.interval.value == pytest.approx(by_seed.interval.value, abs=1e-6)
    assert told.interval.high > by_seed.interval.high
    cost = noise_cost(scores, PLAIN, 0.5)
    interval, p = crossed([table(scores, PLAIN, PLAIN, CLEAN, At(0.5))], [1.0], 1 / N)
    assert cost == (interval, p, 3, True)


def test_an_area_is_paired_by_the_images_of_its_curve(scores: Scores) -> None:
    told = difference(scores, NEAREST, PLAIN, "area")
    assert told is not None
    assert told.by_image
    areas = [
        [
            area(
                STEPS,
                [found[seed].value for found in numbers(scores, arm, "curve_accuracy").values()],
            )
            for seed in range(3)
        ]
        for arm in (NEAREST, PLAIN)
    ]
    assert told.interval.value == pytest.approx(np.mean(areas[0]) - np.mean(areas[1]), abs=1e-6)
    reach = told.interval.high - told.interval.value
    seeds = 4.3027 * float(np.std(np.subtract(*areas), ddof=1)) / 3**0.5
    assert reach >= seeds


def test_where_a_prediction_is_missing_intervals_are_over_seeds(scores: Scores) -> None:
    rows = some_rows()
    right = {
        place: each
        for place, each in predicted(rows).items()
        if not {("access", "knn"), ("seed", 2), ("noise", 0.0)} <= place[1]
    }
    fewer = from_rows(rows, right)
    for measure in ("accuracy", "area"):
        assert difference(fewer, NEAREST, PLAIN, measure) == difference(
            from_rows(rows), NEAREST, PLAIN, measure
        )
    kept = noise_cost(fewer, PLAIN, 0.5)
    assert kept is not None
    assert kept.by_image


def test_one_seed_is_paired_by_image() -> None:
    rows = some_rows(1)
    told = difference(from_rows(rows, predicted(rows)), NEAREST, PLAIN)
    apart = difference(from_rows(rows), NEAREST, PLAIN)
    assert told is not None
    assert apart is not None
    assert (told.by_image, apart.by_image) == (True, False)
    assert differences_over([told]) == "over test images, paired by image"
    assert "which is too wide" in differences_over([apart])


def test_tables_say_what_their_intervals_are_over(scores: Scores) -> None:
    both = "over seeds and test images, paired by both"
    alone = from_rows(some_rows())
    for each, said in ((scores, both), (alone, "over seeds, paired, on the same test images")):
        found = gains(each)
        assert said in retrieval_tables.differences(each, found, "plain").title
        assert retrieval_tables.noises(each).title.endswith(f"in points, {said}.")
        by = "seed and image" if each is scores else "seed"
        assert f",3,{by}," in retrieval_tables.gains_csv(found)
    assert differences_over([difference(scores, NEAREST, PLAIN), None]) == both


def test_predictions_of_another_run_are_refused() -> None:
    rows = some_rows()
    right = predicted(rows)
    other = [replace(row, value=0.5) if row.metric == "accuracy" else row for row in rows]
    with pytest.raises(DataError, match=r"expected predictions with an accuracy of 0\.5000 on 898"):
        from_rows(other, right)


def test_predictions_are_read_as_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels, named = np.array([0, 1, 2]), np.array([0, 2, 2])
    cell = {"dataset": "digits", "access": "knn", "k": 4, "control": "none", "seed": 1}
    tests = [(cell | {"noise": 0.1}, named), (cell | {"noise": 0.1, "step": 5}, labels)]
    paths = [Path("a.parquet"), Path("b.parquet")]
    for path, test in zip(paths, tests, strict=True):
        retrieval_predictions.write(path, labels, [test])
    retrieval_predictions.keep(paths, "resnet18")
    found = retrieval_predictions.read(["resnet18", "perceiver"])  # the second has no file
    assert {place: each.tolist() for place, each in found.items()} == {
        ("resnet18", frozenset(tests[0][0].items())): [True, False, True],
        ("resnet18", frozenset(tests[1][0].items())): [True, True, True],
    }
