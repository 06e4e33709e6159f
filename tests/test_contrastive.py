"""Contrastive pretraining of the small networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from carryover import run
from carryover.config.contrastive import Contrastive, ImageNetwork, TextNetwork
from carryover.config.params import Params
from carryover.data import catalog, rendered, store
from carryover.data.images import Images
from carryover.errors import KitError
from carryover.models import nano, saved
from carryover.models.preprocess import from_card
from carryover.models.prompts import class_prompts, class_weights, zero_shot_logits
from carryover.pretrain import contrastive, networks
from carryover.pretrain import pairs as corpora

RECIPE = Contrastive(
    objective="contrastive",
    architecture="clip",
    dataset="world",
    datasets=None,
    template=None,
    images_of_each=0,
    validation_images=0,
    image=ImageNetwork(size=16, patch=8, width=16, layers=2, heads=2),
    text=TextNetwork(vocabulary="words", context=8, width=16, layers=1, heads=2),
    dim=8,
    lr=0.005,
    weight_decay=0.1,
    warm_up=5,
    batch_size=16,
    epochs=10,
    precision="float32",
    threads=1,
)
FLAVA = dataclasses.replace(RECIPE, architecture="flava", epochs=20)
COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200), "black": (0, 0, 0)}


Ready = tuple[Any, dict[str, Any], int]


def said(images: Images) -> corpora.Pairs:
    return corpora.Pairs((corpora.Part(images, images.columns.get("caption", [])),), images.digest)


def pairs(seed: int) -> Images:
    """64 noisy plain images, 16 a colour, with a sentence that names it."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(64) % 4
    centres = torch.tensor(list(COLOURS.values()))[labels][:, :, None, None]
    noise = torch.randint(0, 30, (64, 3, 16, 16), generator=random)
    names = tuple(COLOURS)
    return Images(
        labels=labels,
        class_names=names,
        ids=torch.arange(64),
        columns={"caption": [f"a photo of {names[label]}" for label in labels.tolist()]},
        digest="",
        pixels=(centres + noise).to(torch.uint8),
    )


def trained(recipe: Contrastive = RECIPE, snapshot: Path | None = None) -> Ready:
    images = pairs(0)
    sentences = images.columns["caption"]
    card = networks.describe(recipe, sentences)
    random = torch.Generator().manual_seed(7)
    network = networks.new(card, random)
    updates = contrastive.train(
        network,
        corpora.inputs(said(images), card, torch.device("cpu")),
        nano.tokenizer(card)(sentences),
        recipe,
        random,
        snapshot,
        "nano",
    )
    return network, card, updates


