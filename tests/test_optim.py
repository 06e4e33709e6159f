from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from open_clip.model import convert_weights_to_fp16
from torch import Tensor, nn

from carryover.adapt.freeze import chosen, freeze_, trainable
from carryover.adapt.optim import RULES, half_projected, halve_, learning_rates, optimiser_groups
from carryover.errors import ConfigError
from carryover.models.heads import Adapted, Features, linear_head, projected
from small_networks import IMAGE_SIZE, resnet, resnet_parts, vit, vit_parts

BUILT = {"vit": (vit, vit_parts(2)), "resnet": (resnet, resnet_parts())}
ADAM = partial(torch.optim.Adam, foreach=False)


def adapted(image: nn.Module, names: list[str], features: Features = projected) -> Adapted:
    freeze_(image, names)
    head = linear_head("random", 3, 12, generator=torch.Generator().manual_seed(1))
    return Adapted(image, features, head)


def steps(network: Adapted, optimiser: torch.optim.Optimizer, size: int, count: int = 3) -> None:
    draw = torch.Generator().manual_seed(2)
    for _ in range(count):
        optimiser.zero_grad()
        x = torch.rand(6, 3, size, size, generator=draw)
        nn.functional.cross_entropy(network(x), torch.arange(6) % 3).backward()
        optimiser.step()


def published_rates(first: int, decay: float) -> dict[str, float]:
    groups, kinds = vit_parts(12)
    names = chosen("norm", groups, kinds, blocks_from=first)
    return learning_rates("tensor", names, groups, lr=1.0, decay=decay)


def finite(network: nn.Module) -> dict[str, bool]:
    return {name: bool(p.isfinite().all()) for name, p in network.named_parameters()}


# --- rates -------------------------------------------------------------------------------------


def test_per_tensor_follows_the_published_list() -> None:
    block = "image.transformer.resblocks.{}.{}"
    order = [
        *("head.weight", "head.bias", "image.ln_post.weight", "image.ln_post.bias"),
        *(
            block.format(i, name)
            for i in (11, 10, 9, 8, 7)
            for name in ("ln_2.weight", "ln_2.bias", "ln_1.weight", "ln_1.bias")
        ),
    ]
    rates = published_rates(7, 0.9)
    assert list(rates) == order
    assert list(rates.values()) == pytest.approx([0.9**j for j in range(24)])


@pytest.mark.parametrize(
    ("first", "decay", "last", "end"),
    [(7, 0.9, 23, 0.089), (6, 0.9, 27, 0.058), (7, 0.99, 23, 0.79), (6, 0.99, 27, 0.76)],
)
def test_per_tensor_ends_at_the_published_share(
    first: int, decay: float, last: int, end: float
) -> None:
    rates = list(published_rates(first, decay).values())
    assert len(rates) == last + 1
    assert rates[-1] == pytest.approx(end, abs=5e-4 if decay == 0.9 else 5e-3)


def test_per_block_keeps_the_head_and_the_output_at_the_full_rate() -> None:
    groups, kinds = vit_parts(12)
    names = trainable(groups, kinds, since="block5")
    rates = learning_rates("block", names, groups, lr=0.1, decay=0.5)
    for name in ("head.weight", "head.bias", "image.ln_post.weight", "image.proj"):
        assert rates[name] == 0.1
    for i in range(5, 12):
        assert {rates[f"image.{name}"] for name in groups[f"block{i}"]} == {0.1 * 0.5 ** (12 - i)}


def test_per_group_counts_groups_to_the_head() -> None:
    groups, kinds = vit_parts(2)
    rates = learning_rates("group", trainable(groups, kinds), groups, lr=1.0, decay=0.5)
    expected = {"output": 0.5, "block1": 0.25, "block0": 0.125, "embed": 0.0625}
    assert rates["head.weight"] == rates["head.bias"] == 1.0
    for group, rate in expected.items():
        assert {rates[f"image.{name}"] for name in groups[group]} == {rate}


def test_without_an_output_group_the_last_block_is_nearest_to_the_head() -> None:
    groups = {f"conv{i}": [f"conv{i}.weight"] for i in range(3)}
    names = [name for group in groups.values() for name in group]
    for rule in ("block", "group"):
        rates = learning_rates(rule, names, groups, lr=1.0, decay=0.5)
        assert [rates[f"image.{name}"] for name in names] == [0.125, 0.25, 0.5]


