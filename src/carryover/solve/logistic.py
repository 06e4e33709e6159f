"""Multinomial logistic probes: many subsets of the rows and many penalties at once.

A subset's features are centred and turned into their principal axes, in which the penalty keeps its
form and the problem is nearly a diagonal one. All penalties of a subset go through one product of
matrices a step. Every fourth penalty is solved first; the others start from what their solved
neighbours give by interpolation in the logarithm of the penalty, and need a few steps or none.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from carryover.errors import DataError
from carryover.solve.lbfgs import MEMORY, Minimum, minimise
from carryover.solve.softmax import Softmax, principal_axes

STRIDES = (4, 2, 1)  # of the penalties solved together, in turn
KNOTS = 4  # solved penalties that a start is interpolated from
LIGHTEST, HEAVIEST = 1e-30, 1e30  # penalties that float32 holds
HELD = 1 << 28  # numbers that the steps remembered may take (1 GB)


@dataclass(frozen=True)
class Probes:
    """A probe for each subset and penalty.

    Attributes:
        objective: mean cross-entropy plus penalty, see `logistic`.
        gradient: largest entry of the objective's gradient; above the tolerance where a fit was
            stopped before it converged.
    """

    class_weights: Float[Tensor, "subsets penalties c d"]
    biases: Float[Tensor, "subsets penalties c"]
    objective: Float64[Tensor, "subsets penalties"]
    gradient: Float[Tensor, "subsets penalties"]
    steps: Int64[Tensor, "subsets penalties"]


def logistic(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    rows: Sequence[Int64[Tensor, " _"]],
    l2: Sequence[float],
    classes: int,
    tolerance: float,
    max_steps: int,
) -> Probes:
    """The probe of every subset of the rows with every penalty.

    Minimises mean over the m rows of -log softmax(W x + b)[label], plus l2 / (2 m) |W|^2; the
    biases are free. That is scikit-learn's ``LogisticRegression(C=1 / l2)``: its objective is this
    one times m / l2. Where a subset has two classes l2 counts twice, because scikit-learn then
    penalises the difference of their weights alone. A class that a subset lacks is never
    predicted: weights 0, bias -inf.

    Args:
        features: float32 or float64; the result has its type and device. Losses are summed in
            float64.
        rows: row numbers of each subset, at least two classes in each.
        l2: penalties, 1e-30 to 1e30, in any order.
        tolerance: greatest entry of the gradient of the objective above at which a fit stops
            (scikit-learn's ``tol``).
        max_steps: after which a fit stops anyway; see ``Probes.gradient``.
    Raises:
        DataError: features of another type or not finite, a label outside 0..classes-1, a subset
            of one class, or a penalty out of range.
    Source: openai/CLIP issue 64 (one L-BFGS on full batches in place of many scikit-learn fits).
    """
    refuse("logistic probe", features, labels, l2, classes)
    _expect_two_classes(labels, rows)
    shape = len(rows), len(l2), classes
    found = Probes(
        class_weights=features.new_zeros(*shape, features.shape[1]),
        biases=features.new_full(shape, -math.inf),
        objective=features.new_zeros(shape[:2], dtype=torch.float64),
        gradient=features.new_zeros(shape[:2]),
        steps=labels.new_zeros(shape[:2]),
    )
    penalties, place = torch.tensor(l2, dtype=torch.float64).unique(return_inverse=True)
    place = place.to(features.device)
    for i, chosen in enumerate(rows):
        present, y = labels[chosen].unique(return_inverse=True)
        x = features[chosen]
        middle = x.mean(0)
        axes, spread = principal_axes(x - middle)
        doubled = 2 if len(present) == 2 else 1
        problem = Softmax(
            torch.cat([(x - middle) @ axes, x.new_ones(len(x), 1)], 1),
            y,
            axes,
            # the biases are an axis that has no penalty
            torch.cat([spread / len(x), spread.new_ones(1)]),
            (doubled / len(x) * penalties).to(features),
        )
        fit = _path(problem, len(present), tolerance, max_steps)
        weights = fit.x[..., :-1] @ axes.T
        found.class_weights[i, :, present] = weights[place]
        found.biases[i, :, present] = (fit.x[..., -1] - weights @ middle)[place]
        found.objective[i], found.gradient[i] = fit.value[place], fit.largest[place]
        found.steps[i] = fit.steps[place]
    return found


def refuse(
    solver: str,
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    l2: Sequence[float],
    classes: int,
) -> None:
    """Refuse what no linear probe can be fitted to; `solver` names it in messages.

    Raises:
        DataError: features of another type than float32 and float64 or not finite, a label outside
            0..classes-1, or a penalty outside `LIGHTEST`..`HEAVIEST`.
    """
    if features.dtype not in (torch.float32, torch.float64):
        raise DataError(
            f"{solver}: expected features of float32 or float64, got {features.dtype}; give "
            "features.float()"
        )
    # nan and infinity show in the least or greatest, which take a thirtieth of a sum in float64
    if len(labels) and not bool(torch.stack(features.aminmax()).isfinite().all()):
        raise DataError(
            f"{solver}: expected finite features, got some that are not; look for weights or "
            "images that are not finite"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(
            f"{solver}: expected labels of 0..{classes - 1}, got {int(labels.min())} to "
            f"{int(labels.max())}; give the number of classes of the whole set"
        )
    if not l2 or not all(LIGHTEST <= penalty <= HEAVIEST for penalty in l2):
        raise DataError(
            f"{solver}: expected penalties above 0, got {list(l2)}; give {LIGHTEST:g} to "
            f"{HEAVIEST:g}"
        )


def _expect_two_classes(labels: Int64[Tensor, " n"], rows: Sequence[Int64[Tensor, " _"]]) -> None:
    for chosen in rows:
        found = len(labels[chosen].unique())
        if found < 2:
            raise DataError(
                f"logistic probe: expected two classes or more in a subset, got {found} in one of "
                f"{len(chosen)} rows; draw larger or class-balanced subsets"
            )


def _path(problem: Softmax, classes: int, tolerance: float, max_steps: int) -> Minimum:
    """All penalties of a subset, ascending."""
    count, axes = len(problem.penalties), problem.z.shape[1]
    at_once = max(1, HELD // (2 * MEMORY * classes * axes))
    places = problem.penalties.double().log().tolist()
    start = problem.z.new_zeros(classes, axes)
    start[:, -1] = problem.labels.bincount(minlength=classes).to(start).div(len(problem.z)).log()
    found = Minimum(
        start.repeat(count, 1, 1),
        start.new_zeros(count, dtype=torch.float64),
        start.new_zeros(count),
        problem.labels.new_zeros(count),
    )
    solved: list[int] = []
    for stride in STRIDES:
        wanted = [i for i in range(count) if i % stride == 0 or i == count - 1]
        wanted = [i for i in wanted if i not in solved]
        for some in range(0, len(wanted), at_once):
            chosen = wanted[some : some + at_once]
            at = torch.tensor(chosen, device=start.device)
            part = dataclasses.replace(problem, penalties=problem.penalties[at])
            if solved:
                weights = _interpolation([places[i] for i in chosen], [places[i] for i in solved])
                near = torch.tensor(weights).to(start) @ found.x[solved].flatten(1)
                first = near.view(-1, classes, axes)
            else:
                first = start.repeat(len(chosen), 1, 1)
            fit = minimise(part, first, tolerance, max_steps)
            found.x[at], found.value[at] = fit.x, fit.value
            found.largest[at], found.steps[at] = fit.largest, fit.steps
        solved = sorted(solved + wanted)
    return found


def _interpolation(wanted: list[float], known: list[float]) -> list[list[float]]:
    """Weights (wanted by known) of the polynomial through the nearest few known places."""
    rows = []
    for place in wanted:
        nearest = sorted(known, key=lambda other: abs(other - place))[:KNOTS]
        row = [0.0] * len(known)
        for knot in nearest:
            others = [other for other in nearest if other != knot]
            row[known.index(knot)] = math.prod((place - o) / (knot - o) for o in others)
        rows.append(row)
    return rows
