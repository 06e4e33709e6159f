"""Train modes of CLIP: which of image network, text network and head train.

Parts are told apart by the modules that own the parameters. Their names do not do: both networks
of open_clip's CLIP have a ``transformer.resblocks``, the image's inside ``visual``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from carryover.errors import ConfigError, listed, pick

Part = Literal["image", "text", "head", "scale"]


@dataclass(frozen=True)
class Mode:
    """What trains, and what the network must have beside that."""

    trains: tuple[Part, ...]
    needs: tuple[Part, ...] = ()


def parts(network: nn.Module) -> dict[Part, list[str]]:
    """Names of a network's parameters by part, each in one.

    Args:
        network: a CLIP of open_clip (``visual``; what is neither in there nor the logit scale is
            its text network), or a `models.heads.Adapted` (``image`` and ``head``).
    """
    image, head = getattr(network, "visual", None), getattr(network, "head", None)
    inside: dict[Part, set[int]] = {
        "image": _ids(image if image is not None else getattr(network, "image", None)),
        "head": _ids(head),
        "scale": {id(getattr(network, name, None)) for name in ("logit_scale", "logit_bias")},
    }
    found: dict[Part, list[str]] = {"image": [], "text": [], "head": [], "scale": []}
    for name, parameter in network.named_parameters():
        owners: list[Part] = [part for part, ids in inside.items() if id(parameter) in ids]
        found[owners[0] if owners else "text"].append(name)
    return found


def ends(network: nn.Module) -> list[str]:
    """Names of what a CLIP of open_clip begins and ends with, of those it has.

    Positions of both networks, class token, patch convolution and the norm before the blocks; both
    projections and the logit scale. Token embeddings and last norms are not among them.
    """
    visual = getattr(network, "visual", None)
    inside = ("class_embedding", "positional_embedding", "conv1", "ln_pre", "proj")
    owned = [getattr(visual, name, None) for name in inside]
    owned += [
        getattr(network, name, None)
        for name in ("positional_embedding", "text_projection", "logit_scale")
    ]
    held = {id(each) for each in owned}.union(*map(_ids, owned))
    return [name for name, parameter in network.named_parameters() if id(parameter) in held]


def _ids(module: object) -> set[int]:
    return {id(p) for p in module.parameters()} if isinstance(module, nn.Module) else set()


def trained(network: nn.Module, mode: str, path: str = "train_mode") -> list[str]:
    """Names of the parameters that a mode of `MODES` trains; the logit scale is never among them.

    Give them to `freeze.freeze_` before the optimiser is made.

    Raises:
        ConfigError: an unknown mode, or a network without a part that the mode needs.
    """
    row = pick(MODES, mode, path)
    there = parts(network)
    missing = [part for part in (*row.trains, *row.needs) if not there[part]]
    if missing:
        raise ConfigError(
            f"{path}: expected a network with {listed(missing)} for {mode!r}, got one with "
            f"{listed(part for part, names in there.items() if names)}; choose another mode"
        )
    return [name for part in row.trains for name in there[part]]


MODES: dict[str, Mode] = {
    "whole": Mode(("image", "text")),
    "image": Mode(("image",), needs=("text",)),
    "text": Mode(("text",), needs=("image",)),
    "image-fc": Mode(("image", "head")),
    "image-fc-fixed": Mode(("image",), needs=("head",)),
    "fc": Mode(("head",), needs=("image",)),
}
