"""How a claim is decided: checks of a quantity against a bound, and a verdict from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from carryover.claims.published import ALPHA
from carryover.claims.runs import NotRun, Runs
from carryover.errors import listed
from carryover.measure.combined import student
from carryover.measure.statistics import Interval

Side = Literal["above", "below"]


@dataclass(frozen=True)
class Check:
    """A quantity that the claim puts above or below a bound.

    Attributes:
        p: two-sided chance of a value so far from the bound if the bound were true; None where
            nothing is left to chance.
    """

    what: str
    interval: Interval
    side: Side
    bound: float = 0.0
    p: float | None = None

    @property
    def holds(self) -> bool:
        value = self.interval.value
        return value > self.bound if self.side == "above" else value < self.bound

    @property
    def decided(self) -> bool:
        return self.interval.low > self.bound or self.interval.high < self.bound

    @property
    def wanted(self) -> str:
        return f"{self.what}: {self.side} {self.bound:.3g}"

    def text(self) -> str:
        mark = "" if self.decided else ", open"
        return (
            f"{self.what} {numbers(self.interval)} (expected {self.side} {self.bound:.3g}: "
            f"{'yes' if self.holds else 'no'}{mark})"
        )


def paired(
    what: str,
    first: Float[np.ndarray, " repeats"],
    second: Float[np.ndarray, " repeats"],
    side: Side,
    bound: float = 0.0,
    step: float = 0.0,
) -> Check:
    """A difference by repeat, by Student's t; `step`: what it is rounded to."""
    interval, p = student(first - second, bound, step)
    return Check(what, interval, side, bound, p)


def drawn(
    what: str, value: float, draws: Float[np.ndarray, " draws"], side: Side, bound: float = 0.0
) -> Check:
    """A value by bootstrap: percentiles, and twice the share of draws on the bound's rarer side.

    The bound counts as one more draw, so that p is 2 / (draws + 1) at least.
    """
    low, high = map(float, np.quantile(draws, [0.025, 0.975]))
    rarer = min(int((draws <= bound).sum()), int((draws >= bound).sum()))
    p = min(1.0, 2 * (rarer + 1) / (len(draws) + 1))
    return Check(what, Interval(value, low, high), side, bound, p)


def numbers(interval: Interval) -> str:
    """``+0.1611 [+0.1300, +0.1900]``."""
    return f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


@dataclass(frozen=True)
class Finding:
    """What the rows say of a claim.

    Attributes:
        headline: the quantity with its 95 % interval; a count has its value as both bounds.
        holds, decided: what the estimates say, and whether the intervals settle it.
        test: how it was tested, with n.
        reason: the numbers.
        wanted: what was asked of the headline.
        p: that of the check that decides; None where runs were only counted.
    """

    headline: Interval
    holds: bool
    decided: bool
    test: str
    reason: str
    wanted: str = ""
    p: float | None = None


def from_checks(checks: Sequence[Check], test: str, notes: Sequence[str] = ()) -> Finding:
    """All checks have to hold; one that fails beyond chance settles it.

    That all hold needs no correction; that one of several fails does, by their number. The headline
    is the first that fails beyond its interval, else the first that fails, else the first.
    """
    failing = [check for check in checks if not check.holds]
    refuted = [check for check in failing if check.decided]
    against = min(1.0, len(checks) * min((check.p or 0.0 for check in refuted), default=1.0))
    head = (refuted or failing or list(checks))[0]
    chances = [check.p for check in checks if check.p is not None]
    counted = any(check.p is None for check in refuted)
    p = against if refuted and not counted else max(chances, default=None)
    return Finding(
        head.interval,
        not failing,
        against < ALPHA or (not failing and all(check.decided for check in checks)),
        test,
        "; ".join([*(check.text() for check in checks), *notes]),
        head.wanted,
        p,
    )


@dataclass(frozen=True)
class Claim:
    """A published claim.

    Attributes:
        statement: what was claimed.
        pairs: where; none: everywhere.
        settings: what it needs beside the baseline and FR; it is skipped on pairs it was not
            claimed for that have none of them.
        find: decides it for one pair.
    """

    statement: str
    find: Callable[[Runs, str], Finding]
    pairs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A claim decided for one pair.

    `value`, `low` and `high` are None where nothing was measured. `verdict` is ``reproduced``,
    ``not reproduced``, ``inconclusive`` or ``not run``; of released rows ``released data agree`` or
    ``released data disagree``, by the estimates where an interval leaves it open (the reason says
    so), or ``not run``.
    """

    claim: str
    pair: str
    statement: str
    value: float | None
    low: float | None
    high: float | None
    test: str
    verdict: str
    reason: str


def judge(name: str, claim: Claim, runs: Runs, pair: str) -> Verdict:
    """The verdict on one claim for one pair."""
    try:
        found = claim.find(runs, pair)
    except NotRun as missing:
        reason = f"not run: {missing}"
        return Verdict(name, pair, claim.statement, None, None, None, "", "not run", reason)
    verdict = {
        (True, True): "reproduced",
        (False, True): "not reproduced",
    }.get((found.holds, found.decided), "inconclusive")
    if runs.released:
        verdict = f"released data {'agree' if found.holds else 'disagree'}"
    reason = found.reason
    if claim.pairs and pair not in claim.pairs:
        reason += f"; claimed for {listed(claim.pairs)} only"
    images = sorted({cell.n for key, cell in runs.test.items() if key.pair == pair})
    test = f"{found.test}; accuracies over {' or '.join(map(str, images))} images"
    head = found.headline
    return Verdict(
        *(name, pair, claim.statement, head.value, head.low, head.high),
        *(test, verdict, reason),
    )


def applies(claim: Claim, runs: Runs, pair: str) -> bool:
    """Whether to decide a claim for a pair: claimed there, or rows exist that could tell."""
    if not claim.settings or pair in claim.pairs:
        return True
    return any(runs.has(pair, setting) for setting in claim.settings)
