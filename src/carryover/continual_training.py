"""One training of the continual study: what trains, from where, and on which stream."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from carryover import run
from carryover.adapt.avalanche import AfterTask, Settings, Stopped, run_stream
from carryover.adapt.children import freeze_unreached_, left_by
from carryover.adapt.freeze import freeze_
from carryover.config.continual import Continual
from carryover.config.continual_arms import NO_HEAD, OWN_HEAD, Arm
from carryover.continual_pools import Pool, stream_of
from carryover.continual_start import Inputs, Start
from carryover.data.streams import Stream
from carryover.errors import ConfigError, DataError
from carryover.models.depth import depth_of
from carryover.models.encoders import Encoder
from carryover.models.features import Feature, read
from carryover.models.heads import Adapted, mlp_head

if TYPE_CHECKING:
    from carryover.config.params import Params

Along = Callable[[nn.Module, int], Mapping[str, Any]]  # the network and the last experience

SEEDS = 2**31 - 1  # of what draws with a seed of its own


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        lr: the rate tried on held-out training images; 0 for the training that is reported.
    """

    arm: str
    stream: str
    protocol: str
    strategy: str
    seed: int
    lr: float = 0.0

    @property
    def name(self) -> str:
        """Its name in the scratch files."""
        tried = f"/{self.lr:g}" if self.lr else ""
        return f"{self.arm}/{self.stream}/{self.protocol}/{self.strategy}/{self.seed}{tried}"

    @property
    def slug(self) -> str:
        """Its name as that of a file."""
        return self.name.replace("/", "_")


@dataclass(frozen=True, eq=False)
class Trained:
    """A network after a stream.

    Attributes:
        after: what was seen after each experience that was whole.
        diverged: whether a loss, or an output at its end, was not finite in the experience after
            those.
        stream: as it was trained on; with a rate to try its test rows are held-out training rows.
    """

    network: nn.Module
    after: list[AfterTask]
    diverged: bool
    stream: Stream


def train(
    params: Params, start: Start, cell: Cell, lr: float, folder: Path, along: Along | None = None
) -> Trained:
    """Train a cell's network on its stream.

    Seeds, batches, heads and streams are the same for all strategies and rates of a repeat.

    Args:
        folder: for the file that a killed training goes on from.
        along: called after every experience; what it returns is kept with it.
    Raises:
        ConfigError: an arm that cannot be had with this encoder.
        DataError: images that cannot be made into this stream.
    """
    study = params.continual
    arm = study.arms[cell.arm]
    pool = start.pool(study, cell.stream, cell.protocol)
    inputs = start.inputs_of(study, arm, cell.stream, cell.protocol)
    stream = stream_for(params, start, cell)
    network = build(params, start, arm, pool, inputs, cell.seed).to(start.device)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser: torch.optim.Optimizer = (
        torch.optim.Adam(trained, lr)
        if arm.optimiser == "adam"
        else torch.optim.SGD(trained, lr, momentum=arm.momentum, fused=True)
    )
    snapshot = folder / f"{cell.slug}.pt"
    try:
        after = run_stream(
            network,
            inputs,
            pool.labels.to(start.device),
            stream,
            optimiser,
            settings(study, arm, cell.strategy),
            seed=drawn(params.seed, f"continual/batches/{cell.seed}"),
            device=start.device,
            snapshot=snapshot,
            after_task=None if along is None else lambda experience: along(network, experience),
            before=not cell.lr,
            test_each=not cell.lr,
        )
        diverged = False
    except Stopped as stopped:
        after, diverged = stopped.after, True
    while after and _broken(after[-1]):
        after, diverged = after[:-1], True
    snapshot.unlink(missing_ok=True)
    return Trained(network, after, diverged, stream)


def _broken(seen: AfterTask) -> bool:
    """Whether the last update left weights that name no class; a masked class has -inf."""
    return len(seen.logits) > 0 and not bool(seen.logits.amax(1).isfinite().all())


