"""All state of a strategy between two experiences, written whole and read without pickle."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carryover import snapshots
from carryover.adapt.avalanche_parts import Heads, Memory, Summed


def save(path: Path, key: str, strategy: Any, results: Sequence[Mapping[str, Any]]) -> None:
    """Write a strategy's state and the results so far; readers see the old file or the new one.

    Its gradients, as large as its network, go before: every step begins without any.
    """
    strategy.optimizer.zero_grad()
    state = {
        "key": key,
        "results": [dict(entry) for entry in results],
        "network": _tensors(strategy.model),
        "optimiser": strategy.optimizer.state_dict(),
        "clock": dict(vars(strategy.clock)),
        "metrics": [_of_metric(metric) for metric in strategy.evaluator.plugin.metrics],
        "last_metrics": {
            k: float(v) for k, v in strategy.evaluator.plugin.last_metric_results.items()
        },
        "plugins": [_of_plugin(plugin) for plugin in strategy.plugins],
    }
    snapshots.write(path, state)


def load(path: Path | None, key: str) -> dict[str, Any]:
    """What `save` wrote under this key, on the CPU; empty where no whole file of it is."""
    state = snapshots.read(path, torch.device("cpu")) if path else None
    return state if state and state["key"] == key else {}


def restore_(strategy: Any, train: Sequence[Any], state: Mapping[str, Any]) -> None:
    """Bring a fresh strategy to the state that was saved.

    Args:
        train: Avalanche's training stream, whose data sets the memory and the union are made of.
    """
    from avalanche.benchmarks.utils.utils import concat_datasets
    from avalanche.training.supervised import Cumulative

    _fill_(strategy.model, state["network"])
    strategy.optimizer.load_state_dict(state["optimiser"])
    vars(strategy.clock).update(state["clock"])
    for metric, values in zip(strategy.evaluator.plugin.metrics, state["metrics"], strict=True):
        _fill_metric_(metric, values)
    strategy.evaluator.plugin.last_metric_results = dict(state["last_metrics"])
    for plugin, values in zip(strategy.plugins, state["plugins"], strict=True):
        _fill_plugin_(plugin, values, strategy, train)
    seen = state["clock"]["train_exp_counter"]
    if isinstance(strategy, Cumulative) and seen:
        strategy.dataset = concat_datasets([experience.dataset for experience in train[:seen]])


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, not copied: they are written before they train on."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return {name: value.detach() for name, value in named}


def _fill_(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            value.copy_(values[name])


def _of_metric(metric: Any) -> dict[str, Any]:
    """A transfer metric's accuracies so far; other metrics start afresh with each test."""
    kept = {
        name: vars(metric)[name] for name in ("train_exp_id", "at_init") if name in vars(metric)
    }
    for name in ("forgetting", "forward_transfer"):
        if hasattr(metric, name):
            kept[name] = {
                part: dict(values) for part, values in vars(getattr(metric, name)).items()
            }
    return kept


def _fill_metric_(metric: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            vars(getattr(metric, name)).update(value)
        else:
            setattr(metric, name, value)


def _of_plugin(plugin: Any) -> dict[str, Any]:
    from avalanche.training.plugins import EWCPlugin, LwFPlugin

    if isinstance(plugin, EWCPlugin):
        parts = {"importances": plugin.importances, "saved_params": plugin.saved_params}
        return {
            part: {i: {k: p.data for k, p in found.items()} for i, found in by_experience.items()}
            for part, by_experience in parts.items()
        }
    if isinstance(plugin, LwFPlugin) and plugin.lwf.prev_model is not None:
        return {
            "count": plugin.lwf.expcount,
            "classes": {k: sorted(v) for k, v in plugin.lwf.prev_classes_by_task.items()},
            "network": _tensors(plugin.lwf.prev_model),
        }
    if isinstance(plugin, Memory):
        groups = plugin.buffer.buffer_groups
        return {
            "groups": {
                i: {"places": list(group.buffer), "weights": group._buffer_weights}
                for i, group in groups.items()
            }
        }
    if isinstance(plugin, Summed):
        return {"earlier": plugin.earlier}
    if isinstance(plugin, Heads) and plugin.teacher is not None:
        return {"earlier": plugin.earlier, "network": _tensors(plugin.teacher)}
    return {}


def _fill_plugin_(plugin: Any, values: Any, strategy: Any, train: Sequence[Any]) -> None:
    from avalanche.training.plugins import EWCPlugin, LwFPlugin
    from avalanche.training.storage_policy import ReservoirSamplingBuffer
    from avalanche.training.utils import ParamData

    if isinstance(plugin, EWCPlugin):
        for part, by_experience in values.items():
            for i, found in by_experience.items():
                getattr(plugin, part)[i] = {
                    name: ParamData(
                        name, init_tensor=value.to(strategy.device), device=strategy.device
                    )
                    for name, value in found.items()
                }
    elif isinstance(plugin, LwFPlugin) and values:
        plugin.lwf.expcount = values["count"]
        plugin.lwf.prev_classes_by_task.update({k: set(v) for k, v in values["classes"].items()})
        plugin.lwf.prev_model = copy.deepcopy(strategy.model)
        _fill_(plugin.lwf.prev_model, values["network"])
    elif isinstance(plugin, Memory):
        plugin.buffer._num_exps = len(values["groups"])
        for i, group in values["groups"].items():
            data = train[i].dataset
            first = data[0]
            restored = ReservoirSamplingBuffer(len(group["places"]))
            restored.buffer = data.subset([place - first for place in group["places"]])
            restored._buffer_weights = group["weights"]
            plugin.buffer.buffer_groups[i] = restored
    elif isinstance(plugin, Summed):
        plugin.earlier = [
            {name: tuple(part.to(strategy.device) for part in parts) for name, parts in old.items()}
            for old in values["earlier"]
        ]
    elif isinstance(plugin, Heads) and values:
        plugin.earlier = values["earlier"]
        plugin.teacher = copy.deepcopy(strategy.model)
        _fill_(plugin.teacher, values["network"])
