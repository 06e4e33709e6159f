"""Features of any layer group of an image network, all from one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from carryover.errors import ConfigError, listed
from carryover.models.depth import Depth, Tap

Kind = Literal["cls", "pooled", "tokens", "projected"]

END = ("", "output")  # names of the network's end


@dataclass(frozen=True)
class Feature:
    """What is asked of an encoder.

    Args:
        kind: ``cls``, the class token after the last norm and before any projection; ``pooled``,
            the mean over patches or pixels; ``tokens``, all of them, the class token first;
            ``projected``, what the image network itself returns, not of unit length.
        layer: a layer group, whose output tokens are meant; "" or ``output`` for the end.
    """

    kind: Kind
    layer: str = ""


def kinds(depth: Depth) -> tuple[Kind, ...]:
    """The kinds that a network has at its end."""
    first: tuple[Kind, ...] = ("cls",) if depth.cls else ()
    last: tuple[Kind, ...] = ("projected",) if depth.projects else ()
    return (*first, "pooled", "tokens", *last)


def check(name: str, depth: Depth, wanted: Sequence[Feature]) -> None:
    """Refuse what an encoder does not have.

    Raises:
        ConfigError: a kind or a layer; the message lists those there are.
    """
    for feature in wanted:
        layers = [*depth.taps, *(g for g in depth.groups if g == "output")]
        if feature.layer and feature.layer not in layers:
            raise ConfigError(
                f"{name}: expected a layer among {listed(layers)}, got {feature.layer!r}"
            )
        has = kinds(depth)
        if feature.layer not in END:
            has = tuple(kind for kind in has if kind != "projected")
        if feature.kind not in has:
            where = f" at {feature.layer}" if feature.layer else ""
            raise ConfigError(
                f"{name}: expected a feature among {listed(has)}{where}, got {feature.kind!r}"
            )


def read(
    image: nn.Module, depth: Depth, x: Float[Tensor, "b c h w"], wanted: Sequence[Feature]
) -> dict[Feature, Tensor]:
    """The features of preprocessed images; `check` has passed them."""
    found: dict[Feature, Tensor] = {}
    network: Any = image

    def keep(output: Any, features: Sequence[Feature]) -> None:
        tokens = _tokens(output, depth)
        for feature in features:
            at_end = feature.layer in END
            normed = network.get_submodule(depth.norm)(tokens) if at_end and depth.norm else tokens
            found[feature] = _reduced(normed, feature.kind, depth.prefix)

    taps: dict[Tap, list[Feature]] = {}
    last: list[Feature] = []  # where only timm's own methods give the end
    for feature in wanted:
        tap = depth.end if feature.layer in END else depth.taps[feature.layer]
        if feature.kind != "projected":
            (last if tap is None else taps.setdefault(tap, [])).append(feature)
    with _hooks(network, taps, keep):
        if last:
            trunk = getattr(network, "trunk", network)
            tokens = trunk.forward_features(x)
            keep(tokens, last)
            output = trunk.forward_head(tokens)
            output = output if trunk is network else network.head(output)
        else:
            output = network(x)
    return {f: output if f.kind == "projected" else found[f] for f in wanted}


@contextmanager
def _hooks(image: nn.Module, taps: dict[Tap, list[Feature]], keep: Any) -> Iterator[None]:
    """Hand what passes each tap to `keep`, for one forward pass."""
    handles = []
    for tap, features in taps.items():
        module = image.get_submodule(tap.module)
        if tap.side == "input":
            handles.append(
                module.register_forward_pre_hook(lambda _m, given, f=features: keep(given[0], f))
            )
        else:
            handles.append(
                module.register_forward_hook(lambda _m, _given, out, f=features: keep(out, f))
            )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tokens(output: Any, depth: Depth) -> Float[Tensor, "b p d"]:
    """A module's input or output as tokens; feature maps row by row."""
    x = output[0] if isinstance(output, tuple | list) and len(output) == 1 else output
    if not isinstance(x, Tensor) or x.ndim not in (2, 3, 4):
        raise ConfigError(
            "layer: expected one whose output is one tensor of tokens or a feature map, got "
            f"{type(x).__name__}; take another layer"
        )
    if x.ndim == 4:  # cloned, because a ReLU that follows may write into it
        x = x if depth.channels_last else x.permute(0, 2, 3, 1)
        return x.flatten(1, 2).clone()
    return x[:, None] if x.ndim == 2 else x


def _reduced(tokens: Float[Tensor, "b p d"], kind: Kind, prefix: int) -> Tensor:
    if kind == "cls":
        return tokens[:, 0].clone()  # a view would keep every token in memory
    return tokens[:, prefix:].mean(1) if kind == "pooled" else tokens
