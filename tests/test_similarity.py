from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from carryover.errors import DataError
from carryover.measure import hsic
from carryover.measure.hsic import Kind, kernel
from carryover.measure.similarity import cka_matrix, cka_of_told, linear_cka, published_cka, rbf_cka
from carryover.measure.similarity_batches import cka_bands, minibatch_cka


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rotation(width: int) -> Tensor:
    return torch.linalg.qr(random(width, width, seed=99).double())[0]


def alike(n: int, widths: list[int], seed: int = 0, far: float = 0.0) -> list[Tensor]:
    """Layers of one encoder: noisy linear maps of the same few directions."""
    inner = random(n, 5)
    return [
        inner @ random(5, d, seed=seed + i) + 0.3 * i * random(n, d, seed=seed + 50 + i) + far
        for i, d in enumerate(widths)
    ]


def plain_similarities(x: Tensor, kind: Kind, sigma: float) -> Tensor:
    x = x.double()
    if kind == "linear":
        return x @ x.T
    distances = torch.stack([(x - row).norm(dim=1) for row in x])
    apart = sorted(float(distances[i, j]) for i in range(len(x)) for j in range(i))
    scale = sigma * apart[(len(apart) - 1) // 2]
    return torch.exp(-(distances**2) / (2 * scale**2))


def plain_cka(
    a: Tensor, b: Tensor, kind: Kind = "linear", debiased: bool = False, sigma: float = 1.0
) -> float:
    """Straight from the definitions, in float64."""
    k, other = (plain_similarities(x, kind, sigma) for x in (a, b))
    n = len(k)
    ones, centring = torch.ones(n, 1).double(), torch.eye(n).double() - 1 / n

    def biased(p: Tensor, q: Tensor) -> float:
        return float(torch.trace(p @ centring @ q @ centring))

    def unbiased(p: Tensor, q: Tensor) -> float:
        p, q = (x - torch.diag(x.diagonal()) for x in (p, q))
        total = torch.trace(p @ q) - 2 / (n - 2) * (ones.T @ p @ q @ ones)
        total = total + (ones.T @ p @ ones) * (ones.T @ q @ ones) / ((n - 1) * (n - 2))
        return float(total) / (n * (n - 3))

    of = unbiased if debiased else biased
    return of(k, other) / math.sqrt(of(k, k) * of(other, other))


@pytest.fixture(params=["images", "features"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to the linear kernel's sums, whichever is cheaper."""
    monkeypatch.setattr(hsic, "_features_are_cheaper", lambda *_: request.param == "features")
    return str(request.param)


def test_cka_by_hand(form: str) -> None:
    a = torch.tensor([[1.0], [0.0], [-1.0], [0.0]])
    b = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]) + 3
    # |A'B|^2 = 2^2, |A'A| = 2, |B'B| = sqrt(2^2 + 2^2)
    assert float(linear_cka(a, b)) == pytest.approx(4 / (2 * math.sqrt(8)))
    # off the diagonal AA' has -1 between images 0 and 2, BB' between 1 and 3 too; U-centred (n = 4)
    # each of these alone is -1/3 at both pairs and 1/6 elsewhere, so BB' becomes twice AA'
    assert float(linear_cka(a, b, debiased=True)) == pytest.approx(1)


def test_u_centred_kernel_by_hand() -> None:
    found = kernel(torch.tensor([[1.0], [0.0], [-1.0], [0.0]]), "linear", True)
    expected = torch.full((4, 4), 1 / 6).double().fill_diagonal_(0)
    expected[[0, 2, 1, 3], [2, 0, 3, 1]] = -1 / 3
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_is_1_for_a_rotated_and_scaled_encoder(form: str, debiased: bool) -> None:
    x = random(40, 12).double()
    turned = -7 * x @ rotation(12) + 100
    assert float(linear_cka(x, turned, debiased)) == pytest.approx(1, abs=1e-9)
    assert float(linear_cka(x.float(), turned.float(), debiased)) == pytest.approx(1, abs=1e-5)
    assert float(rbf_cka(x, turned, 0.5, debiased)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_depends_on_neither_scale_nor_rotation_nor_mean(debiased: bool) -> None:
    a, b = random(30, 12).double(), (random(30, 12) + random(30, 12, seed=1)).double()
    same: list[Callable[[Tensor], Tensor]] = [
        lambda x: 1e-3 * x,
        lambda x: x @ rotation(12),
        lambda x: x + random(12, seed=3),
    ]
    for change in same:
        for value in (linear_cka, lambda p, q, d: rbf_cka(p, q, 0.8, d)):
            expected = float(value(a, b, debiased))
            assert 0.1 < expected < 0.95
            assert float(value(change(a), b, debiased)) == pytest.approx(expected, abs=1e-9)


def test_a_stretched_encoder_is_not_the_same() -> None:
    x = random(200, 6)
    stretched = x * torch.tensor([20.0, 1, 1, 1, 1, 1])
    assert float(linear_cka(x, stretched)) < 0.7


def test_independent_embeddings_are_alike_only_if_biased(form: str) -> None:
    pairs = [(random(50, 200, seed=2 * i), random(50, 200, seed=2 * i + 1)) for i in range(20)]
    biased = torch.stack([linear_cka(a, b) for a, b in pairs])
    debiased = torch.stack([linear_cka(a, b, debiased=True) for a, b in pairs])
    assert float(biased.min()) > 0.75
    assert abs(float(debiased.mean())) < 0.01
    assert float(debiased.abs().max()) < 0.1
    assert bool((debiased < 0).any())


@pytest.mark.parametrize("n", [4, 7, 70, 200])
@pytest.mark.parametrize("debiased", [False, True])
def test_all_pairs_agree_with_the_definition(form: str, n: int, debiased: bool) -> None:
    a, b = alike(n, [3, 20, 64]), alike(n, [9, 64], seed=10, far=5.0)
    found = cka_matrix(a, b, "linear", debiased)
    assert found.shape == (3, 2)
    expected = torch.tensor([[plain_cka(x, y, "linear", debiased) for y in b] for x in a])
    assert float((found - expected).abs().max()) < 1e-5
    exact = cka_matrix([x.double() for x in a], [y.double() for y in b], "linear", debiased)
    assert float((exact - expected.double()).abs().max()) < 1e-6


def test_many_images_cost_no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = alike(4000, [4])[0], alike(4000, [6], seed=1)[0]
    found = []
    for features in (False, True):
        monkeypatch.setattr(hsic, "_features_are_cheaper", lambda *_, f=features: f)
        found.append(float(linear_cka(a, b, debiased=True)))
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_the_cheaper_form_is_taken() -> None:
    layers = [torch.empty(512, 768)] * 26
    assert not hsic._features_are_cheaper(layers, 13 * 13 + 26)
    assert hsic._features_are_cheaper([torch.empty(6000, 64)] * 2, 3)


@pytest.mark.parametrize("debiased", [False, True])
def test_rbf_agrees_with_the_definition(debiased: bool) -> None:
    a, b = alike(31, [3, 20]), alike(31, [9], seed=10)
    for sigma in (0.2, 1.0):
        found = cka_matrix(a, b, "rbf", debiased, sigma)
        for i, x in enumerate(a):
            expected = plain_cka(x, b[0], "rbf", debiased, sigma)
            assert float(found[i, 0]) == pytest.approx(expected, abs=1e-5)


def test_a_wide_rbf_kernel_is_the_linear_one() -> None:
    a, b = alike(40, [6, 20], seed=1)
    assert float(rbf_cka(a, b, 50.0)) == pytest.approx(float(linear_cka(a, b)), abs=2e-3)
    assert abs(float(rbf_cka(a, b, 0.3)) - float(linear_cka(a, b))) > 0.02


def test_panels_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = alike(90, [100, 120])
    whole = cka_matrix(layers, layers, "linear", True)
    monkeypatch.setattr(hsic, "HELD", 2 * 90 * 7)
    assert torch.allclose(cka_matrix(layers, layers, "linear", True), whole, atol=1e-6)


def test_means_far_from_0_cost_no_digits(form: str) -> None:
    a, b = (alike(60, [32], seed=s, far=1000.0)[0] for s in (0, 7))
    for debiased in (False, True):
        found = float(linear_cka(a, b, debiased))
        exact = plain_cka(a.double() - 1000, b.double() - 1000, "linear", debiased)
        assert found == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_very_small_and_large_embeddings_are_compared(form: str, scale: float) -> None:
    a, b = alike(100, [32, 20])
    for debiased in (False, True):
        found = float(linear_cka(scale * a, scale * b, debiased))
        assert found == pytest.approx(plain_cka(a, b, "linear", debiased), abs=1e-5)


def test_a_batch_of_few_wide_embeddings_keeps_its_digits() -> None:
    a, b = random(4, 50_000), random(4, 50_000, seed=1) + 0.1 * random(4, 50_000)
    exact = plain_cka(a - a.mean(0), b - b.mean(0), debiased=True)
    assert float(linear_cka(a, b, debiased=True)) == pytest.approx(exact, abs=1e-5)


def test_half_precision_and_gradients_are_taken_as_they_come() -> None:
    a, b = alike(40, [16, 24])
    found = cka_matrix([a.bfloat16()], [b.requires_grad_()], "linear", True)
    assert not found.requires_grad
    assert float(found) == pytest.approx(
        plain_cka(a.bfloat16(), b.detach(), debiased=True), abs=1e-5
    )


def test_an_encoder_with_itself_is_symmetric_with_ones() -> None:
    layers = alike(80, [100, 90, 120])
    found = cka_matrix(layers, layers, "linear", True)
    assert torch.equal(found, found.T)
    assert torch.allclose(found.diagonal(), torch.ones(3).double())


def test_one_batch_is_the_exact_value() -> None:
    a, b = alike(64, [16, 80]), alike(64, [24], seed=10)
    for kind in ("linear", "rbf"):
        exact = cka_matrix(a, b, kind, True)
        assert torch.allclose(minibatch_cka([(a, b)], kind), exact, atol=1e-12)


def test_batches_are_means_of_the_unbiased_sums() -> None:
    a, b = alike(60, [16])[0], alike(60, [24], seed=10)[0]

    def mean(x: Tensor, y: Tensor) -> float:
        parts = [slice(0, 20), slice(20, 60)]
        sums = [
            float((kernel(x[p], "linear", True) * kernel(y[p], "linear", True)).sum())
            for p in parts
        ]
        return sums[0] / (20 * 17) + sums[1] / (40 * 37)

    found = minibatch_cka([([x[:20]], [y[:20]]) for x, y in [(a, b)]] + [([a[20:]], [b[20:]])])
    assert float(found) == pytest.approx(mean(a, b) / math.sqrt(mean(a, a) * mean(b, b)), abs=1e-6)


def test_the_batch_size_hardly_moves_the_value() -> None:
    a, b = alike(600, [16])[0], alike(600, [24], seed=10)[0]
    exact = float(linear_cka(a, b, debiased=True))
    for size in (4, 10, 100):
        found = minibatch_cka(
            [([x], [y]) for x, y in zip(a.split(size), b.split(size), strict=True)]
        )
        assert float(found) == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("size", [4, 5])
def test_small_batches_never_give_nan(size: int) -> None:
    for seed in range(48):
        width = [1, 3, 40, 3000][seed % 4]
        a, b = random(size, width, seed=seed), random(size, 7, seed=seed + 1000)
        if seed % 3 == 0:
            a[: size // 2] = a[0]  # some images are equal
        for kind in ("linear", "rbf"):
            found = float(minibatch_cka([([a], [b])], kind))
            assert -1 <= found <= 1


def test_a_batch_without_differences_counts_as_0() -> None:
    a, b = alike(20, [16])[0], alike(20, [24], seed=10)[0]
    dead = torch.full_like(a, 0.1)
    found = minibatch_cka([([a], [b]), ([dead], [b])])
    assert float(found) == pytest.approx(float(linear_cka(a, b, True)) / math.sqrt(2), abs=1e-6)


def test_published_score_is_the_scale_and_not_cka() -> None:
    x, y = random(20, 8), random(20, 8, seed=1)
    assert float(published_cka(x, x)) == pytest.approx(1 / float((x * x).norm()))
    assert float(published_cka(10 * x, 10 * x)) == pytest.approx(float(published_cka(x, x)) / 100)
    by_hand = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 5.0], [0.0, 2.0]])
    # products 3, 4: 5; squares 9, 4 and 1, 25, 4
    expected = 5 / math.sqrt((81 + 16) * (1 + 625 + 16))
    assert float(published_cka(*by_hand)) == pytest.approx(expected)
    assert float(published_cka(x, y)) != pytest.approx(float(linear_cka(x, y)), abs=0.1)


