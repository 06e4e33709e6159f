"""Pretraining without labels: BYOL, SimCLR and what they leave."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carryover import run
from carryover.config.params import Params
from carryover.config.selfsupervised import (
    LEAST,
    Attention,
    Backbone,
    Byol,
    Perceptron,
    SimClr,
    ViewParams,
)
from carryover.data import catalog, rendered, store
from carryover.errors import ConfigError, DataError
from carryover.models import encoders, saved
from carryover.models.features import Feature
from carryover.pretrain import byol, selfsupervised, simclr
from carryover.pretrain.selfsupervised import Corpus

VIEWS = ViewParams(
    crop=0.6,
    flip=0.0,
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grey=0.2,
    blur=0.0,
)
ATTENTION = Attention(
    latents=2,
    layers=2,
    cross_heads=1,
    cross_head_width=4,
    heads=2,
    head_width=2,
    bands=2,
    max_frequency=4,
    dropout=0.1,
)
BACKBONES = [
    Backbone("alexnet", 2, 32, "cifar", None),
    Backbone("alexnet", 1, 64, "torchvision", None),
    Backbone("perceiver", 8, 8, None, ATTENTION),
]
COMMON: dict[str, Any] = {
    "dataset": "world",
    "datasets": None,
    "network": Backbone("resnet18", 4, 8, None, None),
    "projection": Perceptron(hidden=16, out=8),
    "views": VIEWS,
    "optimiser": "adam",
    "lr": 0.01,
    "weight_decay": 0.0001,
    "warm_up": 2,
    "batch_size": 16,
    "epochs": 2,
    "max_updates": 0,
    "validation_images": 20,
    "precision": "float32",
    "threads": 1,
}
BYOL = Byol(objective="byol", prediction=16, momentum=0.9, **COMMON)
SIMCLR = SimClr(objective="simclr", temperature=0.5, **COMMON)
RECIPES = [BYOL, SIMCLR]
Recipe = Byol | SimClr


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(n: int = 64, size: int = 8) -> Corpus:
    """Noisy images of four colours."""
    labels = torch.arange(n) % 4
    centres = torch.tensor([[200, 20, 20], [20, 200, 20], [20, 20, 200], [20, 20, 20]])
    noise = torch.randint(0, 40, (n, 3, size, size), generator=random(1))
    return Corpus((centres[labels][:, :, None, None] + noise).byte(), labels, "d")


def network(recipe: Recipe) -> Any:
    return selfsupervised.new(recipe, selfsupervised.describe(recipe), random())


def trained(recipe: Recipe, snapshot: Path | None = None) -> Any:
    found = network(recipe)
    selfsupervised.train(found, plain().pixels, recipe, random(5), snapshot, "x")
    return found


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def pair() -> tuple[Tensor, Tensor]:
    return torch.rand(6, 3, 8, 8, generator=random(2)), torch.rand(6, 3, 8, 8, generator=random(3))


def test_byols_loss_is_2_less_twice_the_cosine() -> None:
    predicted = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    wanted = torch.tensor([[5.0, 0.0], [0.0, -1.0], [1.0, 0.0]])
    found = byol.prediction_loss(predicted, wanted)  # cosines 1, -1 and 0.7071
    assert float(found) == pytest.approx((0 + 4 + 2 - math.sqrt(2)) / 3, abs=1e-6)


def test_the_momentum_rises_from_its_start_to_1() -> None:
    found = [byol.momentum_at(0.9, share) for share in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([0.9, 0.95, 1.0])


def test_simclrs_loss_of_two_images_by_hand() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    b = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    found = simclr.nt_xent(a, b, 1.0)  # each: its other 1, the two views of the other image 0
    assert float(found) == pytest.approx(math.log(1 + 2 / math.e), abs=1e-6)


def test_simclrs_loss_is_that_of_a_plain_loop() -> None:
    a, b = torch.randn(2, 5, 3, generator=random()).unbind()
    every = [*a, *b]
    total = 0.0
    for i, anchor in enumerate(every):
        cos = [float(torch.cosine_similarity(anchor, other, dim=0)) / 0.3 for other in every]
        rest = sum(math.exp(value) for j, value in enumerate(cos) if j != i)
        total -= cos[(i + 5) % 10] - math.log(rest)
    assert float(simclr.nt_xent(a, b, 0.3)) == pytest.approx(total / 10, abs=1e-5)


def test_equal_embeddings_cost_the_logarithm_of_the_other_views() -> None:
    same_for_all = torch.ones(8, 4)
    found = simclr.nt_xent(same_for_all, same_for_all, 0.1)
    assert float(found) == pytest.approx(math.log(15), abs=1e-5)


def test_the_target_starts_as_the_online_network_and_gets_no_gradient() -> None:
    found = network(BYOL)
    assert same(found.target[0], found.encoder)
    assert same(found.target[1], found.projector)
    loss = found(*pair())
    loss.backward()
    assert 0 < loss.item() < 8
    assert all(p.grad is None for p in found.target.parameters())
    parts = (found.encoder, found.projector, found.predictor)
    assert all(p.grad is not None for part in parts for p in part.parameters())
    optimised = [p for group in selfsupervised.groups(found, 0.1) for p in group["params"]]
    assert len(optimised) == sum(len(list(part.parameters())) for part in parts)


def test_the_target_is_drawn_to_the_online_network() -> None:
    found = network(BYOL)
    for p in [*found.encoder.parameters(), *found.projector.parameters()]:
        p.data += 1.0
    before = [p.clone() for p in found.target.parameters()]
    found.after_step_(0.5)  # momentum 0.95
    moved = [float((p - q).mean()) for p, q in zip(found.target.parameters(), before, strict=True)]
    assert moved == pytest.approx([0.05] * len(moved), abs=1e-4)
    found.after_step_(1.0)  # momentum 1
    again = [float((p - q).mean()) for p, q in zip(found.target.parameters(), before, strict=True)]
    assert again == pytest.approx(moved, abs=1e-7)


def test_weight_decay_spares_norms_and_biases() -> None:
    decayed, spared = selfsupervised.groups(network(SIMCLR), 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in spared["params"]} == {1}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.objective)
def test_a_seed_gives_one_network_and_torchs_own_stream_is_left(recipe: Recipe) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    few = dataclasses.replace(recipe, max_updates=2)
    assert same(trained(few), trained(few))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.objective)
def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    whole = trained(recipe)
    monkeypatch.setattr("carryover.train.SNAPSHOT_SECONDS", 0.0)
    path, after = tmp_path / "training.pt", type(network(recipe)).after_step_

    def killed(self: Any, share: float) -> None:
        after(self, share)
        if share > 0.7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(whole), "after_step_", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(recipe, path)
    assert path.exists()
    assert same(trained(recipe, path), whole)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.objective)
def test_training_stops_at_the_most_updates(recipe: Recipe) -> None:
    few = dataclasses.replace(recipe, max_updates=3)
    assert selfsupervised.train(network(few), plain().pixels, few, random(), None, "x") == 3
    found = selfsupervised.train(network(recipe), plain().pixels, recipe, random(), None, "x")
    assert found == 8  # 2 epochs of 4 batches


def test_the_optimiser_is_the_recipes() -> None:
    """Adam's first step has one size, that of descent has not."""
    steps = {}
    for name in ("adam", "sgd"):
        recipe: Any = dataclasses.replace(SIMCLR, optimiser=name, max_updates=1, warm_up=0)
        after, before = trained(recipe).encoder.conv1.weight, network(SIMCLR).encoder.conv1.weight
        steps[name] = (after - before).detach().abs()
    assert steps["adam"].median().item() == pytest.approx(0.01, rel=0.01)
    assert steps["sgd"].std().item() > 0.3 * steps["sgd"].mean().item()


