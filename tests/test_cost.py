"""Hours that a part of the grid would take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from carryover import presets
from carryover.claims.cost import BENCH, multiplications, not_run
from carryover.files import write_text
from carryover.rows import Row
from conftest import Checkout

FORWARD = 28**2 * 9 * 64 + 28**2 * 9 * 64**2 + 2 * 14**2 * 9 * 64**2 + 2 * 7**2 * 9 * 64**2


def row(setting: str, fraction: float, cut: int, repeat: int) -> Row:
    cell: dict[str, Any] = {"pair": "mnist", "fraction": fraction, "cut": cut, "repeat": repeat}
    return Row("cuts", setting, "published", cell, "test", "accuracy", 0.5, 1, *("x",) * 5)


def test_the_head_alone_worked_out_by_hand(checkout: Checkout) -> None:
    """Cut 6 at 0.1 %: 25 images, 576 features, 5 classes, 40 epochs."""
    head = 3**2 * 64 * 5
    evaluated = 41 * 2940 + 29404 + 25
    expected = 40 * 25 * 2 * head + evaluated * head
    assert multiplications(presets.tree("published"), "fr", 6, 0.001) == expected


def test_a_whole_network_worked_out_by_hand(checkout: Checkout) -> None:
    forward = FORWARD + 576 * 5
    expected = 40 * 25 * (3 * forward - 28**2 * 9 * 64) + forward * (41 * 2940 + 29404 + 25)
    assert multiplications(presets.tree("published"), "baseline", -1, 0.001) == expected


def test_a_setting_pays_for_what_it_trains(checkout: Checkout) -> None:
    """Removed layers cost nothing, frozen ones nothing more; else all train at every cut."""
    values = presets.tree("published")
    head = 14**2 * 64 * 5  # behind two convolutions and a pooling
    evaluated = 41 * 2940 + 29404 + 25
    expected = 40 * 25 * 2 * head + evaluated * head
    assert multiplications(values, "ft", 2, 0.001) == expected
    whole = multiplications(values, "baseline", -1, 0.001)
    assert {multiplications(values, each, 4, 0.001) for each in ("r", "none")} == {whole}
    frozen = {multiplications(values, each, 4, 0.001) for each in ("fr", "f")}
    assert len(frozen) == 1
    assert frozen.pop() < whole / 5


def test_a_budget_of_updates_counts_batches(checkout: Checkout) -> None:
    """300 updates of 64 images, validated every 100, tested on real test images."""
    values = presets.tree("corrected")
    head = 576 * 5
    expected = 300 * 64 * 2 * head + head * (4 * 2940 + 4861 + 2645)
    assert multiplications(values, "fr", 6, 0.1) == expected


def test_hours_follow_from_the_measured_cell(checkout: Checkout) -> None:
    values = presets.tree("published")
    (line,) = not_run(values, values, [], ["fr"])
    assert line.startswith("fr: 175 of 175 runs at 0.1 %; 175 of 175 runs at 1 %; 140 of ")
    write_text(BENCH, json.dumps({"float32": {"hours": {"median": 1.5}}}))
    (line,) = not_run(values, values, [], ["fr"])
    assert line.startswith("fr: 175 of 175 runs at 0.1 %, about 1.5 h; ")
    done = [row("fr", 0.001, cut, i) for cut in range(2, 7) for i in range(25)]
    (line,) = not_run(values, values, done, ["fr"])
    runs, hours, *_ = line.split(", about ")
    assert runs == "fr: 50 of 175 runs at 0.1 %"
    assert float(hours.split()[0]) == pytest.approx(1.1, abs=0.1)
    (line,) = not_run(values, values, done, ["baseline"])
    assert line.startswith("baseline (the same runs as fr at cut 0): 25 of 25 runs at 0.1 %; 25")


def test_what_was_run_is_not_listed(checkout: Checkout) -> None:
    values = presets.tree("published")
    cuts = {"baseline": (-1,), "fr": range(7)}
    done = [
        row(setting, fraction, cut, i)
        for setting, each in cuts.items()
        for fraction, repeats in zip((0.001, 0.01, 0.1, 0.5, 1.0), (25, 25, 20, 5, 5), strict=True)
        for cut in each
        for i in range(repeats)
    ]
    assert not_run(values, values, done, ["baseline", "fr"]) == []
    assert len(not_run(values, values, done, ["f", "ft"])) == 2
