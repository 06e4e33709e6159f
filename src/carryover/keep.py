"""Results kept in git: finished cells of a preset, beside the released ones where there are any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carryover import embed, presets
from carryover.claims import comparison, cost, released
from carryover.config import params as config
from carryover.config import reader
from carryover.continual_drawn import NAME as DRAWN
from carryover.errors import DataError, listed
from carryover.files import write_bytes, write_text
from carryover.keep_parts import join_drawn, merged, rows_at
from carryover.models import saved
from carryover.report import cut_compare, cut_scores, figures
from carryover.rows import Row, read_rows, write_rows
from carryover.stages import STAGES
from carryover.studies import continual_report

REPORTS, RESULTS, MODELS = Path("reports"), Path("results"), Path("data/models")
RELEASED = Path("claims/released")
RETAINED = "zeroshot_accuracy"  # a metric over other sets than the study's own
TRAINED_HERE = "pretrain:"  # source of an encoder


def keep(name: str) -> list[Path]:
    """Add each study's rows to ``results/PRESET/STUDY[/PAIR]``, or ``.../STUDY/VARIANT``.

    Cells that were kept before stay, so a long grid can be run in parts (fewer fractions or cuts
    in ``params.yaml``) and kept after each. The report's files are copied too when they describe
    all kept cells; tables and figures of the continual study are made of all kept cells anew. The
    source network is, since it comes out slightly different on another type of processor, and the
    rest of the grid must start from the same one. Where the original released results of the
    pair, cell-by-cell comparison and verdicts are written.

    Args:
        name: a preset; of ``published/fashion-mnist`` the rows go to ``published``, of
            ``published/thesis``, whose sequence study has other values, to its folder ``thesis``.
    Raises:
        ConfigError: no such preset.
        DataError: no rows at all, or rows made from other values, here or kept before.
    """
    values = presets.tree(name)
    found = sorted(REPORTS.glob("*/runs/*/rows.jsonl"))
    if not found:
        raise DataError("reports/*/runs: expected rows to keep, found none; run `dvc repro`")
    rows = _of_preset({path: read_rows(path) for path in found}, name, values)
    joined: dict[Path, list[Row]] = {}
    for path, new in rows.items():
        study = path.parents[2].name
        target = _folder(study, new, values, name) / "runs" / path.parent.name / "rows.jsonl"
        joined[target] = merged(target, new)
    studies = dict.fromkeys(path.parents[2].name for path in rows)
    for study in studies:
        _refuse_another_network(study, rows, values)
    for target, whole in joined.items():
        write_rows(target, whole)
    kept = []
    for study in studies:
        ours = {path: new for path, new in rows.items() if path.parents[2].name == study}
        folder = _folder(study, next(iter(ours.values())), values, name)
        here = _kept_rows(folder)
        _keep_report(folder, REPORTS / study, list(ours), len(here) == sum(map(len, ours.values())))
        for network in _networks(study, values):
            for path in (MODELS / network).glob("*.*"):
                write_bytes(folder / network / path.name, path.read_bytes())
        if study in ("cuts", "clusters"):
            _compare(folder.parents[1] / "cuts" / folder.name, values)
        if study == "continual":
            for path in ours:
                join_drawn(folder / "runs" / path.parent.name / DRAWN, path.with_name(DRAWN))
            _keep_between(folder, REPORTS / study, list(ours))
            _tabulate(folder, here, values)
        kept.append(folder)
    return kept


def _folder(study: str, rows: list[Row], values: dict[str, Any], name: str) -> Path:
    """``results/published/cuts/mnist``; of several sets, a variant with values of its own."""
    base, _, variant = name.partition("/")
    within = values[study].get(_set_key(values[study]), "")
    if not within and _made_with(values, study) != _made_with(presets.tree(base), study):
        within = variant
    return RESULTS / rows[0].preset / study / str(within)


def _kept_rows(folder: Path) -> list[Row]:
    return [row for path in sorted(folder.glob("runs/*/rows.jsonl")) for row in read_rows(path)]


def _made_with(values: dict[str, Any], study: str) -> str:
    """The digest of values that a study's rows carry."""
    stage = STAGES[study]
    return reader.digest_of(values, *stage.sections, without=stage.grid)


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
        if {row.params for row in new} != {_made_with(values, study)}:
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
    """The networks that lie here must be those that the rows started from."""
    found = {MODELS / name: weights for name, weights in _networks(study, values).items()}
    for path, new in rows.items():
        others = {row.weights for row in new} - set(found.values())
        if found and path.parents[2].name == study and others:
            raise DataError(
                f"{listed(map(str, found))}: expected the network that {path} was made with "
                f"(weights {listed(sorted(others))}), got {listed(found.values())}; it was trained "
                "again since, run `dvc repro` for the rows too"
            )