def test_simclrs_loss_is_taken_in_float32_under_autocast() -> None:
    a, b = torch.randn(2, 9, 16, generator=random()).unbind()
    whole = simclr.nt_xent(a, b, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        found = simclr.nt_xent(a, b, 0.05)
    assert found.dtype == torch.float32
    assert float(found) == float(whole)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.objective)
@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda each: each.form or each.architecture)
def test_one_update_trains_every_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: Backbone, recipe: Recipe
) -> None:
    monkeypatch.chdir(tmp_path)
    own: Any = dataclasses.replace(recipe, network=backbone, max_updates=1, warm_up=0)
    assert own.faults() + backbone.faults() == []
    found, card = network(own), selfsupervised.describe(own)
    before = {name: p.detach().clone() for name, p in found.encoder.named_parameters()}
    pixels = plain(16, backbone.size).pixels
    assert selfsupervised.train(found, pixels, own, random(5), None, "x") == 1
    moved = [
        name for name, p in found.encoder.named_parameters() if not torch.equal(p, before[name])
    ]
    assert len(moved) > len(before) / 2
    assert all(bool(p.isfinite().all()) for p in found.parameters())

    saved.save(Path("data/models/own"), found.encoder, card | {"name": "own"})
    encoder = encoders.load("pretrain:own")
    x = torch.rand(3, 3, backbone.size, backbone.size, generator=random(7))
    kept, tokens = Feature("projected"), Feature("tokens")
    with torch.no_grad():
        read = encoders.features(encoder, x, [kept, tokens])
        assert torch.equal(read[kept], encoder.image(encoder.preprocess(x)))
    width = {"cifar": 8, "torchvision": 64, None: 8}[backbone.form]
    assert read[kept].shape == (3, width)
    assert read[tokens].ndim == 3
    assert sum(map(len, encoder.groups.values())) == len(list(encoder.image.parameters()))


