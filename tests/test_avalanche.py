"""Avalanche's strategies on row numbers: what they give, frozen parts, equalities."""

from __future__ import annotations

import ast
import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from carryover.adapt.avalanche import (
    STRATEGIES,
    Looked,
    run_stream,
)
from carryover.errors import ConfigError
from conftest import PACKAGE
from row_streams import (
    CENTRES,
    CLASSES,
    CPU,
    LABELS,
    PLAIN,
    STORE,
    TEST,
    WIDTH,
    accuracy,
    chunks,
    classes,
    equal,
    go,
    look,
    network,
    same,
)


@pytest.mark.parametrize("strategy", [*STRATEGIES])
def test_every_strategy_tests_the_whole_stream_after_every_experience(strategy: str) -> None:
    stream = classes()
    found = go(stream, strategy=strategy)
    joint = strategy == "joint"
    assert [after.experience for after in found] == ([-1, 1] if joint else [-1, 0, 1])
    tested = torch.cat([task.test for task in stream.tasks])
    for after in found:
        assert torch.equal(after.rows, tested)
        assert after.tasks.tolist() == [0] * 8 + [1] * 8
        assert after.logits.shape == (16, CLASSES)
    assert (found[0].train, found[0].epochs, found[0].updates) == ({}, [], 0)
    steps = {"joint": 16, "cumulative": 16}.get(strategy, 8)  # 2 epochs of 16 or 32 rows by fours
    assert found[-1].updates == steps
    assert len(found[-1].epochs) == 2
    assert found[-1].epochs[-1] == (found[-1].train["loss"], found[-1].train["train_accuracy"])


def test_the_network_learns_and_naive_training_forgets() -> None:
    last = {
        name: go(classes(), nn.Linear(WIDTH, CLASSES), strategy=name, epochs=10)[-1]
        for name in ("naive", "replay", "cumulative", "joint")
    }
    assert accuracy(last["naive"], task=1) > 0.8
    assert accuracy(last["naive"], task=0) < 0.3
    assert accuracy(last["replay"], task=0) > accuracy(last["naive"], task=0) + 0.3
    assert min(accuracy(last["cumulative"]), accuracy(last["joint"])) > 0.8


@pytest.mark.parametrize("strategy", [*STRATEGIES])
@pytest.mark.parametrize("state", ["kept", "reset"])
def test_every_strategy_forgets_its_momentum_between_experiences_if_told_to(
    strategy: str, state: str
) -> None:
    net = network()
    optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    held: list[int] = []  # tensors with a momentum, before each update
    optimiser.register_step_pre_hook(lambda each, *_: held.append(len(each.state)))
    settings = dataclasses.replace(PLAIN, strategy=strategy, optimiser_state=state)
    found = run_stream(net, look, LABELS, chunks(), optimiser, settings, seed=0, device=CPU)
    every = len(list(net.parameters()))
    begins = np.cumsum([0, *(after.updates for after in found[1:])])[:-1]
    assert [held[update] for update in begins] == [
        0 if i == 0 or state == "reset" else every for i in range(len(begins))
    ]
    assert set(np.delete(held, begins)) == {every}
    assert len(begins) == (1 if strategy == "joint" else 3)


def test_without_momentum_there_is_no_state_to_forget() -> None:
    def trained(momentum: float, state: str) -> list[Any]:
        net = network()
        optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=momentum)
        settings = dataclasses.replace(PLAIN, optimiser_state=state)
        return run_stream(net, look, LABELS, chunks(), optimiser, settings, seed=0, device=CPU)

    assert equal(trained(0.0, "kept"), trained(0.0, "reset"))
    kept, reset = trained(0.9, "kept"), trained(0.9, "reset")
    assert equal(kept[:2], reset[:2])  # before any training and after the first experience
    assert not same(kept[2], reset[2])


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ConfigError, match="strategy: expected one of naive, ewc"):
        go(classes(), strategy="icarl")


def test_a_run_depends_on_its_seed_alone_and_leaves_random_states_alone() -> None:
    torch.manual_seed(1)
    once = go(classes(), strategy="replay")
    torch.manual_seed(2)
    np.random.seed(2)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    again = go(classes(), strategy="replay")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert equal(once, again)
    assert not equal(once, go(classes(), strategy="replay", seed=1))


