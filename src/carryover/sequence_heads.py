"""Heads of their own in the sequence study: each set trains one in place of its prompts.

A head starts as the set's zero-shot classifier: its weights are the unit text embeddings times the
logit scale, its bias is zero, and it takes unit image embeddings. A set that was trained is tested
by its head, the others by their prompts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from carryover.adapt.averaging import Weights, copied
from carryover.models.heads import Head, linear_head
from carryover.sequence_start import Start, Task

Heads = dict[str, Weights]  # by data set

PREFIX = "head."


def attach_(network: nn.Module, start: Start, task: Task) -> None:
    """Give a network the head that a set starts with."""
    network.head = zero_shot_head(start, task)


def zero_shot_head(start: Start, task: Task) -> Head:
    """The zero-shot classifier of a set as a head."""
    classes, width = task.class_weights.shape
    unused = torch.Generator()
    return linear_head(
        "text",
        classes,
        width,
        generator=unused,
        class_weights=task.class_weights,
        scale=start.encoder.logit_scale,
    ).to(start.device)


def taken_(network: nn.Module) -> Weights:
    """Take the head off a network; what it was, nothing where there is none."""
    head = getattr(network, "head", None)
    if not isinstance(head, Head):
        return {}
    del network.head
    return copied(head.state_dict())


def apart(weights: Mapping[str, torch.Tensor]) -> tuple[Weights, Weights]:
    """Weights of a network with a head: of the network alone, and of the head."""
    head = {name: tensor for name, tensor in weights.items() if name.startswith(PREFIX)}
    rest = {name: tensor for name, tensor in weights.items() if name not in head}
    return rest, {name.removeprefix(PREFIX): tensor for name, tensor in head.items()}
