from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carryover.adapt.averaging import (
    ExponentialMean,
    RunningMean,
    Weights,
    average,
    copied,
    mixed,
    mixing_curve,
    pull_,
)
from carryover.errors import ConfigError, DataError


def weights(value: float) -> Weights:
    return {"w": torch.full((2, 2), value), "b": torch.tensor([value, -value])}


def drawn(seed: int) -> Weights:
    random = torch.Generator().manual_seed(seed)
    floats = torch.randn(1000, generator=random)
    floats[:3] = torch.tensor([-0.0, 1e-40, 3e38])  # what arithmetic would not give back
    return {"w": floats, "n": torch.tensor(seed)}


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()


def test_mixing_by_hand() -> None:
    found = mixed(weights(1.0), weights(5.0), 0.25)
    assert found["w"].tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert found["b"].tolist() == [2.0, -2.0]


def test_mix_0_and_1_are_start_and_tuned_bit_for_bit_and_apart() -> None:
    start, tuned = drawn(1), drawn(2)
    for mix, end in ((0, start), (1, tuned), (0.0, start), (1.0, tuned)):
        found = mixed(start, tuned, mix)
        assert all(same_bits(found[name], end[name]) for name in end)
        found["w"].zero_()
    assert same_bits(start["w"], drawn(1)["w"])
    assert same_bits(tuned["w"], drawn(2)["w"])


def test_counters_are_the_tuned_models() -> None:
    assert mixed(drawn(1), drawn(2), 0.3)["n"].item() == 2
    assert mixed(drawn(1), drawn(2), 0.0)["n"].item() == 1
    assert average([drawn(1), drawn(2)])["n"].item() == 2


def test_a_mixed_linear_model_gives_mixed_outputs() -> None:
    layers = [nn.Linear(3, 2) for _ in range(3)]
    layers[2].load_state_dict(mixed(layers[0].state_dict(), layers[1].state_dict(), 0.8))
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(layers[2](x), 0.2 * layers[0](x) + 0.8 * layers[1](x), atol=1e-6)


def test_mixing_curve_runs_evenly_from_start_to_tuned() -> None:
    start, tuned = weights(0.0), weights(8.0)
    points = list(mixing_curve(start, tuned, 5))
    assert [mix for mix, _ in points] == [0, 0.25, 0.5, 0.75, 1]
    assert [found["w"][0, 0].item() for _, found in points] == [0, 2, 4, 6, 8]
    assert same_bits(points[-1][1]["b"], tuned["b"])


def test_average_of_models() -> None:
    models = [drawn(i) for i in range(3)]
    found = average(models)["w"]
    plain = torch.stack([model["w"].double() for model in models]).sum(0) / 3
    assert torch.equal(found, plain.float())
    assert found.dtype == torch.float32
    assert torch.equal(average([models[1]])["w"], models[1]["w"])
    assert torch.equal(average(models[:2])["w"], average(models[1::-1])["w"])


def test_running_mean_over_the_steps_0_to_1000_is_of_12_models() -> None:
    students = {step: float((step * 7919) % 101) for step in range(1001)}
    running = RunningMean(weights(50.0), every=100)
    for step, value in students.items():
        running.observe_(step, weights(value))
    taken = [50.0, *(students[step] for step in range(0, 1001, 100))]
    assert running.count == len(taken) == 12
    assert running.mean["w"][0, 0].item() == pytest.approx(sum(taken) / 12, rel=1e-6)
    plain = average([weights(value) for value in taken])
    assert torch.allclose(running.mean["b"], plain["b"])


def test_running_mean_over_1000_steps_is_of_11_models() -> None:
    running = RunningMean(weights(0.0), every=100)
    for step in range(1000):
        running.observe_(step, weights(float(step)))
    assert running.count == 11
    assert running.mean["w"][0, 0].item() == pytest.approx(sum(range(0, 1000, 100)) / 11)


def test_running_mean_takes_no_memory_of_the_students() -> None:
    student = weights(1.0)
    running = RunningMean(weights(0.0), every=1)
    running.observe_(0, student)
    student["w"].fill_(99)
    assert running.mean["w"][0, 0].item() == 0.5


def test_wise_running_mean_is_pulled_each_time() -> None:
    running = RunningMean(weights(1.0), every=2, anchor=weights(-1.0), mix=0.9)
    expected, n = 1.0, 1
    for step in range(7):
        running.observe_(step, weights(float(step)))
        if step % 2 == 0:
            expected = 0.9 * (n * expected + step) / (n + 1) - 0.1
            n += 1
    assert running.mean["w"][0, 0].item() == pytest.approx(expected, rel=1e-6)
    assert running.count == n == 5


def test_wise_running_mean_with_mix_1_is_the_running_mean() -> None:
    both = [RunningMean(drawn(0), 1), RunningMean(drawn(0), 1, anchor=drawn(9), mix=1.0)]
    for running in both:
        for step in range(3):
            running.observe_(step, drawn(step))
    assert torch.equal(both[0].mean["w"], both[1].mean["w"])


def test_exponential_mean_by_hand() -> None:
    mean = ExponentialMean(weights(0.0), decay=0.5, every=2)
    for step in range(5):
        mean.observe_(step, weights(8.0))  # taken at 0, 2, 4
    assert mean.mean["w"][0, 0].item() == 7.0


def test_a_pull_moves_the_student_and_not_the_anchor() -> None:
    student, anchor = weights(10.0), weights(0.0)
    for _ in range(3):
        pull_(student, anchor, 0.9)
    assert student["w"][0, 0].item() == pytest.approx(10 * 0.9**3)
    assert anchor["w"].abs().max().item() == 0


def test_a_moving_anchor_becomes_the_student_before_the_pull() -> None:
    student, anchor = weights(10.0), weights(0.0)
    pull_(student, anchor, 0.9, moving=True)
    assert student["w"][0, 0].item() == pytest.approx(9.0)
    assert anchor["w"][0, 0].item() == 10.0
    student["w"].fill_(20.0)
    pull_(student, anchor, 0.9, moving=True)
    assert student["w"][0, 0].item() == pytest.approx(19.0)
    assert anchor["w"][0, 0].item() == 20.0


def test_a_pull_reaches_the_model_and_leaves_counters() -> None:
    model = nn.BatchNorm1d(2)
    anchor = copied(model.state_dict())
    model(torch.randn(4, 2))
    with torch.no_grad():
        model.weight.fill_(3.0)
    pull_(model.state_dict(), anchor, 0.5)
    assert model.weight.tolist() == [2.0, 2.0]
    assert model.weight.requires_grad
    assert model.num_batches_tracked is not None
    assert model.num_batches_tracked.item() == 1


def test_a_pull_with_mix_1_changes_nothing() -> None:
    student = drawn(1)
    pull_(student, drawn(2), 1.0)
    assert torch.equal(student["w"], drawn(1)["w"])


def test_messages_say_what_differs() -> None:
    with pytest.raises(ConfigError, match=r"mix: expected a number in 0\.\.1, got 1\.2; 0 is"):
        mixed(weights(0.0), weights(1.0), 1.2)
    with pytest.raises(ConfigError, match=r"got -0\.1"):
        pull_(weights(0.0), weights(1.0), -0.1)
    with pytest.raises(DataError, match=r"the same tensors, got a difference in n \(1 in all\)"):
        mixed({"w": torch.ones(2)}, {"w": torch.ones(2), "n": torch.ones(1)}, 0.5)
    with pytest.raises(DataError, match="a difference in w"):
        average([{"w": torch.ones(2)}, {"w": torch.ones(3)}])
    with pytest.raises(DataError, match="expected at least one model, got none"):
        average([])
