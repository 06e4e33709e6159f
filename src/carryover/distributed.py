"""Several processes that train one network together, each on its share of every batch.

`torchrun` starts them and ends all when one dies. Every process draws the same batches, passes
its own share of the images and sentences through the network, and gets the embeddings of all
others, so that each computes the loss of the whole batch: losses that compare all images with one
another or over a sentence are those of one process, up to rounding. Gradients flow back into the
own share alone and are averaged before the step.

The leader, rank 0, says what is trained and writes all files; the others follow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from carryover.errors import ConfigError
from carryover.shares import share

PATIENCE = timedelta(days=1)  # of a process for the others; a dead one ends them at once
BUCKET = 2**24  # numbers averaged at a time, which bounds the memory for copies

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; by default it is alone.

    Alone, everything here hands back what it was given.

    Attributes:
        rank: from 0, the leader's.
        count: of processes.
        device: of this one; what is exchanged lies there.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process says what is done and writes files."""
        return self.rank == 0

    def mine(self, rows: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "m ..."]:
        """This process's share of some rows; the last is repeated to give all equally many."""
        if self.count == 1 or not len(rows):
            return rows
        size = -(-len(rows) // self.count)
        index = torch.arange(self.rank * size, (self.rank + 1) * size)
        return rows[index.clamp(max=len(rows) - 1).to(rows.device)]

    def gathered(self, part: Float[Tensor, "m d"], n: int) -> Float[Tensor, "n d"]:
        """The rows that all processes made of their shares of n rows, in their order.

        Gradients come back as sums over processes once `average_` has divided them.
        """
        if self.count == 1 or not n:
            return part
        whole: Tensor = _Gathered.apply(part, self.rank, self.count)  # type: ignore[no-untyped-call]
        return whole[:n]

    @torch.no_grad()
    def average_(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their mean over processes; a missing one counts as zero."""
        if self.count == 1:
            return
        waiting: list[Tensor] = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            waiting.append(parameter.grad)
            if sum(grad.numel() for grad in waiting) >= BUCKET:
                self._average_(waiting)
                waiting = []
        self._average_(waiting)

    def _average_(self, grads: list[Tensor]) -> None:
        if not grads:
            return
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        flat /= self.count
        for grad, mean in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(mean.view_as(grad))

    @torch.no_grad()
    def align_(self, tensors: Iterable[Tensor]) -> None:
        """Set tensors to the leader's: on GPUs equal sums may differ in their last bit."""
        if self.count > 1:
            for tensor in tensors:
                whole = tensor.to(self.device).contiguous()
                dist.broadcast(whole, 0)
                tensor.copy_(whole)

    def told(self, value: Any = None) -> Any:
        """The leader's value, plain as JSON has it, in every process."""
        if self.count == 1:
            return value
        text = json.dumps(value).encode() if self.leads else b""
        size = torch.tensor([len(text)], device=self.device)
        dist.broadcast(size, 0)
        content = torch.zeros(int(size), dtype=torch.uint8, device=self.device)
        if self.leads:
            content.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        dist.broadcast(content, 0)
        return json.loads(bytes(content.cpu().tolist()))

    def leader_first(self, work: Callable[[], T]) -> T:
        """What `work` gives, in the leader before the others: they find what it left in files."""
        if self.leads:
            found = work()
            self.told()
            return found
        self.told()
        return work()

    def leave(self) -> None:
        """Stop working together; the leader goes on alone."""
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


ALONE = Ranks()


class _Gathered(torch.autograd.Function):
    """Rows of all processes. Each computes the same loss of them, so the gradient of the own rows
    is taken as it is, times the number of processes that the mean of gradients divides by."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, rank: int, count: int) -> Tensor:
        ctx.rank, ctx.count = rank, count
        parts = [torch.empty_like(part) for _ in range(count)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.count * grads[0].chunk(ctx.count)[ctx.rank], None, None


def joined(device: torch.device) -> Ranks:
    """This process among those that torchrun started, each with a GPU of its own or on a CPU.

    Once a process: torchrun's store does not let the same ones meet again after `Ranks.leave`.

    Raises:
        ConfigError: more processes than GPUs, or a launch that deals out whole trainings.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        return Ranks(device=device)
    if share() is not None:
        raise ConfigError(
            "torchrun: expected `carryover run`, got `carryover launch`, which deals out whole "
            "trainings; leave one of the two out"
        )
    on_gpu = device.type == "cuda"
    if on_gpu:
        place, there = dist.get_node_local_rank(0), torch.cuda.device_count()
        if place >= there:
            raise ConfigError(
                f"torchrun: expected at most {there} processes a machine, one for each GPU, got "
                f"process {place + 1}; lower --nproc-per-node, or use --device cpu"
            )
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    return Ranks(dist.get_rank(), dist.get_world_size(), device)
