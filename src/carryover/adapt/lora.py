"""Low-rank adapters (LoRA): each layer's own, as peft has them, or one pair for many layers.

A layer computes ``(W + (alpha / rank) B A) x`` with ``A [r, in]`` and ``B [out, r]``; W is frozen,
B zero at the start. Attention of torch is taken apart first (`attention.SplitAttention`), so that
query, key, value and output have an adapter each.

Source: Hu et al. 2022, section 4.1. Sharing: layers with the same key hold the very same A and B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from carryover.adapt.attention import PROJECTIONS, join_attention_, split_attention_
from carryover.errors import ConfigError, listed, pick

ADAPTER = "default"  # peft's name of the only adapter

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Layer:
    """A linear layer that takes an adapter.

    Args:
        name: in the model, attention taken apart.
        attention: name of the attention it is a projection of, with its heads; "" and 0 otherwise.
    """

    name: str
    attention: str
    heads: int
    inputs: int
    outputs: int


@dataclass(frozen=True, eq=False)
class Adapters:
    """What `lora_` put into a model.

    Args:
        keys: the key of each layer's pair; layers with one key share it.
        parameters: everything that trains, by name, each tensor once.
    """

    keys: dict[str, Key]
    parameters: dict[str, nn.Parameter]

    @property
    def count(self) -> int:
        """Numbers that train."""
        return sum(parameter.numel() for parameter in self.parameters.values())


def lora_(
    model: nn.Module,
    *,
    rank: int,
    alpha: int,
    targets: Sequence[str],
    sharing: str,
    generator: torch.Generator,
    dropout: float = 0.0,
) -> Adapters:
    """Freeze a model and put adapters into it, in place; its outputs stay as they are.

    Args:
        targets: ends of names of linear layers (``mlp.c_fc``), and of attentions for their four
            projections (``attn``) or one of them (``attn.out_proj``).
        sharing: ``none``, ``shared`` or ``split``, see `SHARING`.
        generator: draws A, one after another from input to output.
        dropout: of what goes into A, where `Dropout` is in training mode; its draws follow from
            `generator`.
    Raises:
        ConfigError: an unknown sharing, a target that names nothing, a rank below 1, or a model
            that has adapters; the model is as it was.
    """
    from peft import LoraConfig, inject_adapter_in_model

    key_of = pick(SHARING, sharing, "lora.sharing")
    if rank < 1:
        raise ConfigError(f"lora.rank: expected at least 1, got {rank}; take 8, as published")
    if _adapted(model):
        raise ConfigError("lora: expected a model without adapters, got one with; merge them first")
    layers = chosen(model, targets)
    split_attention_(model, list(dict.fromkeys(x.attention for x in layers if x.attention)))
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        bias="none",
        target_modules="|".join(layer.name.replace(".", r"\.") for layer in layers),
    )
    with torch.random.fork_rng(devices=[]):  # peft draws too, which is overwritten below
        inject_adapter_in_model(config, model, ADAPTER)
    del model.peft_config
    keys = {layer.name: key_of(layer) for layer in layers}
    _pair_(model, keys, generator)
    if dropout:
        _drop_(model, dropout, generator)
    return Adapters(keys, {n: p for n, p in model.named_parameters() if p.requires_grad})


class Dropout(nn.Module):
    """Sets entries to zero at random in training mode, and makes up for it in the others.

    Args:
        share: of the entries, below 1.
        generator: on the device of what it is given; all layers of a model draw from one.
    """

    def __init__(self, share: float, generator: torch.Generator) -> None:
        super().__init__()
        self.share, self.generator = share, generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        drawn = torch.rand(x.shape, generator=self.generator, device=x.device)
        return x * (drawn >= self.share).to(x.dtype) / (1 - self.share)

    def __deepcopy__(self, memo: dict[int, Any]) -> Dropout:
        """A copy that draws what this one would have drawn, and leaves this one's draws alone."""
        copied = torch.Generator(self.generator.device)
        copied.set_state(self.generator.get_state())
        made = Dropout(self.share, memo.setdefault(id(self.generator), copied))
        return made.train(self.training)


def dropouts(model: nn.Module) -> list[Dropout]:
    """A model's, of its adapters."""
    return [module for module in model.modules() if isinstance(module, Dropout)]