# --- frozen ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [*STRATEGIES])
def test_frozen_tensors_stay_as_they_are_bit_for_bit(strategy: str) -> None:
    net = network()
    net[0].requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    go(classes(), net, strategy=strategy)
    after = net.state_dict()
    frozen = [name for name in before if name.startswith("0.")]
    assert "0.1.running_mean" in frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["1.weight"], after["1.weight"])
    assert all(p.grad is None for p in net[0].parameters())


def test_frozen_parts_stay_in_evaluation_mode_and_others_train() -> None:
    net = network()
    looked = Looked(look, net).train()
    assert all(part.training for part in net.modules())
    net[0][1].requires_grad_(False)  # the batch norm alone
    looked.train()
    assert [part.training for part in net[0]] == [True, False, True, True]
    net[0].requires_grad_(False)
    looked.train()
    assert not any(part.training for part in net[0].modules())
    assert net[1].training
    looked.eval()
    assert not any(part.training for part in looked.modules())


def test_a_looked_up_network_shows_what_trains_and_copies_no_store() -> None:
    net = network()
    net[0].requires_grad_(False)
    store = nn.Embedding.from_pretrained(STORE)  # a module: not to become part of the network
    looked = Looked(store, net)
    assert [name for name, _ in looked.named_parameters()] == ["network.1.weight", "network.1.bias"]
    assert sum(p.numel() for p in looked.parameters()) == 6 * CLASSES + CLASSES
    twin = copy.deepcopy(looked.train())
    assert not any(part.training for part in twin.modules())
    looked.eval()
    assert twin._inputs[0] is store
    assert twin.network[0][0].weight is net[0][0].weight
    assert twin.network[1].weight is not net[1].weight
    assert torch.equal(twin(TEST), looked(TEST))


def test_a_stored_embedding_trains_the_head_as_encoding_each_time_does() -> None:
    net = network()
    encoder = net[0].requires_grad_(False).eval()
    with torch.no_grad():
        embeddings = torch.cat([encoder(STORE[rows]) for rows in torch.arange(48).split(4)])
    heads = [copy.deepcopy(net[1]), net[1]]
    stored = run_stream(
        heads[0],
        lambda rows: embeddings[rows],
        LABELS,
        chunks(),
        torch.optim.SGD(heads[0].parameters(), 0.1),
        PLAIN,
        seed=0,
        device=CPU,
    )
    anew = run_stream(
        *(net, look, LABELS, chunks(), torch.optim.SGD(net[1].parameters(), 0.1), PLAIN),
        seed=0,
        device=CPU,
    )
    for a, b in zip(stored, anew, strict=True):
        assert torch.allclose(a.logits, b.logits, atol=1e-5)
        assert accuracy(a) == accuracy(b)


# --- equalities --------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["ewc", "ewc-online", "ewc-summed"])
def test_consolidation_of_weight_zero_is_naive_training_bit_for_bit(strategy: str) -> None:
    naive = go(chunks())
    found = go(chunks(), strategy=strategy, ewc_lambda=0.0)
    assert equal(found, naive)


def test_distillation_and_memory_of_no_weight_are_naive_training() -> None:
    naive = go(chunks())
    assert equal(go(chunks(), strategy="lwf", lwf_alpha=0.0), naive)
    assert equal(go(chunks(), strategy="replay", memory=0), naive)


def test_all_strategies_agree_on_the_first_experience() -> None:
    naive = go(classes())[1]
    for strategy in STRATEGIES:
        if strategy != "joint":
            assert same(go(classes(), strategy=strategy)[1], naive)


def test_a_penalty_keeps_weights_nearer_to_the_old_ones() -> None:
    def moved(strategy: str, weight: float) -> float:
        """Distance that the head goes in the second task."""
        net, heads = nn.Linear(WIDTH, CLASSES), []
        with torch.no_grad():
            net.weight.copy_(CENTRES)
        keep: Callable[[int], None] = lambda _: heads.append(net.weight.detach().clone())  # noqa: E731
        changes = {"strategy": strategy, "ewc_lambda": weight}
        go(classes(), net, lr=0.02, options={"after_task": keep}, **changes)
        return float((heads[2] - heads[1]).norm())

    for strategy in ("ewc", "ewc-online", "ewc-summed"):
        assert moved(strategy, 1000.0 if "summed" not in strategy else 10.0) < moved(strategy, 0.0)


def test_no_module_imports_avalanche_when_it_is_imported() -> None:
    """It takes seconds; functions import it where they call it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not ast.unparse(node).startswith(("from avalanche", "import avalanche")), (
                    path
                )
