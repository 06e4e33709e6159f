from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from carryover.adapt.cut import RULES, cut_network, frozen_part, kept_names
from carryover.models.cnn import cnn
from carryover.train import Budget, fit

DEPTH = 6
MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
SMALL = (1, 8, 8)


def source(
    shape: tuple[int, int, int] = SMALL, channels: int = 4, hidden: int = 0, classes: int = 5
) -> nn.Sequential:
    return cnn(
        depth=DEPTH,
        channels=channels,
        kernel=3,
        activation="relu",
        pool_every=2,
        pool_stride=2,
        hidden=hidden,
        image_shape=shape,
        classes=classes,
        generator=torch.Generator().manual_seed(1),
    )


def cut_at(
    start: nn.Sequential,
    cut: int,
    setting: str,
    shape: tuple[int, int, int] = SMALL,
    classes: int = 3,
) -> nn.Sequential:
    return cut_network(
        start,
        cut,
        RULES[setting],
        image_shape=shape,
        classes=classes,
        generator=torch.Generator().manual_seed(2),
    )


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("shape", "widths"),
    [
        (MNIST, [784, 50_176, 12_544, 12_544, 3_136, 3_136, 576]),
        (CIFAR, [3_072, 65_536, 16_384, 16_384, 4_096, 4_096, 1_024]),
    ],
)
def test_removing_what_follows_leaves_the_published_widths(
    shape: tuple[int, int, int], widths: list[int]
) -> None:
    start = source(shape, channels=64)
    heads = [cut_at(start, cut, "ft", shape).get_submodule("linear") for cut in range(DEPTH + 1)]
    assert [head.in_features for head in heads] == widths


@pytest.mark.parametrize("cut", range(DEPTH + 1))
@pytest.mark.parametrize("setting", list(RULES))
def test_each_setting_keeps_draws_and_removes_what_it_says(setting: str, cut: int) -> None:
    start = source()
    before, found = weights(start), weights(cut_at(start, cut, setting))
    kept = {f"conv{i}.{part}" for i in range(DEPTH) for part in ("weight", "bias") if i < cut}
    rest = {f"conv{i}.{part}" for i in range(DEPTH) for part in ("weight", "bias") if i >= cut}
    head = {"linear.weight", "linear.bias"}
    trained = {
        "fr": rest | head,
        "f": rest | head,
        "r": kept | rest | head,
        "none": kept | rest | head,
        "ft": head,
        "baseline": kept | rest | head,
    }[setting]
    new = head | (rest if setting in ("fr", "r", "baseline") else set())
    assert set(found) == trained
    for name in trained - new:
        assert torch.equal(found[name], before[name]), name
    for name in new & trained:
        assert found[name].shape != before[name].shape or not torch.equal(
            found[name], before[name]
        ), name
    assert found["linear.weight"].shape[0] == 3


@pytest.mark.parametrize("cut", range(DEPTH + 1))
@pytest.mark.parametrize("setting", ["fr", "f", "ft"])
def test_frozen_part_and_trained_part_make_one_network(setting: str, cut: int) -> None:
    start = source()
    images = torch.rand(2, *SMALL)
    trained = cut_at(start, cut, setting)
    whole = nn.Sequential(*frozen_part(start, cut), *trained)
    assert torch.equal(trained(frozen_part(start, cut)(images)), whole(images))
    groups = [name for name, _ in trained.named_children() if name.startswith("conv")]
    assert groups == ([] if setting == "ft" else [f"conv{i}" for i in range(cut, DEPTH)])


def test_pooling_just_before_the_cut_stays() -> None:
    kinds = [type(module) for module in frozen_part(source(), 2)]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.AvgPool2d]
    assert list(frozen_part(source(), 0)) == []


def test_at_full_depth_freezing_resetting_and_removing_are_one_experiment() -> None:
    start = source()
    fr, f, ft = (weights(cut_at(start, DEPTH, setting)) for setting in ("fr", "f", "ft"))
    assert equal(fr, f)
    assert equal(fr, ft)


def test_the_baseline_is_a_reset_of_everything() -> None:
    start = source()
    baseline, fr = weights(cut_at(start, 0, "baseline")), weights(cut_at(start, 0, "fr"))
    assert equal(baseline, fr)
    assert equal(baseline, weights(cut_at(start, 0, "r")))


