"""Freezing by child, as the study of FLAVA did it, by range, and where no loss reaches."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from jaxtyping import Shaped
from torch import Tensor, nn

from carryover.adapt.freeze import trainable
from carryover.errors import ConfigError, pick


def left_by(
    freeze: str, image: nn.Module, groups: Mapping[str, Sequence[str]], path: str = "freeze"
) -> list[str]:
    """Names of the parameters that train when some of an image network is frozen.

    Args:
        freeze: ``children-N``, the network's first N modules in the order it was built from
            (FLAVA: embeddings, encoder, layernorm, projection); or layer groups from one to
            another, ``embed..block1``.
        groups: of every parameter, input to output.
        path: the parameter that says it, for messages.
    Raises:
        ConfigError: fewer children or other groups than that, or a range that ends before it
            begins.
    """
    every = [name for name, _ in image.named_parameters()]
    by_child = re.fullmatch(r"children-(\d+)", freeze)
    if by_child:
        children, count = [name for name, _ in image.named_children()], int(by_child[1])
        if count > len(children):
            raise ConfigError(
                f"{path}: expected at most children-{len(children)} for this encoder "
                f"({', '.join(children)}), got {freeze!r}"
            )
        frozen = {n for n in every if n.split(".")[0] in children[:count]}
    else:
        since, _, until = freeze.partition("..")
        for name in (since, until):
            pick(groups, name, path)
        if list(groups).index(since) > list(groups).index(until):
            raise ConfigError(f"{path}: expected groups input to output, got {freeze!r}; turn it")
        frozen = set(trainable(groups, dict.fromkeys(every, ""), since=since, until=until))
    return [name for name in every if name not in frozen]


def freeze_unreached_(network: nn.Module, x: Shaped[Tensor, "b ..."]) -> None:
    """Freeze parameters that the network's outputs do not depend on.

    A head on tokens leaves the projection without a gradient: counted as trainable it would make
    a network look larger than it is, and a penalty on weights would still move it.

    Args:
        x: inputs of any values; the network runs in evaluation mode and keeps its mode.
    """
    training = network.training
    network.eval()
    network(x).sum().backward()
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    network.train(training)


def trained_parameters(network: nn.Module) -> int:
    """How many numbers of a network train."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
