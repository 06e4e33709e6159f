"""Which parameters of an image network train: chosen by depth and by kind, all others frozen.

Groups and kinds are those of ``models/layers.py``: ordered groups of parameter names, input to
output, and the kind of every parameter. A network may begin with ``embed`` or ``stem`` and end with
``output``; every other group is a block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from carryover.errors import ConfigError, listed, pick
from carryover.models.heads import hold_statistics_

KINDS = ("norm", "attention", "mlp", "embedding", "projection", "convolution", "head")
ENDS = ("embed", "stem", "output")


@dataclass(frozen=True)
class Mode:
    """What of an image network trains beside the head.

    Attributes:
        kinds: of the parameters that train.
        everywhere: at any depth, whatever the caller says.
    """

    kinds: tuple[str, ...]
    everywhere: bool = False


def chosen(
    mode: str,
    groups: Mapping[str, Sequence[str]],
    kinds: Mapping[str, str],
    *,
    blocks_from: int | None = None,
    path: str = "mode",
    blocks_path: str = "blocks_from",
) -> list[str]:
    """Names of the parameters that a mode of the study trains, input to output.

    Args:
        mode: a name in `MODES`, or ``last-N``: every parameter of the last N blocks and the output.
        blocks_from: depth of ``norm``, ``attention`` and ``mlp``: this block (from 0), those behind
            it and the output; None for the whole network. Published: 7 of 0..11.
        path, blocks_path: the parameters that name mode and block, for messages.
    Raises:
        ConfigError: an unknown mode, no such block, or no parameter of these kinds.
    """
    last = re.fullmatch(r"last-([1-9]\d*)", mode)
    if last:
        return trainable(groups, kinds, since=since_block(groups, -int(last[1]), path))
    if mode not in MODES:
        raise ConfigError(f"{path}: expected one of {listed([*MODES, 'last-N'])}, got {mode!r}")
    row = MODES[mode]
    limited = blocks_from is not None and not row.everywhere
    since = since_block(groups, blocks_from or 0, blocks_path) if limited else None
    names = trainable(groups, kinds, since=since, of=row.kinds)
    if row.kinds and not names:
        reached = trainable(groups, kinds, since=since)
        there = listed(dict.fromkeys(kinds[name] for name in reached))
        raise ConfigError(
            f"{path}: expected an encoder with {listed(row.kinds)} parameters at this depth for "
            f"{mode!r}, got one with {there}; choose another mode or more blocks"
        )
    return names


def since_block(groups: Mapping[str, Sequence[str]], block: int, path: str = "block") -> str:
    """Name of the group of a block, counted from 0, or from the end if negative.

    The number of blocks stands for the output, so that no block is in the range from there on.

    Raises:
        ConfigError: there is no such block.
    """
    inner = [name for name in groups if name not in ENDS]
    if not -len(inner) <= block < len(inner) + ("output" in groups):
        raise ConfigError(
            f"{path}: expected one of the {len(inner)} blocks that the encoder has, got "
            f"{f'block {block}' if block >= 0 else f'the last {-block}'}; stay inside it"
        )
    return "output" if block == len(inner) else inner[block]


def trainable(
    groups: Mapping[str, Sequence[str]],
    kinds: Mapping[str, str],
    *,
    since: str | None = None,
    until: str | None = None,
    of: Sequence[str] | Literal["all"] = "all",
) -> list[str]:
    """Names of parameters by depth and kind, input to output.

    Args:
        groups: of every parameter, input to output.
        kinds: of every parameter.
        since, until: first and last group of the range, both inside it; None: no limit.
        of: kinds to take.
    Raises:
        ConfigError: the encoder has no such group.
    """
    names = list(groups)
    places = {name: i for i, name in enumerate(names)}
    first = 0 if since is None else pick(places, since, "since")
    last = len(names) - 1 if until is None else pick(places, until, "until")
    return [
        name
        for group in names[first : last + 1]
        for name in groups[group]
        if of == "all" or kinds[name] in of
    ]


def freeze_(module: nn.Module, names: Sequence[str]) -> None:
    """Let exactly these parameters of a module train.

    Batch norms without a parameter that trains go to evaluation mode: their running statistics
    stay as they are. ``module.train()`` undoes that (that of `models.heads.Adapted` does not).

    Raises:
        KeyError: the module has no parameter of a name; none is changed then.
    """
    parameters = dict(module.named_parameters())
    kept = {id(parameters[name]) for name in names}
    for parameter in parameters.values():
        parameter.requires_grad_(id(parameter) in kept)
    hold_statistics_(module)


MODES: dict[str, Mode] = {
    "none": Mode(()),
    "norm": Mode(("norm",)),
    "attention": Mode(("attention",)),
    "mlp": Mode(("mlp",)),
    "embedding": Mode(("embedding",), everywhere=True),
    "all": Mode(KINDS, everywhere=True),
}
