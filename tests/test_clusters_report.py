"""The clustering study's report, from handmade rows of both studies."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from carryover.config import params as config
from carryover.errors import DataError
from carryover.report import cluster_figures, figures
from carryover.report.cluster_summary import NAMES, accuracies, by_layer, from_rows, predictions
from carryover.rows import write_rows
from carryover.stages import run_stage
from carryover.studies import clusters_report
from cluster_rows import ACCURACY, ARI, LAYERS, cluster_rows, cut_rows, points_csv, row
from conftest import TINY, Checkout, make_checkout

FOLDER = Path("reports/clusters")
FIGURES = ("box", "predict", "tsne", "rank")


def write_inputs(accuracies_too: bool = True) -> None:
    write_rows(FOLDER / "runs/all/rows.jsonl", cluster_rows())
    (FOLDER / "tsne.csv").write_text(points_csv())
    if accuracies_too:
        write_rows(Path("reports/cuts/runs/fr/rows.jsonl"), cut_rows())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``reports`` folder that the stage makes of handmade rows."""
    found = make_checkout(tmp_path_factory.mktemp("made") / "checkout", TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.root)
        write_inputs()
        run_stage("clusters-report", "")
    return found.root / "reports"


@pytest.fixture
def reported(tiny: Checkout, made: Path) -> Checkout:
    """The tiny checkout with the report of handmade rows."""
    shutil.copytree(made, "reports")
    return tiny


@pytest.fixture
def summary(reported: Checkout) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "summary.json").read_text())
    return found


def test_a_score_in_the_order_of_the_accuracies_finds_the_best_cut(summary: dict[str, Any]) -> None:
    place = summary["agglomerative_ari"]["fraction_0.05"]
    assert place["median_ari"] == dict(zip(LAYERS, ARI[0.05], strict=True))
    assert (place["best_layer"], place["best_cut"], place["repeats"]) == ("conv5", 6, 2)
    assert place["spearman"] == {
        **{"value": 1, "low": 1, "high": 1},
        **{"p": round(2 / 720, 6), "p_holm": round(6 * 2 / 720, 6)},  # six tests
    }
    assert place["accuracy_lost"] == {"value": 0, "low": 0, "high": 0}
    # paired by repeat, 0.9 less the mean of all cuts that keep a layer
    assert place["accuracy_lost_at_random"]["value"] == pytest.approx(0.25)


def test_a_score_in_the_reverse_order_loses_the_most(summary: dict[str, Any]) -> None:
    place = summary["agglomerative_ari"]["fraction_1"]
    assert (place["best_layer"], place["best_cut"]) == ("conv0", 6)
    assert place["spearman"]["value"] == -1
    width = 12.7062 * (0.01**2 / 12) ** 0.5  # equal differences: only rounding to 1/100 is left
    assert place["accuracy_lost"] == pytest.approx(
        {"value": 0.5, "low": 0.5 - width, "high": 0.5 + width}, abs=1e-5
    )


def test_a_cut_that_keeps_no_layer_is_not_the_best(summary: dict[str, Any]) -> None:
    cuts = {place["best_cut"] for place in summary["agglomerative_ari"].values()}
    assert cuts == {6}  # cut 0 has the highest accuracy


def test_the_summary_has_all_three_scores_and_the_ranks(summary: dict[str, Any]) -> None:
    assert summary.keys() == {
        *("agglomerative_ari", "kmeans_ari_max", "kmeans_ari_mean", "effective_rank")
    }
    assert summary["kmeans_ari_max"]["fraction_1"]["median_ari"]["conv0"] == 0.65
    assert summary["effective_rank"] == dict.fromkeys(LAYERS, 3.5)


def test_the_text_answers_the_question_with_its_n(reported: Checkout) -> None:
    text = (FOLDER / "clusters.md").read_text()
    assert "Does clustering predict the best cut?" in text
    assert "accuracy is on 100 test images" in text
    assert (
        "ARI, means over space: finds it at 1 of 2 fractions, and its cut loses 25.0 points of "
        "accuracy to the best on average, where a layer drawn at random loses 25.0" in text
    )
    assert "beyond chance in 6 of 6 cases (exact permutation test over 6 layers" in text
    assert "as many clusters as classes" in text.lower()
    assert "at most 60 images of a subset, 5 principal directions" in text
    assert "As published" not in text
    assert re.search(
        r"\| ARI, means over space \| 100 % \| 2 \| 6 \| -1\.00 \[-1\.00, -1\.00\] \| 0\.003 \| "
        r"0\.017 \| conv0 \(cut 1\) \| 6 \| \+50\.0 \[",
        text,
    )
    assert "| conv0 | 3.50 | 4 | 88 % |" in text


