"""Low-rank adapters: counts, sharing, a start that changes nothing, and merging."""

from __future__ import annotations

import copy
from typing import Any

import open_clip
import peft
import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from carryover.adapt.attention import SplitAttention, join_attention_, split_attention_
from carryover.adapt.lora import SHARING, Dropout, dropouts, lora_, merge_
from carryover.errors import ConfigError
from carryover.train import Budget, fit
from tiny_clip import clip

WHOLE_BLOCK = ("attn", "mlp.c_fc", "mlp.c_proj")
OUTPUT_AND_MLP = ("attn.out_proj", "mlp.c_fc", "mlp.c_proj")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def adapted(sharing: str = "none", **changed: Any) -> tuple[nn.Module, Any]:
    model = clip().model
    options = {"rank": 2, "alpha": 4, "targets": WHOLE_BLOCK, "generator": seeded()} | changed
    return model, lora_(model, sharing=sharing, **options)


def logits(model: nn.Module) -> Tensor:
    images = torch.rand(5, 3, 16, 16, generator=seeded(1))
    tokens = torch.tensor([[62, i + 1, i + 2, 63, 0, 0, 0, 0] for i in range(4)])
    image, text, scale = model(images, tokens)
    return scale * image @ text.T


def move(parameters: dict[str, nn.Parameter]) -> None:
    """Some training: every adapter becomes something other than zero."""
    draw = seeded(2)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter += 0.2 * torch.randn(parameter.shape, generator=draw)


@pytest.mark.parametrize(
    ("targets", "sharing", "count"),
    [
        (WHOLE_BLOCK, "none", 2_211_840),
        (WHOLE_BLOCK, "split", 184_320),
        (WHOLE_BLOCK, "shared", 122_880),
        (OUTPUT_AND_MLP, "none", 1_474_560),
        (OUTPUT_AND_MLP, "shared", 122_880),
    ],
)
def test_counts_on_vit_b_16_are_those_of_the_specification(
    targets: tuple[str, ...], sharing: str, count: int
) -> None:
    with torch.device("meta"):
        model = CLIP(**open_clip.get_model_config("ViT-B-16"))
    adapters = lora_(model, rank=8, alpha=16, targets=targets, sharing=sharing, generator=seeded())
    trained = {id(p): p.numel() for p in model.parameters() if p.requires_grad}
    assert adapters.count == sum(trained.values()) == count
    assert len(adapters.keys) == (144 if targets == WHOLE_BLOCK else 72)


@pytest.mark.parametrize("sharing", SHARING)
def test_outputs_at_the_start_are_those_of_the_model_without(sharing: str) -> None:
    model, _ = adapted(sharing)
    torch.testing.assert_close(logits(model), logits(clip().model), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("targets", [WHOLE_BLOCK, OUTPUT_AND_MLP, ("mlp.c_fc",)])
def test_merged_logits_are_the_same_and_names_those_of_before(
    sharing: str, targets: tuple[str, ...]
) -> None:
    model, adapters = adapted(sharing, targets=targets)
    move(adapters.parameters)
    before = logits(model)
    assert float((before - logits(clip().model)).detach().abs().max()) > 0.1
    merge_(model)
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=0.0)
    plain = clip().model.state_dict()
    merged = model.state_dict()
    assert list(merged) == list(plain)
    assert [t.shape for t in merged.values()] == [t.shape for t in plain.values()]
    assert not any(isinstance(module, SplitAttention) for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())


def test_merged_weights_are_w_plus_scaled_b_a() -> None:
    model, adapters = adapted(targets=("visual.transformer.resblocks.1.mlp.c_fc",), alpha=6)
    name = "visual.transformer.resblocks.1.mlp.c_fc"
    weight = clip().model.state_dict()[f"{name}.weight"]
    move(adapters.parameters)
    a, b = adapters.parameters.values()
    assert (a.shape, b.shape) == ((2, 16), (64, 2))
    merge_(model)
    expected = weight + 6 / 2 * b.detach() @ a.detach()
    torch.testing.assert_close(model.state_dict()[f"{name}.weight"], expected)


def test_a_merged_model_takes_adapters_again() -> None:
    model, adapters = adapted()
    move(adapters.parameters)
    merge_(model)
    before = logits(model)
    again = lora_(model, rank=2, alpha=4, targets=WHOLE_BLOCK, sharing="shared", generator=seeded())
    torch.testing.assert_close(logits(model), before, atol=1e-6, rtol=1e-6)
    assert all(parameter.requires_grad for parameter in again.parameters.values())


