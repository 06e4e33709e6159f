from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor, nn

from carryover.adapt.distill import classification_loss, unit_images, unit_texts
from carryover.adapt.freeze import freeze_
from carryover.adapt.parts import MODES, ends, parts, trained
from carryover.errors import ConfigError
from carryover.models.heads import Adapted, linear_head, projected
from tiny_clip import TEXT, clip, tokenize

SCALE = 10.0
SENTENCES = ["ab", "cd", "ef"]
OF_CLIP = ("whole", "image", "text")
RESNET = {"layers": (1, 1, 1, 1), "width": 8, "image_size": 32}


def model(image: str = "vit") -> Any:
    if image == "vit":
        return clip().model
    torch.manual_seed(0)
    return CLIP(embed_dim=12, vision_cfg=RESNET, text_cfg=TEXT)


def with_head() -> Adapted:
    found = model()
    W = unit_texts(found, tokenize(SENTENCES)).detach()
    random = torch.Generator().manual_seed(0)
    head = linear_head("text", 3, 12, generator=random, class_weights=W, scale=SCALE, unit=True)
    return Adapted(found.visual, projected, head)


def made(mode: str, image: str = "vit") -> nn.Module:
    return model(image) if mode in OF_CLIP else with_head()


def three_steps(network: Any) -> None:
    """All parameters are given to the optimiser; those that are frozen must not move."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    draw = torch.Generator().manual_seed(3)
    size = 32 if hasattr(getattr(network, "visual", None), "layer1") else 16
    labels = torch.arange(6) % 3
    for _ in range(3):
        optimiser.zero_grad()
        x = torch.rand(6, 3, size, size, generator=draw)
        if isinstance(network, Adapted):
            loss = F.cross_entropy(network(x), labels)
        else:
            W = unit_texts(network, tokenize(SENTENCES))
            loss = classification_loss(unit_images(network, x), W, labels, SCALE, 0.2)
        loss.backward()
        optimiser.step()


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def moved(network: nn.Module, before: dict[str, Tensor]) -> set[str]:
    after = network.state_dict()
    return {name for name, old in before.items() if not torch.equal(after[name], old)}


def expected(mode: str, network: nn.Module) -> set[str]:
    """By hand: what the names of a tiny network's parameters begin with."""
    heads = {"head.weight", "head.bias"} if mode in ("image-fc", "fc") else set()
    names = {name for name, _ in network.named_parameters()} - {"logit_scale"}
    image = {name for name in names if name.startswith(("visual.", "image."))}
    text = names - image - {"head.weight", "head.bias"}
    return (
        heads
        | {
            "whole": image | text,
            "image": image,
            "text": text,
            "image-fc": image,
            "image-fc-fixed": image,
            "fc": set(),
        }[mode]
    )


@pytest.mark.parametrize("mode", MODES)
def test_after_three_steps_exactly_the_named_parameters_moved(mode: str) -> None:
    network = made(mode)
    names = trained(network, mode)
    freeze_(network, names)
    before = state(network)
    three_steps(network)
    assert moved(network, before) == set(names) == expected(mode, network)
    assert len(names) == len(set(names)) > 0


@pytest.mark.parametrize("mode", OF_CLIP)
def test_statistics_of_an_image_network_that_stays_stay_too(mode: str) -> None:
    network = made(mode, "resnet").train()
    names = trained(network, mode)
    freeze_(network, names)
    before = state(network)
    three_steps(network)
    buffers = {name for name, _ in network.named_buffers() if name in before}
    found = moved(network, before)
    assert found - buffers == set(names) == expected(mode, network)
    assert len(buffers) > 20
    assert found & buffers == (set() if mode == "text" else buffers)


def test_blocks_of_one_name_in_both_networks_are_told_apart() -> None:
    found = parts(model())
    block = "transformer.resblocks.0.mlp.c_fc.weight"
    assert block in found["text"]
    assert f"visual.{block}" in found["image"]
    assert "token_embedding.weight" in found["text"]
    assert found["scale"] == ["logit_scale"]
    assert found["head"] == []


@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_is_in_one_part(mode: str) -> None:
    network = made(mode)
    names = [name for group in parts(network).values() for name in group]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())


def test_parts_follow_the_modules_of_a_clip_with_a_text_module() -> None:
    class Custom(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.text, self.visual = nn.Linear(2, 2), nn.Linear(3, 2)
            self.logit_scale, self.logit_bias = (nn.Parameter(torch.ones(())) for _ in range(2))

    assert parts(Custom()) == {
        "image": ["visual.weight", "visual.bias"],
        "text": ["text.weight", "text.bias"],
        "head": [],
        "scale": ["logit_scale", "logit_bias"],
    }


def test_vit_b_16_trains_all_but_the_scale() -> None:
    image = {"layers": 12, "width": 768, "head_width": 64, "patch_size": 16, "image_size": 224}
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    with torch.device("meta"):
        network = CLIP(embed_dim=512, vision_cfg=image, text_cfg=text)
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    found = {mode: sum(sizes[n] for n in trained(network, mode)) for mode in OF_CLIP}
    assert found == {"image": 86_192_640, "text": 63_428_096, "whole": 149_620_736}


def test_the_head_starts_as_the_zero_shot_classifier() -> None:
    network, whole = with_head(), model()
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    W = unit_texts(whole, tokenize(SENTENCES))
    assert torch.allclose(network(x), SCALE * unit_images(whole, x) @ W.T, atol=1e-5)


def test_messages_say_what_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"train_mode: expected one of whole, .*, fc, got 'both'"):
        trained(model(), "both")
    with pytest.raises(ConfigError, match="with head for 'fc', got one with image, text, scale;"):
        trained(model(), "fc")
    with pytest.raises(ConfigError, match=r"^x: expected a network with text for 'text', got one"):
        trained(with_head(), "text", "x")
    with pytest.raises(ConfigError, match="with text for 'image', got one with image, head;"):
        trained(with_head(), "image")


def test_what_a_clip_begins_and_ends_with_is_named() -> None:
    assert sorted(ends(model())) == [
        *("logit_scale", "positional_embedding", "text_projection", "visual.class_embedding"),
        *("visual.conv1.weight", "visual.ln_pre.bias", "visual.ln_pre.weight"),
        *("visual.positional_embedding", "visual.proj"),
    ]


def test_a_network_has_the_ends_that_it_has() -> None:
    assert sorted(ends(model("resnet"))) == [
        *("logit_scale", "positional_embedding", "text_projection", "visual.conv1.weight")
    ]
