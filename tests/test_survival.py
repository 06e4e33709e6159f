"""What survived, on ``tests/params.yaml``: models that are made here, and those of the studies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from carryover import checkpoints, launch, parallel, provenance, survival_measures
from carryover.adapt.averaging import mixed
from carryover.checkpoints import Checkpoint
from carryover.claims import schema
from carryover.config import params as config
from carryover.embed import prepared
from carryover.errors import ConfigError, DataError, KitError
from carryover.files import digest
from carryover.measure import survival as measure
from carryover.models import encoders
from carryover.models.encoders import Encoder
from carryover.models.saved import read_card
from carryover.retrieval_models import _in_colour
from carryover.rows import Row, read_rows
from carryover.shares import Share
from carryover.stages import PARAMS, run_stage
from carryover.studies import survival
from carryover.survival_looks import embedded, layers_of
from carryover.survival_origins import load_origin, place_of
from carryover.survival_start import built, spread_rows, start_model
from conftest import REPOSITORY, Checkout

CPU = torch.device("cpu")
ROWS = Path("reports/survival/runs/all/rows.jsonl")


@pytest.fixture
def made(embedded: Checkout, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """The tiny checkout with a few models that were adapted by hand."""
    monkeypatch.setattr(provenance, "source_digest", lambda module: "0" * 16)
    embedded.edit(**{"survival.origins": ["adapt", "sequence", "cuts"]})
    encoder = clip()
    for seed, height in enumerate((0.0, 0.02, 0.5)):
        found = of_clip(encoder, seed, moved(encoder.image.state_dict(), height, seed))
        keep(found, f"norm-{seed}")
    keep(of_clip(encoder, 0, {}, method="probe"), "probe-0")
    text = moved(encoder.model.state_dict(), 0.05, 7)
    assert encoder.text is not None
    keep(
        dataclasses.replace(
            of_clip(encoder, 0, text),
            study="sequence",
            item="plain",
            cell={"method": "finetune", "order": "1", "seed": 0},
            start=digest([encoder.weights, encoder.text.digest]),
            what="model",
        ),
        "finetune-0",
    )
    keep(of_cnn(["conv0", "act0", "conv1", "act1", "pool1", "flatten"], 2, "ft"), "cut-2")
    keep(of_cnn(whole(), 0, "fr"), "cut-0")
    return embedded


def clip() -> Encoder:
    return prepared(config.read(PARAMS).encoders["clip-nano"])


def cnn() -> Encoder:
    return encoders.load("pretrain:cnn6-digits-0-4")


def whole() -> list[str]:
    return [name for name, _ in cnn().image.named_children() if name != "grey"]


def moved(state: dict[str, Tensor], height: float, seed: int) -> dict[str, Tensor]:
    """Weights with noise; none with height 0."""
    random = torch.Generator().manual_seed(seed)
    if not height:
        return {}
    return {
        name: tensor + height * torch.randn(tensor.shape, generator=random)
        for name, tensor in state.items()
        if tensor.is_floating_point() and name != "logit_scale"
    }


def of_clip(
    encoder: Encoder, seed: int, tensors: dict[str, Tensor], method: str = "unfreeze-norm"
) -> Checkpoint:
    cell = {"dataset": "digits", "method": method, "partition": 1.0, "seed": seed}
    start = encoder.weights
    return Checkpoint("adapt", "unfreeze", cell, "clip-nano", start, "image", tensors)


def of_cnn(modules: list[str], cut: int, item: str) -> Checkpoint:
    tensors = moved(cnn().image.state_dict(), 0.5, 3) if item == "fr" else {}
    return Checkpoint(
        "cuts",
        item,
        {"fraction": 1.0, "cut": cut, "repeat": 0, "pair": "digits"},
        "pretrain:cnn6-digits-0-4",
        read_card(Path("data/models/cnn6-digits-0-4"))["weights"],
        "image",
        tensors,
        {"modules": modules},
    )


def keep(found: Checkpoint, name: str) -> None:
    path = checkpoints.FOLDER / found.study / found.item / f"{name}.safetensors"
    checkpoints.write(path, found)


def of(rows: list[Row], metric: str, **axes: Any) -> list[float]:
    wanted = axes.items()
    return [row.value for row in rows if row.metric == metric and wanted <= row.cell.items()]


def one(rows: list[Row], metric: str, **axes: Any) -> float:
    (value,) = of(rows, metric, **axes)
    return value


def test_every_model_has_its_rows_as_the_schema_has_them(
    made: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "LEAST", 0)  # tiny sets are a few images above chance
    run_stage("survival", "")
    rows = read_rows(ROWS)
    about = schema.read(REPOSITORY / "claims/schema.yaml", {})["survival"]
    kinds = {"text": str, "number": (int, float), "integer": int, "repeat": int}
    for row in rows:
        assert (row.study, row.item, row.preset, row.split) == ("survival", "all", "tiny", "test")
        assert row.metric in about.metrics
        for axis, value in row.cell.items():
            assert isinstance(value, kinds[about.axes[axis]]), axis
    keys = [(row.metric, tuple(sorted(row.cell.items(), key=str))) for row in rows]
    assert len(set(keys)) == len(keys)
    norm = {"origin": "adapt", "method": "unfreeze-norm"}
    assert_unchanged(rows, norm | {"seed": 0})
    assert_unchanged(rows, {"origin": "adapt", "method": "probe", "seed": 0})
    near, far = (one(rows, "cka", layer="embedding", seed=s, **norm) for s in (1, 2))
    assert far < near < 1
    assert one(rows, "distance", layer="all", seed=1, **norm) > 0
    begins = one(rows, "accuracy", way="start", origin="adapt", by="probe", role="target")
    lines = of(rows, "mixed_accuracy", role="target", mix=0.0, **norm)
    assert lines == [begins] * 3
    assert_cut(rows)
    for name in ("survival.md", "survival.csv", "survival.tex", "kept.svg", "mixing.png"):
        assert (Path("reports/survival") / name).stat().st_size > 500
    title, header, lines_ = survival.headline({})
    assert (len(header), lines_) == (4, [])
    assert title.startswith("survival")


def assert_unchanged(rows: list[Row], axes: dict[str, Any]) -> None:
    """A model that is its start keeps exactly all of it."""
    kept = of(rows, "kept", **axes)
    assert kept
    assert set(kept) == {1.0}
    assert set(of(rows, "distance", **axes)) == {0.0}
    assert min(of(rows, "cka", **axes)) == pytest.approx(1, abs=1e-6)
    for role in ("source", "target"):
        assert len(set(of(rows, "mixed_accuracy", role=role, **axes))) == 1
        assert set(of(rows, "barrier", role=role, **axes)) == {0.0}
    start = {"origin": "adapt", "way": "start"}
    for metric in ("ece", "nll", "corrupted_accuracy"):
        assert of(rows, metric, **axes) == of(rows, metric, **start)


def assert_cut(rows: list[Row]) -> None:
    """A network without its last groups has layers, but no classifier that fits it."""
    axes = {"origin": "cuts", "method": "cut 2"}
    assert of(rows, "kept", by="own", **axes) == []
    assert {r.cell["layer"] for r in rows if r.metric == "cka" and axes.items() <= r.cell.items()}
    layers = [r.cell["layer"] for r in rows if r.metric == "cka" and r.cell["method"] == "cut 2"]
    assert layers == ["conv0", "conv1", "embedding"]
    assert of(rows, "cka", layer="conv1", **axes)[0] == pytest.approx(1, abs=1e-6)
    assert set(of(rows, "distance", **axes)) == {0.0}
    assert len(of(rows, "kept", by="own", origin="cuts", method="cut 0")) == 1


def test_a_killed_run_goes_on_and_ends_the_same(
    made: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.edit(**{"survival.origins": ["cuts"]})
    run_stage("survival", "")
    once = made.files()
    for path in Path("reports/survival").glob("*.*"):
        path.unlink()
    work, calls = survival.of_model, list[str]()

    def dies(*given: Any) -> Any:
        calls.append(given[2].item)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return work(*given)

    monkeypatch.setattr(survival, "of_model", dies)
    with pytest.raises(KeyboardInterrupt):
        run_stage("survival", "")
    run_stage("survival", "")
    assert len(calls) == 3
    assert made.files() == once


def test_shares_of_a_launch_end_the_same(made: Checkout) -> None:
    made.edit(**{"survival.origins": ["cuts"]})
    run_stage("survival", "")
    once = made.files()
    rows = Path("reports/survival/runs/all/rows.jsonl")
    rows.unlink()
    for index in range(2):
        assert launch.compute("survival", Share(index, 2)) == 0
        assert not rows.exists()
    assert launch.write_rows("survival") == 0
    assert made.files() == once


def test_a_model_of_other_weights_is_refused(made: Checkout) -> None:
    made.edit(**{"survival.origins": ["cuts"]})
    keep(dataclasses.replace(of_cnn(whole(), 0, "fr"), start="f" * 16), "cut-0")
    with pytest.raises(DataError, match=r"began from the weights .* got one from f{16}; run `dvc"):
        run_stage("survival", "")
    assert not ROWS.exists()


def test_tensors_of_another_network_are_refused(made: Checkout) -> None:
    made.edit(**{"survival.origins": ["cuts"]})
    other = dataclasses.replace(of_cnn(whole(), 0, "fr"), tensors={"conv0.weight": torch.ones(1)})
    keep(other, "cut-0")
    with pytest.raises(DataError, match=r"expected tensors of pretrain:cnn6.*conv0.weight of ano"):
        run_stage("survival", "")
    assert not ROWS.exists()


def test_no_model_at_all_is_refused(made: Checkout) -> None:
    made.edit(**{"survival.origins": ["cuts"]})
    for item in ("fr", "ft"):
        checkpoints.keep([], "cuts", item)
    with pytest.raises(DataError, match="expected models of cuts, found none; run `dvc repro`"):
        run_stage("survival", "")


def test_weights_that_are_not_finite_are_told_and_nothing_else(made: Checkout) -> None:
    made.edit(**{"survival.origins": ["cuts"]})
    found = of_cnn(whole(), 0, "fr")
    broken = found.tensors | {"conv0.bias": torch.full_like(found.tensors["conv0.bias"], torch.nan)}
    keep(dataclasses.replace(found, tensors=broken), "cut-0")
    run_stage("survival", "")
    mine = [row for row in read_rows(ROWS) if row.cell["method"] == "cut 0"]
    assert [(row.metric, row.value) for row in mine] == [("diverged", 1.0)]


# --- parts ----------------------------------------------------------------------------------------


def test_the_network_on_the_line_is_the_mixed_one(made: Checkout) -> None:
    params, found = (
        config.read(PARAMS),
        of_clip(clip(), 1, moved(clip().image.state_dict(), 0.1, 1)),
    )
    origin = load_origin(params, found, CPU)
    half = mixed(clip().image.state_dict(), {**clip().image.state_dict(), **found.tensors}, 0.5)
    model = built(origin, found, half)
    assert torch.equal(model.image.state_dict()["proj"], half["proj"])
    assert torch.equal(origin.encoder.image.state_dict()["proj"], clip().image.state_dict()["proj"])
    shown = origin.target.test
    assert not torch.equal(embedded(model.image, shown), embedded(start_model(origin).image, shown))
    assert model.whole.visual is model.image


def test_an_answer_untaught_is_that_of_the_starts_own_classifier(made: Checkout) -> None:
    params, found = config.read(PARAMS), of_cnn(whole(), 0, "fr")
    origin = load_origin(params, found, CPU)
    seen = survival_measures.look(origin, start_model(origin))
    (part,) = origin.own
    pixels = part.test.pixels.float() / 255
    with torch.no_grad():
        by_hand = cnn().model((pixels.expand(-1, 3, -1, -1) - 0.5) / 0.5)
    assert torch.allclose(seen.own[part.dataset], by_hand, atol=1e-5)
    assert place_of(params, found) == ("cuts", "pretrain:cnn6-digits-0-4", "digits")


def test_without_other_sets_or_sentences_the_source_is_answered_by_prompts(made: Checkout) -> None:
    params, found = config.read(PARAMS), of_clip(clip(), 0, {})
    assert [part.dataset for part in load_origin(params, found, CPU).own] == ["letters"]
    alone = dataclasses.replace(params, adapt=dataclasses.replace(params.adapt, others=None))
    assert [part.dataset for part in load_origin(alone, found, CPU).own] == ["world captions"]
    recipe = params.pretrain["clip-nano"]
    for source, own in (("letters", ["letters"]), ("digits", [])):  # digits: adapted to
        corpus = {"clip-nano": dataclasses.replace(recipe, dataset="", datasets=(source,))}
        origin = load_origin(dataclasses.replace(alone, pretrain=corpus), found, CPU)
        assert [part.dataset for part in origin.own] == own
        assert origin.source is not None
        assert origin.source.dataset == source
        assert [part.templates for part in origin.own] == [1] * len(own)


def test_a_model_of_an_encoder_that_is_not_listed_is_refused(made: Checkout) -> None:
    found = dataclasses.replace(of_clip(clip(), 0, {}), network="clip-mini")
    with pytest.raises(ConfigError, match="of adapt unfreeze: expected one of clip-nano"):
        load_origin(config.read(PARAMS), found, CPU)


def test_layers_come_with_the_embedding_last(made: Checkout) -> None:
    origin = load_origin(config.read(PARAMS), of_clip(clip(), 0, {}), CPU)
    found = layers_of(origin.encoder.image, origin.layered)
    assert list(found) == ["embed", "block0", "block1", "output", "embedding"]
    assert torch.allclose(found["embedding"], embedded(origin.encoder.image, origin.layered))


@pytest.mark.parametrize(
    ("count", "most", "rows"), [(3, 5, [0, 1, 2]), (6, 3, [0, 2, 4]), (5, 2, [0, 2]), (0, 4, [])]
)
def test_rows_are_spread_over_all(count: int, most: int, rows: list[int]) -> None:
    assert spread_rows(count, most).tolist() == rows


# --- what the studies keep ------------------------------------------------------------------------

Runs = Callable[..., list[Checkpoint]]


@pytest.fixture
def kept(embedded: Checkout, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Run one item of a study with some keys changed; the models that it keeps."""
    monkeypatch.setattr(provenance, "source_digest", lambda module: "0" * 16)

    def models(study: str, item: str, **changes: Any) -> list[Checkpoint]:
        embedded.edit(**{f"{study}.{key}": value for key, value in changes.items()})
        run_stage(study, item)
        return [checkpoints.read(path) for path in checkpoints.listed(study)]

    return models