def merge_(model: nn.Module) -> None:
    """Add each adapter's product to its layer's weight and take the adapters out, in place.

    The model has its first structure and names again; all its parameters are frozen, those of
    attention are new objects.

    Raises:
        ConfigError: the model has no adapters.
    """
    adapted = _adapted(model)
    if not adapted:
        raise ConfigError("lora: expected a model with adapters, got one without; add them first")
    for name, layer in adapted.items():
        layer.merge()
        model.set_submodule(name, layer.get_base_layer())
    join_attention_(model)


def chosen(model: nn.Module, targets: Sequence[str]) -> list[Layer]:
    """The linear layers that targets name, input to output.

    Raises:
        ConfigError: a target that names none; a parameter's name (``….weight``) is one.
    """
    layers = _linear_layers(model)
    hits = {
        target: {x.name for x in layers if _ends(x.name, target) or _ends(x.attention, target)}
        for target in targets
    }
    missed = [target for target, names in hits.items() if not names]
    if missed or not hits:
        known = {".".join((x.attention or x.name).split(".")[-2:]) for x in layers}
        raise ConfigError(
            "lora.targets: expected ends of names of linear layers or attentions, such as "
            f"{listed(sorted(known)[:6])}, got {listed(missed)}; `carryover layers ENCODER` lists "
            "them"
        )
    wanted = set().union(*hits.values())
    return [layer for layer in layers if layer.name in wanted]


def _linear_layers(model: nn.Module) -> list[Layer]:
    """Every linear layer as it is called once attention is taken apart."""
    found, attention = [], ""
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            attention, width = name, module.embed_dim
            found += [
                Layer(f"{name}.{part}", name, module.num_heads, width, width)
                for part in PROJECTIONS
            ]
        elif isinstance(module, nn.Linear) and not (attention and name.startswith(f"{attention}.")):
            found.append(Layer(name, "", 0, module.in_features, module.out_features))
    return found


def _ends(name: str, target: str) -> bool:
    return bool(name) and (name == target or name.endswith(f".{target}"))


def _adapted(model: nn.Module) -> dict[str, Any]:
    """peft's layers by name, input to output."""
    from peft.tuners.lora import Linear

    return {name: module for name, module in model.named_modules() if isinstance(module, Linear)}


def _pair_(model: nn.Module, keys: Mapping[str, Key], generator: torch.Generator) -> None:
    """Give each layer the pair of its key: the first layer's, with A drawn anew."""
    owners: dict[Key, Any] = {}
    for name, layer in _adapted(model).items():
        owner = owners.setdefault(keys[name], layer)
        if owner is layer:
            weight = layer.lora_A[ADAPTER].weight
            edge = 1 / math.sqrt(weight.shape[1])  # peft's: Kaiming uniform, a = sqrt(5)
            drawn = torch.empty(weight.shape).uniform_(-edge, edge, generator=generator)
            weight.data.copy_(drawn)
        layer.lora_A[ADAPTER] = owner.lora_A[ADAPTER]
        layer.lora_B[ADAPTER] = owner.lora_B[ADAPTER]
        layer.train(layer.get_base_layer().training)


def _drop_(model: nn.Module, share: float, generator: torch.Generator) -> None:
    """Put one in front of each A."""
    seed = int(torch.randint(2**62, (), generator=generator))
    adapted = _adapted(model).values()
    masks = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    for layer in adapted:
        layer.lora_dropout[ADAPTER] = Dropout(share, masks).train(layer.training)


def _own(layer: Layer) -> Key:
    """Plain LoRA: a pair for each layer."""
    return (layer.name,)


def _by_shape(layer: Layer) -> Key:
    """One pair for all projections of all attentions of a width, one for each shape elsewhere."""
    if layer.attention:
        return ("attn", layer.inputs, layer.heads)
    return (_kind(layer.name), layer.inputs, layer.outputs)


def _by_projection(layer: Layer) -> Key:
    """As `_by_shape`, with query, key, value and output apart."""
    if layer.attention:
        return (*_by_shape(layer), layer.name.rpartition(".")[2])
    return _by_shape(layer)


def _kind(name: str) -> str:
    return next((kind for kind in ("attn", "mlp") if kind in name), "other")


SHARING: dict[str, Callable[[Layer], Key]] = {
    "none": _own,
    "shared": _by_shape,
    "split": _by_projection,
}
