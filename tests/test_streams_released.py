"""The released accuracy matrices of ZSCL give its printed figures."""

from __future__ import annotations

import numpy as np
import pytest

from carryover.claims.observations import released
from carryover.measure import streams
from conftest import REPOSITORY

# Transfer, Average and Last (Zheng et al. 2023, Tables 3 and 10), mean accuracy right after
# training and backward transfer, per cent, worked out apart from this code.
PRINTED = {
    ("1", "finetune"): (44.56, 55.85, 77.27, 88.22, -12.05),
    ("1", "lwf"): (56.90, 64.70, 74.64, 85.23, -11.65),
    ("1", "icarl"): (50.37, 65.67, 80.10, 87.06, -7.66),
    ("1", "lwf-vr"): (57.24, 65.13, 76.56, 85.76, -10.12),
    ("1", "wise-ft"): (52.33, 60.72, 77.69, 88.51, -11.90),
    ("1", "zscl-star"): (62.17, 72.63, 84.46, 88.72, -4.69),
    ("1", "zscl"): (68.14, 75.39, 83.62, 87.12, -3.85),
    ("2", "finetune"): (46.61, 56.17, 67.37, 88.39, -23.12),
    ("2", "lwf"): (53.22, 62.18, 71.91, 85.15, -14.56),
    ("2", "icarl"): (50.91, 56.90, 71.58, 82.48, -11.99),
    ("2", "lwf-vr"): (53.10, 60.59, 68.26, 84.36, -17.72),
    ("2", "wise-ft"): (51.04, 61.53, 72.16, 88.33, -17.79),
    ("2", "zscl-star"): (59.78, 71.77, 83.25, 88.90, -6.21),
    ("2", "zscl"): (64.15, 74.52, 83.42, 87.03, -3.97),
}


def matrix(order: str, method: str) -> streams.Matrix:
    found = np.zeros((12, 11))
    for each in released(REPOSITORY / "claims/released", "sequence"):
        if each.metric == "accuracy" and (each.cell["order"], each.cell["method"]) == (
            order,
            method,
        ):
            found[each.cell["after"], each.cell["task"] - 1] = each.value
    return found


@pytest.mark.parametrize(("order", "method"), list(PRINTED))
def test_a_released_matrix_gives_the_printed_row(order: str, method: str) -> None:
    transfer, average, last, learned, backward = PRINTED[order, method]
    found = matrix(order, method)
    assert (found[1:] > 0).all()
    assert 100 * streams.transfer(found) == pytest.approx(transfer, abs=0.0051)
    assert 100 * streams.average(found) == pytest.approx(average, abs=0.0051)
    assert 100 * streams.last(found) == pytest.approx(last, abs=0.0051)
    assert 100 * streams.learned(found) == pytest.approx(learned, abs=0.0051)
    assert 100 * streams.backward_transfer(found) == pytest.approx(backward, abs=0.0051)
