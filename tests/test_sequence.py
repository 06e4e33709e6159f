"""The sequence study on ``tests/params.yaml``.

After a change that is meant to move its numbers: ``CARRYOVER_WRITE_GOLDEN=1 pytest
tests/test_sequence.py -k every_method`` writes ``tests/golden/sequence.json`` anew; the commit says
why.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from carryover import (
    provenance,
    sequence_bounds,
    sequence_measures,
    sequence_runs,
    sequence_training,
    train,
    zeroshot,
)
from carryover.config import params as config
from carryover.config import sequence_parts as names
from carryover.data import store
from carryover.errors import ConfigError, DataError
from carryover.prepare import SETS
from carryover.rows import Row, read_rows
from carryover.sequence_methods import METHODS, item_of, needs_reference
from carryover.sequence_start import load_start
from carryover.stages import PARAMS, run_stage
from conftest import Checkout

GOLDEN = Path(__file__).parent / "golden" / "sequence.json"
IMAGES = {"digits": 1258, "letters": 36}
ITEMS = ("plain", "distill", "ogd", "lora", "average")
SUMMARY = ("transfer", "average", "last", "learned", "forgetting", "mean_backward_transfer")
FAULTS = "sequence.faults_of_original"

Runs = Callable[..., list[Row]]


@pytest.fixture
def run_methods(embedded: Checkout, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Run some methods of one item, with some keys changed; their rows."""
    source = "0" * 16  # reading all modules takes longer than most runs
    monkeypatch.setattr(provenance, "source_digest", lambda module: source)

    def rows(*methods: str, **changes: Any) -> list[Row]:
        item = item_of(methods[0])
        embedded.edit(**{f"sequence.methods.{item}": list(methods)})
        embedded.edit(**{f"sequence.{key.replace('__', '.')}": v for key, v in changes.items()})
        run_stage("sequence", item)
        return rows_of(item)

    return rows


def rows_of(item: str) -> list[Row]:
    return read_rows(Path("reports/sequence/runs") / item / "rows.jsonl")


def labels_of(name: str) -> torch.Tensor:
    return store.load(SETS / name, "train").labels


def matrix(rows: list[Row], method: str, metric: str = "accuracy") -> dict[tuple[int, str], float]:
    """A method's numbers by sets trained and set tested."""
    return {
        (row.cell["after"], row.cell["dataset"]): row.value
        for row in rows
        if row.metric == metric and row.cell["method"] == method and row.cell["seed"] == 0
    }


def batches(n: int, updates: int) -> int:
    """Images in the first batches of 16 of passes over n."""
    a_pass = [len(batch) for batch in torch.arange(n).split(16)]
    return sum(a_pass[i % len(a_pass)] for i in range(updates))


def of(rows: list[Row], method: str, metric: str) -> float:
    """A number that a method has once."""
    values = {r.value for r in rows if (r.cell["method"], r.metric) == (method, metric)}
    assert len(values) == 1
    return values.pop()


ONE_RATE = {"lrs__full": [0.003], "lrs__lora": [0.01]}
STILL = {"lrs__full": [1.0e-12], "lrs__lora": [1.0e-12]}


def test_every_method_has_its_rows_with_their_n(embedded: Checkout) -> None:
    found = {}
    for item in ITEMS:
        run_stage("sequence", item)
        found[item] = rows_of(item)
    for item, rows in found.items():
        for method in names.METHODS[item]:
            mine = [row for row in rows if row.cell["method"] == method]
            tested = matrix(mine, method)
            times = {"zero-shot": (0,), "joint": (0, 2)}.get(method, (0, 1, 2))
            assert sorted(tested) == [(after, name) for after in times for name in sorted(IMAGES)]
            assert sorted(matrix(mine, method, "top5_accuracy")) == sorted(tested)
            assert sorted(matrix(mine, method, "per_class_accuracy")) == sorted(tested)
            for row in mine:
                assert (row.study, row.item, row.preset) == ("sequence", item, "tiny")
                assert (row.cell["order"], row.cell["seed"]) == ("1", 0)
                if "dataset" in row.cell:
                    assert row.n == IMAGES[row.cell["dataset"]]
                    assert row.cell["task"] == 1 + list(IMAGES).index(row.cell["dataset"])
                elif row.split == "test":
                    assert row.n == sum(IMAGES.values())
                if row.metric in ("accuracy", "top5_accuracy"):
                    assert row.value * row.n == pytest.approx(round(row.value * row.n), abs=1e-6)
            if METHODS[method].trains:
                assert of(mine, method, "updates") == 16
                twice = METHODS[method].distillation not in ("", "icarl")
                only_later = 8 if METHODS[method].distillation == "icarl" else 0
                sizes = [len(labels_of(name)) for name in IMAGES]
                own = (
                    batches(sum(sizes), 16)
                    if method == "joint"
                    else sum(batches(n, 8) for n in sizes)
                )
                seen = own + 16 * (16 * twice + only_later)
                assert of(mine, method, "images_seen") == seen
    starts = {
        tuple(sorted((k, v) for k, v in matrix(rows, method).items() if k[0] == 0))
        for item, rows in found.items()
        for method in names.METHODS[item]
    }
    assert len(starts) == 1  # all start from zero-shot
    assert len({(r.data, r.weights, r.params, r.source) for r in found["plain"]}) == 1
    compare_with_golden([row for rows in found.values() for row in rows])