@pytest.mark.parametrize("debiased", [False, True])
def test_bands_hold_the_value(debiased: bool) -> None:
    a, b = alike(60, [8, 30, 200]), alike(60, [9, 40, 300], seed=10)
    for kind in ("linear", "rbf"):
        bands = cka_bands(
            a, b, kind, debiased, draws=200, generator=torch.Generator().manual_seed(1)
        )
        exact = cka_matrix(a, b, kind, debiased).diagonal()
        for band, value in zip(bands, exact.tolist(), strict=True):
            assert band.value == pytest.approx(value, abs=1e-5)
            assert band.low < band.value < band.high
            assert band.high - band.low < 0.4


def test_the_band_of_an_encoder_with_itself_has_no_width() -> None:
    x = alike(30, [20])
    (band,) = cka_bands(x, x, "linear", True, draws=50, generator=torch.Generator())
    assert (band.low, band.value, band.high) == pytest.approx((1, 1, 1))


def test_bands_hold_the_true_value_as_often_as_they_say() -> None:
    # b is a and 4 columns of its own: |C_ab|^2 / (|C_aa| |C_bb|) = 4 / (sqrt(4) sqrt(8))
    held = 0
    for seed in range(60):
        a = random(100, 4, seed=3 * seed)
        b = torch.cat([a, random(100, 4, seed=3 * seed + 1)], 1)
        generator = torch.Generator().manual_seed(seed)
        (band,) = cka_bands([a], [b], "linear", True, draws=200, generator=generator)
        held += band.low <= 4 / math.sqrt(4 * 8) <= band.high
    assert held >= 52


