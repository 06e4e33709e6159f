"""Depth, said once: every network's ordered layer groups, from input to output."""

from __future__ import annotations

from typing import Literal

from torch import nn

from carryover.models.depth import depth_of

Kind = Literal["norm", "attention", "mlp", "embedding", "projection", "convolution", "head"]


def parameter_groups(image: nn.Module) -> dict[str, list[str]]:
    """Names of an encoder's parameters, grouped by depth: each in exactly one group.

    Returns:
        Vision transformers: ``{"embed": [...], "block0": [...], ..., "output": [...]}``; ResNets:
        ``stem``, ``layer1-0`` and so on; other convolutional networks a group a layer.
    Raises:
        ConfigError: a network of none of the known families.
    """
    return depth_of(image).groups


def parameter_kinds(image: nn.Module) -> dict[str, Kind]:
    """What each parameter is for, by name.

    ``norm`` is any normalisation; ``attention`` and ``mlp`` are a block's halves with their layer
    scales; ``embedding`` makes tokens (patches, class token, positions); ``projection`` ends in
    the space of the text; ``head`` gives logits of classes.
    """
    modules = dict(image.named_modules())
    return {name: _kind(name, modules) for name, _ in image.named_parameters()}


def _kind(name: str, modules: dict[str, nn.Module]) -> Kind:
    parts = name.split(".")
    owner = modules[".".join(parts[:-1])]
    path = [part.lower() for part in parts]
    if "norm" in type(owner).__name__.lower():
        return "norm"
    if path[-1] in TOKENS or any(part.startswith("patch_embed") for part in path):
        return "embedding"
    if path[-1] == "proj" or path[0] == "projection" or path[-3:-1] in PROJECTIONS:
        return "projection"
    if parts[0] in HEADS:
        return "head"
    if any(part.startswith("attn") or part == "attention" for part in path):
        return "attention"
    if path[-2:] in LAYER_SCALES or path[-1] == "gamma_1":
        return "attention"
    if isinstance(owner, nn.Conv2d):
        first = path[0] == "conv1" and "class_embedding" in modules[""]._parameters
        return "embedding" if first else "convolution"
    return "mlp"


HEADS = ("head", "fc", "linear")  # a layer of logits of a whole classifier, by its name
TOKENS = (
    *("class_embedding", "positional_embedding", "position_embeddings"),
    *("cls_token", "dist_token", "reg_token", "mask_token", "pos_embed"),
)
PROJECTIONS = (["head", "proj"], ["attnpool", "c_proj"])
LAYER_SCALES = (["ls_1", "gamma"], ["ls1", "gamma"])  # of the attention half
