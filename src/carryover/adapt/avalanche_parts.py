"""Plugins that Avalanche's strategies are called with; see ``adapt/avalanche.py``.

A plugin is any object with Avalanche's callbacks (``before_…``, ``after_…``), so none is a subclass
and this module too is imported without Avalanche.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover.data.streams import Stream
from carryover.errors import Diverged


class Silent:
    """A logger that logs nothing; Avalanche warns where it is given none."""

    def log_metrics(self, values: Sequence[Any]) -> None:
        """Take no notice."""


class OwnClasses(nn.Module):
    """Cross-entropy; where the stream is masked, over the classes of each row's own task alone.

    That is the loss of a network with a head a task: a replayed row counts by the head of its own
    task, and gradients, so EWC's importances too, leave the other heads alone. A masked stream has
    each class in one task, so that the label says which task a row is of.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream

    def forward(self, logits: Float[Tensor, "b c"], labels: Int64[Tensor, " b"]) -> Tensor:
        if self.stream.masked:
            owners = {
                label: i for i, task in enumerate(self.stream.tasks) for label in task.classes
            }
            tasks = torch.tensor([owners[label] for label in labels.tolist()], device=labels.device)
            logits = own_logits(self.stream, logits, tasks)
        return nn.functional.cross_entropy(logits, labels)


def own_logits(
    stream: Stream, logits: Float[Tensor, "b c"], tasks: Int64[Tensor, " b"]
) -> Float[Tensor, "b c"]:
    """Logits with -inf for classes outside each row's task; as they are for a plain stream."""
    if not stream.masked:
        return logits
    closed = torch.ones(len(stream.tasks), logits.shape[1], dtype=torch.bool)
    for i, task in enumerate(stream.tasks):
        closed[i, list(task.classes)] = False
    return logits.masked_fill(closed.to(tasks.device)[tasks], -math.inf)


class Watch:
    """Counts what training shows the network, keeps test logits, stops at a loss that is no number.

    Where the stream is masked, it masks the logits of a tested row's other tasks before Avalanche's
    metrics read them, and counts training rows as right by the classes of their own task.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.start(-1, joint=False)

    def start(self, experience: int, joint: bool) -> None:
        """Begin an experience; in joint training every row is current."""
        self.experience, self.joint = experience, joint
        self.epochs: list[tuple[float, float]] = []
        self.updates = 0
        self.last = math.nan
        self._sums = _Sums()
        self._forget()

    def before_training_epoch(self, strategy: Any, **_: Any) -> None:
        self._sums = _Sums()

    def after_backward(self, strategy: Any, **_: Any) -> None:
        """Refuse a loss that is not finite before it reaches the weights."""
        loss = strategy.loss.item()
        if not math.isfinite(loss):
            raise Diverged(
                f"training: expected a finite loss, got {loss} at update {self.updates + 1} of "
                f"experience {self.experience} with lr {strategy.optimizer.param_groups[0]['lr']:g}"
                f" (last finite loss {self.last:g}); lower the lr"
            )
        self.last = loss

    def after_training_iteration(self, strategy: Any, **_: Any) -> None:
        self.updates += 1
        labels, experiences = strategy.mbatch[1], strategy.mbatch[2]
        logits = own_logits(self.stream, strategy.mb_output.detach(), experiences)
        right = logits.argmax(dim=1) == labels
        current = torch.ones_like(right) if self.joint else experiences == self.experience
        self._sums.add(self.last, right, current)

    def after_training_epoch(self, strategy: Any, **_: Any) -> None:
        means = self._sums.means()
        self.epochs.append((means["loss"], means["train_accuracy"]))

    def trained(self) -> dict[str, float]:
        """Running means of the last epoch; empty before any."""
        return self._sums.means() if self.epochs else {}

    def before_eval(self, strategy: Any, **_: Any) -> None:
        self._forget()

    def _forget(self) -> None:
        self._logits: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._tasks: list[Tensor] = []

    def after_eval_forward(self, strategy: Any, **_: Any) -> None:
        rows, _, tasks, _ = strategy.mbatch
        strategy.mb_output = own_logits(self.stream, strategy.mb_output, tasks)
        self._logits.append(strategy.mb_output.float().cpu())
        self._rows.append(rows.cpu())
        self._tasks.append(tasks.cpu())

    def tested(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, rows and tasks of the test of this experience; empty where there was none."""
        if not self._rows:
            none = torch.zeros(0, dtype=torch.int64)
            return torch.zeros(0, 0), none, none
        return torch.cat(self._logits), torch.cat(self._rows), torch.cat(self._tasks)


