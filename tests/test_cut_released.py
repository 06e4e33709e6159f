from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest

from carryover.report import cut_tables, figures
from carryover.report.cut_scores import CutScores, cuts
from conftest import REPOSITORY
from cut_scores import everything

RELEASED = REPOSITORY.parent / "shared/reference/published/mp-tl-study/final/FashionMNIST"
released = pytest.mark.skipif(not RELEASED.exists(), reason="the released results are not here")
IN_TRAINING = {0.001: 15, 0.01: 162, 0.1: 1620, 0.5: 8100, 1.0: 16196}
FILES = {"baseline": "baselines_regular_classes", "fr": "cuts_regular_classes_FR"}
FILES |= {"f": "cuts_regular_classes_F", "ft": "cuts_regular_classes_FT"}


@pytest.fixture(scope="module")
def original() -> CutScores:
    """The released results on FashionMNIST, which has three settings."""
    values: dict[tuple[str, float, int], list[float]] = {}
    for setting, stem in FILES.items():
        runs: list[dict[str, Any]] = json.loads((RELEASED / f"{stem}.json").read_text())
        for run in sorted((r for r in runs if "repeat" in r), key=lambda r: int(r["repeat"])):
            key = (setting, float(run["sampled_percentage"]), int(run["sampled_cut_point"]))
            values.setdefault(key, []).append(float(run["test_acc"]))
    measured = "accuracy on training images"
    return CutScores(values, IN_TRAINING, 18000, measured, "fashion-mnist")


@pytest.mark.shared
@pytest.mark.slow
@released
def test_the_released_results_are_drawn(tmp_path: Path, original: CutScores) -> None:
    for name, draw in everything(original).items():
        figures.save(draw(), tmp_path / name)
        assert (tmp_path / f"{name}.svg").stat().st_size > 20_000


@pytest.mark.shared
@released
def test_ranks_are_those_that_the_original_printed(original: CutScores) -> None:
    assert cuts(original, "fr") == [0, 1, 2, 3, 4, 5, 6]
    found = cut_tables.ranks(original, "fr")
    printed = ["".join(map(str, by_cut.values())) for by_cut in found.values()]
    assert printed == ["44432112", "44431112", "33331112", "11111111", "11111111"]


@pytest.mark.shared
@released
def test_released_cells_have_the_published_means_and_medians(original: CutScores) -> None:
    found = original.values["fr", 0.01, 4]
    assert (fmean(found), median(found)) == pytest.approx((0.8747, 0.8758), abs=5e-5)
    line = cut_tables.accuracy_table(original, "fr").lines[1]
    assert line[:3] == ["1 %", "162", "25"]
    assert line[3 + 1 + 4].startswith("87.5 [")
