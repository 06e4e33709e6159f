"""Rows that claims are decided from, by preset; and the originals' released results.

Our rows lie in ``reports/<study>/runs`` (the preset that ``params.yaml`` holds) and in
``results/<preset>/<study>`` (what `carryover keep` has kept). The two kinds of evidence, our rows
and what the originals released, are never in one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from carryover.claims import released
from carryover.claims.observations import Observation, of_rows
from carryover.claims.observations import released as released_facts
from carryover.claims.runs import Runs, gather
from carryover.errors import DataError
from carryover.rows import Row, read_rows

RELEASED = "released"
ELSEWHERE = "zeroshot_accuracy"  # of the adaptation study, on other sets than its own
FINDINGS_FROM = ("cuts", "clusters")  # studies whose rows the cut study's findings take


@dataclass(frozen=True)
class Evidence:
    """All rows of one study that claims are decided from together.

    Attributes:
        name: a preset, or ``released``.
        rows: our rows, or the cut study's released ones, by file.
        facts: what the originals of the other studies released.
    """

    name: str
    rows: dict[str, list[Row]]
    facts: list[Observation]

    @cached_property
    def observations(self) -> list[Observation]:
        """Every number once."""
        return [each for path, rows in self.rows.items() for each in of_rows(rows, path)] + (
            self.facts
        )

    @cached_property
    def runs(self) -> Runs | None:
        """The same as the cut study's findings take them."""
        rows = [row for each in self.rows.values() for row in each]
        return gather(rows) if any(row.study in FINDINGS_FROM for row in rows) else None

    def made_from(self, origins: Iterable[str]) -> dict[str, list[str]]:
        """Digests of parameters, images and code behind some of the files.

        By default behind all of the cut study, whose findings take them together.
        """
        named = [path for path in origins if path in self.rows]
        named = named or [path for path in self.rows if "cuts" in path]
        rows = [row for path in named for row in self.rows[path]]
        return {
            "rows": named,
            "params": sorted({row.params for row in rows}),
            "data": sorted({row.data for row in rows}),
            "code": sorted({row.source for row in rows}),
        }


def gather_all(root: Path, studies: Iterable[str]) -> dict[tuple[str, str], Evidence]:
    """Evidence by study and name. Of rows that were kept the kept ones count, not a report's.

    Raises:
        DataError: a file of rows that is none, or a study's rows of several data sets.
    """
    kept = _by_place(root, "results/*/*/**/runs/*/rows.jsonl")
    fresh = _by_place(root, "reports/*/runs/*/rows.jsonl")
    _refuse_several_sets(fresh)
    files = {**{place: f for place, f in fresh.items() if place not in kept}, **kept}
    found: dict[tuple[str, str], Evidence] = {}
    for study in studies:
        wanted = FINDINGS_FROM if study == "cuts" else (study,)
        for preset in sorted({place[0] for place in files}):
            rows = {
                path: each
                for (name, of, _), group in files.items()
                if name == preset and of in wanted
                for path, each in group.items()
            }
            if any(of == study and name == preset for name, of, _ in files):
                found[study, preset] = Evidence(preset, rows, [])
        found[study, RELEASED] = _released(root / "claims/released", study)
    return found


def _refuse_several_sets(files: dict[Place, dict[str, list[Row]]]) -> None:
    """A report's items must be of one data set, or a claim would compare two of them."""
    found: dict[str, str] = {}
    for (preset, study, _), group in files.items():
        for path, rows in group.items() if study == "adapt" else ():
            for row in rows:
                if row.metric != ELSEWHERE:
                    found.setdefault(f"{preset}: {row.cell.get('dataset')}", path)
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        raise DataError(
            f"reports/adapt: expected rows of one preset and data set, got {one} ({first}) and "
            f"{other} ({second}); run the other items too: `dvc repro adapt-report`"
        )


Place = tuple[str, str, str]  # preset, study, pair


def _by_place(root: Path, pattern: str) -> dict[Place, dict[str, list[Row]]]:
    found: dict[Place, dict[str, list[Row]]] = {}
    for path in sorted(root.glob(pattern)):
        for row in read_rows(path):
            place = (row.preset, row.study, str(row.cell.get("pair", "")))
            name = path.relative_to(root).as_posix()
            found.setdefault(place, {}).setdefault(name, []).append(row)
    return found


def _released(folder: Path, study: str) -> Evidence:
    if study != "cuts":
        return Evidence(RELEASED, {}, released_facts(folder, study))
    runs, clusters = folder / "cuts.csv", folder / "clusters.csv"
    return Evidence(
        RELEASED,
        {
            "claims/released/cuts.csv": released.rows(runs),
            "claims/released/clusters.csv": released.cluster_rows(clusters),
        },
        [],
    )
