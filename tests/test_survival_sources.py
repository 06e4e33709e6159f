"""What models are asked of their start's knowledge, preset by preset, from parameters alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from carryover import presets
from carryover.config import params as config
from carryover.config.contrastive import Contrastive
from carryover.config.params import Params
from carryover.errors import ConfigError
from carryover.survival_sources import PRETRAIN, Asked, asked, source_of
from conftest import REPOSITORY, Checkout

FOLDER = REPOSITORY / "presets"
NAMES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
PUBLISHED = ("published", "corrected")


def kinds(params: Params) -> Iterator[tuple[str, str, str]]:
    """Every kind of model that the studies keep: study, network and what it is adapted to."""
    yield "cuts", f"{PRETRAIN}{params.cuts.pretrained}", params.cuts.pair
    yield "adapt", params.adapt.encoder, params.adapt.dataset
    for arm in params.continual.arms.values():
        for stream in arm.streams:
            yield "continual", params.continual.encoder_of(arm), stream
    for order in params.sequence.orders:
        yield "sequence", params.sequence.encoder, order
    for controls in (params.retrieval.starts or {}).values():
        for entry in controls.values():
            yield "retrieval", entry.source, params.retrieval.dataset


def answers_untaught(params: Params, network: str, found: Asked) -> bool:
    """Whether an encoder with text has sets, or sentences, that it was not adapted to."""
    entry = params.encoders.get(network)
    family, _, name = (entry.source if entry else network).partition(":")
    if family == "pretrain":
        recipe = params.pretrain[name]
        if not isinstance(recipe, Contrastive) or recipe.dataset:
            return True  # no text, or a set of sentences
    elif family not in ("open-clip", "flava"):
        return True
    return bool(found.others or found.apart)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_of_every_preset_has_something_to_keep(checkout: Checkout, name: str) -> None:
    params = config.parse(presets.tree(name), name)
    every = list(dict.fromkeys(kinds(params)))
    asked_of = {kind: asked(params, *kind) for kind in every}
    assert [kind for kind, found in asked_of.items() if found.source is None] == []
    assert [k for k, found in asked_of.items() if not answers_untaught(params, k[1], found)] == []
    assert {study for study, *_ in every} >= {"cuts", "adapt", "continual", "sequence"}


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(PUBLISHED)])
def test_encoders_that_are_loaded_are_asked_about_imagenet(checkout: Checkout, name: str) -> None:
    params = config.parse(presets.tree(name), name)
    loaded = [kind for kind in kinds(params) if not kind[1].startswith(PRETRAIN)]
    assert {asked(params, *kind).source for kind in loaded} == {"imagenet"}
    assert "imagenet" in params.data.names


def test_nothing_that_was_adapted_to_is_asked_about(checkout: Checkout) -> None:
    params = config.parse(presets.tree("published/thesis"), "")
    found = asked(params, "sequence", "clip-vit-b-16", "thesis")
    assert (found.target, found.source, found.apart) == ("flowers", "imagenet", ("imagenet",))
    assert set(found.adapted) == {"dtd", "mnist", "eurosat", "flowers"}
    assert "cifar100" in found.others
    assert not set(found.others) & set(found.adapted)
    whole = config.parse(presets.tree("published"), "")
    assert asked(whole, "sequence", "clip-vit-b-16", "1").others == ()
    assert asked(whole, "continual", "flava-full", "s-mnist").others == ("cub-200", "cifar100")
    assert asked(whole, "adapt", "clip-vit-b-32", "imagenet").apart == ()


def test_of_a_corpus_of_several_sets_one_that_was_not_adapted_to_is_the_source(
    checkout: Checkout,
) -> None:
    params = config.parse(presets.tree("corrected/cifar10"), "")
    assert params.retrieval.dataset == params.pretrain["byol"].sets[0] == "cifar10"
    assert asked(params, "retrieval", "pretrain:byol", "cifar10").source == "cifar100"
    assert source_of(params, "pretrain:byol", ()) == "cifar10"
    every = ("cifar10", "cifar100", "celeba")
    assert source_of(params, "pretrain:byol", every) == "cifar10"


def test_a_study_whose_models_are_not_looked_at_is_refused(checkout: Checkout) -> None:
    params = config.parse(presets.tree("mini"), "")
    with pytest.raises(ConfigError, match=r"survival\.origins: expected one of cuts, .*got 'clus"):
        asked(params, "clusters", "clip-nano", "digits")
