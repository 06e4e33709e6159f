"""The small CNN of the cut study: equal convolutions, average pooling, one or two linear layers.

Source: reference study ``tusharmanekar/mp-tl-study`` at 8c95619 (final state, six convolutions of
64 channels) and 02c3591 (seed era, three of 10 or five of 30).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from carryover.errors import ConfigError, pick


def cnn(
    *,
    depth: int,
    channels: int,
    kernel: int,
    activation: str,
    pool_every: int,
    pool_stride: int,
    hidden: int,
    image_shape: tuple[int, int, int],
    classes: int,
    generator: torch.Generator,
) -> nn.Sequential:
    """A network of named modules ``conv0 act0 conv1 act1 pool1 ... flatten [hidden act] linear``.

    Args:
        depth: convolutions, stride 1, padded to keep the size.
        pool_every: 2 by 2 average pooling after every n-th convolution; 0 for none. (The
            published network pools after its second, fourth and sixth: conv1, conv3, conv5.)
        hidden: width of a linear layer before the last; 0 for none.
        image_shape: channels, height and width of the images.
        generator: draws the weights in PyTorch's own order and distribution.
    Raises:
        ConfigError: pooling leaves no pixel.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = image_shape[0]
    for i in range(depth):
        modules[f"conv{i}"] = nn.Conv2d(inputs, channels, kernel, padding=kernel // 2)
        modules[f"act{i}"] = pick(ACTIVATIONS, activation, "activation")()
        if pool_every and (i + 1) % pool_every == 0:
            modules[f"pool{i}"] = nn.AvgPool2d(2, pool_stride)
        inputs = channels
    modules["flatten"] = nn.Flatten()
    width = features_of(nn.Sequential(modules), image_shape)
    if hidden:
        modules["hidden"] = nn.Linear(width, hidden)
        modules["act_hidden"] = pick(ACTIVATIONS, activation, "activation")()
    modules["linear"] = nn.Linear(hidden or width, classes)
    network = nn.Sequential(modules)
    for module in network:
        reset_(module, generator)
    return network


def features_of(network: nn.Sequential, image_shape: tuple[int, int, int]) -> int:
    """Width of the flattened output for one image.

    Raises:
        ConfigError: pooling leaves no pixel of the image.
    """
    try:
        with torch.no_grad():
            return network(torch.zeros(1, *image_shape)).flatten(1).shape[1]
    except RuntimeError as error:
        raise ConfigError(
            f"network: expected pooling to leave at least one pixel of {image_shape[1]} by "
            f"{image_shape[2]}, it does not; pool less often or use larger images"
        ) from error


def layer_groups(network: nn.Sequential) -> dict[str, list[str]]:
    """Names of the modules, grouped: each convolution with what follows it, then the head.

    Every module, and so every parameter, is in exactly one group. Pooling belongs to the
    convolution before it, so it stays when a network is cut just behind it.

    Returns:
        ``{"conv1": ["conv1", "act1", "pool1"], ..., "head": ["flatten", ..., "linear"]}``.
    """
    groups: dict[str, list[str]] = {}
    group = "head"
    for name, module in network.named_children():
        if isinstance(module, nn.Conv2d):
            group = name
        elif isinstance(module, nn.Flatten):
            group = "head"
        groups.setdefault(group, []).append(name)
    return groups


def reset_(module: nn.Module, generator: torch.Generator) -> None:
    """Draw new weights for a convolution or linear layer; other modules stay as they are.

    Weights and biases uniform in +-1/sqrt(fan_in), weights first: PyTorch's default
    (Kaiming-uniform with a = sqrt 5, He et al. 2015), from an own generator.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        bound = module.weight[0].numel() ** -0.5
        with torch.no_grad():
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-bound, bound, generator=generator)


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
