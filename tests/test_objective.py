from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from carryover import train
from carryover.adapt.objective import SOFTMAX, cross_entropy_after
from carryover.errors import ConfigError

LOGITS = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
LABELS = torch.tensor([0, 1])
IDENTITY = nn.Identity()
FLOOR = math.log(1 + 100 / math.e)  # least loss of 101 classes after a softmax


def predictions(softmax: str, logits: Tensor, batch_size: int) -> Tensor:
    """Classes named where so many images are predicted together, in order."""
    return torch.cat([SOFTMAX[softmax](part).argmax(dim=1) for part in logits.split(batch_size)])


def test_loss_on_raw_logits_is_that_of_the_training_loop() -> None:
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(7) % 5
    ours = cross_entropy_after("none")(IDENTITY, logits, labels)
    assert torch.equal(ours, train.cross_entropy(IDENTITY, logits, labels))


def test_losses_worked_out_by_hand() -> None:
    first = math.log(1 + math.exp(-2))
    assert cross_entropy_after("none")(IDENTITY, LOGITS, LABELS).item() == pytest.approx(
        (first + math.log(2)) / 2
    )
    gap = math.tanh(1)  # between the two probabilities of the first image
    assert cross_entropy_after("classes")(IDENTITY, LOGITS, LABELS).item() == pytest.approx(
        (math.log(1 + math.exp(-gap)) + math.log(2)) / 2
    )
    up, down = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))  # of each class, over the batch
    losses = [math.log(1 + math.exp(down - up)), math.log(1 + math.exp(down - up))]
    assert cross_entropy_after("batch")(IDENTITY, LOGITS, LABELS).item() == pytest.approx(
        sum(losses) / 2
    )


def test_double_softmax_cannot_go_below_its_floor() -> None:
    assert abs(FLOOR - 3.632) < 5e-4
    certain = 1e4 * torch.eye(101)
    loss = cross_entropy_after("classes")(IDENTITY, certain, torch.arange(101))
    assert loss.item() == pytest.approx(FLOOR, abs=1e-5)
    assert cross_entropy_after("none")(IDENTITY, certain, torch.arange(101)).item() == 0


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 1000.0])
def test_double_softmax_stays_above_its_floor_at_any_scale(scale: float) -> None:
    logits = scale * torch.randn(300, 101, generator=torch.Generator().manual_seed(1))
    loss = cross_entropy_after("classes")(IDENTITY, logits, torch.arange(300) % 101)
    assert loss.item() > FLOOR


def test_double_softmax_shrinks_the_gradient() -> None:
    sizes = {}
    for name in SOFTMAX:
        logits = torch.zeros(101, 101, requires_grad=True)
        cross_entropy_after(name)(IDENTITY, logits, torch.arange(101)).backward()
        assert logits.grad is not None
        sizes[name] = logits.grad.abs().max().item()
    assert sizes["classes"] < sizes["none"] / 50
    assert sizes["batch"] < sizes["none"] / 50


def test_softmax_over_classes_changes_no_prediction() -> None:
    logits = torch.randn(50, 9, generator=torch.Generator().manual_seed(2))
    assert torch.equal(predictions("classes", logits, 10), logits.argmax(dim=1))
    assert torch.equal(predictions("none", logits, 7), logits.argmax(dim=1))


def test_softmax_over_the_batch_makes_predictions_depend_on_the_other_images() -> None:
    image = torch.tensor([[2.0, 1.0]])
    strong, weak = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    assert predictions("batch", torch.cat([image, strong]), 2).tolist()[0] == 1
    assert predictions("batch", torch.cat([image, weak]), 2).tolist()[0] == 0
    for other in (strong, weak):
        assert predictions("none", torch.cat([image, other]), 2).tolist()[0] == 0


def test_alone_in_its_batch_every_class_ties_after_softmax_over_the_batch() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    assert predictions("batch", logits, 1).tolist() == [0] * 6
    assert SOFTMAX["batch"](logits).sum(dim=0).tolist() == pytest.approx([1.0] * 4)


def test_batches_follow_the_order_of_the_rows() -> None:
    logits = torch.randn(25, 6, generator=torch.Generator().manual_seed(4))
    parts = [logits[:10], logits[10:20], logits[20:]]
    plain = torch.cat([part.softmax(dim=0).argmax(dim=1) for part in parts])
    assert torch.equal(predictions("batch", logits, 10), plain)
    assert not torch.equal(predictions("batch", logits, 25), plain)


def test_an_unknown_softmax_is_refused() -> None:
    with pytest.raises(ConfigError, match="softmax: expected one of none, classes, batch, got 'x'"):
        cross_entropy_after("x")