def _networks(study: str, values: dict[str, Any]) -> dict[str, str]:
    """Networks that a study starts from, where all were trained here: name and digest in rows."""
    own = MODELS / str(values[study].get("pretrained"))
    if (own / "card.json").exists():
        return {own.name: str(saved.read_card(own)["weights"])}
    if study != "continual":
        return {}
    params = config.parse(values, "preset")
    used = {params.continual.encoder_of(arm) for arm in params.continual.arms.values()}
    entries = [params.encoders[name] for name in sorted(used)]
    names = [entry.source.removeprefix(TRAINED_HERE) for entry in entries]
    if not all((MODELS / name / "card.json").exists() for name in names):
        return {}
    return {name: embed.prepared(entry).weights for name, entry in zip(names, entries, strict=True)}


def _keep_report(folder: Path, report: Path, rows: list[Path], whole: bool) -> None:
    """Copy a report that was made from these rows and covers all kept ones; drop one that is not.

    Args:
        whole: no other rows are kept.
    """
    newest = _newest(rows)
    for path in report.glob("*.*"):
        if path.suffix == ".png" and path.with_suffix(".svg").exists():
            continue  # the same figure, and git cannot shrink it
        if path.name == continual_report.BETWEEN:
            continue  # of several parts: `_keep_between`
        if whole and path.stat().st_mtime_ns >= newest:
            write_bytes(folder / path.name, path.read_bytes())
        else:
            (folder / path.name).unlink(missing_ok=True)


def _newest(paths: list[Path]) -> int:
    return max(path.stat().st_mtime_ns for path in paths)


def _compare(folder: Path, values: dict[str, Any]) -> None:
    """Kept rows of a pair's cut study and the released ones: table, verdicts, a figure a setting.

    Verdicts take the pair's kept clusters too.
    """
    ours, of_layers = _kept_rows(folder), _kept_rows(folder.parents[1] / "clusters" / folder.name)
    if not ours or not (RELEASED / "cuts.csv").exists():
        return
    pair = ours[0].cell["pair"]
    theirs = [row for row in released.rows(RELEASED / "cuts.csv") if row.cell["pair"] == pair]
    if not theirs:
        return
    clusters = released.cluster_rows(RELEASED / "clusters.csv")
    settings = sorted({row.item for row in theirs})
    comparison.write(
        folder,
        [*ours, *of_layers],
        [*theirs, *(row for row in clusters if row.cell["pair"] == pair)],
        not_run=cost.not_run(values, presets.tree("published"), ours, settings),
        tested_on=values["cuts"]["test_on"],
        seeding=values["cuts"]["seeding"],
    )
    for setting in settings:
        if setting == "baseline" or setting not in {row.item for row in ours}:
            continue
        given = (ours, theirs)
        both = [_comparable(rows, setting) for rows in given]
        shared = set.intersection(*({row.cell["fraction"] for row in rows} for rows in both))
        if not shared:
            continue
        tested = [(row.n, row.data.split()[0]) for row in both[1] if row.split == "test"]
        if len(set(tested)) > 1:  # truncated networks and from scratch, on different images
            continue
        released_on = tested[0][1]
        mine, other = (
            cut_scores.from_rows(
                [row for row in rows if row.cell["fraction"] in shared],
                cut_scores.MEASURED[tested_on],
            )
            for rows, tested_on in zip(both, (values["cuts"]["test_on"], released_on), strict=True)
        )
        names = ("this project", "released")
        run = [{row.cell["fraction"] for row in rows if row.item == setting} for rows in given]
        missing = sorted(set.intersection(*run) - shared)
        drawn = cut_compare.compare(mine, other, setting, names, missing)
        figures.save(drawn, folder / f"{setting}-both")


def _keep_between(folder: Path, report: Path, rows: list[Path]) -> None:
    """Rows of encoders of two arms, by training; what is older than these rows is not of them."""
    new, target = (place / continual_report.BETWEEN for place in (report, folder))
    if not new.exists() or new.stat().st_mtime_ns < _newest(rows):
        return
    made = read_rows(new)
    again = {json.dumps(row.cell) for row in made}
    found = [row for row in rows_at(target) if json.dumps(row.cell) not in again] + made
    if found:
        write_rows(target, found)


def _tabulate(folder: Path, ours: list[Row], values: dict[str, Any]) -> None:
    """The continual study's tables and figures, of all kept rows."""
    if not continual_report.RELEASED.exists():
        return
    study = config.parse(values, "preset").continual
    for name, text in continual_report.texts_of_rows(study, ours).items():
        write_text(folder / name, text)
    paths = [path.with_name("rows.jsonl") for path in sorted(folder.glob(f"runs/*/{DRAWN}"))]
    drawn = [row for path in paths for row in continual_report.drawn_of(study, path)]
    pairs = rows_at(folder / continual_report.BETWEEN)
    for name, figure in continual_report.figures_of_rows(study, [*ours, *drawn], pairs):
        figures.save(figure, folder / name)
        (folder / name).with_suffix(".png").unlink()  # as in `_keep_report`


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
