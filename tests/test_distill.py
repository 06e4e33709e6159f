from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from carryover.adapt.distill import (
    classification_loss,
    distillation,
    feature_mse,
    image_similarity_loss,
    unit_images,
    unit_texts,
    weight_consolidation,
    zscl_loss,
)
from carryover.adapt.lora import lora_
from tiny_clip import clip, tokenize

AXES = torch.eye(2)
BOTH = {"image": True, "text": True}


def unit(rows: int, seed: int, width: int = 6) -> Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)))


def entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p)


def softmax(*logits: float) -> list[float]:
    total = sum(map(math.exp, logits))
    return [math.exp(x) / total for x in logits]


def crossed(p: list[float], q: list[float]) -> float:
    return -sum(x * math.log(y) for x, y in zip(p, q, strict=True))


def test_classification_loss_by_hand() -> None:
    loss = classification_loss(AXES, AXES, torch.tensor([0, 1]), 2.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    smoothed = classification_loss(AXES, AXES, torch.tensor([0, 1]), 2.0, 0.2)
    assert smoothed.item() == pytest.approx(0.9 * right + 0.1 * wrong)


def test_distillation_by_hand() -> None:
    teacher, student = (
        torch.tensor([[2.0, 0.0], [0.0, 4.0]]),
        torch.tensor([[0.0, 0.0], [2.0, 4.0]]),
    )
    rows = [
        crossed(softmax(1, 0), [0.5, 0.5]),  # logits over T = 2
        crossed(softmax(0, 2), softmax(1, 2)),
    ]
    found = distillation(teacher, student, 2.0).item()
    assert found == pytest.approx(4 * sum(rows) / 2)


def test_distillation_of_equal_logits_is_the_entropy_without_gradient() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0]], requires_grad=True)
    loss = distillation(logits.detach(), logits, 2.0)
    assert loss.item() == pytest.approx(4 * entropy(softmax(0.5, 0, -0.5)))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max().item() < 1e-6


