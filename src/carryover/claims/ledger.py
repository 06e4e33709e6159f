"""The ledger: published claims, each with the quantity and the margin that decide it.

``claims/<study>.yaml`` lists claims; `read` checks every one against ``claims/schema.yaml`` before
any row is looked at, so a claim that no row could ever decide is refused when it is written.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from scipy import special

from carryover.claims import cuts, schema
from carryover.claims.functions import FUNCTIONS, MATRICES
from carryover.claims.quantity import Quantity
from carryover.claims.quantity import read as read_quantity
from carryover.claims.schema import Schema
from carryover.errors import ConfigError, listed

Kind = Literal["value", "order", "trend", "equality", "inequality", "bound"]
PRESETS = ("mini", "mini-full", "lab", "published", "corrected")
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
FINDINGS = {"cuts": {claim.find.__name__: claim for claim in cuts.CLAIMS.values()}}


@dataclass(frozen=True)
class Claim:
    """A published claim.

    Attributes:
        source: item of the study's specification, file and commit.
        quantity: one expression, or several in the claimed order, highest first.
        expected: the published value of each; where nothing was printed, what the claim means.
        expected_n: images behind each accuracy, all repeats together.
        margin: what `kind` compares with. ``value``: the quantity is within it of the expected;
            ``inequality`` and ``trend``: on that side of it on which the expected lies; ``order``:
            neighbours differ by more; ``equality``: 0; ``bound``: on that side in every run.
        presets: whose rows can decide it; none where only what was released can, since the kit has
            no such method or keeps no such number.
        known_defect: why the published figure may not mean what it seems to; "" where none is
            known.
        implied: nothing was printed for it.
    """

    id: str
    study: str
    source: str
    statement: str
    quantity: tuple[Quantity, ...]
    split: str
    expected: tuple[float, ...]
    expected_n: int
    margin: float
    kind: Kind
    presets: tuple[str, ...]
    known_defect: str
    implied: bool

    @property
    def above(self) -> bool:
        """Whether the quantity is claimed to lie above the margin."""
        return self.expected[0] > self.margin


OPTIONAL = {"implied": False}
KEYS = tuple(each.name for each in fields(Claim) if each.name not in OPTIONAL)


def read(folder: Path) -> tuple[list[Claim], dict[str, Schema]]:
    """All claims of a folder, and the schemas they were checked with.

    Raises:
        ConfigError: every fault of every file, one a line.
    """
    schemas = schema.read(
        folder / "schema.yaml", {study: tuple(table) for study, table in FINDINGS.items()}
    )
    claims: list[Claim] = []
    faults: list[str] = []
    for study in schemas:
        path = folder / f"{study}.yaml"
        if (
            not path.exists()
            and any((folder / "released").glob(f"{study}.csv"))
            and study != ("clusters")
        ):
            faults.append(f"{path}: expected the claims of {study}, found no file; restore it")
        for place, entry in enumerate(_entries(path) if path.exists() else []):
            try:
                claims.append(_claim(entry, study, schemas, f"{path}[{place}]"))
            except ConfigError as fault:
                faults.append(str(fault))
    twice = {claim.id for claim in claims if [c.id for c in claims].count(claim.id) > 1}
    faults += [f"{folder}: expected each id once, got {name} twice" for name in sorted(twice)]
    if faults:
        raise ConfigError("\n".join(faults))
    return claims, schemas


def _entries(path: Path) -> list[Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(path.read_text())
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected YAML, got: {' '.join(str(error).split())}") from error
    if not isinstance(found, list):
        got = "nothing" if found is None else type(found).__name__
        raise ConfigError(f"{path}: expected a list of claims, got {got}; mend or restore the file")
    return found


def _claim(entry: Any, study: str, schemas: dict[str, Schema], where: str) -> Claim:
    if not isinstance(entry, dict) or set(entry) - set(OPTIONAL) != set(KEYS):
        if not isinstance(entry, dict):
            raise ConfigError(f"{where}: expected a claim with its keys, got {entry!r}; mend it")
        lacking = listed(sorted(set(KEYS) - set(entry)))
        unknown = listed(sorted(map(str, set(entry) - set(KEYS) - set(OPTIONAL))))
        raise ConfigError(
            f"{where}: expected the keys {listed(KEYS)}; got {unknown} beside them, {lacking} is "
            "missing; mend the claim"
        )
    where = f"claims/{study}.yaml {entry['id']}"
    for key in ("id", "study", "source", "statement", "split", "kind"):
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise ConfigError(f"{where}: {key}: expected text, got {entry[key]!r}")
    if entry["study"] != study or not SLUG.fullmatch(entry["id"]):
        raise ConfigError(
            f"{where}: expected a lower-case id in the file of its study, got {entry['id']!r} of "
            f"{entry['study']!r}; rename or move it"
        )
    if not entry["id"].startswith(f"{study}-"):
        raise ConfigError(f"{where}: expected an id that begins with {study}-")
    for key, allowed in (("split", ("train", "validation", "test")), ("kind", get_args(Kind))):
        if entry[key] not in allowed:
            raise ConfigError(f"{where}: {key}: expected {listed(allowed)}, got {entry[key]!r}")
    presets = entry["presets"]
    known = isinstance(presets, list) and all(name in PRESETS for name in presets)
    if not known or len(set(presets)) < len(presets):
        raise ConfigError(
            f"{where}: presets: expected some of {listed(PRESETS)}, or [] where only released "
            f"results can decide it, got {presets!r}"
        )
    texts, expected = _as_list(entry["quantity"]), _as_list(entry["expected"])
    if len(texts) != len(expected) or (len(texts) > 1) != (entry["kind"] == "order"):
        raise ConfigError(
            f"{where}: expected one quantity and one value, or for an order a list of each, got "
            f"{len(texts)} and {len(expected)}"
        )
    if not isinstance(entry.get("implied", False), bool):
        raise ConfigError(f"{where}: implied: expected true or false, got {entry['implied']!r}")
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"{where}: quantity: expected text, got {texts}; mend it")
    numbers = [*expected, entry["margin"]]
    if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
        raise ConfigError(f"{where}: expected finite numbers, got {numbers}; mend them")
    if type(entry["expected_n"]) is not int or entry["expected_n"] < 0:
        raise ConfigError(
            f"{where}: expected_n: expected a number of images, got {entry['expected_n']!r}; count"
        )
    if entry["kind"] in ("value", "order") and entry["margin"] < 0:
        raise ConfigError(f"{where}: margin: expected 0 or more, got {entry['margin']}")
    claim = Claim(
        id=entry["id"],
        study=study,
        source=entry["source"],
        statement=" ".join(entry["statement"].split()),
        quantity=tuple(
            read_quantity(str(t), entry["split"], schemas[study], f"{where}: quantity")
            for t in texts
        ),
        split=entry["split"],
        expected=tuple(map(float, expected)),
        expected_n=int(entry["expected_n"]),
        margin=float(entry["margin"]),
        kind=entry["kind"],
        presets=tuple(presets),
        known_defect=" ".join(str(entry["known_defect"] or "").split()),
        implied=entry.get("implied", False),
    )
    _refuse_undecidable(claim, where)
    return claim


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _refuse_undecidable(claim: Claim, where: str) -> None:
    """The interval at the expected number of images must be narrower than what it has to decide.

    Half-widths are those of independent proportions, at the expected value where the quantity is a
    single accuracy and else at one half. Findings have tests of their own.
    """
    if claim.kind == "equality":
        share = (1.0,) if claim.quantity[0].finding else ()  # findings count equal runs
        if claim.expected not in ((0.0,), share) or claim.margin != 0:
            raise ConfigError(f"{where}: expected 0 and a margin of 0 for an equality")
        return
    if claim.kind == "order":
        gaps = [a - b - claim.margin for a, b in pairwise(claim.expected)]
        room = min(gaps)
        if room <= 0:
            raise ConfigError(
                f"{where}: expected values in falling order, each more than the margin of "
                f"{claim.margin:g} below the one before, got {listed(map(str, claim.expected))}"
            )
    elif claim.kind == "value":
        room = claim.margin
    else:
        room = abs(claim.expected[0] - claim.margin)
    if room <= 0:
        raise ConfigError(
            f"{where}: expected a margin that the published value does not lie on, got "
            f"{claim.margin:g}"
        )
    if claim.kind == "bound":
        return  # decided by the runs themselves
    squares = [_square(quantity, claim.expected[0]) for quantity in claim.quantity]
    if any(square is None for square in squares):
        return
    sizes = sorted((square or 0.0 for square in squares), reverse=True)
    if not any(sizes):
        return
    if claim.expected_n < 1:
        raise ConfigError(f"{where}: expected_n: expected images, got {claim.expected_n}")
    half = float(special.ndtri(0.975)) * math.sqrt(math.fsum(sizes[:2]) / claim.expected_n)
    if half >= room:
        raise ConfigError(
            f"{where}: expected an interval that can decide {room:.4g}, at {claim.expected_n} "
            f"images it reaches {half:.4g} to each side; widen the margin or state the n that "
            "decides"
        )


def _square(quantity: Quantity, expected: float) -> float | None:
    """Variance of the quantity times the number of images; None where it has no known form."""
    if quantity.finding:
        return None
    weights = _weights(quantity.tree)
    if weights is None:
        return None
    if weights == [1.0] and 0 <= expected <= 1:
        return expected * (1 - expected)
    return math.fsum(0.25 * weight * weight for weight in weights)


def _weights(node: ast.expr) -> list[float] | None:
    """Weights of the accuracies in a sum; None where it is none, [] of other metrics."""
    if isinstance(node, ast.Constant):
        return []
    if isinstance(node, ast.UnaryOp):
        return _weights(node.operand)
    if isinstance(node, ast.BinOp):
        left, right = _weights(node.left), _weights(node.right)
        if left is None or right is None:
            return None
        if isinstance(node.op, ast.Add | ast.Sub):
            return left + right
        if left and right:
            return None
        constant = node.left if right and not left else node.right
        try:
            factor = float(ast.literal_eval(constant))
        except ValueError:
            return None
        scale = 1 / factor if isinstance(node.op, ast.Div) else factor
        return [weight * scale for weight in left + right]
    assert isinstance(node, ast.Call)
    name = ast.unparse(node.func)
    if name in ("correlation", "peak"):
        return None
    if name in FUNCTIONS and name not in MATRICES:
        return _weights(node.args[0])
    return [1.0] if name in MATRICES or "accuracy" in name else []
