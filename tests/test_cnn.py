from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carryover.errors import ConfigError
from carryover.models.cnn import ACTIVATIONS, cnn, features_of, layer_groups, reset_

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def network(seed: int = 0, **changes: Any) -> nn.Sequential:
    """The published network, made smaller or otherwise changed."""
    recipe: dict[str, Any] = {
        "depth": 6,
        "channels": 64,
        "kernel": 3,
        "activation": "relu",
        "pool_every": 2,
        "pool_stride": 2,
        "hidden": 0,
        "image_shape": MNIST,
        "classes": 5,
    }
    return cnn(**recipe | changes, generator=torch.Generator().manual_seed(seed))


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("shape", "classes", "count"),
    [(MNIST, 5, 188_165), (MNIST, 7, 189_319), (CIFAR, 4, 190_532)],
)
def test_the_published_networks_have_their_size(
    shape: tuple[int, int, int], classes: int, count: int
) -> None:
    found = network(image_shape=shape, classes=classes)
    assert size(found) == count
    assert found(torch.zeros(2, *shape)).shape == (2, classes)


def test_the_seed_era_network_pools_nowhere_and_has_two_linear_layers() -> None:
    found = network(depth=3, channels=10, kernel=5, pool_every=0, hidden=128)
    convolutions = 10 * (25 + 1) + 2 * 10 * (250 + 1)
    assert size(found) == convolutions + 128 * (10 * 28 * 28 + 1) + 5 * (128 + 1)
    assert [name for name, _ in found.named_children()] == [
        *("conv0", "act0", "conv1", "act1", "conv2", "act2"),
        *("flatten", "hidden", "act_hidden", "linear"),
    ]


def test_pooling_follows_every_second_convolution() -> None:
    names = [name for name, _ in network(channels=4).named_children()]
    assert [name for name in names if name.startswith("pool")] == ["pool1", "pool3", "pool5"]
    assert names.index("pool3") == names.index("act3") + 1


@pytest.mark.parametrize(("shape", "sizes"), [(MNIST, [28, 14, 7, 3]), (CIFAR, [32, 16, 8, 4])])
def test_sizes_are_the_published_ones(shape: tuple[int, int, int], sizes: list[int]) -> None:
    x, found = torch.zeros(1, *shape), [shape[1]]
    for name, module in network(channels=2, image_shape=shape).named_children():
        x = module(x)
        found += [x.shape[-1]] if name.startswith("pool") else []
    assert found == sizes


@pytest.mark.parametrize("changes", [{}, {"hidden": 8}, {"pool_every": 0}, {"depth": 1}])
def test_the_groups_cover_every_parameter_exactly_once_in_order(changes: dict[str, Any]) -> None:
    found = network(channels=4, **changes)
    groups = layer_groups(found)
    names = [name for group in groups.values() for name in group]
    assert names == [name for name, _ in found.named_children()]
    owned = [p for name in names for p in found.get_submodule(name).parameters()]
    assert [id(p) for p in owned] == [id(p) for p in found.parameters()]
    assert list(groups) == [f"conv{i}" for i in range(len(groups) - 1)] + ["head"]


def test_a_group_is_a_convolution_with_what_follows_it() -> None:
    groups = layer_groups(network(channels=4, hidden=8))
    assert groups["conv0"] == ["conv0", "act0"]
    assert groups["conv1"] == ["conv1", "act1", "pool1"]
    assert groups["head"] == ["flatten", "hidden", "act_hidden", "linear"]


def test_one_seed_gives_one_network() -> None:
    assert torch.equal(network(3)[0].weight, network(3)[0].weight)
    assert not torch.equal(network(3)[0].weight, network(4)[0].weight)


@pytest.mark.parametrize(
    "module", [nn.Conv2d(3, 5, 3, padding=1), nn.Linear(7, 4), nn.Linear(7, 4, bias=False)]
)
def test_resetting_draws_what_torch_itself_draws(module: nn.Module) -> None:
    reset_(module, torch.Generator().manual_seed(11))
    mine = [parameter.detach().clone() for parameter in module.parameters()]
    with torch.random.fork_rng():
        torch.manual_seed(11)
        module.reset_parameters()  # type: ignore[operator]
    for drawn, theirs in zip(mine, module.parameters(), strict=True):
        torch.testing.assert_close(drawn, theirs.detach(), rtol=1e-6, atol=0)


def test_a_whole_network_is_drawn_as_torch_would() -> None:
    mine = network(5, channels=4, hidden=8)
    theirs = [m for m in network(0, channels=4, hidden=8) if hasattr(m, "reset_parameters")]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for module in theirs:
            module.reset_parameters()
    expected: list[Tensor] = [p for module in theirs for p in module.parameters()]
    for a, b in zip(mine.parameters(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


def test_new_weights_stay_within_their_bound() -> None:
    layer = nn.Linear(16, 400)
    reset_(layer, torch.Generator().manual_seed(0))
    assert 0.24 < float(layer.weight.detach().abs().max()) <= 1 / math.sqrt(16)


def test_what_has_no_weights_is_left_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    for module in (nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()):
        reset_(module, generator)
    assert torch.equal(generator.get_state(), before)


def test_features_are_what_flattening_gives() -> None:
    body = network(channels=4)[:-1]
    assert features_of(body, MNIST) == 4 * 3 * 3
    assert features_of(nn.Sequential(), MNIST) == 784


def test_pooling_away_every_pixel_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least one pixel of 4 by 4, it does not; pool less"):
        network(image_shape=(1, 4, 4))


def test_an_unknown_activation_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="activation: expected one of relu, tanh, gelu, got 'si"):
        network(activation="silu")
    assert [type(network(channels=2, activation=n)[1]) for n in ACTIVATIONS] == [
        *(nn.ReLU, nn.Tanh, nn.GELU)
    ]
