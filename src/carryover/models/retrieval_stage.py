"""A retrieval stage: where in a network its tokens attend to the entries that it is handed."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carryover.errors import DataError
from carryover.models.cross_attention import CrossAttention, FeedForward, Rows

Tokens = Literal["positions", "reshaped"]


class Retrieval(nn.Module):
    """Layers of attention to retrieved entries, each with its feed-forward, on tokens.

    Args:
        layers: 1 in each of the Perceiver's layers, 2 behind each block of the ResNet.
        multiplier: of the feed-forward: 4 in the Perceiver, 1 in the ResNet.
        dropout: of the attention's weights and behind the feed-forward.
    Source: reference/retrieval.md, section 3.
    """

    def __init__(
        self,
        width: int,
        rows: Rows,
        *,
        layers: int,
        heads: int,
        head_width: int,
        multiplier: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.row = rows.width
        shape = {"heads": heads, "head_width": head_width}
        self.attends = nn.ModuleList(
            CrossAttention(width, rows, **shape, dropout=dropout) for _ in range(layers)
        )
        self.feeds = nn.ModuleList(FeedForward(width, multiplier, dropout) for _ in range(layers))

    def forward(
        self, x: Float[Tensor, "b p d"], rows: Float[Tensor, "b k r"]
    ) -> Float[Tensor, "b p d"]:
        if rows.shape[2] != self.row:
            raise DataError(
                f"retrieval: expected entries of {self.row} numbers, got {rows.shape[2]}; give the "
                "features and labels that the network was built for"
            )
        for attends, feeds in zip(self.attends, self.feeds, strict=True):
            x = feeds(attends(x, rows))
        return x


class MapRetrieval(nn.Module):
    """A retrieval stage on a feature map, of which each position is a token.

    Args:
        tokens: "positions", or "reshaped", a defect of the published ResNet: the map is reshaped to
            (positions, channels) without moving its axes and turned back by moving them, so that
            the map comes back scrambled whatever attention adds.
    """

    def __init__(self, retrieval: Retrieval, tokens: Tokens) -> None:
        super().__init__()
        self.retrieval = retrieval
        self.tokens = tokens

    def forward(
        self, x: Float[Tensor, "b c h w"], rows: Float[Tensor, "b k r"]
    ) -> Float[Tensor, "b c h w"]:
        moved = x.flatten(2).mT if self.tokens == "positions" else x.reshape(len(x), -1, x.shape[1])
        return self.retrieval(moved, rows).mT.unflatten(2, x.shape[2:])


def zero_(network: nn.Module) -> None:
    """Make every retrieval stage add nothing.

    A network then gives bit for bit what the same one without stages gives, unless its stages
    reshape their maps.
    """
    for module in network.modules():
        if isinstance(module, Retrieval):
            for layer in (*module.attends, *module.feeds):
                for parameter in layer.out.parameters():
                    nn.init.zeros_(parameter)


def expect_rows(stages: nn.ModuleList, rows: Tensor | None) -> None:
    """Refuse a network without retrieval stages that is given entries, and the reverse.

    Raises:
        DataError: there is one without the other.
    """
    if bool(len(stages)) == (rows is not None):
        return
    built, given = ("with", "none") if len(stages) else ("without", "some")
    raise DataError(
        f"retrieval: expected entries where a network has retrieval stages and nowhere else, got "
        f"{given} for a network {built} stages; build the network for what it is given"
    )


def attended(
    network: nn.Module, x: Float[Tensor, "b ch h w"], rows: Float[Tensor, "b k r"]
) -> list[Float[Tensor, "b heads p k"]]:
    """Weights of every retrieval layer from input to output, without gradient or dropout.

    The network is put into evaluation mode for it and left as it was found.
    """
    found: list[Tensor] = []
    layers: list[Any] = [
        layer
        for module in network.modules()
        if isinstance(module, Retrieval)
        for layer in module.attends
    ]
    watched = [
        layer.drop.register_forward_pre_hook(lambda _, given: found.append(given[0]))
        for layer in layers
    ]
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.no_grad():
            network.eval()(x, rows)
    finally:
        for module, training in modes:
            module.training = training
        for hook in watched:
            hook.remove()
    return found
