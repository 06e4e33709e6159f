"""Attention from a model's tokens to other rows: a residual layer, with a feed-forward behind it.

Both are pre-norm. q, k and v have no bias, the output projection has one; the weights are
softmax(q k' / sqrt(head width)) over the rows. The feed-forward is a GEGLU (Shazeer 2020).

In the retrieval study the rows are the entries of a memory that an image is handed: `d` features,
and where it keeps them `c` one-hot labels behind. What the published settings of keys and values
mean is `PUBLISHED`. There the labels' columns are cut off before the norm, so a part is normed
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from carryover.errors import ConfigError

Part = Literal["features", "labels", "both"]


@dataclass(frozen=True)
class Rows:
    """What a row consists of, and what keys and values are made from.

    Args:
        features: numbers of an embedding.
        labels: of a one-hot label behind it; 0 where there are none.
        keys, values: "features", "labels" or "both", the whole row.
    Raises:
        ConfigError: labels are asked for where rows have none.
    """

    features: int
    labels: int = 0
    keys: Part = "both"
    values: Part = "both"

    def __post_init__(self) -> None:
        if not self.labels and "labels" in (self.keys, self.values):
            raise ConfigError(
                f"retrieval: expected entries with labels for keys from {self.keys} and values "
                f"from {self.values}, got {self.features} features alone; keep labels in the "
                "memory or take keys and values from features"
            )

    @property
    def width(self) -> int:
        return self.features + self.labels

    def columns(self, part: Part) -> slice:
        """Where a part stands in a row."""
        first = self.features if part == "labels" else 0
        return slice(first, self.features if part == "features" else self.width)


class CrossAttention(nn.Module):
    """x + attention from x to rows.

    Args:
        width: of the tokens.
        rows: what is attended to.
        dropout: of the weights.
    """

    def __init__(
        self, width: int, rows: Rows, *, heads: int, head_width: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.keys, self.values = rows.columns(rows.keys), rows.columns(rows.values)
        sizes = [len(range(*part.indices(rows.width))) for part in (self.keys, self.values)]
        self.norm = nn.LayerNorm(width)
        self.norm_keys = nn.LayerNorm(sizes[0])
        # one norm for both where they are made of the same
        self.norm_values = None if self.keys == self.values else nn.LayerNorm(sizes[1])
        self.q = nn.Linear(width, inner, bias=False)
        self.k = nn.Linear(sizes[0], inner, bias=False)
        self.v = nn.Linear(sizes[1], inner, bias=False)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(inner, width)

    def forward(
        self, x: Float[Tensor, "b p d"], rows: Float[Tensor, "b k r"]
    ) -> Float[Tensor, "b p d"]:
        keyed = self.norm_keys(rows[..., self.keys])
        valued = keyed if self.norm_values is None else self.norm_values(rows[..., self.values])
        q = self.q(self.norm(x))
        if self._folds(x.shape[1], rows.shape[1]):
            return x + self.out(self._folded(q, keyed, valued))
        return x + self.out(attend(q, self.k(keyed), self.v(valued), self.heads, self.drop))

    def _folds(self, tokens: int, rows: int) -> bool:
        """Whether fewer multiplications are needed with the rows left as they are."""
        inner, widths = self.q.out_features, self.k.in_features + self.v.in_features
        projected = rows * widths * inner + 2 * tokens * rows * inner
        return tokens * widths * inner + self.heads * tokens * rows * widths < projected

    def _folded(
        self, q: Float[Tensor, "b p i"], keyed: Float[Tensor, "b k r1"], valued: Tensor
    ) -> Float[Tensor, "b p i"]:
        """`attend` by q (K r)' = (q K) r' and w (r V) = (w r) V: few tokens, many rows."""
        K, V = (layer.weight.unflatten(0, (self.heads, -1)) for layer in (self.k, self.v))
        q = q.unflatten(2, (self.heads, -1)) * (q.shape[-1] // self.heads) ** -0.5
        scores = torch.einsum("bphe,her->bhpr", q, K).flatten(1, 2) @ keyed.mT
        weights = self.drop(scores.softmax(-1).unflatten(1, (self.heads, -1)))
        mixed = (weights.flatten(1, 2) @ valued).unflatten(1, (self.heads, -1))
        return torch.einsum("bhpr,her->bphe", mixed, V).flatten(2)


class SelfAttention(nn.Module):
    """x + attention from x to itself, normed once."""

    def __init__(self, width: int, *, heads: int, head_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        normed = self.norm(x)
        q, k, v = self.q(normed), self.k(normed), self.v(normed)
        return x + self.out(attend(q, k, v, self.heads, self.drop))


def attend(
    q: Float[Tensor, "b p i"],
    k: Float[Tensor, "b k i"],
    v: Float[Tensor, "b k i"],
    heads: int,
    drop: nn.Module,
) -> Float[Tensor, "b p i"]:
    """The rows' values in each token's weights; `drop` sees the weights, ``[b, heads, p, k]``."""
    q, k, v = (z.unflatten(2, (heads, -1)).transpose(1, 2) for z in (q, k, v))
    weights = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)
    return (drop(weights) @ v).transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """x + W2 (a * gelu(g)) with (a, g) = W1 norm(x), of `multiplier` times the width."""

    def __init__(self, width: int, multiplier: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 2 * multiplier * width)
        self.out = nn.Linear(multiplier * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        a, gate = self.inner(self.norm(x)).chunk(2, dim=-1)
        return x + self.drop(self.out(a * F.gelu(gate)))


# the settings of the published runs: what keys and what values are made from
PUBLISHED: dict[str, tuple[Part, Part]] = {
    "reps_for_k": ("features", "labels"),
    "reps_for_v": ("labels", "features"),
    "reps_for_both": ("both", "both"),
}
