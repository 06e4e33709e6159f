from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from carryover.models.perceiver import Perceiver, fourier_positions
from carryover.models.retrieval import build
from small_retrieval import PERCEIVER, drawn, size, small

PUBLISHED = {
    **{"latents": 10, "width": 512, "layers": 2, "cross_heads": 1, "cross_head_width": 256},
    **{"heads": 2, "head_width": 64, "bands": 6, "max_frequency": 10.0, "dropout": 0.2},
}
STAGE = {
    **{"features": 512, "labels": 0, "keys": "both", "values": "both", "layers": 1},
    **{"heads": 1, "head_width": 256, "multiplier": 4, "dropout": 0.2, "tokens": "positions"},
}


@pytest.mark.parametrize(
    ("retrieval", "channels", "count"),
    [
        (None, 3, 13_701_246),
        (STAGE, 3, 21_057_662),
        # one channel: two numbers less in each layer's norm, keys and values of the pixels
        (None, 1, 13_701_246 - 2 * 2 * (2 + 2 * 256)),
    ],
)
def test_it_has_the_published_number_of_parameters(
    retrieval: dict[str, Any] | None, channels: int, count: int
) -> None:
    with torch.device("meta"):
        found = build(
            "perceiver",
            classes=10,
            channels=channels,
            size=32,
            dims=PUBLISHED,
            retrieval=retrieval,
            generator=torch.Generator(),
        )
    assert size(found) == count


def test_positions_by_hand() -> None:
    found = fourier_positions(3, 2, 10.0)  # frequencies 1 and 5; x of -1, 0, 1
    assert found.shape == (9, 10)
    start, middle, end = (found[i, 5:] for i in (0, 1, 2))  # the first row, from left to right
    assert start.tolist() == pytest.approx([0, 0, -1, -1, -1], abs=1e-5)
    assert middle.tolist() == pytest.approx([0, 0, 1, 1, 0], abs=1e-5)
    assert end.tolist() == pytest.approx([0, 0, -1, -1, 1], abs=1e-5)
    assert torch.equal(found[3, :5], middle)  # below the first: the middle of the vertical axis


def test_positions_have_13_numbers_an_axis_as_published() -> None:
    found = fourier_positions(32, 6, 10.0)
    assert found.shape == (1024, 26)
    x = -1 + 2 / 31
    frequencies = [1, 1.8, 2.6, 3.4, 4.2, 5]
    assert found[1, 13:19].tolist() == pytest.approx(
        [math.sin(math.pi * f * x) for f in frequencies], abs=1e-5
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_logits_are_the_last_layer_of_the_normed_mean(channels: int) -> None:
    network = Perceiver(size=8, classes=5, channels=channels, **PERCEIVER).eval()
    x = drawn(2, channels, 8, 8)
    z = network.embed(x)
    assert z.mean(1).abs().max() < 1e-5  # as just normed
    assert torch.equal(network(x), network.linear(z))
    bare = Perceiver(size=8, classes=None, channels=channels, **PERCEIVER).eval()
    assert bare(x).shape == (2, 8)


def test_a_layer_looks_then_retrieves_then_mixes() -> None:
    network, order = small("perceiver"), []
    steps = ("layers.{}.look", "layers.{}.feed_look", "attend.{}", "layers.{}.mix")
    expected = [step.format(i) for i in (0, 1) for step in (*steps, "layers.{}.feed_mix")]
    for name in expected:
        network.get_submodule(name).register_forward_hook(lambda *_, n=name: order.append(n))
    network(drawn(1, 3, 32, 32), drawn(1, 4, 9))
    assert order == expected


def test_no_two_layers_share_weights() -> None:
    network = small("perceiver")
    first, second = (list(layer.parameters()) for layer in network.layers)
    assert not {id(p) for p in first} & {id(p) for p in second}
    assert not torch.equal(network.layers[0].look.q.weight, network.layers[1].look.q.weight)


def test_latents_are_drawn_from_a_standard_normal() -> None:
    torch.manual_seed(0)
    many = Perceiver(size=4, classes=2, channels=1, **PERCEIVER | {"latents": 2000})
    latents = many.latents.detach()
    assert float(latents.mean()) == pytest.approx(0, abs=0.03)
    assert float(latents.std()) == pytest.approx(1, abs=0.03)


def test_moving_a_pixel_changes_what_it_sees() -> None:
    network = small("perceiver", None).eval()
    x = torch.zeros(2, 3, 32, 32)
    x[0, :, 3, 3] = x[1, :, 20, 9] = 1
    assert not torch.allclose(network(x)[0], network(x)[1], atol=1e-7)
