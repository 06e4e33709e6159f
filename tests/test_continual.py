"""The continual study on ``tests/params.yaml``.

After a change that is meant to move its numbers: ``CARRYOVER_WRITE_GOLDEN=1 pytest
tests/test_continual.py -k every_cell`` writes ``tests/golden/continual.json`` anew; the commit says
why.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from carryover import continual_rates, continual_start, continual_training, run
from carryover.adapt.avalanche import STRATEGIES
from carryover.adapt.avalanche_parts import Watch
from carryover.bank_files import mapped, written
from carryover.config import params as config
from carryover.continual_drawn import read_drawn
from carryover.continual_features import fitted
from carryover.continual_measures import measured
from carryover.continual_pools import Pool
from carryover.continual_training import Cell, Trained
from carryover.data.streams import Stream, Task
from carryover.errors import ConfigError, DataError
from carryover.rows import Row, read_rows
from carryover.stages import PARAMS, run_stage
from carryover.studies import continual
from conftest import TINY, Checkout, make_checkout

GOLDEN = Path(__file__).parent / "golden" / "continual.json"
TRAIN, TEST = 539, 1258
RUNS, PREDICTIONS = Path("reports/continual/runs"), Path("data/predictions/continual")
CHECKPOINTS = Path("data/checkpoints/continual")
CPU = torch.device("cpu")


def rows_of(item: str) -> list[Row]:
    return read_rows(RUNS / item / "rows.jsonl")


def drawn_of(item: str) -> list[Any]:
    return list(read_drawn(RUNS / item / "drawn.jsonl"))


def drawn(item: str, metric: str, **axes: Any) -> list[float]:
    """Values of what figures alone read, at some axes."""
    return [
        value
        for cell, (_, name, at, value, _) in drawn_of(item)
        if name == metric and axes.items() <= (cell | at).items()
    ]


def of(rows: list[Row], metric: str, split: str = "test", **axes: Any) -> list[float]:
    """Values of a metric at some axes."""
    return [
        row.value
        for row in rows
        if (row.metric, row.split) == (metric, split)
        and all(row.cell.get(axis) == value for axis, value in axes.items())
    ]


def only(checkout: Checkout, *arms: str, **changes: Any) -> None:
    """Leave some arms of the tiny study, with some keys of each changed; one seed."""
    tree = checkout.tree()["continual"]["arms"]
    kept = {name: tree[name] | changes for name in arms}
    items = sorted({arm["trains"] for arm in kept.values()})
    checkout.edit(**{"continual.arms": kept, "continual.items": items, "continual.seeds": 1})


@pytest.fixture(scope="session")
def whole_once(tmp_path_factory: pytest.TempPathFactory, embedded_once: Path) -> Path:
    """The tiny checkout after all items of its study."""
    found = make_checkout(tmp_path_factory.mktemp("whole") / "checkout", TINY)
    shutil.copytree(embedded_once, found.root / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.root)
        for name, value in {"QUIET": "1", "DEVICE": "cpu", "WORKERS": "0"}.items():
            patch.setenv(f"CARRYOVER_{name}", value)
        for item in ("frozen", "partly", "unfrozen"):
            run_stage("continual", item)
    return found.root


@pytest.fixture
def whole(whole_once: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Row]]:
    """Rows of all items; the current folder is where they were made."""
    monkeypatch.chdir(whole_once)
    monkeypatch.setenv("CARRYOVER_QUIET", "1")
    return {item: rows_of(item) for item in ("frozen", "partly", "unfrozen")}


def test_every_cell_has_its_rows_predictions_and_weights(whole: dict[str, list[Row]]) -> None:
    arms = config.read(PARAMS).continual.arms
    for item, rows in whole.items():
        places = [
            (row.cell["protocol"], row.cell["strategy"], row.cell["features"], row.cell["seed"])
            for row in rows
            if row.metric == "lr"
        ]
        assert places == [
            (protocol, strategy, arm.features, seed)
            for arm in arms.values()
            if arm.trains == item
            for _, protocol, strategy in arm.cells()
            for seed in (0, 1)
        ]
        for row in rows:
            assert (row.study, row.preset, row.precision) == ("continual", "tiny", "float32")
            assert row.item == item or (item, row.item) == ("frozen", "features")
            assert row.cell.get("freeze") == (
                "embed..embed" if "strategy" in row.cell and item == "partly" else None
            )
            if row.metric == "accuracy" and row.item != "features":
                assert row.n == TEST * (2 if row.cell["protocol"] == "rotated-2" else 1)
            if row.metric == "diverged":
                assert row.value == 0
        kept = pq.read_table(PREDICTIONS / item / "predictions.parquet")
        assert set(kept.column_names) == {
            *("stream", "protocol", "strategy", "features", "head", "encoder", "freeze", "seed"),
            *("experience", "task", "id", "label", "prediction"),
            *("label_probability", "prediction_probability"),
        }
        table = kept.to_pylist()
        for row in rows:
            if row.metric != "accuracy" or row.item == "features":
                continue
            cell = {"freeze": ""} | row.cell
            right = [
                r["label"] == r["prediction"]
                for r in table
                if all(r[axis] == value for axis, value in cell.items())
            ]
            assert (len(right), fmean(right)) == (row.n, pytest.approx(row.value, abs=1e-12))
        weights = sorted(path.name for path in (CHECKPOINTS / item).glob("*.safetensors"))
        assert len(weights) == len(places)  # of both seeds
        layers = [path.name for path in sorted((CHECKPOINTS / item / "layers").glob("*"))]
        first = [name for name in weights if name.endswith("_0.safetensors")]
        assert layers == ([] if item == "frozen" else first)
        epochs = [n for n in drawn_of(item) if n[1][1] == "epoch_loss"]
        for row in rows:
            if row.metric == "loss":
                time = row.cell["experience"]
                here = [n for n in epochs if n[0] | {"experience": time} == row.cell]
                ends = [value for _, (*_, at, value, _) in here if at["experience"] == time]
                assert ends[-1] == pytest.approx(row.value, abs=1e-6)
    provenance = {(r.weights, r.params, r.source) for rows in whole.values() for r in rows}
    assert len(provenance) == 1
    compare_with_golden(whole)


def compare_with_golden(found: dict[str, list[Row]]) -> None:
    """Accuracies at the end to 5e-3, as means over seeds: images may flip on another CPU."""
    places: dict[str, list[float]] = {}
    for rows in found.values():
        for row in rows:
            if row.metric == "accuracy" and row.split == "test":
                axes = ("protocol", "strategy", "features", "experience")
                place = "/".join(str(row.cell.get(axis, "")) for axis in axes)
                places.setdefault(f"{row.item}/{place}", []).append(row.value)
    means = {place: round(fmean(each), 6) for place, each in places.items()}
    if os.environ.get("CARRYOVER_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(means, indent=2) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert means == pytest.approx(golden, abs=5e-3)


def test_learning_and_forgetting_show_in_the_golden_accuracies() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["frozen/ni-2/naive/tokens/1"] > golden["frozen/ni-2/naive/tokens/-1"] + 0.3
    assert golden["frozen/ni-2/naive/tokens/0"] == golden["frozen/ni-2/ewc/tokens/0"]
    assert golden["frozen/ci-5/naive/tokens/4"] < golden["frozen/ci-5/joint/tokens/4"] - 0.2


def test_measures_of_a_stream_are_those_of_its_accuracy_matrix(
    whole: dict[str, list[Row]],
) -> None:
    rows, cell = whole["frozen"], {"protocol": "ci-5", "strategy": "naive", "seed": 0}
    r = {
        (e, t): of(rows, "task_accuracy", experience=e, task=t, **cell)[0]
        for e in range(-1, 5)
        for t in range(5)
    }
    ends = [max(r[e, t] for e in range(t, 4)) - r[4, t] for t in range(4)]
    assert of(rows, "forgetting", **cell) == [pytest.approx(fmean(ends))]
    back = fmean(r[4, t] - r[t, t] for t in range(4))
    assert of(rows, "backward_transfer", **cell) == [pytest.approx(back)]
    forth = fmean(r[t - 1, t] - r[-1, t] for t in range(1, 5))
    assert of(rows, "forward_transfer", **cell) == [pytest.approx(forth)]
    assert of(rows, "average_accuracy", **cell) == [pytest.approx(fmean(r[4, t] for t in range(5)))]
    assert of(rows, "stream_forgetting", experience=4, **cell) == [pytest.approx(-back)]
    assert of(rows, "StreamForgetting", experience=4, **cell) == [pytest.approx(-back, abs=1e-6)]
    assert not of(rows, "forgetting", protocol="ni-2")
    assert not of(rows, "forgetting", strategy="joint")
    assert of(rows, "average_accuracy", strategy="joint", seed=0)


def test_trained_encoders_move_away_from_themselves_and_frozen_layers_do_not(
    whole: dict[str, list[Row]],
) -> None:
    partly = of(whole["partly"], "cka", strategy="naive", experience=1, seed=0)
    assert partly[0] == pytest.approx(1, abs=1e-9)
    assert partly[-1] < 0.999
    low = drawn("partly", "cka_low", experience=1, seed=0)
    high = drawn("partly", "cka_high", experience=1, seed=0)
    assert all(a <= b + 1e-6 <= c + 2e-6 for a, b, c in zip(low, partly, high, strict=True))
    assert not drawn("partly", "cka_low", seed=1)
    pairs = drawn("partly", "cka_pair", seed=0)
    assert len(pairs) == len(partly) ** 2
    assert pairs[:: len(partly) + 1] == pytest.approx(partly, abs=1e-6)
    assert len(drawn("partly", "cka", experience=0, seed=1)) == len(partly)
    same = of(whole["partly"], "cka", protocol="untrained")
    assert same == pytest.approx([1] * len(partly), abs=1e-9)
    assert len(of(whole["partly"], "published_cka", "train", protocol="untrained")) == len(partly)


def test_trainings_are_told_what_becomes_of_the_optimisers_state() -> None:
    study = replace(config.read(PARAMS).continual, optimiser_state="reset")
    for arm in study.arms.values():
        for strategy in arm.strategies or ():
            told = continual_training.settings(study, arm, strategy)
            assert told.optimiser_state == "reset"


def test_models_as_loaded_are_compared_on_the_stream_that_is_named(embedded: Checkout) -> None:
    tree = embedded.tree()["continual"]
    arm, sets = tree["arms"]["first"], {"s-digits": ["digits"], "s-letters": ["letters"]}
    both = arm | {"streams": ["s-digits", "s-letters"]}
    embedded.edit(**{"continual.arms": {"first": both}, "continual.items": ["partly"]})
    embedded.edit(**{"continual.streams": sets, "continual.seeds": 1})
    found = {}
    for name in (None, "s-letters"):
        embedded.edit(**{"continual.cka.untrained_stream": name})
        run_stage("continual", "partly")
        rows = rows_of("partly")
        found[name] = [row for row in rows if row.cell["protocol"] == "untrained"]
        assert {row.cell["stream"] for row in rows if row.metric == "lr"} == {*sets}
    assert {row.cell["stream"] for row in found[None]} == {"s-digits"}
    assert {row.cell["stream"] for row in found["s-letters"]} == {"s-letters"}
    first, other = (
        [row.value for row in rows if row.metric == "published_cka"] for rows in found.values()
    )
    assert first != other
    assert {row.params for rows in found.values() for row in rows} == {found[None][0].params}


def test_a_checkpoint_holds_what_trained(whole: dict[str, list[Row]]) -> None:
    for item, rows in whole.items():
        for path in (CHECKPOINTS / item).glob("*.safetensors"):
            arm, _, protocol, strategy, seed = path.stem.split("_")
            if seed != "0":  # their rows have no count
                continue
            count = sum(value.numel() for value in load_file(path).values())
            axes = {"protocol": protocol, "strategy": strategy, "seed": 0}
            assert of(rows, "trained_parameters", "train", **axes) == [count], arm


def test_a_rate_is_chosen_on_held_out_training_images(whole: dict[str, list[Row]]) -> None:
    rates = of(whole["frozen"], "lr", "train", protocol="ci-5", strategy="joint")
    assert rates in ([0.01, 0.01], [0.1, 0.1])
    params = config.read(PARAMS)
    start = continual_start.load_start(params, "frozen", CPU)
    pool = start.pool(params.continual, "s-digits", "ci-5")
    tried = continual_training.train(
        params, start, Cell("classes", "s-digits", "ci-5", "joint", 0, 0.1), 0.1, Path()
    )
    tested = torch.cat([task.test for task in tried.stream.tasks])
    trained = torch.cat([task.train for task in tried.stream.tasks])
    assert not pool.test[tested].any()
    assert not set(tested.tolist()) & set(trained.tolist())
    assert len(tested) + len(trained) == TRAIN


def test_rates_are_walked_from_the_middle_until_the_best_lies_between_two(
    tiny: Checkout,
) -> None:
    only(tiny, "classes", strategies=["naive"], lrs=[0.001, 0.003, 0.01, 0.03, 0.1, 0.3])
    study = config.read(PARAMS).continual
    score = {0.001: 0.1, 0.003: 0.4, 0.01: 0.5, 0.03: 0.6, 0.1: 0.7, 0.3: 0.2}
    done: dict[str, Any] = {}
    tried = []
    while left := continual_rates.to_try(study, "frozen", done):
        tried.append([cell.lr for cell in left])
        done |= {cell.name: [score[cell.lr], -1.0] for cell in left}
    assert tried == [[0.01, 0.03, 0.1], [0.3]]
    place = ("classes", "s-digits", "ci-5", "naive")
    assert continual_rates.chosen(study, "frozen", done) == {place: 0.1}
    done = {name: [found[0] * 0, -0.5] for name, found in done.items()}  # the largest of equals
    assert continual_rates.to_try(study, "frozen", done) == []
    assert continual_rates.chosen(study, "frozen", done) == {place: 0.3}
    only(tiny, "classes", strategies=["naive"], lrs=[0.05])
    single = config.read(PARAMS).continual
    assert continual_rates.to_try(single, "frozen", {}) == []
    assert continual_rates.chosen(single, "frozen", {}) == {place: 0.05}


def test_an_arm_has_its_own_order_of_images(embedded: Checkout) -> None:
    only(embedded, "first", strategies=["naive"])
    params = config.read(PARAMS)
    start = continual_start.load_start(params, "partly", CPU)

    def chunk(seed: int) -> list[int]:
        cell = Cell("first", "s-digits", "ni-2", "naive", seed)
        made = continual_training.stream_for(config.read(PARAMS), start, cell)
        return list(made.tasks[0].train.tolist())

    drawn = chunk(0)
    assert drawn != chunk(1)
    only(embedded, "first", strategies=["naive"], stream_seed=42)
    fixed = chunk(0)
    assert fixed == chunk(1) != drawn
    only(embedded, "first", strategies=["naive"], shuffle=False)
    assert chunk(0) == chunk(1) != fixed


def test_an_arm_with_no_strategies_is_left_out_and_moves_no_row_of_others(
    embedded: Checkout,
) -> None:
    only(embedded, "chunks", "turned", strategies=["naive"])
    run_stage("continual", "frozen")
    whole = rows_of("frozen")
    embedded.edit(**{"continual.arms.turned.strategies": None})
    assert [*continual_start.load_start(config.read(PARAMS), "frozen", CPU).pools] == [
        ("s-digits", "")
    ]
    run_stage("continual", "frozen")
    others = [row for row in whole if row.cell.get("protocol") != "rotated-2"]
    assert 0 < len(others) < len(whole)
    assert rows_of("frozen") == others  # their digest of parameters too


def test_streamed_tokens_take_no_more_memory_than_is_said(tmp_path: Path) -> None:
    path, rows = tmp_path / "tokens.safetensors", 1000  # 150 kB a row, 150 MB in all
    with written(path, {"values": (torch.bfloat16, (rows, 100, 768))}, {}) as stream:
        for _ in range(rows // 100):
            stream.add(torch.randn(1, 100, 768).bfloat16().expand(100, -1, -1))
    code = f"""
