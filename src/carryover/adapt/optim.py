"""Learning rates that fall with depth (LLRD), and Adam on half-precision weights.

Three rules for the exponent of the decay: two as published with CLIP on Food-101, and a corrected
one. Rates are keyed by the parameter names of `models.heads.Adapted`: ``image.NAME`` and
``head.NAME``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from carryover.errors import pick

IMAGE, HEAD = "image.", "head."
HEAD_NAMES = ("weight", "bias")
HALVED = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.MultiheadAttention)
Rule = Callable[[Sequence[str], Mapping[str, Sequence[str]], Sequence[str]], dict[str, int]]


def learning_rates(
    rule: str,
    names: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    *,
    lr: float,
    decay: float,
    head: Sequence[str] = HEAD_NAMES,
) -> dict[str, float]:
    """The rate ``lr * decay ** exponent`` of every trained tensor, head first.

    Args:
        rule: ``tensor``, ``block`` or ``group``, see `RULES`.
        names: parameters of the image network that train.
        groups: all its parameters by group, input to output.
        decay: 0 < decay <= 1; 1 gives every tensor the same rate.
        head: parameters of the head.
    Raises:
        ConfigError: an unknown rule.
    """
    exponents = pick(RULES, rule, "decay_rule")(names, groups, head)
    return {name: lr * decay**exponent for name, exponent in exponents.items()}


def per_tensor(
    names: Sequence[str], groups: Mapping[str, Sequence[str]], head: Sequence[str]
) -> dict[str, int]:
    """As published: one step of decay a tensor, weight and bias of one layer apart.

    Head, then the network's layers from its output to its input, within a layer as listed (weight,
    bias). Layer norms of a transformer come out in the published order: ``ln_post``, then of each
    block from the top ``ln_2``, ``ln_1``. The published list ends in a string that is no name,
    which uses up one more step after the last tensor and so moves no rate.
    """
    wanted = set(names)
    placed = [name for group in groups.values() for name in group if name in wanted]
    layers = [list(layer) for _, layer in groupby(placed, lambda name: name.rpartition(".")[0])]
    tensors = [IMAGE + name for layer in reversed(layers) for name in layer]
    return {name: j for j, name in enumerate([*(HEAD + name for name in head), *tensors])}


def per_block(
    names: Sequence[str], groups: Mapping[str, Sequence[str]], head: Sequence[str]
) -> dict[str, int]:
    """As published where attention trains too: head and output 0, block i of 12: 12 - i.

    What comes before the blocks never trains there; it takes the next step here.
    """
    return _by_group(names, groups, head, nearest=0 if "output" in groups else 1)


def per_group(
    names: Sequence[str], groups: Mapping[str, Sequence[str]], head: Sequence[str]
) -> dict[str, int]:
    """Corrected: the distance to the head in groups; the head's is 0, the last group's 1.

    Source: Howard and Ruder 2018, section 3.2 (discriminative fine-tuning); Clark et al. 2020,
    appendix B (layer-wise learning-rate decay).
    """
    return _by_group(names, groups, head, nearest=1)


def _by_group(
    names: Sequence[str], groups: Mapping[str, Sequence[str]], head: Sequence[str], nearest: int
) -> dict[str, int]:
    wanted = set(names)
    exponents = {HEAD + name: 0 for name in head}
    for distance, group in enumerate(reversed(list(groups)), start=nearest):
        exponents |= {IMAGE + name: distance for name in groups[group] if name in wanted}
    return exponents


def optimiser_groups(module: nn.Module, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """What an optimiser takes: the tensors that share a rate, with that rate as ``lr``.

    Args:
        module: an `Adapted`, frozen as it shall be (`freeze_`).
        rates: of every parameter that trains, by name.
    Raises:
        ValueError: a rate for a frozen parameter, or a parameter that trains without a rate.
    """
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    odd = sorted(parameters.keys() ^ rates.keys())
    if odd:
        raise ValueError(f"expected a rate for each parameter that trains, it differs in {odd[:3]}")
    by_rate: dict[float, list[nn.Parameter]] = {}
    for name, rate in rates.items():
        by_rate.setdefault(rate, []).append(parameters[name])
    return [{"params": tensors, "lr": rate} for rate, tensors in by_rate.items()]


def halve_(image: nn.Module, kinds: Mapping[str, str]) -> None:
    """Give a CLIP image network the dtypes that OpenAI's loader gives it on a GPU, in place.

    Weights and biases of convolutions, linear layers and attention and the output projection
    become float16. Norms and embeddings stay float32; layer norms compute in float32 and hand on
    float16. Use `half_projected` for the forward pass. PyTorch 2.13 has all of this on the CPU too,
    so nothing is emulated there (it is several times slower than float32).

    The fault this brings back: `torch.optim.Adam` steps in each tensor's own dtype (its fused
    kernels do not, and would hide it). Its epsilon of 1e-8 is 0 in float16, whose least number is
    6e-8, and the second moment ``0.001 g^2`` of a gradient below about 5e-3 rounds to 0 too. The
    first step is then 0/0 (nan) for a gradient of zero and infinite for a small one; layer norms
    train.
    """
    halved = {
        id(parameter)
        for module in image.modules()
        if isinstance(module, HALVED)
        for parameter in module.parameters(recurse=False)
    }
    for name, parameter in image.named_parameters():
        if id(parameter) in halved or kinds[name] == "projection":
            parameter.data = parameter.data.half()
    for module in image.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_pre_hook(_to_float32)
            module.register_forward_hook(_to_float16)


def _to_float32(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].float(),)


def _to_float16(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output.half()


def half_projected(image: nn.Module, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
    """Embeddings of a network changed by `halve_`: images go in as float16, float32 comes out."""
    return image(x.half()).float()


RULES: dict[str, Rule] = {"tensor": per_tensor, "block": per_block, "group": per_group}
