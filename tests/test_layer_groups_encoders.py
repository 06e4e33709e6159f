from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import timm
import torch
from torch import nn
from torchvision import models

from carryover.errors import ConfigError
from carryover.models import openclip
from carryover.models.cifar_resnet import CifarResNet
from carryover.models.depth import depth_of
from carryover.models.layers import parameter_groups, parameter_kinds


def clip(name: str) -> nn.Module:
    return openclip.create(open_clip.get_model_config(name), name).visual


def of_timm(name: str) -> nn.Module:
    return timm.create_model(name, num_classes=0)


def plain(network: Any, head: str) -> nn.Module:
    network.set_submodule(head, nn.Identity())
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "clip-vit-b-32": lambda: clip("ViT-B-32"),
    "clip-rn50": lambda: clip("RN50"),
    "clip-convnext": lambda: clip("convnext_base"),
    "siglip": lambda: clip("ViT-B-16-SigLIP"),
    "coca": lambda: clip("coca_ViT-B-32"),
    "vit": lambda: of_timm("vit_tiny_patch16_224"),
    "vit-registers": lambda: of_timm("vit_small_patch14_reg4_dinov2"),
    "deit-distilled": lambda: of_timm("deit_tiny_distilled_patch16_224"),
    "timm-resnet": lambda: of_timm("resnet10t"),
    "convnext": lambda: of_timm("test_convnext"),
    "swin": lambda: of_timm("swin_tiny_patch4_window7_224"),
    "efficientnet": lambda: of_timm("test_efficientnet"),
    "resnet18": lambda: plain(models.resnet18(), "fc"),
    "alexnet": lambda: plain(models.alexnet(), "classifier.6"),
    "cifar": lambda: plain(CifarResNet(20, 10), "linear"),
}


def built(name: str) -> nn.Module:
    with torch.device("meta"):  # names and shapes without the memory
        return NETWORKS[name]()


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_parameter_is_in_exactly_one_group_and_has_a_kind(name: str) -> None:
    image = built(name)
    names = [parameter for parameter, _ in image.named_parameters()]
    groups = parameter_groups(image)
    assert Counter(n for group in groups.values() for n in group) == Counter(names)
    assert all(groups.values())
    assert all(re.fullmatch("[a-z0-9-]+", group) for group in groups)
    assert list(parameter_kinds(image)) == names


@pytest.mark.parametrize(
    "name",
    [
        *("clip-rn50", "vit", "deit-distilled", "timm-resnet", "convnext", "swin"),
        *("efficientnet", "resnet18", "alexnet", "cifar"),
    ],
)
def test_groups_are_in_the_order_of_the_forward_pass(name: str) -> None:
    with torch.random.fork_rng():
        image = NETWORKS[name]().eval()
    depth = depth_of(image)
    seen: list[str] = []
    for group, tap in depth.taps.items():
        module = image.get_submodule(tap.module)
        if tap.side == "input":
            module.register_forward_pre_hook(lambda _m, _i, g=group: seen.append(g))
        else:
            module.register_forward_hook(lambda _m, _i, _o, g=group: seen.append(g))
    size = 32 if name == "cifar" else 224
    with torch.no_grad():
        image(torch.zeros(1, 3, size, size))
    assert seen == [group for group in depth.groups if group in depth.taps]
    assert set(depth.groups) - set(depth.taps) <= {"output"}


def test_the_groups_of_the_published_transformer() -> None:
    groups = parameter_groups(built("clip-vit-b-32"))
    assert list(groups) == ["embed", *(f"block{i}" for i in range(12)), "output"]
    assert set(groups["embed"]) == {
        *("class_embedding", "positional_embedding", "conv1.weight"),
        *("ln_pre.weight", "ln_pre.bias"),
    }
    assert set(groups["output"]) == {"proj", "ln_post.weight", "ln_post.bias"}
    assert len(groups["block11"]) == 12


def test_the_groups_of_the_published_resnet() -> None:
    groups = parameter_groups(built("clip-rn50"))
    blocks = [f"layer{i}-{j}" for i, count in enumerate((3, 4, 6, 3), 1) for j in range(count)]
    assert list(groups) == ["stem", *blocks, "output"]
    assert all(name.startswith("attnpool.") for name in groups["output"])


def test_the_norms_of_the_published_study_are_counted() -> None:
    image = built("clip-vit-b-32")
    kinds = parameter_kinds(image)
    sizes = {name: p.numel() for name, p in image.named_parameters()}
    groups = parameter_groups(image)

    def norms(first: int) -> int:
        chosen = [n for i in range(first, 12) for n in groups[f"block{i}"]] + groups["output"]
        return sum(sizes[name] for name in chosen if kinds[name] == "norm")

    assert norms(7) == 16_896  # ln_post and blocks 11 to 7 of the published study
    assert norms(6) == 19_968


def kinds_of(image: nn.Module, *names: str) -> list[str]:
    found = parameter_kinds(image)
    return [found[name] for name in names]


def test_kinds_of_a_clip_transformer() -> None:
    block = "transformer.resblocks.3."
    assert kinds_of(
        built("clip-vit-b-32"),
        *("class_embedding", "positional_embedding", "conv1.weight", "ln_pre.bias", "proj"),
        *(f"{block}ln_1.weight", f"{block}attn.in_proj_weight", f"{block}attn.out_proj.bias"),
        *(f"{block}mlp.c_fc.weight", f"{block}mlp.c_proj.bias", "ln_post.weight"),
    ) == [
        *("embedding", "embedding", "embedding", "norm", "projection"),
        *("norm", "attention", "attention", "mlp", "mlp", "norm"),
    ]


def test_kinds_of_resnets_and_others() -> None:
    assert kinds_of(
        built("clip-rn50"),
        *("conv1.weight", "bn1.weight", "layer1.0.downsample.1.bias", "layer4.2.conv3.weight"),
        *("attnpool.positional_embedding", "attnpool.q_proj.weight", "attnpool.c_proj.bias"),
    ) == [*("convolution", "norm", "norm", "convolution", "embedding", "attention", "projection")]
    assert kinds_of(
        built("vit-registers"),
        *("reg_token", "patch_embed.proj.weight", "blocks.0.ls1.gamma", "blocks.0.ls2.gamma"),
        *("blocks.0.attn.proj.weight", "blocks.0.mlp.fc1.weight", "norm.weight"),
    ) == ["embedding", "embedding", "attention", "mlp", "attention", "mlp", "norm"]
    assert kinds_of(built("clip-convnext"), "head.proj.weight") == ["projection"]
    with torch.device("meta"):
        whole = models.resnet18()
    assert kinds_of(whole, "fc.weight", "conv1.weight") == ["head", "convolution"]


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a network of a known family, got Linear"):
        parameter_groups(nn.Linear(2, 2))
