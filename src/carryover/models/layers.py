"""Depth, said once: every network's ordered layer groups, from input to output."""

from __future__ import annotations

from torch import nn


def layer_groups(network: nn.Sequential) -> dict[str, list[str]]:
    """Names of a CNN's modules, grouped: each convolution with what follows it, then the head.

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
