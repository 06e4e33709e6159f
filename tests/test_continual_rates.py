"""Which learning rate counts where some diverge."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from carryover import continual_rates
from carryover.adapt.avalanche import AfterTask
from carryover.config import params as config
from carryover.continual_measures import score
from carryover.continual_pools import Pool
from carryover.continual_training import Trained
from carryover.data.streams import Stream
from carryover.stages import PARAMS
from conftest import Checkout
from test_continual import only

ROW = torch.tensor([0])
ONE = Pool((), (), torch.tensor([1]), ROW, ROW, ROW > 0)  # an image of class 1


def trained(logits: list[float]) -> Trained:
    """A network after one experience, tested on the one image."""
    seen = AfterTask(0, torch.tensor([logits]), ROW, ROW, {}, [], 1, {})
    return Trained(nn.Identity(), [seen], False, Stream((), True))


WRONG = trained([5.0, -5.0, -math.inf])  # class 2 is masked
STOPPED = replace(WRONG, after=[], diverged=True)
BROKEN = trained([math.nan, math.nan, -math.inf])  # by the last step


@pytest.mark.parametrize("diverged", [STOPPED, BROKEN])
def test_a_rate_that_diverges_loses_to_one_that_names_no_image(
    tiny: Checkout, diverged: Trained
) -> None:
    only(tiny, "classes", strategies=["naive"], lrs=[0.001, 0.003, 0.01, 0.03, 0.1])
    study = config.read(PARAMS).continual
    done: dict[str, Any] = {}
    tried = []
    while left := continual_rates.to_try(study, "frozen", done):
        tried.append([cell.lr for cell in left])
        for cell in left:
            done[cell.name] = score(WRONG if cell.lr == 0.001 else diverged, ONE, cell.lr)
    assert tried == [[0.003, 0.01, 0.03], [0.001]]  # downwards
    assert [*continual_rates.chosen(study, "frozen", done).values()] == [0.001]
    assert done["classes/s-digits/ci-5/naive/0/0.001"] == pytest.approx([0, -10], abs=1e-3)