def state(network: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def named(network: Any, card: dict[str, Any], dataset: str, images: Images) -> float:
    """Share of images whose nearest class by its prompts is their own."""
    text = nano.text(network, card)
    with torch.no_grad():
        weights = class_weights(text, class_prompts(dataset, images.class_names))
        embeddings = network.encode_image(corpora.inputs(said(images), card, torch.device("cpu")))
    found = zero_shot_logits(embeddings, weights, 1.0).argmax(1)
    return float((found == images.labels).double().mean())


@pytest.fixture(scope="module")
def ready() -> Ready:
    return trained()


@pytest.fixture(scope="module")
def ready_flava() -> Ready:
    return trained(FLAVA)


def test_flava_names_colours_of_images_it_never_saw(ready_flava: Ready) -> None:
    network, card, updates = ready_flava
    assert "open_clip" not in card
    assert updates == 80
    assert named(network, card, "plain colours", pairs(1)) > 0.9


def test_equal_seeds_give_an_equal_flava(ready_flava: Ready) -> None:
    before = torch.get_rng_state()
    assert equal(state(trained(FLAVA)[0]), state(ready_flava[0]))
    assert torch.equal(before, torch.get_rng_state())


def test_it_names_colours_of_images_it_never_saw(ready: Ready) -> None:
    network, card, updates = ready
    assert updates == 40
    assert named(network, card, "plain colours", pairs(1)) > 0.9


def test_equal_seeds_give_equal_weights_and_leave_torchs_own_stream_alone(
    ready: Ready,
) -> None:
    before = torch.get_rng_state()
    assert equal(state(trained()[0]), state(ready[0]))
    assert torch.equal(before, torch.get_rng_state())


def test_a_killed_training_goes_on_to_the_same_weights(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carryover.train.SNAPSHOT_SECONDS", -1.0)
    real, calls = contrastive.pair_loss, 0

    def dies(*arguments: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 23:
            raise KitError("killed")
        return real(*arguments)

    monkeypatch.setattr(contrastive, "pair_loss", dies)
    snapshot = tmp_path / "training.pt"
    with pytest.raises(KitError, match="killed"):
        trained(snapshot=snapshot)
    assert snapshot.exists()
    network, _, updates = trained(snapshot=snapshot)
    assert equal(state(network), state(ready[0]))
    assert updates == 40
    assert calls == 23 + 40 - 20  # whole epochs are kept, four updates each


def test_bfloat16_trains_weights_that_stay_float32() -> None:
    network, card, _ = trained(dataclasses.replace(RECIPE, precision="bfloat16"))
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert named(network, card, "plain colours", pairs(1)) > 0.9


def test_the_rate_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    rate = contrastive.schedule(0.1, warm_up=4, total=12)
    assert [rate(n) for n in (0, 1, 3, 4)] == pytest.approx([0.025, 0.05, 0.1, 0.1])
    assert [rate(n) for n in (8, 12)] == pytest.approx([0.05, 0.0])


def test_a_rate_without_warm_up_starts_at_the_top() -> None:
    assert contrastive.schedule(0.1, warm_up=0, total=10)(0) == 0.1


def test_the_loss_of_pairs_that_cannot_be_told_apart_is_the_logarithm_of_their_number() -> None:
    card = networks.describe(RECIPE, ["something red"])
    network = networks.new(card, torch.Generator().manual_seed(0))
    images = torch.zeros(5, 3, 16, 16)
    tokens = nano.tokenizer(card)(["something red"] * 5)
    with torch.no_grad():
        found = contrastive.pair_loss(network, images, tokens, "float32")
    assert float(found) == pytest.approx(1.6094379, abs=1e-5)  # ln 5


def test_weight_decay_spares_norms_biases_and_the_scale() -> None:
    card = networks.describe(RECIPE, ["something red"])
    network = networks.new(card, torch.Generator().manual_seed(0))
    decayed, spared = contrastive._groups(network, 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    spared_ids = {id(p) for p in spared["params"]}
    names = {name for name, p in network.named_parameters() if id(p) in spared_ids}
    assert {"logit_scale", "ln_final.weight", "visual.ln_post.bias"} <= names
    assert not {"token_embedding.weight", "visual.proj", "visual.conv1.weight"} & names
    assert len(decayed["params"]) + len(spared["params"]) == len(list(network.parameters()))


def test_the_validation_loss_is_over_whole_batches(ready: Ready) -> None:
    network, card, _ = ready
    recipe = dataclasses.replace(RECIPE, batch_size=24)
    random = torch.Generator().manual_seed(0)
    found = contrastive.validation_loss(network, card, said(pairs(2)), recipe, random)
    assert found["n"] == 48
    assert 1.0 < found["value"] < 3.18  # below ln 24, above 0: a sentence fits several images


def test_the_stage_saves_a_network_that_its_card_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARRYOVER_SCRATCH", str(tmp_path / "scratch"))
    for name in ("world", "shapes"):
        drawn = rendered.table(name, 16, 0, 0.01)
        place = Path("data/sets") / name
        store.prepare(name, catalog.Source("rendered"), drawn, place, tmp_path / "digests")
    text = dataclasses.replace(RECIPE.text, context=14)
    recipe = dataclasses.replace(RECIPE, text=text, epochs=2, batch_size=5)
    params = object.__new__(Params)  # the stage reads these two alone
    object.__setattr__(params, "seed", 0)
    object.__setattr__(params, "pretrain", {"nano": recipe})
    checked: list[bool] = []
    context = run.Context("pretrain@nano", "p", "s", lambda: checked.append(True))
    contrastive.stage(params, "nano", context)
    card = saved.read_card(Path("data/models/nano"))
    network = nano.build(card)
    saved.load_(Path("data/models/nano"), network)
    assert 0 <= named(network, card, "shapes", store.load(Path("data/sets/shapes"), "test")) <= 1
    assert card["updates"] == 2 * 34  # 170 pairs in batches of 5
    assert card["validation_loss"]["n"] == 5
    assert (card["params"], card["source"], card["datasets"]) == ("p", "s", ["world"])
    assert from_card(card["preprocess"]).size == 16
    assert checked == [True]
    assert not list((tmp_path / "scratch").rglob("training.pt"))


SEVERAL = dataclasses.replace(
    RECIPE, dataset="", datasets=("shapes", "colours"), images_of_each=40, validation_images=12
)


@pytest.fixture
def two_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARRYOVER_SCRATCH", str(tmp_path / "scratch"))
    for name in ("shapes", "colours"):
        drawn = rendered.table(name, 16, 0, 0.05)
        place = Path("data/sets") / name
        store.prepare(name, catalog.Source("rendered"), drawn, place, tmp_path / "digests")


@pytest.mark.usefixtures("two_sets")
def test_several_sets_are_said_by_their_classes() -> None:
    trained, held = corpora.load(SEVERAL, "nano", 0)
    assert (len(trained), len(held)) == (80 - 12, 12)
    for name, mine, theirs in zip(SEVERAL.sets, trained.parts, held.parts, strict=True):
        assert not set(mine.images.ids.tolist()) & set(theirs.images.ids.tolist())
        prompts = class_prompts(name, mine.images.class_names)
        for part in (mine, theirs):
            for label, sentence in zip(part.images.labels.tolist(), part.sentences, strict=True):
                assert sentence in prompts[label]
    again, _ = corpora.load(SEVERAL, "nano", 0)
    assert again.sentences == trained.sentences
    assert corpora.load(SEVERAL, "nano", 1)[0].sentences != trained.sentences


@pytest.mark.usefixtures("two_sets")
def test_the_sentences_of_another_set_can_be_taken() -> None:
    recipe = dataclasses.replace(SEVERAL, template="imagenet", images_of_each=0)
    trained, _ = corpora.load(recipe, "nano", 0)
    names = trained.parts[0].images.class_names
    wanted = {
        each for group in class_prompts("shapes", names, sentences_of="imagenet") for each in group
    }
    found = set(trained.parts[0].sentences)
    assert found <= wanted
    assert len(found) > 2 * len(names)  # not one template alone


@pytest.mark.usefixtures("two_sets")
def test_a_network_of_several_sets_and_byte_pairs_is_saved(tmp_path: Path) -> None:
    text = TextNetwork(vocabulary="clip", context=20, width=16, layers=1, heads=2)
    recipe = dataclasses.replace(SEVERAL, text=text, epochs=1)
    params = object.__new__(Params)
    object.__setattr__(params, "seed", 0)
    object.__setattr__(params, "pretrain", {"nano": recipe})
    contrastive.stage(params, "nano", run.Context("pretrain@nano", "p", "s", lambda: None))
    card = saved.read_card(Path("data/models/nano"))
    network = nano.build(card)
    saved.load_(Path("data/models/nano"), network)
    assert (card["datasets"], card["images"]) == (["shapes", "colours"], 68)
    assert card["validation_loss"]["n"] == 12
    vectors = network.encode_text(nano.tokenizer(card)(["apple pie", "beef tartare"]))
    assert not torch.equal(vectors[0], vectors[1])  # of words that no sentence of the sets has


@pytest.mark.usefixtures("two_sets")
def test_more_images_than_there_are_cannot_be_held_out() -> None:
    recipe = dataclasses.replace(SEVERAL, validation_images=80)
    with pytest.raises(KitError, match=r"expected fewer than the 80 images of the sets, got 80"):
        corpora.load(recipe, "nano", 0)


def test_byte_pairs_are_those_of_clip_and_cut_nothing_off() -> None:
    card = {"vocabulary": "clip", "open_clip": {"text_cfg": {"context_length": 6}}}
    tokenize = nano.tokenizer(card)
    # "a", "photo" and "." are the ids 320, 1125 and 269 of CLIP's vocabulary
    assert tokenize(["a photo."]).tolist() == [[49406, 320, 1125, 269, 49407, 0]]
    with pytest.raises(KitError, match=r"expected at most 4 tokens, got 5"):
        tokenize(["a photo. a photo"])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"dataset": ""}, "dataset: expected one captioned set here, or '' and several"),
        ({"datasets": ("a",)}, "validation_images: expected at least 2, got 0"),
        ({"template": "imagenet"}, "template: expected nothing for one captioned set"),
        ({"images_of_each": 3}, "images_of_each: expected nothing for one captioned set, got 3"),
    ],
)
def test_faults_of_a_corpus_are_named(part: dict[str, Any], message: str) -> None:
    assert any(found.startswith(message) for found in dataclasses.replace(RECIPE, **part).faults())


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"lr": 0.0}, "lr: expected a number above 0, got 0.0"),
        ({"batch_size": 1}, "batch_size: expected at least 2, got 1"),
        ({"weight_decay": -0.1}, "weight_decay: expected at least 0, got -0.1"),
    ],
)
def test_faults_of_a_recipe_are_named(part: dict[str, Any], message: str) -> None:
    (found,) = dataclasses.replace(RECIPE, **part).faults()
    assert found.startswith(message)


def test_faults_of_its_networks_are_named() -> None:
    image = dataclasses.replace(RECIPE.image, patch=5, heads=3).faults()
    assert image == [
        "heads: expected a divisor of width (16), got 3",
        "patch: expected a divisor of size (16), got 5",
    ]
    assert dataclasses.replace(RECIPE.text, context=2).faults() == [
        "context: expected at least 3, got 2"
    ]
