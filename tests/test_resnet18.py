from __future__ import annotations

import pytest
import torch
from torch import nn

from carryover.errors import DataError
from carryover.models.depth import depth_of
from carryover.models.resnet18 import ResNet18, block_widths
from small_retrieval import size


@pytest.mark.parametrize(("classes", "count"), [(10, 11_173_962), (1000, 11_681_832)])
def test_it_has_the_published_number_of_parameters(classes: int, count: int) -> None:
    with torch.device("meta"):
        assert size(ResNet18(classes=classes)) == count


def test_stages_double_their_channels_and_halve_the_map() -> None:
    network, found = ResNet18(width=2).eval(), []
    for i in range(1, 5):
        layer = network.get_submodule(f"layer{i}.1")
        layer.register_forward_hook(lambda _, __, out: found.append(tuple(out.shape[1:])))
    network(torch.rand(1, 3, 32, 32))
    assert found == [(2, 32, 32), (4, 16, 16), (8, 8, 8), (16, 4, 4)]
    assert block_widths(2) == [2, 2, 4, 4, 8, 8, 16, 16]


@pytest.mark.parametrize("channels", [1, 3])
def test_logits_are_the_last_layer_of_the_mean_over_space(channels: int) -> None:
    network = ResNet18(width=2, classes=5, channels=channels).eval()
    x = torch.rand(3, channels, 28, 28)
    assert network.embed(x).shape == (3, 16)
    assert torch.equal(network(x), network.linear(network.embed(x)))


def test_without_classes_it_gives_the_mean_over_space() -> None:
    network = ResNet18(width=2, classes=None).eval()
    x = torch.rand(3, 3, 16, 16)
    assert torch.equal(network(x), network.embed(x))
    assert not [name for name, _ in network.named_parameters() if "linear" in name]


def test_only_blocks_that_change_the_shape_have_a_shortcut_of_their_own() -> None:
    network = ResNet18(width=2)
    own = [
        name
        for name, module in network.named_modules()
        if name.endswith("shortcut") and len(list(module.children()))
    ]
    assert own == [f"layer{i}.0.shortcut" for i in (2, 3, 4)]


def test_its_depth_is_the_stem_the_eight_blocks_and_the_last_layer() -> None:
    network = ResNet18(width=2)
    groups = depth_of(network).groups
    blocks = [f"layer{i}-{j}" for i in range(1, 5) for j in range(2)]
    assert list(groups) == ["stem", *blocks, "output"]
    assert sorted(n for found in groups.values() for n in found) == sorted(
        name for name, _ in network.named_parameters()
    )


def test_rows_without_stages_and_stages_without_rows_are_refused() -> None:
    x, rows = torch.rand(1, 3, 8, 8), torch.rand(1, 2, 4)
    with pytest.raises(DataError, match="got some for a network without stages; build"):
        ResNet18(width=2)(x, rows)
    with pytest.raises(DataError, match="got none for a network with stages; build"):
        ResNet18(width=2, attend=[nn.Identity()] * 8)(x)
