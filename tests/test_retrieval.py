"""The retrieval study on ``tests/params.yaml``.

After a change that is meant to move its numbers: ``CARRYOVER_WRITE_GOLDEN=1 pytest
tests/test_retrieval.py -k every_arm`` writes ``tests/golden/retrieval.json`` anew; the commit says
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
from torch import nn

from carryover import provenance, retrieval_training
from carryover.claims import schema
from carryover.config import params as config
from carryover.config import reader
from carryover.config import retrieval as names
from carryover.errors import ConfigError, DataError
from carryover.keep import _merged
from carryover.retrieval_arms import CONTROLS, Cell, cells, control_of
from carryover.retrieval_lookup import division, lookup
from carryover.retrieval_models import build, take_
from carryover.retrieval_start import CLEAN, Start, View, load_start
from carryover.retrieval_training import answers, inputs, rows_of, train
from carryover.rows import Row, read_rows, write_rows
from carryover.stages import PARAMS, run_stage
from carryover.studies import retrieval
from conftest import REPOSITORY, Checkout

GOLDEN = Path(__file__).parent / "golden" / "retrieval.json"
TEST = 1258  # images
PLAIN, NEAREST, DRAWN = (Cell("none", 0, "none", 0), Cell("knn", 4, "none", 0), "sampled")

Runs = Callable[..., list[Row]]
Loads = Callable[..., tuple[config.Params, Start]]


@pytest.fixture
def run_arms(embedded: Checkout, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Run some controls of one item, with some keys changed; their rows."""
    source = "0" * 16  # reading all modules takes longer than most runs
    monkeypatch.setattr(provenance, "source_digest", lambda module: source)

    def rows(item: str, *controls: str, **changes: Any) -> list[Row]:
        embedded.edit(**{"retrieval.controls": {item: list(controls)} if controls else {}})
        embedded.edit(**{f"retrieval.{key.replace('__', '.')}": v for key, v in changes.items()})
        run_stage("retrieval", item)
        return rows_of_item(item)

    return rows


@pytest.fixture
def loaded(embedded: Checkout) -> Loads:
    """The parameters, with some keys changed, and what the study starts from."""

    def start(item: str = "resnet18", **changes: Any) -> tuple[config.Params, Start]:
        embedded.edit(**{f"retrieval.{key.replace('__', '.')}": v for key, v in changes.items()})
        params = config.read(PARAMS)
        return params, load_start(params, item, torch.device("cpu"))

    return start


FEW = {"corruptions": None, "noises": [0.0], "curve_noises": [0.0], "ks": None}


def rows_of_item(item: str) -> list[Row]:
    return read_rows(Path("reports/retrieval/runs") / item / "rows.jsonl")


def of(rows: list[Row], metric: str, **axes: Any) -> dict[Any, float]:
    """Values by what is left of the cell."""
    return {
        tuple((k, v) for k, v in row.cell.items() if k not in axes): row.value
        for row in rows
        if row.metric == metric and all(row.cell.get(k) == v for k, v in axes.items())
    }


def one(rows: list[Row], metric: str, **axes: Any) -> float:
    (value,) = of(rows, metric, **axes).values()
    return value


def test_every_arm_has_its_rows_as_the_schema_has_them(
    embedded: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "source_digest", lambda module: "0" * 16)
    study = config.read(PARAMS).retrieval
    about = schema.read(REPOSITORY / "claims/schema.yaml", {})["retrieval"]
    found = []
    for item in ("resnet18", "perceiver"):
        run_stage("retrieval", item)
        rows = rows_of_item(item)
        found += rows
        for cell in cells(study, item)[1]:
            mine = [r for r in rows if (r.cell["access"], r.cell["control"]) == _arm(cell)]
            mine = [r for r in mine if r.cell.get("k", 0) == cell.k]
            noises = {r.cell["noise"] for r in mine if r.metric == "accuracy"}
            assert noises == {0.0, 0.3}, cell
            if not control_of(study, cell).trains:
                continue
            steps = {r.cell["step"] for r in mine if r.metric == "curve_accuracy"}
            assert steps == {2, 4, 6}
            assert one(mine, "updates") == 6
            last = one(mine, "curve_accuracy", noise=0.0, step=6)
            assert one(mine, "accuracy", noise=0.0) == last
            assert one(mine, "steps_to_080", noise=0.0) == 6
            assert one(mine, "reached_080", noise=0.0) == 0
        for row in rows:
            assert (row.study, row.item, row.preset) == ("retrieval", item, "tiny")
            about.expect_metric(row.metric, "rows")
            about.expect_axes({k: v for k, v in row.cell.items() if k != "seed"}, "rows")
            if row.split == "test" and row.metric != "running_max_accuracy":
                assert row.n == TEST
                if "accuracy" in row.metric:
                    right = row.value * row.n
                    assert right == pytest.approx(round(right), abs=1e-6)
        assert len({(r.data, r.weights, r.params, r.source) for r in rows}) == 1
        assert len({json.dumps([r.metric, r.cell]) for r in rows}) == len(rows)
    compare_with_golden(found)


