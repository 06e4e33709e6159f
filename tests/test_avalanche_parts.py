"""What strategies are called with: consolidation, memory, masks, counts."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carryover.adapt import avalanche_data, avalanche_parts
from carryover.adapt.avalanche import (
    Looked,
    run_stream,
)
from carryover.data import streams
from carryover.errors import Diverged
from row_streams import (
    CLASSES,
    CPU,
    LABELS,
    PLAIN,
    STORE,
    TEST,
    TRAIN,
    WIDTH,
    accuracy,
    chunks,
    classes,
    go,
    look,
    network,
    same,
)


def test_the_summed_importance_is_the_square_of_the_summed_gradient() -> None:
    net = nn.Linear(WIDTH, CLASSES)
    summed = avalanche_parts.Summed(0.5, nn.CrossEntropyLoss())
    train, _ = avalanche_data.benchmark(chunks(2), LABELS)
    looked = Looked(look, net)
    strategy = _Strategy(looked, train[0])
    summed.after_training_exp(strategy)
    importance, old = summed.earlier[0]["network.weight"]
    total = torch.zeros_like(net.weight)
    for rows in chunks(2).tasks[0].train.split(PLAIN.batch_size):
        loss = nn.functional.cross_entropy(net(STORE[rows]), LABELS[rows])
        total += torch.autograd.grad(loss, net.weight)[0]
    assert torch.allclose(importance, total.square(), rtol=1e-4, atol=1e-7)
    assert torch.equal(old, net.weight)
    with torch.no_grad():
        net.weight += 0.1
    summed.before_backward(strategy)
    assert strategy.loss.item() == pytest.approx(0.5 * 0.01 * float(importance.sum()), rel=1e-4)


class _Strategy:
    """As much of a strategy as a plugin asks for."""

    def __init__(self, model: nn.Module, experience: Any) -> None:
        self.model, self.experience = model, experience
        self.device, self.loss, self.train_mb_size = CPU, torch.zeros(1), PLAIN.batch_size
        self.optimizer = torch.optim.SGD(model.parameters(), 0.1)


def test_the_memory_never_exceeds_its_size_and_is_balanced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[list[int]]] = []
    shown: list[tuple[int, int]] = []

    class Spied(avalanche_parts.Memory):
        def after_training_exp(self, strategy: Any, **options: Any) -> None:
            super().after_training_exp(strategy, **options)
            seen.append([list(group.buffer) for group in self.buffer.buffer_groups.values()])

        def after_training_iteration(self, strategy: Any, **_: Any) -> None:
            earlier = int((strategy.mbatch[2] != len(seen)).sum())
            shown.append((len(strategy.mbatch[0]) - earlier, earlier))

    monkeypatch.setattr("carryover.adapt.avalanche_strategies.Memory", Spied)
    stream = chunks(4)
    go(stream, strategy="replay", memory=6, batch_size=8, epochs=1)
    assert [[len(group) for group in groups] for groups in seen] == [
        [6],
        [3, 3],
        [2, 2, 2],
        [2, 2, 1, 1],
    ]
    sizes = torch.tensor([len(task.train) for task in stream.tasks]).cumsum(0).tolist()
    for groups in seen:  # every group holds rows of its own experience, none twice
        for i, places in enumerate(groups):
            assert len(set(places)) == len(places)
            assert all(([0, *sizes])[i] <= place < sizes[i] for place in places)
    assert shown == [(8, 0), (8, 6), (8, 6), (8, 6)]  # the whole memory at every step


def test_current_and_replayed_accuracy_make_up_the_whole() -> None:
    found = go(classes(), strategy="replay", memory=4, batch_size=4)
    assert "train_accuracy_replayed" not in found[1].train
    assert found[1].train["train_accuracy_current"] == found[1].train["train_accuracy"]
    train = found[2].train
    half = (train["train_accuracy_current"] + train["train_accuracy_replayed"]) / 2
    assert train["train_accuracy"] == pytest.approx(half)  # 4 current and 4 replayed a step
    joint = go(classes(), strategy="joint")[-1].train
    assert set(joint) == {"train_accuracy", "train_accuracy_current", "loss"}
    assert "train_accuracy_replayed" in go(classes(), strategy="cumulative")[-1].train


def test_training_means_and_matrices_are_those_that_avalanche_logs() -> None:
    """The same run by Avalanche's strategy on images, with its own loaders and loggers' values."""
    from avalanche.benchmarks import (
        benchmark_from_datasets,
        with_classes_timeline,
        with_task_labels,
    )
    from avalanche.benchmarks.utils import (
        ConstantSequence,
        DataAttribute,
        TaskAwareSupervisedClassificationDataset,
        TaskLabels,
    )
    from avalanche.evaluation import metrics
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive
    from torch.utils.data import TensorDataset

    stream = classes()

    def images(rows: Tensor) -> Any:
        named = DataAttribute(LABELS[rows].tolist(), "targets")
        return TaskAwareSupervisedClassificationDataset(
            [TensorDataset(STORE[rows], LABELS[rows])],
            data_attributes=[named, TaskLabels(ConstantSequence(0, len(rows)))],
        )

    def sets(part: str) -> list[Any]:
        return [images(getattr(task, part)) for task in stream.tasks]

    made = benchmark_from_datasets(train=sets("train"), test=sets("test"))
    made = with_task_labels(with_classes_timeline(made))
    net = network()
    plugin = EvaluationPlugin(
        *metrics.accuracy_metrics(epoch=True, experience=True, stream=True),
        *metrics.loss_metrics(epoch=True),
        *metrics.forgetting_metrics(stream=True),
        *metrics.bwt_metrics(stream=True),
        *metrics.forward_transfer_metrics(stream=True),
        loggers=[avalanche_parts.Silent()],
    )
    theirs = Naive(
        model=net,
        optimizer=torch.optim.SGD(net.parameters(), 0.1, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=4,
        train_epochs=2,
        eval_mb_size=5,
        evaluator=plugin,
        eval_every=0,
    )
    ours = go(stream)
    with streams.own_random():
        theirs.eval(made.test_stream)
        for after in ours[1:]:
            avalanche_data.seed_all(0, after.experience)
            theirs.train(made.train_stream[after.experience], eval_streams=[])
            logged = theirs.eval(made.test_stream)
            phase = "train_phase/train_stream/Task000"
            assert after.train["train_accuracy"] == logged[f"Top1_Acc_Epoch/{phase}"]
            assert after.train["loss"] == pytest.approx(logged[f"Loss_Epoch/{phase}"])
            for name in ("StreamForgetting", "StreamBWT", "StreamForwardTransfer"):
                name += "/eval_phase/test_stream"
                assert after.avalanche[name] == logged[name]
            for task in range(2):
                name = f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{task:03}"
                assert after.avalanche[name] == logged[name] == accuracy(after, task)


def test_shared_test_images_are_tested_once() -> None:
    found = go(chunks())
    assert [after.experience for after in found] == [-1, 0, 1, 2]
    for after in found:
        assert torch.equal(after.rows, TEST)
        assert set(after.tasks.tolist()) == {0}
    name = "Top1_Acc_Stream/eval_phase/test_stream/Task000"
    assert found[-1].avalanche[name] == accuracy(found[-1])


def test_task_labels_mask_the_classes_of_other_tasks_at_test() -> None:
    stream = classes(labels=True)
    masked = go(stream, nn.Linear(WIDTH, CLASSES))
    torch.manual_seed(0)
    for after in masked:
        closed = torch.isinf(after.logits)
        assert closed[after.tasks == 0].tolist() == [[False, False, True, True]] * 8
        assert closed[after.tasks == 1].tolist() == [[True, True, False, False]] * 8
    name = "Top1_Acc_Stream/eval_phase/test_stream/Task001"
    assert masked[-1].avalanche[name] == accuracy(masked[-1], 1)
    open_ = go(dataclasses.replace(stream, masked=False), nn.Linear(WIDTH, CLASSES))
    assert all(torch.isfinite(after.logits).all() for after in open_)


def test_the_loss_of_a_masked_stream_is_over_each_rows_own_classes() -> None:
    stream = classes(labels=True)
    logits = torch.randn(6, CLASSES + 1, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 3, 3, 0])  # rows of both tasks, as replay joins them
    own = [logits[i, :2] if label < 2 else logits[i, 2:4] for i, label in enumerate(labels)]
    parts = [F.cross_entropy(x, label % 2) for x, label in zip(own, labels, strict=True)]
    assert torch.allclose(avalanche_parts.OwnClasses(stream)(logits, labels), sum(parts) / 6)
    plain = avalanche_parts.OwnClasses(dataclasses.replace(stream, masked=False))
    assert torch.equal(plain(logits, labels), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("strategy", ["naive", "ewc", "ewc-online", "ewc-summed", "joint"])
def test_a_masked_stream_leaves_the_heads_of_other_tasks_alone(strategy: str) -> None:
    net, stream = nn.Linear(WIDTH, CLASSES), classes(labels=True)
    before = net.weight.detach().clone()
    first = dataclasses.replace(stream, tasks=stream.tasks[:1])
    found = go(first, net, strategy=strategy)
    assert torch.equal(net.weight[2:], before[2:])
    assert not torch.equal(net.weight[:2], before[:2])
    assert found[-1].train["train_accuracy"] > 0.9  # of two classes, not of four


class _Heads:
    """A network as Avalanche's multi-task module: an output is of the classes of one task."""

    def __new__(cls, net: nn.Module, stream: streams.Stream) -> Any:
        from avalanche.models import MultiTaskModule

        class Heads(MultiTaskModule):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.net = net

            def forward(self, x: Tensor, task_labels: Any) -> Any:
                if task_labels is None:
                    return self.forward_all_tasks(x)
                return avalanche_parts.own_logits(stream, self.net(look(x)), task_labels)

            def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
                return self(x, torch.full_like(x, task_label))

        return Heads()


