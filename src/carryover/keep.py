"""Results kept in git: finished cells of a preset, beside the released ones where there are any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carryover import presets
from carryover.claims import comparison, cost, released
from carryover.config import reader
from carryover.errors import DataError, listed
from carryover.files import write_bytes
from carryover.models import saved
from carryover.report import cut_compare, cut_scores, figures
from carryover.rows import Row, read_rows, write_rows
from carryover.stages import STAGES

REPORTS, RESULTS, MODELS = Path("reports"), Path("results"), Path("data/models")
RELEASED = Path("claims/released")
RETAINED = "zeroshot_accuracy"  # a metric over other sets than the study's own


def keep(name: str) -> list[Path]:
    """Add each study's rows to ``results/PRESET/STUDY[/PAIR]``.

    Cells that were kept before stay, so a long grid can be run in parts (fewer fractions or cuts
    in ``params.yaml``) and kept after each. The report's files are copied too when they describe
    all kept cells. The source network is, since it comes out slightly different on another type of
    processor, and the rest of the grid must start from the same one. Where the original released
    results of the pair, cell-by-cell comparison and verdicts are written.

    Args:
        name: a preset; of ``published/fashion-mnist`` the rows go to ``published``.
    Raises:
        ConfigError: no such preset.
        DataError: no rows at all, or rows made from other values, here or kept before.
    """
    values = presets.tree(name)
    found = sorted(REPORTS.glob("*/runs/*/rows.jsonl"))
    if not found:
        raise DataError("reports/*/runs: expected rows to keep, found none; run `dvc repro`")
    rows = _of_preset({path: read_rows(path) for path in found}, name, values)
    merged: dict[Path, list[Row]] = {}
    for path, new in rows.items():
        study = path.parents[2].name
        target = _folder(study, new, values) / "runs" / path.parent.name / "rows.jsonl"
        merged[target] = _merged(target, new)
    studies = dict.fromkeys(path.parents[2].name for path in rows)
    for study in studies:
        _refuse_another_network(study, rows, values)
    for target, whole in merged.items():
        write_rows(target, whole)
    kept = []
    for study in studies:
        ours = {path: new for path, new in rows.items() if path.parents[2].name == study}
        folder = _folder(study, next(iter(ours.values())), values)
        here = [row for path in sorted(folder.glob("runs/*/rows.jsonl")) for row in read_rows(path)]
        _keep_report(folder, REPORTS / study, list(ours), len(here) == sum(map(len, ours.values())))
        for path in (MODELS / str(values[study].get("pretrained"))).glob("*.*"):
            write_bytes(folder / path.parent.name / path.name, path.read_bytes())
        if study == "cuts":
            _compare(folder, here, values)
        kept.append(folder)
    return kept


def _folder(study: str, rows: list[Row], values: dict[str, Any]) -> Path:
    """``results/published/cuts/mnist``; a study of several sets has no folder for one."""
    return RESULTS / rows[0].preset / study / str(values[study].get(_set_key(values[study]), ""))


def _set_key(section: dict[str, Any]) -> str:
    """The parameter that names the one set, or pair, that a study is about."""
    return "pair" if "pair" in section else "dataset"


def _of_preset(
    rows: dict[Path, list[Row]], name: str, values: dict[str, Any]
) -> dict[Path, list[Row]]:
    """Files of a preset's rows; what still lies there of another preset is left alone."""
    found = {}
    for path, new in rows.items():
        study = path.parents[2].name
        if {row.preset for row in new} != {values[study]["preset"]}:
            continue
        key = _set_key(values[study])
        own = {str(row.cell.get(key)) for row in new if row.metric != RETAINED}
        if key in values[study] and own != {values[study][key]}:
            raise DataError(
                f"{path}: expected rows of {values[study][key]}, the {key} of preset {name}, got "
                f"{listed(sorted(own))}; name that {key}'s preset (`carryover list` has all)"
            )
        stage = STAGES[study]
        made_with = reader.digest_of(values, *stage.sections, without=stage.grid)
        if {row.params for row in new} != {made_with}:
            raise DataError(
                f"{path}: expected rows of preset {name} as it is, its values were changed for "
                "these; `carryover preset --check` lists how, keep them as an experiment "
                "(`dvc exp save`) or add a preset"
            )
        found[path] = new
    if not found:
        others = sorted({row.preset for new in rows.values() for row in new})
        raise DataError(
            f"reports/*/runs: expected rows of preset {name}, got {listed(others)}; run "
            f"`carryover preset {name}` and `dvc repro` first"
        )
    return found


