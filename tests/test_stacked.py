"""Networks trained together against the same networks trained one by one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carryover.errors import KitError
from carryover.models.cnn import cnn
from carryover.stacked import Stack, fit_stacked
from carryover.train import Budget, Outcome, fit

MEMBERS, CLASSES = 4, 3


def network(seed: int, depth: int = 2, hidden: int = 0) -> nn.Sequential:
    if not depth:
        head = nn.Sequential()
        head.add_module("flatten", nn.Flatten())
        head.add_module("linear", nn.Linear(64, CLASSES))
        return head
    return cnn(
        depth=depth,
        channels=5,
        kernel=3,
        activation="relu",
        pool_every=2,
        pool_stride=2,
        hidden=hidden,
        image_shape=(1, 8, 8),
        classes=CLASSES,
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.fixture
def images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images of each network, and validation images shared by all."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (MEMBERS, 20), generator=random)
    held = torch.randint(CLASSES, (50,), generator=random)
    shades = labels[..., None, None, None] * 1.0
    x = 4 * torch.rand(MEMBERS, 20, 1, 8, 8, generator=random) + shades
    v = 4 * torch.rand(50, 1, 8, 8, generator=random) + held[:, None, None, None] * 1.0
    return x, labels, v, held


def budget(**changes: Any) -> Budget:
    values: dict[str, Any] = {
        "batch_size": 8,
        "epochs": 25,
        "max_updates": 0,
        "evaluate_every": 0,
        "patience": 4,
        "restore_best": "on_stop",
    }
    return Budget(**(values | changes))


def one_by_one(
    networks: list[nn.Sequential], images: tuple[Tensor, ...], rules: Budget
) -> list[Outcome]:
    x, labels, v, held = images
    outcomes = []
    for i, each in enumerate(networks):

        def score(each: nn.Sequential = each) -> float:
            with torch.no_grad():
                return int((each(v).argmax(1) == held).sum()) / len(held)

        optimiser = torch.optim.Adam(each.parameters(), lr=0.01)
        random = torch.Generator().manual_seed(100 + i)
        outcomes.append(fit(each, x[i], labels[i], optimiser, rules, random, validate=score))
    return outcomes


@pytest.mark.parametrize(
    "rules",
    [
        budget(),
        budget(restore_best="always", patience=0, epochs=6),
        budget(max_updates=31, evaluate_every=5, patience=2),
    ],
    ids=["epochs and patience", "no patience", "updates"],
)
@pytest.mark.parametrize(("depth", "hidden"), [(2, 0), (1, 6), (0, 0)])
def test_networks_trained_together_equal_those_trained_alone(
    images: tuple[Tensor, ...], rules: Budget, depth: int, hidden: int
) -> None:
    alone = [network(i, depth, hidden) for i in range(MEMBERS)]
    together = copy.deepcopy(alone)
    expected = one_by_one(alone, images, rules)
    x, labels, v, held = images
    randoms = [torch.Generator().manual_seed(100 + i) for i in range(MEMBERS)]
    found = fit_stacked(together, x, labels, (v, held), 0.01, rules, randoms)
    assert [o.updates for o in found] == [o.updates for o in expected]
    assert [o.stopped for o in found] == [o.stopped for o in expected]
    assert [o.best for o in found] == pytest.approx([o.best for o in expected], abs=1e-5)
    for a, b in zip(alone, together, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.allclose(p, q, atol=2e-4)


def test_members_stop_at_different_updates(images: tuple[Tensor, ...]) -> None:
    """The case above means something: early stopping is each network's own."""
    outcomes = one_by_one([network(i) for i in range(MEMBERS)], images, budget())
    assert len({outcome.updates for outcome in outcomes}) > 1
    assert any(outcome.stopped for outcome in outcomes)


def test_frozen_layers_stay_bit_for_bit(images: tuple[Tensor, ...]) -> None:
    networks = [network(i) for i in range(MEMBERS)]
    for each in networks:
        each.get_submodule("conv0").requires_grad_(False)
    before = [each.get_submodule("conv0").weight.clone() for each in networks]
    heads = [each.get_submodule("linear").weight.clone() for each in networks]
    x, labels, v, held = images
    randoms = [torch.Generator().manual_seed(i) for i in range(MEMBERS)]
    fit_stacked(networks, x, labels, (v, held), 0.01, budget(epochs=3), randoms)
    for each, old, head in zip(networks, before, heads, strict=True):
        assert torch.equal(each.get_submodule("conv0").weight, old)
        assert not torch.equal(each.get_submodule("linear").weight, head)


def test_a_stack_gives_each_network_its_own_logits(images: tuple[Tensor, ...]) -> None:
    networks = [network(i, 2, 7) for i in range(MEMBERS)]
    x, _, v, _ = images
    stack = Stack(networks)
    own = torch.stack([each(x[i]) for i, each in enumerate(networks)])
    assert torch.allclose(stack(x, shared=False), own, atol=1e-5)
    same = torch.stack([each(v) for each in networks])
    assert torch.allclose(stack(v, shared=True), same, atol=1e-5)


def test_a_loss_that_is_not_finite_is_refused(images: tuple[Tensor, ...]) -> None:
    x, labels, v, held = images
    x = x.clone()
    x[1, 0] = float("nan")
    randoms = [torch.Generator().manual_seed(i) for i in range(MEMBERS)]
    with pytest.raises(KitError, match="expected a finite loss, got nan at update"):
        fit_stacked(
            [network(i) for i in range(MEMBERS)], x, labels, (v, held), 0.01, budget(), randoms
        )