def stream_for(params: Params, start: Start, cell: Cell) -> Stream:
    """A cell's experiences, made once for all strategies and rates that train on them.

    Raises:
        ConfigError, DataError: as `stream_of`, the latter with the protocol's path.
    """
    study = params.continual
    arm = study.arms[cell.arm]
    protocol = arm.ordered(study.protocols[cell.protocol])
    place = (cell.stream, cell.protocol, protocol.shuffle, protocol.seed, cell.seed, bool(cell.lr))
    if place not in start.streams:
        held_out = None
        if cell.lr:
            purpose = f"continual/validation/{cell.stream}/{cell.seed}"
            held_out = (study.validation_fraction, run.generator(params.seed, purpose))
        seed = drawn(params.seed, f"continual/stream/{cell.seed}")
        pool = start.pool(study, cell.stream, cell.protocol)
        try:
            start.streams[place] = stream_of(pool, protocol, seed, held_out)
        except DataError as error:
            path = f"continual.protocols.{cell.protocol}"
            between = "." if str(error).startswith("experiences:") else ": "  # a key of a protocol
            raise DataError(f"{path}{between}{error}") from error
    return start.streams[place]


def drawn(seed: int, purpose: str) -> int:
    """A seed of its own for each purpose."""
    return int(torch.randint(SEEDS, (), generator=run.generator(seed, purpose)))


def settings(study: Continual, arm: Arm, strategy: str) -> Settings:
    """What Avalanche's strategy is called with."""
    return Settings(
        strategy,
        arm.batch_size,
        study.eval_batch_size,
        arm.epochs,
        study.memory,
        study.ewc_lambda,
        study.ewc_decay,
        study.lwf_alpha,
        study.lwf_temperature,
        study.optimiser_state,
    )


def build(
    params: Params, start: Start, arm: Arm, pool: Pool, inputs: Inputs, seed: int
) -> nn.Module:
    """A head, or a copy of the encoder with it, frozen as the arm says.

    Raises:
        ConfigError: a head or feature that this encoder does not have, fewer numbers than classes
            where the feature is the logits, or a freeze that is not for it.
    """
    study = params.continual
    encoder = start.encoders[study.encoder_of(arm)]
    path = f"continual.arms.{next(n for n, each in study.arms.items() if each is arm)}"
    if arm.features not in encoder.kinds:
        raise ConfigError(
            f"{path}.features: expected one of {', '.join(encoder.kinds)}, got {arm.features!r}"
        )
    example = inputs(torch.arange(2))
    if arm.trains == "frozen":
        return _head(study, arm, encoder, pool, example, seed=params.seed, repeat=seed, path=path)
    image = copy.deepcopy(encoder.image)
    reading = feature_of(image, arm.features)
    with torch.no_grad():
        seen = reading(image, example)
    head = _head(study, arm, encoder, pool, seen, seed=params.seed, repeat=seed, path=path)
    if arm.trains == "partly":
        freeze_(image, left_by(arm.freeze or "", image, encoder.groups, f"{path}.freeze"))
    network = Adapted(image, reading, head.to(start.device))
    freeze_unreached_(network, example)
    return network


def feature_of(image: nn.Module, kind: Any) -> Callable[[nn.Module, Tensor], Tensor]:
    """What reads one feature of an image network of this form, with gradients."""
    depth, feature = depth_of(image), Feature(kind)

    def reading(image: nn.Module, x: Tensor) -> Tensor:
        return read(image, depth, x, [feature])[feature].float()

    return reading


def _head(
    study: Continual,
    arm: Arm,
    encoder: Encoder,
    pool: Pool,
    example: Tensor,
    *,
    seed: int,
    repeat: int,
    path: str,
) -> nn.Module:
    classes, width = len(pool.class_names), example[0].numel()
    if arm.head == NO_HEAD:
        if width < classes:
            raise ConfigError(
                f"{path}.head: expected one for {classes} classes, got none and {width} numbers an "
                "image; name a head"
            )
        return nn.Identity()
    if arm.head == OWN_HEAD:
        if encoder.model is encoder.image or not hasattr(encoder.model, "head"):
            raise ConfigError(
                f"{path}.head: expected an encoder with a classifier of its own for {OWN_HEAD}, "
                f"got {encoder.name}; name another head"
            )
        return copy.deepcopy(encoder.model.get_submodule("head"))
    entry = study.heads[arm.head]
    return mlp_head(
        width,
        entry.hidden or (),
        classes,
        generator=run.generator(seed, f"continual/head/{repeat}"),
        sigmoid=entry.sigmoid,
    )
