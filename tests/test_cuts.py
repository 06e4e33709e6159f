"""The cut study on ``tests/params.yaml``.

After a change that is meant to move its numbers: ``CARRYOVER_WRITE_GOLDEN=1 pytest
tests/test_cuts.py -k golden`` writes ``tests/golden/cuts.json`` anew; the commit says why.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from carryover import transfer
from carryover.adapt.cut import cut_network
from carryover.config import params as config
from carryover.errors import ConfigError, DataError, KitError
from carryover.prefix import Prefix, extended
from carryover.rows import Row, read_rows
from carryover.scratch import alone
from carryover.stages import run_stage
from carryover.studies import cuts
from conftest import Checkout

GOLDEN = Path(__file__).parent / "golden" / "cuts.json"
SETTINGS = ("fr", "ft", "baseline")
IMAGES = {0.05: 10, 1.0: 239}  # 2 of each of five classes; all that validation leaves
TEST, VALIDATION = 627, 26


def rows_of(item: str) -> list[Row]:
    return read_rows(Path("reports/cuts/runs") / item / "rows.jsonl")


def values(rows: list[Row], cut: int) -> list[tuple[Any, ...]]:
    """What was measured at a cut, without the cut and the setting."""
    return [
        (row.cell["fraction"], row.cell["repeat"], row.split, row.metric, row.value, row.n)
        for row in rows
        if row.cell["cut"] == cut
    ]


@pytest.fixture
def run_settings(pretrained: Checkout) -> Callable[..., dict[str, list[Row]]]:
    """Run settings of the tiny study with some keys changed; their rows."""

    def rows(*settings: str, **changes: Any) -> dict[str, list[Row]]:
        if changes:
            pretrained.edit(**changes)
        for setting in settings:
            run_stage("cuts", setting)
        return {setting: rows_of(setting) for setting in settings}

    return rows


def test_every_cell_has_its_rows_with_their_n(
    run_settings: Callable[..., dict[str, list[Row]]],
) -> None:
    found = run_settings(*SETTINGS)
    for setting, rows in found.items():
        depths = (cuts.BASELINE_CUT,) if setting == "baseline" else (0, 3, 6)
        axes = [tuple(row.cell.values())[1:] for row in rows if row.split == "test"]
        assert axes == [(f, cut, r) for f in (0.05, 1.0) for cut in depths for r in (0, 1)]
        kinds = {(row.split, row.metric) for row in rows}
        accuracies = {("train", "accuracy"), ("validation", "accuracy"), ("test", "accuracy")}
        assert kinds == accuracies | {("train", "updates")}
        assert len(rows) == len(axes) * len(kinds)
        for row in rows:
            counts = {"test": TEST, "validation": VALIDATION, "train": IMAGES[row.cell["fraction"]]}
            assert row.n == counts[row.split]
            assert (row.study, row.item, row.preset) == ("cuts", setting, "tiny")
            if row.metric == "updates":
                assert row.value == 40
            else:
                assert row.value * row.n == pytest.approx(round(row.value * row.n), abs=1e-9)
    provenance = {(r.data, r.weights, r.params, r.source) for rows in found.values() for r in rows}
    assert len(provenance) == 1
    assert values(found["fr"], 6) == values(found["ft"], 6)  # one experiment at full depth
    assert values(found["fr"], 0) != values(found["baseline"], -1)  # by purpose: other weights
    compare_with_golden(found)


def compare_with_golden(found: dict[str, list[Row]]) -> None:
    """Accuracies to 1e-3, as means over repeats: one test image may flip on another CPU."""
    means: dict[str, float] = {}
    for setting, rows in found.items():
        places: dict[str, list[float]] = {}
        for row in rows:
            if row.metric == "accuracy":
                place = f"{setting}/{row.cell['fraction']:g}/{row.cell['cut']}/{row.split}"
                places.setdefault(place, []).append(row.value)
        means |= {place: round(fmean(each), 6) for place, each in places.items()}
    if os.environ.get("CARRYOVER_WRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(means, indent=2) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert len(golden) == 2 * (3 + 3 + 1) * 3
    assert means == pytest.approx(golden, abs=1e-3)


def test_learning_shows_in_the_golden_accuracies() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["ft/1/0/test"] > 0.7  # a linear layer on the pixels; chance is 0.2
    assert golden["ft/1/0/test"] > golden["ft/0.05/0/test"]


def test_as_published_the_baseline_is_fr_at_cut_0(
    run_settings: Callable[..., dict[str, list[Row]]],
) -> None:
    """Trained first, since a baseline is not trained where FR at cut 0 has been."""
    rows = run_settings("baseline", "fr", **{"cuts.seeding": "repeat", "cuts.max_updates": 10})
    assert values(rows["fr"], 0) == values(rows["baseline"], -1)
    assert len(values(rows["fr"], 0)) == 16


def test_with_nothing_frozen_or_reset_all_cuts_are_equal(
    run_settings: Callable[..., dict[str, list[Row]]],
) -> None:
    changes = {"cuts.settings": ["none", "fr", "baseline"], "cuts.max_updates": 5}
    rows = run_settings("none", **changes)["none"]
    assert values(rows, 0) == values(rows, 3) == values(rows, 6)
    assert len(values(rows, 0)) == 16


def test_accuracy_on_training_images_as_published(
    run_settings: Callable[..., dict[str, list[Row]]],
) -> None:
    changes = {"cuts.settings": ["fr", "baseline"], "cuts.max_updates": 2, "cuts.test_on": "train"}
    rows = run_settings("baseline", **changes)["baseline"]
    assert {row.n for row in rows if row.split == "test"} == {269}  # all of train


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_the_number_of_processes_changes_no_byte(
    run_settings: Callable[..., dict[str, list[Row]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("reports/cuts/runs/ft/rows.jsonl")
    found = []
    for count in ("0", "1", "2"):
        monkeypatch.setenv("CARRYOVER_WORKERS", count)
        run_settings("ft", **{"cuts.max_updates": 5})
        found.append(path.read_bytes())
    assert found[0] == found[1] == found[2]


def test_frozen_tensors_stay_bit_for_bit(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = config.read(Path("params.yaml"))
    task = transfer.load_task(params, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in task.start.state_dict().items()}
    trained = []

    def cut(*arguments: Any, **options: Any) -> torch.nn.Sequential:
        trained.append(cut_network(*arguments, **options))
        return trained[-1]

    monkeypatch.setattr(transfer, "cut_network", cut)
    for setting in ("fr", "f", "r"):
        prefix = extended(
            Prefix(0, task.images), task.start, 0 if setting == "r" else 3, "float32", 0
        )
        cuts.train(params, setting, task, prefix, [(0.05, 3, 0)], Path("snapshot.pt"))
    after = task.start.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    names = [[name for name, _ in network.named_children()] for network in trained]
    assert not {"conv0", "conv1", "conv2"} & {*names[0], *names[1]}  # frozen: computed before
    moved = trained[2].get_submodule("conv0").weight.detach()
    assert not torch.equal(moved, before["conv0.weight"])


def test_all_settings_of_a_repeat_see_the_same_images(tiny: Checkout) -> None:
    params = config.read(Path("params.yaml"))
    states = {
        setting: transfer.generators(params, setting, 0.05, 1)[0].get_state().tolist()
        for setting in SETTINGS
    }
    assert states["fr"] == states["ft"] == states["baseline"]
    assert states["fr"] != transfer.generators(params, "fr", 0.05, 0)[0].get_state().tolist()


def test_a_run_killed_half_way_goes_on_to_the_same_bytes(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained.edit(**{"cuts.epochs": 120, "cuts.max_updates": 120})  # time to be killed in
    path = Path("reports/cuts/runs/fr/rows.jsonl")
    command = pretrained.command("run", "cuts", "--item", "fr")
    with monkeypatch.context() as patch:
        patch.setenv("CARRYOVER_SCRATCH", "other-scratch")
        run_stage("cuts", "fr")
    expected = path.read_bytes()
    path.unlink()
    process = subprocess.Popen(
        command, env=pretrained.environment(CARRYOVER_WORKERS="1"), start_new_session=True
    )
    done, deadline = 0, time.monotonic() + 60
    while not 2 <= done < 12:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
        done = sum(p.read_text().count("\n") for p in Path(".scratch").glob("cuts-fr/*/*.jsonl"))
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not path.exists()
    run_stage("cuts", "fr")
    assert path.read_bytes() == expected
    assert not list(Path(".scratch").glob("cuts-fr/*/cells.jsonl"))
    told = json.loads(Path(".logs/cuts-fr.jsonl").read_text().splitlines()[-1])
    assert 0 < told["cells"] <= 12 - done  # only the rest was trained


def test_parameters_edited_meanwhile_leave_no_rows(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(*_: Any) -> Any:
        pretrained.edit(**{"cuts.lr": 0.5})
        return real(*_)

    real = cuts.train
    monkeypatch.setattr(cuts, "train", edit)
    with pytest.raises(ConfigError, match="expected seed, cuts to stay as they were"):
        run_stage("cuts", "baseline")
    assert not Path("reports").exists()


def test_a_second_run_of_a_stage_is_refused(pretrained: Checkout) -> None:
    with (
        alone("cuts@fr.lock", "test"),
        pytest.raises(
            KitError, match=f"only `carryover run` of cuts@fr here, process {os.getpid()}"
        ),
    ):
        run_stage("cuts", "fr")


def test_altered_weights_are_refused(pretrained: Checkout) -> None:
    path = Path("data/models/cnn6-digits-0-4/weights.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"weights\.safetensors: expected digest .*was altered"):
        run_stage("cuts", "fr")


def test_a_fraction_too_small_for_one_image_a_class_is_refused(pretrained: Checkout) -> None:
    pretrained.edit(**{"cuts.fractions": [0.001, 1.0]})
    with pytest.raises(DataError, match=r"at least one image a class, got none from 0\.001"):
        run_stage("cuts", "fr")
    assert not Path("reports").exists()


def test_fractions_of_equally_many_images_are_refused_before_training(tiny: Checkout) -> None:
    labels = torch.arange(5).repeat_interleave(80)
    study = config.read(Path("params.yaml")).cuts
    transfer.refuse_fractions(study, labels)
    twice = dataclasses.replace(study, fractions=(0.05, 0.0501))
    with pytest.raises(ConfigError, match=r"got 20 from both 0\.05 and 0\.0501; take one out"):
        transfer.refuse_fractions(twice, labels)


def test_kept_layers_train_at_their_own_rate(pretrained: Checkout) -> None:
    """Nearly no rate for what is kept: only the head moves it away from the source network."""
    pretrained.edit(**{"cuts.lr_kept": 1e-9, "cuts.settings": ["f", "baseline"]})
    params = config.read(Path("params.yaml"))
    task = transfer.load_task(params, torch.device("cpu"))
    training = transfer.prepared(params, "f", task, Prefix(0, task.images), (1.0, 3, 0))
    assert training.lrs["conv4"] == 1e-9
    assert training.lrs["linear"] == 0.02
    head = training.network.get_submodule("linear").weight.detach().clone()
    cuts.fit_one(params.cuts, training, Path("snapshot.pt"))
    moved = (
        training.network.get_submodule("conv4").weight - task.start.get_submodule("conv4").weight
    )
    assert 0 < moved.detach().abs().max() < 1e-5
    assert (training.network.get_submodule("linear").weight - head).detach().abs().max() > 0.01


def test_validation_images_may_be_as_few_as_the_training_images(pretrained: Checkout) -> None:
    pretrained.edit(**{"cuts.validation_images": "fraction"})
    run_stage("cuts", "fr")
    found = {
        (row.cell["fraction"], row.n)
        for row in rows_of("fr")
        if (row.split, row.metric) == ("validation", "accuracy")
    }
    assert found == {(0.05, 5), (1.0, VALIDATION - 1)}  # one a class; as many of each class


def test_bfloat16_is_close_and_says_so(pretrained: Checkout) -> None:
    run_stage("cuts", "fr")
    exact = rows_of("fr")
    pretrained.edit(**{"cuts.precision": "bfloat16"})
    run_stage("cuts", "fr")
    close = rows_of("fr")
    assert {row.precision for row in exact} == {"float32"}
    assert {row.precision for row in close} == {"bfloat16"}
    a, b = ([row.value for row in rows if row.split == "test"] for rows in (exact, close))
    assert a != b
    assert fmean(a) == pytest.approx(fmean(b), abs=0.05)


def test_heads_alone_train_together_on_a_cpu_and_networks_do_not(pretrained: Checkout) -> None:
    params = config.read(Path("params.yaml"))
    task = transfer.load_task(params, torch.device("cpu"))
    prefix = extended(Prefix(0, task.images), task.start, 6, "float32", 0)
    full = [(fraction, 6, repeat) for fraction in (1.0, 0.05) for repeat in (0, 1)]
    together = cuts.units(params.cuts, "fr", task, prefix, full)
    assert together == [tuple(full[:2]), tuple(full[2:])]
    half = [(fraction, 3, repeat) for fraction, _, repeat in full]
    assert cuts.units(params.cuts, "fr", task, prefix, half) == [(cell,) for cell in half]
    assert len(cuts.units(params.cuts, "r", task, prefix, full)) == 4
    alone = [cuts.train(params, "fr", task, prefix, [cell], Path("none.pt"))[0] for cell in full]
    stacked = [
        n for unit in together for n in cuts.train(params, "fr", task, prefix, unit, Path("n"))
    ]
    for a, b in zip(alone, stacked, strict=True):
        assert [entry[:2] for entry in a] == [entry[:2] for entry in b]
        assert [entry[2] for entry in a] == pytest.approx([entry[2] for entry in b], abs=1e-5)


def test_heads_that_take_large_batches_or_many_numbers_train_alone(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = config.read(Path("params.yaml"))
    task = transfer.load_task(params, torch.device("cpu"))
    prefix = extended(Prefix(0, task.images), task.start, 6, "float32", 0)
    cells = [(1.0, 6, repeat) for repeat in range(5)]

    def sizes() -> list[int]:
        return [len(unit) for unit in cuts.units(params.cuts, "fr", task, prefix, cells)]

    assert sizes() == [4, 1]
    monkeypatch.setattr(cuts, "HEAD_BATCH", params.cuts.batch_size - 1)
    assert sizes() == [1] * 5
    monkeypatch.undo()
    of_one = task.parts["train"].stop * prefix.values[0].numel()
    monkeypatch.setattr(cuts, "STACKED_VALUES", 2 * of_one)
    assert sizes() == [2, 2, 1]


def test_on_a_gpu_as_many_train_together_as_there_is_room_for(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = config.read(Path("params.yaml"))
    task = transfer.load_task(params, torch.device("cpu"))
    cells = [(1.0, 0, repeat) for repeat in range(5)]
    prefix = Prefix(0, task.images)
    images = min(params.cuts.batch_size, task.parts["train"].stop)
    monkeypatch.setattr(cuts, "STACKED_VALUES", 2 * images * 4 * 64)  # 4 channels of 8 x 8
    elsewhere = dataclasses.replace(task, images=task.images.to("meta"))
    assert [len(unit) for unit in cuts.units(params.cuts, "fr", elsewhere, prefix, cells)] == [
        2,
        2,
        1,
    ]


def test_tested_on_training_images_the_set_is_the_whole_training_part(
    pretrained: Checkout,
) -> None:
    """Of the target's classes: what networks train on, and behind it what they validate on."""
    pretrained.edit(**{"cuts.test_on": "train"})
    params = config.read(Path("params.yaml"))
    task = transfer.load_task(params, torch.device("cpu"))
    assert task.parts["test"] == slice(0, task.parts["validation"].stop)
    assert len(task.labels) == task.parts["test"].stop
    assert task.parts["train"].stop == task.parts["validation"].start
