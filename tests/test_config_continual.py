"""Faults of the ``continual`` section, told when ``params.yaml`` is read."""

from __future__ import annotations

from typing import Any

import pytest

from carryover.config import params as config
from carryover.errors import ConfigError
from carryover.stages import PARAMS
from conftest import Checkout

ARM = "continual.arms.chunks"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"continual.encoder": "vit"}, "continual.encoder: expected one of clip-nano, got 'vit'"),
        ({f"{ARM}.encoder": "vit"}, r"arms\.chunks\.encoder: expected one of clip-nano, got 'vit'"),
        ({f"{ARM}.trains": "half"}, r"arms\.chunks\.trains: expected one of frozen, partly, unfr"),
        ({f"{ARM}.head": "deep"}, r"arms\.chunks\.head: expected one of mlp, none, imagenet, got"),
        ({f"{ARM}.head": "none"}, r"chunks\.head: expected a head for tokens, got none"),
        (
            {f"{ARM}.head": "none", f"{ARM}.features": "cls"},
            r"chunks\.head: expected one that trains with a frozen encoder, got none",
        ),
        ({f"{ARM}.features": "pooled"}, "features: expected one of projected, cls, tokens, got"),
        ({f"{ARM}.streams": ["s-x"]}, r"chunks\.streams: expected one of s-digits, got 's-x'"),
        (
            {f"{ARM}.protocols": ["ni-9"]},
            r"chunks\.protocols: expected one of .*ni-2.*, got 'ni-9'",
        ),
        (
            {f"{ARM}.strategies": ["er"]},
            r"strategies\[0\]: expected one of naive, ewc, .*, got 'er'",
        ),
        ({f"{ARM}.strategies": ["ewc", "ewc"]}, "strategies: expected each entry once, got ewc tw"),
        (
            {"continual.arms.first.strategies": None},
            "items: expected an arm with a stream, a protocol and a strategy for partly, got none",
        ),
        ({f"{ARM}.lrs": [0.1, 0.0]}, r"lrs\[1\]: expected a number above 0, got 0\.0"),
        ({f"{ARM}.lrs": [0.1, 0.01]}, r"lrs: expected ascending rates, got \[0\.1, 0\.01\]; sort"),
        ({f"{ARM}.stream_seed": -1}, "stream_seed: expected at least 0, got -1"),
        ({f"{ARM}.momentum": 1.0}, "momentum: expected at least 0 and below 1, got 1.0"),
        ({f"{ARM}.optimiser": "adam"}, "momentum: expected 0.0 with adam, which has its own"),
        ({f"{ARM}.freeze": "children-1"}, "freeze: expected nothing where it is frozen, got 'chi"),
        ({"continual.arms.first.freeze": None}, "freeze: expected children-N or a range of layer"),
        (
            {"continual.arms.first.freeze": "children-0"},
            "freeze: expected children-N or a range of layer",
        ),
        ({"continual.heads.mlp.hidden": [0]}, r"heads\.mlp\.hidden\[0\]: expected at least 1, got"),
        ({"continual.heads.none": {"hidden": None, "sigmoid": False}}, "heads.none: expected anot"),
        ({"continual.protocols.rotated-2.degrees": [0.0]}, "degrees: expected one angle an exper"),
        ({"continual.protocols.ni-2.degrees": [0.0]}, "degrees: expected none for ni, got 1"),
        (
            {
                "continual.protocols.rotated-2.degrees": [90.0],
                "continual.protocols.rotated-2.experiences": 1,
            },
            r"rotated-2\.experiences: expected 2 or more for rotated, got 1",
        ),
        ({"continual.protocols.ni-2.task_labels": True}, "task_labels: expected false for ni, got"),
        ({"continual.protocols.ci-5.mask": True}, "mask: expected false without task_labels, got"),
        ({"continual.protocols.ci-5.experiences": 0}, "experiences: expected at least 1, got 0"),
        ({"continual.protocols.ci-5.kind": "nc"}, "kind: expected one of ni, classes, permuted, r"),
        (
            {"continual.streams.s-digits": ["mnist"]},
            r"streams\.s-digits: expected one of digits, l",
        ),
        (
            {"continual.streams.s-digits": ["digits", "letters"]},
            r"arms\.chunks\.protocols: expected one of kind domains for s-digits, which has 2 sets",
        ),
        ({"continual.seeds": 0}, "continual.seeds: expected at least 1, got 0"),
        ({"continual.memory": 0}, "continual.memory: expected at least 1, got 0"),
        ({"continual.ewc_lambda": -1.0}, "continual.ewc_lambda: expected at least 0, got -1.0"),
        ({"continual.ewc_decay": 2.0}, "continual.ewc_decay: expected 0 to 1, got 2.0"),
        ({"continual.lwf_temperature": 0.0}, "lwf_temperature: expected a number above 0, got 0.0"),
        (
            {"continual.validation_fraction": 1.0},
            "validation_fraction: expected a number above 0 a",
        ),
        ({"continual.cka.images": 3}, r"cka\.images: expected at least 4, got 3"),
        (
            {"continual.optimiser_state": "lost"},
            "optimiser_state: expected one of kept, reset, got",
        ),
        (
            {"continual.cka.untrained_stream": "s-x"},
            r"cka\.untrained_stream: expected one of s-digits, which partly frozen encoders train",
        ),
        ({"continual.logistic.l2": 0.0}, r"logistic\.l2: expected a number above 0, got 0\.0"),
        ({"continual.logistic.features": ["pooled"]}, r"logistic\.features: expected one of proj"),
        ({"continual.logistic.encoder": "vit"}, r"logistic\.encoder: expected one of clip-nano, g"),
    ],
)
def test_a_fault_is_named_with_its_place(
    tiny: Checkout, changes: dict[str, Any], said: str
) -> None:
    tiny.edit(**changes)
    with pytest.raises(ConfigError, match=said):
        config.read(PARAMS)


def test_two_arms_with_the_same_trainings_are_refused(tiny: Checkout) -> None:
    arms = tiny.tree()["continual"]["arms"]
    arms["again"] = arms["chunks"] | {"strategies": ["replay"], "lrs": [0.5]}
    tiny.edit(**{"continual.arms": arms})
    with pytest.raises(
        ConfigError, match=r"expected trainings that no other arm has, got s-digits, ni-2, replay"
    ):
        config.read(PARAMS)


def test_an_arm_that_trains_its_encoder_needs_no_stored_features(tiny: Checkout) -> None:
    kinds = ["projected", "tokens", "cls"]
    tiny.edit(**{"encoders.clip-nano.kinds": kinds, "continual.arms.logits.features": "pooled"})
    assert config.read(PARAMS).continual.arms["logits"].features == "pooled"
