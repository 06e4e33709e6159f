"""Avalanche's strategies by name, each built from the same few settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from carryover.adapt.avalanche_parts import Heads, Memory, OwnClasses, Silent, Summed, Tests, Watch

Common = dict[str, Any]
OptimiserState = Literal["kept", "reset"]


@dataclass(frozen=True)
class Settings:
    """What a strategy needs.

    Attributes:
        strategy: a name in `STRATEGIES`.
        batch_size: current rows a step; replay adds up to as many from the memory.
        epochs: of each task.
        memory: rows of the replay memory, all tasks together.
        ewc_lambda: weight of the penalty of ``ewc``, ``ewc-online`` and ``ewc-summed``.
        ewc_decay: of old importances, ``ewc-online``.
        lwf_alpha, lwf_temperature: weight and temperature of distillation, ``lwf``.
        optimiser_state: ``reset``: momentum and moments are forgotten before each experience, as
            Avalanche 0.3.1, the original's, always does (its ``reset_optimizer``); ``kept``: each
            experience goes on with those of the last one, as Avalanche 0.6 does unless its
            ``train`` is told ``reset_optimizer_state``.
    """

    strategy: str
    batch_size: int
    eval_batch_size: int
    epochs: int
    memory: int
    ewc_lambda: float
    ewc_decay: float
    lwf_alpha: float
    lwf_temperature: float
    optimiser_state: OptimiserState


def import_avalanche() -> None:
    """Import Avalanche now: it takes seconds, which processes forked later then do not spend."""
    import avalanche.benchmarks
    import avalanche.training.supervised  # noqa: F401


def common(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: Settings,
    device: torch.device,
    watch: Watch,
    before: bool,
) -> Common:
    """What every strategy of Avalanche takes."""
    from avalanche.evaluation import metrics
    from avalanche.training.plugins import EvaluationPlugin

    measured = [
        *metrics.accuracy_metrics(experience=True, stream=True),
        *metrics.loss_metrics(stream=True),
        *metrics.forgetting_metrics(experience=True, stream=True),
        *metrics.bwt_metrics(stream=True),
        *(metrics.forward_transfer_metrics(stream=True) if before else ()),
    ]
    return {
        "model": network,
        "optimizer": optimiser,
        "criterion": OwnClasses(watch.stream),
        "train_mb_size": settings.batch_size,
        "train_epochs": settings.epochs,
        "eval_mb_size": settings.eval_batch_size,
        "device": device,
        "plugins": [watch],
        "evaluator": Tests(EvaluationPlugin(*measured, loggers=[Silent()], collect_all=False)),
        "eval_every": 0,  # forward transfer demands it; no stream is given to test in training
    }


def _naive(settings: Settings, common: Common) -> Any:
    from avalanche.training.supervised import Naive

    return Naive(**common)


def _ewc(settings: Settings, common: Common) -> Any:
    from avalanche.training.supervised import EWC

    return EWC(**common, ewc_lambda=settings.ewc_lambda, mode="separate")


def _ewc_online(settings: Settings, common: Common) -> Any:
    from avalanche.training.supervised import EWC

    decay = settings.ewc_decay
    return EWC(**common, ewc_lambda=settings.ewc_lambda, mode="online", decay_factor=decay)


def _ewc_summed(settings: Settings, common: Common) -> Any:
    from avalanche.training.supervised import Naive

    summed = Summed(settings.ewc_lambda, common["criterion"])
    return Naive(**common | {"plugins": [*common["plugins"], summed]})


def _replay(settings: Settings, common: Common) -> Any:
    from avalanche.training.supervised import Naive

    return Naive(**common | {"plugins": [*common["plugins"], Memory(settings.memory)]})


def _lwf(settings: Settings, common: Common) -> Any:
    from avalanche.training.supervised import LwF, Naive

    if common["criterion"].stream.masked:
        heads = Heads(settings.lwf_alpha, settings.lwf_temperature)
        return Naive(**common | {"plugins": [*common["plugins"], heads]})
    return LwF(**common, alpha=settings.lwf_alpha, temperature=settings.lwf_temperature)


def _cumulative(settings: Settings, common: Common) -> Any:
    from avalanche.training.supervised import Cumulative

    return Cumulative(**common)


def _joint(settings: Settings, common: Common) -> Any:
    from avalanche.training.supervised import JointTraining

    return JointTraining(**common)


STRATEGIES: dict[str, Callable[[Settings, Common], Any]] = {
    "naive": _naive,
    "ewc": _ewc,
    "ewc-online": _ewc_online,
    "ewc-summed": _ewc_summed,
    "replay": _replay,
    "lwf": _lwf,
    "cumulative": _cumulative,
    "joint": _joint,
}
