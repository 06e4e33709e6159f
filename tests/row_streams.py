"""A small store of rows, streams over it and a way to train on them, for tests."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from carryover.adapt.avalanche import (
    AfterTask,
    Settings,
    run_stream,
)
from carryover.data import streams
from carryover.data.streams import Stream

CLASSES, WIDTH, EACH = 4, 8, 12
LABELS = torch.arange(CLASSES).repeat(EACH)
DRAWN = torch.Generator().manual_seed(0)
CENTRES = torch.randn(CLASSES, WIDTH, generator=DRAWN)
STORE = CENTRES[LABELS] + 0.6 * torch.randn(len(LABELS), WIDTH, generator=DRAWN)
TRAIN, TEST = torch.arange(32), torch.arange(32, 48)
CPU = torch.device("cpu")
PLAIN = Settings(
    strategy="naive",
    batch_size=4,
    eval_batch_size=5,
    epochs=2,
    memory=6,
    ewc_lambda=0.4,
    ewc_decay=0.5,
    lwf_alpha=1.0,
    lwf_temperature=2.0,
    optimiser_state="kept",
)


def look(rows: Tensor) -> Tensor:
    return STORE[rows]


def classes(labels: bool = False) -> Stream:
    """Two tasks of two classes."""
    return streams.class_tasks(
        *(TRAIN, LABELS[TRAIN], TEST, LABELS[TEST], 2), seed=0, shuffle=False, task_labels=labels
    )


def chunks(experiences: int = 3) -> Stream:
    return streams.iid_chunks(
        *(TRAIN, LABELS[TRAIN], TEST, LABELS[TEST], experiences), seed=0, shuffle=False
    )


def network() -> nn.Module:
    """An encoder with dropout and batch norm, and a head."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(WIDTH, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.ReLU())
        return nn.Sequential(encoder, nn.Linear(6, CLASSES))


def go(
    stream: Stream,
    net: nn.Module | None = None,
    lr: float = 0.1,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> list[AfterTask]:
    net = network() if net is None else net
    trained = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr, momentum=0.9)
    settings = dataclasses.replace(PLAIN, **changes)
    return run_stream(
        net, look, LABELS, stream, optimiser, settings, seed=seed, device=CPU, **(options or {})
    )


def same(a: AfterTask, b: AfterTask, *, metrics: bool = True) -> bool:
    """Bit for bit; not a number is the same as not a number."""
    return (
        a.experience == b.experience
        and torch.equal(a.logits, b.logits)
        and torch.equal(a.rows, b.rows)
        and torch.equal(a.tasks, b.tasks)
        and (a.train, a.epochs, a.updates) == (b.train, b.epochs, b.updates)
        and (not metrics or str(a.avalanche) == str(b.avalanche))
    )


def equal(a: list[AfterTask], b: list[AfterTask]) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def accuracy(after: AfterTask, task: int | None = None) -> float:
    here = after.tasks >= 0 if task is None else after.tasks == task
    right = after.logits.argmax(dim=1) == LABELS[after.rows]
    return float(right[here].double().mean())
