"""Cutting a pretrained network: which layers are kept, frozen, reset or removed."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from carryover.models.cnn import features_of, layer_groups, reset_


@dataclass(frozen=True)
class CutRule:
    """What happens to the groups before the cut (freeze) and from it on (reset, remove)."""

    freeze: bool
    reset: bool
    truncate: bool


def frozen_part(pretrained: nn.Sequential, kept: int, since: int = 0) -> nn.Sequential:
    """The groups from `since` up to `kept`, copied, without gradients.

    What they make of an image never changes during training.
    """
    groups = list(layer_groups(pretrained).values())[since:kept]
    names = [name for group in groups for name in group]
    part = OrderedDict((name, copy.deepcopy(pretrained.get_submodule(name))) for name in names)
    return nn.Sequential(part).requires_grad_(False)


def kept_names(pretrained: nn.Sequential, cut: int, rule: CutRule) -> list[str]:
    """Names of the modules that train from pretrained weights; the other trained ones are new."""
    groups = list(layer_groups(pretrained).values())
    kept = groups[:cut] if not rule.freeze else []
    if not rule.reset and not rule.truncate:
        kept = kept + groups[cut:-1]
    return [name for group in kept for name in group]


def cut_network(
    pretrained: nn.Sequential,
    cut: int,
    rule: CutRule,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    generator: torch.Generator,
    renew_hidden: bool = True,
) -> nn.Sequential:
    """The part of a cut network that is trained on the target task.

    Groups before `cut` keep their weights. Those from `cut` on are reset, kept, or removed up to
    the head (with removal, resetting has nothing to act on). The head is always new. New weights
    are drawn from input to output. `pretrained` is copied, not changed.

    Args:
        renew_hidden: of a head with a hidden layer, renew that too (the original's
            ``reinit_both_dense``); without, it keeps its weights where its width still fits.
    Returns:
        All groups, or, where the rule freezes, those from `cut` on: their input is then the output
        of ``frozen_part(pretrained, cut)``.
    Source: settings FR, F, R, ``--`` and FT of ``tusharmanekar/mp-tl-study`` at 8c95619.
    """
    network = copy.deepcopy(pretrained)
    groups = list(layer_groups(network).values())
    before = [name for group in groups[:cut] for name in group]
    after = [name for group in groups[cut:-1] for name in group]
    if rule.truncate:
        for name in after:
            delattr(network, name)
    elif rule.reset:
        for name in after:
            reset_(network.get_submodule(name), generator)
    _renew_head_(network, groups[-1], image_shape, classes, generator, renew_hidden)
    if rule.freeze:
        for name in before:
            delattr(network, name)
    return network


def _renew_head_(
    network: nn.Sequential,
    head: list[str],
    image_shape: tuple[int, int, int],
    classes: int,
    generator: torch.Generator,
    renew_hidden: bool,
) -> None:
    """Replace the head's linear layers by new ones that fit the features and the classes."""
    linear = [name for name in head if isinstance(network.get_submodule(name), nn.Linear)]
    body = nn.Sequential(*(m for name, m in network.named_children() if name not in linear))
    width = features_of(body, image_shape)
    for name in linear:
        last = name == linear[-1]
        old = network.get_submodule(name)
        assert isinstance(old, nn.Linear)
        if not (last or renew_hidden) and old.in_features == width:
            width = old.out_features
            continue
        new = nn.Linear(width, classes if last else old.out_features)
        reset_(new, generator)
        setattr(network, name, new)
        width = new.out_features


RULES: dict[str, CutRule] = {
    "fr": CutRule(freeze=True, reset=True, truncate=False),
    "f": CutRule(freeze=True, reset=False, truncate=False),
    "r": CutRule(freeze=False, reset=True, truncate=False),
    "none": CutRule(freeze=False, reset=False, truncate=False),
    "ft": CutRule(freeze=True, reset=False, truncate=True),
    "baseline": CutRule(freeze=False, reset=True, truncate=False),
}