def test_an_adapted_encoder_scores_from_its_file_what_its_rows_say(kept: Runs) -> None:
    rate = {"probe": [0.01], "unfreeze": [0.01], "llrd": [0.01]}
    found = kept(
        "adapt", "unfreeze", unfreeze=["norm"], partitions=[0.5], fault_from=0.5, seeds=2, lrs=rate
    )
    assert [(each.cell["method"], each.cell["seed"]) for each in found] == [
        ("unfreeze-norm", 0),
        ("unfreeze-norm", 1),
    ]
    params = config.read(PARAMS)
    params = dataclasses.replace(
        params, survival=dataclasses.replace(params.survival, images=10_000)
    )
    rows = read_rows(Path("reports/adapt/runs/unfreeze/rows.jsonl"))
    for each in found:
        assert all("ln" in name for name in each.tensors)
        origin = load_origin(params, each, CPU)
        seen = survival_measures.look(origin, built(origin, each, each.tensors))
        logits, labels = seen.own["letters"], origin.own[0].test.labels
        right = float((logits.argmax(1) == labels).double().mean())
        at = {"dataset": "letters", "seed": each.cell["seed"]}
        assert right == one(rows, "zeroshot_accuracy", **at)


def test_a_probe_leaves_a_file_without_tensors(kept: Runs) -> None:
    rate = {"probe": [0.01], "unfreeze": [0.01], "llrd": [0.01]}
    found = kept("adapt", "probe", partitions=[0.5], fault_from=0.5, seeds=1, lrs=rate)
    assert [(each.cell["method"], each.tensors) for each in found] == [("probe", {})]


