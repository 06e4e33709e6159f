from __future__ import annotations

import torch

from carryover.models.cnn import cnn
from carryover.models.outputs import layer_outputs, pooled_outputs


def small(hidden: int) -> tuple[torch.nn.Sequential, torch.Tensor]:
    network = cnn(
        depth=3,
        channels=4,
        kernel=3,
        activation="relu",
        pool_every=2,
        pool_stride=2,
        hidden=hidden,
        image_shape=(2, 8, 8),
        classes=5,
        generator=torch.Generator().manual_seed(0),
    )
    return network, torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def test_layers_come_in_order_and_before_their_activation() -> None:
    network, images = small(hidden=0)
    found = dict(layer_outputs(network, images))
    assert tuple(found) == ("input", "conv0", "conv1", "conv2", "linear")
    assert torch.equal(found["input"], images.flatten(2))
    assert torch.equal(found["conv1"], network[:3](images).flatten(2))
    assert (found["conv1"] < 0).any()
    assert found["conv2"].shape == (3, 4, 16)  # behind the pooling
    assert torch.equal(found["linear"][:, 0], network(images))
    assert not any(output.requires_grad for output in found.values())


def test_both_linear_layers_are_there() -> None:
    network, images = small(hidden=7)
    found = dict(layer_outputs(network, images))
    assert tuple(found)[-2:] == ("hidden", "linear")
    assert found["hidden"].shape == (3, 1, 7)


def test_pooled_outputs_are_means_over_space_whatever_the_batch() -> None:
    network, images = small(hidden=7)
    pooled = pooled_outputs(network, images, 2, torch.device("cpu"))
    assert tuple(pooled) == ("conv0", "conv1", "conv2")
    for name, output in layer_outputs(network, images):
        if name in pooled:
            assert torch.allclose(pooled[name], output.mean(2), atol=1e-6)
