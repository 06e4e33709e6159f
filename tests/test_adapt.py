"""The adaptation study on ``tests/params.yaml``.

After a change that is meant to move its numbers: ``CARRYOVER_WRITE_GOLDEN=1 pytest
tests/test_adapt.py -k every_cell`` writes ``tests/golden/adapt.json`` anew; the commit says why.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor

from carryover import adapt_measures, adapt_predictions, adapt_start, adapt_training, run
from carryover.config import params as config
from carryover.errors import ConfigError, DataError, KitError
from carryover.models.heads import Head
from carryover.report import adapt_paired
from carryover.rows import Row, read_rows
from carryover.stages import PARAMS, run_stage
from carryover.studies import adapt
from conftest import REPOSITORY, Checkout
from image_files import encoded, picture, pictures, write_folder
from test_images import encoded_images
from tiny_clip import clip

PREDICTED, FILE = adapt_predictions.PREDICTIONS, adapt_paired.FILE
GOLDEN = Path(__file__).parent / "golden" / "adapt.json"
TEST, OTHER = 1258, 36
SHARES = {0.1: 50, 1.0: 539}  # 5 of each class of digits, and all
UNIFORM = 0.1


def rows_of(item: str) -> list[Row]:
    return read_rows(Path("reports/adapt/runs") / item / "rows.jsonl")


@pytest.fixture
def run_items(embedded: Checkout) -> Callable[..., dict[str, list[Row]]]:
    """Run items of the tiny study with some keys changed; their rows."""

    def rows(*items: str, **changes: Any) -> dict[str, list[Row]]:
        if changes:
            embedded.edit(**{f"adapt.{key}": value for key, value in changes.items()})
        for item in items:
            run_stage("adapt", item)
        return {item: rows_of(item) for item in items}

    return rows


def only(rate: float) -> dict[str, list[float]]:
    """One rate for every item, so that none is chosen."""
    return {item: [rate] for item in ("probe", "unfreeze", "llrd")}


def of(rows: list[Row], metric: str, split: str = "test", **axes: Any) -> list[float]:
    """Values of a metric at some axes."""
    return [
        row.value
        for row in rows
        if (row.metric, row.split) == (metric, split)
        and all(row.cell.get(axis) == value for axis, value in axes.items())
    ]


def test_every_cell_has_its_rows_with_their_n(
    run_items: Callable[..., dict[str, list[Row]]],
) -> None:
    found = run_items("probe", "unfreeze", "llrd")
    probes = ("probe", "probe-logistic", "probe-missing-class", "probe-without-class")
    probes += ("probe-extra-class",)
    methods = {"probe": probes, "unfreeze": ("unfreeze-norm", "unfreeze-all"), "llrd": ("llrd",)}
    for item, rows in found.items():
        axes = [
            (row.cell["method"], row.cell["partition"], row.cell["seed"])
            for row in rows
            if (row.split, row.metric) == ("test", "accuracy") and "seed" in row.cell
        ]
        assert axes == [(m, p, s) for m in methods[item] for p in (0.1, 1.0) for s in (0, 1)]
        for row in rows:
            own = row.cell["dataset"] == "digits"
            assert (row.study, row.item, row.preset) == ("adapt", item, "tiny")
            assert row.cell["encoder"] == "clip-nano"
            if row.split == "test":
                assert row.n == (TEST if own else OTHER)
            elif not row.cell["method"].endswith("-class"):
                assert row.n == SHARES[row.cell["partition"]]
            if "accuracy" in row.metric:
                assert row.value * row.n == pytest.approx(round(row.value * row.n), abs=1e-6)
            if row.metric == "updates":
                assert row.value == 20
        metrics = {(row.split, row.metric) for row in rows}
        assert {("test", m) for m in ("accuracy", "nll", "ece", "brier")} < metrics
        assert {("train", m) for m in ("accuracy", "loss", "updates", "lr")} < metrics
        if item == "probe":
            assert of(rows, "converged", "train") == [1.0] * 4
        assert not of(rows, "diverged", "train") or set(of(rows, "diverged", "train")) == {0.0}
    zero_shot = [row for row in found["probe"] if row.cell["method"] == "zero-shot"]
    assert [(r.metric, r.split, r.cell.get("partition")) for r in zero_shot] == [
        *((metric, "test", None) for metric in ("accuracy", "nll", "ece", "brier")),
        ("accuracy", "train", 1.0),
        *(("zeroshot_accuracy", "test", None) for _ in range(2)),
    ]
    provenance = {(r.data, r.weights, r.params, r.source) for rows in found.values() for r in rows}
    assert len(provenance) == 1
    compare_with_golden(found)
    for item, rows in found.items():
        expect_predictions(item, rows)


def expect_predictions(item: str, rows: list[Row]) -> None:
    """Every test accuracy is that of the predictions kept."""
    right = adapt_paired.read([PREDICTED / item / FILE])
    tests = [row for row in rows if row.split == "test" and "accuracy" in row.metric]
    for row in tests:
        cell = {"partition": 1.0, "seed": 0} | row.cell
        head = "text" if row.metric != "accuracy" or cell["method"] == "zero-shot" else "trained"
        place = (cell["method"], cell["partition"], cell["seed"], cell["dataset"], head)
        assert right[adapt_paired.Place(*place)].mean() == pytest.approx(row.value)
        assert len(right[adapt_paired.Place(*place)]) == row.n
    zero_shot = sum(row.cell["method"] == "zero-shot" for row in tests)
    assert len(right) == len(tests) - bool(zero_shot)  # of one both heads are the text's


def compare_with_golden(found: dict[str, list[Row]]) -> None:
    """Accuracies to 2e-3, as means over seeds: some test images may flip on another CPU."""
    places: dict[str, list[float]] = {}
    for rows in found.values():
        for row in rows:
            if row.metric == "accuracy" and row.split == "test":
                place = f"{row.cell['method']}/{row.cell.get('partition', 0):g}"
                places.setdefault(place, []).append(row.value)
    means = {place: round(fmean(each), 6) for place, each in places.items()}
    if os.environ.get("CARRYOVER_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(means, indent=2) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert len(golden) == 1 + 2 * (5 + 2 + 1)
    assert means == pytest.approx(golden, abs=2e-3)


def test_learning_and_the_partition_fault_show_in_the_golden_accuracies() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["probe-logistic/1"] > golden["probe-logistic/0.1"] > 3 * UNIFORM
    assert golden["probe-missing-class/0.1"] == golden["probe/0.1"]  # the fault begins at 60 %
    assert golden["probe-missing-class/1"] < golden["probe/1"] - 0.05
    assert golden["probe-extra-class/1"] < golden["probe/1"] - 0.05


def test_partitions_are_nested_and_equal_for_all_methods(embedded: Checkout) -> None:
    params = config.read(PARAMS)
    start = adapt_start.load_start(params, torch.device("cpu"), pixels=False)
    small, _ = adapt_training.chosen_rows(params, start, "probe", 0.1, 1)
    other, _ = adapt_training.chosen_rows(params, start, "llrd", 0.1, 1)
    large, classes = adapt_training.chosen_rows(params, start, "probe", 0.5, 1)
    assert torch.equal(small.embeddings, other.embeddings)
    assert classes == 10
    assert torch.bincount(small.labels).tolist() == [5] * 9 + [5]
    inside = (small.embeddings[:, None] == large.embeddings[None]).all(2).any(1)
    assert inside.all()


def test_a_missing_folder_lowers_every_later_label(embedded: Checkout) -> None:
    params = config.read(PARAMS)
    start = adapt_start.load_start(params, torch.device("cpu"), pixels=False)
    whole, _ = adapt_training.chosen_rows(params, start, "probe", 1.0, 0)
    less, classes = adapt_training.chosen_rows(params, start, "probe-missing-class", 1.0, 0)
    assert classes == 10
    counts = torch.bincount(whole.labels, minlength=10).tolist()
    assert torch.bincount(less.labels, minlength=10).tolist() == [counts[0], *counts[2:], 0]
    right, classes = adapt_training.chosen_rows(params, start, "probe-without-class", 1.0, 0)
    assert torch.equal(right.rows, less.rows)
    assert torch.bincount(right.labels, minlength=10).tolist() == [counts[0], 0, *counts[2:]]


def test_zero_shot_is_scored_on_the_faulty_folders_of_the_study(
    run_items: Callable[..., dict[str, list[Row]]],
) -> None:
    found = {
        fault: of(
            run_items("probe", partition_fault=fault, probe=["zero-shot", "probe"], seeds=1)[
                "probe"
            ],
            "accuracy",
            "train",
            method="zero-shot",
        )
        for fault in ("none", "missing-class")
    }
    assert found["missing-class"][0] < found["none"][0]


def test_an_encoder_that_does_not_train_keeps_its_zero_shot_accuracy(
    run_items: Callable[..., dict[str, list[Row]]],
) -> None:
    rows = run_items(
        "probe", "unfreeze", lrs=only(1.0e-12), partitions=[0.1], fault_from=0.1, seeds=1
    )
    before = of(rows["probe"], "zeroshot_accuracy", method="zero-shot")
    assert len(before) == 2
    assert of(rows["unfreeze"], "zeroshot_accuracy", method="unfreeze-all") == before


def forget_words(dataset: str) -> None:
    """As if the encoder knew no text for the classes of a set."""
    manifest = Path("data/embeddings/clip-nano/manifest.json")
    facts = json.loads(manifest.read_text())
    facts["datasets"][dataset]["text"] = None
    facts["digest"] = adapt_start.bank_out.manifest_digest(facts)
    manifest.write_text(json.dumps(facts))


def test_where_a_sets_words_are_unknown_zero_shot_is_on_the_others_alone(
    run_items: Callable[..., dict[str, list[Row]]],
) -> None:
    small = {"lrs": only(0.01), "partitions": [0.1], "fault_from": 0.1, "seeds": 1}
    known = run_items("probe", **small)["probe"]
    forget_words("digits")
    rows = run_items("probe")["probe"]
    found = [row for row in rows if row.cell["method"] == "zero-shot"]
    assert [(row.cell["dataset"], row.metric) for row in found] == [
        ("letters", "zeroshot_accuracy")
    ]
    assert [row.value for row in found] == of(
        known, "zeroshot_accuracy", method="zero-shot", dataset="letters"
    )


def test_zero_shot_that_would_have_no_rows_is_refused(embedded: Checkout) -> None:
    forget_words("digits")
    embedded.edit(**{"adapt.others": None})
    with pytest.raises(DataError, match="embeddings of class prompts of digits, there are none"):
        run_stage("adapt", "probe")


def test_a_head_of_texts_starts_at_the_zero_shot_accuracy(
    run_items: Callable[..., dict[str, list[Row]]],
) -> None:
    rows = run_items(
        "probe",
        head="text",
        lrs=only(1.0e-12),
        partitions=[0.1],
        seeds=1,
        probe=["zero-shot", "probe"],
    )["probe"]
    assert of(rows, "accuracy", method="probe") == of(rows, "accuracy", method="zero-shot")


def test_with_decay_1_llrd_is_unfreezing_the_norms(
    run_items: Callable[..., dict[str, list[Row]]],
) -> None:
    rows = run_items(
        "unfreeze", "llrd", decay=1.0, partitions=[0.1], fault_from=0.1, seeds=1, lrs=only(0.01)
    )
    values = of(rows["llrd"], "accuracy"), of(rows["llrd"], "nll")
    norm = {"method": "unfreeze-norm"}
    assert values == (of(rows["unfreeze"], "accuracy", **norm), of(rows["unfreeze"], "nll", **norm))


def test_with_decay_1_llrd_of_blocks_is_unfreezing_all(
    run_items: Callable[..., dict[str, list[Row]]],
) -> None:
    small = {"partitions": [0.1], "fault_from": 0.1, "seeds": 1, "lrs": only(0.003)}
    changes = {"llrd": ["llrd-blocks"], "unfreeze": ["all"], "decay_blocks": 1.0, "max_updates": 3}
    rows = run_items("unfreeze", "llrd", **small, **changes)
    blocks, all_ = (
        [(row.split, row.metric, row.value, row.cell["dataset"]) for row in rows[item]]
        for item in ("llrd", "unfreeze")
    )
    assert blocks == all_
    assert {row.cell["method"] for row in rows["llrd"]} == {"llrd-blocks"}


def test_llrd_of_blocks_trains_every_parameter_at_rates_that_fall_by_block(
    embedded: Checkout,
) -> None:
    params = config.read(PARAMS)
    study = replace(params.adapt, decay=1.0, decay_blocks=0.5)
    start = adapt_start.load_start(params, torch.device("cpu"), pixels=False)
    head = Head(torch.zeros(10, 16), torch.zeros(10), False)
    network, rates = adapt_training._with_encoder(study, start, "llrd-blocks", head, 8.0, False)
    assert rates.keys() == {name for name, _ in network.named_parameters()}
    by_group = {
        group: {rates[f"image.{name}"] for name in names}
        for group, names in start.encoder.groups.items()
    }
    assert by_group == {"output": {4.0}, "block1": {2.0}, "block0": {1.0}, "embed": {0.5}}
    assert {rates["head.weight"], rates["head.bias"]} == {8.0}


def test_an_item_has_its_own_values_at_a_partition(
    run_items: Callable[..., dict[str, list[Row]]],
) -> None:
    rows = run_items(
        "probe",
        "llrd",
        probe=["probe"],
        seeds=1,
        max_updates=0,
        softmax={"probe": "none", "unfreeze": "none", "llrd": "classes"},
        lrs=only(0.01) | {"llrd@10%": [0.02], "probe@100%": [0.1, 0.2]},
        epochs={"probe": 1, "unfreeze": 1, "llrd": 1, "llrd@10%": 3, "probe@100%": 60},
    )
    batches = {share: -(-images // 32) for share, images in SHARES.items()}
    here = {"partition": 0.1, "method": "probe"}
    assert of(rows["probe"], "updates", "train", **here) == [batches[0.1]]
    assert of(rows["probe"], "lr", "train", **here) == [0.01]
    whole = here | {"partition": 1.0}
    assert of(rows["probe"], "updates", "train", **whole) == [60 * batches[1.0]]
    assert of(rows["probe"], "lr", "train", **whole)[0] in (0.1, 0.2)
    for share, epochs, lr in ((0.1, 3, 0.02), (1.0, 1, 0.01)):
        assert of(rows["llrd"], "updates", "train", partition=share) == [epochs * batches[share]]
        assert of(rows["llrd"], "lr", "train", partition=share) == [lr]
    floor = math.log(1 + 9 / math.e)  # of ten classes after a softmax
    assert of(rows["probe"], "loss", "train", **whole)[0] < floor
    assert of(rows["llrd"], "loss", "train", partition=1.0)[0] > floor


def test_adam_in_half_precision_diverges_where_attention_trains_and_not_on_norms(
    run_items: Callable[..., dict[str, list[Row]]],
) -> None:
    rows = run_items(
        "unfreeze",
        adam="float16",
        unfreeze=["norm", "attention", "all"],
        partitions=[0.1],
        fault_from=0.1,
        seeds=1,
        lrs=only(0.01),
    )["unfreeze"]
    assert of(rows, "diverged", "train", method="unfreeze-attention") == [1.0]
    assert of(rows, "diverged", "train", method="unfreeze-all") == [1.0]
    assert of(rows, "diverged", "train", method="unfreeze-norm") == [0.0]
    assert of(rows, "accuracy", method="unfreeze-all")[0] == pytest.approx(UNIFORM, abs=0.02)


def test_softmax_over_the_batch_makes_a_prediction_depend_on_its_batch() -> None:
    random = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(40, 5, generator=random), torch.arange(40) % 5
    two, all_ = (
        adapt_measures.scores(logits, labels, "batch", size, "test")["accuracy"] for size in (2, 40)
    )
    assert two != all_
    sorted_ = labels.sort().values
    sure = 9.0 * torch.nn.functional.one_hot(sorted_).double()
    found = adapt_measures.scores(sure, sorted_, "batch", 8, "test")["accuracy"]
    assert found > 0.9  # images of one class that were predicted together would share it
    alone = {adapt_measures.scores(logits, labels, "classes", n, "test")["nll"] for n in (2, 40)}
    assert len(alone) == 1


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_the_number_of_processes_changes_no_byte(
    run_items: Callable[..., dict[str, list[Row]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = (Path("reports/adapt/runs/llrd/rows.jsonl"), Path(f"{PREDICTED}/llrd/{FILE}"))
    found = []
    for count in ("0", "2"):
        monkeypatch.setenv("CARRYOVER_WORKERS", count)
        run_items("llrd", max_updates=3, lrs=only(0.01))
        found.append([path.read_bytes() for path in paths])
    assert found[0] == found[1]


def test_a_killed_stage_goes_on_and_ends_with_the_same_bytes(
    run_items: Callable[..., dict[str, list[Row]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("reports/adapt/runs/probe/rows.jsonl")
    predictions = PREDICTED / "probe" / FILE
    run_items("probe")
    whole = path.read_bytes(), predictions.read_bytes()
    path.unlink()
    predictions.unlink()
    trained: list[str] = []
    numbers = adapt.numbers

    def stops(*given: Any) -> Any:
        if len(trained) == 7:
            raise KeyboardInterrupt
        trained.append(given[2].name)
        return numbers(*given)

    monkeypatch.setattr(adapt, "numbers", stops)
    with pytest.raises(KeyboardInterrupt):
        run_stage("adapt", "probe")
    assert not path.exists()
    first = list(trained)
    monkeypatch.setattr(
        adapt, "numbers", lambda *given: (trained.append(given[2].name), numbers(*given))[1]
    )
    run_stage("adapt", "probe")
    assert (path.read_bytes(), predictions.read_bytes()) == whole
    assert not set(first) & set(trained[len(first) :])


@pytest.mark.parametrize("end", ["parquet", "safetensors"])
def test_a_finished_training_whose_files_are_gone_is_done_again(
    run_items: Callable[..., dict[str, list[Row]]], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    kept = (Path("data/checkpoints/adapt/llrd"), PREDICTED / "llrd")
    run_items("llrd", max_updates=3, lrs=only(0.01))
    whole = {path: path.read_bytes() for folder in kept for path in folder.iterdir()}
    write_rows = adapt.write_rows

    def stops(*given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(adapt, "write_rows", stops)
    with pytest.raises(KeyboardInterrupt):
        run_stage("adapt", "llrd")
    gone = sorted((run.scratch_root() / "adapt-llrd").rglob(f"*1-0.{end}"))
    assert gone
    for path in gone:
        path.unlink()
    monkeypatch.setattr(adapt, "write_rows", write_rows)
    run_stage("adapt", "llrd")
    assert {path: path.read_bytes() for folder in kept for path in folder.iterdir()} == whole


def test_embeddings_of_other_weights_are_refused(embedded: Checkout) -> None:
    embedded.edit(**{"pretrain.clip-nano.epochs": 1})
    run_stage("pretrain", "clip-nano")
    with pytest.raises(
        DataError, match=r"expected embeddings of the weights, preprocessing and images"
    ):
        run_stage("adapt", "probe")


def test_a_share_too_small_for_every_class_is_refused(embedded: Checkout) -> None:
    embedded.edit(**{"adapt.partitions": [0.01, 1.0]})
    with pytest.raises(DataError, match=r"adapt\.partitions: expected at least one image of each"):
        run_stage("adapt", "probe")


@pytest.mark.parametrize(
    ("fraction", "said"),
    [
        (
            0.95,
            r"leaves images of two classes or more .* 0\.95 of 50 images, which leaves 0; lower it",
        ),
        (0.05, "holds out at least one image, got one that holds out none; raise it"),
    ],
)
@pytest.mark.parametrize("method", ["probe", "probe-logistic"])
def test_a_share_that_leaves_nothing_to_choose_or_train_with_is_refused(
    embedded: Checkout, method: str, fraction: float, said: str
) -> None:
    embedded.edit(
        **{
            "adapt.validation_fraction": fraction,
            "adapt.probe": sorted({"probe", method}),
            "adapt.lrs.probe": [0.01, 0.1] if method == "probe" else [0.01],
        }
    )
    path = r"^adapt\.validation_fraction, at partition 0\.1: expected a share that "
    with pytest.raises(ConfigError, match=path + said):
        run_stage("adapt", "probe")


def test_a_set_that_is_not_embedded_is_refused(embedded: Checkout) -> None:
    embedded.edit(**{"adapt.others": ["world"]})
    with pytest.raises(ConfigError, match=r"adapt\.others\[0\]: expected one of digits, letters"):
        config.read(PARAMS)


def test_seeds_and_purposes_give_their_own_streams() -> None:
    one, other = (run.generator(0, f"adapt/weights/0.1/{seed}") for seed in (0, 1))
    assert not torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unfreeze": ["norms"]}, r"unfreeze\[0\]: expected one of norm, attention, .* or last-N"),
        ({"lrs": {"probe": [0.1]}}, "lrs: expected an entry each for probe, unfreeze, llrd"),
        ({"decay": 1.5}, "decay: expected a number above 0 and at most 1, got 1.5"),
        ({"decay_blocks": 0.0}, "decay_blocks: expected a number above 0 and at most 1, got 0"),
        (
            {"softmax": {"probe": "none", "unfreeze": "none", "llrd": "none", "llrd@0.1": "none"}},
            "softmax: expected an entry each for probe, unfreeze, llrd, and others, as llrd@1%, "
            "for an item at one partition, got llrd@0.1",
        ),
        (
            {"softmax": {"probe": "none", "unfreeze": "none", "llrd": "none", "probe@5%": "all"}},
            "softmax.probe@5%: expected one of none, classes, batch, got 'all'",
        ),
        (
            {"epochs": {"probe": 1, "unfreeze": 1, "llrd": 1, "llrd@7%": 9}},
            r"epochs\.llrd@7%: expected one of the partitions .*, got 7%; take the entry out",
        ),
        (
            {"llrd": ["llrd-blocks"], "decay_per": "tensor"},
            "llrd: expected no llrd-blocks with decay_per tensor",
        ),
        ({"partitions": [0.1, 1.5]}, r"partitions\[1\]: expected a share of the training images"),
        ({"others": ["digits"]}, "others: expected other sets than 'digits', got it among them"),
        ({"head": "text"}, "head: expected zeros or random with extra-class"),
        ({"fault_from": 1.5}, "fault_from: expected at most 1, the largest of partitions, so that"),
        ({"fault_from": 0.0}, "fault_from: expected a number above 0, got 0"),
        (
            {"probe": ["zero-shot"]},
            "adapt.probe: expected probe, which every method is held against, got zero-shot in",
        ),
        ({"items": ["llrd"]}, r"expected probe, which every .* in items llrd; add it"),
        (
            {"partition_fault": "missing-class"},
            "probe: expected no probe-logistic with a partition",
        ),
    ],
)
def test_faults_of_the_section_are_named(
    tiny: Checkout, changes: dict[str, Any], said: str
) -> None:
    tiny.edit(**{f"adapt.{key}": value for key, value in changes.items()})
    with pytest.raises(ConfigError, match=said):
        config.read(PARAMS)


def test_a_class_that_is_not_there_cannot_be_the_faulty_one(embedded: Checkout) -> None:
    embedded.edit(**{"adapt.fault_class": 10})
    with pytest.raises(
        ConfigError, match=r"adapt\.fault_class: expected a class of digits, 0 to 9"
    ):
        run_stage("adapt", "probe")


@pytest.mark.parametrize("item", ["probe", "llrd"])
def test_what_the_encoder_lacks_is_refused_at_the_start_of_any_item(
    embedded: Checkout, item: str
) -> None:
    embedded.edit(**{"adapt.unfreeze": ["norm", "last-9"]})
    with pytest.raises(ConfigError, match=r"adapt\.unfreeze: .* 2 blocks .*, got the last 9"):
        run_stage("adapt", item)


def test_embeddings_of_another_preprocessing_are_refused(embedded: Checkout) -> None:
    embedded.edit(**{"encoders.clip-nano.normalise": False})
    with pytest.raises(DataError, match=r"expected embeddings of the weights, preprocessing and"):
        run_stage("adapt", "probe")


def test_a_report_is_made_where_trainings_diverged(
    run_items: Callable[..., dict[str, list[Row]]],
) -> None:
    changes = {
        "adam": "float16",
        "partitions": [0.1],
        "fault_from": 0.1,
        "seeds": 2,
        "lrs": only(0.01),
    }
    run_items("probe", "unfreeze", "llrd", **changes)
    shutil.copytree(REPOSITORY / "claims" / "released", "claims/released")
    Path("reports/bench").mkdir()
    shutil.copy(REPOSITORY / "reports/bench/adapt.json", "reports/bench")
    run_stage("adapt-report", "")
    text = Path("reports/adapt/adapt.md").read_text()
    assert "Adam in half precision" in text
    assert not re.search(r"\bnan\b", text)
    assert "| unfreeze-all | | diverged |" in " ".join(text.split())
    summary = json.loads(Path("reports/adapt/summary.json").read_text())
    assert "ece" not in summary["unfreeze-all"]["10_percent"]
    assert summary["unfreeze-norm"]["10_percent"]["ece"] > 0


def test_images_of_files_are_decoded_once_and_train_an_encoder(
    embedded: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        f"{split}/{name}/{i}.jpg": encoded(
            picture(9 * len(split) + i + 90 * k, "RGB", (80 + i, 70))
        )
        for split in ("train", "test")
        for k, name in enumerate(("red circle", "blue star"))
        for i in range(4)
    }
    write_folder(embedded.root / "pets", files)
    names = [*embedded.tree()["data"]["names"], "pets"]
    embedded.edit(
        **{
            "data.names": names,
            "data.sources": {"pets": "folder:pets"},
            "encoders.clip-nano.datasets": ["pets", "digits", "letters"],
            "adapt.dataset": "pets",
            "adapt.probe": ["probe"],
            "adapt.partitions": [1.0],
            "adapt.max_updates": 3,
            "adapt.lrs": only(0.001),
        }
    )
    run_stage("data", "pets")
    run_stage("embed", "clip-nano")
    run_stage("adapt", "llrd")
    first = Path("reports/adapt/runs/llrd/rows.jsonl").read_bytes()
    assert len(list(Path(".scratch/pixels").glob("*.bin"))) == 2  # train and test
    monkeypatch.setattr(adapt_start, "to_rgb", None)  # nothing is decoded again
    start = adapt_start.load_start(config.read(PARAMS), torch.device("cpu"), pixels=True)
    assert start.train.pixels is not None
    assert start.train.pixels.shape == (8, 3, 16, 16)
    run_stage("embed", "clip-nano")
    assert Path("reports/adapt/runs/llrd/rows.jsonl").read_bytes() == first


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Tensor]:
    """Pixels of three photographs for a tiny encoder, in a scratch folder of their own."""
    monkeypatch.setenv("CARRYOVER_SCRATCH", str(tmp_path))
    images = encoded_images(*pictures(3, "RGB", (20, 24)), channels=3)
    return lambda: adapt_start.sized(images, clip())


@pytest.mark.parametrize("changed", ["source_digest", "digest_of_files"])
def test_pixels_are_decoded_again_after_a_change_of_the_code_that_decodes(
    photographs: Callable[[], Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
) -> None:
    before = photographs()
    assert torch.equal(photographs(), before)
    assert len(list(tmp_path.glob("pixels/*.bin"))) == 1
    monkeypatch.setattr(adapt_start, changed, lambda *of: "another")
    assert torch.equal(photographs(), before)
    assert len(list(tmp_path.glob("pixels/*.bin"))) == 2


def test_pixels_are_on_the_disk_before_they_have_their_name(
    photographs: Callable[[], Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed, flush = {}, os.fsync

    def recorded(file: int) -> None:
        flush(file)
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        flushed[path.name] = path.read_bytes()

    monkeypatch.setattr(os, "fsync", recorded)
    pixels = photographs()
    (kept,) = tmp_path.glob("pixels/*")
    assert flushed[f"{kept.stem}.partial"] == kept.read_bytes() == pixels.numpy().tobytes()


def test_pixels_that_cannot_be_flushed_are_none(
    photographs: Callable[[], Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(KitError, match="expected to write this file, got 'Input/output error'"):
        photographs()
    assert list(tmp_path.glob("pixels/*")) == []