def test_a_sequence_keeps_the_model_that_it_tests_at_the_end(kept: Runs) -> None:
    methods = {"average": ["wise-at-test"], "plain": ["zero-shot"]}
    items = ["plain", "average"]
    (found,) = kept(
        "sequence", "average", methods=methods, items=items, lrs={"full": [0.001], "lora": [0.01]}
    )
    assert found.cell == {"method": "wise-at-test", "order": "1", "seed": 0}
    origin = load_origin(config.read(PARAMS), found, CPU)
    model = built(origin, found, found.tensors)
    shown = dataclasses.replace(origin.target.test)
    assert not torch.equal(embedded(model.image, shown), embedded(origin.encoder.image, shown))
    assert model.own_text


def test_a_cut_network_keeps_what_was_frozen_and_lists_what_is_left(kept: Runs) -> None:
    small = {"fractions": [1.0], "repeats": [4], "max_updates": 4, "evaluate_every": 4}
    found = kept("cuts", "ft", settings=["ft", "baseline"], cuts=[0, 3, 6], **small)
    cells = [(each.cell["cut"], each.cell["repeat"]) for each in found]
    assert cells == [(cut, repeat) for cut in (0, 3, 6) for repeat in range(3)]
    assert all(each.tensors == {} for each in found)  # what is not removed is frozen
    assert found[3].form["modules"][-2:] == ["act2", "flatten"]
    assert found[0].form["modules"] == ["flatten"]


