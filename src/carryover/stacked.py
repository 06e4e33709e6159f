"""Many small networks of one shape trained at once, each as `train.fit` trains one.

Every network has its own images, labels, generator and early stopping; a network that has stopped
leaves the stack, so it costs nothing more. Convolutions run as one grouped convolution, linear
layers as one batched product. This pays where a single network cannot fill the device: on a GPU,
and on a CPU for heads alone (``benchmarks/cuts.py`` measures it).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from carryover.errors import KitError
from carryover.train import Budget, Outcome, in_precision

EVALUATION_VALUES = 2**26  # numbers of one stacked activation while validating: 256 MB in float32


def fit_stacked(
    networks: Sequence[nn.Sequential],
    inputs: Float[Tensor, "r n ..."],
    labels: Int[Tensor, "r n"],
    validation: tuple[Float[Tensor, "v ..."], Int[Tensor, " v"]],
    lr: float,
    budget: Budget,
    generators: Sequence[torch.Generator],
    precision: str = "float32",
) -> list[Outcome]:
    """Train r networks in place with Adam (default betas, as ``torch.optim.Adam(lr=lr)``).

    Args:
        networks: of one architecture: convolutions, average pooling, activations without
            weights, flatten, linear layers. Parameters without gradient stay as they are.
        inputs, labels: the training rows of each network.
        validation: images and labels that all networks are validated on; accuracy is the score.
        generators: one a network; draws its shuffles, one permutation an epoch.
        precision: ``float32`` or ``bfloat16`` (weights stay float32).
    Returns:
        One outcome a network, equal to that of `train.fit` up to the rounding of sums.
    Raises:
        KitError: a loss that is not finite.
    """
    states = [_State() for _ in networks]
    alive = list(range(len(networks)))
    stack = Stack(networks)
    trained = [p for p in stack.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=lr, fused=True)
    device, n, updates = inputs.device, labels.shape[1], 0
    finished = False
    for epoch in range(budget.epochs):
        orders = torch.stack([torch.randperm(n, generator=generators[i]) for i in alive])
        orders = orders.to(device)
        for start in range(0, n, budget.batch_size):
            batch = orders[:, start : start + budget.batch_size]
            which = torch.tensor(alive, device=device)[:, None]
            optimiser.zero_grad(set_to_none=True)
            with in_precision(device, precision):
                losses = stack.losses(inputs[which, batch], labels[which, batch])
            _expect_finite(losses, updates, lr)
            losses.sum().backward()
            optimiser.step()
            updates += 1
            for i in alive:
                states[i].updates = updates
            finished = updates == budget.max_updates
            epoch_ends = start + budget.batch_size >= n
            every = budget.evaluate_every
            due = updates % every == 0 if every else epoch_ends
            due = due or finished or (epoch_ends and epoch == budget.epochs - 1)
            if due and any(budget.can_matter(states[i].waited, epoch) for i in alive):
                with in_precision(device, precision):
                    right = stack.correct(*validation).tolist()
                for place, network in enumerate(alive):
                    if not budget.can_matter(states[network].waited, epoch):
                        continue
                    _remember_(states[network], right[place] / len(validation[1]), stack, place)
                    states[network].stopped = bool(budget.patience) and (
                        states[network].waited >= budget.patience
                    )
                stay = [place for place, i in enumerate(alive) if not states[i].stopped]
                if len(stay) < len(alive):
                    for place, network in enumerate(alive):
                        if states[network].stopped:
                            stack.write_(networks[network], place)
                    alive, orders = [alive[place] for place in stay], orders[stay]
                    if alive:
                        stack, optimiser = _smaller(stack, optimiser, stay, lr)
            if finished or not alive:
                break
        if finished or not alive:
            break
    for place, network in enumerate(alive):
        stack.write_(networks[network], place)
    for trained_one, state in zip(networks, states, strict=True):
        if state.weights is not None and (state.stopped or budget.restore_best == "always"):
            trained_one.load_state_dict(state.weights)
    return [Outcome(state.updates, state.best, state.stopped) for state in states]


class Stack(nn.Module):
    """Networks of one architecture as one module; their weights lie stacked along dimension 0."""

    def __init__(self, networks: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.layers = dict(networks[0].named_children())
        self.members = len(networks)
        states = [dict(network.named_parameters()) for network in networks]
        for name, parameter in states[0].items():
            stacked = torch.stack([state[name].detach() for state in states])
            self.register_parameter(
                name.replace(".", "/"), nn.Parameter(stacked, parameter.requires_grad)
            )

    def weights(self, layer: str) -> tuple[Float[Tensor, "r ..."], Float[Tensor, "r o"]]:
        """Stacked weight and bias of a layer."""
        return self.get_parameter(f"{layer}/weight"), self.get_parameter(f"{layer}/bias")

    def forward(self, x: Tensor, shared: bool) -> Float[Tensor, "r n c"]:
        """Logits of every network.

        Args:
            x: ``[n, ...]`` where all networks see the same rows (`shared`), else ``[r, n, ...]``.
        """
        r = self.members
        if not shared and x.dim() == 5:  # members become groups of channels
            x = x.transpose(0, 1).flatten(1, 2)
        for name, layer in self.layers.items():
            if isinstance(layer, nn.Conv2d):
                weight, bias = (w.flatten(0, 1) for w in self.weights(name))
                x = F.conv2d(x, weight, bias, padding=layer.padding, groups=1 if shared else r)
                shared = False
            elif isinstance(layer, nn.Flatten):
                spatial = x.dim() == 4
                if shared or not spatial:
                    x = x.flatten(1 if shared else 2)
                else:
                    x = x.reshape(len(x), r, -1).transpose(0, 1)
            elif isinstance(layer, nn.Linear):
                weight, bias = self.weights(name)
                x = torch.einsum("nd,rod->rno" if shared else "rnd,rod->rno", x, weight)
                x = x + bias[:, None]
                shared = False
            else:
                x = layer(x)
        return x

    def losses(
        self, inputs: Float[Tensor, "r n ..."], labels: Int[Tensor, "r n"]
    ) -> Float[Tensor, " r"]:
        """Mean cross-entropy of every network on its own rows, in nats."""
        logits = self(inputs, shared=False)
        values = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return values.view(labels.shape).mean(1)

    def correct(
        self, inputs: Float[Tensor, "v ..."], labels: Int[Tensor, " v"]
    ) -> Int[Tensor, " r"]:
        """Images that every network has right, all on the same images."""
        channels = [p.shape[1] for p in self.parameters() if p.dim() == 5] or [1]
        widest = max(channels) * self.members * inputs[0, 0].numel()
        rows = max(1, EVALUATION_VALUES // widest)
        with torch.no_grad():
            right = [
                (self(x, shared=True).argmax(2) == y).sum(1)
                for x, y in zip(inputs.split(rows), labels.split(rows), strict=True)
            ]
            return torch.stack(right).sum(0)

    def write_(self, network: nn.Sequential, member: int) -> None:
        """Copy a member's weights into a network of its own."""
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(self.get_parameter(name.replace(".", "/"))[member])

    def state(self, member: int) -> dict[str, Tensor]:
        """A member's weights under the names of its own network."""
        return {
            name.replace("/", "."): parameter.detach()[member].clone()
            for name, parameter in self.named_parameters()
        }


