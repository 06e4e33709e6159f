from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carryover import train
from carryover.errors import KitError
from carryover.train import Budget, Outcome, cross_entropy, fit

FOREVER = Budget(
    batch_size=4, epochs=1000, max_updates=0, evaluate_every=1, patience=0, restore_best="always"
)


def budget(**changes: Any) -> Budget:
    return Budget(**(vars(FOREVER) | changes))


class Run:
    """A small network on ten rows of four numbers, three batches an epoch."""

    def __init__(self, seed: int = 0, lr: float = 0.05) -> None:
        torch.manual_seed(seed)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        self.inputs = torch.randn(10, 4)
        self.labels = (self.inputs[:, 0] > 0).long()
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=lr)
        self.generator = torch.Generator().manual_seed(seed)

    def fit(self, budget: Budget, **options: Any) -> Outcome:
        return fit(
            self.network,
            self.inputs,
            self.labels,
            self.optimiser,
            budget,
            self.generator,
            **options,
        )

    def loss(self) -> float:
        return float(cross_entropy(self.network, self.inputs, self.labels).detach())

    def weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.network.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def scripted(scores: list[float]) -> Callable[[], float]:
    left = iter(scores)
    return lambda: next(left)


def test_training_lowers_the_loss_and_is_the_same_twice() -> None:
    a, b = Run(), Run()
    before, _ = a.loss(), b.loss()
    assert a.fit(budget(epochs=20)).updates == 60
    b.fit(budget(epochs=20))
    assert equal(a.weights(), b.weights())
    assert a.loss() < before / 4