def compare_with_golden(rows: list[Row]) -> None:
    """Summaries to 3e-3: some test images may flip on another CPU."""
    found = {
        f"{row.cell['method']}/{row.metric}": round(row.value, 6)
        for row in rows
        if row.metric in SUMMARY and row.cell["method"] != "zero-shot"
    }
    if os.environ.get("CARRYOVER_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert len(golden) == 6 * (len(METHODS) - 2) + 1  # joint has its last accuracy alone
    assert found == pytest.approx(golden, abs=3e-3)


def test_the_methods_are_those_of_the_parameters_each_under_its_item() -> None:
    assert sorted(METHODS) == sorted(name for each in names.METHODS.values() for name in each)
    for name, method in METHODS.items():
        assert (item_of(name) == "lora") == bool(method.adapters)
        assert (item_of(name) == "ogd") == method.ogd
    star, zscl = METHODS["zscl-star"], METHODS["zscl"]
    assert (star.consolidation, zscl.consolidation) == (False, True)
    assert (star.distillation, star.averaging) == (zscl.distillation, zscl.averaging)


def test_reference_images_are_loaded_for_methods_that_look_at_them() -> None:
    assert needs_reference(["lwf", "zscl-lora"])
    assert not needs_reference(["zero-shot", "lwf", "lwf-vr", "icarl", "ogd"])


def test_predictions_give_the_accuracies_of_the_rows(run_methods: Runs) -> None:
    rows = run_methods("zero-shot", "finetune", **ONE_RATE)
    table = pq.read_table("data/predictions/sequence/plain/predictions.parquet").to_pydict()
    assert list(table) == [
        *("order", "method", "seed", "after", "mix", "step", "task", "dataset", "id", "label"),
        *("prediction", "label_probability", "prediction_probability", "top5"),
    ]
    assert len(table["id"]) == (1 + 3 + 2 * 3) * sum(IMAGES.values())  # mixed three ways, twice
    right: dict[Any, list[bool]] = {}
    for method, after, mix, dataset, label, prediction, low, high in zip(
        *(table[k] for k in ("method", "after", "mix", "dataset", "label", "prediction")),
        *(table[k] for k in ("label_probability", "prediction_probability")),
        strict=True,
    ):
        right.setdefault((method, after, dataset, mix), []).append(label == prediction)
        assert (low == high) if label == prediction else (low <= high)
    for method in ("zero-shot", "finetune"):
        for (after, name), value in matrix(rows, method).items():
            hits = right[method, after, name, None]
            assert sum(hits) / len(hits) == pytest.approx(value, abs=1e-9)
    half = {(r.cell["after"], r.cell["dataset"]): r.value for r in rows if mixed_in(r) == 0.5}
    assert len(half) == 4
    for (after, name), value in half.items():
        hits = right["finetune", after, name, 0.5]
        assert sum(hits) / len(hits) == pytest.approx(value, abs=1e-9)


def test_a_kept_model_tested_alone_has_the_accuracies_of_the_rows(run_methods: Runs) -> None:
    for method in ("finetune", "zscl-lora"):
        rows = run_methods(method, updates=4, **ONE_RATE)
        folder = Path("data/checkpoints/sequence") / item_of(method)
        model = zeroshot.load(config.read(PARAMS), "clip-nano", next(folder.iterdir()))
        for name in IMAGES:
            score = zeroshot.evaluate(model, name)
            for metric, value in (
                *(("accuracy", score.top1), ("top5_accuracy", score.top5)),
                ("per_class_accuracy", score.per_class),
            ):
                found = matrix(rows, method, metric)
                assert value == pytest.approx(found[2, name], abs=1e-6)


def mixed_in(row: Row) -> float | None:
    return row.cell.get("mix") if row.metric == "mixed_accuracy" else None


def test_mixed_weights_go_from_zero_shot_to_the_tuned_model(run_methods: Runs) -> None:
    rows = run_methods("finetune", **ONE_RATE)
    plain = matrix(rows, "finetune")
    found = {
        (r.cell["after"], r.cell["dataset"], mixed_in(r)): r.value
        for r in rows
        if r.metric == "mixed_accuracy"
    }
    assert len(found) == 2 * 2 * 3
    for after, name, mix in found:
        if mix == 0.5:
            continue
        assert found[after, name, mix] == plain[after if mix else 0, name]
    ends = (plain[0, "digits"], plain[2, "digits"])
    assert found[2, "digits", 0.5] not in ends


def on_the_way(rows: list[Row], method: str) -> dict[tuple[int, int, str], float]:
    return {
        (r.cell["after"], r.cell["step"], r.cell["dataset"]): r.value
        for r in rows
        if (r.metric, r.cell["method"]) == ("accuracy_on_the_way", method)
    }


def test_tests_on_the_way_end_at_those_after_sets_and_change_nothing(run_methods: Runs) -> None:
    given = {"curves__eval_methods": ["zscl", "zscl-plain"]}
    rows = run_methods("zscl", "zscl-plain", curves__eval_every=3, **given, **ONE_RATE)
    for method in ("zscl", "zscl-plain"):
        found, plain = on_the_way(rows, method), matrix(rows, method)
        times = [(0, 0), (0, 3), (0, 6), (0, 8), (1, 3), (1, 6), (1, 8)]
        assert sorted(found) == [(*time, name) for time in times for name in sorted(IMAGES)]
        for name in IMAGES:
            assert found[0, 0, name] == plain[0, name]
            assert found[0, 8, name] == plain[1, name]
            assert found[1, 8, name] == plain[2, name]
        assert found[0, 3, "digits"] != plain[0, "digits"]
    without = run_methods("zscl", "zscl-plain", curves__eval_every=0)
    assert not on_the_way(without, "zscl")
    for method in ("zscl", "zscl-plain"):
        assert matrix(without, method) == matrix(rows, method)


def test_features_of_the_same_few_test_images_are_kept_and_mapped(run_methods: Runs) -> None:
    run_methods("zero-shot", "finetune", **ONE_RATE)
    table = pq.read_table("data/predictions/sequence/plain/features.parquet").to_pydict()
    lines = Path("reports/sequence/runs/plain/tsne.csv").read_text().splitlines()
    assert lines[0] == "order,method,seed,dataset,id,label,x,y"
    assert table["method"] == ["zero-shot"] * 12 + ["finetune"] * 12
    assert [line.split(",")[1] for line in lines[1:]] == table["method"]
    assert table["id"][:12] == table["id"][12:]
    z = torch.tensor(table["embedding"])
    assert torch.allclose(z.norm(dim=1), torch.ones(24), atol=1e-5)
    assert not torch.allclose(z[:12], z[12:], atol=1e-3)
    run_methods("finetune", curves__map_images=0)
    assert len(Path("reports/sequence/runs/plain/tsne.csv").read_text().splitlines()) == 1


def test_summaries_are_those_of_the_matrix(run_methods: Runs) -> None:
    rows = run_methods("finetune", **ONE_RATE)
    m = matrix(rows, "finetune")
    after, before = m[2, "digits"], m[1, "digits"]
    assert of(rows, "finetune", "transfer") == pytest.approx(m[1, "letters"])
    assert of(rows, "finetune", "last") == pytest.approx((after + m[2, "letters"]) / 2)
    assert of(rows, "finetune", "mean_backward_transfer") == pytest.approx(after - before)
    with_last = of(rows, "finetune", "mean_backward_transfer_with_last")
    assert with_last == pytest.approx((after - before) / 2)
    changes = matrix(rows, "finetune", "backward_transfer")
    assert changes == pytest.approx({(2, "digits"): after - before, (2, "letters"): 0.0})
    everything = {r.cell["after"]: r.value for r in rows if r.metric == "accuracy_all"}
    assert everything[1] == pytest.approx((before + m[1, "letters"]) / 2)


def test_without_a_rate_no_method_changes_a_prediction(run_methods: Runs) -> None:
    for methods in (("lwf", "zscl"), ("zscl-ogd",), ("zscl-lora-shared",), ("ema", "task-mean")):
        rows = run_methods(*methods, updates=2, **STILL)
        for method in methods:
            m = matrix(rows, method)
            assert all(m[after, name] == m[0, name] for after, name in m)


def test_distilling_with_both_terms_off_is_fine_tuning(run_methods: Runs) -> None:
    with pytest.warns(UserWarning, match="this is plain fine-tuning"):
        distilled = run_methods(
            "zscl-plain", distill__by_image=False, distill__by_text=False, **ONE_RATE
        )
    plain = run_methods("finetune")
    assert matrix(distilled, "zscl-plain") == pytest.approx(matrix(plain, "finetune"), abs=2e-3)


@pytest.mark.parametrize(("mix", "equals"), [(0.0, "zero-shot"), (1.0, "finetune")])
def test_merging_ends_at_the_start_or_at_the_tuned_model(
    run_methods: Runs, mix: float, equals: str
) -> None:
    plain = matrix(run_methods("finetune", **ONE_RATE), "finetune")
    merged = run_methods("wise-ft", "wise-at-test", average__merge_mix=mix, average__test_mix=mix)
    for method in ("wise-ft", "wise-at-test"):
        for (after, name), value in matrix(merged, method).items():
            assert value == plain[after if equals == "finetune" else 0, name]


def test_mean_of_tasks_is_the_first_model_and_then_another(run_methods: Runs) -> None:
    plain = matrix(run_methods("finetune", **ONE_RATE), "finetune")
    mean = matrix(run_methods("task-mean"), "task-mean")
    assert mean[1, "digits"] == plain[1, "digits"]
    assert mean[2, "digits"] != plain[2, "digits"]


def looked_at(run_methods: Runs, method: str, student: bool, **changes: Any) -> list[Row]:
    """Rows of a method that is tested in the middle of each set."""
    looks = {"curves__eval_every": 4, "curves__eval_methods": [method]}
    looks["faults_of_original__eval_student"] = student
    return run_methods(method, **looks, **changes, **ONE_RATE)


def test_the_original_looks_at_the_student_on_the_way_and_tests_the_mean(
    run_methods: Runs,
) -> None:
    plain = on_the_way(looked_at(run_methods, "finetune", False), "finetune")
    rows = {of: looked_at(run_methods, "running-mean", of) for of in (True, False)}
    assert matrix(rows[True], "running-mean") == matrix(rows[False], "running-mean")
    student, mean = (on_the_way(rows[of], "running-mean") for of in (True, False))
    first, second = (0, 4, "digits"), (1, 4, "digits")
    assert student[first] == plain[first]  # the mean does not steer the first task
    assert mean[first] != plain[first]
    assert student[second] != plain[second]  # the second starts from it


def test_with_the_extra_step_the_way_of_a_student_ends_with_the_student(
    run_methods: Runs,
) -> None:
    plain = on_the_way(looked_at(run_methods, "finetune", False), "finetune")
    change = {"faults_of_original__extra_step": True}
    rows = looked_at(run_methods, "running-mean", True, **change)
    student, last = on_the_way(rows, "running-mean"), (0, 8, "digits")
    assert student[last] == plain[last]
    assert student[last] != matrix(rows, "running-mean")[1, "digits"]


def test_a_student_with_adapters_is_merged_for_its_test(run_methods: Runs) -> None:
    change = {"distill__weight": 1.0e-9, "consolidation": 1.0e-9}  # nearly plain fine-tuning
    plain = on_the_way(looked_at(run_methods, "finetune-lora", False), "finetune-lora")
    student = on_the_way(looked_at(run_methods, "zscl-lora", True, **change), "zscl-lora")
    middle = (0, 4, "digits")
    assert student[middle] == pytest.approx(plain[middle], abs=2e-3)


def test_the_resume_bug_makes_later_tasks_do_nothing(run_methods: Runs) -> None:
    rows = run_methods("finetune", faults_of_original__resume_bug=True, **ONE_RATE)
    m = matrix(rows, "finetune")
    assert m[1, "digits"] != m[0, "digits"]
    assert (m[2, "digits"], m[2, "letters"]) == (m[1, "digits"], m[1, "letters"])
    assert of(rows, "finetune", "updates") == 8 + 1


def test_a_finished_task_is_a_start_and_the_next_one_trains(run_methods: Runs) -> None:
    m = matrix(run_methods("finetune", **ONE_RATE), "finetune")
    assert m[2, "digits"] != m[1, "digits"]


def test_the_extra_step_has_rate_zero_and_is_counted(run_methods: Runs) -> None:
    right = run_methods("finetune", **ONE_RATE)
    extra = run_methods("finetune", faults_of_original__extra_step=True)
    assert of(extra, "finetune", "updates") == of(right, "finetune", "updates") + 2
    digits = (1, "digits")
    assert matrix(extra, "finetune")[digits] == matrix(right, "finetune")[digits]


def test_passes_over_the_images_give_each_set_its_own_number_of_updates(
    run_methods: Runs,
) -> None:
    given = {"updates": None, "epochs": 1, "curves__eval_methods": ["finetune"]}
    rows = run_methods("finetune", **given, curves__eval_every=20, **ONE_RATE)
    steps = {name: -(-len(labels_of(name)) // 16) for name in IMAGES}
    assert steps["digits"] > steps["letters"] > 1
    assert of(rows, "finetune", "updates") == sum(steps.values())
    found, plain = on_the_way(rows, "finetune"), matrix(rows, "finetune")
    assert found[0, steps["digits"], "letters"] == plain[1, "letters"]
    assert found[1, steps["letters"], "letters"] == plain[2, "letters"]
    assert (0, 20, "digits") in found
    joint = run_methods("joint")
    assert of(joint, "joint", "updates") == sum(steps.values())
    same = run_methods("finetune", epochs=None, updates=steps["digits"])
    assert matrix(same, "finetune")[1, "digits"] == plain[1, "digits"]


@pytest.mark.parametrize("method", ["finetune", "joint"])
def test_a_batch_in_parts_trains_what_the_whole_one_does(run_methods: Runs, method: str) -> None:
    def predicted(**changes: Any) -> list[float]:
        run_methods(method, updates=4, **changes, **ONE_RATE)
        table = pq.read_table("data/predictions/sequence/plain/predictions.parquet")
        found: list[float] = table["prediction_probability"].to_pylist()
        return found

    whole, parts = predicted(), predicted(accumulate=3)
    assert parts != whole
    assert parts == pytest.approx(whole, abs=1e-4)


def test_the_last_batch_of_all_sets_may_have_fewer_images_than_parts(run_methods: Runs) -> None:
    images = sum(len(store.load(SETS / name, "train")) for name in ("digits", "letters"))
    size = next(each for each in range(8, 64) if images % each in (1, 2, 3))
    updates = -(-images // size)  # of each set, so that there is more than one pass
    found = run_methods("joint", updates=updates, batch_size=size, accumulate=4, **ONE_RATE)
    assert of(found, "joint", "updates") == 2 * updates


def test_a_class_without_training_images_is_no_nearest_mean(embedded: Checkout) -> None:
    params = config.read(PARAMS)
    start = load_start(params, torch.device("cpu"), reference=False)
    task = start.tasks["digits"]
    labels = task.train.labels.where(task.train.labels != 3, 2)
    fewer = replace(task, train=replace(task.train, labels=labels))
    found, whole = (sequence_bounds.class_means(params, start, each) for each in (fewer, task))
    assert 3 in whole["prediction"].tolist()
    assert 3 not in found["prediction"].tolist()
    sevens = whole["prediction"] == 7
    assert (found["prediction"][sevens] == 7).double().mean() > 0.9
    assert float(found["label_probability"][task.test.labels.cpu() == 3].max()) == 0.0


def test_epochs_with_too_few_updates_are_refused_before_training(embedded: Checkout) -> None:
    embedded.edit(**{"sequence.updates": None, "sequence.epochs": 1, "sequence.warm_up": 1000})
    with pytest.raises(ConfigError, match=r"sequence\.warm_up: .* of a task, got 1000; lower it"):
        load_start(config.read(PARAMS), torch.device("cpu"), reference=False)


def test_adapters_with_ogd_are_no_method() -> None:
    with pytest.raises(ValueError, match="expected adapters or ogd, got both"):
        replace(METHODS["zscl-lora"], ogd=True)


def test_held_ends_stay_as_they_were(run_methods: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[set[str]] = []
    train_task = sequence_runs.train_task

    def noted(*given: Any, **named: Any) -> Any:
        before, (carried, tested) = given[5].weights, train_task(*given, **named)
        moved.append({n for n, w in carried.weights.items() if not torch.equal(w, before[n])})
        return carried, tested

    monkeypatch.setattr(sequence_runs, "train_task", noted)
    run_methods("finetune", updates=2, freeze=True, **ONE_RATE)
    held = ("visual.conv1.weight", "visual.proj", "positional_embedding", "text_projection")
    assert len(moved) == 2
    for changed in moved:
        assert changed.isdisjoint(held)
        assert {"visual.ln_post.weight", "token_embedding.weight"} <= changed


def test_sentences_of_another_set_are_tested_and_trained_with(embedded: Checkout) -> None:
    embedded.edit(**{"sequence.template": "letters"})
    start = load_start(config.read(PARAMS), torch.device("cpu"), reference=False)
    digits, text = start.tasks["digits"], start.encoder.text
    assert text is not None
    said = ["the {}", "a photo of the {}", "an image of the {}"]
    ids = text.tokenize([each.format("zero") for each in said])
    assert digits.templates == 3
    assert torch.equal(digits.all_prompt_ids[:3], ids)
    assert torch.equal(digits.prompt_ids[0], ids[0])
    with torch.no_grad():
        unit = torch.nn.functional.normalize(text.encode(ids), dim=-1).mean(0)
    torch.testing.assert_close(digits.class_weights[0], unit / unit.norm(), atol=1e-5, rtol=1e-5)
    embedded.edit(**{"sequence.template": "lettres"})
    with pytest.raises(ConfigError, match=r"sequence\.template: expected one of .*lettres"):
        load_start(config.read(PARAMS), torch.device("cpu"), reference=False)


def test_dropout_of_adapters_changes_training_and_not_the_test(run_methods: Runs) -> None:
    plain = matrix(run_methods("finetune-lora", **ONE_RATE), "finetune-lora")
    dropped = [
        matrix(run_methods("finetune-lora", lora__dropout=0.5), "finetune-lora") for _ in range(2)
    ]
    assert dropped[0] == dropped[1] != plain
    still = matrix(run_methods("finetune-lora", updates=2, **STILL), "finetune-lora")
    assert all(still[after, name] == still[0, name] for after, name in still)


def test_rates_rise_and_fall_by_half_a_cosine_to_zero() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    rate_ = sequence_training.half_cosine(optimiser, 0.4, warm_up=2, total=6)
    found = []
    for step in range(7):
        rate_(step)
        found.append(optimiser.param_groups[0]["lr"])
    wanted = [0.2, 0.4, 0.4, 0.2 + 0.1 * 2**0.5, 0.2, 0.2 - 0.1 * 2**0.5, 0.0]
    assert found == pytest.approx(wanted)


def test_the_last_batch_of_a_pass_counts_with_the_images_that_it_has() -> None:
    found = [sequence_training.images_in(steps, 10, 4) for steps in range(8)]
    assert found == [0, 4, 8, 10, 14, 18, 20, 24]
    assert sequence_training.images_in(3, 4, 16) == 12


def test_icarls_first_task_is_fine_tuning_and_its_memory_grows(
    run_methods: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = matrix(run_methods("finetune", **ONE_RATE), "finetune")
    memories: list[dict[str, int]] = []
    remember = sequence_training.remember

    def seen(*given: Any) -> Any:
        found = remember(*given)
        memories.append({name: len(rows) for name, rows in found.items()})
        return found

    monkeypatch.setattr(sequence_training, "remember", seen)
    m = matrix(run_methods("icarl"), "icarl")
    assert m[1, "digits"] == plain[1, "digits"]
    assert m[2, "digits"] != plain[2, "digits"]
    assert memories == [{"digits": 30}]  # after the last set nothing needs one


def test_ogd_of_the_paper_and_as_released_differ_after_the_first_task(run_methods: Runs) -> None:
    plain = matrix(run_methods("finetune", **ONE_RATE), "finetune")
    found = [matrix(run_methods("ogd", ogd__version=v), "ogd") for v in ("paper", "published")]
    assert found[0][1, "digits"] == plain[1, "digits"]
    assert len({m[2, "digits"] for m in (*found, plain)}) == 3


def test_adapters_train_fewer_numbers_the_more_they_share(run_methods: Runs) -> None:
    methods = ("zscl-lora", "zscl-lora-shared-split", "zscl-lora-shared")
    rows = run_methods(*methods, updates=1, **ONE_RATE)
    counts = [of(rows, method, "trained_numbers") for method in methods]
    # rank 4; image of two blocks and text of one, both 32 wide: 4 projections and 2 layers each
    assert counts == [3 * 4 * (4 * 64 + 2 * 160), 4 * (4 * 64 + 2 * 160), 4 * (64 + 2 * 160)]


TRAINED = {  # by mode: whether the image network, the text network and a head train
    "whole": (True, True, False),
    "image": (True, False, False),
    "text": (False, True, False),
    "image-fc": (True, False, True),
    "image-fc-fixed": (True, False, False),
    "fc": (False, False, True),
}


@pytest.mark.parametrize("mode", TRAINED)
def test_what_the_mode_names_trains_alone(
    run_methods: Runs, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    moved: list[tuple[set[str], bool]] = []
    train_task = sequence_runs.train_task

    def noted(*given: Any, **named: Any) -> Any:
        start, place, before = given[1], given[3], given[5]
        carried, tested = train_task(*given, **named)
        names = {
            "visual" if name.startswith("visual.") else "text"
            for name, tensor in carried.weights.items()
            if not torch.equal(tensor, before.weights[name])
        }
        task = start.tasks[place.task.name]
        first = start.encoder.logit_scale * task.class_weights
        head = carried.heads.get(place.task.name, {"weight": first})
        moved.append((names, not torch.equal(head["weight"], first)))
        assert bool(carried.heads) == (mode in ("image-fc", "image-fc-fixed", "fc"))
        return carried, tested

    monkeypatch.setattr(sequence_runs, "train_task", noted)
    rows = run_methods("finetune", train_mode=mode, items=["plain"], **ONE_RATE)
    image, text, head = TRAINED[mode]
    wanted = {name for name, trains in (("visual", image), ("text", text)) if trains}
    assert moved == [(wanted, head)] * 2
    m = matrix(rows, "finetune")
    assert m[1, "digits"] != m[0, "digits"]
    if mode == "fc":
        assert m[2, "digits"] == m[1, "digits"]  # nothing of it changes any more
        assert m[1, "letters"] == m[0, "letters"]
        assert of(rows, "finetune", "forgetting") == 0


def test_heads_start_as_zero_shot_and_go_with_every_average(run_methods: Runs) -> None:
    item = ("wise-ft", "wise-at-test", "running-mean", "moving-average", "task-mean")
    heads = {"train_mode": "image-fc", "items": ["average"]}
    rows = run_methods(*item, updates=2, **heads, **STILL)
    for method in item:
        m = matrix(rows, method)
        assert all(m[after, name] == m[0, name] for after, name in m)
    rows = run_methods(*item, updates=8, **ONE_RATE)
    assert all(matrix(rows, method)[1, "digits"] != m[0, "digits"] for method in item)


def test_frozen_heads_learn_each_set_once_and_forget_nothing(run_methods: Runs) -> None:
    rows = run_methods("ncm", "ridge")
    for method in ("ncm", "ridge"):
        m = matrix(rows, method)
        assert m[1, "digits"] == m[2, "digits"] > m[0, "digits"]
        assert m[1, "letters"] == m[0, "letters"]
        assert of(rows, method, "forgetting") == 0
    assert matrix(rows, "ridge")[2, "digits"] > 0.5


def test_the_rate_by_which_fine_tuning_learns_best_is_taken_by_all(
    run_methods: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[str, float]] = []

    def validated(*given: Any) -> dict[str, float]:
        cell = given[3]
        tried.append((cell.method, cell.lr))
        return {"accuracy": 0.5, "loss": abs(cell.lr - 0.002)}

    monkeypatch.setattr(sequence_runs, "validated", validated)
    rows = run_methods("zscl-plain", "wc", updates=1, lrs__full=[0.001, 0.002, 0.003])
    assert of(rows, "zscl-plain", "lr") == of(rows, "wc", "lr") == 0.002
    assert tried == [("finetune", 0.001), ("finetune", 0.002), ("finetune", 0.003)]
    run_methods("wise-ft")
    assert len(tried) == 3  # items share what was tried
    rows = run_methods("zscl-lora", lrs__lora=[0.002, 0.01])
    assert of(rows, "zscl-lora", "lr") == 0.002
    assert tried[3:] == [("finetune-lora", 0.002), ("finetune-lora", 0.01)]


def test_rates_are_not_chosen_on_test_images(
    run_methods: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    accuracy = sequence_runs.set_accuracy
    monkeypatch.setattr(
        sequence_runs,
        "set_accuracy",
        lambda *given: (seen.append(len(given[3])), accuracy(*given))[1],
    )
    run_methods("finetune")
    counts = torch.bincount(labels_of("digits")).tolist()
    held = sum(round(0.4 * count) for count in counts)
    assert seen == [held, 36] * 2  # of digits and letters, at each of two rates


def test_sets_outside_an_order_are_tested_and_have_no_task(embedded: Checkout) -> None:
    start = load_start(config.read(PARAMS), torch.device("cpu"), reference=False)
    start = replace(start, tasks={**start.tasks, "other": start.tasks["digits"]})
    before = sequence_measures.zero_shot(start)
    rows = sequence_measures.numbers(
        start, list(IMAGES), dict.fromkeys(range(3), before), untrained=False
    )
    one, two = (
        sequence_measures.accuracy_of(before[name], start.tasks[name].test.labels)
        for name in IMAGES
    )
    other = [(r.dataset, r.task, r.after, r.value) for r in rows if r.metric == "other_accuracy"]
    assert other == [("other", None, after, one) for after in range(3)]
    everything = {r.value for r in rows if r.metric == "accuracy_all"}
    assert len(everything) == 1
    assert everything.pop() == pytest.approx((2 * one + two) / 3)
    assert {r.value for r in rows if r.metric == "accuracy_trained"} == {(one + two) / 2}
    assert {r.task for r in rows if r.metric == "accuracy"} == {1, 2}


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_the_number_of_processes_changes_no_byte(
    run_methods: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ("reports/sequence/runs/distill/rows.jsonl",)
    places += ("data/predictions/sequence/distill/predictions.parquet",)
    found = []
    for count in ("0", "2"):
        monkeypatch.setenv("CARRYOVER_WORKERS", count)
        run_methods("zscl", "lwf", updates=3, seeds=2, **ONE_RATE)
        found.append([Path(place).read_bytes() for place in places])
    assert found[0] == found[1]


@pytest.mark.parametrize("where", ["between", "inside"])
def test_a_killed_run_goes_on_with_its_next_task_and_ends_with_the_same_bytes(
    run_methods: Runs, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    methods = ("zscl", "icarl")
    run_methods(*methods, **ONE_RATE)
    path = Path("reports/sequence/runs/distill/rows.jsonl")
    whole = path.read_bytes()
    path.unlink()
    begun: list[tuple[str, int]] = []
    train_task, fit = sequence_runs.train_task, sequence_training.fit

    def noted(*given: Any, **named: Any) -> Any:
        if where == "between" and len(begun) == 3:
            raise KeyboardInterrupt
        begun.append((given[3].cell.name, given[3].number))
        return train_task(*given, **named)

    def cut_off(*given: Any, **named: Any) -> Any:
        if where == "inside" and len(begun) == 4:
            step = named["after_step"]

            def stops(updates: int) -> None:
                step(updates)
                if updates == 5:
                    raise KeyboardInterrupt

            named["after_step"] = stops
        return fit(*given, **named)

    monkeypatch.setattr(sequence_runs, "train_task", noted)
    monkeypatch.setattr(sequence_training, "fit", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run_stage("sequence", "distill")
    assert not path.exists()
    finished = begun[:3]
    assert finished == [("zscl/1/0", 1), ("zscl/1/0", 2), ("icarl/1/0", 1)]
    begun.clear()
    monkeypatch.setattr(sequence_training, "fit", fit)
    run_stage("sequence", "distill")
    assert begun == [("icarl/1/0", 2)]
    assert path.read_bytes() == whole


def cut_off(
    module: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[int], list[int]]:
    """Let a module's next trainings stop after so many updates in all.

    Returns:
        Two lists: one for the caller to fill, from when on nothing stops, and updates as done.
    """
    fit, begun, steps = module.fit, list[int](), list[int]()

    def cut(*given: Any, **named: Any) -> Any:
        step = named["after_step"]

        def stops(updates: int) -> None:
            step(updates)
            steps.append(updates)
            if not begun and len(steps) == count:
                raise KeyboardInterrupt

        return fit(*given, **(named | {"after_step": stops}))

    monkeypatch.setattr(module, "fit", cut)
    return begun, steps


@pytest.mark.parametrize("item", ["distill", "average", "lora", "ogd", "heads", "dropout"])
def test_a_task_that_was_cut_off_goes_on_inside_and_ends_with_the_same_bytes(
    run_methods: Runs, monkeypatch: pytest.MonkeyPatch, item: str
) -> None:
    methods = {
        "distill": ("zscl",),
        "average": ("moving-average", "running-mean-wise"),
        "lora": ("zscl-lora-shared",),
        "ogd": ("zscl-ogd",),
        "heads": ("zscl",),
        "dropout": ("finetune-lora",),
    }[item]
    changes: dict[str, Any] = {"batch_size": 40, "curves__eval_methods": ["zscl"]}
    changes |= {"ogd__version": "published", "average__pull_anchor": "moving"}
    changes |= {"train_mode": "image-fc", "items": ["distill"]} if item == "heads" else {}
    changes |= {"lora__dropout": 0.5} if item == "dropout" else {}
    rows = run_methods(*methods, **changes, **ONE_RATE)
    path = Path("reports/sequence/runs") / item_of(methods[0]) / "rows.jsonl"
    whole = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(train, "SNAPSHOT_SECONDS", 0.0)
    # in the second task, past its first pass over the images
    begun, steps = cut_off(sequence_training, 8 + 7, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_stage("sequence", item_of(methods[0]))
    begun += steps
    steps.clear()
    run_stage("sequence", item_of(methods[0]))
    assert begun == [*range(1, 9), *range(1, 8)]
    assert steps[0] > 1  # not from the task's start
    assert steps[: 8 - steps[0] + 1] == list(range(steps[0], 9))
    assert path.read_bytes() == whole
    assert rows


def test_a_joint_training_that_was_cut_off_goes_on_inside_and_ends_with_the_same_bytes(
    run_methods: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_methods("joint", batch_size=40, updates=20, **ONE_RATE)
    path = Path("reports/sequence/runs/plain/rows.jsonl")
    whole = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(train, "SNAPSHOT_SECONDS", 0.0)
    begun, steps = cut_off(sequence_bounds, 35, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_stage("sequence", "plain")
    begun += steps
    steps.clear()
    run_stage("sequence", "plain")
    assert begun == list(range(1, 36))
    assert 1 < steps[0] <= 35
    assert steps == list(range(steps[0], 41))
    assert path.read_bytes() == whole


def test_the_start_has_what_its_parameters_say(embedded: Checkout) -> None:
    params = config.read(PARAMS)
    start = load_start(params, torch.device("cpu"), reference=True)
    assert start.reference is not None
    assert start.reference.z.shape == (100, 16)
    assert len(start.reference.W) == 40
    norms = [start.reference.z.norm(dim=1), start.reference.W.norm(dim=1)]
    assert all(torch.allclose(n, torch.ones(len(n)), atol=1e-5) for n in norms)
    ids = start.random_ids
    assert ids.shape == (20, 16)
    first, end = int(ids[0, 0]), int(ids.max())
    assert bool((ids[:, 0] == first).all())
    assert bool((ids[:, 11] == end).all())  # after ten words
    assert bool((ids[:, 12:] == 0).all())
    assert 1 <= int(ids[:, 1:11].min()) <= int(ids[:, 1:11].max()) < first
    assert load_start(params, torch.device("cpu"), reference=False).reference is None
    digits = start.tasks["digits"]
    assert (len(digits.prompt_ids), digits.templates, len(digits.all_prompt_ids)) == (10, 4, 40)
    assert torch.equal(digits.prompt_ids, digits.all_prompt_ids[::4])


def test_embeddings_of_other_weights_are_refused(embedded: Checkout) -> None:
    embedded.edit(**{"pretrain.clip-nano.epochs": 1})
    run_stage("pretrain", "clip-nano")
    with pytest.raises(
        DataError, match=r"expected embeddings of the weights, preprocessing and images"
    ):
        run_stage("sequence", "plain")


def test_reference_sentences_that_are_not_there_are_refused(run_methods: Runs) -> None:
    with pytest.raises(DataError, match="expected captions of letters, it has none; take prompts"):
        run_methods("zscl", distill__sentences_of="letters", **ONE_RATE)
    rows = run_methods("zscl", distill__sentences="prompts", updates=1)
    assert matrix(rows, "zscl")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods.plain": ["lwf"]}, r"methods\.plain\[0\]: expected one of zero-shot, finetune"),
        ({"methods": {"plain": ["finetune"]}}, "methods: expected an entry for distill, which"),
        ({"orders": {"1": ["digits", "shapes"]}}, r"orders\.1\[1\]: expected one of digits, lett"),
        ({"lrs": {"full": [0.1]}}, "lrs: expected an entry each for full, lora"),
        ({"crop": 1.5}, "crop: expected a number above 0 and at most 1"),
        ({"crop": 0.0}, "crop: expected a number above 0 and at most 1"),
        ({"smoothing": 1.0}, "smoothing: expected a share of at least 0, below 1, got 1.0"),
        ({"average.merge_mix": 1.5}, r"average\.merge_mix: expected a number in 0\.\.1, got 1\.5"),
        ({"distill.teachers": {"zscl": "previous"}}, r"distill\.teachers: expected an entry each"),
        ({"distill.reference": "shapes"}, r"sequence\.distill\.reference: expected one of digits"),
        ({"datasets": ["digits", "letters", "world"]}, r"sequence\.datasets\[2\]: expected one of"),
        ({"curves.mixes": [0.5, 2.0]}, r"curves\.mixes\[1\]: expected a number in 0\.\.1, got 2"),
        ({"curves.eval_methods": ["joint"]}, r"curves\.eval_methods\[0\]: expected a method that"),
        ({"curves.mix_after": [3]}, r"curves\.mix_after\[0\]: expected 1 to 2, the sets of the"),
        ({"train_mode": "fc"}, r"methods\.plain\[2\]: expected a method that can train a head of"),
        ({"epochs": 2}, "updates: expected a number here or for epochs, .* got 8 and 2; leave one"),
        ({"updates": None}, "updates: expected a number here or for epochs, .* got None and None"),
        ({"updates": None, "epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"curves.map_images": 1}, r"curves\.map_images: expected 0 or 5 images of all sets to"),
        ({"l2s": [1.0, 1.0]}, "l2s: expected each entry once, got 1 twice"),
        ({"accumulate": 17}, "accumulate: expected at most batch_size, 16, got 17"),
        ({"lora.dropout": 1.0}, r"lora\.dropout: expected a share of at least 0, below 1, got 1"),
        ({"encoder": "clip"}, r"sequence\.encoder: expected one of clip-nano, got 'clip'"),
    ],
)
def test_faults_of_the_section_are_named(
    tiny: Checkout, changes: dict[str, Any], said: str
) -> None:
    tiny.edit(**{f"sequence.{key}": value for key, value in changes.items()})
    with pytest.raises(ConfigError, match=said):
        config.read(PARAMS)


def test_methods_of_a_seed_share_their_batches(
    run_methods: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = sequence_training.fit
    states: list[bytes] = []

    def noted(*given: Any, **named: Any) -> Any:
        states.append(given[5].get_state().numpy().tobytes())
        return fit(*given, **named)

    monkeypatch.setattr(sequence_training, "fit", noted)
    monkeypatch.setenv("CARRYOVER_WORKERS", "0")
    found = {}
    for method in ("finetune", "running-mean", "zscl"):
        run_methods(method, seeds=2, updates=2, **ONE_RATE)
        found[method], states = states, []
    assert found["finetune"] == found["running-mean"] == found["zscl"]
    first, second = (found["finetune"][i::2] for i in range(2))
    assert len({*found["finetune"]}) == len(found["finetune"])  # a set and a seed each their own
    assert first != second
