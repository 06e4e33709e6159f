from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from carryover.errors import ConfigError
from carryover.models.cross_attention import (
    PUBLISHED,
    CrossAttention,
    FeedForward,
    Part,
    Rows,
    SelfAttention,
)
from small_retrieval import drawn, size

PARTS: dict[Part, slice] = {
    "features": slice(0, 6),
    "labels": slice(6, 9),
    "both": slice(0, 9),
}


def plain(layer: CrossAttention, x: Tensor, rows: Tensor) -> Tensor:
    """Image by image, token by token and head by head, in float64."""
    out, heads = x.double().clone(), layer.heads
    for i in range(len(x)):
        keyed = F.layer_norm(rows[i, :, layer.keys].double(), (layer.k.in_features,))
        valued = F.layer_norm(rows[i, :, layer.values].double(), (layer.v.in_features,))
        k, v = (keyed @ layer.k.weight.T.double(), valued @ layer.v.weight.T.double())
        for j in range(x.shape[1]):
            q = F.layer_norm(x[i, j].double(), x.shape[2:]) @ layer.q.weight.T.double()
            parts = []
            for one, key, value in zip(
                q.chunk(heads), k.chunk(heads, 1), v.chunk(heads, 1), strict=True
            ):
                weights = (key @ one / math.sqrt(len(one))).softmax(0)
                parts.append(weights @ value)
            mixed = torch.cat(parts)
            out[i, j] += layer.out.weight.double() @ mixed + layer.out.bias.double()
    return out


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("keys", "values"), [(k, v) for k in PARTS for v in PARTS])
@pytest.mark.parametrize("folds", [False, True])
def test_attention_is_that_of_a_plain_loop(
    folds: bool, keys: Part, values: Part, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CrossAttention, "_folds", lambda *_: folds)
    torch.manual_seed(0)
    layer = CrossAttention(5, Rows(6, 3, keys, values), heads=heads, head_width=8)
    x, given = drawn(2, 3, 5), drawn(2, 7, 9, seed=1)
    with torch.no_grad():
        assert torch.allclose(layer(x, given).double(), plain(layer, x, given), atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "width", "head_width", "rows", "row", "folds"),
    [
        (10, 512, 256, 1024, 29, True),  # the Perceiver's latents and pixels
        (10, 512, 256, 100, 512, True),  # its latents and what is retrieved
        (1024, 64, 64, 100, 512, False),  # the ResNet's first blocks
        (16, 512, 64, 100, 512, True),  # its last
    ],
)
def test_rows_are_left_as_they_are_where_tokens_are_few(
    tokens: int, width: int, head_width: int, rows: int, row: int, folds: bool
) -> None:
    with torch.device("meta"):
        layer = CrossAttention(width, Rows(row), heads=1, head_width=head_width)
    assert layer._folds(tokens, rows) is folds


def test_folding_changes_gradients_by_rounding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = CrossAttention(5, Rows(6), heads=2, head_width=8)
    found = []
    for folds in (True, False):
        monkeypatch.setattr(CrossAttention, "_folds", lambda *_, folds=folds: folds)
        layer.zero_grad()
        layer(drawn(2, 3, 5), drawn(2, 9, 6, seed=1)).square().sum().backward()
        found.append([p.grad.clone() for p in layer.parameters() if p.grad is not None])
    assert len(found[0]) == len(list(layer.parameters()))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(("keys", "values"), [(k, v) for k in PARTS for v in PARTS])
def test_keys_and_values_see_their_part_of_a_row_alone(keys: Part, values: Part) -> None:
    torch.manual_seed(0)
    layer = CrossAttention(5, Rows(6, 3, keys, values), heads=1, head_width=4).eval()
    x = drawn(1, 2, 5)
    for part in ("features", "labels"):
        rows = drawn(1, 4, 9, seed=1)
        before = layer(x, rows)
        rows[..., PARTS[part]] += drawn(1, 4, 9, seed=2)[..., PARTS[part]]
        seen = bool({part, "both"} & {keys, values})
        assert torch.equal(layer(x, rows), before) is not seen


