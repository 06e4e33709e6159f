"""Accuracy on source and target along the line from a start to an adapted model."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from carryover.adapt.averaging import mixed
from carryover.checkpoints import Checkpoint
from carryover.measure.survival import barrier
from carryover.survival_looks import (
    Number,
    Seen,
    answers,
    by_neighbours,
    by_probe,
    embedded,
    share,
    taught,
)
from carryover.survival_start import Model, Origin, built, start_state, state_of

if TYPE_CHECKING:
    from carryover.config.survival import Survival


def line(
    origin: Origin, study: Survival, found: Checkpoint, seen: Seen, start: Seen
) -> list[Number]:
    """Accuracy on source and target along w0 + a (w - w0), and the barriers.

    Counters and other tensors that hold no floats are the adapted model's; running statistics of
    batch norms are mixed as weights are. Of a cut network the line is between what both have.
    """
    before = state_of(origin, found)
    after = {**before, **found.encoder_tensors}
    first = {n: before[n] if _fits(before, n, t) else t for n, t in after.items()}
    begins = start_state(origin, found)
    same = begins.keys() == first.keys() and all(torch.equal(begins[n], first[n]) for n in first)
    curves: dict[tuple[str, str, str], list[tuple[float, float, int]]] = {}
    for mix in study.mixes:
        if mix == 1 or not found.encoder_tensors:
            now = seen
        elif mix == 0 and same:
            now = start
        else:
            now = glance(origin, built(origin, found, mixed(first, after, mix)))
        for place, (value, n) in at_once(origin, study, now, seen).items():
            curves.setdefault(place, []).append((mix, value, n))
    numbers: list[Number] = []
    for (role, by, dataset), curve in curves.items():
        at = {"role": role, "by": by, "dataset": dataset}
        numbers += [("mixed_accuracy", at | {"mix": mix}, value, n) for mix, value, n in curve]
        height = barrier([(mix, value) for mix, value, _ in curve])
        numbers.append(("barrier", at, height, curve[0][2]))
    return numbers


def _fits(start: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
    return name in start and start[name].shape == tensor.shape


def glance(origin: Origin, model: Model) -> Seen:
    """What the line takes: answers to the source, and embeddings of what is taught."""
    own = answers(origin, model)
    parts = {role: part for role, part in taught(origin).items() if role == "target" or not own}
    return Seen(
        own,
        {role: embedded(model.image, part.train) for role, part in parts.items() if part.train},
        {role: embedded(model.image, part.test) for role, part in parts.items()},
        {},
        {},
    )


def at_once(
    origin: Origin, study: Survival, now: Seen, end: Seen
) -> dict[tuple[str, str, str], tuple[float, int]]:
    """Accuracy by role, way to answer and set; several sets of a role are taken together.

    Args:
        end: of the adapted model: what it cannot answer untaught is asked for nowhere on the line.
    """
    found: dict[tuple[str, str, str], tuple[float, int]] = {}
    asked = [part for part in origin.own if part.dataset in end.own]
    if asked:
        shares = [share(now.own[p.dataset].argmax(1), p.test.labels) for p in asked]
        name = ", ".join(part.dataset for part in asked)
        n = sum(len(part.test) for part in asked)
        found["source", "own", name] = (fmean(shares), n)
    elif origin.source is not None:
        part = origin.source
        z, other = now.train["source"], now.test["source"]
        right = share(by_neighbours(z, part, other, study.neighbours), part.test.labels)
        found["source", "neighbours", part.dataset] = (right, len(part.test))
    part = origin.target
    predicted = by_probe(now.train["target"], part, now.test["target"], study.l2)
    found["target", "probe", part.dataset] = (share(predicted, part.test.labels), len(part.test))
    return found