def test_plain_adapters_are_those_that_peft_puts_in() -> None:
    model, adapters = adapted(targets=("mlp.c_fc", "mlp.c_proj"))
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["c_fc", "c_proj"])
    other = peft.inject_adapter_in_model(config, clip().model)
    assert {name: type(m) for name, m in model.named_modules()} == {
        name: type(m) for name, m in other.named_modules()
    }
    move(adapters.parameters)
    other.load_state_dict(model.state_dict())
    assert torch.equal(logits(model), logits(other.eval()))


def layer(model: nn.Module, name: str) -> Any:
    return model.get_submodule(name)


def test_layers_with_one_key_hold_the_very_same_pair() -> None:
    image, text = "visual.transformer.resblocks", "transformer.resblocks"
    for sharing, same in (("none", False), ("shared", True), ("split", False)):
        model, _ = adapted(sharing)
        q = layer(model, f"{image}.0.attn.q_proj")
        v = layer(model, f"{image}.1.attn.v_proj")
        assert (q.lora_A["default"].weight is v.lora_A["default"].weight) is same
        assert (q.lora_B["default"].weight is v.lora_B["default"].weight) is same
        q1 = layer(model, f"{image}.1.attn.q_proj")
        assert (q.lora_B["default"].weight is q1.lora_B["default"].weight) is (sharing != "none")
        fc, text_fc = (layer(model, f"{part}.0.mlp.c_fc") for part in (image, text))
        assert (fc.lora_A["default"] is text_fc.lora_A["default"]) is (sharing != "none")
        down = layer(model, f"{image}.0.mlp.c_proj")
        assert down.lora_A["default"] is not fc.lora_A["default"]


def test_keys_say_kind_and_size_and_projection() -> None:
    name = "visual.transformer.resblocks.0"
    keys = adapted("split")[1].keys
    assert keys[f"{name}.attn.k_proj"] == ("attn", 16, 2, "k_proj")
    assert keys[f"{name}.mlp.c_fc"] == ("mlp", 16, 64)
    assert adapted("shared")[1].keys[f"{name}.attn.k_proj"] == ("attn", 16, 2)
    assert adapted("none")[1].keys[f"{name}.attn.k_proj"] == (f"{name}.attn.k_proj",)


def test_an_attention_that_is_no_target_stays_whole() -> None:
    model, adapters = adapted(targets=("mlp.c_fc",))
    assert all(name.endswith("mlp.c_fc") for name in adapters.keys)
    assert not any(isinstance(module, SplitAttention) for module in model.modules())


@pytest.mark.parametrize("sharing", SHARING)
def test_in_three_steps_only_adapters_move(sharing: str) -> None:
    model, adapters = adapted(sharing)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    labels = torch.tensor([0, 1, 2, 3, 0])
    fit(
        model,
        torch.rand(5, 3, 16, 16, generator=seeded(3)),
        labels,
        torch.optim.AdamW(adapters.parameters.values(), lr=0.1, weight_decay=0.0),
        Budget(5, 3, 0, 0, 0, "on_stop"),
        seeded(),
        loss=lambda network, _, y: nn.functional.cross_entropy(logits(network), y),
    )
    moved = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert moved == {name for name in before if "lora_" in name}
    assert set(adapters.parameters) <= moved


def test_adapters_are_those_of_the_generator_and_leave_torchs_stream_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    first = adapted(generator=seeded(4))[1].parameters
    second = adapted(generator=seeded(4))[1].parameters
    other = adapted(generator=seeded(5))[1].parameters
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if "lora_A" in name)
    model = clip().model
    torch.manual_seed(7)
    lora_(model, rank=2, alpha=4, targets=("attn",), sharing="none", generator=seeded())
    merge_(model)
    assert torch.equal(torch.rand(1), expected)


def test_the_start_is_peft_s() -> None:
    parameters = adapted(targets=("mlp.c_proj",), rank=8)[1].parameters
    a = torch.cat([p.detach().flatten() for name, p in parameters.items() if "lora_A" in name])
    edge = 1 / 64**0.5
    assert 0.95 * edge < float(a.abs().max()) < edge
    assert float(a.std()) == pytest.approx(edge / 3**0.5, rel=0.05)
    assert all(float(p.detach().abs().max()) == 0 for n, p in parameters.items() if "lora_B" in n)