def test_bands_repeat_with_the_generator() -> None:
    a, b = alike(30, [20]), alike(30, [20], seed=3)
    bands = [
        cka_bands(a, b, "linear", True, draws=20, generator=torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    ]
    assert bands[0] == bands[1] != bands[2]


def test_what_has_no_value_is_refused(form: str) -> None:
    x, constant = random(8, 5), torch.full((8, 5), 0.1)
    one_apart = torch.zeros(8, 5)
    one_apart[3] = 1.7
    for debiased in (False, True):
        with pytest.raises(DataError, match=r"that tell the images apart.*number 1"):
            cka_matrix([x, constant], [x], "linear", debiased)
        with pytest.raises(DataError, match="number 0 of the second encoder"):
            cka_matrix([x], [constant], "rbf", debiased)
        with pytest.raises(DataError, match="got a constant one in pair 0"):
            cka_bands([x], [constant], "linear", debiased, draws=2, generator=torch.Generator())
    assert 0 <= float(linear_cka(x, one_apart)) <= 1
    with pytest.raises(DataError, match="one image against equal others"):
        linear_cka(x, one_apart, debiased=True)
    with pytest.raises(DataError, match="expected a median distance and a sigma above 0"):
        rbf_cka(x, one_apart, 1.0)
    with pytest.raises(DataError, match="expected a median distance and a sigma above 0"):
        rbf_cka(x, x, 0.0)


def test_wrong_input_is_refused() -> None:
    x = random(8, 5)
    generator = torch.Generator()
    with pytest.raises(DataError, match=r"of the same images, got \[7, 8\]"):
        cka_matrix([x], [x[:7]], "linear", True)
    with pytest.raises(DataError, match="got no layers"):
        cka_matrix([], [], "linear", True)
    with pytest.raises(DataError, match="expected 4 images or more, got 3"):
        linear_cka(x[:3], x[:3].clone(), debiased=True)
    with pytest.raises(DataError, match="expected 4 images or more, got 3"):
        minibatch_cka([([x[:5]], [x[:5]]), ([x[5:]], [x[5:]])])
    with pytest.raises(DataError, match="expected 2 images or more, got 1"):
        linear_cka(x[:1], x[:1].clone())
    with pytest.raises(DataError, match="as many layers in every batch"):
        minibatch_cka([([x], [x]), ([x, 2 * x], [x])])
    with pytest.raises(DataError, match="expected at least one batch"):
        minibatch_cka([])
    for bad in (math.nan, math.inf):
        with pytest.raises(DataError, match="expected finite embeddings, got some that are not"):
            linear_cka(x, torch.where(x > 1, bad, x))
    with pytest.raises(DataError, match="expected as many layers in both, got 1 and 2"):
        cka_bands([x], [x, x], "linear", True, draws=2, generator=generator)
    with pytest.raises(DataError, match="expected 1 draw or more and a level"):
        cka_bands([x], [x], "linear", True, draws=0, generator=generator)
    for wrong in (torch.zeros(3, 3), torch.full((3, 3), math.nan)):
        with pytest.raises(DataError, match="finite embeddings that are not all 0"):
            published_cka(wrong, torch.ones(3, 3))


@pytest.mark.parametrize("kind", ["linear", "rbf"])
@pytest.mark.parametrize("debiased", [False, True])
def test_a_layer_that_tells_no_images_apart_has_no_cka_and_others_theirs(
    kind: Kind, debiased: bool
) -> None:
    a, b = alike(30, [6, 9, 4]), alike(30, [6, 9, 4], seed=7)
    whole = cka_matrix(a, b, kind, debiased, 0.5)
    assert torch.equal(cka_of_told(a, b, kind, debiased, 0.5), whole)
    found = cka_of_told([a[0], torch.full((30, 9), 0.3), a[2]], b, kind, debiased, 0.5)
    assert found[1].isnan().all()
    assert torch.allclose(found[[0, 2]], whole[[0, 2]])
    assert cka_of_told(a, [b[0], b[1], torch.zeros(30, 4)], kind, debiased, 0.5)[:, 2].isnan().all()