@pytest.mark.parametrize("strategy", ["naive", "ewc", "ewc-online", "replay", "lwf", "cumulative"])
def test_a_masked_stream_trains_as_avalanches_multi_head_network_does(strategy: str) -> None:
    from avalanche.training import supervised
    from avalanche.training.plugins import EvaluationPlugin

    labels = torch.arange(len(STORE)) % 6  # three tasks, so that two earlier heads are distilled
    stream = streams.class_tasks(
        *(TRAIN, labels[TRAIN], TEST, labels[TEST], 3), seed=0, shuffle=False, task_labels=True
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = nn.Sequential(nn.Linear(WIDTH, 6), nn.Tanh(), nn.Linear(6, 6))
    theirs = copy.deepcopy(ours)
    module = _Heads(theirs, stream)
    plugins = [avalanche_parts.Memory(PLAIN.memory)] if strategy == "replay" else []
    given = {
        "model": module,
        "optimizer": torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9),
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": PLAIN.batch_size,
        "train_epochs": PLAIN.epochs,
        "plugins": plugins,
        "evaluator": EvaluationPlugin(loggers=[avalanche_parts.Silent()]),
    }
    weights = {"ewc_lambda": PLAIN.ewc_lambda}
    made: dict[str, Callable[[], Any]] = {
        "naive": lambda: supervised.Naive(**given),
        "replay": lambda: supervised.Naive(**given),
        "ewc": lambda: supervised.EWC(**given, **weights, mode="separate"),
        "ewc-online": lambda: supervised.EWC(
            **given, **weights, mode="online", decay_factor=PLAIN.ewc_decay
        ),
        "lwf": lambda: supervised.LwF(
            **given, alpha=PLAIN.lwf_alpha, temperature=PLAIN.lwf_temperature
        ),
        "cumulative": lambda: supervised.Cumulative(**given),
    }
    optimiser = torch.optim.SGD(ours.parameters(), 0.1, momentum=0.9)
    settings = dataclasses.replace(PLAIN, strategy=strategy)
    run_stream(ours, look, labels, stream, optimiser, settings, seed=0, device=CPU)
    train, _ = avalanche_data.benchmark(stream, labels)
    with streams.own_random():
        method = made[strategy]()
        for i, experience in enumerate(train):
            avalanche_data.seed_all(0, i)
            method.train(experience, eval_streams=[])
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_a_loss_that_is_not_finite_stops_before_it_reaches_the_weights() -> None:
    net = nn.Linear(WIDTH, CLASSES)
    with pytest.raises(Diverged, match=r"at update \d+ of experience 0 with lr 1e\+38"):
        go(classes(), net, lr=1e38)
    with torch.no_grad():
        net.weight.fill_(math.nan)
    with pytest.raises(Diverged, match=r"got nan at update 1 .*last finite loss nan"):
        go(classes(), net)


def test_before_may_be_left_out() -> None:
    found = go(classes(), options={"before": False})
    assert [after.experience for after in found] == [0, 1]
    assert not any("ForwardTransfer" in name for name in found[-1].avalanche)
    assert all(same(a, b, metrics=False) for a, b in zip(found, go(classes())[1:], strict=True))
