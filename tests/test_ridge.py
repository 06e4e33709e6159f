from __future__ import annotations

import math

import pytest
import torch
from sklearn.linear_model import Ridge, RidgeClassifier
from torch import Tensor

from carryover.errors import DataError
from carryover.solve import ridge as module
from carryover.solve.ridge import ridge
from test_logistic import SETS, blobs, real

L2 = (0.01, 1.0, 100.0, 10_000.0)


def scores(x: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    return x @ weights.T + biases


@pytest.mark.parametrize("name", list(SETS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_predictions_are_scikit_learns_on_real_sets(name: str, dtype: torch.dtype) -> None:
    x, y = real(name, dtype)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    rows = [order[:30], order[: len(y) // 3], order[: len(y) * 2 // 3]]
    found = ridge(x, y, rows, L2, int(y.max()) + 1)
    same = []
    for i, chosen in enumerate(rows):
        for j, l2 in enumerate(L2):
            fit = RidgeClassifier(alpha=l2).fit(x[chosen].double().numpy(), y[chosen].numpy())
            expected = torch.from_numpy(fit.predict(x.double().numpy()))
            ours = scores(x, found.class_weights[i, j], found.biases[i, j]).argmax(1)
            same.append((ours == expected).double().mean())
    assert float(torch.stack(same).mean()) >= 0.999


@pytest.mark.parametrize(("n", "d"), [(60, 7), (7, 60), (20, 20), (21, 20), (1, 3)])
def test_weights_are_scikit_learns(n: int, d: int) -> None:
    x, y = blobs(n, d, 3)
    found = ridge(x, y, [torch.arange(n)], L2, 3)
    targets = 2 * torch.nn.functional.one_hot(y, 3).double() - 1
    for j, l2 in enumerate(L2):
        fit = Ridge(alpha=l2, solver="svd").fit(x.numpy(), targets.numpy())
        assert torch.allclose(found.class_weights[0, j], torch.from_numpy(fit.coef_), atol=1e-8)
        present = y.unique()
        assert found.biases[0, j, present].tolist() == pytest.approx(
            torch.from_numpy(fit.intercept_)[present].tolist()
        )


def test_one_feature_by_hand() -> None:
    # centred x is -1, 1 and the targets of class 1 are -1, 1: w = 2 / (2 + l2)
    x = torch.tensor([[4.0], [6.0]])
    found = ridge(x, torch.tensor([0, 1]), [torch.arange(2)], [2.0], 2)
    assert found.class_weights[0, 0].flatten().tolist() == pytest.approx([-0.5, 0.5])
    assert found.biases[0, 0].tolist() == pytest.approx([2.5, -2.5])


def test_nested_subsets_are_those_of_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs(400, 9, 4)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(3))
    rows = [order[:8], order[:50], order[:50], order[:333], order[5:60], order]
    together = ridge(x, y, rows, L2, 4)
    monkeypatch.setattr(module, "BLOCK", 7)
    for i, chosen in enumerate(rows):
        alone = ridge(x, y, [chosen], L2, 4)
        assert torch.allclose(alone.class_weights[0], together.class_weights[i], atol=1e-9)
        assert torch.allclose(alone.biases[0], together.biases[i], atol=1e-9)


def test_float64_is_taken_where_rounding_would_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns that differ by a thousandth of what they share."""
    x, y = blobs(500, 6, 3)
    x[:, 1] = x[:, 0] + 1e-3 * x[:, 1]
    narrow, rows = x.float(), [torch.arange(500)]
    exact = ridge(narrow.double(), y, rows, [1e-6], 3).class_weights
    assert torch.allclose(ridge(narrow, y, rows, [1e-6], 3).class_weights.double(), exact, rtol=0.3)
    monkeypatch.setattr(module, "EXACT", math.inf)
    rounded = ridge(narrow, y, rows, [1e-6], 3).class_weights.double()
    assert not torch.allclose(rounded, exact, rtol=0.3)


def test_a_missing_class_is_never_predicted() -> None:
    x, y = blobs(90, 4, 3)
    chosen = (y != 1).nonzero()[:, 0]
    found = ridge(x, y, [chosen], [1.0], 3)
    assert found.biases[0, 0, 1] == -math.inf
    fit = RidgeClassifier(alpha=1.0).fit(x[chosen].numpy(), y[chosen].numpy())
    ours = scores(x, found.class_weights[0, 0], found.biases[0, 0]).argmax(1)
    assert (ours == torch.from_numpy(fit.predict(x.numpy()))).all()


def test_what_cannot_be_fitted_is_refused() -> None:
    x, y = blobs(12, 3, 3)
    rows = [torch.arange(12)]
    with pytest.raises(DataError, match=r"expected penalties above 0, got \[-1\.0\]"):
        ridge(x, y, rows, [-1.0], 3)
    with pytest.raises(DataError, match=r"expected labels of 0\.\.1, got 0 to 2"):
        ridge(x, y, rows, [1.0], 2)
    with pytest.raises(DataError, match="expected a row or more a subset"):
        ridge(x, y, [rows[0][:0]], [1.0], 3)
    for strange in (math.nan, math.inf, -math.inf):
        x[5, 1] = strange
        with pytest.raises(DataError, match="ridge probe: expected finite features"):
            ridge(x, y, rows, [1.0], 3)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_probes() -> None:
    x, y = real("digits")
    rows = [torch.arange(50), torch.arange(1200)]
    here = ridge(x, y, rows, L2, 10)
    there = ridge(x.cuda(), y.cuda(), [r.cuda() for r in rows], L2, 10)
    assert torch.allclose(here.class_weights, there.class_weights.cpu(), atol=1e-4)
