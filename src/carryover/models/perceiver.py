"""The Perceiver (Jaegle et al. 2021): latents that attend to pixels, and to retrieved entries.

A layer is attention to the pixels, a retrieval stage where there is one, attention of the latents
to themselves, each with a feed-forward. No two layers share weights.

Sizes of the published runs, of reference/retrieval.md: 10 latents of 512, two layers, one head of
256 to the pixels, two of 64 among the latents, 6 bands up to 10, dropout 0.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carryover.models.cross_attention import CrossAttention, FeedForward, Rows, SelfAttention
from carryover.models.retrieval_stage import expect_rows

MULTIPLIER = 4  # width of a feed-forward by that of the latents


class Layer(nn.Module):
    """Attention to the pixels and of the latents to themselves, each with its feed-forward."""

    def __init__(
        self,
        width: int,
        pixels: int,
        cross_heads: int,
        cross_head_width: int,
        heads: int,
        head_width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        shape = {"heads": cross_heads, "head_width": cross_head_width}
        self.look = CrossAttention(width, Rows(pixels), **shape, dropout=dropout)
        self.feed_look = FeedForward(width, MULTIPLIER, dropout)
        self.mix = SelfAttention(width, heads=heads, head_width=head_width, dropout=dropout)
        self.feed_mix = FeedForward(width, MULTIPLIER, dropout)

    def forward(
        self,
        z: Float[Tensor, "b l d"],
        pixels: Float[Tensor, "b p f"],
        stage: nn.Module | None,
        rows: Float[Tensor, "b k r"] | None,
    ) -> Float[Tensor, "b l d"]:
        z = self.feed_look(self.look(z, pixels))
        if stage is not None:
            z = stage(z, rows)
        return self.feed_mix(self.mix(z))


class Perceiver(nn.Module):
    """Latents through the layers, their mean, a norm, a layer of logits.

    Args:
        size: height and width of the images.
        classes: logits; None: no last layer, the network gives the normed mean of the latents.
        channels: of the images.
        latents, width: how many there are and of how many numbers, drawn from a standard normal.
        layers: of the network.
        cross_heads, cross_head_width: of the attention to the pixels.
        heads, head_width: of the latents' attention to themselves.
        bands, max_frequency: of `fourier_positions`.
        dropout: of the attentions' weights and behind each feed-forward.
        attend: a retrieval stage for each of the layers, or none; a stage takes the latents and the
            retrieved entries.
    """

    positions: Tensor

    def __init__(
        self,
        *,
        size: int,
        classes: int | None,
        channels: int,
        latents: int,
        width: int,
        layers: int,
        cross_heads: int,
        cross_head_width: int,
        heads: int,
        head_width: int,
        bands: int,
        max_frequency: float,
        dropout: float = 0.0,
        attend: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        positions = fourier_positions(size, bands, max_frequency)
        self.register_buffer("positions", positions, persistent=False)
        self.latents = nn.Parameter(torch.randn(latents, width))
        pixels = channels + positions.shape[1]
        sizes = (cross_heads, cross_head_width, heads, head_width)
        self.layers = nn.ModuleList(Layer(width, pixels, *sizes, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Identity() if classes is None else nn.Linear(width, classes)
        self.attend = nn.ModuleList(attend)

    def embed(
        self, x: Float[Tensor, "b ch h w"], rows: Float[Tensor, "b k r"] | None = None
    ) -> Float[Tensor, "b d"]:
        """The normed mean of the latents.

        Raises:
            DataError: entries without retrieval stages, or stages without entries.
        """
        expect_rows(self.attend, rows)
        pixels = torch.cat([x.flatten(2).mT, self.positions.expand(len(x), -1, -1)], dim=2)
        z = self.latents.expand(len(x), -1, -1)
        for i, layer in enumerate(self.layers):
            z = layer(z, pixels, self.attend[i] if len(self.attend) else None, rows)
        return self.norm(z.mean(1))

    def forward(
        self, x: Float[Tensor, "b ch h w"], rows: Float[Tensor, "b k r"] | None = None
    ) -> Float[Tensor, "b d"]:
        return self.linear(self.embed(x, rows))


def fourier_positions(size: int, bands: int, max_frequency: float) -> Float[Tensor, "p f"]:
    """Sines, cosines and the raw position of each pixel, 2 bands + 1 numbers an axis.

    sin(pi f x), cos(pi f x) and x, with x from -1 to 1 along the axis and `bands` frequencies f
    spread evenly from 1 to max_frequency / 2. First all of the vertical axis, then the horizontal.

    Source: Jaegle et al. 2021, section 3.2.
    """
    line = torch.linspace(-1, 1, size)
    angles = math.pi * line[:, None] * torch.linspace(1, max_frequency / 2, bands)
    axis = torch.cat([angles.sin(), angles.cos(), line[:, None]], dim=1)
    vertical, horizontal = axis.repeat_interleave(size, dim=0), axis.repeat(size, 1)
    return torch.cat([vertical, horizontal], dim=1)