def test_a_partly_frozen_encoder_comes_back_from_below_its_head(kept: Runs) -> None:
    every = kept("continual", "partly")
    found = every[0]
    assert [each.cell["seed"] for each in every] == [0, 1]  # of `saved_seeds`
    assert (found.what, found.cell["arm"]) == ("adapted", "first")
    assert any(name.startswith("head.") for name in found.tensors)
    assert found.encoder_tensors
    params = config.read(PARAMS)
    origin = load_origin(params, found, CPU)
    assert [part.dataset for part in origin.own] == ["letters"]
    model = built(origin, found, found.encoder_tensors)
    distances = {
        at["layer"]: value for _, at, value, _ in survival_measures.distances(origin, found, model)
    }
    assert distances["embed"] == 0.0
    assert distances["block1"] > 0


def test_a_head_on_a_frozen_encoder_stands_once_for_all(kept: Runs, embedded: Checkout) -> None:
    found = kept("continual", "frozen")
    assert len(found) > 1
    assert {each.what for each in found} == {"head"}
    embedded.edit(**{"survival.origins": ["continual"]})
    (subject,) = survival.adapted_models(config.read(PARAMS))
    axes = {"origin": "continual", "way": "frozen", "method": "frozen", "target": "s-digits"}
    assert survival.axes(subject) == axes