def test_new_weights_are_those_of_a_new_network() -> None:
    made = cnn(
        depth=DEPTH,
        channels=4,
        kernel=3,
        activation="relu",
        pool_every=2,
        pool_stride=2,
        hidden=0,
        image_shape=SMALL,
        classes=3,
        generator=torch.Generator().manual_seed(2),
    )
    assert equal(weights(made), weights(cut_at(source(), 0, "baseline")))


def test_with_nothing_frozen_or_reset_a_cut_changes_nothing() -> None:
    start = source()
    assert equal(weights(cut_at(start, 0, "none")), weights(cut_at(start, 4, "none")))


@pytest.mark.parametrize("setting", list(RULES))
def test_the_source_network_is_left_alone(setting: str) -> None:
    start = source()
    before = weights(start)
    network = cut_at(start, 3, setting)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert equal(weights(start), before)
    assert len(list(start.children())) == len(list(source().children()))


def test_frozen_tensors_are_equal_bit_for_bit_after_training() -> None:
    start = source()
    before, frozen = weights(start), frozen_part(start, 3)
    network = cut_at(start, 3, "fr")
    first = weights(network)
    images, labels = torch.rand(12, *SMALL), torch.arange(12) % 3
    with torch.no_grad():
        inputs = frozen(images)
    fit(
        network,
        inputs,
        labels,
        torch.optim.Adam(network.parameters(), lr=0.01),
        Budget(4, 1, 3, 0, 0, "always"),
        torch.Generator().manual_seed(0),
    )
    assert equal(weights(start), before)
    assert not any(torch.equal(first[name], now) for name, now in weights(network).items())


def test_both_linear_layers_of_a_head_are_new() -> None:
    start = source(hidden=8)
    network = cut_at(start, DEPTH, "none")
    assert network.get_submodule("hidden").weight.shape == (8, 4)
    assert network.get_submodule("linear").weight.shape == (3, 8)
    assert not torch.equal(
        network.get_submodule("hidden").weight, start.get_submodule("hidden").weight
    )
    assert torch.equal(network.get_submodule("conv5").weight, start.get_submodule("conv5").weight)
    truncated = cut_at(start, 2, "ft")
    assert truncated.get_submodule("hidden").weight.shape == (8, 4 * 4 * 4)
    assert truncated(frozen_part(start, 2)(torch.rand(2, *SMALL))).shape == (2, 3)


def test_a_copy_of_the_source_gives_the_same_cut() -> None:
    start = source()
    assert equal(weights(cut_at(start, 2, "f")), weights(cut_at(copy.deepcopy(start), 2, "f")))


def test_of_two_linear_layers_the_first_may_stay() -> None:
    start = source(hidden=6)
    arguments = {"image_shape": SMALL, "classes": 3, "renew_hidden": False}
    for setting, cut, stays in (("fr", 2, True), ("f", 6, True), ("ft", 6, True), ("ft", 2, False)):
        random = torch.Generator().manual_seed(2)
        network = cut_network(start, cut, RULES[setting], generator=random, **arguments)
        hidden = network.get_submodule("hidden")
        same = torch.equal(hidden.weight, start.get_submodule("hidden").weight)
        assert same == stays, (setting, cut)  # removing layers before it changes its width
        assert network.get_submodule("linear").weight.shape == (3, 6)


@pytest.mark.parametrize(
    ("setting", "cut", "expected"),
    [
        ("fr", 2, set()),
        ("f", 4, {"conv4", "act4", "conv5", "act5", "pool5"}),
        ("r", 1, {"conv0", "act0"}),
        ("ft", 3, set()),
        ("baseline", 0, set()),
    ],
)
def test_what_trains_from_pretrained_weights(setting: str, cut: int, expected: set[str]) -> None:
    assert set(kept_names(source(), cut, RULES[setting])) == expected


def test_with_neither_all_convolutions_train_from_pretrained_weights() -> None:
    names = set(kept_names(source(), 0, RULES["none"]))
    assert {f"conv{i}" for i in range(DEPTH)} <= names
    assert "linear" not in names
