"""A batch passed in parts has the gradients of one piece, where a loss is a mean over images."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from carryover.config import params as config
from carryover.config.params import Params
from carryover.sequence_carried import Cell, Place
from carryover.sequence_distilling import distilled
from carryover.sequence_losses import loss_of, split, summed
from carryover.sequence_methods import METHODS
from carryover.sequence_start import Start, load_start
from carryover.sequence_training import choose_
from carryover.stages import PARAMS
from conftest import Checkout

ROWS = torch.arange(3, 13)  # ten images of a batch of 16, as at the end of a pass


@pytest.fixture
def begun(embedded: Checkout) -> tuple[Params, Start]:
    params = config.read(PARAMS)
    return params, load_start(params, torch.device("cpu"), reference=True)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def changed(params: Params, **changes: Any) -> Params:
    return replace(params, sequence=replace(params.sequence, **changes))


def gradients(
    params: Params, start: Start, method: str
) -> tuple[float, dict[str, Tensor], list[Tensor]]:
    """A batch's loss, its gradients, and where the random streams stand after it."""
    task = start.tasks["digits"]
    place = Place(Cell(method, "1", 0), 1, task, task.train, False)
    network = copy.deepcopy(start.encoder.model)
    held = distilled(params, start, network, task, task.train, METHODS[method], {})
    student = choose_(params.sequence, network, METHODS[method], seeded(0))
    before = {name: tensor.detach() + 0.01 for name, tensor in student.items()}
    streams = [seeded(1), seeded(2)]
    loss = loss_of(params, start, network, place, held, student, before, *streams)
    value = loss(network, ROWS, task.train.labels[ROWS])
    value.backward()
    grads = {name: p.grad.clone() for name, p in student.items() if p.grad is not None}
    return float(value.detach()), grads, [each.get_state() for each in streams]


MEANS = ("finetune", "wc", "lwf", "zscl", "feature-mse")


@pytest.mark.parametrize("method", MEANS)
@pytest.mark.parametrize("parts", [2, 3, 16])
def test_parts_of_a_batch_add_up_to_it(
    begun: tuple[Params, Start], method: str, parts: int
) -> None:
    params, start = begun
    by_image = replace(params.sequence.distill, by_text=False)
    params = changed(params, distill=by_image)
    whole, at_once, streams = gradients(params, start, method)
    total, added, after = gradients(changed(params, accumulate=parts), start, method)
    assert total == pytest.approx(whole, rel=1e-5)
    assert at_once.keys() == added.keys()
    assert len(at_once) > 20
    for name, grad in at_once.items():
        torch.testing.assert_close(added[name], grad, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(streams, after, strict=True))


@pytest.mark.parametrize("method", ["zscl", "image-similarity"])
def test_images_are_compared_within_their_part_alone(
    begun: tuple[Params, Start], method: str
) -> None:
    params, start = begun
    whole, _, _ = gradients(params, start, method)
    parts, _, _ = gradients(changed(params, accumulate=2), start, method)
    assert parts < whole - 0.1  # a softmax over half the images has less entropy


def test_the_sum_of_pieces_has_the_gradients_of_all() -> None:
    for passed in (False, True):
        x = torch.tensor(2.0, requires_grad=True)
        total = summed([lambda x=x: x**2, lambda x=x: 3 * x, lambda x=x: x**3], passed=passed)
        assert float(total.detach()) == 4 + 6 + 8
        total.backward()
        assert float(x.grad if x.grad is not None else torch.nan) == 4 + 3 + 12


def test_what_is_absent_is_absent_in_every_part() -> None:
    assert split(None, 3) == [None] * 3
    assert [each.tolist() for each in split(torch.arange(4), 3) if each is not None] == [
        *([0, 1], [2], [3])
    ]