@dataclass
class _State:
    """What is known of one network's training."""

    updates: int = 0
    best: float = 0.0
    waited: int = 0
    stopped: bool = False
    weights: dict[str, Tensor] | None = field(default=None, repr=False)


def _remember_(state: _State, score: float, stack: Stack, member: int) -> None:
    state.waited += 1
    if score > state.best:
        state.best, state.waited = score, 0
        state.weights = stack.state(member)


def _smaller(
    stack: Stack, optimiser: torch.optim.Adam, stay: list[int], lr: float
) -> tuple[Stack, torch.optim.Adam]:
    """The stack and its optimiser without the members that have stopped."""
    fewer = copy.copy(stack)
    fewer._parameters = {
        name: nn.Parameter(p.detach()[stay], p.requires_grad)
        for name, p in stack.named_parameters()
    }
    fewer.members = len(stay)
    pairs = zip(stack.parameters(), fewer.parameters(), strict=True)
    trained = [(old, new) for old, new in pairs if new.requires_grad]
    smaller = torch.optim.Adam([new for _, new in trained], lr=lr, fused=True)
    for old, new in trained:
        kept = optimiser.state[old]
        smaller.state[new] = {
            key: value[stay] if value.dim() else value for key, value in kept.items()
        }
    return fewer, smaller


def _expect_finite(losses: Float[Tensor, " r"], updates: int, lr: float) -> None:
    value = float(losses.detach().sum())
    if not math.isfinite(value):
        raise KitError(
            f"training: expected a finite loss, got {value} at update {updates + 1} with lr "
            f"{lr:g}; lower the lr"
        )
