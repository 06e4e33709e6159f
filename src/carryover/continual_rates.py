"""Which learning rates the continual study tries, and which one counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from carryover.config.continual import Continual
from carryover.continual_training import Cell

Place = tuple[str, str, str, str]  # arm, stream, protocol, strategy
Known = dict[float, tuple[float, float, float]]  # by rate: accuracy, likelihood, rate


def to_try(study: Continual, item: str, done: Mapping[str, Any]) -> list[Cell]:
    """Trainings of the first seed to choose rates by, as far as those done say; none: all chosen.

    An arm's list is walked: its middle and the two beside it, then those beside the best so far,
    until the best has both neighbours or ends the list.
    """
    found = []
    for place in _places(study, item):
        lrs, known = study.arms[place[0]].lrs, _known(study, place, done)
        best = max(known, key=known.__getitem__) if known else lrs[len(lrs) // 2]
        middle = lrs.index(best)
        around = lrs[max(middle - 1, 0) : middle + 2]
        found += [Cell(*place, 0, lr) for lr in around if lr not in known]
    return found


def candidates(study: Continual, item: str) -> list[Cell]:
    """All trainings that may be tried, in a fixed order."""
    return [
        Cell(*place, 0, lr) for place in _places(study, item) for lr in study.arms[place[0]].lrs
    ]


def chosen(study: Continual, item: str, done: Mapping[str, Any]) -> dict[Place, float]:
    """The rate of each training, whatever the seed: the best of those tried, or the only one."""
    rates = {}
    for name, arm in study.arms_of(item).items():
        for cell in arm.cells():
            known = _known(study, (name, *cell), done)
            rates[name, *cell] = max(known, key=known.__getitem__) if known else arm.lrs[0]
    return rates


def _places(study: Continual, item: str) -> Iterator[Place]:
    """Trainings that have several rates."""
    for name, arm in study.arms_of(item).items():
        if len(arm.lrs) > 1:
            yield from ((name, *cell) for cell in arm.cells())


def _known(study: Continual, place: Place, done: Mapping[str, Any]) -> Known:
    lrs = study.arms[place[0]].lrs
    tried = {lr: Cell(*place, 0, lr).name for lr in lrs}
    return {lr: (*done[name], lr) for lr, name in tried.items() if name in done}
