"""OGD as the released code has it, faults and all, and its files made into an orthonormal basis.

Where it differs from `ogd`:

- it stores a few gradients of the whole training loss, not those of logits;
- of weights of attention, MLP and layer norms alone: biases, embeddings and the projections into
  the common space are not protected;
- a task's directions are cut twice (at most 20, then 97 % of the energy of those) and put behind
  the earlier tasks' without being made orthogonal to them, so that what two tasks share is
  subtracted twice;
- what is projected and handed to the optimiser is the gradient stored last, at every step until the
  next one is stored;
- AdamW's own step is not projected.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carryover.adapt.ogd import Basis, Scope, save, write_directions
from carryover.errors import ConfigError, DataError
from carryover.models import weights

DIRECTIONS = 20  # computed of a tensor's stored gradients, at most
POWER_ITERATIONS = 4  # of the random SVD
ENERGY = 0.97  # of the squared length of those
FEWEST = 2  # gradients that make directions
SCOPE = "published"  # in files


def protected(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that it protects: of attention, linear layers and layer norms."""
    names = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            names.add(f"{name}.in_proj_weight")
        elif isinstance(module, nn.Linear | nn.LayerNorm):
            names.add(f"{name}.weight")
    return {name: p for name, p in model.named_parameters() if name in names}


class StaleProjection:
    """Its gradient edit for the training loop (`train.fit`).

    Args:
        parameters: see `protected`; those without a gradient are passed over.
        directions: of earlier tasks, as `extended` gives them; nothing in the first task.
        samples: gradients to store, one every ``total // samples`` updates and one at the first.
            (The released loop made an update more than asked, so that it stored one more.)
        total: updates of the task.
    Raises:
        ConfigError: more samples than updates.
        DataError: directions of tensors that are none of the parameters.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        directions: Mapping[str, Float[Tensor, "k _"]],
        *,
        samples: int,
        total: int,
    ) -> None:
        if not 1 <= samples <= total:
            raise ConfigError(
                f"ogd.samples: expected 1 to {total}, the updates of a task, got {samples}; take "
                "fewer samples or more updates"
            )
        strange = [name for name in directions if name not in parameters]
        if strange:
            raise DataError(
                f"ogd: expected directions of the {len(parameters)} protected weights, got "
                f"{len(strange)} of others ({weights.first(strange)}); take those of this network"
            )
        self.parameters = parameters
        self.directions = {name: d.to(parameters[name].device) for name, d in directions.items()}
        self.every = total // samples
        self.updates = 0
        self._stored: dict[str, list[Tensor]] = {}
        self._projected: dict[str, Tensor] = {}

    @torch.no_grad()
    def edit_gradient(self) -> None:
        """Store the gradients where it is time, and replace all by the projection of the last."""
        due = self.updates % self.every == 0
        self.updates += 1
        for name, parameter in self.parameters.items():
            if due and parameter.grad is not None:
                self._stored.setdefault(name, []).append(
                    parameter.grad.flatten().to("cpu", copy=True)
                )
                if name in self.directions:
                    self._projected[name] = project(self.directions[name], parameter.grad)
            if parameter.grad is not None and name in self._projected:
                parameter.grad.copy_(self._projected[name])

    def gradients(self) -> dict[str, Float[Tensor, "n _"]]:
        """What was stored, on the CPU."""
        return {name: torch.stack(rows) for name, rows in self._stored.items()}

    def kept(self) -> dict[str, Any]:
        """What it has stored so far, as tensors and plain values."""
        return {
            "updates": self.updates,
            "stored": self._stored,
            "projected": self._projected,
        }

    def restore_(self, kept: dict[str, Any]) -> None:
        """Go on from what was kept."""
        self.updates = kept["updates"]
        self._stored = {name: [g.cpu() for g in rows] for name, rows in kept["stored"].items()}
        self._projected = kept["projected"]


def project(directions: Float[Tensor, "k _"], gradient: Tensor) -> Tensor:
    """``g - B'(B g)``: orthogonal to B only where its rows are orthonormal."""
    flat = gradient.flatten()
    return (flat - (directions @ flat) @ directions).view_as(gradient)


def extended(
    directions: Mapping[str, Float[Tensor, "k _"]],
    gradients: Mapping[str, Float[Tensor, "n _"]],
    generator: torch.Generator,
) -> dict[str, Float[Tensor, "k2 _"]]:
    """Earlier tasks' directions, followed by those of a task's stored gradients.

    Args:
        generator: of the random SVD.
    """
    found = dict(directions)
    for name, rows in gradients.items():
        if len(rows) >= FEWEST:
            new = _main_directions(rows, generator)
            found[name] = torch.cat([found[name], new]) if name in found else new
    return found


def _main_directions(
    rows: Float[Tensor, "n v"], generator: torch.Generator
) -> Float[Tensor, "k v"]:
    count = min(*rows.shape, DIRECTIONS)
    with torch.random.fork_rng(devices=[]):  # torch's random SVD takes no generator
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        _, size, columns = torch.svd_lowrank(rows, count, niter=POWER_ITERATIONS)
    share = size.square().cumsum(0) / size.square().sum()
    return columns.T[: int((share < ENERGY).sum()) + 1].contiguous()


def save_directions(path: Path, directions: Mapping[str, Float[Tensor, "k _"]]) -> None:
    """Write directions as ``.safetensors``; `ogd.load` refuses them, not being orthonormal."""
    write_directions(path, directions, SCOPE)


def load_directions(path: Path) -> dict[str, Float[Tensor, "k _"]]:
    """What `save_directions` wrote.

    Raises:
        DataError: no such file, or a damaged one.
    """
    return weights.read(path).tensors


def convert(
    source: Path, target: Path, scope: Scope, *, energy: float = 1.0, rank: int | None = None
) -> None:
    """Write an orthonormal basis (`ogd.save`) of the released code's ``grad_NAME.pth``.

    Args:
        source: raw gradients or directions by name: tensors ``[n, …]``, or lists of ``n``.
        scope, energy, rank: as for `ogd.Basis`.
    Raises:
        DataError: a file that holds anything else, or cannot be read.
    """
    basis = Basis(scope)
    basis.add_(read_gradients(source), energy=energy, rank=rank)
    save(target, basis)


def read_gradients(path: Path) -> dict[str, Float[Tensor, "n _"]]:
    """Stored gradients by name, one a row; nothing in the file is run.

    Raises:
        DataError: as for `convert`.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a PyTorch file of gradients, found none; mend the path")
    content = weights.unpickled(path)
    entries = content.items() if isinstance(content, Mapping) else []
    found = {name: _rows(value) for name, value in entries}
    flawed = [str(name) for name, rows in found.items() if rows is None]
    if flawed or not found:
        raise DataError(
            f"{path}: expected gradients by name, as tensors or lists of tensors of one size, got "
            f"{weights.first(flawed) if flawed else type(content).__name__}; write it anew"
        )
    return {
        str(name).removeprefix(weights.PARALLEL): rows
        for name, rows in found.items()
        if rows is not None
    }


def _rows(value: object) -> Tensor | None:
    """A tensor's or list's gradients, one a row; None for anything else."""
    entries = list(value) if isinstance(value, list | tuple) else value
    if isinstance(entries, list):
        if not entries or not all(isinstance(x, Tensor) for x in entries):
            return None
        if len({x.numel() for x in entries}) > 1:
            return None
        return torch.stack([x.flatten().float() for x in entries])
    if not isinstance(entries, Tensor) or entries.ndim == 0:
        return None
    return entries.float().flatten(1) if entries.ndim > 1 else entries.float()[None]
