"""How each family of networks is built from input to output, recognised by its modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from carryover.errors import ConfigError


@dataclass(frozen=True)
class Tap:
    """Where a group's tokens pass: what goes into a module or comes out of it."""

    module: str
    side: Literal["input", "output"]


@dataclass(frozen=True)
class Depth:
    """A network from input to output.

    Args:
        groups: parameter names, each in one group.
        taps: where the tokens that a group gives can be read.
        end: the same for the last tokens; None: what timm's ``forward_features`` returns.
        norm: a norm that the network applies after pooling, for the last tokens; "" for none.
        prefix: tokens before those of the patches.
        cls: whether the first token is a class token that is pooled or could be.
        projects: whether the network returns more than its class token or pooled tokens.
        channels_last: whether feature maps are ``b h w c``.
    """

    groups: dict[str, list[str]]
    taps: dict[str, Tap]
    end: Tap | None
    norm: str = ""
    prefix: int = 0
    cls: bool = False
    projects: bool = False
    channels_last: bool = False


def depth_of(image: nn.Module) -> Depth:
    """How an image network is built.

    Raises:
        ConfigError: a network of none of the known families.
    """
    network: Any = image
    for known, read in FORMS:
        if known(network):
            return read(network)
    raise ConfigError(
        f"depth: expected a network of a known family, got {type(image).__name__}; "
        "add its form to models/depth.py"
    )


def chain(
    image: nn.Module, blocks: dict[str, str], first: str, last: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, Tap]]:
    """Groups and taps of a chain of blocks.

    Args:
        blocks: group names and the modules they are, in order.
        first: name of the group of all that is neither in a block nor in `last`.
        last: modules and parameters behind the blocks: the group ``output``.
    """
    groups: dict[str, list[str]] = {first: [], **{name: [] for name in blocks}, "output": []}
    owners = {module: name for name, module in blocks.items()}
    owners |= dict.fromkeys(last, "output")
    for name, _ in image.named_parameters():
        parts = name.split(".")
        paths = (".".join(parts[:i]) for i in range(1, len(parts) + 1))
        groups[next((owners[p] for p in paths if p in owners), first)].append(name)
    taps = {first: Tap(next(iter(blocks.values())), "input")}
    taps |= {name: Tap(module, "output") for name, module in blocks.items()}
    return {name: found for name, found in groups.items() if found}, taps


def _open_clip_vit(image: Any) -> Depth:
    names = {
        f"block{i}": f"transformer.resblocks.{i}" for i in range(len(image.transformer.resblocks))
    }
    last = ("ln_post", "proj", "attn_pool", "attn_pool_contrastive")
    groups, taps = chain(image, names, "embed", last)
    after_pooling = image.final_ln_after_pool and image.attn_pool is None
    normed = image.attn_pool is None and not after_pooling
    return Depth(
        groups,
        taps,
        Tap("ln_post", "output") if normed else Tap("transformer", "output"),
        norm="ln_post" if after_pooling else "",
        prefix=1,
        cls=image.attn_pool is None,
        projects=True,
    )


def _flava(image: Any) -> Depth:
    names = {f"block{i}": f"encoder.layer.{i}" for i in range(len(image.encoder.layer))}
    groups, taps = chain(image, names, "embed", ("layernorm", "projection"))
    end = Tap("layernorm", "output")
    return Depth(groups, taps, end, prefix=1, cls=True, projects=image.projection is not None)


def resnet(image: Any) -> Depth:
    """Any with stages ``layer1``, ``layer2``...: torchvision's, open_clip's, timm's, CIFAR's."""
    stages = [name for name, _ in image.named_children() if name.startswith("layer")]
    names = {
        f"{stage}-{block}": f"{stage}.{block}"
        for stage in stages
        for block, _ in image.get_submodule(stage).named_children()
    }
    groups, taps = chain(image, names, "stem", ("attnpool", "fc", "linear"))
    return Depth(groups, taps, taps[list(names)[-1]], projects=hasattr(image, "attnpool"))


def _alexnet(image: Any) -> Depth:
    layers = [
        (f"{part}.{name}", module)
        for part in ("features", "classifier")
        for name, module in image.get_submodule(part).named_children()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    kinds = ["conv" if isinstance(module, nn.Conv2d) else "linear" for _, module in layers]
    names = [f"{kind}{kinds[:i].count(kind)}" for i, kind in enumerate(kinds)]
    groups = {
        name: [f"{path}.{parameter}" for parameter, _ in module.named_parameters()]
        for name, (path, module) in zip(names, layers, strict=True)
    }
    # what goes into the next layer is this one's output after activation and pooling
    following = [Tap(path, "input") for path, _ in layers[1:]]
    taps = dict(zip(names, [*following, Tap("classifier", "output")], strict=True))
    end = Tap("features", "output")
    taps[names[kinds.count("conv") - 1]] = end
    return Depth(groups, taps, end, projects=True)


def _perceiver(image: Any) -> Depth:
    """Latents through layers; what it returns is the norm of their mean."""
    names = {f"block{i}": f"layers.{i}" for i in range(len(image.layers))}
    groups, taps = chain(image, names, "embed", ("norm", "linear"))
    return Depth(groups, taps, taps[list(names)[-1]], projects=True)


def _cnn(image: nn.Sequential) -> Depth:
    from carryover.models.cnn import layer_groups

    groups, taps = {}, {}
    for name, modules in layer_groups(image).items():
        owned = [
            f"{module}.{parameter}"
            for module in modules
            for parameter, _ in image.get_submodule(module).named_parameters()
        ]
        if name != "head":
            groups[name] = owned
            taps[name] = Tap(modules[-1], "output")
        elif owned:
            groups["output"] = owned
    if "output" in groups:  # modules before the first convolution made it the first of all
        groups["output"] = groups.pop("output")
    return Depth(groups, taps, Tap("flatten", "input"), projects=True)


def _tower(image: Any) -> Depth:
    """open_clip's image network made of a timm network and a projection."""
    trunk = depth_of(image.trunk)
    groups = {name: [f"trunk.{p}" for p in found] for name, found in trunk.groups.items()}
    added = [name for name, _ in image.named_parameters() if not name.startswith("trunk.")]
    if added:
        groups["output"] = [*groups.pop("output", []), *added]
    taps = {name: Tap(f"trunk.{tap.module}", tap.side) for name, tap in trunk.taps.items()}
    return Depth(
        groups,
        taps,
        None,
        prefix=trunk.prefix,
        cls=trunk.cls,
        projects=True,
        channels_last=trunk.channels_last,
    )


def _timm(image: Any) -> Depth:
    from carryover.models.timm_depth import depth

    return depth(image)


FORMS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Depth]], ...] = (
    (lambda n: isinstance(n, nn.Sequential), _cnn),
    (lambda n: hasattr(getattr(n, "transformer", None), "resblocks"), _open_clip_vit),
    (lambda n: hasattr(n, "trunk"), _tower),
    (lambda n: hasattr(n, "forward_features"), _timm),
    (lambda n: hasattr(getattr(n, "encoder", None), "layer"), _flava),
    (lambda n: hasattr(n, "layer1"), resnet),
    (lambda n: hasattr(n, "latents") and hasattr(n, "layers"), _perceiver),
    (lambda n: hasattr(n, "features") and hasattr(n, "classifier"), _alexnet),
)
