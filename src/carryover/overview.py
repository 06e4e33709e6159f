"""What there is: lists, strict reading of parameters, data sets, and differences of revisions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from carryover import prepare, presets, run
from carryover.config import params as config
from carryover.config.data import Data
from carryover.config.diff import Diff
from carryover.data import catalog, store
from carryover.data.known import Dataset
from carryover.errors import ConfigError, DataError, listed
from carryover.measure.compare import Tolerance, compare
from carryover.measure.revisions import rows_at
from carryover.report.changes import as_json, as_markdown, as_table
from carryover.stages import PARAMS, REPORTS, STAGES, items
from carryover.study_faults import known_classes, study_faults

KNOWN_SETS = (*catalog.DATASETS, *catalog.RENDERED)
LINES = 40  # of a table of changes that is printed


def overview() -> str:
    """Studies, stages with their items, presets, data sets and networks, one line each."""
    params = config.read(PARAMS)
    stages = [
        f"  {name}@{{{','.join(items(name, params))}}}" if stage.results else f"  {name}"
        for name, stage in STAGES.items()
        if not stage.within
    ]
    return "\n".join(
        [
            f"studies   {listed(REPORTS)}",
            f"presets   {listed(presets.names())}",
            f"data      {listed(KNOWN_SETS)}, any NAME.parquet or folder of data.root, "
            "folder:PATH, parquet:PATH",
            f"networks  {listed(params.pretrain)}",
            f"encoders  {listed(params.encoders)} (`carryover encoders` has the sources)",
            "stages",
            *stages,
        ]
    )


def check() -> str:
    """Read ``params.yaml`` strictly; hold what studies ask of sets and networks against these.

    Raises:
        ConfigError: every fault under its dotted path.
    """
    params = config.read(PARAMS)
    uses = [("cuts", params.cuts.dataset, params.cuts.classes)]
    networks = {name: params.network(name) for name in params.pretrain}
    uses += [(f"pretrain.{n}", r.dataset, r.classes) for n, r in networks.items() if r]
    faults = []
    for path, dataset, classes in uses:
        known = known_classes(dataset)
        if known is not None and (absent := sorted(c for c in classes if not 0 <= c < known)):
            faults.append(
                f"{PARAMS}: {path}.classes: expected classes of {dataset}, 0 to {known - 1}, got "
                f"{listed(map(str, absent))}"
            )
    faults += [f"{PARAMS}: {fault}" for fault in [*_root_faults(params), *study_faults(params)]]
    if faults:
        raise ConfigError("\n".join(faults))
    return f"{PARAMS}: no fault; {presets.describe()[0].splitlines()[0]}"


def _root_faults(params: config.Params) -> list[str]:
    """Sets whose files only ``data.root`` could lead to, where there is none."""
    if params.data.root:
        return []
    absent = []
    for name in params.data.names:
        here = (prepare.SETS / name / "manifest.json").exists()
        if not here and name not in params.data.sources:
            try:
                prepare.find(params.data, name)
            except DataError:
                absent.append(name)
    if not absent:
        return []
    return [
        f"data.root: expected the folder that holds {listed(absent)}, got none; set it, name them "
        "under data.sources, or fetch prepared ones with `dvc pull`"
    ]


def data_table() -> str:
    """Two lines a set: where it would come from, or counts and digest once prepared; its facts."""
    params = config.read(PARAMS)
    lines = []
    known = [*params.data.names, *KNOWN_SETS, *params.data.sources, *_in_root(params.data)]
    names = list(dict.fromkeys(known))
    wide = max(map(len, names))
    for name in names:
        folder = prepare.SETS / name
        try:
            source = prepare.find(params.data, name)
            origin = f"{source.kind} {source.path or ''}".strip()
        except DataError:
            origin = f"absent: {catalog.way_to(name, params.data.root)}"
        if (folder / "manifest.json").exists():
            origin = f"prepared {_counts(store.manifest(folder))}  from {origin}"
        lines.append(f"{name:{wide}}  {origin}")
        if name in catalog.DATASETS:
            lines.append(f"{'':{wide}}  {_facts(catalog.DATASETS[name])}")
    return "\n".join(lines)


def _facts(known: Dataset) -> str:
    """Size, makers and terms of a known set."""
    numbers = [(known.images, "images"), (known.classes, "classes")]
    sizes = [f"{number:,} {what}" for number, what in numbers if number is not None]
    return "; ".join([", ".join(sizes) or "size not sourced", known.source])


def _in_root(data: Data) -> list[str]:
    """Names of the Parquet files in ``data.root``."""
    if not data.root:
        return []
    folder = run.home() / Path(data.root).expanduser()
    return sorted(path.stem.replace("_", "-") for path in folder.glob("*.parquet"))


def _counts(manifest: dict[str, Any]) -> str:
    splits = manifest["splits"]
    order = [split for split in ("train", "validation", "test") if split in splits]
    parts = ", ".join(f"{split} {splits[split]['images']}" for split in order)
    return f"{parts}, {len(manifest['class_names'])} classes, digest {manifest['digest']}"


def check_data(names: list[str]) -> Iterator[str]:
    """Check each set: digests of a prepared one, else the files it would be prepared from.

    Raises:
        DataError: the first set that is short, altered or unreadable.
    """
    params = config.read(PARAMS)
    for given in names or params.data.names:
        name = given if ":" in given else catalog.slug(given)
        folder = prepare.SETS / name
        if (folder / "manifest.json").exists():
            manifest = store.check(folder)
            prepare.refuse_stale(params.data, name)
            yield f"{name}: as prepared; {_counts(manifest)}"
            continue
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "set"
            prepare.prepare(params.data, name, params.seed, download=False, out=out)
            yield f"{name}: its files are good; {_counts(store.check(out))}"


def prepare_data(names: list[str], download: bool) -> Iterator[str]:
    """Prepare sets under ``data/sets``, as their stages would.

    Raises:
        DataError: a set that cannot be found or read, or that lacks images.
    """
    params = config.read(PARAMS)
    for given in names:
        if ":" in given:
            raise DataError(
                f"data set: expected a name to keep it under, got {given!r}; add NAME: {given} to "
                "data.sources and give NAME"
            )
        name = catalog.slug(given)
        prepare.prepare(params.data, name, params.seed, download=download)
        yield f"{prepare.SETS / name}: {_counts(store.manifest(prepare.SETS / name))}"


def compare_revisions(
    before: str,
    after: str | None,
    absolute: float | None,
    relative: float | None,
    form: Literal["text", "json", "markdown"],
) -> tuple[str, bool]:
    """The differences between two revisions' rows, and whether any is significant.

    Args:
        absolute, relative: hold for every metric instead of the tolerances of ``params.yaml``
            where either is given.
    Raises:
        DataError: an unknown revision, or one without rows.
    """
    diff = config.read(PARAMS).diff
    allowed = tolerances(diff)
    if absolute is not None or relative is not None:
        allowed = [Tolerance("*", absolute or 0.0, relative or 0.0)]
    here = Path()
    sides = [rows_at(before, here), rows_at(after, here)]
    for name, rows in zip((before, after or "the working tree"), sides, strict=True):
        if not rows:
            raise DataError(f"diff: expected rows under reports/ in {name}, found none")
    comparison = compare(sides[0], sides[1], allowed, diff.level)
    if form == "json":
        text = json.dumps(as_json(comparison), indent=2)
    elif form == "markdown":
        text = as_markdown(comparison, LINES)
    else:
        text = as_text(as_table(comparison, LINES), comparison.significant)
    return text, comparison.significant


def tolerances(diff: Diff) -> list[Tolerance]:
    """The tolerances of ``params.yaml``."""
    return [Tolerance(one.match, one.absolute, one.relative) for one in diff.tolerances]


def as_text(table: list[list[str]], significant: bool) -> str:
    """A table of strings in aligned columns, with the verdict below."""
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
    verdict = "significant change" if significant else "no significant change"
    return "\n".join([*lines, verdict])
