"""What each layer of a CNN makes of images, before its activation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn


def layer_outputs(
    network: nn.Sequential, images: Float[Tensor, "n c h w"]
) -> Iterator[tuple[str, Float[Tensor, "n channels d"]]]:
    """Name and output of ``input``, each convolution and each linear layer, from input to output.

    A channel's pixels in a row are its features; a linear layer is one channel. Outputs come one
    at a time, so that only one layer's are held.
    """
    yield "input", images.flatten(2)
    x = images
    for name, module in network.named_children():
        with torch.no_grad():
            x = module(x)
        if isinstance(module, nn.Conv2d):
            yield name, x.flatten(2)
        elif isinstance(module, nn.Linear):
            yield name, x[:, None]


def pooled_outputs(
    network: nn.Sequential, images: Float[Tensor, "n c h w"], batch: int, device: torch.device
) -> dict[str, Float[Tensor, "n channels"]]:
    """Mean over space of each channel of each convolution, on the CPU.

    Args:
        network: on `device`.
        batch: images a forward pass.
    """
    convolutions = {name for name, m in network.named_children() if isinstance(m, nn.Conv2d)}
    found: dict[str, list[Tensor]] = {}
    for part in images.split(batch):
        for name, output in layer_outputs(network, part.to(device)):
            if name in convolutions:
                found.setdefault(name, []).append(output.mean(2).cpu())
    return {name: torch.cat(outputs) for name, outputs in found.items()}