def test_the_smallest_images_are_those_that_alexnet_takes() -> None:
    from carryover.models.alexnet import FORMS

    assert {form: shape.least for form, shape in FORMS.items()} == LEAST


def test_bfloat16_steps_in_about_the_direction_of_float32() -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        recipe: Any = dataclasses.replace(SIMCLR, precision=precision, max_updates=1, lr=0.001)
        found.append(torch.cat([p.detach().flatten() for p in trained(recipe).parameters()]))
    start = torch.cat([p.detach().flatten() for p in network(SIMCLR).parameters()])
    moved = [each - start for each in found]
    assert not torch.equal(*moved)
    assert float(torch.cosine_similarity(*moved, dim=0)) > 0.5


def test_simclr_learns_to_find_the_other_view() -> None:
    a, b = plain(16).pixels.float() / 127.5 - 1, plain(16).pixels.flip(3).float() / 127.5 - 1
    found = network(SIMCLR)
    optimiser = torch.optim.Adam(found.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        loss = found(a, b)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0] - 0.3


def test_neighbours_vote_for_the_class_of_images_held_out() -> None:
    corpus, card = plain(80), selfsupervised.describe(SIMCLR)
    bank, held = corpus.select(torch.arange(60)), corpus.select(torch.arange(60, 80))
    encoder = network(SIMCLR).encoder
    found = selfsupervised.neighbours_accuracy(encoder, card, bank, held)
    assert found == {"value": 1.0, "n": 20, "k": 20}
    wrong = Corpus(held.pixels, (held.labels + 1) % 4, "")
    assert selfsupervised.neighbours_accuracy(encoder, card, bank, wrong)["value"] == 0.0


@pytest.mark.parametrize(("images", "size"), [(33, 16), (1, 16)])
def test_a_batch_of_one_image_is_refused(images: int, size: int) -> None:
    with pytest.raises(DataError, match=r"^pretrain.x.batch_size: expected batches of at least 2"):
        selfsupervised.expect_whole_batches(images, size, "x")


def prepared(tmp_path: Path) -> None:
    for name in ("world", "shapes"):
        drawn = rendered.table(name, 16, 0, 0.01)
        place = Path("data/sets") / name
        store.prepare(name, catalog.Source("rendered"), drawn, place, tmp_path / "digests")


def staged(recipe: Recipe, item: str) -> None:
    params = object.__new__(Params)  # the stage reads these two alone
    object.__setattr__(params, "seed", 0)
    object.__setattr__(params, "pretrain", {item: recipe})
    selfsupervised.stage(params, item, run.Context(f"pretrain@{item}", "p", "s", lambda: None))


