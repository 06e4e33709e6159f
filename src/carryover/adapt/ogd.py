"""Orthogonal gradient descent (OGD): updates that leave what earlier tasks compute as it is.

For each stored image of an earlier task the basis holds the gradient of its logits. An update u
orthogonal to it changes those logits by ``<gradient, u> = 0`` to first order. Two scopes:

- ``joint``: gradients are vectors over all trained tensors together, as in the paper;
- ``tensor``: each tensor is held apart, orthogonal to its own part of every gradient. It protects
  more and leaves less: a tensor with fewer numbers than stored gradients stands still.

The released code's own version is in `ogd_published`.

Source: Farajtabar et al. 2020, algorithm 1; the logits differentiated, section 4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from carryover.errors import DataError, pick
from carryover.files import write_bytes
from carryover.models import weights

Scope = Literal["joint", "tensor"]
Scalars = Callable[[Float[Tensor, "1 c"], Int[Tensor, " 1"]], Float[Tensor, " j"]]

SEEN = 1e-5  # a gradient whose part outside the basis is this small, relatively, adds nothing
COLUMNS = 2**16  # converted at a time
ORTHONORMAL = 1e-3  # largest entry of |BB' - 1| in a file


class Basis:
    """Orthonormal directions in the space of a model's trained tensors; none at the start.

    Args:
        scope: ``joint`` or ``tensor``, see the module.
        directions: per tensor one row a direction; of ``joint`` the rows of all tensors together
            are orthonormal, of ``tensor`` those of each.
    """

    def __init__(self, scope: Scope, directions: Mapping[str, Float[Tensor, "k _"]] | None = None):
        self.scope = scope
        self.directions = dict(directions or {})

    def __len__(self) -> int:
        """Directions; of ``tensor`` over all tensors."""
        counts = [len(rows) for rows in self.directions.values()]
        return max(counts, default=0) if self.scope == "joint" else sum(counts)

    def project(self, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The part of a gradient or update, a tensor a name, that is orthogonal to the basis.

        Raises:
            DataError: other tensors than the basis is of.
        """
        if not len(self):
            return dict(vectors)
        self._check({name: vector.numel() for name, vector in vectors.items()})
        start = {name: vector.flatten() for name, vector in vectors.items()}
        rest = self._outside(start)
        if bool((self._lengths(rest) < self._lengths(start) / 2).any()):
            rest = self._outside(rest)  # little is left: what rounding left in it counts
        return {name: rest[name].view_as(vector) for name, vector in vectors.items()}

    def _outside(self, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        inside = {name: self.directions[name] @ part for name, part in vectors.items()}
        if self.scope == "joint":
            inside = dict.fromkeys(vectors, torch.stack([*inside.values()]).sum(dim=0))
        return {name: part - inside[name] @ self.directions[name] for name, part in vectors.items()}

    def _lengths(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """Of each vector that the scope knows."""
        lengths = torch.stack([part.norm() for part in vectors.values()])
        return lengths.norm() if self.scope == "joint" else lengths

    def add_(
        self,
        gradients: Mapping[str, Float[Tensor, "n _"]],
        *,
        energy: float = 1.0,
        rank: int | None = None,
    ) -> None:
        """Extend the basis by gradients, one a row, and make the union orthonormal again.

        Args:
            energy: the fewest directions are added with which the basis holds this share of the
                gradients' squared length; 1 keeps every direction.
            rank: directions added at most; None is no limit.
        Raises:
            DataError: other tensors than the basis is of, or numbers of rows that differ in a
                ``joint`` basis.
        """
        if self.directions:
            self._check({name: rows.shape[1] for name, rows in gradients.items()})
        if self.scope == "tensor":
            for name, rows in gradients.items():
                held = self.directions.get(name, rows[:0])
                self.directions[name] = union(held, rows, energy, rank)
            return
        if len({len(rows) for rows in gradients.values()}) > 1:
            raise DataError(
                "ogd: expected the same number of gradients of every tensor for a joint basis, got "
                f"{sorted({len(rows) for rows in gradients.values()})}; take scope tensor"
            )
        earlier = torch.cat([self.directions.get(n, rows[:0]) for n, rows in gradients.items()], 1)
        together = union(earlier, torch.cat([*gradients.values()], 1), energy, rank)
        widths = [rows.shape[1] for rows in gradients.values()]
        parts = [part.contiguous() for part in together.split(widths, dim=1)]
        self.directions = dict(zip(gradients, parts, strict=True))

    def _check(self, sizes: Mapping[str, int]) -> None:
        own = {name: rows.shape[1] for name, rows in self.directions.items()}
        if own != sizes:
            odd = sorted(own.items() ^ sizes.items())
            raise DataError(
                f"ogd: expected the {len(own)} trained tensors that the basis is of, got "
                f"{len(sizes)} that differ in {weights.first(dict(odd))}; train the same tensors "
                "in every task"
            )


def union(
    basis: Float[Tensor, "k v"], gradients: Float[Tensor, "n v"], energy: float, rank: int | None
) -> Float[Tensor, "k2 v"]:
    """An orthonormal basis of `basis` and of the gradients' main directions outside it."""
    length = gradients.double().norm()
    outside = gradients
    for _ in range(2):
        outside = outside - outside @ basis.T @ basis
    squares, axes = torch.linalg.eigh(_inner(outside))
    squares, axes = squares.flip(0).clamp(min=0), axes.flip(1)  # largest first
    new = int((squares.sqrt() > SEEN * length).sum())
    if energy < 1.0:
        held = 1 - squares.flip(0).cumsum(0).flip(0) / length.square()  # before each axis
        new = min(new, int((held < energy).sum()))
    new = min(new, basis.shape[1] - len(basis), new if rank is None else rank)
    if not new:
        return basis
    weighed = axes[:, :new] / squares[:new].sqrt()
    rows = torch.cat([basis, weighed.T.to(outside.dtype) @ outside])
    for _ in range(2):  # each time as Gram and Schmidt would, in the order of the rows
        lower = torch.linalg.cholesky(_inner(rows)).to(rows.dtype)
        rows = torch.linalg.solve_triangular(lower, rows, upper=False)
    return rows


def _inner(rows: Float[Tensor, "n v"]) -> Float[Tensor, "n n"]:
    """Inner products of rows in float64, so that the small ones count, some columns at a time."""
    products = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for part in rows.split(COLUMNS, dim=1):
        products += part.double() @ part.double().T
    return products


class Projection:
    """OGD's two seams in the training loop (`train.fit`).

    As a gradient edit alone it is the paper's, exact for plain gradient descent. AdamW scales each
    entry, remembers and decays, which leads out of the orthogonal space again: the call after the
    step therefore replaces what the optimiser did by its orthogonal part.

    Args:
        parameters: those that train, by the basis' names.
    """

    def __init__(self, basis: Basis, parameters: Mapping[str, nn.Parameter]) -> None:
        self.basis = basis
        self.parameters = parameters
        self._before: dict[str, Tensor] = {}

    @torch.no_grad()
    def edit_gradient(self) -> None:
        """Project the gradients in place, and remember where the step starts."""
        if not len(self.basis):
            return
        self._before = {name: p.detach().clone() for name, p in self.parameters.items()}
        found = {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in self.parameters.items()
        }
        for name, gradient in self.basis.project(found).items():
            self.parameters[name].grad = gradient

    @torch.no_grad()
    def after_step(self, updates: int) -> None:
        """Project the step that the optimiser made."""
        if not len(self.basis):
            return
        made = {name: p - self._before[name] for name, p in self.parameters.items()}
        for name, step in self.basis.project(made).items():
            self.parameters[name].copy_(self._before[name] + step)


def gradients_of(
    what: str,
    logits: Callable[[Shaped[Tensor, "b ..."]], Float[Tensor, "b c"]],
    parameters: Mapping[str, nn.Parameter],
    inputs: Shaped[Tensor, "n ..."],
    labels: Int[Tensor, " n"],
) -> dict[str, Float[Tensor, "j _"]]:
    """What a basis is made of: gradients by tensor, flat, image after image.

    Args:
        what: is differentiated, a name in `SCALARS`.
        logits: of a batch, by the network as it stands.
    Raises:
        ConfigError: an unknown name.
    """
    scalars = pick(SCALARS, what, "ogd.gradients")
    rows: list[tuple[Tensor, ...]] = []
    for x, label in zip(inputs.split(1), labels.split(1), strict=True):
        values = scalars(logits(x), label)
        rows += [
            torch.autograd.grad(
                value, [*parameters.values()], retain_graph=True, materialize_grads=True
            )
            for value in values
        ]
    return {
        name: torch.stack([row[i].flatten() for row in rows]) for i, name in enumerate(parameters)
    }


def save(path: Path, basis: Basis) -> None:
    """Write a basis as ``.safetensors``: one tensor a name, the scope beside them."""
    write_directions(path, basis.directions, basis.scope)


def load(path: Path, device: torch.device | str = "cpu") -> Basis:
    """A basis that `save` wrote.

    Raises:
        DataError: no such file, a damaged one, or directions that are not orthonormal.
    """
    state = weights.read(path)
    scope = json.loads(state.metadata.get("basis", "{}")).get("scope")
    if scope not in ("joint", "tensor"):
        raise DataError(
            f"{path}: expected a basis with scope joint or tensor, got {scope}; `convert` makes "
            "one of raw gradients"
        )
    groups = state.tensors.values()
    for rows in [torch.cat([*groups], 1)] if scope == "joint" and groups else groups:
        off = (rows @ rows.T - torch.eye(len(rows))).abs()
        if off.numel() and float(off.max()) > ORTHONORMAL:
            raise DataError(
                f"{path}: expected orthonormal directions, got some off by {float(off.max()):.2g}; "
                "make the basis again"
            )
    return Basis(cast(Scope, scope), {name: t.to(device) for name, t in state.tensors.items()})


def write_directions(path: Path, directions: Mapping[str, Tensor], scope: str) -> None:
    """The file format of `save`, for directions of any kind."""
    from safetensors.torch import save as to_bytes

    tensors = {name: rows.detach().cpu().contiguous() for name, rows in directions.items()}
    write_bytes(path, to_bytes(tensors, {"basis": json.dumps({"scope": scope})}))


def _label(logits: Float[Tensor, "1 c"], label: Int[Tensor, " 1"]) -> Float[Tensor, " j"]:
    return logits[0, label]


def _mean(logits: Float[Tensor, "1 c"], label: Int[Tensor, " 1"]) -> Float[Tensor, " j"]:
    return logits.mean(dim=1)


def _all(logits: Float[Tensor, "1 c"], label: Int[Tensor, " 1"]) -> Float[Tensor, " j"]:
    return logits[0]


def _loss(logits: Float[Tensor, "1 c"], label: Int[Tensor, " 1"]) -> Float[Tensor, " j"]:
    return nn.functional.cross_entropy(logits, label)[None]


SCALARS: dict[str, Scalars] = {
    "label-logit": _label,  # the paper's OGD-GTL
    "mean-logit": _mean,  # OGD-AVE
    "all-logits": _all,  # OGD-ALL: as many directions an image as classes
    "loss": _loss,  # what the released code differentiates, an image at a time
}
