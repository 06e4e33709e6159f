"""From an estimate to a verdict, by kind of claim."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from carryover.claims.estimate import Estimate, estimate
from carryover.claims.ledger import FINDINGS, Claim
from carryover.claims.observations import Observation
from carryover.claims.quantity import Quantity
from carryover.claims.quantity import read as read_quantity
from carryover.claims.runs import NotRun, Runs
from carryover.claims.schema import Schema
from carryover.measure.combined import decide_side, decide_value
from carryover.measure.statistics import holm

ALPHA = 0.05
AGREE, DISAGREE = "released data agree", "released data disagree"


@dataclass(frozen=True)
class Decision:
    """What rows say of a claim.

    Attributes:
        verdict: ``reproduced``, ``not reproduced``, ``inconclusive`` or ``not run``; of released
            results ``released data agree`` or ``released data disagree``, by the estimate.
        value, low, high: the quantity with its 95 % interval; None where nothing was measured.
        p: chance of a value so far on its side of the bound if the truth lay on it; None where
            intervals of several checks decided.
        wanted: what was asked of the value; "" where the ledger's margin says it.
        origins: files that the numbers lie in.
    """

    verdict: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: str = ""
    test: str = ""
    reason: str = ""
    origins: tuple[str, ...] = ()
    wanted: str = ""


def decide(
    claim: Claim, observations: list[Observation], runs: Runs | None, schema: Schema, released: bool
) -> Decision:
    """The verdict of some rows on a claim.

    Args:
        observations: of one preset, or the released ones.
        runs: the same rows as the cut study's findings take them.
    Raises:
        NotRun: rows that the claim needs; names them.
    """
    quantity = claim.quantity[0]
    if quantity.finding:
        found = _found(claim, quantity, runs)
    elif claim.kind == "order":
        found = _order(claim, observations, schema)
    else:
        found = _one(claim, estimate(quantity, observations, schema.repeats))
    if not released:
        return found
    reason = found.reason
    if found.verdict.startswith("inconclusive"):
        reason += "; the interval leaves it open"
    return replace(found, verdict=AGREE if found.verdict in HELD else DISAGREE, reason=reason)


HELD = ("reproduced", "inconclusive, holds")


def settled(decision: Decision) -> Decision:
    """The same without what only released results are judged by."""
    return replace(decision, verdict=decision.verdict.split(",")[0])


def _found(claim: Claim, quantity: Quantity, runs: Runs | None) -> Decision:
    assert quantity.finding is not None
    name, arguments = quantity.finding
    if runs is None or not runs.test:
        raise NotRun("rows of the cut study")
    pairs = [arguments["pair"]] if "pair" in arguments else runs.pairs()
    if len(pairs) != 1:
        raise NotRun(f"one pair of source and target (there are {len(pairs)})")
    kind = FINDINGS[claim.study][name]
    finding = kind.find(runs, pairs[0])
    head, verdict = finding.headline, "reproduced" if finding.holds else "not reproduced"
    if not finding.decided:
        verdict = f"inconclusive, {'holds' if finding.holds else 'no'}"
    counted = head.low == head.high
    return Decision(
        verdict,
        head.value,
        None if counted else head.low,
        None if counted else head.high,
        finding.p,
        test=finding.test,
        reason=finding.reason,
        wanted=finding.wanted,
    )


def _one(claim: Claim, found: Estimate) -> Decision:
    value, wide = found.value, found.interval
    low, high = (wide.low, wide.high) if wide else (None, None)
    if claim.kind == "equality":
        worst = max(map(abs, found.values))
        verdict = "reproduced" if worst <= found.blur + 1e-12 else "not reproduced"
        reason = f"largest difference in any run {worst:.4g}"
        return Decision(
            verdict, value, low, high, None, found.n, "every run", reason, found.origins
        )
    if claim.kind == "bound":
        nearest = (min if claim.above else max)(found.values)
        distance = nearest - claim.margin if claim.above else claim.margin - nearest
        verdict = "reproduced" if distance > found.blur else "not reproduced"
        side = "above" if claim.above else "below"
        reason = f"nearest in any run {nearest:.4f}, expected {side} {claim.margin:.4g}"
        return Decision(
            verdict, value, low, high, None, found.n, "every run", reason, found.origins
        )
    if claim.kind == "value":
        verdict, p, wanted = _near(found, claim.expected[0], claim.margin)
        test = f"{found.test}; equivalence by two one-sided tests" if wide else found.test
    else:
        verdict, p, wanted = _beyond(found, claim.margin, claim.above)
        wanted += "" if claim.implied else f" (published {claim.expected[0]:.4g})"
        test = found.test
    bounds = f" [{low:.4f}, {high:.4f}]" if wide else ""
    unsure = "" if wide else f" ({found.test})"
    reason = f"{value:.4f}{bounds}{unsure}, expected {wanted}"
    if found.beyond:
        reason += f"; {BOUNDS[found.beyond]}, as some runs ended before what was counted came"
        if verdict in ("reproduced", "not reproduced") and not _stands(verdict, found, claim):
            verdict, p = "inconclusive, no", None
    return Decision(verdict, value, low, high, p, found.n, test, reason, found.origins)


def _stands(verdict: str, found: Estimate, claim: Claim) -> bool:
    """Whether a verdict is the same wherever else the truth may lie."""
    if claim.kind == "value":
        side = "above" if found.value > claim.expected[0] else "below"
        return verdict == "not reproduced" and found.beyond == {side}
    held = "above" if claim.above else "below"
    side = held if verdict == "reproduced" else "below" if held == "above" else "above"
    return found.beyond == {side}


BOUNDS = {
    frozenset({"above"}): "a lower bound",
    frozenset({"below"}): "an upper bound",
    frozenset({"above", "below"}): "neither bound",
}


def _near(found: Estimate, expected: float, margin: float) -> tuple[str, float | None, str]:
    """Verdict, p and what was wanted, of a value within a margin of the published one."""
    ends = (expected - margin, expected + margin)
    holds = ends[0] <= found.value <= ends[1]
    wanted = f"within {margin:.4g} of {expected:.4g}"
    if found.interval is None or found.inner is None or found.p is None:
        return _open("inconclusive", holds), None, wanted
    decided = decide_value(found.inner, found.interval, expected, margin)
    nearest = max(found.p(end) for end in ends)
    return _open(decided, holds), nearest / 2 if holds else nearest, wanted


def _beyond(found: Estimate, bound: float, above: bool) -> tuple[str, float | None, str]:
    """The same, of a value on a side of a bound."""
    side: Literal["above", "below"] = "above" if above else "below"
    holds = found.value > bound if above else found.value < bound
    wanted = f"{side} {bound:.4g}"
    if found.interval is None or found.p is None:
        return _open("inconclusive", holds), None, wanted
    p = found.p(bound)
    decided = decide_side(found.interval, bound, side) if p < ALPHA else "inconclusive"
    return _open(decided, holds), p, wanted


def _open(verdict: str, holds: bool) -> str:
    """A verdict that says, where it is open, what the estimate alone would."""
    return verdict if verdict != "inconclusive" else f"inconclusive, {'holds' if holds else 'no'}"


def _order(claim: Claim, observations: list[Observation], schema: Schema) -> Decision:
    """Every neighbour's difference above the margin; the smallest is the headline."""
    found = []
    for a, b in pairwise(claim.quantity):
        text = f"({a.text}) - ({b.text})"
        both = read_quantity(text, claim.split, schema, claim.id)
        found.append((text, estimate(both, observations, schema.repeats)))
    bound = claim.margin
    each_one = [_beyond(each, bound, above=True) for _, each in found]
    holds = all(each.value > bound for _, each in found)
    chances = [p for _, p, _ in each_one if p is not None]
    refuted = [p for verdict, p, _ in each_one if verdict == "not reproduced" and p is not None]
    decided = all(verdict == "reproduced" for verdict, _, _ in each_one)
    verdict = "not reproduced" if refuted else "reproduced" if decided else "inconclusive"
    p = min(1.0, min(refuted) * len(found)) if refuted else max(chances, default=None)
    least = min((each for _, each in found), key=lambda each: each.value)
    reason = "; ".join(f"{text}: {_shown(each)}" for text, each in found)
    origins = tuple(sorted({origin for _, each in found for origin in each.origins}))
    low, high = (least.interval.low, least.interval.high) if least.interval else (None, None)
    return Decision(
        _open(verdict, holds),
        *(least.value, low, high, p, least.n),
        f"{least.test}; every neighbour's difference above {bound:.4g}, the smallest shown",
        reason,
        origins,
    )


def _shown(found: Estimate) -> str:
    wide = found.interval
    return f"{found.value:+.4f}" + (f" [{wide.low:+.4f}, {wide.high:+.4f}]" if wide else "")


def corrected(decisions: list[Decision]) -> list[Decision]:
    """Verdicts of one family (a study's claims on one preset) with Holm's correction.

    A verdict that would not stand among all of the family becomes ``inconclusive``. Those decided
    by several intervals at once have no p-value and stay.
    """
    places = [i for i, each in enumerate(decisions) if each.p is not None]
    adjusted = holm([decisions[i].p or 0.0 for i in places])
    found = list(decisions)
    for i, p in zip(places, adjusted, strict=True):
        if found[i].verdict in ("reproduced", "not reproduced") and p >= ALPHA:
            found[i] = replace(
                found[i],
                verdict="inconclusive",
                reason=f"{found[i].reason}; decided alone (p = {found[i].p:.2g}), not among the "
                f"{len(places)} of its family (Holm: {p:.2g})",
            )
    return found
