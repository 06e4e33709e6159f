"""Differences of the continual study paired by seed and test image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from carryover.continual_measures import write_predictions
from carryover.errors import DataError
from carryover.measure.crossed import crossed
from carryover.report import continual_gains, continual_intervals, continual_tables
from carryover.report.continual_intervals import Difference
from carryover.report.continual_paired import (
    FILE,
    Answers,
    Place,
    Tests,
    difference,
    photographs,
    read,
)
from carryover.report.continual_scores import Run, from_rows
from carryover.rows import Row
from continual_rows import answers_of, row, run

NAIVE = Run(*("s-digits", "ci-5", "frozen", "flava-nano", "tokens", "mlp"), "", "naive")
REPLAY = NAIVE._replace(strategy="replay")


def arms(protocol: str = "ci-5", seeds: int = 3) -> list[Row]:
    """Rows of naive training and of replay."""
    return [
        each
        for strategy in ("naive", "replay")
        for each in run("frozen", "s-digits", protocol, strategy, seeds=seeds)
    ]


def told(rows: list[Row], tests: Tests | None = None, **options: list[str]) -> Difference:
    protocol = str(rows[0].cell["protocol"])
    found = continual_intervals.difference(
        from_rows(rows, tests=tests, **options),
        *(each._replace(protocol=protocol) for each in (REPLAY, NAIVE)),
    )
    assert found
    return found


def ends(tests: Tests, strategy: str, last: int = 4) -> list[Answers]:
    """Of each seed, after the last experience."""
    return [
        answers
        for place, answers in tests.items()
        if (place.strategy, place.experience) == (strategy, last)
    ]


def test_a_difference_is_for_other_seeds_and_other_images() -> None:
    rows = arms()
    tests = answers_of(rows)
    found = told(rows, tests)
    pairs = zip(ends(tests, "replay"), ends(tests, "naive"), strict=True)
    table = np.stack([1.0 * a.right - b.right for a, b in pairs])
    assert table.shape == (3, 360)
    assert found == Difference(*crossed([table], [1.0], step=1 / 360), "seeds, images")
    assert found.interval.value == pytest.approx(0.16, abs=1e-3)
    seeds = told(rows)
    assert seeds.over == "seeds"
    assert seeds.interval.low > found.interval.low  # of these images alone
    assert seeds.interval.high < found.interval.high
    apart = told(rows, answers_of(rows, nested=False))
    assert apart.interval.value == pytest.approx(found.interval.value)
    reaches = [each.interval.high - each.interval.low for each in (found, apart)]
    assert reaches[1] > 1.1 * reaches[0]  # not the same images are hard


def test_the_order_that_a_stream_shows_its_test_images_in_does_not_matter() -> None:
    rows = arms()
    assert told(rows, answers_of(rows)) == told(rows, answers_of(rows, mixed=True))


def test_a_photograph_that_several_tasks_show_counts_once() -> None:
    rows = arms("rotated-3")
    tests = answers_of(rows, tasks=3)
    found = told(rows, tests, repeated=["rotated-3"])
    pairs = zip(ends(tests, "replay", 2), ends(tests, "naive", 2), strict=True)
    table = np.stack([(1.0 * a.right - b.right).reshape(120, 3).mean(1) for a, b in pairs])
    assert found == Difference(*crossed([table], [1.0], step=1 / 120), "seeds, images")
    seen = photographs(
        Answers(*map(np.array, ([0, 0, 1, 1], [7, 5, 7, 5], [2, 3, 2, 3], [1, 0, 0, 0]))), True
    )
    assert not seen.by_task
    assert [part.tolist() for part in seen[1:]] == [[5, 7], [3, 2], [0.0, 0.5]]


def test_equal_ids_of_two_sets_are_two_photographs() -> None:
    answers = Answers(*map(np.array, ([0, 0, 1, 1], [0, 1, 0, 1], [2, 3, 4, 5], [1, 0, 0, 1])))
    seen = photographs(answers, repeats=False)
    assert [part.tolist() for part in seen[1:]] == [
        [0, 1, 2, 3],
        [2, 3, 4, 5],
        [1.0, 0.0, 0.0, 1.0],
    ]
    # another seed may have the two in the other order, and then 0 is another photograph
    assert seen.by_task
    assert difference([seen, seen], [seen, seen]) is None
    assert difference([seen], [seen])


def test_without_all_predictions_a_difference_is_over_seeds() -> None:
    rows = arms()
    whole = answers_of(rows)
    plain = told(rows)
    place = next(place for place in whole if (place.seed, place.experience) == (2, 4))
    diverged = {each: answers for each, answers in whole.items() if each != place}
    assert told(rows, diverged) == plain
    others = whole[place]._replace(labels=whole[place].labels + 1)  # another set's, by id
    assert told(rows, whole | {place: others}) == plain
    one = arms(seeds=1)
    assert told(one, answers_of(one)).over == "images"
    assert told(one).over == "images, unpaired"


def test_predictions_of_other_rows_are_refused() -> None:
    rows = arms()
    tests: Mapping[Place, Answers] = {
        place: answers._replace(right=~answers.right) for place, answers in answers_of(rows).items()
    }
    with pytest.raises(DataError, match=r"expected predictions with an accuracy of .* run `dvc re"):
        told(rows, tests)


def test_tables_say_what_each_difference_is_over() -> None:
    rows = arms()
    scores = from_rows(rows, tests=answers_of(rows))
    gains = continual_gains.gains(scores)
    table = continual_tables.differences(scores, gains, "strategy")
    assert table.lines[0][-1] == "seeds, images"
    assert "which is over seeds and test images, paired by both. p:" in table.title
    both = [*gains, gains[0]._replace(over="seeds")]
    assert (
        "by both; or over seeds on" in continual_tables.differences(scores, both, "strategy").title
    )


def test_predictions_are_read_by_test(tmp_path: Path) -> None:
    axes = {"stream": "s-digits", "protocol": "ci-5", "features": "tokens", "head": "mlp"}
    axes |= {"encoder": "flava-nano"}
    columns: dict[str, list[object]] = {}
    for strategy, freeze, seed, experience in (
        *(("naive", "", 0, 0), ("naive", "", 0, 1), ("naive", "", 1, 1)),
        ("replay", "children-1", 1, 1),
    ):
        for image in range(3):
            line = axes | {"strategy": strategy, "freeze": freeze, "seed": seed}
            line |= {"experience": experience, "task": image // 2, "id": 10 + image}
            line |= {"label": image, "prediction": image * (experience == 1)}
            for name, value in line.items():
                columns.setdefault(name, []).append(value)
    write_predictions(tmp_path / "partly" / FILE, columns)
    found = read(tmp_path, ["frozen", "partly"])
    assert [(p.item, p.strategy, p.freeze, p.seed, p.experience) for p in found] == [
        *(("partly", "naive", "", seed, time) for seed, time in ((0, 0), (0, 1), (1, 1))),
        ("partly", "replay", "children-1", 1, 1),
    ]
    first, *others = found.values()
    assert [part.tolist() for part in first] == [
        *([0, 0, 1], [10, 11, 12], [0, 1, 2]),
        [True, False, False],
    ]
    assert all(answers.right.all() for answers in others)
    whole = replace(row("frozen", axes, "test", "accuracy", 1.0, 3), preset="none")
    assert from_rows([whole], tests=found).tests == found