def test_published_faults_are_named(reported: Checkout) -> None:
    reported.edit(**{"clusters.inverse_assignment": True})
    run_stage("clusters-report", "")
    text = (FOLDER / "clusters.md").read_text()
    assert "As published, cluster accuracy reads the assignment backwards." in text


def read_as(cuts: Mapping[str, str] = MappingProxyType({}), **changes: Any) -> str:
    """How tables of handmade rows are to be read, some keys of both studies changed."""
    params = config.read(TINY)
    study = dataclasses.replace(params.clusters, **changes)
    found = accuracies(cut_rows(), "digits")
    made = predictions(from_rows(cluster_rows(), "digits"), found)
    return clusters_report.reading(study, dataclasses.replace(params.cuts, **cuts), made, found)


def test_only_clusterings_that_ran_are_described() -> None:
    told = read_as(methods=("agglomerative",), channel_in_scores=True, count_diagonal=True)
    assert "Scored: agglomerative clusters (cosine distance, average linkage)" in told
    assert "image something is. As many clusters as classes.\n" in told
    assert "K-means" not in told
    assert "biased upwards" not in told
    assert "As published, pairs of an image with itself count as found.\n" in told
    told = read_as(methods=("kmeans",), channel_in_scores=True, count_diagonal=True)
    assert "Scored: K-means of each channel's pixels by itself (at most 60 images" in told
    assert "agglomerative" not in told
    assert "biased upwards" in told
    assert "As published, best and mean run over channel ids, as hundredths, and scores.\n" in told


def test_only_images_that_were_clustered_are_described() -> None:
    both = "never seen, and on the images it was pretrained on (source). Outputs"
    assert both in read_as()
    told = read_as(images=("finetune",))
    assert "(target), which it has never seen. Outputs" in told
    assert "(source)" not in told
    told = read_as(images=("pretrain",))
    assert "layers of cnn6-digits-0-4 on the images it was pretrained on (source). Outputs" in told
    assert "(target)" not in told


def test_the_text_says_which_images_chose_the_best_cut_and_which_measured_it() -> None:
    plain = "mean FR accuracy on validation images, accuracy is on 100 test images. "
    assert plain in read_as()
    told = read_as({"test_on": "train", "best_by": "test"})
    assert (
        "mean FR accuracy on validation images (not, as in the cut study's report, on those it "
        "tests on), accuracy is on 100 training images. " in told
    )


def test_tables_and_figures_of_training_images_say_so(
    reported: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: dict[str, Any] = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: saved.update({path.name: figure}))
    reported.edit(**{"cuts.test_on": "train"})
    run_stage("clusters-report", "")
    text = (FOLDER / "clusters.md").read_text()
    assert "against mean FR accuracy on training images of the cut that keeps it last" in text
    assert "test images" not in text
    note = saved["predict"].get_supxlabel()
    assert "100 training images" in " ".join(note.split())


def test_the_csv_has_every_score(reported: Checkout) -> None:
    lines = list(csv.DictReader(io.StringIO((FOLDER / "clusters.csv").read_text())))
    assert len(lines) == 2 * 2 * 6 * (3 + 2)
    (line,) = (
        line
        for line in lines
        if (line["method"], line["images"], line["fraction"], line["layer"], line["metric"])
        == ("kmeans", "finetune", "1.0", "conv5", "ari_max")
    )
    assert (line["num_samples"], line["subset_images"], line["repeats"]) == ("60", "60", "2")
    assert float(line["mean"]) == pytest.approx(0.15)
    assert float(line["high"]) == pytest.approx(0.15 + 12.7062 * 0.01, abs=1e-5)