def test_one_row_is_attended_to_whatever_the_token() -> None:
    layer = CrossAttention(5, Rows(6), heads=1, head_width=4)
    x, rows = drawn(1, 3, 5), drawn(1, 1, 6)
    added = layer(x, rows) - x
    assert torch.allclose(added[0, 0], added[0, 2], atol=1e-6)


def test_the_order_of_the_rows_changes_nothing() -> None:
    layer = CrossAttention(5, Rows(6), heads=2, head_width=4)
    x, rows = drawn(2, 3, 5), drawn(2, 7, 6)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(layer(x, rows), layer(x, rows[:, order]), atol=1e-6)


def test_its_projections_have_no_bias_but_the_last() -> None:
    layer = CrossAttention(5, Rows(6, 3, "features", "labels"), heads=2, head_width=4)
    norms = 2 * (5 + 6 + 3)  # keys and values of different parts are normed apart
    assert size(layer) == norms + 8 * (5 + 6 + 3) + 5 * 8 + 5
    shared = CrossAttention(5, Rows(6, 3), heads=2, head_width=4)
    assert size(shared) == 2 * (5 + 9) + 8 * (5 + 9 + 9) + 5 * 8 + 5


def test_self_attention_is_attention_to_the_normed_tokens() -> None:
    torch.manual_seed(0)
    own = SelfAttention(6, heads=2, head_width=4)
    cross = CrossAttention(6, Rows(6), heads=2, head_width=4)
    for name in ("q", "k", "v", "out"):
        getattr(cross, name).load_state_dict(getattr(own, name).state_dict())
    x = drawn(2, 5, 6)
    assert torch.allclose(own(x), cross(x, x), atol=1e-6)


def test_a_feed_forward_by_hand() -> None:
    layer = FeedForward(2, 1)
    with torch.no_grad():
        layer.inner.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [2, 0], [0, 2]]))
        layer.out.weight.copy_(torch.eye(2))
        layer.inner.bias.zero_()
        layer.out.bias.zero_()
    x = torch.tensor([[[3.0, 1.0]]])  # normed: 1, -1
    gelu = [2 * 0.5 * (1 + math.erf(2 / math.sqrt(2))), -2 * 0.5 * (1 + math.erf(-math.sqrt(2)))]
    assert layer(x)[0, 0].tolist() == pytest.approx([3 + gelu[0], 1 - gelu[1]], abs=1e-4)


@pytest.mark.parametrize("multiplier", [1, 4])
def test_a_feed_forward_is_as_wide_as_asked(multiplier: int) -> None:
    inner = 8 * multiplier
    assert size(FeedForward(8, multiplier)) == 16 + 2 * inner * 9 + 8 * (inner + 1)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    layer = CrossAttention(5, Rows(6), heads=1, head_width=4, dropout=0.5)
    x, rows = drawn(1, 3, 5), drawn(1, 7, 6)
    assert not torch.equal(layer(x, rows), layer(x, rows))
    layer.eval()
    assert torch.equal(layer(x, rows), layer(x, rows))


def test_the_published_settings_are_parts_of_a_row() -> None:
    assert PUBLISHED["reps_for_k"] == ("features", "labels")
    assert PUBLISHED["reps_for_v"] == ("labels", "features")
    assert PUBLISHED["reps_for_both"] == ("both", "both")
    rows = Rows(6, 3)
    assert {part: rows.columns(part) for part in PARTS} == PARTS
    assert (rows.width, Rows(6).width) == (9, 6)


@pytest.mark.parametrize(("keys", "values"), [("labels", "features"), ("both", "labels")])
def test_labels_that_rows_lack_are_refused(keys: Part, values: Part) -> None:
    with pytest.raises(ConfigError, match=f"expected entries with labels for keys from {keys} and"):
        Rows(6, 0, keys, values)
