"""Averages of a model's weights: over the steps of a task, with an anchor, between two models.

Weights are state dicts of tensors. Tensors that hold no floats (counters of batch norms) are not
averaged; the newer model's stand. `mix` is the tuned model's part: 0 is the start, 1 the tuned
model.

Sources: Wortsman et al. 2022 (WiSE-FT), equation 1, for `mixed`; Zheng et al. 2023 (ZSCL), section
3.3, for `RunningMean`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carryover.errors import ConfigError, DataError

Weights = dict[str, Tensor]


def mixed(start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], mix: float) -> Weights:
    """(1 - mix) start + mix tuned, as new tensors; bit for bit `start` at 0 and `tuned` at 1.

    Raises:
        ConfigError: `mix` is outside 0..1.
        DataError: the two do not have the same tensors.
    """
    _check_mix(mix)
    _check_same(start, tuned)
    if mix in (0, 1):
        return copied(tuned if mix else start)
    return {
        name: torch.lerp(start[name], new, mix) if new.is_floating_point() else new.clone()
        for name, new in tuned.items()
    }


def mixing_curve(
    start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], points: int
) -> Iterator[tuple[float, Weights]]:
    """So many values of mix (at least 2), evenly from 0 to 1, and the weights there.

    One set of weights is made at a time.
    """
    for i in range(points):
        mix = i / (points - 1)
        yield mix, mixed(start, tuned, mix)


def average(models: Sequence[Mapping[str, Tensor]]) -> Weights:
    """The plain mean of several models' weights; of one, itself.

    Raises:
        DataError: there is none, or they do not have the same tensors.
    """
    if not models:
        raise DataError("average: expected at least one model, got none; name their files")
    for other in models[1:]:
        _check_same(models[0], other)
    return {
        name: torch.stack([model[name].double() for model in models]).mean(dim=0).to(last.dtype)
        if last.is_floating_point()
        else last.clone()
        for name, last in models[-1].items()
    }


@dataclass
class RunningMean:
    """The mean of the start and of the models after every so many steps.

    mean <- (n mean + student) / (n + 1), n = 1, 2, ...: all count alike. With an anchor each of
    these is followed by mean <- (1 - mix) anchor + mix mean.

    Args:
        mean: starts as the model before the task, changed in place: give a copy (`copied`).
        every: steps from one model to the next (published: 100).
        anchor: pulls the mean (published, where used: the loaded model, mix 0.98).
        count: models in the mean.
    """

    mean: Weights
    every: int
    anchor: Mapping[str, Tensor] | None = None
    mix: float = 1.0
    count: int = 1

    def observe_(self, step: int, student: Mapping[str, Tensor]) -> None:
        """Take the student in if it is its turn.

        Args:
            step: updates done before this one: the first step is 0 and counts. Over steps 0 to
                1000 with `every` 100 the mean is of 12 models; over 1000 steps, of 11.
            student: as it is after the step.
        """
        if step % self.every:
            return
        _move_(self.mean, student, 1 / (self.count + 1))
        self.count += 1
        if self.anchor is not None:
            pull_(self.mean, self.anchor, self.mix)


@dataclass
class ExponentialMean:
    """Exponential moving average: mean <- decay mean + (1 - decay) student, every so many steps.

    Args:
        mean: starts as the model before the task, changed in place: give a copy (`copied`).
    """

    mean: Weights
    decay: float
    every: int = 1

    def observe_(self, step: int, student: Mapping[str, Tensor]) -> None:
        """Take the student in if it is its turn; the first step is 0 and counts."""
        if step % self.every == 0:
            _move_(self.mean, student, 1 - self.decay)


@torch.no_grad()
def pull_(
    student: Mapping[str, Tensor],
    anchor: Mapping[str, Tensor],
    mix: float,
    *,
    moving: bool = False,
) -> None:
    """Draw a student towards an anchor in place: student <- (1 - mix) anchor + mix student.

    The original's ``moving_avg`` (mix 0.999 every 100 steps). No average of the student: the
    anchor does not follow it, or, `moving`, becomes the student as it was before the pull.

    Args:
        student: the model's own tensors, as of ``state_dict()``.
        anchor: changed if `moving`.
    Raises:
        ConfigError: `mix` is outside 0..1.
        DataError: the two do not have the same tensors.
    """
    _check_mix(mix)
    before = copied(student) if moving else {}
    _move_(student, anchor, 1 - mix, counters=False)
    for name, tensor in before.items():
        anchor[name].copy_(tensor)


def copied(weights: Mapping[str, Tensor]) -> Weights:
    """The same values in new memory."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


@torch.no_grad()
def _move_(
    weights: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    part: float,
    *,
    counters: bool = True,
) -> None:
    """Go a part of the way to a target in place; with `counters` take what holds no floats."""
    _check_same(weights, target)
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            tensor.lerp_(target[name].detach(), part)
        elif counters:
            tensor.copy_(target[name])


def _check_mix(mix: float) -> None:
    if not 0 <= mix <= 1:
        raise ConfigError(f"mix: expected a number in 0..1, got {mix:g}; 0 is the start")


def _check_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    odd = sorted(a.keys() ^ b.keys()) or [n for n in a if a[n].shape != b[n].shape]
    if odd:
        raise DataError(
            f"averaging: expected models with the same tensors, got a difference in {odd[0]} "
            f"({len(odd)} in all); average models of one architecture"
        )
