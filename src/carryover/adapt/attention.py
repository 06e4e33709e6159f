"""Attention with its four projections apart, so that each can take an adapter of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carryover.errors import ConfigError

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


class SplitAttention(nn.Module):
    """What an ``nn.MultiheadAttention`` computes, by four linear layers.

    Args:
        q_proj, k_proj, v_proj, out_proj: ``d`` to ``d`` each.
        heads: parts of ``d`` that attend by themselves.
        dropout: of the attention weights, in training mode.
    """

    def __init__(
        self,
        q_proj: nn.Linear,
        k_proj: nn.Linear,
        v_proj: nn.Linear,
        out_proj: nn.Linear,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = q_proj, k_proj, v_proj
        self.out_proj = out_proj
        self.heads = heads
        self.dropout = dropout

    def forward(
        self,
        query: Float[Tensor, "b q d"],
        key: Float[Tensor, "b p d"],
        value: Float[Tensor, "b p d"],
        need_weights: bool = False,
        attn_mask: Float[Tensor, "... q p"] | None = None,
    ) -> tuple[Float[Tensor, "b q d"], None]:
        """The tokens that attended; the second value stands for the weights, which are not kept.

        Args:
            attn_mask: added to the scores, ``[q, p]`` or one a batch row and head.
        """
        assert not need_weights
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.unflatten(0, (len(query), self.heads))
        mixed = nn.functional.scaled_dot_product_attention(
            self._by_head(self.q_proj(query)),
            self._by_head(self.k_proj(key)),
            self._by_head(self.v_proj(value)),
            attn_mask,
            dropout_p=self.dropout if self.training else 0.0,
        )  # [b, heads, q, d / heads]
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None

    def _by_head(self, x: Float[Tensor, "b p d"]) -> Float[Tensor, "b heads p e"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def split_attention_(model: nn.Module, names: Sequence[str]) -> None:
    """Replace attentions by `SplitAttention` of the same weights, in place.

    Raises:
        ConfigError: one has inputs of another width, tokens of its own or another order of
            dimensions; none is replaced then.
    """
    found = {name: model.get_submodule(name) for name in names}
    for name, attention in found.items():
        assert isinstance(attention, nn.MultiheadAttention)
        _refuse_special(name, attention)
    for name, attention in found.items():
        assert isinstance(attention, nn.MultiheadAttention)
        model.set_submodule(name, _split(attention))


def join_attention_(model: nn.Module) -> None:
    """Put every `SplitAttention` back together as the ``nn.MultiheadAttention`` it was."""
    for name, module in list(model.named_modules()):
        if isinstance(module, SplitAttention):
            model.set_submodule(name, _joined(module))


def _refuse_special(name: str, attention: nn.MultiheadAttention) -> None:
    plain = attention.in_proj_weight is not None and attention.batch_first
    if not plain or attention.bias_k is not None or attention.add_zero_attn:
        raise ConfigError(
            f"{name}: expected an attention over batches first, with inputs of one width and no "
            "tokens of its own, got another kind; leave it out of the targets"
        )


def _split(attention: nn.MultiheadAttention) -> SplitAttention:
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    biases = bias.chunk(3) if bias is not None else (None, None, None)
    q, k, v = (_linear(w, b) for w, b in zip(weight.chunk(3), biases, strict=True))
    split = SplitAttention(q, k, v, attention.out_proj, attention.num_heads, attention.dropout)
    return split.train(attention.training)


def _linear(weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = _parameter(weight)
    if bias is not None:
        layer.bias = _parameter(bias)
    return layer


def _joined(split: SplitAttention) -> nn.MultiheadAttention:
    parts = (split.q_proj, split.k_proj, split.v_proj)
    width, bias = split.out_proj.in_features, split.q_proj.bias is not None
    attention = nn.MultiheadAttention(  # on meta: draws no random numbers for what is replaced
        width, split.heads, split.dropout, bias, batch_first=True, device="meta"
    )
    attention.in_proj_weight = _parameter(torch.cat([part.weight for part in parts]))
    if bias:
        attention.in_proj_bias = _parameter(torch.cat([part.bias for part in parts]))
    attention.set_submodule("out_proj", split.out_proj)  # the one it was before
    return attention.train(split.training)


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone(), requires_grad=tensor.requires_grad)
