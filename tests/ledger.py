"""A small ledger in a folder, with rows that decide it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from carryover.rows import Row, write_rows

SCHEMA = {
    "cuts": {
        "items": ["fr", "baseline"],
        "axes": {"pair": "text", "fraction": "number", "cut": "integer", "repeat": "repeat"},
        "metrics": ["accuracy"],
    },
    "adapt": {
        "items": ["probe", "llrd"],
        "axes": {"method": "text", "partition": "number", "seed": "repeat"},
        "metrics": ["accuracy", "loss"],
    },
}
CLAIM: dict[str, Any] = {
    "id": "adapt-gain",
    "study": "adapt",
    "source": "C1; README at 00bc0f7",
    "statement": "Tuning layer norms beats the probe.",
    "quantity": 'accuracy(item="llrd") - accuracy(item="probe")',
    "split": "test",
    "expected": 0.05,
    "expected_n": 25250,
    "margin": 0.01,
    "kind": "inequality",
    "presets": ["mini", "published"],
    "known_defect": None,
}


def write(root: Path, *claims: dict[str, Any]) -> Path:
    """``claims/`` of a checkout with these claims of the adapt study, each over `CLAIM`."""
    folder = root / "claims"
    (folder / "released").mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    yaml.dump(SCHEMA, folder / "schema.yaml")
    yaml.dump([{**CLAIM, **claim} for claim in claims], folder / "adapt.yaml")
    return folder


def row(item: str, value: float, seed: int, n: int = 1000, preset: str = "mini") -> Row:
    cell = {"method": item, "partition": 0.1, "seed": seed}
    digests = ("data", "weights", "params", "source", "float32")
    return Row("adapt", item, preset, cell, "test", "accuracy", value, n, *digests)


def keep(root: Path, rows: list[Row]) -> None:
    """Rows where `carryover keep` puts them, or a stage those of the preset mini."""
    for preset, item in {(each.preset, each.item) for each in rows}:
        here = "reports/adapt" if preset == "mini" else f"results/{preset}/adapt"
        some = [each for each in rows if (each.preset, each.item) == (preset, item)]
        path = root / here / "runs" / item / "rows.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, some)
