from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carryover.adapt.freeze import KINDS, MODES, chosen, freeze_, since_block, trainable
from carryover.errors import ConfigError
from carryover.models.heads import Adapted, linear_head, projected
from small_networks import IMAGE_SIZE, resnet, resnet_parts, vit, vit_b_32, vit_parts

BUILT = {"vit": (vit, vit_parts(2)), "resnet": (resnet, resnet_parts())}


def adapted(name: str, names: list[str]) -> Adapted:
    image = BUILT[name][0]()
    freeze_(image, names)
    head = linear_head("random", 3, 12, generator=torch.Generator().manual_seed(1))
    return Adapted(image, projected, head).train()


def three_steps(network: Adapted, size: int, lr: float = 0.1) -> None:
    draw = torch.Generator().manual_seed(2)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        x = torch.rand(6, 3, size, size, generator=draw)
        nn.functional.cross_entropy(network(x), torch.arange(6) % 3).backward()
        optimiser.step()


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def size_of(network: nn.Module, names: list[str]) -> int:
    parameters = dict(network.named_parameters())
    return sum(parameters[name].numel() for name in names)


def test_groups_and_kinds_written_by_hand_hold_every_parameter_once() -> None:
    for network, (groups, kinds) in [*BUILT.values(), (vit_b_32, vit_parts(12))]:
        names = sorted(name for name, _ in network().named_parameters())
        assert names == sorted(kinds) == sorted(name for group in groups.values() for name in group)


@pytest.mark.parametrize(("first", "count"), [(12, 1_536), (11, 4_608), (7, 16_896), (6, 19_968)])
def test_norms_of_vit_b_32_count_as_published(first: int, count: int) -> None:
    groups, kinds = vit_parts(12)
    names = chosen("norm", groups, kinds, blocks_from=first)
    assert size_of(vit_b_32(), names) == count
    assert names[-2:] == ["ln_post.weight", "ln_post.bias"]
    assert len(names) == 2 + 4 * (12 - first)


def test_head_for_food_counts_as_published() -> None:
    head = linear_head("zeros", 101, 512, generator=torch.Generator())
    assert sum(p.numel() for p in head.parameters()) == 51_813


def test_kinds_share_all_parameters_out() -> None:
    groups, kinds = vit_parts(2)
    parts = [name for kind in KINDS for name in trainable(groups, kinds, of=[kind])]
    assert sorted(parts) == sorted(trainable(groups, kinds))
    assert len(parts) == len(set(parts)) == 32


def test_names_come_from_input_to_output_whatever_the_order_of_kinds() -> None:
    groups, kinds = vit_parts(2)
    every = [name for group in groups.values() for name in group]
    assert trainable(groups, kinds) == every
    some = trainable(groups, kinds, since="block0", until="block1", of=("mlp", "norm"))
    assert some == [name for name in every if ".ln_" in name or ".mlp." in name]


def test_modes_take_their_kind() -> None:
    groups, kinds = vit_parts(2)
    found = {mode: chosen(mode, groups, kinds) for mode in MODES}
    assert found["none"] == []
    assert [len(found[m]) for m in ("norm", "attention", "mlp", "embedding")] == [12, 8, 8, 3]
    assert found["all"] == trainable(groups, kinds)
    assert {kinds[name] for name in found["attention"]} == {"attention"}


def test_depth_limits_kinds_but_not_embeddings_and_full_fine_tuning() -> None:
    groups, kinds = vit_parts(2)
    found = {mode: chosen(mode, groups, kinds, blocks_from=1) for mode in MODES}
    assert found["norm"] == [*trainable(groups, kinds, since="block1", of=["norm"])]
    assert all("resblocks.1." in name for name in found["attention"] + found["mlp"])
    assert found["embedding"] == ["class_embedding", "positional_embedding", "conv1.weight"]
    assert found["all"] == trainable(groups, kinds)


def test_last_blocks_are_whole_and_end_with_the_output() -> None:
    groups, kinds = vit_parts(2)
    assert chosen("last-1", groups, kinds) == groups["block1"] + groups["output"]
    assert chosen("last-2", groups, kinds) == trainable(groups, kinds, since="block0")
    assert chosen("last-1", groups, kinds, blocks_from=0) == chosen("last-1", groups, kinds)


