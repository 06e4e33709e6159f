"""The networks of the retrieval study by name, each plain or with retrieval stages."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from carryover.errors import ConfigError, pick
from carryover.models.alexnet import AlexNet, map_width
from carryover.models.cross_attention import Rows
from carryover.models.perceiver import Perceiver
from carryover.models.resnet18 import ResNet18, block_widths
from carryover.models.retrieval_stage import MapRetrieval, Retrieval

WIDEST = 64  # times the width, as far as `widened` looks


@dataclass(frozen=True)
class Network:
    """How a network is made and where its retrieval stages go.

    Args:
        make: takes classes, channels, size, the dims and the stages.
        widths: of the tokens at each stage, by the dims.
        maps: whether a stage gets a feature map rather than tokens.
    """

    make: Callable[..., nn.Module]
    widths: Callable[[Mapping[str, Any]], list[int]]
    maps: bool


def build(
    name: str,
    *,
    classes: int | None,
    channels: int,
    size: int,
    dims: Mapping[str, Any],
    retrieval: Mapping[str, Any] | None,
    generator: torch.Generator,
) -> nn.Module:
    """A network with new weights: ``forward(x, rows)``, rows None where it has no stages.

    With one generator's state, plain or with whatever stages, the weights that both have are the
    same, and the generator is left in the same state; torch's own stream is left as it was.

    Args:
        name: of `NETWORKS`.
        classes: logits; None: no last layer.
        channels, size: of the images.
        dims: arguments of the network: ``width`` (resnet18), ``width, form`` (alexnet), all but
            the images' of `Perceiver`.
        retrieval: ``features, labels, keys, values`` of `Rows`, ``layers, heads, head_width,
            multiplier, dropout`` of `Retrieval`, ``tokens`` of `MapRetrieval`; None: plain.
    Raises:
        ConfigError: an unknown name, entries that lack what is asked for, reshaped tokens where
            there is no map.
    """
    network = pick(NETWORKS, name, "retrieval.network")
    drawn = torch.randint(2**62, (2,), generator=generator, device=generator.device)
    own, added = drawn.tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(added)
        attend = [] if retrieval is None else _stages(name, network, dims, retrieval)
        torch.manual_seed(own)
        return network.make(classes=classes, channels=channels, size=size, dims=dims, attend=attend)


def _stages(
    name: str, network: Network, dims: Mapping[str, Any], retrieval: Mapping[str, Any]
) -> list[nn.Module]:
    rest = dict(retrieval)
    rows = Rows(**{key: rest.pop(key) for key in ("features", "labels", "keys", "values")})
    tokens = rest.pop("tokens")
    if not network.maps and tokens != "positions":
        raise ConfigError(
            f"retrieval.tokens: expected positions for {name}, which has no map to reshape, got "
            f"{tokens}; ask for it with resnet18 or alexnet"
        )
    stages = [Retrieval(width, rows, **rest) for width in network.widths(dims)]
    return [MapRetrieval(stage, tokens) for stage in stages] if network.maps else list(stages)


def widened(
    name: str,
    *,
    classes: int | None,
    channels: int,
    size: int,
    dims: Mapping[str, Any],
    retrieval: Mapping[str, Any],
) -> dict[str, Any]:
    """Dims of a plain network with about as many parameters as one with retrieval stages.

    Returns:
        The dims with the width whose number of parameters is nearest.
    """

    def count(dims: Mapping[str, Any], retrieval: Mapping[str, Any] | None = None) -> int:
        with torch.device("meta"):
            network = build(
                name,
                classes=classes,
                channels=channels,
                size=size,
                dims=dims,
                retrieval=retrieval,
                generator=torch.Generator(),
            )
        return sum(parameter.numel() for parameter in network.parameters())

    wanted = count(dims, retrieval)
    widths = range(dims["width"], WIDEST * dims["width"])
    above = bisect_left(widths, wanted, key=lambda width: count({**dims, "width": width}))
    near = [{**dims, "width": width} for width in widths[max(above - 1, 0) : above + 1]]
    return min(near, key=lambda tried: abs(count(tried) - wanted))


def _resnet18(
    *,
    classes: int | None,
    channels: int,
    size: int,
    dims: Mapping[str, Any],
    attend: Sequence[nn.Module],
) -> nn.Module:
    return ResNet18(classes=classes, channels=channels, **dims, attend=attend)  # of any size


def _sized(made: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return lambda *, dims, **rest: made(**dims, **rest)


NETWORKS: dict[str, Network] = {
    "resnet18": Network(_resnet18, lambda dims: block_widths(dims["width"]), maps=True),
    "alexnet": Network(_sized(AlexNet), lambda dims: [map_width(dims["width"])], maps=True),
    "perceiver": Network(
        _sized(Perceiver), lambda dims: [dims["width"]] * dims["layers"], maps=False
    ),
}
