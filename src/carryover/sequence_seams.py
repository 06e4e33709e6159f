"""What acts beside the loss in the sequence study's training: averages of weights, and OGD."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carryover.adapt import averaging, distill, ogd, ogd_published
from carryover.adapt.averaging import Weights, copied
from carryover.adapt.lora import merge_
from carryover.config.sequence import Sequence
from carryover.sequence_carried import Place
from carryover.sequence_methods import Method
from carryover.sequence_start import Start

if TYPE_CHECKING:
    from carryover.config.params import Params


class Average:
    """Averaging of what trains, while it trains.

    Args:
        student: what trains, changed in place by a pull.
    """

    def __init__(
        self, study: Sequence, method: Method, student: dict[str, nn.Parameter], start: Start
    ) -> None:
        self.student = student
        self.mean: averaging.RunningMean | averaging.ExponentialMean | None = None
        self.pull: Callable[[int], None] | None = None
        self.anchor: Weights = {}
        how, before = study.average, copied(student)
        if method.averaging == "running-mean":
            self.mean = averaging.RunningMean(before, how.every)
        elif method.averaging == "running-mean-wise":
            anchor = copied(student)
            self.mean = averaging.RunningMean(before, how.every, anchor, how.mean_mix)
        elif method.averaging == "ema":
            self.mean = averaging.ExponentialMean(before, how.ema_decay)
        elif method.averaging == "pull":
            if how.pull_anchor == "zero-shot":
                whole = start.encoder.model.state_dict()
                before = {name: whole.get(name, tensor) for name, tensor in before.items()}
            self.anchor, moving = before, how.pull_anchor == "moving"

            def pull(step: int) -> None:
                if step % how.every == 0:
                    averaging.pull_(student, self.anchor, how.pull_mix, moving=moving)

            self.pull = pull

    def after_step(self, step: int) -> None:
        """Take the student in; `step` counts from 0."""
        if self.mean is not None:
            self.mean.observe_(step, self.student)
        if self.pull is not None:
            self.pull(step)

    def student_weights(self, network: nn.Module) -> Weights:
        """All weights of the student where a mean will replace it, else nothing."""
        if self.mean is None:
            return {}
        dense = copy.deepcopy(network)
        if any("lora" in name for name in self.student):
            merge_(dense)
        return copied(dense.state_dict())

    @torch.no_grad()
    def hand_over_(self, network: nn.Module) -> None:
        """Put the mean in the student's place in a network, the student's own or a copy of it."""
        if self.mean is not None:
            parameters = dict(network.named_parameters())
            for name in self.student:
                parameters[name].copy_(self.mean.mean[name])

    def kept(self) -> dict[str, Any]:
        """What changes while it trains; see `sequence_resume.Keeps`."""
        mean = {} if self.mean is None else vars(self.mean) | {"anchor": None}
        return {"mean": mean, "anchor": self.anchor}

    def restore_(self, kept: dict[str, Any]) -> None:
        """Be again what was kept."""
        self.anchor = kept["anchor"]
        if self.mean is not None:
            self.mean.mean = kept["mean"]["mean"]
            if isinstance(self.mean, averaging.RunningMean):
                self.mean.count = kept["mean"]["count"]


class Projected:
    """OGD in one task, by the paper or as released; nothing for methods without.

    Args:
        directions: of earlier tasks.
    """

    def __init__(
        self,
        study: Sequence,
        method: Method,
        network: nn.Module,
        student: Mapping[str, nn.Parameter],
        directions: Mapping[str, Tensor],
        steps: int,
    ) -> None:
        self.network, self.directions = network, dict(directions)
        self.paper: ogd.Projection | None = None
        self.stale: ogd_published.StaleProjection | None = None
        if method.ogd and study.ogd.version == "paper":
            basis = ogd.Basis(study.ogd.scope, directions)
            self.paper = ogd.Projection(basis, student)
        elif method.ogd:
            protected = {n: p for n, p in ogd_published.protected(network).items() if n in student}
            samples = min(study.ogd.samples, steps)
            self.stale = ogd_published.StaleProjection(
                protected, directions, samples=samples, total=steps
            )

    def edit_gradient(self) -> None:
        """Between backward and step."""
        for each in (self.paper, self.stale):
            if each is not None:
                each.edit_gradient()

    def after_step(self, updates: int) -> None:
        """After the step."""
        if self.paper is not None:
            self.paper.after_step(updates)

    def kept(self) -> dict[str, Any]:
        """What changes while it trains; see `sequence_resume.Keeps`."""
        return {} if self.stale is None else self.stale.kept()

    def restore_(self, kept: dict[str, Any]) -> None:
        """Be again what was kept."""
        if self.stale is not None:
            self.stale.restore_(kept)

    def directions_after(
        self, params: Params, start: Start, place: Place, student: Mapping[str, nn.Parameter]
    ) -> dict[str, Tensor]:
        """Those of earlier tasks and of this one, which the network has just learned."""
        study, random = params.sequence, place.drawn(params, "ogd")
        if self.stale is not None:
            gradients = self.stale.gradients()
            return ogd_published.extended(self.directions, gradients, random)
        if self.paper is None:
            return self.directions
        rows = torch.randperm(len(place.examples), generator=random)[: study.ogd.images]

        def logits(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
            z = distill.unit_images(self.network, x)
            W = distill.unit_texts(self.network, place.task.prompt_ids)
            return start.encoder.logit_scale * z @ W.T

        x, labels = place.examples.images(rows), place.examples.labels[rows.to(start.device)]
        gradients = ogd.gradients_of(study.ogd.gradients, logits, student, x, labels)
        self.paper.basis.add_(gradients, energy=study.ogd.energy)
        return self.paper.basis.directions
