"""The stages of ``dvc.yaml`` by name: which function runs, which parameters it reads."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from carryover import provenance, run
from carryover.config import params as config
from carryover.config import reader
from carryover.config.adapt import GRID as ADAPT_GRID
from carryover.config.clusters import GRID as CLUSTERS_GRID
from carryover.config.continual import GRID as CONTINUAL_GRID
from carryover.config.cuts import GRID
from carryover.config.retrieval import GRID as RETRIEVAL_GRID
from carryover.config.sequence import GRID as SEQUENCE_GRID
from carryover.config.survival import GRID as SURVIVAL_GRID
from carryover.errors import ConfigError, listed, pick

PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Stage:
    """One stage of ``dvc.yaml``.

    Attributes:
        module: defines ``stage(params, item, context)``; with what it imports, the stage's code.
        sections: dotted sections of ``params.yaml`` that it reads; ``{item}`` stands for the item.
        results: folder of one item's results, or "" where the stage has no items.
        grid: keys of its sections that list cells and change nothing in one; the digest in a row
            leaves them out, so that cells of a part of the grid belong to the whole.
        beside: folders of one item's other results.
        within: the stage of ``dvc.yaml`` that runs it after its own work; "" where it is one.
    """

    module: str
    sections: tuple[str, ...]
    results: str = ""
    grid: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    within: str = ""


def items(name: str, params: config.Params) -> tuple[str, ...]:
    """The items of a stage that ``params.yaml`` lists now, () for a stage without items."""
    lists: dict[str, tuple[str, ...]] = {
        "data": params.data.names,
        "pretrain": tuple(params.pretrain),
        "embed": tuple(params.encoders),
        "cuts": params.cuts.settings,
        "adapt": params.adapt.items,
        "continual": params.continual.items,
        "sequence": params.sequence.items,
        "retrieval": params.retrieval.items,
    }
    return lists.get(name, ())


def expanded(params: config.Params) -> Iterator[str]:
    """Names of all stages as DVC lists them (``cuts@fr``)."""
    for name, stage in STAGES.items():
        if stage.within:
            continue
        if stage.results:
            yield from (f"{name}@{item}" for item in items(name, params))
        else:
            yield name


def in_dvc(name: str) -> str:
    """The stage of ``dvc.yaml`` that runs the stage `name`."""
    return STAGES[name].within or name


def run_stage(name: str, item: str) -> None:
    """Run one stage; its results appear whole or not at all.

    Raises:
        ConfigError: an unknown stage or item, or parameters that are faulty or were edited while
            the stage ran.
    """
    stage = pick(STAGES, name, "carryover run")
    params = config.read(PARAMS)
    known = items(name, params)
    if item not in (known if stage.results else ("",)):
        wanted = f"one of {listed(known)}" if stage.results else "none"
        raise ConfigError(f"carryover run {name} --item: expected {wanted}, got {item!r}")
    sections = tuple(section.format(item=item) for section in stage.sections)
    before = reader.section_digest(PARAMS, *sections)
    module = importlib.import_module(stage.module)
    context = run.Context(
        stage=f"{name}@{item}" if stage.results else name,
        params=reader.digest_of(reader.load(PARAMS), *sections, without=stage.grid),
        source=provenance.source_digest(stage.module),
        refuse_edited=lambda: reader.refuse_edited(PARAMS, before, *sections),
    )
    module.stage(params, item, context)


STAGES = {
    "data": Stage(
        "carryover.prepare",
        (
            *("seed", "data.root", "data.sources", "data.digits_size", "data.rendered_size"),
            *("data.rendered_share", "data.test_fraction"),
        ),
        "data/sets/{item}",
    ),
    "pretrain": Stage(
        "carryover.pretrain.recipes", ("seed", "pretrain.{item}"), "data/models/{item}"
    ),
    "embed": Stage("carryover.embed", ("encoders.{item}",), "data/embeddings/{item}"),
    "cuts": Stage(
        "carryover.studies.cuts",
        ("seed", "cuts"),
        "reports/cuts/runs/{item}",
        GRID,
        ("data/checkpoints/cuts/{item}",),
    ),
    "clusters": Stage("carryover.studies.clusters", ("seed", "clusters"), grid=CLUSTERS_GRID),
    "cuts-report": Stage("carryover.studies.cuts_report", ("cuts",)),
    "clusters-report": Stage(
        "carryover.studies.clusters_report", ("clusters",), within="cuts-report"
    ),
    "adapt": Stage(
        "carryover.studies.adapt",
        ("seed", "adapt"),
        "reports/adapt/runs/{item}",
        ADAPT_GRID,
        ("data/predictions/adapt/{item}", "data/checkpoints/adapt/{item}"),
    ),
    "adapt-report": Stage("carryover.studies.adapt_report", ("adapt", "encoders")),
    "continual": Stage(
        "carryover.studies.continual",
        ("seed", "continual"),
        "reports/continual/runs/{item}",
        CONTINUAL_GRID,
        ("data/predictions/continual/{item}", "data/checkpoints/continual/{item}"),
    ),
    "continual-report": Stage("carryover.studies.continual_report", ("seed", "continual")),
    "sequence": Stage(
        "carryover.studies.sequence",
        ("seed", "sequence"),
        "reports/sequence/runs/{item}",
        SEQUENCE_GRID,
        ("data/predictions/sequence/{item}", "data/checkpoints/sequence/{item}"),
    ),
    "sequence-report": Stage("carryover.studies.sequence_report", ("sequence",)),
    "retrieval": Stage(
        "carryover.studies.retrieval",
        ("seed", "retrieval"),
        "reports/retrieval/runs/{item}",
        RETRIEVAL_GRID,
        ("data/predictions/retrieval/{item}", "data/checkpoints/retrieval/{item}"),
    ),
    "retrieval-report": Stage("carryover.studies.retrieval_report", ("pretrain", "retrieval")),
    "survival": Stage(
        "carryover.studies.survival",
        (
            *("survival", "pretrain", "encoders"),
            *("cuts.pair", "cuts.pretrained", "cuts.dataset", "cuts.classes"),
            *("adapt.encoder", "adapt.dataset", "adapt.others", "continual.streams"),
            *("sequence.encoder", "sequence.datasets", "sequence.orders"),
            *("retrieval.dataset", "retrieval.starts"),
        ),
        grid=SURVIVAL_GRID,
    ),
    "claims": Stage("carryover.claims.shown", ()),
    "report": Stage("carryover.report.site", ()),
}
# of each study the stage that makes its report
REPORTS = {name.removesuffix("-report"): name for name in STAGES if name.endswith("-report")}
REPORTS |= {"survival": "survival"}
