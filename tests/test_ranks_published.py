"""Ranks and tests between columns against the tables that the original printed."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from carryover.measure import ranks
from carryover.measure.ranks import published_signed_rank, signed_rank

PUBLISHED = Path(__file__).parents[2] / "shared" / "reference" / "published" / "mp-tl-study"
FRACTIONS = (0.001, 0.01, 0.1, 0.5, 1.0)

Columns = dict[int, list[float]]


def shared(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that reads the original's released results."""
    absent = pytest.mark.skipif(not PUBLISHED.exists(), reason="the released results are not here")
    return pytest.mark.shared(absent(test))


def released(folder: str, setting: str, fraction: float) -> Columns:
    """Test accuracies in file order by cut, the baseline first as cut -1."""
    columns: dict[int, list[float]] = defaultdict(list)
    for name in ("baselines_regular_classes", f"cuts_regular_classes_{setting}"):
        for run in json.loads((PUBLISHED / "final" / folder / f"{name}.json").read_text())[1:]:
            if run["sampled_percentage"] == fraction:
                columns[run["sampled_cut_point"]].append(run["test_acc"])
    return dict(columns)


def released_clusters(fraction: float) -> Columns:
    columns: dict[int, list[float]] = defaultdict(list)
    path = PUBLISHED / "final" / "FashionMNIST" / "regular_classes_cluster.json"
    for row in json.loads(path.read_text()):
        if row["Percentage"] == fraction:
            columns[int(row["Layer"].removeprefix("conv"))].append(row["ARI"])
    return dict(columns)


def printed(name: str) -> list[dict[str, str]]:
    with (PUBLISHED / name).open() as file:
        return list(csv.DictReader(file))


def no_ties(a: list[float], b: list[float]) -> bool:
    sizes = np.round(np.abs(np.subtract(a, b)), 12)
    return bool(sizes.all()) and len(np.unique(sizes)) == len(sizes)


def compare(
    rows: list[dict[str, str]],
    columns: Callable[[dict[str, str]], tuple[list[float], list[float]]],
) -> tuple[int, int, float]:
    """Rows whose p is the printed one to 0.002 as published and by today's SciPy, and its worst."""
    published = today = 0
    worst = 0.0
    for row in rows:
        a, b = columns(row)
        p = float(row["p_value_printed"])
        legacy, now = published_signed_rank(a, b), signed_rank(a, b)
        assert int(legacy.statistic) == int(row["statistic_truncated_to_int"])
        distinct = no_ties(a, b)
        assert not distinct or legacy.statistic == now.statistic
        assert legacy.p == pytest.approx(p, abs=1e-6)
        assert (legacy.p < 0.05) == (row["highlighted_significant"] == "True")
        assert not distinct or abs(now.p - p) <= 0.002
        published += abs(legacy.p - p) <= 0.002
        x = np.subtract(a, b)
        error = abs((float(stats.wilcoxon(x).pvalue) if x.any() else 1.0) - p)
        today += error <= 0.002
        worst = max(worst, error)
    return published, today, worst


@shared
def test_the_printed_tests_between_cuts() -> None:
    kept = {
        (folder, fraction): released(folder, "FR", fraction)
        for folder in ("MNIST", "FashionMNIST", "CIFAR", *CROSS)
        for fraction in FRACTIONS
    }

    def columns(row: dict[str, str]) -> tuple[list[float], list[float]]:
        found = kept[row["dataset"], float(row["percentage"])]
        return found[int(row["cut_1"])], found[int(row["cut_2"])]

    published, today, worst = compare(printed("wilcoxon_between_cuts_published.csv"), columns)
    assert (published, today) == (700, 688)
    assert worst == pytest.approx(0.0625)


@shared
def test_the_printed_tests_between_settings() -> None:
    others = {"CIFAR": "FT", "FashionMNIST": "F"}
    rows = printed("wilcoxon_between_settings_published.csv")

    def columns(row: dict[str, str]) -> tuple[list[float], list[float]]:
        fraction, cut = float(row["percentage"]), int(row["cut"])
        first = released(row["dataset"], "FR", fraction)[cut]
        return first, released(row["dataset"], others[row["dataset"]], fraction)[cut]

    published, today, _ = compare(rows, columns)
    assert (published, today) == (80, 78)
    for row in rows:
        cut, names = int(row["cut"]), {"first": "FR", "second": others[row["dataset"]]}
        first, second = columns(row)
        found = ranks.settings_test(
            {cut: first}, {cut: second}, corrected=False, test=published_signed_rank
        )
        assert names.get(found[cut].higher, "None") == row["higher_setting"]


@shared
def test_the_printed_tests_between_layers() -> None:
    def columns(row: dict[str, str]) -> tuple[list[float], list[float]]:
        found = released_clusters(float(row["percentage"]))
        return found[int(row["conv_1"])], found[int(row["conv_2"])]

    published, today, _ = compare(printed("wilcoxon_clustering_published.csv"), columns)
    assert (published, today) == (75, 75)


CROSS = ("MNIST_to_FashionMNIST", "FashionMNIST_to_MNIST")
RANKS = {  # printed in the original's box plots at 0.1 %, 1 % and 10 %, cuts -1, 0, ..., 6
    ("MNIST", "FR"): ("33332112", "44442123", "44442123"),
    ("FashionMNIST", "FR"): ("44432112", "44431112", "33331112"),
    ("FashionMNIST", "FT"): ("22111111", "21112222", "32222212"),
    ("CIFAR", "FR"): ("44333112", "77654123", "55421123"),
    ("MNIST_to_FashionMNIST", "FR"): ("22232112", "33333112", "44443214"),
    ("FashionMNIST_to_MNIST", "FR"): ("33333213", "33333213", "22211334"),
    ("FashionMNIST", "clusters"): ("212222", "212323", "212333"),  # conv0, ..., conv5
}


@shared
@pytest.mark.parametrize(("folder", "setting"), RANKS)
def test_the_printed_ranks(folder: str, setting: str) -> None:
    wanted = RANKS[folder, setting]
    everyone_first = "1" * len(wanted[0])  # five repeats cannot differ
    for fraction, digits in zip(FRACTIONS, (*wanted, everyone_first, everyone_first), strict=True):
        if setting == "clusters":
            columns = released_clusters(fraction)
        else:
            columns = released(folder, setting, fraction)
        found = ranks.published_ranks(columns)
        assert "".join(str(found[key]) for key in sorted(found)) == digits
