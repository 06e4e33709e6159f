from __future__ import annotations

import pytest
import torch
import torchvision

from carryover.errors import ConfigError
from carryover.models.alexnet import AlexNet, map_width
from carryover.models.depth import depth_of
from small_retrieval import drawn, size, small


def test_the_small_form_has_its_number_of_parameters() -> None:
    convolutions = 64 * (3 * 121 + 1) + 192 * (64 * 25 + 1) + 384 * (192 * 9 + 1)
    convolutions += 256 * (384 * 9 + 1) + 256 * (256 * 9 + 1)
    assert size(AlexNet()) == convolutions + 10 * 257 == 2_472_266


def test_the_large_form_is_torchvisions_name_by_name() -> None:
    with torch.device("meta"):
        ours = AlexNet(classes=1000, size=224, form="torchvision")
        theirs = torchvision.models.alexnet()
    shapes = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in ours.state_dict().items()} == shapes
    assert size(ours) == 61_100_840


def test_the_large_form_gives_what_torchvisions_gives() -> None:
    ours = AlexNet(width=64, classes=4, size=64, form="torchvision").eval()
    with torch.device("meta"):
        theirs = torchvision.models.alexnet(num_classes=4).eval()
    theirs.load_state_dict(ours.state_dict(), assign=True)
    x = drawn(1, 3, 64, 64)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", [29, 32, 64])
def test_logits_are_the_last_layer_of_the_embedding(channels: int, pixels: int) -> None:
    network = AlexNet(width=2, classes=5, channels=channels, size=pixels).eval()
    x = drawn(3, channels, pixels, pixels)
    assert network.embed(x).shape == (3, map_width(2)) == (3, 8)
    assert torch.equal(network(x), network.classifier(network.embed(x)))
    bare = AlexNet(width=2, classes=None, channels=channels, size=pixels).eval()
    assert torch.equal(bare(x), bare.embed(x))


def test_images_too_small_for_a_form_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 29 pixels for the form cifar, got 28; enl"):
        AlexNet(size=28)
    with pytest.raises(ConfigError, match="at least 63 pixels for the form torchvision, got 32"):
        AlexNet(size=32, form="torchvision")


def test_the_stage_sees_the_last_map_before_it_is_pooled() -> None:
    network, found = small("alexnet"), []
    network.attend[0].register_forward_pre_hook(lambda _, given: found.append(given[0].shape))
    network(drawn(2, 3, 32, 32), drawn(2, 4, 9))
    assert found == [(2, 8, 2, 2)]


def test_its_depth_is_one_group_a_layer() -> None:
    names = [f"conv{i}" for i in range(5)]
    assert list(depth_of(AlexNet(width=2)).groups) == [*names, "linear0"]
    large = AlexNet(width=1, size=63, form="torchvision")
    assert list(depth_of(large).groups) == [*names, "linear0", "linear1", "linear2"]
