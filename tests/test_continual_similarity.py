"""CKA of an encoder with itself while it trains, where a layer says nothing of the images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carryover import continual_similarity
from carryover.adapt.avalanche import AfterTask
from carryover.config import params as config
from carryover.continual_similarity import along, similarities
from carryover.continual_start import Inputs
from carryover.continual_training import Cell
from carryover.models.heads import Adapted
from conftest import TINY

ROWS = torch.arange(40)
INPUTS = Inputs([torch.zeros(40, 1)], [Tensor.float], torch.device("cpu"))


def layers(seed: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    shared = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    return [shared + 0.5 * torch.randn(40, 6, generator=random) for _ in range(3)]


def compared(monkeypatch: pytest.MonkeyPatch, now: list[Tensor], before: list[Tensor]) -> Any:
    """What `along` keeps after the last of two experiences, first seed."""
    cka = replace(config.read(TINY).continual.cka, images=40, draws=50, debiased=True)
    monkeypatch.setattr(continual_similarity, "layers_of", lambda *_: now)
    network = Adapted(nn.Identity(), lambda image, x: x, nn.Identity())
    cell = Cell("unfrozen", "s", "ni-2", "naive", 0)
    return along(cka, before, INPUTS, ROWS, cell, 0, 1, network, 1)


def numbers(kept: dict[str, Any]) -> dict[tuple[str, int, int], float]:
    none = torch.zeros(0, dtype=torch.int64)
    after = [AfterTask(1, torch.zeros(0, 0), none, none, {}, [], 0, {}, kept)]
    return {
        (metric, at["layer"], at.get("other", -1)): value
        for _, metric, at, value, _ in similarities(after, 40)
    }


def test_a_constant_layer_has_no_numbers_and_the_others_keep_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, before = layers(1), layers(2)
    whole = numbers(compared(monkeypatch, now, before))
    dead = [now[0], torch.full_like(now[1], 0.3), now[2]]
    found = numbers(compared(monkeypatch, dead, before))
    metrics = {"cka", "cka_low", "cka_high", "cka_pair"}
    assert {metric for metric, *_ in whole} == {metric for metric, *_ in found} == metrics
    assert set(found) == {place for place in whole if place[1] != 1}
    assert found == {place: pytest.approx(whole[place]) for place in found}
    born = numbers(compared(monkeypatch, now, [before[0], torch.zeros_like(before[1]), before[2]]))
    gone = {place for place in whole if place[2] == 1 or (place[2] < 0 and place[1] == 1)}
    assert set(born) == set(whole) - gone


def test_an_encoder_of_constant_layers_or_values_not_finite_has_no_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = layers(2)
    assert numbers(compared(monkeypatch, [torch.ones_like(x) for x in before], before)) == {}
    strange = [before[0] / 0, *before[1:]]
    assert compared(monkeypatch, strange, before) == {}
