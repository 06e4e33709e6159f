from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carryover.measure import accuracy
from carryover.measure.accuracy import correct
from carryover.train import in_precision


def test_correct_counts_the_highest_logits() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])
    assert correct(nn.Identity(), logits, torch.tensor([0, 0, 0])) == 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_gradient_is_kept_and_outputs_are_bitwise_those_of_inference_mode(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 4))
    seen: list[Tensor] = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = torch.randn(20, 1, 8, 8)
    monkeypatch.setitem(accuracy.BATCH, "cpu", 7)
    with in_precision(images.device, precision):
        right = correct(network, images, torch.arange(20) % 4)
        ours = torch.cat(seen)
        with torch.inference_mode():
            whole = torch.cat([network(part) for part in images.split(7)])
    assert not ours.requires_grad
    assert torch.equal(ours, whole)
    assert right == int((ours.argmax(1) == torch.arange(20) % 4).sum())