def test_the_latex_is_whole(reported: Checkout) -> None:
    text = (FOLDER / "clusters.tex").read_text()
    for name in ("table", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") == 8
    assert re.search(r"(?<!\\)%", text) is None


def test_figures_are_the_same_byte_for_byte(reported: Checkout) -> None:
    names = [f"{stem}.{kind}" for stem in FIGURES for kind in ("svg", "png")]

    def digests() -> dict[str, str]:
        return {n: hashlib.sha256((FOLDER / n).read_bytes()).hexdigest() for n in names}

    first = digests()
    assert len(set(first.values())) == len(names)
    assert "<dc:date>" not in (FOLDER / "box.svg").read_text()
    for name in names:
        (FOLDER / name).unlink()
    done = reported.run("run", "clusters-report")  # in a process of its own
    assert done.returncode == 0, done.stderr
    assert digests() == first


def test_figures_show_their_n() -> None:
    scores = from_rows(cluster_rows(), "digits")
    figure = cluster_figures.boxes(scores, "kmeans", "ari_max")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "source images\n5 %: 10 images, 2 repeats"
    assert titles[3] == "100 %: 60 images, 2 repeats"  # of 239, as many as K-means takes
    note = " ".join(figure.get_supxlabel().split())
    assert "fewer than 10 repeats tell none apart" in note  # 15 pairs: 15 * 2^-9 is below 0.05
    assert "dotted: chance" in note
    found = accuracies(cut_rows(), "digits")
    figure = cluster_figures.predicted(predictions(scores, found), "digits", found.n, "test images")
    assert "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}100 test images" in figure.get_supxlabel()
    assert [axis.get_title().splitlines()[0] for axis in figure.axes[::2]] == list(NAMES.values())
    assert len(figure.axes) == 3 * 2
    drawn = [tuple(line.get_xydata()[0]) for line in figure.axes[0].lines]
    wanted = [(x, 100 * y) for x, y in zip(ARI[0.05], ACCURACY[0.05], strict=True)]
    assert drawn == [pytest.approx(point) for point in wanted]


def test_without_accuracies_the_report_says_so(tiny: Checkout) -> None:
    write_inputs(accuracies_too=False)
    run_stage("clusters-report", "")
    text = (FOLDER / "clusters.md").read_text()
    assert "No comparison with accuracies: the cut study has no rows of setting fr" in text
    summary = json.loads((FOLDER / "summary.json").read_text())
    assert "spearman" not in summary["agglomerative_ari"]["fraction_1"]
    _, _, lines = clusters_report.headline(summary)
    assert lines[0] == ["ARI, means over space", "no accuracies", "no accuracies"]
    assert all((FOLDER / f"{name}.png").exists() for name in FIGURES)


def test_accuracies_of_another_pair_are_not_taken() -> None:
    assert accuracies(cut_rows(), "mnist").test == {}
    assert len(accuracies(cut_rows(), "digits").test) == 14


def test_without_maps_a_figure_says_so(reported: Checkout) -> None:
    before = (FOLDER / "tsne.png").read_bytes()
    (FOLDER / "tsne.csv").write_text("images,layer,class,x,y\n")
    run_stage("clusters-report", "")
    assert (FOLDER / "tsne.png").read_bytes() != before


def test_the_headline_names_the_correlation_and_both_cuts(summary: dict[str, Any]) -> None:
    title, header, lines = clusters_report.headline(summary)
    assert "[95 %]" in title
    assert header == ["score", "5 %", "100 %"]
    assert lines[0][2] == "-1.00 [-1.00, -1.00] (cut 1, best 6)"


def test_of_several_numbers_of_samples_the_largest_counts() -> None:
    more = [
        row("clusters", "all", r.cell | {"num_samples": 0}, "train", r.metric, value=0.9, n=200)
        for r in cluster_rows(("kmeans",))
        if "method" in r.cell
    ]
    scores = from_rows([*cluster_rows(), *more], "digits")
    found = by_layer(scores, "kmeans", "ari_max", "finetune", 1.0)
    assert found["conv0"] == {0: 0.9, 1: 0.9}


def test_rows_that_are_missing_say_what_to_run(tiny: Checkout) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl: expected rows, found no file"):
        run_stage("clusters-report", "")
    write_inputs()
    write_rows(FOLDER / "runs/all/rows.jsonl", cluster_rows(("kmeans",)))
    with pytest.raises(
        DataError, match=r"pair digits, agglomerative, pretrain, fraction 0\.05, repeat 0, found no"
    ):
        run_stage("clusters-report", "")


def test_repeats_that_only_one_study_has_are_refused() -> None:
    scores = from_rows(cluster_rows(), "digits")
    alone = [r for r in cut_rows() if r.cell["repeat"] == 0]
    with pytest.raises(
        DataError, match=r"repeats of fraction 0\.05 in the rows of both .*, got 1;"
    ):
        predictions(scores, accuracies(alone, "digits"))
