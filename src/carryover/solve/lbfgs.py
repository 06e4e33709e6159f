"""L-BFGS for many smooth convex problems at once, each with its own steps and its own stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

MEMORY = 10  # steps remembered, as in SciPy
ENOUGH = 1e-4  # share of the decrease promised by the slope that a step must bring (Armijo)
TRIES = 20  # lengths of a step tried before a problem stops where it is

Parameters = Float[Tensor, "k c d"]
Chosen = Int64[Tensor, " k"]  # numbers of the problems that something is asked about


@dataclass(frozen=True)
class Scaling:
    """An approximate inverse of the second derivatives: g -> rotation (factors * rotation' g)."""

    rotation: Float[Tensor, "k c c"]
    factors: Parameters

    def __call__(self, gradient: Parameters) -> Parameters:
        return self.rotation @ (self.factors * (self.rotation.mT @ gradient))

    def of(self, kept: Int64[Tensor, " left"]) -> Scaling:
        """Of some problems alone."""
        return Scaling(self.rotation[kept], self.factors[kept])


@dataclass(frozen=True)
class Point:
    """What the problems are at some parameters."""

    value: Float64[Tensor, " k"]
    gradient: Parameters
    scaling: Scaling | None = None  # where it was asked for

    def of(self, kept: Int64[Tensor, " left"]) -> Point:
        """Of some problems alone."""
        scaling = self.scaling and self.scaling.of(kept)
        return Point(self.value[kept], self.gradient[kept], scaling)


@runtime_checkable
class Objective(Protocol):
    """Problems of one shape."""

    def at(self, x: Parameters, chosen: Chosen, scaled: bool) -> Point:
        """The chosen problems at `x`, with the scaling if it is wanted."""

    def largest(self, gradient: Parameters) -> Float[Tensor, " k"]:
        """The size of a gradient that is held against the tolerance."""


@dataclass(frozen=True)
class Minimum:
    """Where each problem stopped."""

    x: Parameters
    value: Float64[Tensor, " k"]
    largest: Float[Tensor, " k"]  # of the gradient; above the tolerance where it did not converge
    steps: Int64[Tensor, " k"]


def minimise(objective: Objective, start: Parameters, tolerance: float, max_steps: int) -> Minimum:
    """Minimise all problems; one that is done costs nothing more.

    A step is the quasi-Newton step of the scaled problem, shortened until the value falls. The
    scaling is made anew at 0, 1, 2, 4, 8 ... steps.

    Source: Nocedal and Wright 2006, algorithms 7.4 and 3.1.
    """
    left = torch.arange(len(start), device=start.device)
    x, history = start.clone(), _History([], [], [])
    now = objective.at(x, left, scaled=True)
    stuck = torch.zeros_like(left, dtype=torch.bool)
    found = Minimum(x.clone(), now.value.clone(), torch.zeros_like(x[:, 0, 0]), left.clone())
    for step in range(max_steps + 1):
        largest = objective.largest(now.gradient)
        found.x[left], found.value[left] = x, now.value
        found.largest[left], found.steps[left] = largest, step
        kept = ((largest > tolerance) & ~stuck).nonzero()[:, 0]
        if step == max_steps or not len(kept):
            break
        if len(kept) < len(left):
            left, x, now, history = left[kept], x[kept], now.of(kept), history.of(kept)
        assert now.scaling is not None
        direction = history.direction(now.gradient, now.scaling)
        renewed = (step & (step + 1)) == 0  # the next step's number is a power of two
        length, after = _searched(objective, x, direction, now, left, renewed)
        stuck = length == 0
        moved = x + length[:, None, None] * direction
        history.add_(moved - x, after.gradient - now.gradient)
        x, now = moved, Point(after.value, after.gradient, after.scaling or now.scaling)
    return found


def _searched(
    objective: Objective,
    x: Parameters,
    direction: Parameters,
    now: Point,
    left: Chosen,
    scaled: bool,
) -> tuple[Float[Tensor, " k"], Point]:
    """Lengths of the step, 0 where none was found, and what the problems are after it."""
    slope = _dot(direction, now.gradient).double()
    slack = 10 * torch.finfo(x.dtype).eps * now.value.abs()  # what rounding hides
    length = torch.ones_like(x[:, 0, 0])
    after, waiting = now, torch.arange(len(x), device=x.device)
    for attempt in range(TRIES):
        tried = x[waiting] + length[waiting, None, None] * direction[waiting]
        point = objective.at(tried, left[waiting], scaled)
        if attempt == 0:
            after = point
        else:
            _replace_(after, waiting, point)
        size, fall = length[waiting].double(), slope[waiting]
        change = point.value - now.value[waiting]
        bad = ~(change <= ENOUGH * size * fall + slack[waiting])
        waiting, size, fall, change = waiting[bad], size[bad], fall[bad], change[bad]
        if not len(waiting):
            return length, after
        best = -fall * size**2 / (2 * (change - fall * size))  # of the parabola through both
        best = torch.maximum(torch.minimum(best.nan_to_num(0.0), size / 2), size / 10)
        length[waiting] = best.to(length)
    length[waiting] = 0
    _replace_(after, waiting, now.of(waiting))
    return length, after


def _replace_(point: Point, places: Int64[Tensor, " some"], by: Point) -> None:
    point.value[places], point.gradient[places] = by.value, by.gradient
    if point.scaling and by.scaling:
        point.scaling.rotation[places] = by.scaling.rotation
        point.scaling.factors[places] = by.scaling.factors


@dataclass(frozen=True)
class _History:
    """The last steps, how the gradient changed over each, and 1 over the product of both."""

    steps: list[Parameters]
    changes: list[Parameters]
    weights: list[Float[Tensor, " k"]]

    def of(self, kept: Int64[Tensor, " left"]) -> _History:
        return _History(*([each[kept] for each in of] for of in self._lists()))

    def _lists(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return self.steps, self.changes, self.weights

    def add_(self, step: Parameters, change: Parameters) -> None:
        product = _dot(step, change)
        weight = torch.where(product > 0, 1 / product, 0.0)  # 0: the pair is of no use
        for kept, new in zip(self._lists(), (step, change, weight), strict=True):
            kept.append(new)
            del kept[:-MEMORY]

    def direction(self, gradient: Parameters, scaling: Scaling) -> Parameters:
        """Minus the approximate inverse of the second derivatives times the gradient."""
        pairs = list(zip(*self._lists(), strict=True))
        found, shares = gradient, []
        for step, change, weight in reversed(pairs):
            shares.append(weight * _dot(step, found))
            found = found - shares[-1][:, None, None] * change
        found = scaling(found)
        for (step, change, weight), share in zip(pairs, reversed(shares), strict=True):
            found = found + (share - weight * _dot(change, found))[:, None, None] * step
        return -found


def _dot(a: Parameters, b: Parameters) -> Float[Tensor, " k"]:
    return torch.linalg.vecdot(a.flatten(1), b.flatten(1))