def test_every_row_is_seen_once_an_epoch() -> None:
    run, seen = Run(), []

    def loss(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        seen.append(inputs)
        return cross_entropy(network, inputs, labels)

    run.fit(budget(epochs=2), loss=loss)
    assert [len(batch) for batch in seen] == [4, 4, 2, 4, 4, 2]
    for epoch in (torch.cat(seen[:3]), torch.cat(seen[3:])):
        assert torch.equal(epoch.sort(0).values, run.inputs.sort(0).values)
    assert not torch.equal(torch.cat(seen[:3]), torch.cat(seen[3:]))


@pytest.mark.parametrize(("epochs", "limit", "updates"), [(1000, 7, 7), (2, 0, 6), (2, 100, 6)])
def test_epochs_or_updates_end_training(epochs: int, limit: int, updates: int) -> None:
    assert Run().fit(budget(epochs=epochs, max_updates=limit)).updates == updates


def test_without_validation_there_is_no_score() -> None:
    outcome = Run().fit(budget(epochs=1))
    assert outcome.best != outcome.best
    assert not outcome.stopped


@pytest.mark.parametrize(
    ("every", "limit", "after"),
    [(0, 7, [3, 6, 7]), (2, 7, [2, 4, 6, 7]), (7, 7, [7]), (3, 6, [3, 6])],
)
def test_validation_comes_every_so_many_updates_and_at_the_end(
    every: int, limit: int, after: list[int]
) -> None:
    run, seen, updates = Run(), [], 0

    def count(done: int) -> None:
        nonlocal updates
        updates = done

    def validate() -> float:
        seen.append(updates)
        return 0.5

    run.fit(budget(evaluate_every=every, max_updates=limit), validate=validate, after_step=count)
    assert seen == after


def test_patience_counts_validations_without_a_strict_improvement() -> None:
    scores = [0.1, 0.2, 0.2, 0.3, 0.3, 0.1, 0.2, 0.9]
    outcome = Run().fit(budget(patience=3), validate=scripted(scores))
    assert outcome == Outcome(updates=7, best=0.3, stopped=True)


@pytest.mark.parametrize(
    ("restore", "patience", "best"),
    [("always", 0, True), ("on_stop", 0, False), ("always", 2, True), ("on_stop", 2, True)],
)
def test_the_best_weights_come_back_always_or_only_after_stopping(
    restore: str, patience: int, best: bool
) -> None:
    run, seen = Run(), []
    scores = scripted([0.1, 0.9, 0.2, 0.3])

    def validate() -> float:
        seen.append(run.weights())
        return next_score()

    next_score = scores
    outcome = run.fit(
        budget(restore_best=restore, patience=patience, max_updates=4), validate=validate
    )
    assert outcome == Outcome(updates=4, best=0.9, stopped=bool(patience))
    assert equal(run.weights(), seen[1]) is best
    assert equal(run.weights(), seen[3]) is not best


@pytest.mark.parametrize(
    ("restore", "patience", "epochs", "looked"),
    [
        ("on_stop", 3, 8, [1, 2, 3, 4, 5, 6]),  # better at every look: none can stop from 7 on
        ("on_stop", 0, 8, []),
        ("always", 3, 8, [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_validations_that_cannot_change_the_result_are_left_out(
    restore: str, patience: int, epochs: int, looked: list[int]
) -> None:
    seen: list[int] = []
    rules = budget(
        restore_best=restore, patience=patience, epochs=epochs, evaluate_every=0, batch_size=100
    )

    def validate() -> float:
        seen.append(len(seen) + 1)
        return len(seen) / 10

    outcome = Run().fit(rules, validate=validate)
    assert seen == looked
    assert (outcome.updates, outcome.stopped) == (epochs, False)


def test_patience_can_run_out_at_the_last_epoch() -> None:
    rules = budget(patience=3, epochs=5, evaluate_every=0, batch_size=100, restore_best="on_stop")
    outcome = Run().fit(rules, validate=scripted([0.1, 0.9, 0.2, 0.3, 0.4]))
    assert outcome == Outcome(updates=5, best=0.9, stopped=True)


def test_a_score_of_zero_is_no_improvement() -> None:
    run = Run()
    outcome = run.fit(budget(patience=2), validate=scripted([0.0, 0.0]))
    assert outcome == Outcome(updates=2, best=0.0, stopped=True)


def test_a_loss_that_is_not_finite_stops_with_its_place() -> None:
    run, values = Run(lr=0.25), iter([2.0, 1.5, float("nan")])

    def loss(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(network, inputs, labels) * 0 + next(values)

    with pytest.raises(KitError) as caught:
        run.fit(budget(), loss=loss)
    assert str(caught.value) == (
        "training: expected a finite loss, got nan at update 3 with lr 0.25 (last finite loss "
        "1.5); lower the lr"
    )


def test_a_gradient_edit_comes_between_backward_and_step() -> None:
    run = Run()
    before, order = run.weights(), []

    def edit() -> None:
        order.append("edit")
        for parameter in run.network.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()

    run.fit(budget(max_updates=2), edit_gradient=edit, after_step=lambda n: order.append(n))
    assert order == ["edit", 1, "edit", 2]
    parameters = dict(run.network.named_parameters())
    assert all(torch.equal(before[name], parameters[name]) for name in parameters)


def test_what_is_called_after_a_step_sees_the_new_weights() -> None:
    run, seen = Run(), [Run().weights()]
    run.fit(budget(max_updates=3), after_step=lambda _: seen.append(run.weights()))
    assert len(seen) == 4
    assert all(not equal(a, b) for a, b in pairwise(seen))


@pytest.mark.parametrize("killed_at", [1, 5, 8, 14])
def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    monkeypatch.setattr(train, "SNAPSHOT_SECONDS", 0)
    limits = budget(max_updates=16, evaluate_every=2, patience=7)
    scores = [0.1, 0.5, 0.2, 0.3, 0.6, 0.1, 0.2, 0.3]

    def score(run: Run) -> Callable[[], float]:
        """By the number of updates, so that a resumed run gets the scores it would have got."""
        return lambda: scores[int(next(iter(run.optimiser.state.values()))["step"]) // 2 - 1]

    undisturbed = Run()
    expected = undisturbed.fit(limits, validate=score(undisturbed))

    def kill(done: int) -> None:
        if done == killed_at:
            raise KeyboardInterrupt

    snapshot, killed = tmp_path / "training.pt", Run()
    with pytest.raises(KeyboardInterrupt):
        killed.fit(limits, validate=score(killed), after_step=kill, snapshot=snapshot)
    assert snapshot.exists()
    resumed, updates = Run(), []
    outcome = resumed.fit(
        limits, validate=score(resumed), after_step=updates.append, snapshot=snapshot
    )
    assert updates[0] == (killed_at - 1) // 3 * 3 + 1  # from the start of the epoch
    assert outcome == expected
    assert equal(resumed.weights(), undisturbed.weights())


def test_no_snapshot_is_written_before_its_time(tmp_path: Path) -> None:
    Run().fit(budget(epochs=2), snapshot=tmp_path / "training.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("takes", "epochs"),
    [(0.1, [14, 28, 42, 56]), (1.0, [14, 41, 68])],  # an epoch takes 0.75 s
)
def test_states_that_take_long_to_save_are_saved_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: float, epochs: list[int]
) -> None:
    now, saved = 0.0, []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now

    def save(path: Path, state: Any, *parts: Any) -> None:
        nonlocal now
        now += takes
        saved.append(state.epoch)

    def an_update(done: int) -> None:
        nonlocal now
        now += 0.25  # exact, so that a pause ends at the start of an epoch

    monkeypatch.setattr(train, "time", Clock)
    monkeypatch.setattr(train, "_save", save)
    Run().fit(budget(epochs=70), after_step=an_update, snapshot=tmp_path / "training.pt")
    assert saved == epochs


def test_a_batch_passed_in_parts_gives_the_same_training() -> None:
    whole, parts = Run(), Run()
    for run in (whole, parts):
        run.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        with torch.no_grad():
            for i, weight in enumerate(run.network.parameters()):
                weight.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight) + i / 7)
        run.optimiser = torch.optim.SGD(run.network.parameters(), lr=0.5)
    seen: list[int] = []

    def loss(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        seen.append(len(inputs))
        return cross_entropy(network, inputs, labels)

    rules = budget(batch_size=7, epochs=5)
    assert whole.fit(rules) == parts.fit(rules, loss=loss, pass_rows=3)
    assert seen[:4] == [3, 3, 1, 3]
    a, b = whole.weights(), parts.weights()
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)
    assert not torch.allclose(a["0.weight"], torch.linspace(-1, 1, 32).view(8, 4), atol=0.01)


def test_a_last_batch_that_is_smaller_is_left_out_on_request() -> None:
    sizes: list[int] = []

    def loss(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        sizes.append(len(inputs))
        return cross_entropy(network, inputs, labels)

    for drop_last, wanted in ((False, [4, 4, 2] * 2), (True, [4, 4] * 2)):
        sizes.clear()
        done = Run().fit(budget(epochs=2), loss=loss, drop_last=drop_last)
        assert (done.updates, sizes) == (len(wanted), wanted)
    done = Run().fit(budget(batch_size=5, epochs=2), drop_last=True)  # none is smaller
    assert done.updates == 4