def test_an_encoder_below_a_classifier_gives_what_it_gave(kept: Runs) -> None:
    one_arm = {"accesses": ["none"], "controls": {"resnet18": ["corpus"]}, "ks": None}
    one_arm |= {"noises": [0.0], "curve_noises": [0.0], "corruptions": None}
    (found,) = kept("retrieval", "resnet18", items=["resnet18"], **one_arm)
    assert (found.network, found.form) == ("cifar-resnet:20", {"size": 8})
    origin = load_origin(config.read(PARAMS), found, CPU)
    assert origin.own == ()
    assert origin.source is None  # what it was pretrained on is not here
    model = built(origin, found, found.tensors)
    z = embedded(model.image, origin.target.test)
    assert z.shape == (40, 64)
    assert not torch.equal(z, embedded(start_model(origin).image, origin.target.test))


def test_weights_of_a_grey_layer_change_all_colours_alike() -> None:
    given = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    found = _in_colour(torch.tensor([9.0]).view(1, 1, 1, 1), given)
    assert found.flatten().tolist() == [2.0, 3.0, 4.0]
    same = _in_colour(given.sum(1, keepdim=True), given)
    assert torch.equal(same, given)


def test_a_killed_study_keeps_the_same_models(
    kept: Runs, embedded: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"fractions": [1.0], "repeats": [2], "max_updates": 4, "evaluate_every": 4}
    kept("cuts", "fr", settings=["fr", "baseline"], cuts=[0, 3], **small)
    once = embedded.files()
    checkpoints.keep([], "cuts", "fr")
    from carryover.studies import cuts

    work, calls = cuts.train, list[int]()

    def dies(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KitError("killed")
        return work(*given)

    monkeypatch.setattr(cuts, "train", dies)
    with pytest.raises(KitError, match="killed"):
        run_stage("cuts", "fr")
    assert checkpoints.listed("cuts") == []
    run_stage("cuts", "fr")
    assert len(calls) == 5
    assert embedded.files() == once
    assert parallel.spread is cuts.spread
