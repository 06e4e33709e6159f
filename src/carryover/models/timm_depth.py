"""How timm's networks are built: vision transformers, ResNets, others by timm's groups."""

from __future__ import annotations

from typing import Any

from torch import nn

from carryover.models.depth import Depth, Tap, chain, resnet

OUTPUT = ("norm", "fc_norm", "attn_pool", "head", "head_dist")  # behind a transformer's blocks


def depth(image: Any) -> Depth:
    """The depth of a timm network without its classifier."""
    from timm.models.beit import Beit
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    prefix = getattr(image, "num_prefix_tokens", 0)
    projects = True
    if isinstance(image, VisionTransformer | Eva | Beit):
        names = {f"block{i}": f"blocks.{i}" for i in range(len(image.blocks))}
        groups, taps = chain(image, names, "embed", OUTPUT)
        if type(image) in (VisionTransformer, Eva, Beit):
            projects = not _pools_plainly(image)
    elif hasattr(image, "layer4"):
        known = resnet(image)
        groups, taps = known.groups, known.taps
        projects = getattr(image.global_pool, "pool_type", "") != "avg"
    else:
        groups, taps = _by_timm(image)
    return Depth(
        groups,
        taps,
        None,
        prefix=prefix,
        cls=prefix > 0 and getattr(image, "cls_token", None) is not None,
        projects=projects,
        channels_last=getattr(image, "output_fmt", "") == "NHWC",
    )


def _pools_plainly(image: Any) -> bool:
    """Whether a transformer returns its class token, or the mean over patches, as it is."""
    normed = getattr(image, "fc_norm", None)
    plain = normed is None or isinstance(normed, nn.Identity)
    return plain and image.global_pool in ("token", "avg")


def _by_timm(image: Any) -> tuple[dict[str, list[str]], dict[str, Tap]]:
    """Groups by the depth that timm gives parameters, named after their modules.

    timm adds what follows the last block (a norm, a last convolution) to that block's group; here
    it is the group ``output``.
    """
    from timm.models import group_parameters

    found = group_parameters(image, image.group_matcher(coarse=False))
    parts = [found[key] for key in sorted(found)]
    groups: dict[str, list[str]] = {"stem": list(parts[0])}
    taps: dict[str, Tap] = {}
    rest: list[str] = []
    for i, names in enumerate(parts[1:], 1):
        others = {name for other in (*parts[:i], *parts[i + 1 :]) for name in other}
        module = _module(names[0], others)
        inside = [name for name in names if name.startswith(f"{module}.")]
        last = [name for name in names if name not in inside]
        if not any(letter.isdigit() for letter in module):
            inside, last = [], names  # a head, not a block
        if inside:
            groups[module.replace(".", "-").replace("_", "-").lower()] = inside
            taps.setdefault("stem", Tap(module, "input"))
            taps[list(groups)[-1]] = Tap(module, "output")
        rest += last
    if rest:
        groups["output"] = rest
    return groups, taps


def _module(name: str, others: set[str]) -> str:
    """The outermost module around a parameter that holds no parameter of another group."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        module = ".".join(parts[:i])
        if not any(other.startswith(f"{module}.") for other in others):
            return module
    return name