import resource, torch
from pathlib import Path
from carryover import continual_start
from carryover.bank_files import mapped
continual_start.RESIDENT = 0
continual_start.TOUCHED = 2**24
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
parts = mapped(Path({str(path)!r}))["values"].split(250)
inputs = continual_start.Inputs(
    parts, [torch.Tensor.float] * len(parts), torch.device("cpu"), mapped=True
)
inputs(torch.arange(20))
before = peak()
order = torch.randperm({rows}, generator=torch.Generator().manual_seed(0))
total = sum(float(inputs(rows).sum()) for rows in order.split(20))
print(peak() - before, total)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(done[0]) < 75_000  # kB, of 150,000 read
    whole = mapped(path)["values"]
    assert float(done[1]) == pytest.approx(float(whole.float().sum()), rel=1e-3, abs=2.0)


def test_a_killed_stage_goes_on_and_ends_with_the_same_bytes(
    embedded: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(embedded, "first")
    embedded.edit(**{"continual.seeds": 2})
    files = (RUNS / "partly" / "rows.jsonl", PREDICTIONS / "partly" / "predictions.parquet")
    weights = CHECKPOINTS / "partly" / "first_s-digits_ni-2_naive_0.safetensors"
    run_stage("continual", "partly")
    before = [path.read_bytes() for path in (*files, weights)]
    for path in files:
        path.unlink()
    seen: list[tuple[int, int]] = []
    along = continual.along

    def stops(*given: Any) -> Any:
        seen.append((given[4].seed, given[-1]))
        if seen[-1] == (1, 1):  # in the middle of the second training
            raise KeyboardInterrupt
        return along(*given)

    monkeypatch.setattr(continual, "along", stops)
    with pytest.raises(KeyboardInterrupt):
        run_stage("continual", "partly")
    assert not files[0].exists()
    first = len(seen)
    monkeypatch.setattr(
        continual,
        "along",
        lambda *given: (seen.append((given[4].seed, given[-1])), along(*given))[1],
    )
    run_stage("continual", "partly")
    assert seen[first:] == [(1, 1)]  # nothing that was done is done again
    assert [path.read_bytes() for path in (*files, weights)] == before


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_the_number_of_processes_changes_no_byte(
    embedded: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(embedded, "chunks", lrs=[0.03, 0.1], strategies=["naive"])
    found = []
    for count in ("0", "2"):
        monkeypatch.setenv("CARRYOVER_WORKERS", count)
        run_stage("continual", "frozen")
        found.append((RUNS / "frozen" / "rows.jsonl").read_bytes())
    assert found[0] == found[1]


def test_stored_embeddings_and_encoding_again_give_the_same(embedded: Checkout) -> None:
    only(embedded, "chunks", "turned", strategies=["naive"], epochs=2)
    stored = continual_start.load_start(config.read(PARAMS), "frozen", CPU)
    run_stage("continual", "frozen")
    with_bank = rows_of("frozen")
    embedded.edit(**{"continual.bank": False})
    again = continual_start.load_start(config.read(PARAMS), "frozen", CPU)
    for place, inputs in stored.inputs.items():
        rows = torch.arange(0, len(stored.pools[place[:2]].labels), 50)
        torch.testing.assert_close(inputs(rows), again.inputs[place](rows), rtol=0, atol=1e-5)
    run_stage("continual", "frozen")
    for one, other in zip(with_bank, rows_of("frozen"), strict=True):
        assert (one.metric, one.cell) == (other.metric, other.cell)
        if "accuracy" in one.metric:
            assert one.value == pytest.approx(other.value, abs=1e-3)


def test_a_small_cnn_goes_through_every_strategy(embedded: Checkout) -> None:
    entry = embedded.tree()["encoders"]["clip-nano"]
    cnn = entry | {"source": "pretrain:cnn6-digits-0-4", "kinds": ["pooled"]}
    embedded.edit(**{"encoders.cnn6": cnn})
    every = list(STRATEGIES)
    only(embedded, "chunks", trains="unfrozen", encoder="cnn6", features="pooled", strategies=every)
    run_stage("embed", "cnn6")
    run_stage("continual", "unfrozen")
    rows = rows_of("unfrozen")
    assert of(rows, "diverged", "train") == [0.0] * len(every)
    for strategy in every:
        assert len(of(rows, "accuracy", experience=1, strategy=strategy)) == 1
    moved = of(rows, "cka", experience=1, strategy="naive", layer=0)
    assert len(moved) == 1
    assert moved[0] < 1


def test_a_diverged_training_is_recorded_as_one_class(embedded: Checkout) -> None:
    only(embedded, "logits", lrs=[1.0e30])
    embedded.edit(**{"continual.protocols.ti-2.mask": False})
    run_stage("continual", "unfrozen")
    rows = rows_of("unfrozen")
    assert of(rows, "diverged", "train") == [1.0]
    assert of(rows, "is_constant", experience=1) == [1.0]
    assert of(rows, "accuracy", experience=1) == [pytest.approx(0.1, abs=0.01)]
    assert len(of(rows, "accuracy", experience=-1)) == 1  # before any training it was whole
    assert not of(rows, "loss", "train")
    assert not list((CHECKPOINTS / "unfrozen" / "layers").glob("*"))


def test_a_masked_network_that_diverged_names_the_first_class_of_each_task() -> None:
    labels = torch.tensor([4, 2, 2, 1, 3, 3, 3, 1])
    rows = torch.arange(8)
    tasks = [Task(rows[:0], rows[:4], (2, 4), 0), Task(rows[:0], rows[4:], (1, 3), 1)]
    pool = Pool((), (), labels, rows, rows, rows >= 0)
    arm = config.read(TINY).continual.arms["chunks"]
    for masked, right in ((True, 3), (False, 0)):
        stream = Stream(tuple(tasks), shared_test=False, masked=masked)
        gone = Trained(torch.nn.Linear(1, 1), [], True, stream)
        found = {metric: rest for _, metric, *rest in measured(gone, arm, pool, "naive", 0)}
        assert found["accuracy"] == [{"experience": 1}, right / 8, 8]
        assert ("is_constant" in found) == (not masked)


def test_a_training_that_its_last_update_breaks_is_recorded_so_too(embedded: Checkout) -> None:
    images = 10_000  # all in one batch: one update, of a loss that was still finite
    only(embedded, "logits", lrs=[1.0e30], strategies=["joint"], batch_size=images, epochs=1)
    run_stage("continual", "unfrozen")
    rows = rows_of("unfrozen")
    assert of(rows, "diverged", "train") == [1.0]
    assert of(rows, "accuracy", experience=1) == [pytest.approx(0.2, abs=0.02)]  # with a mask
    assert not of(rows, "is_constant")
    assert not of(rows, "nll")


def test_what_was_whole_before_a_training_diverged_has_its_rows(
    embedded: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(embedded, "first", strategies=["naive"])
    run_stage("continual", "partly")
    whole, layers = rows_of("partly"), drawn("partly", "cka", experience=0)
    started = Watch.start

    def breaks(watch: Watch, experience: int, joint: bool) -> None:
        started(watch, experience, joint)
        watch.broken = experience == 1

    after = Watch.after_backward

    def not_finite(watch: Watch, strategy: Any, **options: Any) -> None:
        strategy.loss = strategy.loss * (math.nan if watch.broken else 1.0)
        after(watch, strategy, **options)

    monkeypatch.setattr(Watch, "start", breaks)
    monkeypatch.setattr(Watch, "broken", False, raising=False)
    monkeypatch.setattr(Watch, "after_backward", not_finite)
    (RUNS / "partly" / "rows.jsonl").unlink()
    run_stage("continual", "partly")
    rows = rows_of("partly")
    assert of(rows, "diverged", "train") == [1.0]
    assert drawn("partly", "cka", experience=0) == layers
    for metric in ("accuracy", "loss", "train_accuracy"):
        split = "test" if metric == "accuracy" else "train"
        found = of(rows, metric, split, experience=0, strategy="naive")
        assert found == of(whole, metric, split, experience=0, strategy="naive")
        assert found
    assert of(rows, "accuracy", experience=1) == [pytest.approx(0.1, abs=0.01)]
    assert not of(rows, "loss", "train", experience=1)
    assert not of(rows, "forgetting")


def test_embeddings_of_another_preprocessing_are_refused(embedded: Checkout) -> None:
    embedded.edit(**{"encoders.clip-nano.grey": True})
    with pytest.raises(DataError, match="expected embeddings of the weights, preprocessing and"):
        run_stage("continual", "frozen")


def test_a_changed_image_set_needs_one_small_size_and_domains_their_number(
    embedded: Checkout,
) -> None:
    tree = embedded.tree()["continual"]
    protocol = tree["protocols"]["ni-2"] | {"kind": "domains"}
    embedded.edit(**{"continual.protocols.ni-2": protocol})
    with pytest.raises(ConfigError, match=r"streams\.s-digits: expected several sets, or one with"):
        run_stage("continual", "partly")
    embedded.edit(
        **{"continual.streams.s-digits": ["digits", "letters"], "continual.logistic.sets": {}}
    )
    only(embedded, "first")
    with pytest.raises(DataError, match="expected sets of the same classes"):
        run_stage("continual", "partly")


def test_more_children_than_the_encoder_has_are_refused(embedded: Checkout) -> None:
    only(embedded, "first", freeze="children-9")
    with pytest.raises(ConfigError, match=r"arms\.first\.freeze: expected at most children-\d"):
        run_stage("continual", "partly")


def test_more_images_for_cka_than_there_are_are_refused_before_any_training(
    embedded: Checkout,
) -> None:
    only(embedded, "first", "chunks", strategies=["naive"])
    embedded.edit(**{"continual.cka.images": TEST + 1})
    with pytest.raises(ConfigError, match=rf"cka\.images: expected at most the {TEST} test images"):
        run_stage("continual", "partly")
    assert not list(Path(".scratch").glob("**/cells.jsonl"))
    run_stage("continual", "frozen")  # compares none


def test_a_share_that_leaves_a_probe_nothing_to_train_on_is_refused(embedded: Checkout) -> None:
    embedded.edit(**{"continual.logistic.held_out": 0.9999})
    params = config.read(PARAMS)
    entry = params.continual.logistic
    message = r"^continual\.logistic\.held_out: .* got 0\.9999 of 539 images, which leaves 0; lower"
    with pytest.raises(ConfigError, match=message):
        fitted(params, next(iter(entry.sets)), entry.features[0])


def test_purposes_give_their_own_seeds() -> None:
    one = continual_training.drawn(0, "continual/batches/0")
    assert one == continual_training.drawn(0, "continual/batches/0")
    assert one != continual_training.drawn(0, "continual/batches/1")
    assert run.generator(0, "x").initial_seed() != one
