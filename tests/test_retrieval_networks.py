from __future__ import annotations

from typing import Any

import pytest
import torch

from carryover.errors import ConfigError
from carryover.models.retrieval import build, widened
from small_retrieval import DIMS, FEATURES, STAGE, K, drawn, size, small

PARTS = ("features", "labels", "both")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(DIMS))
def test_every_network_takes_grey_and_colour(name: str, channels: int) -> None:
    for retrieval, rows in ((None, None), (STAGE, drawn(2, K, 9))):
        network = small(name, retrieval, channels=channels, classes=5)
        assert network(drawn(2, channels, 32, 32), rows).shape == (2, 5)


@pytest.mark.parametrize("name", list(DIMS))
@pytest.mark.parametrize(("keys", "values"), [(k, v) for k in PARTS for v in PARTS])
def test_every_setting_of_keys_and_values_trains(name: str, keys: str, values: str) -> None:
    network = small(name, STAGE | {"keys": keys, "values": values})
    network(drawn(4, 3, 32, 32), drawn(4, K, 9, seed=1)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", list(DIMS))
def test_features_alone_do_for_the_published_setting(name: str) -> None:
    network = small(name, STAGE | {"labels": 0})
    assert network(drawn(2, 3, 32, 32), drawn(2, K, FEATURES)).shape == (2, 3)


@pytest.mark.parametrize("name", list(DIMS))
def test_one_seed_gives_all_arms_the_same_weights_and_the_same_stream(name: str) -> None:
    states, streams = [], []
    for retrieval in (None, STAGE, STAGE | {"labels": 0, "layers": 1}):
        generator = torch.Generator().manual_seed(7)
        states.append(small(name, retrieval, generator=generator).state_dict())
        streams.append(generator.get_state())
    plain, *others = states
    for state in others:
        assert all(torch.equal(state[key], value) for key, value in plain.items())
        assert {key for key in state if not key.startswith("attend")} == set(plain)
    assert torch.equal(streams[0], streams[1])
    assert torch.equal(streams[0], streams[2])


@pytest.mark.parametrize("name", list(DIMS))
def test_weights_come_from_the_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = small(name, seed=1), small(name, seed=1), small(name, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    a, b, c = (torch.cat([p.flatten() for p in n.parameters()]) for n in (first, again, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    stages = [torch.cat([p.flatten() for p in n.attend.parameters()]) for n in (first, other)]
    assert not torch.equal(*stages)


def test_the_published_stages_add_their_number_of_parameters() -> None:
    stage = STAGE | {"features": 512, "labels": 0, "head_width": 64}
    dims = {"width": 64}
    with torch.device("meta"):
        plain, more = (small("resnet18", r, classes=1000, dims=dims) for r in (None, stage))
    assert size(plain) == 11_681_832
    assert size(more) - size(plain) == 5_765_120


@pytest.mark.parametrize("name", list(DIMS))
def test_a_wider_network_has_as_many_parameters_as_stages_add(name: str) -> None:
    given: dict[str, Any] = {"classes": 3, "channels": 3, "size": 32}
    dims = widened(name, **given, dims=DIMS[name], retrieval=STAGE)
    assert {key: value for key, value in dims.items() if key != "width"} == {
        key: value for key, value in DIMS[name].items() if key != "width"
    }
    wanted = size(small(name))
    tried = [size(small(name, None, dims=dims | {"width": dims["width"] + i})) for i in (-1, 0, 1)]
    off = [abs(count - wanted) for count in tried]
    assert off[1] == min(off)


def test_the_published_resnet_is_matched_within_one_per_cent() -> None:
    stage = STAGE | {"features": 512, "labels": 0, "head_width": 64}
    given: dict[str, Any] = {"classes": 10, "channels": 3, "size": 32}
    dims = widened("resnet18", **given, dims={"width": 64}, retrieval=stage)
    with torch.device("meta"):
        wide = small("resnet18", None, classes=10, dims=dims)
    assert size(wide) == pytest.approx(11_173_962 + 5_765_120, rel=0.01)


def test_reshaped_tokens_need_a_map() -> None:
    with pytest.raises(ConfigError, match="expected positions for perceiver, which has no map"):
        small("perceiver", STAGE | {"tokens": "reshaped"})


def test_an_unknown_network_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="one of resnet18, alexnet, perceiver, got 'vit'"):
        build(
            "vit",
            classes=3,
            channels=3,
            size=32,
            dims={},
            retrieval=None,
            generator=torch.Generator(),
        )
