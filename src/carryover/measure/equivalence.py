"""Two independent sets of repeats: their difference, and whether they are the same for practice."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from carryover.errors import DataError
from carryover.measure.statistics import Interval, Values


def welch_difference(
    a: Values, b: Values, level: float = 0.95, steps: tuple[float, float] = (0.0, 0.0)
) -> Interval:
    """Mean of a minus mean of b with Welch's interval; variances may differ.

    d ± t sqrt(s_a^2/n_a + s_b^2/n_b), t with Satterthwaite's degrees of freedom.

    Args:
        a, b: one value a repeat; repeats of a have nothing to do with those of b.
        steps: what the values of a and of b are rounded to (1/n for an accuracy over n images);
            a variance is taken to be at least step^2 / 12, which rounding alone gives it.
    Returns:
        With steps 0 and no spread the difference as both bounds.
    Raises:
        DataError: fewer than two repeats on a side, a value not finite, a level outside 0..1.
    Source: Welch 1947; Satterthwaite 1946.
    """
    if not 0 < level < 1:
        raise DataError(
            f"level: expected a share between 0 and 1, got {level}; write 0.95 for 95 %"
        )
    difference, error, freedom = _welch(a, b, steps)
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * error
    return Interval(difference, difference - half, difference + half)


def equivalence_p(
    a: Values, b: Values, margin: float, steps: tuple[float, float] = (0.0, 0.0)
) -> float:
    """Chance of means so close if the true ones are `margin` or more apart: two one-sided tests.

    The larger p of Welch's tests of d <= -margin and of d >= margin. Below 0.05 the means are
    equivalent at that margin, which is when the 90 % interval lies within ±margin.

    Args:
        a, b, steps: as in `welch_difference`.
        margin: the largest difference without practical meaning, in the values' unit, > 0.
    Raises:
        DataError: as `welch_difference`, or a margin that is not positive.
    Source: Schuirmann 1987.
    """
    if not margin > 0:
        raise DataError(f"margin: expected a number above 0, got {margin}; give 0.02 for 2 points")
    difference, error, freedom = _welch(a, b, steps)
    room = margin - abs(difference)
    if error == 0:
        return 0.0 if room > 0 else 1.0
    return float(special.stdtr(freedom, -room / error))


def _welch(a: Values, b: Values, steps: tuple[float, float]) -> tuple[float, float, float]:
    """Difference of the means, its standard error and the degrees of freedom."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if min(len(x), len(y)) < 2:
        raise DataError(
            f"expected at least two repeats on each side, got {len(x)} and {len(y)}; run more"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("expected finite values, got one that is not; leave that repeat out")
    parts = [
        max(0.0 if np.all(v == v[0]) else float(v.var(ddof=1)), step**2 / 12) / len(v)
        for v, step in ((x, steps[0]), (y, steps[1]))
    ]
    squares = math.fsum(part**2 / (len(v) - 1) for part, v in zip(parts, (x, y), strict=True))
    freedom = math.fsum(parts) ** 2 / squares if squares else float(len(x) + len(y) - 2)
    return float(x.mean() - y.mean()), math.sqrt(math.fsum(parts)), freedom
