from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import FlavaImageConfig, FlavaImageModel

from carryover.adapt.children import freeze_unreached_, left_by, trained_parameters
from carryover.adapt.freeze import freeze_
from carryover.errors import ConfigError
from carryover.models.depth import depth_of
from carryover.models.features import Feature, read
from carryover.models.flava import FlavaImage
from carryover.models.heads import Adapted
from carryover.models.layers import parameter_groups

TOKENS = 197 * 768
MASK = 768  # a token of pretraining
PATCHES, POSITIONS = 3 * 16 * 16 * 768 + 768, 197 * 768 + 768  # with bias; with class token
BLOCK = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768


def full(projected: bool = False) -> FlavaImage:
    """FLAVA's image encoder at its published size, without memory for its weights."""
    with torch.device("meta"):
        model = FlavaImageModel(FlavaImageConfig())
        return FlavaImage(model, nn.Linear(768, 768) if projected else None)


def with_tokens_head(image: FlavaImage) -> Adapted:
    """The network of the partly frozen runs: all tokens to 1000, 500 and 200."""
    depth = depth_of(image)

    def tokens(image: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return read(image, depth, x, [Feature("tokens")])[Feature("tokens")]

    with torch.device("meta"):
        layers = [nn.Linear(a, b) for a, b in ((TOKENS, 1000), (1000, 500), (500, 200))]
        head = nn.Sequential(nn.Flatten(), *layers, nn.Sigmoid())
    return Adapted(image, tokens, head)


@pytest.mark.parametrize(
    ("freeze", "left"),
    [
        ("children-1", 12 * BLOCK + 1536),  # n = 1, the saved cell: all but the embeddings train
        ("children-2", 1536),  # n = 2: the last norm alone
        ("children-3", 0),
        ("embed..block9", 2 * BLOCK + 1536),
        ("embed..block11", 1536),
    ],
)
def test_what_is_left_of_flava_at_its_published_size(freeze: str, left: int) -> None:
    image = full(projected=True)
    freeze_(image, left_by(freeze, image, parameter_groups(image)))
    network = with_tokens_head(image)
    head = 151_296 * 1000 + 1000 + 1000 * 500 + 500 + 500 * 200 + 200
    assert head == 151_897_700  # the published count
    freeze_unreached_(network, torch.empty(2, 3, 224, 224, device="meta"))
    assert trained_parameters(network) - head == left
    assert trained_parameters(image) == left


def test_the_whole_encoder_has_its_published_size() -> None:
    assert trained_parameters(full()) == MASK + PATCHES + POSITIONS + 12 * BLOCK + 1536


def test_only_what_the_output_depends_on_trains() -> None:
    network = nn.ModuleDict({"used": nn.Linear(3, 2), "spare": nn.Linear(3, 2)})

    class OneOf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.parts["used"](x)

    whole = OneOf().train()
    freeze_unreached_(whole, torch.zeros(2, 3))
    assert [n for n, p in whole.named_parameters() if p.requires_grad] == [
        "parts.used.weight",
        "parts.used.bias",
    ]
    assert whole.training
    assert all(p.grad is None for p in whole.parameters())


@pytest.mark.parametrize(
    ("freeze", "said"),
    [
        ("children-9", r"at: expected at most children-3 for this encoder \(embeddings, encoder"),
        ("embed..block99", "at: expected one of embed, block0, .*, got 'block99'"),
        ("block3..block1", "at: expected groups input to output, got 'block3..block1'"),
    ],
)
def test_a_freeze_that_is_not_for_the_encoder_is_refused(freeze: str, said: str) -> None:
    image = full()
    with pytest.raises(ConfigError, match=said):
        left_by(freeze, image, parameter_groups(image), "at")
