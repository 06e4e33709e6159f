from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from carryover.errors import ConfigError
from carryover.models.heads import STARTS, Adapted, Head, linear_head, mlp_head, projected
from small_networks import resnet, vit


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def texts(classes: int = 3, width: int = 12) -> Tensor:
    return nn.functional.normalize(torch.randn(classes, width, generator=draw(9)), dim=1)


def test_logits_are_the_weighted_embedding_and_the_bias() -> None:
    head = Head(torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([0.5, 0.0]), unit=False)
    assert head(torch.tensor([[3.0, 4.0]])).tolist() == [[11.5, -4.0]]


def test_unit_head_forgets_the_length_of_an_embedding() -> None:
    head = Head(torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([0.5, 0.0]), unit=True)
    assert torch.allclose(head(torch.tensor([[3.0, 4.0]])), torch.tensor([[2.7, -0.8]]))
    x = torch.randn(4, 2, generator=draw())
    assert torch.allclose(head(x), head(100 * x))


def test_zero_start_gives_every_class_the_same_chance() -> None:
    head = linear_head("zeros", 4, 12, generator=draw())
    assert head(torch.randn(5, 12, generator=draw())).tolist() == [[0.0] * 4] * 5


def test_random_start_is_that_of_a_linear_layer_of_the_same_seed() -> None:
    made = linear_head("random", 40, 64, generator=draw(1))
    torch.manual_seed(1)
    plain = nn.Linear(64, 40)
    assert torch.allclose(made.weight, plain.weight, rtol=1e-5)
    assert torch.allclose(made.bias, plain.bias, rtol=1e-5)


def test_random_start_follows_its_generator_alone() -> None:
    before = torch.get_rng_state()
    heads = [linear_head("random", 3, 12, generator=draw(seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)
    assert not torch.equal(heads[0].bias, heads[2].bias)


def test_text_start_with_unit_embeddings_is_zero_shot() -> None:
    head = linear_head(
        "text", 3, 12, generator=draw(), class_weights=texts(), scale=100.0, unit=True
    )
    x = torch.randn(5, 12, generator=draw())
    cosine = torch.stack([torch.cosine_similarity(x, text[None]) for text in texts()], dim=1)
    assert torch.allclose(head(x), 100 * cosine, atol=1e-4)
    assert head(texts()).argmax(dim=1).tolist() == [0, 1, 2]


def test_training_a_text_head_leaves_the_class_weights_as_they_were() -> None:
    weights = texts()
    kept = weights.clone()
    head = linear_head("text", 3, 12, generator=draw(), class_weights=weights)
    head(torch.ones(2, 12)).sum().backward()
    torch.optim.SGD(head.parameters(), lr=1.0).step()
    assert torch.equal(weights, kept)
    assert not torch.equal(head.weight, kept)


def test_fixed_starts_draw_nothing() -> None:
    generator = draw()
    state = generator.get_state()
    assert set(STARTS) == {"zeros", "random", "text"}
    linear_head("zeros", 3, 12, generator=generator)
    linear_head("text", 3, 12, generator=generator, class_weights=texts())
    assert torch.equal(generator.get_state(), state)


def test_text_start_needs_class_weights_of_its_shape() -> None:
    with pytest.raises(ConfigError, match=r"class weights of 3 by 12 .* got none; choose an enc"):
        linear_head("text", 3, 12, generator=draw())
    with pytest.raises(ConfigError, match=r"of 4 by 12 for a head .* got 3 by 12;"):
        linear_head("text", 4, 12, generator=draw(), class_weights=texts())


def test_adapted_is_the_head_on_what_the_network_returns() -> None:
    image = vit()
    head = linear_head("random", 3, 12, generator=draw())
    x = torch.rand(2, 3, 16, 16, generator=draw())
    model = Adapted(image, projected, head)
    assert torch.equal(model(x), head(image(x)))
    names = {name.partition(".")[0] for name, _ in model.named_parameters()}
    assert names == {"image", "head"}
    assert model.image is image


def test_a_text_head_on_a_frozen_network_predicts_as_zero_shot_before_training() -> None:
    image = vit()
    head = linear_head("text", 3, 12, generator=draw(), class_weights=texts(), scale=10, unit=True)
    x = torch.rand(8, 3, 16, 16, generator=draw())
    zero_shot = nn.functional.normalize(image(x), dim=1) @ texts().T
    assert torch.allclose(Adapted(image, projected, head)(x), 10 * zero_shot, atol=1e-5)


def test_several_heads_share_one_pass() -> None:
    passes = []

    def counted(image: nn.Module, x: Tensor) -> Tensor:
        passes.append(len(x))
        return projected(image, x)

    heads = {f"{n}-way": linear_head("random", n, 12, generator=draw(n)) for n in (2, 5)}
    model = Adapted(vit(), counted, heads["2-way"])
    x = torch.rand(4, 3, 16, 16, generator=draw())
    found = model.by_head(x, heads)
    assert passes == [4]
    assert {name: logits.shape for name, logits in found.items()} == {
        "2-way": (4, 2),
        "5-way": (4, 5),
    }
    assert torch.equal(found["2-way"], model(x))


def test_a_copy_uses_its_own_network() -> None:
    model = Adapted(vit(), projected, linear_head("random", 3, 12, generator=draw()))
    other = copy.deepcopy(model)
    x = torch.rand(2, 3, 16, 16, generator=draw())
    before = model(x)
    with torch.no_grad():
        other.image.ln_post.weight.zero_()
    assert torch.equal(model(x), before)
    assert not torch.equal(other(x), before)


def test_frozen_batch_norms_keep_their_statistics_in_training_mode() -> None:
    model = Adapted(resnet(), projected, linear_head("random", 3, 12, generator=draw()))
    model.image.requires_grad_(False)
    model.image.layer4.requires_grad_(True)
    model.train()
    assert model.training
    assert not model.image.bn1.training
    assert model.image.layer4[0].bn1.training
    assert not model.eval().image.layer4[0].bn1.training


def test_a_deep_head_has_relus_between_and_a_sigmoid_where_asked() -> None:
    head = mlp_head(12, [5, 4], 3, generator=torch.Generator().manual_seed(0), sigmoid=True)
    assert [type(part).__name__ for part in head] == [
        *("Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear", "Sigmoid"),
    ]
    assert [tuple(p.shape) for p in head.parameters()] == [
        (5, 12),
        (5,),
        (4, 5),
        (4,),
        (3, 4),
        (3,),
    ]
    outputs = head(100 * torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(1)))
    assert outputs.shape == (6, 3)
    assert 0 <= outputs.min() < outputs.max() <= 1


def test_a_deep_head_without_hidden_layers_is_linear_and_drawn_from_its_generator() -> None:
    one, same, other = (
        mlp_head(7, [], 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert [type(part).__name__ for part in one] == ["Flatten", "Linear"]
    assert torch.equal(one[1].weight, same[1].weight)
    assert not torch.equal(one[1].weight, other[1].weight)
    assert one[1].weight.abs().max() <= 7**-0.5
    x = torch.randn(3, 7)
    torch.testing.assert_close(one(x), x @ one[1].weight.T + one[1].bias)