def test_distillations_gradient_is_that_of_the_divergence() -> None:
    teacher, student = 3 * unit(5, 0), (3 * unit(5, 1)).requires_grad_()
    (ours,) = torch.autograd.grad(distillation(teacher, student, 2.0), student)
    divergence = F.kl_div(
        (student / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="batchmean"
    )
    (theirs,) = torch.autograd.grad(4 * divergence, student)
    assert torch.allclose(ours, theirs, atol=1e-7)
    assert torch.allclose(ours, 2 * ((student / 2).softmax(1) - (teacher / 2).softmax(1)) / 5)


def test_zscl_by_hand() -> None:
    z_student, z_teacher = AXES.flip(0), AXES  # logits over T: 1 on one sentence, 0 on the other
    one = 4 * crossed(softmax(1, 0), softmax(0, 1))
    for flags, terms in ((BOTH, 2), ({"image": True, "text": False}, 1)):
        loss = zscl_loss(z_student, z_teacher, AXES, 2.0, 2.0, **flags)
        assert loss.item() == pytest.approx(terms * one)
    half = zscl_loss(z_student, z_teacher, AXES, 2.0, 2.0, **BOTH, weight=0.5)
    assert half.item() == pytest.approx(one)


def test_zscl_compares_images_over_sentences_and_sentences_over_images() -> None:
    z_s, z_t, W = unit(3, 0), unit(3, 1), unit(5, 2)
    teacher, student = 10 * z_t @ W.T, 10 * z_s @ W.T
    by_image = zscl_loss(z_s, z_t, W, 10.0, 2.0, image=True, text=False)
    by_text = zscl_loss(z_s, z_t, W, 10.0, 2.0, image=False, text=True)
    assert by_image.item() == pytest.approx(distillation(teacher, student, 2.0).item())
    assert by_text.item() == pytest.approx(distillation(teacher.T, student.T, 2.0).item())
    assert by_image.item() != pytest.approx(by_text.item(), rel=1e-3)
    both = zscl_loss(z_s, z_t, W, 10.0, 2.0, **BOTH)
    assert both.item() == pytest.approx(by_image.item() + by_text.item())


def test_zscl_of_the_teacher_itself_is_the_entropy() -> None:
    z, W = unit(4, 0), unit(7, 1)
    logits = (10 * z @ W.T / 2).tolist()
    rows = [entropy(softmax(*row)) for row in logits]
    columns = [entropy(softmax(*column)) for column in zip(*logits, strict=True)]
    loss = zscl_loss(z, z, W, 10.0, 2.0, **BOTH)
    assert loss.item() == pytest.approx(4 * (sum(rows) / 4 + sum(columns) / 7), rel=1e-5)


def test_zscl_gives_only_the_students_images_a_gradient() -> None:
    z_s, z_t, W = (unit(n, n).requires_grad_() for n in (3, 3, 5))
    zscl_loss(z_s, z_t, W, 10.0, 2.0, **BOTH).backward()
    assert z_s.grad is not None
    assert z_s.grad.abs().min() > 0
    assert z_t.grad is None
    assert W.grad is None


def test_distillation_leaves_the_text_network_of_a_clip_without_gradient() -> None:
    student, teacher = clip(0).model, clip(1).model
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    ids = tokenize(["one", "two", "three"])
    W = unit_texts(teacher, ids)
    loss = zscl_loss(unit_images(student, x), unit_images(teacher, x), W, 14.0, 2.0, **BOTH)
    loss.backward()
    reached = {name for name, p in student.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in student.named_parameters() if name[:6] == "visual"}
    assert all(p.grad is None for p in teacher.parameters())


def test_without_image_and_text_zscl_is_fine_tuning_and_says_so() -> None:
    z = unit(3, 0).requires_grad_()
    W, labels = unit(4, 1), torch.tensor([0, 1, 2])
    plain = classification_loss(z, W, labels, 5.0, 0.2)
    with pytest.warns(UserWarning, match="image and text are both off, so this is plain fine-tun"):
        none = zscl_loss(z, unit(3, 2), W, 5.0, 2.0, image=False, text=False)
    assert none.item() == 0
    assert torch.equal(plain + none, plain)
    (with_it,) = torch.autograd.grad(plain + none, z, retain_graph=True)
    (without,) = torch.autograd.grad(plain, z)
    assert torch.equal(with_it, without)


def test_feature_mse_is_the_mean_over_entries() -> None:
    student = AXES.clone().requires_grad_()
    teacher = torch.tensor([[0.6, 0.8], [0.0, 1.0]], requires_grad=True)
    loss = feature_mse(student, teacher)
    assert loss.item() == pytest.approx((0.4**2 + 0.8**2) / 4)
    loss.backward()
    assert teacher.grad is None
    assert feature_mse(AXES, AXES).item() == 0


def test_image_similarity_leaves_an_image_itself_out() -> None:
    z_s, z_t = unit(4, 0), unit(4, 1)
    rows = []
    for i in range(4):
        others = [j for j in range(4) if j != i]
        teacher, student = (softmax(*(5 * z[others] @ z[i]).tolist()) for z in (z_t, z_s))
        rows.append(crossed(teacher, student))
    found = image_similarity_loss(z_s, z_t, 10.0, 2.0).item()
    assert found == pytest.approx(4 * sum(rows) / 4, rel=1e-5)


def test_image_similarity_gives_the_teacher_no_gradient() -> None:
    z_s, z_t = unit(4, 0).requires_grad_(), unit(4, 1).requires_grad_()
    image_similarity_loss(z_s, z_t, 10.0, 2.0).backward()
    assert z_t.grad is None
    assert z_s.grad is not None
    assert z_s.grad.abs().max() > 1e-3
    same = unit(4, 1).requires_grad_()
    image_similarity_loss(same, z_t, 10.0, 2.0).backward()
    assert same.grad is not None
    assert same.grad.abs().max() < 1e-6


def test_weight_consolidation_by_hand_and_its_gradient() -> None:
    a, b = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([[3.0]], requires_grad=True)
    start = {"a": torch.tensor([0.0, 4.0]), "b": torch.tensor([[3.5]]), "other": torch.ones(9)}
    loss = weight_consolidation({"a": a, "b": b}, start, 0.5)
    assert loss.item() == pytest.approx(0.5 * (1 + 4 + 0.25))
    loss.backward()
    assert a.grad is not None
    assert a.grad.tolist() == [1.0, -2.0]
    assert weight_consolidation({"a": a}, {"a": a.detach()}, 3.0).item() == 0


def full_texts(model: Any, ids: Tensor) -> Tensor:
    return F.normalize(model.encode_text(ids), dim=-1)


def test_short_texts_give_the_embeddings_and_gradients_of_padded_ones() -> None:
    model = clip().model
    ids = tokenize(["a", "bcd", "ab"])
    assert ids.shape[1] > int(ids.argmax(1).max()) + 1
    found = {}
    for encode in (unit_texts, full_texts):
        W = encode(model, ids)
        loss = (W * unit(3, 4, W.shape[1])).sum()
        parameters = [p for n, p in model.named_parameters() if not n.startswith("visual.")]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        found[encode] = [W, *(g for g in gradients if g is not None)]
    for ours, plain in zip(found[unit_texts], found[full_texts], strict=True):
        assert torch.allclose(ours, plain, atol=1e-6)


def test_texts_are_embedded_whole_where_the_last_tokens_count() -> None:
    model = clip().model
    model.text_pool_type = "last"
    ids = tokenize(["a", "bcd"])
    assert torch.equal(unit_texts(model, ids), full_texts(model, ids))


def test_features_have_unit_length() -> None:
    model = clip().model
    images = unit_images(model, torch.rand(3, 3, 16, 16))
    for found in (images, unit_texts(model, tokenize(["a", "b"]))):
        assert torch.allclose(found.norm(dim=1), torch.ones(len(found)))


def test_images_get_the_same_embeddings_and_gradients_though_one_token_alone_is_computed() -> None:
    model = clip().model
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    parameters = list(model.visual.parameters())
    found = []
    for z in (unit_images(model, x), F.normalize(model.encode_image(x), dim=-1)):
        gradients = torch.autograd.grad((z * unit(5, 3, z.shape[1])).sum(), parameters)
        found.append([z, *gradients])
    for ours, plain in zip(*found, strict=True):
        assert torch.allclose(ours, plain, atol=1e-6)
    seen = []
    model.visual.transformer.resblocks[-1].mlp.register_forward_hook(
        lambda module, given, out: seen.append(tuple(out.shape))
    )
    unit_images(model, x)
    assert len(seen[0]) == 2  # a token an image
    assert seen[0][0] == 5


def test_adapters_in_the_last_block_count() -> None:
    model = clip().model
    given = {"rank": 2, "alpha": 4, "targets": ["attn", "mlp.c_fc"], "sharing": "none"}
    adapters = lora_(model, generator=torch.Generator().manual_seed(0), **given)
    for name, parameter in adapters.parameters.items():
        if "lora_B" in name:
            parameter.data.fill_(0.1)
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    ids = tokenize(["a", "bcd", "ab"])
    images, texts = F.normalize(model.encode_image(x), dim=-1), full_texts(model, ids)
    assert torch.allclose(unit_images(model, x), images, atol=1e-6)
    assert torch.allclose(unit_texts(model, ids), texts, atol=1e-6)


def test_an_image_network_that_is_read_otherwise_is_computed_whole() -> None:
    model = clip().model
    model.visual.pool_type = "avg"
    x = torch.rand(3, 3, 16, 16)
    assert torch.equal(unit_images(model, x), F.normalize(model.encode_image(x), dim=-1))