def _arm(cell: Cell) -> tuple[str, str]:
    return cell.access, cell.control


def compare_with_golden(rows: list[Row]) -> None:
    """Accuracies to 3e-3: some test images may flip on another CPU."""
    found = {
        "/".join([row.item, *map(str, row.cell.values())]): round(row.value, 6)
        for row in rows
        if row.metric == "accuracy" and row.cell["noise"] == 0
    }
    if os.environ.get("CARRYOVER_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert len(golden) > 20
    assert found == pytest.approx(golden, abs=3e-3)


def test_controls_are_those_of_the_parameters() -> None:
    special = {"memory-sizes", "clean-query"}
    assert set(CONTROLS) == set(names.CONTROLS) - special
    assert all(CONTROLS[name].start for name in names.STARTED)


def test_every_preset_lists_arms_that_exist(checkout: Checkout) -> None:
    from carryover import presets

    for name in presets.names():
        study = config.parse(presets.tree(name), name).retrieval
        for item in study.items:
            tried, final = cells(study, item)
            assert len({cell.name for cell in (*tried, *final)}) == len(tried) + len(final)
            assert {cell.access for cell in final} >= {"none", "knn"}
            assert all((cell.k > 0) == (cell.access != "none") for cell in final)


def test_stored_images_are_not_trained_on_and_queries_never_find_themselves(
    loaded: Loads,
) -> None:
    params, start = loaded("perceiver")
    rows, kept = division(params, start, 0)
    assert len(rows) + len(kept) == len(start.train)
    assert not set(rows.tolist()) & set(kept.tolist())
    assert torch.bincount(start.train.labels[kept]).tolist() == [4] * 10
    plain = lookup(params, start, NEAREST)
    assert plain is not None
    assert set(plain.store.ids.tolist()) == set(start.train.ids[kept].tolist())
    without = lookup(params, start, replace(NEAREST, control="leave-one-out"))
    itself = lookup(params, start, replace(NEAREST, control="itself"))
    assert without is not None
    assert itself is not None
    assert set(itself.store.ids.tolist()) <= set(start.train.ids[rows].tolist())
    for found, expected in ((itself, 1.0), (without, 0.0)):
        asked = found.store.ids
        place = {int(image): row for row, image in enumerate(start.train.ids.tolist())}
        ids = found.nearest(start.train, found.own)
        first = [int(found.store.ids[ids[place[int(image)], 0]]) for image in asked]
        own = [a == b for a, b in zip(first, asked.tolist(), strict=True)]
        assert sum(own) / len(own) == expected


def test_a_seed_divides_and_starts_all_arms_alike(loaded: Loads) -> None:
    params, start = loaded()
    weights = {}
    for cell in (PLAIN, NEAREST, replace(NEAREST, control="zeros"), replace(PLAIN, seed=1)):
        model = build(params, start, "resnet18", cell)
        weights[cell] = {k: v for k, v in model.state_dict().items() if "attend" not in k}
    first, *same, other = weights.values()
    for each in same:
        assert all(torch.equal(first[name], each[name]) for name in first)
    assert not torch.equal(first["network.conv1.weight"], other["network.conv1.weight"])
    assert not torch.equal(division(params, start, 0)[1], division(params, start, 1)[1])


def test_draws_differ_between_images_and_updates_and_cover_the_store(loaded: Loads) -> None:
    params, start = loaded()
    cell = Cell("sampled", 4, "none", 0)
    found = lookup(params, start, cell)
    assert found is not None
    seen: set[int] = set()
    drawn = []
    for first in range(0, 320, 16):
        batch = torch.arange(first, first + 16)
        random = retrieval_training.drawn_from(params, cell, batch)
        ids = found.drawn(found.own[batch], random)
        assert all(len(set(row)) == 4 for row in ids.tolist())
        assert len({tuple(row) for row in ids.tolist()}) > 12
        seen |= set(ids.flatten().tolist())
        drawn.append(ids)
    assert seen == set(range(40))
    assert not torch.equal(drawn[0], drawn[1])
    views = [found.of_test(start.tests[CLEAN], CLEAN, when) for when in ("2", "4")]
    assert not torch.equal(*views)


def test_entry_zero_is_a_control_and_a_published_fault(loaded: Loads) -> None:
    params, start = loaded()
    control = lookup(params, start, Cell("sampled", 4, "entry-0", 0))
    assert control is not None
    own = torch.full((3,), -1)
    assert control.drawn(own, torch.Generator()).tolist() == [[0] * 4] * 3
    params, _ = loaded(faults_of_original__entry_zero=True)
    faulty = control_of(params.retrieval, Cell("sampled", 4, "none", 0))
    assert faulty.entry_zero
    assert not control_of(params.retrieval, NEAREST).entry_zero


@pytest.mark.parametrize(
    ("control", "rows"), [("zeros", 1), ("single", 1), ("shuffled", 40), ("other-memory", 40)]
)
def test_controls_hand_out_what_they_say(loaded: Loads, control: str, rows: int) -> None:
    params, start = loaded("perceiver")
    plain, found = (lookup(params, start, replace(NEAREST, control=c)) for c in ("none", control))
    assert plain is not None
    assert found is not None
    assert len(found.store.contents.unique(dim=0)) == rows
    assert found.store.contents.shape == plain.store.contents.shape
    assert bool((found.store.contents == 0).all()) == (control == "zeros")
    same = torch.equal(found.store.features, plain.store.features)
    assert same == (control != "other-memory")
    assert not torch.equal(found.store.contents, plain.store.contents)


def test_labels_are_handed_out_where_attention_takes_them(loaded: Loads) -> None:
    params, start = loaded("perceiver")
    d = start.train.queries.shape[1]
    for control, width in (("none", d), ("labels", d + 10), ("labels-as-keys", d + 10)):
        cell = replace(NEAREST, control=control)
        found = lookup(params, start, cell)
        assert found is not None
        assert found.store.contents.shape[1] == width
        _, rows = inputs(params, start, found, None, torch.arange(3), torch.Generator())
        assert rows is not None
        assert build(params, start, "perceiver", cell)(torch.rand(3, 1, 8, 8), rows).shape == (
            3,
            10,
        )


def test_smaller_stores_are_part_of_larger_ones(loaded: Loads) -> None:
    params, start = loaded()
    large = lookup(params, start, NEAREST)
    small = lookup(params, start, replace(NEAREST, control="memory-2"))
    assert large is not None
    assert small is not None
    assert (len(large.store), len(small.store)) == (40, 20)
    assert set(small.store.ids.tolist()) < set(large.store.ids.tolist())


def test_the_plain_model_with_added_parameters_has_as_many(loaded: Loads) -> None:
    for item, margin in (("resnet18", 0.25), ("perceiver", 0.1)):
        params, start = loaded(item)
        sizes = [
            sum(p.numel() for p in build(params, start, item, cell).parameters())
            for cell in (PLAIN, NEAREST, replace(PLAIN, control="parameters"))
        ]
        assert sizes[0] < sizes[1]
        assert abs(sizes[2] - sizes[1]) < margin * sizes[1]


def test_noise_is_the_same_for_an_image_and_grows_with_its_deviation(loaded: Loads) -> None:
    params, start = loaded(noises=[0.0, 0.1, 0.3])
    again = load_start(params, "resnet18", torch.device("cpu"))
    clean = start.tests[CLEAN].pixels.float()
    moved = []
    for noise in (0.1, 0.3):
        noisy = start.tests[View(noise)].pixels
        assert torch.equal(noisy, again.tests[View(noise)].pixels)
        moved.append(float((noisy.float() - clean).std() / 255))
    assert moved[0] == pytest.approx(0.1, abs=0.04)  # cut back to 0..1
    assert moved[1] > 2 * moved[0]
    assert not torch.equal(start.tests[View(0.3)].queries, start.tests[CLEAN].queries)


def test_clean_queries_look_up_the_neighbours_of_clean_images(run_arms: Runs) -> None:
    rows = run_arms("resnet18", "clean-query", **(FEW | {"noises": [0.0, 0.3]}))
    clean = of(rows, "accuracy", control="clean-query")
    assert [dict(key)["noise"] for key in clean] == [0.3]
    noisy = one(rows, "accuracy", access="knn", control="none", noise=0.3)
    assert list(clean.values()) != [noisy]


def test_published_faults_change_what_they_name(run_arms: Runs) -> None:
    right = run_arms("resnet18", **FEW)
    faulty = {"head_classes": 12, f"{FAULTS}__running_maximum": True}
    wrong = run_arms("resnet18", "zeros", **faulty, **FEW)
    nearest = {"access": "knn", "control": "none"}
    assert one(wrong, "trained_numbers", **nearest) > one(right, "trained_numbers", **nearest)
    last = one(wrong, "running_max_accuracy", step=6, **nearest)
    assert one(wrong, "accuracy", noise=0.0, **nearest) == last
    assert last != one(wrong, "curve_accuracy", step=6, **nearest)
    zeros = {"access": "knn", "control": "zeros"}  # controls are measured the same way
    last = one(wrong, "running_max_accuracy", step=6, **zeros)
    assert one(wrong, "accuracy", noise=0.0, **zeros) == last
    scrambled = run_arms("resnet18", head_classes=0, **{f"{FAULTS}__reshaped_tokens": True}, **FEW)
    assert of(scrambled, "accuracy", access="none") != of(scrambled, "accuracy", access="knn")
    plain = {"metric": "curve_loss", "access": "none", "step": 2}
    assert one(scrambled, **plain) == one(right, **plain)
    assert one(scrambled, **(plain | {"access": "knn"})) != one(right, **(plain | nearest))


FAULTS = "faults_of_original"


def test_alexnet_runs_on_larger_images(run_arms: Runs) -> None:
    rows = run_arms("alexnet", "zeros", "vote", size=32, **FEW)
    arms = {(r.cell["access"], r.cell["control"]) for r in rows}
    assert arms == {
        *(("none", "none"), ("knn", "none"), ("sampled", "none")),
        *(("knn", "zeros"), ("knn", "vote")),
    }


def test_changed_images_look_up_as_they_are_seen(loaded: Loads) -> None:
    params, start = loaded(crop=0.5, flip=True)
    found = lookup(params, start, NEAREST)
    assert found is not None
    batch = torch.arange(16)
    x, handed = inputs(params, start, found, None, batch, torch.Generator().manual_seed(0))
    still = start.train.pixels[batch].float() / 255
    assert handed is not None
    assert not torch.equal(x, still)
    stored = found.store.handed(found.nearest(start.train, found.own)[batch])
    assert handed.shape == stored.shape
    assert not torch.equal(handed, stored)


def test_rates_are_chosen_on_held_out_training_images(
    run_arms: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, float, int]] = []

    def validated(params: Any, start: Any, item: str, cell: Cell) -> dict[str, float]:
        seen.append((cell.access, cell.lr, cell.seed))
        return {"accuracy": 0.5, "loss": abs(cell.lr - 0.01)}

    monkeypatch.setattr(retrieval, "validated", validated)
    rows = run_arms("resnet18", "zeros", **FEW)
    assert seen == [("knn", 0.01, 0), ("knn", 0.03, 0)]
    assert set(of(rows, "lr", access="knn").values()) == {0.01}
    assert set(of(rows, "lr", access="none").values()) == {0.03}


