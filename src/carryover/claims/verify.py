"""Verdicts on all claims of the ledger, from stored rows alone; nothing is trained here.

``carryover claims verify`` prints them and says no (exit code 1) where one differs from the
accepted state in ``claims/verdicts.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from carryover.claims.decide import Decision, corrected, decide, settled
from carryover.claims.evidence import RELEASED, Evidence, gather_all
from carryover.claims.ledger import Claim, read
from carryover.claims.runs import NotRun
from carryover.claims.schema import Schema
from carryover.config import reader
from carryover.errors import ConfigError, pick
from carryover.files import write_text

CLAIMS = Path("claims")
ACCEPTED = CLAIMS / "verdicts.yaml"


@dataclass(frozen=True)
class Entry:
    """A claim decided from one kind of evidence.

    Attributes:
        evidence: a preset, or ``released``.
        made_from: files of rows, and digests of parameters, images and code.
    """

    claim: Claim
    evidence: str
    decision: Decision
    made_from: dict[str, list[str]]

    @property
    def name(self) -> str:
        """``cuts-t1-mnist@released``."""
        return f"{self.claim.id}@{self.evidence}"


def verify(root: Path, study: str = "") -> list[Entry]:
    """Every claim from every kind of evidence, in the ledger's order.

    A claim is decided from our rows of each preset that it names, ``not run`` where there are
    none, and from what its original released, where that holds what the claim needs. Holm's
    correction is over the claims of a study and preset.

    Args:
        root: top folder of a checkout.
        study: only this one's claims; all by default.
    Raises:
        ConfigError: a fault in the ledger, or no such study.
        DataError: rows or released facts that cannot be read.
    """
    claims, schemas = read(root / CLAIMS)
    known = dict.fromkeys(claim.study for claim in claims)
    studies = [study] if study and pick(known, study, "--study") is None else list(known)
    evidence = gather_all(root, studies)
    families: dict[tuple[str, str], list[tuple[Claim, Decision]]] = {}
    for claim in claims:
        if claim.study not in studies:
            continue
        for name in (*claim.presets, RELEASED):
            found = _decision(claim, evidence.get((claim.study, name)), schemas[claim.study], name)
            if found is not None:
                families.setdefault((claim.study, name), []).append((claim, found))
    decided: dict[tuple[str, str], Decision] = {}
    for (_, name), family in families.items():
        plain = [settled(each) for _, each in family]
        for (claim, _), each in zip(
            family, plain if name == RELEASED else corrected(plain), strict=True
        ):
            decided[claim.id, name] = each
    return [
        Entry(claim, name, decided[claim.id, name], _made_from(claim, name, decided, evidence))
        for claim in claims
        for name in (*claim.presets, RELEASED)
        if (claim.id, name) in decided
    ]


def _decision(
    claim: Claim, evidence: Evidence | None, schema: Schema, name: str
) -> Decision | None:
    """None where the original released nothing that the claim could be decided from."""
    needs = schema.needs.get(name, "")
    if evidence is None:
        reason = f"no rows of {claim.study} with preset {name}"
        return Decision("not run", reason=reason + (f", which needs {needs}" if needs else ""))
    try:
        return decide(
            claim,
            evidence.observations,
            evidence.runs if claim.quantity[0].finding else None,
            schema,
            name == RELEASED,
        )
    except NotRun as missing:
        if name == RELEASED:
            return None
        reason = f"missing: {missing}"
        return Decision("not run", reason=reason + (f"; it needs {needs}" if needs else ""))
    except ConfigError as fault:  # rows that its quantity did not foresee leave the others decided
        return Decision("not run", reason=f"its quantity does not fit these rows: {fault}")


def _made_from(
    claim: Claim,
    name: str,
    decided: dict[tuple[str, str], Decision],
    evidence: dict[tuple[str, str], Evidence],
) -> dict[str, list[str]]:
    decision = decided[claim.id, name]
    rows = evidence.get((claim.study, name))
    if rows is None or decision.verdict == "not run":
        return {"rows": [], "params": [], "data": [], "code": []}
    if rows.facts:
        return {"rows": list(decision.origins), "params": [], "data": [], "code": []}
    return rows.made_from(decision.origins)


# --- accepted state ----------------------------------------------------------------------------


def accepted(root: Path) -> dict[str, str]:
    """The accepted verdict of each entry; none where nothing was accepted yet."""
    path = root / ACCEPTED
    return {str(k): str(v) for k, v in reader.load(path).items()} if path.exists() else {}


def accept(root: Path) -> int:
    """Write all verdicts as they are now as the accepted state; how many changed."""
    entries = verify(root)
    before = accepted(root)
    after = {entry.name: entry.decision.verdict for entry in entries}
    text = "# Accepted verdicts; `carryover claims accept` writes this file.\n"
    text += "".join(f"{name}: {verdict}\n" for name, verdict in after.items())
    write_text(root / ACCEPTED, text)
    return len(changes(before, after))


def differing(root: Path, entries: list[Entry], study: str = "") -> list[str]:
    """Sentences on verdicts that differ from the accepted ones, are new or have gone."""
    before = {
        name: verdict
        for name, verdict in accepted(root).items()
        if not study or name.startswith(f"{study}-")
    }
    return changes(before, {entry.name: entry.decision.verdict for entry in entries})


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Sentences on verdicts, by name of the entry, that differ, are new or have gone."""
    both = [
        (name, before.get(name, "nothing"), now.get(name, "nothing"))
        for name in dict.fromkeys([*before, *now])
    ]
    return [f"{name}: accepted {was}, now {is_}" for name, was, is_ in both if was != is_]