def test_the_stage_saves_a_network_that_is_an_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARRYOVER_SCRATCH", str(tmp_path / "scratch"))
    prepared(tmp_path)
    staged(BYOL, "own")
    card = saved.read_card(Path("data/models/own"))
    assert card["updates"] == 2 * 10  # 170 images less 20 in batches of 16
    assert card["neighbours_accuracy"]["n"] == 20
    assert (card["objective"], card["datasets"]) == ("byol", ["world"])
    assert not list((tmp_path / "scratch").rglob("training.pt"))

    encoder = encoders.load("pretrain:own")
    assert encoder.kinds == ("pooled", "tokens")
    assert list(encoder.groups)[:2] == ["stem", "layer1-0"]
    assert sum(map(len, encoder.groups.values())) == len(list(encoder.image.parameters()))
    x = store.load(Path("data/sets/shapes"), "test").floats(torch.arange(5))
    pooled, tokens = Feature("pooled"), Feature("tokens")
    with torch.no_grad():
        found = encoders.features(encoder, x, [pooled, tokens])
        direct = encoder.image(encoder.preprocess(x))
    assert direct.shape == (5, 32)
    assert torch.allclose(found[pooled], direct, atol=1e-6)
    assert found[tokens].shape == (5, 1, 32)


def test_a_corpus_joins_sets_and_counts_their_classes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepared(tmp_path)
    folders = [Path("data/sets/world"), Path("data/sets/shapes")]
    first, second = (store.load(folder, "train") for folder in folders)
    found = selfsupervised.joined(folders, 16)
    assert found.pixels.shape == (len(first) + len(second), 3, 16, 16)
    assert torch.equal(found.pixels[: len(first)], first.pixels)
    assert torch.equal(found.labels[len(first) :], second.labels + len(first.class_names))
    assert selfsupervised.joined(folders[:1], 16).digest == first.digest
    assert found.digest not in (first.digest, second.digest)
    assert selfsupervised.joined(folders, 8).pixels.shape[2:] == (8, 8)


def test_weights_beside_a_network_of_the_pipeline_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected pretrain:byol without weights"):
        encoders.load("pretrain:byol", "some.pt")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"lr": 0.0}, "lr: expected a number above 0, got 0.0"),
        ({"batch_size": 1}, "batch_size: expected at least 2, got 1"),
        ({"momentum": 1.5}, "momentum: expected a number of 0 to 1, got 1.5"),
        ({"prediction": 0}, "prediction: expected at least 1, got 0"),
        ({"weight_decay": -0.1}, "weight_decay: expected at least 0, got -0.1"),
        ({"datasets": ("a", "b")}, "dataset: expected one set here, or '' and several in datasets"),
        ({"dataset": ""}, "dataset: expected one set here, or '' and several in datasets"),
    ],
)
def test_faults_of_a_recipe_are_named(part: dict[str, Any], message: str) -> None:
    (found,) = dataclasses.replace(BYOL, **part).faults()
    assert found.startswith(message)


def test_faults_of_views_and_networks_are_named() -> None:
    wrong = dataclasses.replace(VIEWS, crop=0.0, flip=2.0, hue=0.7)
    assert wrong.faults() == [
        "crop: expected a share of the area above 0, to 1, got 0.0",
        "flip: expected a number of 0 to 1, got 2.0",
        "hue: expected turns of 0 to 0.5, got 0.7",
    ]
    assert Backbone("resnet18", 4, 4, None, None).faults() == ["size: expected at least 8, got 4"]
    assert Backbone("perceiver", 4, 8, None, None).faults() == [
        "attention: expected some for perceiver, got nothing"
    ]
    assert Backbone("resnet18", 4, 32, "cifar", None).faults() == [
        "form: expected nothing for resnet18, got some"
    ]
    assert Backbone("alexnet", 4, 16, "cifar", None).faults() == [
        "size: expected at least 29 for alexnet of the form cifar, got 16"
    ]
    broken = dataclasses.replace(ATTENTION, heads=0, dropout=1.0)
    assert broken.faults() == [
        "heads: expected at least 1, got 0",
        "dropout: expected at least 0 and below 1, got 1.0",
    ]
    assert Perceptron(0, 1).faults() == ["hidden: expected at least 1, got 0"]
    cold = dataclasses.replace(SIMCLR, temperature=0.0)
    assert cold.faults() == ["temperature: expected a number above 0, got 0.0"]
    several = dataclasses.replace(SIMCLR, dataset="", datasets=("a", "b"))
    assert (several.faults(), several.sets) == ([], ("a", "b"))
