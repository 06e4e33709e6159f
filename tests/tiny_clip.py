"""A whole CLIP of two blocks with random weights as an encoder, and noise for it to embed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip.model import CLIP
from torch import Tensor

from carryover.data.images import Images
from carryover.models.encoders import Encoder, TextTower, assemble
from carryover.models.preprocess import Preprocess
from carryover.models.weights import digest

VISION = {"layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 16}
TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}


def clip(seed: int = 0) -> Encoder:
    """An encoder whose text parameters belong to the whole model, as in OpenAI's."""
    torch.manual_seed(seed)
    model = CLIP(embed_dim=12, vision_cfg=VISION, text_cfg=TEXT)
    for name, parameter in model.named_parameters():  # open_clip starts biases at zero
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    text = {n: t for n, t in model.state_dict().items() if not n.startswith("visual.")}
    return assemble(
        "tiny",
        model.visual,
        Preprocess(16, "crop", "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        VISION,
        text=TextTower(tokenize, model.encode_text, None, digest(text, TEXT)),
        logit_scale=float(model.logit_scale.detach().exp()),
        model=model,
    )


def tokenize(sentences: Sequence[str]) -> Tensor:
    """Letters as numbers; the largest marks the end, as in CLIP."""
    rows = [[ord(letter) % 62 + 1 for letter in text[:7]] + [63] for text in sentences]
    return torch.tensor([row + [0] * (8 - len(row)) for row in rows])


def noise(count: int = 22, seed: int = 0, channels: int = 1) -> Images:
    """Images of three classes, 12 px."""
    random = torch.Generator().manual_seed(seed)
    images = Images(
        labels=torch.arange(count) % 3,
        class_names=("a", "b", "c"),
        ids=torch.arange(count) + 100,
        columns={},
        digest="",
        pixels=torch.randint(
            0, 256, (count, channels, 12, 12), generator=random, dtype=torch.uint8
        ),
    )
    object.__setattr__(images, "digest", images.rows_digest())
    return images