def test_weights_of_an_encoder_are_taken_where_they_fit() -> None:
    from carryover.models.resnet18 import ResNet18

    grey, colour = ResNet18(4, 10, 1), ResNet18(4, None, 3)
    before = {name: tensor.clone() for name, tensor in grey.state_dict().items()}
    assert not take_(grey, ResNet18(8, None, 3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in grey.state_dict().items())
    assert take_(grey, colour)
    x = torch.rand(2, 1, 8, 8)
    given = colour.eval()(x.expand(-1, 3, -1, -1))
    assert torch.allclose(grey.eval().embed(x), given, atol=1e-6)
    assert torch.equal(grey.linear.weight, before["linear.weight"])
    assert not take_(nn.Linear(2, 2), colour)


def test_attention_weights_add_up_and_name_stored_images(run_arms: Runs) -> None:
    run_arms("perceiver", **FEW)
    lines = pq.read_table("data/predictions/retrieval/perceiver/attention.parquet").to_pylist()
    assert len(lines) == 10 * 4
    sums: dict[int, float] = {}
    for line in lines:
        sums[line["image"]] = sums.get(line["image"], 0.0) + line["weight"]
        assert line["seed"] == 0
    assert list(sums.values()) == pytest.approx([1.0] * 10)
    assert sorted({line["label"] for line in lines}) == list(range(10))
    by_image = [line["distance"] for line in lines if line["image"] == lines[0]["image"]]
    assert by_image == sorted(by_image)


def test_too_many_neighbours_are_refused(run_arms: Runs) -> None:
    with pytest.raises(DataError, match="expected 1 to the 40 rows of the retrieval store"):
        run_arms("resnet18", **(FEW | {"k": 41}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retrieval.k": 0}, r"retrieval\.k: expected at least 1, got 0"),
        ({"retrieval.memory.per_class": 0}, r"retrieval\.memory\.per_class: expected at least 1"),
        ({"retrieval.curve_noises": [0.3]}, r"retrieval\.curve_noises: expected 0\.0 first"),
        ({"retrieval.controls.perceiver": ["reshaped"]}, "expected none that needs a map"),
        ({"retrieval.controls.perceiver": ["corpus"]}, r"retrieval\.starts\.perceiver\.corpus"),
        ({"retrieval.controls.perceiver": ["nothing"]}, r"controls\.perceiver\[0\]: expected one"),
        ({"retrieval.memory.sizes": None}, r"retrieval\.memory\.sizes: expected some"),
        ({"retrieval.memory.other": None}, r"retrieval\.memory\.other: expected a set"),
        ({"retrieval.training.resnet18.updates": 7}, r"evaluate_at: expected steps in order"),
        ({"retrieval.memory.encoder.source": "pretrain:x"}, r"source: expected pretrain: and one"),
        ({"retrieval.ks.resnet18": [4]}, r"expected others than k \(4\)"),
    ],
)
def test_faults_of_the_parameters_are_told(
    tiny: Checkout, changes: dict[str, Any], message: str
) -> None:
    tiny.edit(**changes)
    with pytest.raises(ConfigError, match=message):
        config.read(PARAMS)


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_the_number_of_processes_changes_no_byte(
    run_arms: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for count in ("0", "2"):
        monkeypatch.setenv("CARRYOVER_WORKERS", count)
        run_arms("perceiver", "single", **FEW)
        found.append(Path("reports/retrieval/runs/perceiver/rows.jsonl").read_bytes())
    assert found[0] == found[1]


def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(
    run_arms: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("reports/retrieval/runs/perceiver/rows.jsonl")
    change = FEW | {"batch_size": 200, "accesses": ["knn", "sampled"]}  # three updates an epoch
    run_arms("perceiver", **change)
    whole = path.read_bytes()
    path.unlink()
    monkeypatch.setattr("carryover.train.SNAPSHOT_SECONDS", 0.0)
    watch_ = retrieval_training.watch_

    def cut_off(*given: Any) -> None:
        watch_(*given)
        if given[3] == 6 and given[2].cell.access == "sampled":
            raise KeyboardInterrupt

    monkeypatch.setattr(retrieval_training, "watch_", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run_arms("perceiver", **change)
    assert list(Path(".scratch").rglob("sampled@4@none@0.pt"))
    assert not path.exists()
    resumed: list[int] = []

    def noted(*given: Any) -> None:
        resumed.append(given[3])
        watch_(*given)

    monkeypatch.setattr(retrieval_training, "watch_", noted)
    run_arms("perceiver", **change)
    assert resumed == [4, 5, 6]  # the first epoch and the finished cell are not done again
    assert path.read_bytes() == whole
    assert not list(Path(".scratch").rglob("sampled@4@none@0.pt"))


def test_a_rate_that_diverges_is_the_worst(loaded: Loads) -> None:
    params, start = loaded()
    found = retrieval.validated(params, start, "resnet18", replace(PLAIN, lr=1.0e30))
    assert found == {"accuracy": 0.0, "loss": float("inf")}


def test_rows_are_kept_cell_by_cell(run_arms: Runs, tmp_path: Path) -> None:
    rows = run_arms("resnet18", "vote", **FEW)
    target = tmp_path / "kept" / "rows.jsonl"
    part = [row for row in rows if row.cell["access"] == "none"]
    write_rows(target, _merged(target, part))
    merged = _merged(target, rows)
    assert sorted(map(repr, merged)) == sorted(map(repr, rows))


def test_the_grid_changes_no_digest(tiny: Checkout) -> None:
    tree = tiny.tree()
    before = reader.digest_of(tree, "retrieval", without=names.GRID)
    tree["retrieval"] |= {"seeds": 9, "controls": {}, "items": ["alexnet"]}
    assert reader.digest_of(tree, "retrieval", without=names.GRID) == before
    tree["retrieval"]["k"] = 9
    assert reader.digest_of(tree, "retrieval", without=names.GRID) != before


def test_answers_of_some_images_are_those_among_all(loaded: Loads) -> None:
    params, start = loaded("perceiver")
    trained = train(
        params, start, "perceiver", NEAREST, 0.01, rows_of(params, start, NEAREST, False), None
    )
    rows = torch.tensor([5, 900, 3])
    some = answers(params, start, trained, CLEAN, "x", rows)
    whole = answers(params, start, trained, CLEAN, "x")
    assert torch.allclose(some, whole[rows], atol=1e-5)
