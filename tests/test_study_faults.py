"""What `carryover check` refuses of the continual study before any stage."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from carryover import overview
from carryover import study_faults as study_faults_module
from carryover.config import params as config
from carryover.config.contrastive import Contrastive
from carryover.config.params import Params
from carryover.errors import ConfigError
from carryover.models import nano
from carryover.models.depth import depth_of
from carryover.models.features import kinds
from carryover.models.flava import FlavaImage
from carryover.models.layers import parameter_groups
from carryover.pretrain import networks
from carryover.stages import PARAMS
from carryover.study_faults import CHILDREN, study_faults
from conftest import REPOSITORY, Checkout

PRESETS = REPOSITORY / "presets"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"continual.arms.first.freeze": "children-9"},
            r"arms\.first\.freeze: expected at most children-5 for this encoder .* got 'children-9",
        ),
        (
            {"continual.arms.first.freeze": "embed..block9"},
            r"arms\.first\.freeze: expected one of embed, block0, .*output, got 'block9'",
        ),
        (
            {"continual.arms.first.freeze": "block0..embed"},
            r"arms\.first\.freeze: expected groups input to output, got 'block0\.\.embed'; turn",
        ),
        (
            {"continual.arms.first.head": "imagenet"},
            r"arms\.first\.head: expected an encoder with a classifier .* got pretrain:clip-nano",
        ),
        (
            {"continual.protocols.ci-5.experiences": 3},
            r"protocols\.ci-5\.experiences: expected a divisor of the 10 classes of digits, got 3",
        ),
    ],
)
def test_what_no_set_or_encoder_has_is_refused_before_any_stage(
    tiny: Checkout, changes: dict[str, Any], said: str
) -> None:
    tiny.edit(**changes)
    with pytest.raises(ConfigError, match=rf"^params\.yaml: continual\.{said}"):
        overview.check()


def test_arms_and_items_that_are_left_out_are_not_looked_at(tiny: Checkout) -> None:
    tiny.edit(**{"continual.arms.first.freeze": "children-9", "continual.items": ["frozen"]})
    assert study_faults(config.read(PARAMS)) == []
    arms = tiny.tree()["continual"]["arms"]
    arms |= {"again": arms["first"] | {"freeze": "children-1"}}
    arms["first"]["strategies"] = None
    tiny.edit(**{"continual.arms": arms, "continual.items": ["frozen", "partly"]})
    assert study_faults(config.read(PARAMS)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_mode": "text"}, r"train_mode: .* as lwf, zscl, zscl-lora distil .*, got 'text'"),
        ({"distill.reference": "letters"}, r"distill\.reference: .* no order trains on, got 'let"),
        ({"average.every": 30}, r"average\.every: expected fewer updates than the 30 .* got 30"),
        ({"warm_up": 50}, r"warm_up: expected fewer updates than the 30 of a task, got 50"),
    ],
)
def test_settings_that_void_a_method_of_sequence_are_refused(
    tiny: Checkout, changes: dict[str, Any], said: str
) -> None:
    tiny.params.write_text((PRESETS / "mini.yaml").read_text())
    tiny.edit(**{f"sequence.{key}": value for key, value in changes.items()})
    (found,) = study_faults(config.read(PARAMS))
    assert re.match(rf"sequence\.{said}", found)
    methods = {"plain": ["finetune"], "average": ["task-mean"]}
    tiny.edit(**{"sequence.items": list(methods), "sequence.methods": methods})
    assert bool(study_faults(config.read(PARAMS))) == ("warm_up" in changes)


def test_a_memory_too_small_for_an_image_a_set_is_refused_where_it_is_used(tiny: Checkout) -> None:
    tiny.params.write_text((PRESETS / "mini.yaml").read_text())
    tiny.edit(**{"sequence.distill.memory_size": 3})
    assert study_faults(config.read(PARAMS)) == []
    tiny.edit(**{"sequence.methods.distill": ["icarl"]})
    (found,) = study_faults(config.read(PARAMS))
    assert found.startswith(
        "sequence.distill.memory_size: expected an image or more of each of 4 sets, got 3"
    )


@pytest.mark.parametrize("name", ["clip-nano", "flava-nano"])
def test_the_outline_of_a_recipe_is_that_of_its_network(name: str) -> None:
    recipe = config.read(PRESETS / "mini.yaml").pretrain[name]
    assert isinstance(recipe, Contrastive)
    network = nano.build(networks.describe(recipe, ["a word"]))
    image = getattr(network, "visual", None) or FlavaImage(
        network.image_model, network.image_projection
    )
    assert [child for child, _ in image.named_children()] == [*CHILDREN[recipe.architecture]]
    blocks = [f"block{i}" for i in range(recipe.image.layers)]
    assert [*parameter_groups(image)] == ["embed", *blocks, "output"]


def test_an_encoder_with_a_classifier_may_lend_it() -> None:
    params = config.read(PRESETS / "mini.yaml")
    study, entry = params.continual, params.encoders["clip-nano"]

    def faults(source: str) -> list[str]:
        arms = {"first": replace(study.arms["unfrozen"], head="imagenet", encoder="clip-nano")}
        encoders = params.encoders | {"clip-nano": replace(entry, source=source)}
        own: Params = replace(params, continual=replace(study, arms=arms), encoders=encoders)
        return [fault for fault in study_faults(own) if fault.startswith("continual.arms")]

    supervised = next(name for name in params.pretrain if params.network(name))
    for source in ("torchvision:resnet50", "timm:vit_base_patch16_224", f"pretrain:{supervised}"):
        assert faults(source) == []
    for source in ("open-clip:ViT-B-32", "flava", "pretrain:flava-nano"):
        assert len(faults(source)) == 1


SOURCE = "encoders.clip-nano.source"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({SOURCE: "open-klip:ViT-B-32"}, r"source: encoder: expected one of open-clip, flava, "),
        ({SOURCE: "open-clip:ViT-B-33"}, r"source: encoder: expected open-clip:ARCHITECTURE "),
        ({SOURCE: "timm:resnet18.zzz"}, r"source: encoder: expected timm:resnet18, or one of"),
        ({SOURCE: "cifar-resnet:20"}, r"kinds: expected a feature among pooled, tokens, got"),
        (
            {"encoders.clip-nano.layers": ["block9"]},
            r"layers: expected a layer among embed, block0, block1, output, got 'block9'",
        ),
    ],
)
def test_encoders_that_are_none_and_what_they_lack_are_refused(
    tiny: Checkout, changes: dict[str, Any], said: str
) -> None:
    tiny.edit(**changes)
    with pytest.raises(ConfigError, match=rf"params\.yaml: encoders\.clip-nano\.{said}"):
        overview.check()


@pytest.mark.parametrize("name", list(config.read(PRESETS / "mini.yaml").pretrain))
def test_what_is_known_of_a_recipe_is_what_its_encoder_has(name: str) -> None:
    params = config.read(PRESETS / "mini.yaml")
    recipe, found = params.pretrain[name], study_faults_module._depth(params, f"pretrain:{name}")
    assert found is not None
    if isinstance(recipe, Contrastive):
        network = nano.build(networks.describe(recipe, ["a word"]))
        image = getattr(network, "visual", None) or FlavaImage(
            network.image_model, network.image_projection
        )
        whole = depth_of(image)
        assert kinds(found) == kinds(whole)
        assert (list(found.groups), list(found.taps)) == (list(whole.groups), list(whole.taps))
    else:
        assert kinds(found)
        assert all(found.groups.values())
