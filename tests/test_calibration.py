from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor

from carryover.errors import DataError
from carryover.measure.calibration import (
    LEAST,
    brier,
    calibration_error,
    negative_log_likelihood,
)

# two images in (0.6, 0.8], one of them right; two in (0.8, 1], both right
HAND = torch.tensor([[0.7, 0.3], [0.3, 0.7], [0.9, 0.1], [0.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 0, 1])


def probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    return torch.softmax(logits / temperature, 1)


def drawn(n: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits, and labels drawn from their probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    return logits, labels


def plain_error(p: Tensor, labels: Tensor, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = [i for i in range(len(p)) if b / bins < float(p[i].max()) <= (b + 1) / bins]
        hits = sum(int(p[i].argmax() == labels[i]) for i in inside)
        total += abs(hits - sum(float(p[i].max()) for i in inside))
    return total / len(p)


def plain_adaptive(p: Tensor, labels: Tensor, bins: int) -> float:
    order = sorted(range(len(p)), key=lambda i: float(p[i].max()))
    total = 0.0
    for b in range(bins):
        inside = [i for rank, i in enumerate(order) if rank * bins // len(p) == b]
        hits = sum(int(p[i].argmax() == labels[i]) for i in inside)
        total += abs(hits - sum(float(p[i].max()) for i in inside))
    return total / len(p)


def test_calibration_error_by_hand() -> None:
    # |1 - 1.4| + |2 - 1.9|, over 4
    assert calibration_error(HAND, LABELS, 5, "equal") == pytest.approx(0.125)
    assert calibration_error(HAND, LABELS, 2, "adaptive") == pytest.approx(0.125)
    assert calibration_error(HAND, LABELS, 1, "equal") == pytest.approx(0.075)  # |3 - 3.3| / 4


def test_calibration_error_is_small_where_labels_follow_the_probabilities() -> None:
    logits, labels = drawn(40_000, 5, 0)
    for width in ("equal", "adaptive"):
        assert calibration_error(probabilities(logits), labels, 15, width) < 0.01
        sharp = probabilities(logits, 0.25)
        assert calibration_error(sharp, labels, 15, width) > 0.1


def test_confidence_one_lies_in_the_last_bin() -> None:
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert calibration_error(p, torch.tensor([0, 1]), 15, "equal") == 0
    assert calibration_error(p, torch.tensor([1, 0]), 15, "equal") == 1


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_calibration_error_agrees_with_a_plain_version(bins: int) -> None:
    logits, labels = drawn(300, 4, 1)
    p = probabilities(logits, 0.5)
    assert calibration_error(p, labels, bins, "equal") == pytest.approx(
        plain_error(p, labels, bins)
    )
    assert calibration_error(p, labels, bins, "adaptive") == pytest.approx(
        plain_adaptive(p, labels, bins)
    )


def test_brier_score_by_hand() -> None:
    # 0.18, 0.98, 0.02 and 0
    assert brier(HAND, LABELS) == pytest.approx(0.295)


def test_brier_score_is_least_for_the_probabilities_that_labels_follow() -> None:
    logits, labels = drawn(20_000, 3, 2)
    scores = [brier(probabilities(logits, t), labels) for t in (0.5, 1.0, 2.0)]
    assert scores[1] == min(scores)
    wrong = torch.tensor([[0.0, 1.0]])
    assert brier(wrong, torch.tensor([0])) == 2
    assert brier(wrong, torch.tensor([1])) == 0


def test_brier_score_agrees_with_a_plain_version() -> None:
    logits, labels = drawn(100, 4, 3)
    p = probabilities(logits)
    expected = sum(
        sum((float(p[i, c]) - (c == int(labels[i]))) ** 2 for c in range(4)) for i in range(100)
    )
    assert brier(p, labels) == pytest.approx(expected / 100)


def test_likelihood_by_hand() -> None:
    expected = -(math.log(0.7) + math.log(0.3) + math.log(0.9)) / 4
    assert negative_log_likelihood(HAND, LABELS) == pytest.approx(expected)


def test_likelihood_of_a_label_without_probability_is_finite() -> None:
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    labels = torch.tensor([1, 0])
    wanted = -(math.log(LEAST) + math.log(0.5)) / 2
    assert negative_log_likelihood(p, labels) == pytest.approx(wanted)
    assert negative_log_likelihood(p.float(), labels) == pytest.approx(wanted)
    small = torch.tensor([[1.0, 1e-200]], dtype=torch.float64)  # above it, as it is
    assert negative_log_likelihood(small, labels[:1]) == pytest.approx(-math.log(1e-200))


def test_likelihood_of_equal_probabilities_is_the_logarithm_of_their_number() -> None:
    p = torch.full((6, 8), 1 / 8)
    assert negative_log_likelihood(p, torch.arange(6)) == pytest.approx(math.log(8))


def test_likelihood_is_scikit_learns() -> None:
    logits, labels = drawn(200, 5, 4)
    p = probabilities(logits)
    assert negative_log_likelihood(p, labels) == pytest.approx(
        log_loss(labels, p, labels=list(range(5)))
    )


def test_logits_and_foreign_labels_are_refused() -> None:
    for measure in (brier, negative_log_likelihood):
        with pytest.raises(DataError, match="apply softmax to logits first"):
            measure(torch.tensor([[2.0, -1.0]]), torch.tensor([0]))
        with pytest.raises(DataError, match=r"expected labels of 0\.\.1, got 0 to 2"):
            measure(HAND, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(DataError, match="expected 1 bin or more, got 0"):
        calibration_error(HAND, LABELS, 0, "equal")
    with pytest.raises(DataError, match="for at least one image, got 0 images"):
        calibration_error(HAND[:0], LABELS[:0], 5, "adaptive")
