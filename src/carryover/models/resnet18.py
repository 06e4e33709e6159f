"""ResNet-18 for 32-pixel images: a 3 by 3 stem without pooling, four stages of two blocks.

The blocks are those of He et al. (2016) with a 1 by 1 convolution where the shape changes (option
B). Behind each of the eight there can be a retrieval stage (``models/retrieval_stage.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from carryover.models.retrieval_stage import expect_rows

STAGES, BLOCKS = 4, 2  # stages, and blocks in each


def block_widths(width: int) -> list[int]:
    """Channels behind each block, of which a retrieval stage's tokens are made."""
    return [width * 2**stage for stage in range(STAGES) for _ in range(BLOCKS)]


class Block(nn.Module):
    """Two convolutions, and a shortcut with one of its own where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != width:
            self.shortcut.append(nn.Conv2d(inputs, width, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(width))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet18(nn.Module):
    """Stem, eight blocks, the mean over space, a layer of logits.

    Args:
        width: channels of the stem and the first stage; each further stage has twice as many.
        classes: logits; None: no last layer, the network gives the mean over space.
        channels: of the images.
        attend: a retrieval stage for each of the eight blocks, or none; a stage takes a block's
            map and the retrieved entries.
    """

    def __init__(
        self,
        width: int = 64,
        classes: int | None = 10,
        channels: int = 3,
        attend: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs, widths = width, block_widths(width)
        for i in range(STAGES):
            stage = nn.Sequential()
            for j, channels_out in enumerate(widths[BLOCKS * i : BLOCKS * (i + 1)]):
                stage.append(Block(inputs, channels_out, 2 if i and not j else 1))
                inputs = channels_out
            self.add_module(f"layer{i + 1}", stage)
        self.linear = nn.Identity() if classes is None else nn.Linear(inputs, classes)
        self.attend = nn.ModuleList(attend)

    def embed(
        self, x: Float[Tensor, "b ch h w"], rows: Float[Tensor, "b k r"] | None = None
    ) -> Float[Tensor, "b d"]:
        """The mean over space behind the last block: 8 times the width an image.

        Raises:
            DataError: entries without retrieval stages, or stages without entries.
        """
        expect_rows(self.attend, rows)
        x = F.relu(self.bn1(self.conv1(x)))
        stages = (self.get_submodule(f"layer{i + 1}") for i in range(STAGES))
        blocks = [block for stage in stages for block in stage.children()]
        for i, block in enumerate(blocks):
            x = block(x)
            if len(self.attend):
                x = self.attend[i](x, rows)
        return x.mean((2, 3))

    def forward(
        self, x: Float[Tensor, "b ch h w"], rows: Float[Tensor, "b k r"] | None = None
    ) -> Float[Tensor, "b d"]:
        return self.linear(self.embed(x, rows))
