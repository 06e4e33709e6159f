"""Image networks of CLIP with random weights: two tiny ones, and the real ViT-B/32 without memory.

With the ordered groups and the kinds of their parameters, written out by hand.
"""

from __future__ import annotations

import torch
from open_clip.model import CLIP
from torch import nn

IMAGE_SIZE = {"vit": 16, "resnet": 32}
NORM = ("weight", "bias")
BLOCK = {
    "ln_1.weight": "norm",
    "ln_1.bias": "norm",
    "attn.in_proj_weight": "attention",
    "attn.in_proj_bias": "attention",
    "attn.out_proj.weight": "attention",
    "attn.out_proj.bias": "attention",
    "ln_2.weight": "norm",
    "ln_2.bias": "norm",
    "mlp.c_fc.weight": "mlp",
    "mlp.c_fc.bias": "mlp",
    "mlp.c_proj.weight": "mlp",
    "mlp.c_proj.bias": "mlp",
}
EMBED = {
    "class_embedding": "embedding",
    "positional_embedding": "embedding",
    "conv1.weight": "embedding",
    "ln_pre.weight": "norm",
    "ln_pre.bias": "norm",
}
END = {"positional": "embedding", "c_proj": "projection"}
OUTPUT = {"ln_post.weight": "norm", "ln_post.bias": "norm", "proj": "projection"}


def image_network(**config: object) -> nn.Module:
    """The image network of an open_clip model with a tiny text part."""
    text = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
    torch.manual_seed(0)
    return CLIP(embed_dim=12, vision_cfg=config, text_cfg=text).visual


def vit() -> nn.Module:
    """Two blocks of width 16 on four patches."""
    return image_network(layers=2, width=16, head_width=8, patch_size=8, image_size=16)


def vit_b_32() -> nn.Module:
    """Shapes and names of ViT-B/32, no values."""
    config = {"layers": 12, "width": 768, "head_width": 64, "patch_size": 32, "image_size": 224}
    text = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
    with torch.device("meta"):
        return CLIP(embed_dim=512, vision_cfg=config, text_cfg=text).visual


def vit_parts(blocks: int) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Groups and kinds of a vision transformer with so many blocks."""
    inner = {
        f"block{i}": {f"transformer.resblocks.{i}.{name}": kind for name, kind in BLOCK.items()}
        for i in range(blocks)
    }
    return _parts({"embed": EMBED, **inner, "output": OUTPUT})


def resnet() -> nn.Module:
    """A CLIP ResNet with one block a stage and batch norms."""
    return image_network(layers=(1, 1, 1, 1), width=8, image_size=32)


def resnet_parts() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Groups and kinds of `resnet`."""
    found: dict[str, dict[str, str]] = {}
    for name, _ in resnet().named_parameters():
        stage = name.split(".")[0]
        group = "output" if stage == "attnpool" else f"{stage}-0" if "layer" in stage else "stem"
        kind = "norm" if "bn" in name or "downsample.1" in name else "convolution"
        if group == "output":
            kind = next((END[part] for part in END if part in name), "attention")
        found.setdefault(group, {})[name] = kind
    return _parts(found)


def _parts(found: dict[str, dict[str, str]]) -> tuple[dict[str, list[str]], dict[str, str]]:
    kinds = {name: kind for group in found.values() for name, kind in group.items()}
    return {group: list(names) for group, names in found.items()}, kinds
