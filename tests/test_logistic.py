from __future__ import annotations

import math

import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from carryover.errors import DataError
from carryover.solve import lbfgs
from carryover.solve import logistic as module
from carryover.solve.choice import accuracies, best
from carryover.solve.logistic import Probes, logistic
from carryover.solve.ridge import ridge
from carryover.solve.softmax import principal_axes

SETS = {"digits": load_digits, "breast cancer": load_breast_cancer, "wine": load_wine}
L2 = (0.01, 1.0, 30.0)


def real(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Standardised features and labels of a set that scikit-learn brings."""
    x, y = SETS[name](return_X_y=True)
    features = torch.from_numpy(x)
    spread = features.std(0)
    spread[spread == 0] = 1
    return ((features - features.mean(0)) / spread).to(dtype), torch.from_numpy(y).long()


def blobs(n: int, d: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    middles = torch.randn(classes, d, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return middles[labels] + noise, labels


def objective(x: Tensor, y: Tensor, weights: Tensor, biases: Tensor, l2: float) -> float:
    loss = cross_entropy(x.double() @ weights.double().T + biases.double(), y)
    factor = 2 if len(biases) == 2 else 1
    return float(loss + factor * l2 / (2 * len(x)) * weights.double().square().sum())


def one(x: Tensor, y: Tensor, l2: float, **others: float) -> Probes:
    classes = int(y.max()) + 1
    options = {"tolerance": 1e-6, "max_steps": 500} | others
    return logistic(
        x,
        y,
        [torch.arange(len(y))],
        [l2],
        classes,
        float(options["tolerance"]),
        int(options["max_steps"]),
    )


@pytest.mark.parametrize("name", list(SETS))
def test_probes_are_scikit_learns_on_real_sets(name: str) -> None:
    x, y = real(name)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train, test = order[: len(order) * 2 // 3], order[len(order) * 2 // 3 :]
    found = logistic(x, y, [train], L2, int(y.max()) + 1, 1e-7, 500)
    ours = accuracies(found.class_weights, found.biases, x[test], y[test])[0]
    assert float(found.gradient.max()) <= 1e-7
    for i, l2 in enumerate(L2):
        fit = LogisticRegression(C=1 / l2, tol=1e-7, max_iter=5000)
        fit.fit(x[train].double().numpy(), y[train].numpy())
        assert abs(float(ours[i]) - fit.score(x[test].numpy(), y[test].numpy())) <= 0.001
        weights, biases = torch.from_numpy(fit.coef_), torch.from_numpy(fit.intercept_)
        if len(biases) == 1:  # scikit-learn's two classes: the difference of the weights
            weights, biases = (torch.cat([-v, v]) / 2 for v in (weights, biases))
        theirs = objective(x[train], y[train], weights, biases, l2)
        mine = objective(x[train], y[train], found.class_weights[0, i], found.biases[0, i], l2)
        assert mine <= theirs * (1 + 1e-5)
        assert float(found.objective[0, i]) == pytest.approx(mine, rel=1e-5)


def test_probe_of_two_points_by_hand() -> None:
    # x = -1, 1 and l2 = 1: with weights -w/2, w/2 the slope is -2 sigmoid(-w) + w = 0
    found = one(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([0, 1]), 1.0)
    w = float(found.class_weights[0, 0, 1, 0] - found.class_weights[0, 0, 0, 0])
    assert w == pytest.approx(2 / (1 + math.exp(w)), abs=1e-5)
    assert found.biases[0, 0].tolist() == pytest.approx([-math.log(2), -math.log(2)], abs=1e-5)


def test_a_strong_penalty_leaves_the_shares_of_the_classes() -> None:
    x, _ = blobs(60, 4, 3)
    y = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    p = torch.softmax(one(x, y, 1e9).biases[0, 0], 0)
    assert p.tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=1e-4)


def test_a_turned_space_and_a_shift_change_no_score() -> None:
    x, y = blobs(80, 6, 3)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1))).Q.double()
    before, after = one(x, y, 0.5), one(x @ turn + 7, y, 0.5)
    scores = [
        torch.log_softmax(of @ probe.class_weights[0, 0].T + probe.biases[0, 0], 1)
        for of, probe in ((x, before), (x @ turn + 7, after))
    ]
    assert torch.allclose(*scores, atol=1e-4)


def test_many_penalties_and_subsets_are_those_of_each_alone() -> None:
    x, y = blobs(60, 5, 4)
    rows = [torch.arange(20), torch.arange(0, 60, 3)]
    l2 = [3.0, 0.03, 10.0, 0.1, 1.0, 30.0, 0.1]
    together = logistic(x, y, rows, l2, 4, 1e-8, 500)
    for i, chosen in enumerate(rows):
        for j, penalty in enumerate(l2):
            alone = one(x[chosen], y[chosen], penalty, tolerance=1e-8)
            assert torch.allclose(
                alone.class_weights[0, 0], together.class_weights[i, j], atol=1e-4
            )
    assert torch.equal(together.class_weights[:, 3], together.class_weights[:, 6])


def test_fewer_rows_than_features_give_scikit_learns_probe() -> None:
    x, y = blobs(30, 100, 3)
    found = one(x, y, 0.1)
    fit = LogisticRegression(C=10, tol=1e-8, max_iter=5000).fit(x.numpy(), y.numpy())
    assert torch.allclose(found.class_weights[0, 0], torch.from_numpy(fit.coef_), atol=1e-4)


def test_few_logits_at_a_time_and_few_penalties_at_a_time_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from carryover.solve import softmax

    x, y = blobs(300, 5, 3)
    rows, l2 = [torch.arange(300)], [0.01, 0.1, 1.0, 10.0, 100.0]
    whole = logistic(x, y, rows, l2, 3, 1e-9, 500)
    monkeypatch.setattr(softmax, "LOGITS", 1)
    monkeypatch.setattr(module, "HELD", 1)
    parts = logistic(x, y, rows, l2, 3, 1e-9, 500)
    assert torch.allclose(whole.class_weights, parts.class_weights, atol=1e-6)


def test_the_same_call_gives_the_same_bits() -> None:
    x, y = real("digits")
    rows = [torch.arange(300), torch.arange(900)]
    first, second = (logistic(x, y, rows, L2, 10, 1e-4, 100) for _ in range(2))
    assert torch.equal(first.class_weights, second.class_weights)
    assert torch.equal(first.biases, second.biases)


def test_a_missing_class_is_never_predicted() -> None:
    x, y = blobs(90, 4, 3)
    chosen = (y != 1).nonzero()[:, 0]
    found = logistic(x, y, [chosen], [1.0], 3, 1e-7, 500)
    scores = x @ found.class_weights[0, 0].T + found.biases[0, 0]
    assert found.biases[0, 0, 1] == -math.inf
    assert set(scores.argmax(1).tolist()) == {0, 2}
    fit = LogisticRegression(C=1.0, tol=1e-8).fit(x[chosen].numpy(), y[chosen].numpy())
    assert (torch.from_numpy(fit.predict(x.numpy())) == scores.argmax(1)).all()


def test_a_fit_that_is_stopped_says_so() -> None:
    x, y = blobs(100, 8, 4)
    found = one(x, y, 1e-4, tolerance=1e-9, max_steps=2)
    assert found.steps.tolist() == [[2]]
    assert float(found.gradient) > 1e-9


def test_a_step_that_is_too_long_is_shortened() -> None:
    """A scaling that is far too large: without shorter steps the value would rise."""

    class Bowl:
        def at(self, x: Tensor, chosen: Tensor, scaled: bool) -> lbfgs.Point:
            value = x.cosh().sum((1, 2)).double()
            large = lbfgs.Scaling(torch.ones(len(x), 1, 1), torch.full_like(x, 50.0))
            return lbfgs.Point(value, x.sinh(), large if scaled else None)

        def largest(self, gradient: Tensor) -> Tensor:
            return gradient.abs().amax((1, 2))

    start = torch.tensor([[[2.0, -1.0]], [[0.0, 0.0]], [[-3.0, 0.5]]])
    found = lbfgs.minimise(Bowl(), start, 1e-5, 100)
    assert float(found.x.abs().max()) < 1e-4
    assert found.steps[1] == 0
    assert found.value.tolist() == pytest.approx([2.0, 2.0, 2.0])


@pytest.mark.parametrize("shape", [(50, 6), (6, 50)])
def test_principal_axes_span_the_rows(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    centred = x - x.mean(0)
    axes, spread = principal_axes(centred)
    assert axes.shape[1] == (6 if shape[0] == 50 else 5)  # centring takes one
    assert torch.allclose(axes.T @ axes, torch.eye(axes.shape[1], dtype=torch.float64))
    assert torch.allclose((centred @ axes).square().sum(0), spread)
    assert torch.allclose(centred @ axes @ axes.T, centred)


def test_the_strongest_of_equally_good_penalties_is_chosen() -> None:
    accuracy = torch.tensor([[0.5, 0.9, 0.9, 0.1], [0.7, 0.6, 0.2, 0.7]])
    assert best(accuracy, torch.tensor([0.1, 1.0, 10.0, 100.0])).tolist() == [2, 3]
    assert best(accuracy, torch.tensor([100.0, 10.0, 1.0, 0.1])).tolist() == [1, 0]


def test_what_cannot_be_fitted_is_refused() -> None:
    x, y = blobs(12, 3, 3)
    rows = [torch.arange(12)]
    with pytest.raises(DataError, match=r"expected penalties above 0, got \[0\.0\]"):
        logistic(x, y, rows, [0.0], 3, 1e-4, 10)
    with pytest.raises(DataError, match=r"expected labels of 0\.\.1, got 0 to 2"):
        logistic(x, y, rows, [1.0], 2, 1e-4, 10)
    with pytest.raises(DataError, match="two classes or more in a subset, got 1 in one of 4 rows"):
        logistic(x, y, [torch.arange(0, 12, 3)], [1.0], 3, 1e-4, 10)
    x[0, 0] = math.inf
    with pytest.raises(DataError, match="expected finite features"):
        logistic(x, y, rows, [1.0], 3, 1e-4, 10)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_probes() -> None:
    x, y = real("digits")
    rows = [torch.arange(200), torch.arange(1200)]
    here = logistic(x, y, rows, L2, 10, 1e-6, 500)
    there = logistic(x.cuda(), y.cuda(), [r.cuda() for r in rows], L2, 10, 1e-6, 500)
    assert torch.allclose(here.class_weights, there.class_weights.cpu(), atol=1e-3)
    assert torch.allclose(here.objective, there.objective.cpu(), rtol=1e-5)


@pytest.mark.parametrize("d", [3, 30])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_features_of_zeros_and_penalties_of_any_permitted_size_give_numbers(
    d: int, scale: float
) -> None:
    x = scale * torch.randn(12, d, generator=torch.Generator().manual_seed(0))
    y = torch.arange(12) % 3
    penalties = [1e-30, 1e-3, 1.0, 1e30]
    found = logistic(x, y, [torch.arange(12)], penalties, 3, 1e-4, 50)
    ridges = ridge(x, y, [torch.arange(12)], penalties, 3)
    for each in (found.class_weights, found.biases, ridges.class_weights, ridges.biases):
        assert bool(each.isfinite().all())
    if not scale:  # all that is left are the shares of the classes
        assert not found.class_weights.any()
        assert torch.allclose(found.biases.softmax(-1), torch.full_like(found.biases, 1 / 3))


def test_other_types_and_sizes_of_penalties_are_refused() -> None:
    x, y, rows = torch.randn(6, 2), torch.arange(6) % 2, [torch.arange(6)]
    with pytest.raises(DataError, match=r"of float32 or float64, got torch\.float16; give"):
        logistic(x.half(), y, rows, [1.0], 2, 1e-4, 10)
    for solve in (
        lambda l2: logistic(x, y, rows, l2, 2, 1e-4, 10),
        lambda l2: ridge(x, y, rows, l2, 2),
    ):
        for penalty in (1e300, 1e-300):
            with pytest.raises(DataError, match=r"penalties above 0, got .*; give 1e-30 to 1e\+30"):
                solve([penalty])
