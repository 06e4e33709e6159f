from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from carryover.errors import DataError
from carryover.report import cut_summary, figures
from carryover.rows import Row, write_rows
from carryover.stages import run_stage
from carryover.studies import cuts_report
from conftest import TINY, Checkout, make_checkout

FOLDER = Path("reports/cuts")
HALF = 12.706204736432095 * 0.1 / 2**0.5 / 2**0.5  # Student, 1 degree of freedom; spread 0.1

# accuracies of repeats 0 and 1, which scatter by +-0.05 around these means
MEANS: dict[tuple[str, float, int], float] = {
    ("baseline", 0.05, -1): 0.30,
    ("baseline", 1.0, -1): 0.80,
    **{("fr", 0.05, cut): mean for cut, mean in ((0, 0.30), (3, 0.60), (6, 0.50))},
    **{("fr", 1.0, cut): mean for cut, mean in ((0, 0.80), (3, 0.70), (6, 0.50))},
    **{("ft", 0.05, cut): mean for cut, mean in ((0, 0.40), (3, 0.45), (6, 0.50))},
    **{("ft", 1.0, cut): mean for cut, mean in ((0, 0.75), (3, 0.70), (6, 0.50))},
}
VALIDATED = {("fr", 0.05, 6): 0.9}  # validation prefers a cut that test does not


def row(setting: str, fraction: float, cut: int, repeat: int, split: str, value: float) -> Row:
    n = {"test": 100, "validation": 20, "train": 10 if fraction < 1 else 200}[split]
    return Row(
        study="cuts",
        item=setting,
        preset="tiny",
        cell={"pair": "digits", "fraction": fraction, "cut": cut, "repeat": repeat},
        split=split,
        metric="accuracy",
        value=value,
        n=n,
        data="d",
        weights="w",
        params="p",
        source="s",
        precision="float32",
    )


def rows(setting: str) -> list[Row]:
    found = []
    for (item, fraction, cut), mean in MEANS.items():
        for repeat, off in enumerate((0.05, -0.05)):
            if item == setting:
                best = VALIDATED.get((item, fraction, cut), mean)
                values = {"train": 1.0, "validation": best, "test": round(mean + off, 6)}
                found += [row(item, fraction, cut, repeat, *entry) for entry in values.items()]
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``reports`` folder that the stages make of handmade rows."""
    found = make_checkout(tmp_path_factory.mktemp("made") / "checkout", TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.root)
        for setting in ("baseline", "fr", "ft"):
            write_rows(FOLDER / "runs" / setting / "rows.jsonl", rows(setting))
        run_stage("cuts-report", "")
    return found.root / "reports"


@pytest.fixture
def reported(tiny: Checkout, made: Path) -> Checkout:
    """The tiny checkout with the reports of handmade rows."""
    shutil.copytree(made, "reports")
    return tiny


@pytest.fixture
def unsaved(reported: Checkout, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the figures that the stage makes, in the place of their files, which take longer."""
    names: list[str] = []
    stem = cuts_report.FOLDER
    monkeypatch.setattr(
        figures, "save", lambda figure, path: names.append(str(path.relative_to(stem)))
    )
    return names


@pytest.fixture
def summary(reported: Checkout) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "summary.json").read_text())
    return found


def test_the_summary_has_means_gains_and_intervals(summary: dict[str, Any]) -> None:
    scratch = summary["baseline"]["10_images"]["accuracy"]
    assert scratch == pytest.approx({"value": 0.3, "low": 0.3 - HALF, "high": 0.3 + HALF}, abs=1e-6)
    place = summary["ft"]["10_images"]
    assert place["best_cut"] == 6
    assert place["accuracy"]["value"] == 0.5
    # paired by repeat: both differences are 0.2, so only the rounding of an accuracy to 1 / 100
    # is left: t(0.975, 1) * sqrt(0.01**2 / 6 / 2)
    width = 12.7062 * (0.01**2 / 12) ** 0.5
    assert place["gain"]["value"] == 0.2
    assert place["gain"]["low"] == pytest.approx(0.2 - width, abs=1e-5)
    assert place["gain"]["high"] == pytest.approx(0.2 + width, abs=1e-5)
    assert summary["ft"]["200_images"]["gain"]["value"] == -0.1  # cut 0 does not compete