def test_a_frozen_group_still_counts_as_distance() -> None:
    groups, kinds = vit_parts(2)
    names = chosen("embedding", groups, kinds)
    rates = learning_rates("group", names, groups, lr=1.0, decay=0.5)
    assert rates["image.class_embedding"] == 0.0625
    assert learning_rates("block", names, groups, lr=1.0, decay=0.5)[
        "image.class_embedding"
    ] == pytest.approx(0.125)


def test_weight_and_bias_of_a_layer_differ_per_tensor_alone() -> None:
    groups, kinds = vit_parts(2)
    names = chosen("norm", groups, kinds)
    for rule in RULES:
        rates = learning_rates(rule, names, groups, lr=1.0, decay=0.9)
        same = rates["image.ln_post.weight"] == rates["image.ln_post.bias"]
        assert same == (rule != "tensor")


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("network", ["vit", "resnet"])
@pytest.mark.parametrize("mode", ["none", "norm", "attention", "all", "last-1"])
def test_every_trainable_parameter_is_in_exactly_one_group(
    rule: str, network: str, mode: str
) -> None:
    build, (groups, kinds) = BUILT[network]
    names = chosen(mode, groups, kinds)
    model = adapted(build(), names)
    rates = learning_rates(rule, names, groups, lr=0.1, decay=0.9)
    parts = optimiser_groups(model, rates)
    found = [id(p) for part in parts for p in part["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert len(found) == len(names) + 2
    assert len({part["lr"] for part in parts}) == len(parts)


@pytest.mark.parametrize("rule", list(RULES))
def test_without_decay_training_equals_one_plain_group(rule: str) -> None:
    groups, kinds = vit_parts(2)
    names = chosen("norm", groups, kinds)
    decayed, plain = (adapted(vit(), names) for _ in range(2))
    rates = learning_rates(rule, names, groups, lr=0.01, decay=1.0)
    parts = optimiser_groups(decayed, rates)
    assert len(parts) == 1
    steps(decayed, torch.optim.Adam(parts), 16)
    steps(plain, torch.optim.Adam([p for p in plain.parameters() if p.requires_grad], lr=0.01), 16)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(decayed.state_dict()[name], tensor)


def test_each_tensors_first_step_has_the_length_of_its_rate() -> None:
    groups, kinds = vit_parts(2)
    names = chosen("norm", groups, kinds, blocks_from=1)
    model = adapted(vit(), names)
    before = copy.deepcopy(model.state_dict())
    rates = learning_rates("tensor", names, groups, lr=0.01, decay=0.5)
    steps(model, torch.optim.Adam(optimiser_groups(model, rates)), 16, count=1)
    for name, old in before.items():  # Adam's first step is lr for all but tiny gradients
        moved = (model.state_dict()[name] - old).abs().max().item()
        assert moved == pytest.approx(rates.get(name, 0.0), rel=0.02)


def test_a_rate_too_many_or_too_few_is_a_mistake() -> None:
    groups, kinds = vit_parts(2)
    names = chosen("norm", groups, kinds)
    model = adapted(vit(), names)
    rates = learning_rates("group", names[:-1], groups, lr=0.1, decay=0.9)
    with pytest.raises(ValueError, match=r"a rate for each .* differs in \['image\.ln_post\.bias'"):
        optimiser_groups(model, rates)
    with pytest.raises(ValueError, match=r"differs in \['image\.proj'\]"):
        optimiser_groups(
            model, learning_rates("group", [*names, "proj"], groups, lr=0.1, decay=0.9)
        )
    with pytest.raises(ConfigError, match="decay_rule: expected one of tensor, block, group, got"):
        learning_rates("layer", names, groups, lr=0.1, decay=0.9)


# --- half precision ----------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["vit", "resnet"])
def test_halved_tensors_are_those_of_open_clips_own_conversion(network: str) -> None:
    build, (_, kinds) = BUILT[network]
    ours, theirs = build(), build()
    halve_(ours, kinds)
    convert_weights_to_fp16(theirs)
    dtypes = {name: p.dtype for name, p in ours.named_parameters()}
    assert dtypes == {name: p.dtype for name, p in theirs.named_parameters()}
    assert {dtypes[name] for name, kind in kinds.items() if kind == "norm"} == {torch.float32}
    halved = {kinds[name] for name, dtype in dtypes.items() if dtype == torch.float16}
    assert halved >= {"attention", "projection"}
    for name in ("class_embedding", "positional_embedding", "attnpool.positional_embedding"):
        assert dtypes.get(name, torch.float32) == torch.float32


@pytest.mark.parametrize("network", ["vit", "resnet"])
def test_half_embeddings_are_near_those_in_float32(network: str) -> None:
    build, (_, kinds) = BUILT[network]
    image = build().eval()
    x = torch.rand(4, 3, *[IMAGE_SIZE[network]] * 2, generator=torch.Generator().manual_seed(3))
    full = image(x)
    halve_(image, kinds)
    half = half_projected(image, x)
    assert half.dtype == torch.float32
    assert torch.allclose(half, full, atol=0.02)
    assert not torch.equal(half, full)


def test_adams_epsilon_is_zero_in_float16() -> None:
    assert torch.tensor(1e-8, dtype=torch.float16).item() == 0
    assert torch.tensor(1e-8, dtype=torch.float32).item() > 0


def half_step(gradient: list[float], dtype: torch.dtype) -> Tensor:
    weight = nn.Parameter(torch.ones(len(gradient), dtype=dtype))
    optimiser = ADAM([weight], lr=1e-3)
    weight.grad = torch.tensor(gradient, dtype=dtype)
    optimiser.step()
    return weight.detach()


def test_one_half_step_is_nan_or_infinite_where_the_second_moment_rounds_to_zero() -> None:
    zero, small, negative, large = half_step([0.0, 1e-3, -1e-3, 0.1], torch.float16).tolist()
    assert math.isnan(zero)
    assert (small, negative) == (-math.inf, math.inf)
    assert large == pytest.approx(0.999, abs=5e-4)
    assert half_step([0.0, 1e-3, -1e-3, 0.1], torch.float32).tolist() == pytest.approx(
        [1.0, 0.999, 1.001, 0.999]
    )


def test_the_second_moment_is_lost_below_a_gradient_of_five_thousandths() -> None:
    assert half_step([5.4e-3, 5.6e-3], torch.float16).isfinite().tolist() == [False, True]


@pytest.mark.parametrize("mode", ["attention", "mlp", "last-1"])
def test_half_adam_ruins_attention_and_mlp_in_one_step(mode: str) -> None:
    groups, kinds = vit_parts(2)
    names = chosen(mode, groups, kinds, blocks_from=1)
    image = vit()
    halve_(image, kinds)
    model = adapted(image, names, half_projected)
    rates = learning_rates("group", names, groups, lr=1e-3, decay=0.9)
    steps(model, ADAM(optimiser_groups(model, rates)), 16, count=1)
    state = finite(model)
    halved = [f"image.{name}" for name in names if kinds[name] in ("attention", "mlp")]
    assert not all(state[name] for name in halved)
    assert not model(torch.rand(2, 3, 16, 16)).isfinite().any()


def test_half_adam_trains_norms_as_published() -> None:
    groups, kinds = vit_parts(2)
    names = chosen("norm", groups, kinds)
    image = vit()
    halve_(image, kinds)
    model = adapted(image, names, half_projected)
    before = copy.deepcopy(model.state_dict())
    rates = learning_rates("tensor", names, groups, lr=1e-3, decay=0.9)
    steps(model, ADAM(optimiser_groups(model, rates)), 16)
    assert all(finite(model).values())
    moved = {name for name, old in before.items() if not torch.equal(model.state_dict()[name], old)}
    assert moved == set(rates)


def test_the_same_attention_trains_in_float32() -> None:
    groups, kinds = vit_parts(2)
    names = chosen("attention", groups, kinds)
    model = adapted(vit(), names)
    rates = learning_rates("group", names, groups, lr=1e-3, decay=0.9)
    steps(model, ADAM(optimiser_groups(model, rates)), 16)
    assert all(finite(model).values())
