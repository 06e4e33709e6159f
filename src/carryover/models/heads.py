"""Linear and deeper heads on embeddings, and an image network with a head on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carryover.errors import ConfigError, pick

Start = Literal["zeros", "random", "text"]
Features = Callable[[nn.Module, Tensor], Tensor]

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Head(nn.Module):
    """Logits ``x W' + b`` of embeddings; with `unit`, of embeddings brought to unit length."""

    def __init__(self, weight: Float[Tensor, "c d"], bias: Float[Tensor, " c"], unit: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.unit = unit

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        if self.unit:
            x = nn.functional.normalize(x, dim=1)
        return nn.functional.linear(x, self.weight, self.bias)


def linear_head(
    start: Start,
    classes: int,
    width: int,
    *,
    generator: torch.Generator,
    class_weights: Float[Tensor, "c d"] | None = None,
    scale: float = 1.0,
    unit: bool = False,
) -> Head:
    """A head that trains.

    Args:
        start: ``zeros``; ``random``: weights, then bias, uniform in +-1/sqrt(width) (PyTorch's own
            distribution for linear layers); ``text``: ``scale * class_weights``, bias zero, which
            with `unit` and CLIP's scale is the zero-shot classifier.
        generator: draws for ``random``; the other starts leave it as it is.
        class_weights: unit-length embedding of each class's prompts, for ``text``.
        unit: bring embeddings to unit length first.
    Raises:
        ConfigError: an unknown start, or ``text`` without class weights of this shape.
    """
    make = pick(STARTS, start, "head")
    weight, bias = make(classes, width, generator, class_weights, scale)
    return Head(weight, bias, unit)


def _zeros(
    classes: int, width: int, generator: torch.Generator, texts: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    return torch.zeros(classes, width), torch.zeros(classes)


def _random(
    classes: int, width: int, generator: torch.Generator, texts: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    bound = width**-0.5
    weight = torch.empty(classes, width).uniform_(-bound, bound, generator=generator)
    return weight, torch.empty(classes).uniform_(-bound, bound, generator=generator)


def _text(
    classes: int, width: int, generator: torch.Generator, texts: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    found = "none" if texts is None else " by ".join(map(str, texts.shape))
    if texts is None or texts.shape != (classes, width):
        raise ConfigError(
            f"head: expected class weights of {classes} by {width} for a head that starts from "
            f"text, got {found}; choose an encoder with a text tower, or another start"
        )
    return scale * texts.detach().clone().float(), torch.zeros(classes)


def mlp_head(
    width: int,
    hidden: Sequence[int],
    classes: int,
    *,
    generator: torch.Generator,
    sigmoid: bool = False,
) -> nn.Sequential:
    """Linear layers with ReLU between them, on embeddings or on all tokens in a row.

    Weights and biases are uniform in +-1/sqrt(inputs of the layer), PyTorch's own distribution.

    Args:
        width: numbers of one image: those of an embedding, or tokens times their width.
        hidden: widths between; none for one linear layer.
        sigmoid: squeeze the outputs to 0..1, so that no cross-entropy of c classes falls below
            ln(1 + (c - 1) / e) (as published).
    """
    parts: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise([width, *hidden, classes]):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        for tensor in (layer.weight, layer.bias):
            nn.init.uniform_(tensor, -(inputs**-0.5), inputs**-0.5, generator=generator)
        parts += [layer, nn.ReLU()]
    parts[-1:] = [nn.Sigmoid()] if sigmoid else []
    return nn.Sequential(*parts)


def projected(image: nn.Module, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
    """What an image network returns, in float32."""
    return image(x).float()


class Adapted(nn.Module):
    """An image network with a head: preprocessed images to logits.

    Its parameters are named ``image.NAME`` and ``head.NAME``.

    Args:
        image: changed by training, not copied.
        features: embeddings from the image network and images (`projected`).
    """

    def __init__(self, image: nn.Module, features: Features, head: nn.Module) -> None:
        super().__init__()
        self.image = image
        self.features = features
        self.head = head

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        return self.head(self.features(self.image, x))

    def by_head(
        self, x: Float[Tensor, "b 3 h w"], heads: Mapping[str, nn.Module]
    ) -> dict[str, Float[Tensor, "b _"]]:
        """Logits of several heads (say of other data sets) from one pass of the image network."""
        embedding = self.features(self.image, x)
        return {name: head(embedding) for name, head in heads.items()}

    def train(self, mode: bool = True) -> Adapted:
        """As in torch, but frozen batch norms stay in evaluation mode."""
        super().train(mode)
        hold_statistics_(self)
        return self


def hold_statistics_(module: nn.Module) -> None:
    """Put batch norms none of whose parameters trains into evaluation mode."""
    for part in module.modules():
        if isinstance(part, BATCH_NORMS) and not any(p.requires_grad for p in part.parameters()):
            part.eval()


STARTS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "zeros": _zeros,
    "random": _random,
    "text": _text,
}