def test_the_best_cut_is_chosen_by_validation_images(summary: dict[str, Any]) -> None:
    assert summary["fr"]["10_images"]["best_cut"] == 6  # on test images it would be 3
    assert summary["fr"]["10_images"]["gain"]["value"] == 0.2
    assert summary["fr"]["200_images"]["best_cut"] == 3  # at cut 0 nothing is kept


def test_the_best_cut_may_be_chosen_by_test_images(reported: Checkout, unsaved: list[str]) -> None:
    reported.edit(**{"cuts.best_by": "test"})
    run_stage("cuts-report", "")
    place = json.loads((FOLDER / "summary.json").read_text())["fr"]["10_images"]
    assert place["best_cut"] == 3
    assert place["gain"]["value"] == 0.3
    assert "highest mean accuracy on test images;" in (FOLDER / "cuts.md").read_text()


def test_of_equal_cuts_the_shallowest_is_best() -> None:
    same = {("f", 0.05, cut): [0.5, 0.5] for cut in (6, 3, 0)}
    assert cut_summary.best_cut(same, "f", 0.05) == 0


def test_a_cut_that_keeps_nothing_is_never_the_best() -> None:
    falling = {("fr", 0.05, cut): [0.9 - cut / 10] * 2 for cut in (0, 3, 6)}
    assert cut_summary.best_cut(falling, "fr", 0.05) == 3
    assert cut_summary.best_cut({("fr", 0.05, 0): [0.5, 0.5]}, "fr", 0.05) == 0  # no other


def test_the_markdown_has_n_and_intervals(reported: Checkout) -> None:
    text = (FOLDER / "cuts.md").read_text()
    assert "Accuracy in per cent on 100 test images that no training or choice has seen." in text
    assert "(n = 20)" in text
    low, high = 100 * (0.5 - HALF), 100 * (0.5 + HALF)
    interval = f"50.0 [{low:.1f}, {high:.1f}]"
    assert re.search(
        r"\| ft \| 5 % \| 10 \| 2 \| 30\.0 \[.*?\] \| 6 \| "
        + re.escape(interval)
        + r" \| \+20\.0 \[\+16\.3, \+23\.7\] \| ",
        text,
    )
    assert text.count("| setting |") == 2
    assert text.count("| cut 0 | cut 3 | cut 6 |") == 3
    assert "| ft | 5 % | 2 | 1 a | 1 a | 1 a | 1 a |" in text  # two repeats tell nothing apart


def test_accuracy_on_training_images_is_said_loudly(reported: Checkout, unsaved: list[str]) -> None:
    reported.edit(**{"cuts.test_on": "train"})
    run_stage("cuts-report", "")
    assert "on 100 TRAINING images" in (FOLDER / "cuts.md").read_text()


def test_the_csv_has_every_cell(reported: Checkout) -> None:
    lines = list(csv.DictReader(io.StringIO((FOLDER / "cuts.csv").read_text())))
    assert len(lines) == 2 * (1 + 3 + 3)
    found = {(x["setting"], float(x["fraction"]), int(x["cut"])): x for x in lines}
    assert found.keys() == MEANS.keys()
    for key, mean in MEANS.items():
        line = found[key]
        assert float(line["accuracy"]) == pytest.approx(mean)
        assert float(line["low"]) == pytest.approx(mean - HALF, abs=1e-6)
        assert float(line["gain"]) == pytest.approx(mean - MEANS["baseline", key[1], -1], abs=1e-6)
        assert (line["repeats"], line["test_images"]) == ("2", "100")
        assert line["images"] == ("10" if key[1] < 1 else "200")


