from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carryover.errors import DataError
from carryover.models.cross_attention import Rows
from carryover.models.retrieval_stage import MapRetrieval, Retrieval, Tokens, attended, zero_
from small_retrieval import DIMS, STAGE, K, drawn, small


def stage(width: int, tokens: Tokens, layers: int = 2) -> MapRetrieval:
    torch.manual_seed(0)
    shape = {"layers": layers, "heads": 1, "head_width": 4, "multiplier": 1}
    return MapRetrieval(Retrieval(width, Rows(6), **shape), tokens)


def given() -> tuple[Tensor, Tensor]:
    return drawn(3, 3, 32, 32), drawn(3, K, 9, seed=1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", list(DIMS))
def test_a_zeroed_branch_leaves_the_output_bit_for_bit(name: str, training: bool) -> None:
    x, rows = given()
    plain, with_stages = small(name, None).train(training), small(name).train(training)
    assert not torch.equal(plain(x), with_stages(x, rows))
    plain, with_stages = small(name, None).train(training), small(name).train(training)
    zero_(with_stages)
    assert torch.equal(plain(x), with_stages(x, rows))


@pytest.mark.parametrize("name", ["resnet18", "alexnet"])
def test_reshaped_tokens_change_the_output_even_with_a_zeroed_branch(name: str) -> None:
    x, rows = given()
    plain, broken = small(name, None).eval(), small(name, STAGE | {"tokens": "reshaped"}).eval()
    zero_(broken)
    assert not torch.allclose(plain(x), broken(x, rows), atol=1e-4)


def test_a_zeroed_branch_still_learns() -> None:
    network, (x, rows) = small("resnet18"), given()
    zero_(network)
    network(x, rows).square().sum().backward()
    grad = network.attend[0].retrieval.attends[0].out.weight.grad
    assert float(grad.abs().sum()) > 0


def test_reshaped_tokens_scramble_a_map_by_hand() -> None:
    x = torch.arange(8.0).view(1, 2, 2, 2)  # two channels: 0 1 2 3 and 4 5 6 7
    rows = torch.zeros(1, 1, 6)
    found = {}
    for tokens in ("positions", "reshaped"):
        one = stage(2, tokens)
        zero_(one)
        found[tokens] = one(x, rows)[0].flatten(1).tolist()
    assert found["positions"] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found["reshaped"] == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_a_token_is_a_position_of_the_map() -> None:
    one, plain = stage(3, "positions"), drawn(2, 3, 2, 5)
    rows = drawn(2, K, 6, seed=1)
    by_hand = one.retrieval(plain.permute(0, 2, 3, 1).reshape(2, 10, 3), rows)
    expected = by_hand.reshape(2, 2, 5, 3).permute(0, 3, 1, 2)
    assert torch.equal(one(plain, rows), expected)


def test_moving_positions_moves_what_a_stage_gives() -> None:
    one, x, rows = stage(3, "positions"), drawn(1, 3, 4, 4), drawn(1, K, 6, seed=1)
    assert torch.allclose(one(x.flip(2), rows), one(x, rows).flip(2), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("resnet18", [1024] * 4 + [256] * 4 + [64] * 4 + [16] * 4),
        ("alexnet", [4] * 2),
        ("perceiver", [3] * 4),
    ],
)
def test_weights_of_every_layer_are_given_and_sum_to_one(name: str, positions: list[int]) -> None:
    network, (x, rows) = small(name, STAGE | {"dropout": 0.5}), given()
    found = attended(network, x, rows)
    assert [tuple(weights.shape) for weights in found] == [(3, 1, p, K) for p in positions]
    for weights in found:
        assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert not weights.requires_grad
    assert network.training
    again = attended(network, x, rows)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


def test_a_part_in_evaluation_mode_stays_in_it() -> None:
    network, (x, rows) = small("resnet18"), given()
    network.bn1.eval()
    attended(network, x, rows)
    assert [network.training, network.bn1.training, network.layer1.training] == [True, False, True]
    assert not any(isinstance(m, nn.Dropout) and m._forward_pre_hooks for m in network.modules())


def test_a_row_like_what_keys_ask_for_gets_the_weight() -> None:
    """With q and k of one projection, the row that equals a token has the greatest product."""
    retrieval = Retrieval(6, Rows(6), layers=1, heads=1, head_width=6, multiplier=1)
    with torch.no_grad():
        retrieval.attends[0].q.weight.copy_(4 * torch.eye(6))
        retrieval.attends[0].k.weight.copy_(4 * torch.eye(6))
    rows = drawn(2, 3, 6)
    (weights,) = attended(MapRetrieval(retrieval, "positions"), rows.mT[:, :, None], rows)
    assert weights[:, 0].argmax(-1).tolist() == [[0, 1, 2]] * 2
    assert float(weights[:, 0].diagonal(dim1=1, dim2=2).min()) > 0.9


def test_rows_of_another_width_are_refused() -> None:
    network, (x, rows) = small("perceiver"), given()
    with pytest.raises(DataError, match="expected entries of 9 numbers, got 6; give the features"):
        network(x, rows[..., :6])
