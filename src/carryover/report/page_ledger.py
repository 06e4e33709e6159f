"""The ledger of claims as the page reads it: ``reports/claims.json``, checked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from carryover.errors import DataError, listed

CLAIMS = Path("reports/claims.json")
RELEASED = "released"
EVIDENCE = {  # in the order of the page; presets are our own runs
    RELEASED: "released results",
    "published": "our run, as published",
    "corrected": "our run, corrected",
    "lab": "our run, lab",
    "mini-full": "our run, mini-full",
    "mini": "our run, mini",
}
HOLDS, FAILS, OPEN, NOT_RUN = "reproduced", "not reproduced", "inconclusive", "not run"
AGREES, DISAGREES = "released data agree", "released data disagree"
VERDICTS = (HOLDS, FAILS, OPEN, NOT_RUN, AGREES, DISAGREES)


@dataclass(frozen=True)
class Verdict:
    """What one source of evidence says on a claim.

    Attributes:
        evidence: a preset, or ``released``.
        value, low, high, p: what was measured, the smallest difference of an order; None where
            nothing was.
        n: what it is over, in words.
        wanted: what was asked of the value, where the claim's own margin does not say it.
        rows: paths of the rows that were read.
        params, data, code: their digests.
    """

    evidence: str
    verdict: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    n: str
    test: str
    reason: str
    wanted: str
    rows: tuple[str, ...]
    params: tuple[str, ...]
    data: tuple[str, ...]
    code: tuple[str, ...]

    @property
    def own(self) -> bool:
        """From our own rows, not from released results."""
        return self.evidence != RELEASED


@dataclass(frozen=True)
class Claim:
    """A published claim with all its verdicts, in the order of `EVIDENCE`."""

    id: str
    study: str
    statement: str
    source: str
    kind: str
    quantity: str
    split: str
    expected: tuple[float, ...]
    implied: bool
    margin: float
    known_defect: str
    verdicts: tuple[Verdict, ...]

    @property
    def ran(self) -> bool:
        """Some preset's rows exist for it."""
        return any(found.own and found.verdict != NOT_RUN for found in self.verdicts)

    @property
    def said(self) -> str:
        """The statement with a capital."""
        return self.statement[:1].upper() + self.statement[1:]

    def bounds(self) -> tuple[float, float]:
        """Where the quantity has to lie, by the claim."""
        expected = self.expected[0]
        if self.kind == "equality":
            return expected, expected
        if self.kind == "value":
            return expected - self.margin, expected + self.margin
        above = self.kind == "order" or expected > self.margin
        return (self.margin, inf) if above else (-inf, self.margin)

    def refuted(self, found: Verdict) -> bool:
        """The whole interval of what was measured lies where the claim does not."""
        low, high = self.bounds()
        if found.low is None or found.high is None:
            return False
        return found.high < low or found.low > high

    def holds_at(self, value: float | None) -> bool:
        """The value lies where the claim says."""
        low, high = self.bounds()
        return value is not None and low <= value <= high


@dataclass(frozen=True)
class Ledger:
    """All claims, and for those under both protocols the two verdicts (published, corrected)."""

    claims: tuple[Claim, ...]
    pairs: dict[str, tuple[str, str]]

    def of(self, study: str) -> tuple[Claim, ...]:
        """The claims of a study."""
        return tuple(claim for claim in self.claims if claim.study == study)


def read(studies: Iterable[str]) -> Ledger:
    """The ledger: claims in its own order, study by study in the order of `studies`.

    Raises:
        DataError: no file, no JSON, or entries that are not as the stage `claims` writes them.
    """
    if not CLAIMS.exists():
        raise DataError(f"{CLAIMS}: expected this file, found none; run `dvc repro claims`")
    try:
        tree = json.loads(CLAIMS.read_text())
    except ValueError as error:
        raise _faulty("JSON", f"{error}") from error
    if not isinstance(tree, dict) or not isinstance(tree.get("claims"), list):
        raise _faulty("an object with a list 'claims'", "something else")
    order = list(studies)
    grouped: dict[str, list[dict[str, Any]]] = {}
    for entry in tree["claims"]:
        _check(entry, order)
        grouped.setdefault(entry["id"], []).append(entry)
    claims = sorted(map(_claim, grouped.values()), key=lambda claim: order.index(claim.study))
    pairs = {pair["id"]: (pair["as_published"], pair["corrected"]) for pair in tree["pairs"]}
    for name in pairs.keys() - grouped.keys():
        raise _faulty("pairs of claims that it lists", f"{name!r}")
    return Ledger(tuple(claims), pairs)


FIELDS = {"id", "study", "statement", "source", "kind", "quantity", "split", "expected", "margin"}
FIELDS |= {"implied", "wanted"}
FIELDS |= {"known_defect", "evidence", "verdict", "value", "low", "high", "p", "n", "test"}
FIELDS |= {"reason", "rows", "params", "data", "code"}


def _check(entry: dict[str, Any], studies: list[str]) -> None:
    """Refuse an entry that the page could not show."""
    name = entry.get("id", "(no id)")
    if missing := FIELDS - entry.keys():
        raise _faulty(f"the fields {listed(sorted(missing))}", f"{name!r} without")
    for key, known in (("study", studies), ("evidence", EVIDENCE), ("verdict", VERDICTS)):
        if entry[key] not in known:
            raise _faulty(f"{key} one of {listed(known)}", f"{entry[key]!r} in {name!r}")


def _claim(entries: list[dict[str, Any]]) -> Claim:
    """One claim from its entries, one for each source of evidence."""
    order = list(EVIDENCE)
    found = sorted(entries, key=lambda entry: order.index(entry["evidence"]))
    verdicts = tuple(map(_verdict, found))
    said = ("id", "study", "statement", "source", "kind", "split", "implied")
    first, expected = found[0], found[0]["expected"]
    return Claim(
        **{key: first[key] for key in said},
        quantity=" > ".join(_several(first["quantity"])),
        expected=tuple(expected) if isinstance(expected, list) else (float(expected),),
        margin=float(first["margin"]),
        known_defect=str(first["known_defect"] or ""),
        verdicts=verdicts,
    )


def _verdict(entry: dict[str, Any]) -> Verdict:
    given: dict[str, Any] = {key: entry[key] for key in ("evidence", "verdict")}
    given |= {key: entry[key] for key in ("value", "low", "high", "p")}
    given |= {key: str(entry[key] or "") for key in ("n", "test", "reason", "wanted")}
    given |= {key: tuple(_several(entry[key])) for key in ("rows", "params", "data", "code")}
    return Verdict(**given)


def _several(found: str | list[str] | None) -> list[str]:
    """What is one text or a list of texts, as a list."""
    return [found] if isinstance(found, str) and found else list(found or [])


def _faulty(expected: str, got: str) -> DataError:
    return DataError(f"{CLAIMS}: expected {expected}, got {got}; run `dvc repro claims`")
