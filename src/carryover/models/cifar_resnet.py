"""The residual networks for 32-pixel images of He et al. (2016), section 4.2."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from carryover.errors import ConfigError

WIDTHS = (16, 32, 64)
MOST = 200  # blocks a stage: the deepest network of the paper has 1202 layers


class Block(nn.Module):
    """Two convolutions and a shortcut without parameters.

    Where the block halves the image, the shortcut takes every second pixel and fills the new
    channels with zeros, half of them on each side (option A of the paper).
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.added = (width - inputs) // 2

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        short = x[:, :, :: self.stride, :: self.stride]
        return F.relu(out + F.pad(short, (0, 0, 0, 0, self.added, self.added)))


class CifarResNet(nn.Module):
    """Three stages of blocks, the mean over space (64 numbers an image), a layer of logits.

    Args:
        depth: layers with weights, 6 n + 2: 20, 32, 44, 56, 110 in the paper.
        classes: logits.
    Raises:
        ConfigError: another depth.
    """

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or not 1 <= blocks <= MOST:
            raise ConfigError(
                "cifar-resnet: expected a depth of 6 n + 2 (20, 32, 44, 56, 110) up to "
                f"{6 * MOST + 2}, got {depth}"
            )
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        inputs = WIDTHS[0]
        for i, width in enumerate(WIDTHS, 1):
            stage = []
            for j in range(blocks):
                stage.append(Block(inputs, width, 2 if i > 1 and j == 0 else 1))
                inputs = width
            self.add_module(f"layer{i}", nn.Sequential(*stage))
        self.linear: nn.Module = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"layer{i}")(x)
        return self.linear(x.mean((2, 3)))