def _refuse_another_network(
    study: str, rows: dict[Path, list[Row]], values: dict[str, Any]
) -> None:
    """The network that lies here must be the one that the rows started from."""
    folder = MODELS / str(values[study].get("pretrained"))
    if not (folder / "card.json").exists():
        return
    weights = saved.read_card(folder)["weights"]
    for path, new in rows.items():
        others = {row.weights for row in new} - {weights}
        if path.parents[2].name == study and others:
            raise DataError(
                f"{folder}: expected the network that {path} was made with (weights "
                f"{listed(sorted(others))}), got {weights}; it was trained again since, run "
                f"`dvc repro` for the rows too"
            )


def _keep_report(folder: Path, report: Path, rows: list[Path], whole: bool) -> None:
    """Copy a report that was made from these rows and covers all kept ones; drop one that is not.

    Args:
        whole: no other rows are kept.
    """
    newest = max(path.stat().st_mtime_ns for path in rows)
    for path in report.glob("*.*"):
        if whole and path.stat().st_mtime_ns >= newest:
            write_bytes(folder / path.name, path.read_bytes())
        else:
            (folder / path.name).unlink(missing_ok=True)


def _merged(target: Path, new: list[Row]) -> list[Row]:
    """Kept rows and new ones, by cell; a cell that was run again is replaced."""
    old = read_rows(target) if target.exists() else []
    others = {(row.params, row.weights, row.data) for row in old} - {
        (row.params, row.weights, row.data) for row in new
    }
    if others:
        raise DataError(
            f"{target}: expected rows of the same parameters, source network and images as the "
            "new ones, got others; move that folder away to start anew"
        )
    again = {json.dumps(row.cell) for row in new}
    both = [row for row in old if json.dumps(row.cell) not in again] + new
    # rows that lack an axis may have text where others have a number
    return sorted(both, key=lambda row: [(isinstance(v, str), v) for v in row.cell.values()])


def _compare(folder: Path, ours: list[Row], values: dict[str, Any]) -> None:
    """Ours and theirs: table, verdicts and a figure a setting."""
    if not (RELEASED / "cuts.csv").exists():
        return
    pair = ours[0].cell["pair"]
    theirs = [row for row in released.rows(RELEASED / "cuts.csv") if row.cell["pair"] == pair]
    if not theirs:
        return
    clusters = released.cluster_rows(RELEASED / "clusters.csv")
    settings = sorted({row.item for row in theirs})
    comparison.write(
        folder,
        ours,
        [*theirs, *(row for row in clusters if row.cell["pair"] == pair)],
        not_run=cost.not_run(values, presets.tree("published"), ours, settings),
    )
    for setting in settings:
        if setting == "baseline" or setting not in {row.item for row in ours}:
            continue
        both = [_comparable(rows, setting) for rows in (ours, theirs)]
        shared = set.intersection(*({row.cell["fraction"] for row in rows} for rows in both))
        if not shared:
            continue
        mine, other = (
            cut_scores.from_rows(
                [row for row in rows if row.cell["fraction"] in shared], "test accuracy"
            )
            for rows in both
        )
        names = ("this project", "released")
        figures.save(cut_compare.compare(mine, other, setting, names), folder / f"{setting}-both")


def _comparable(rows: list[Row], setting: str) -> list[Row]:
    """Rows of a setting and of training from scratch, where all cuts have the same repeats."""
    cells: dict[float, dict[tuple[str, int], set[int]]] = {}
    rows = [row for row in rows if row.item in (setting, "baseline")]
    for row in rows:
        cuts = cells.setdefault(row.cell["fraction"], {})
        cuts.setdefault((row.item, row.cell["cut"]), set()).add(row.cell["repeat"])
    whole = {
        fraction
        for fraction, cuts in cells.items()
        if len({tuple(sorted(repeats)) for repeats in cuts.values()}) == 1
        and {item for item, _ in cuts} == {setting, "baseline"}
    }
    return [row for row in rows if row.cell["fraction"] in whole]