def test_a_residual_networks_stages_are_its_blocks() -> None:
    groups, kinds = resnet_parts()
    names = chosen("norm", groups, kinds, blocks_from=3)
    assert names
    assert all(name.startswith("layer4.") and kinds[name] == "norm" for name in names)
    assert since_block(groups, 4) == "output"
    assert since_block(groups, -1) == "layer4-0"


def test_a_network_may_be_all_blocks() -> None:
    groups = {f"conv{i}": [f"conv{i}.weight", f"conv{i}.bias"] for i in range(3)}
    kinds = {name: "convolution" for group in groups.values() for name in group}
    assert since_block(groups, 0) == "conv0"
    assert chosen("last-1", groups, kinds) == groups["conv2"]
    assert chosen("last-3", groups, kinds) == trainable(groups, kinds)
    with pytest.raises(ConfigError, match="expected one of the 3 blocks"):
        since_block(groups, 3)  # no output to begin with


def test_exactly_the_named_parameters_train() -> None:
    network = vit()
    names = chosen("norm", *vit_parts(2), blocks_from=1)
    freeze_(network, names)
    assert len(names) == 6
    assert {name for name, p in network.named_parameters() if p.requires_grad} == set(names)
    freeze_(network, [])
    assert not any(p.requires_grad for p in network.parameters())


def test_an_unknown_name_changes_nothing() -> None:
    network = vit()
    with pytest.raises(KeyError, match=r"ln_post\.weightln_post\.bias"):
        freeze_(network, ["ln_post.weightln_post.bias"])
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("network", ["vit", "resnet"])
@pytest.mark.parametrize("mode", ["none", "norm", "attention", "embedding", "all", "last-1"])
def test_after_three_steps_only_chosen_tensors_moved(network: str, mode: str) -> None:
    groups, kinds = BUILT[network][1]
    names = chosen(mode, groups, kinds)
    model = adapted(network, names)
    before = state(model)
    three_steps(model, IMAGE_SIZE[network])
    moved = {name for name, old in before.items() if not torch.equal(model.state_dict()[name], old)}
    trained = {f"image.{name}" for name in names} | {"head.weight", "head.bias"}
    parameters = {name for name, _ in model.named_parameters()}
    assert moved & parameters == trained
    layers = {name.rpartition(".")[0] for name in trained}
    assert {name.rpartition(".")[0] for name in moved - parameters} <= layers
    assert bool(moved - parameters) == (network == "resnet" and mode in ("norm", "all", "last-1"))


def test_with_nothing_chosen_outputs_of_a_frozen_network_stay_equal() -> None:
    model = adapted("resnet", [])
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    before = model.image(x)
    three_steps(model, 32)
    assert torch.equal(model.image(x), before)


def test_frozen_batch_norms_are_in_evaluation_mode_and_trained_ones_are_not() -> None:
    groups, kinds = resnet_parts()
    network = resnet().train()
    freeze_(network, chosen("last-1", groups, kinds))
    modes = {
        name: m.training for name, m in network.named_modules() if "BatchNorm" in repr(type(m))
    }
    assert len(modes) > 8
    assert {name for name, training in modes.items() if training} == {
        name for name in modes if name.startswith("layer4.")
    }


def test_messages_say_what_there_is() -> None:
    groups, kinds = vit_parts(2)
    with pytest.raises(ConfigError, match=r"^adapt\.unfreeze: expected one of none, .*last-N, got"):
        chosen("norms", groups, kinds, path="adapt.unfreeze")
    with pytest.raises(ConfigError, match=r"expected one of the 2 blocks .* got the last 3; stay"):
        chosen("last-3", groups, kinds)
    with pytest.raises(ConfigError, match="the 2 blocks that the encoder has, got block 7; stay"):
        chosen("norm", groups, kinds, blocks_from=7)
    with pytest.raises(
        ConfigError, match=r"expected an encoder with mlp .* with norm, projection;"
    ):
        chosen("mlp", groups, kinds, blocks_from=2)
    with pytest.raises(ConfigError, match="since: expected one of embed, block0, block1, output"):
        trainable(groups, kinds, since="block2")