def test_dropout_acts_in_training_mode_alone() -> None:
    model, adapters = adapted(dropout=0.5)
    move(adapters.parameters)
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.equal(logits(model), logits(model))


def test_dropout_follows_from_the_generator_and_goes_on_in_a_copy() -> None:
    found = []
    for _ in range(2):
        model, adapters = adapted(dropout=0.5)
        move(adapters.parameters)
        model.train()
        found.append(logits(model))
    assert torch.equal(*found)
    copied = copy.deepcopy(model)
    after = logits(model)
    assert torch.equal(logits(copied), after)
    assert not torch.equal(after, found[0])
    masks = {id(each.generator) for each in dropouts(copied)}
    assert len(dropouts(copied)) == 3 * 6  # of three blocks four projections and two layers
    assert masks != {id(each.generator) for each in dropouts(model)}
    assert len(masks) == 1


def test_dropout_zeroes_its_share_and_makes_up_for_it() -> None:
    drop = Dropout(0.25, seeded())
    x = drop(torch.ones(100, 100))
    assert sorted(x.unique().tolist()) == [0.0, pytest.approx(4 / 3)]
    assert float((x == 0).double().mean()) == pytest.approx(0.25, abs=0.02)


def test_merged_adapters_leave_no_dropout() -> None:
    model, adapters = adapted(dropout=0.5)
    move(adapters.parameters)
    before = logits(model)
    merge_(model.train())
    assert not dropouts(model)
    torch.testing.assert_close(logits(model.eval()), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mask", ["none", "causal", "per-row"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_split_attention_computes_what_the_whole_one_does(mask: str, bias: bool) -> None:
    torch.manual_seed(0)
    holder = nn.ModuleDict({"attn": nn.MultiheadAttention(12, 3, bias=bias, batch_first=True)})
    x = torch.randn(2, 5, 12, generator=seeded())
    causal = torch.full((5, 5), -torch.inf).triu(1)
    masks = {"none": None, "causal": causal, "per-row": causal.expand(6, 5, 5) + 0.1}
    options = {"need_weights": False, "attn_mask": masks[mask]}
    before = copy.deepcopy(holder["attn"].state_dict())
    whole = holder["attn"](x, x, x, **options)[0]
    split_attention_(holder, ["attn"])
    torch.testing.assert_close(holder["attn"](x, x, x, **options)[0], whole, atol=1e-6, rtol=1e-5)
    join_attention_(holder)
    after = holder["attn"].state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(holder["attn"](x, x, x, **options)[0], whole)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"targets": ("attn", "mlp.fc")}, r"lora\.targets: expected .*mlp\.c_fc.*, got mlp\.fc;"),
        ({"targets": ("mlp.c_fc.weight",)}, r"got mlp\.c_fc\.weight; `carryover layers"),
        ({"targets": ()}, "got nothing"),
        ({"targets": ("c_f",)}, "got c_f;"),
        ({"rank": 0}, r"lora\.rank: expected at least 1, got 0"),
        (
            {"sharing": "halves"},
            r"lora\.sharing: expected one of none, shared, split, got 'halves'",
        ),
    ],
)
def test_refusals_leave_the_model_as_it_is(changed: dict[str, Any], message: str) -> None:
    model = clip().model
    options = {"rank": 2, "alpha": 4, "targets": WHOLE_BLOCK, "sharing": "none"} | changed
    with pytest.raises(ConfigError, match=message):
        lora_(model, generator=seeded(), **options)
    assert list(model.state_dict()) == list(clip().model.state_dict())
    assert all(p.requires_grad for p in model.parameters())


def test_adapters_come_once_and_go_once() -> None:
    model, _ = adapted()
    with pytest.raises(ConfigError, match="expected a model without adapters, got one with"):
        lora_(model, rank=2, alpha=4, targets=("attn",), sharing="none", generator=seeded())
    merge_(model)
    with pytest.raises(ConfigError, match="expected a model with adapters, got one without"):
        merge_(model)


def test_an_attention_of_another_kind_is_refused_by_name() -> None:
    holder = nn.ModuleDict({"pool": nn.MultiheadAttention(12, 3, kdim=8, batch_first=True)})
    with pytest.raises(ConfigError, match=r"^pool: expected an attention over batches first"):
        split_attention_(holder, ["pool"])
    assert isinstance(holder["pool"], nn.MultiheadAttention)