def test_the_latex_is_whole(reported: Checkout) -> None:
    text = (FOLDER / "cuts.tex").read_text()
    for name in ("table", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") == 4
    assert re.search(r"(?<!\\)%", text) is None
    assert r"ft & 5 \% & 10 & 2 & 30.0 [" in text


FIGURES = (
    "gain",
    "mean",
    "bars",
    "surface",
    "heat-map",
    "box-fr",
    "box-ft",
    "range-fr",
    "range-ft",
)
NAMES = ("box", "difference", *(f"figures/{name}" for name in FIGURES))


def test_every_figure_is_there_without_a_date(reported: Checkout) -> None:
    found = {str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.svg")}
    assert found == set(NAMES)
    for name in NAMES:
        assert "<dc:date>" not in (FOLDER / f"{name}.svg").read_text()
        assert (FOLDER / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_figures_are_the_same_byte_for_byte(reported: Checkout) -> None:
    def digests() -> dict[str, str]:
        paths = [FOLDER / f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    first = digests()
    assert len(set(first.values())) == 2 * len(NAMES)
    for name in first:
        Path(name).unlink()
    done = reported.run("run", "cuts-report")  # in a process of its own
    assert done.returncode == 0, done.stderr
    assert digests() == first


def test_the_tests_have_every_pair_of_cuts_and_of_settings(reported: Checkout) -> None:
    lines = list(csv.DictReader(io.StringIO((FOLDER / "tests.csv").read_text())))
    assert len(lines) == 2 * (2 * 6 + 3)  # fractions; pairs of scratch, 0, 3, 6; cuts of fr and ft
    assert {line["smallest_p"] for line in lines} == {"0.5"}
    found = {
        (x["setting_a"], x["cut_a"], x["setting_b"], x["cut_b"]): x
        for x in lines
        if x["fraction"] == "0.05"
    }
    assert found["fr", "-1", "fr", "0"]["p"] == "1.0"  # the same values
    assert found["fr", "0", "fr", "3"]["p"] == "0.5"
    assert found["fr", "6", "ft", "6"]["statistic"] == "0.0"
    text = (FOLDER / "tests.md").read_text()
    assert "the smallest p that the repeats can give: 5 % 0.5 (2 repeats)" in text
    assert "| 5 % | scratch, cut 3 | 0 | 0.500000 | 1.000000 |  |  |" in text
    assert "| 5 % | fr cut 3, ft cut 3 | 0 | 0.500000 | 1.000000 |  |  |" in text


def test_rows_of_another_pair_are_not_taken(reported: Checkout) -> None:
    reported.edit(**{"cuts.pair": "letters"})
    with pytest.raises(DataError, match=r"expected a row for pair letters, fraction 0\.05"):
        run_stage("cuts-report", "")


def test_rows_that_the_parameters_do_not_list_are_left_out(
    reported: Checkout, unsaved: list[str]
) -> None:
    reported.edit(**{"cuts.cuts": [3, 6]})
    run_stage("cuts-report", "")
    assert "cut 0 |" not in (FOLDER / "cuts.md").read_text()


def test_one_cut_alone_is_reported_without_a_surface(
    reported: Checkout, unsaved: list[str]
) -> None:
    reported.edit(**{"cuts.cuts": [3]})
    run_stage("cuts-report", "")
    assert set(unsaved) == set(NAMES) - {"figures/surface"}


def test_rows_that_are_absent_say_what_to_run(tiny: Checkout) -> None:
    done = tiny.run("run", "cuts-report")
    assert done.returncode == 2
    assert done.stderr == (
        "carryover: reports/cuts/runs/fr/rows.jsonl: expected rows, found no file; run the stage "
        "that writes it\n"
    )


def test_the_headline_names_gain_and_cut(summary: dict[str, Any]) -> None:
    title, header, lines = cuts_report.headline(summary)  # `reproduce` looks for it there
    assert "points [95 %]" in title
    assert header == ["setting", "10 images", "200 images"]
    assert lines[1][0] == "ft"
    assert lines[1][1] == "+20.0 [+16.3, +23.7] (cut 6)"