class _Sums:
    """Running sums of an epoch."""

    def __init__(self) -> None:
        self.loss, self.rows = 0.0, 0
        self.counts: Any = 0  # rows that are earlier and wrong, earlier and right, current and …

    def add(self, loss: float, right: Tensor, current: Tensor) -> None:
        self.loss += loss * len(right)
        self.rows += len(right)
        self.counts = self.counts + torch.bincount(2 * current + right, minlength=4)

    def means(self) -> dict[str, float]:
        old_wrong, old_right, wrong, right = self.counts.tolist()
        old, now = old_wrong + old_right, wrong + right
        found = {
            "train_accuracy": (right + old_right) / self.rows,
            "train_accuracy_current": right / now,
            "loss": self.loss / self.rows,
        }
        return found | ({"train_accuracy_replayed": old_right / old} if old else {})


class Tests:
    """Avalanche's evaluation plugin, called at tests alone.

    In training it copies the experience at every callback of every step, which costs as much as the
    step of a small head; what it would count there `Watch` counts.
    """

    def __init__(self, plugin: Any) -> None:
        self.plugin = plugin
        self.get_last_metrics = plugin.get_last_metrics
        self.before_training_exp = plugin.before_training_exp
        self.before_eval = plugin.before_eval
        self.before_eval_exp = plugin.before_eval_exp
        self.after_eval_iteration = plugin.after_eval_iteration
        self.after_eval_exp = plugin.after_eval_exp
        self.after_eval = plugin.after_eval


class Memory:
    """Avalanche's replay plugin with its experience-balanced buffer.

    From the second experience on a step joins a batch of current rows with one from the memory, of
    up to the same size. The plugin's own way to fill its buffer is deprecated and warns; the buffer
    is filled here as Avalanche advises.
    """

    def __init__(self, size: int) -> None:
        from avalanche.training.plugins import ReplayPlugin

        self.plugin = ReplayPlugin(mem_size=size)

    @property
    def buffer(self) -> Any:
        """Groups of rows, one an experience."""
        return self.plugin.storage_policy

    def before_training_exp(self, strategy: Any, **options: Any) -> None:
        self.plugin.before_training_exp(strategy, **options)

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        self.buffer.post_adapt(strategy, strategy.experience)


class Heads:
    """Learning without forgetting with a head a task, as Avalanche does it in its own modules.

    The loss gains, for each earlier task, weight times the divergence of the network from the one
    before over that task's classes, mean over the rows of a step. Avalanche's plugin does so for
    its multi-task modules alone; of any other network it distils the first task's classes only.
    """

    def __init__(self, weight: float, temperature: float) -> None:
        self.weight, self.temperature = weight, temperature
        self.teacher: nn.Module | None = None
        self.earlier: list[list[int]] = []  # classes of each task

    def before_backward(self, strategy: Any, **_: Any) -> None:
        if self.teacher is None:
            return
        with torch.no_grad():
            before = self.teacher(strategy.mb_x) / self.temperature
        now = strategy.mb_output / self.temperature
        for classes in self.earlier:
            kept, target = now[:, classes].log_softmax(1), before[:, classes].softmax(1)
            divergence = nn.functional.kl_div(kept, target, reduction="batchmean")
            strategy.loss += self.weight * divergence

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        self.teacher = copy.deepcopy(strategy.model)
        self.earlier.append(sorted(strategy.experience.classes_in_this_experience))


class Summed:
    """The published hand-written consolidation: importance is the square of the summed gradient.

    After an experience the gradients of all its batches are added up and squared, where EWC adds up
    squares. The penalty is weight * the sum over earlier experiences and all parameters of
    importance * (value - old value)^2.
    """

    def __init__(self, weight: float, criterion: nn.Module) -> None:
        self.weight, self.criterion = weight, criterion
        self.earlier: list[dict[str, tuple[Tensor, Tensor]]] = []  # importance and value by name

    def before_backward(self, strategy: Any, **_: Any) -> None:
        if not self.earlier:
            return
        values = dict(strategy.model.named_parameters())
        penalty = torch.zeros((), device=strategy.device)
        for parts in self.earlier:
            for name, (importance, old) in parts.items():
                penalty = penalty + (importance * (values[name] - old).square()).sum()
        strategy.loss += self.weight * penalty

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        data = strategy.experience.dataset
        strategy.model.eval()
        strategy.optimizer.zero_grad()
        loader = torch.utils.data.DataLoader(
            data, batch_size=strategy.train_mb_size, collate_fn=data.collate_fn
        )
        for rows, labels, _, _ in loader:
            logits = strategy.model(rows.to(strategy.device))
            self.criterion(logits, labels.to(strategy.device)).backward()
        found = {}
        for name, value in strategy.model.named_parameters():
            gradient = torch.zeros_like(value) if value.grad is None else value.grad
            found[name] = (gradient.detach().square(), value.detach().clone())
        self.earlier.append(found)
        strategy.optimizer.zero_grad()
        strategy.model.train()
