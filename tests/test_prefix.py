"""Outputs of frozen groups, computed once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from carryover.adapt.cut import frozen_part
from carryover.models.cnn import cnn
from carryover.prefix import BLOCK, Prefix, extended

SHAPE = (1, 8, 8)
IMAGES = BLOCK + 9  # two blocks, the second short


@pytest.fixture
def network() -> nn.Sequential:
    return cnn(
        depth=4,
        channels=5,
        kernel=3,
        activation="relu",
        pool_every=2,
        pool_stride=2,
        hidden=0,
        image_shape=SHAPE,
        classes=3,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.fixture
def images() -> Prefix:
    random = torch.Generator().manual_seed(1)
    return Prefix(0, torch.randn(IMAGES, *SHAPE, generator=random))


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("kept", [2, 3, 4])
def test_it_is_what_the_first_groups_give(
    network: nn.Sequential, images: Prefix, kept: int, processes: int
) -> None:
    found = extended(images, network, kept, "float32", processes)
    assert found.kept == kept
    with torch.no_grad():
        expected = frozen_part(network, kept)(images.values)
    assert torch.allclose(found.values, expected, atol=1e-6)
    assert found.values.is_contiguous(memory_format=torch.channels_last)


def test_deeper_outputs_are_made_from_those_before(network: nn.Sequential, images: Prefix) -> None:
    at_once = extended(images, network, 4, "float32", 0)
    in_steps = images
    for kept in range(5):
        in_steps = extended(in_steps, network, kept, "float32", 2)
    assert in_steps.kept == 4
    assert torch.allclose(at_once.values, in_steps.values, atol=1e-6)


def test_a_single_group_is_not_stored(network: nn.Sequential, images: Prefix) -> None:
    assert extended(images, network, 0, "float32", 0) is images
    assert extended(images, network, 1, "float32", 2) is images


def test_bfloat16_halves_the_room_and_is_close(network: nn.Sequential, images: Prefix) -> None:
    whole = extended(images, network, 4, "float32", 0).values
    half = extended(images, network, 4, "bfloat16", 2).values
    assert half.dtype == torch.bfloat16
    assert (half.float() - whole).abs().max() < 0.02 * whole.abs().max()
    assert not torch.equal(half.float(), whole)
