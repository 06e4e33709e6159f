"""``dvc.yaml`` says what the code says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from carryover import presets, provenance, stages
from carryover.config import params as config
from carryover.config.reader import SLUG
from conftest import PACKAGE, REPOSITORY, SRC, Checkout

PIPELINE: dict[str, Any] = YAML(typ="safe", pure=True).load((REPOSITORY / "dvc.yaml").read_text())
NAMES = list(PIPELINE["stages"])
PRESETS = sorted(path.stem for path in (REPOSITORY / "presets").glob("*.yaml"))
ITEM = {"data": "${item.name}", "pretrain": "${key}", "embed": "${key}"}
ITEM |= {"cuts": "${item.setting}", "adapt": "${item.way}", "continual": "${item.trained}"}
ITEM |= {"sequence": "${item.way}", "retrieval": "${item.model}"}
KEPT = ("src/", "claims/", "results", "reports/bench/")  # what is in git and made by no stage


def stage(name: str) -> dict[str, Any]:
    """A stage's description, that of one item for a ``foreach``."""
    found: dict[str, Any] = PIPELINE["stages"][name]
    return found.get("do", found)


def outs(name: str) -> list[str]:
    listed = [*stage(name).get("outs", []), *stage(name).get("metrics", [])]
    return [out if isinstance(out, str) else next(iter(out)) for out in listed]


def ran_by(name: str) -> list[str]:
    """The kit's stages that a stage of DVC runs, in order."""
    return [each for each in stages.STAGES if stages.in_dvc(each) == name]


def test_the_stages_are_those_of_the_code() -> None:
    assert list(dict.fromkeys(map(stages.in_dvc, stages.STAGES))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_depends_on_the_modules_it_runs(name: str) -> None:
    found = [dep for dep in stage(name)["deps"] if dep.endswith(".py")]
    entries = [stages.STAGES[each] for each in ran_by(name)]
    modules = {path for entry in entries for path in provenance.modules_of(entry.module)}
    assert found == sorted(f"src/{path.relative_to(SRC).as_posix()}" for path in modules)
    assert len(found) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_tracks_the_parameters_it_reads(name: str) -> None:
    found = stage(name).get("params", [])
    sections = [section for each in ran_by(name) for section in stages.STAGES[each].sections]
    wanted = [section.replace("{item}", ITEM.get(name, "")) for section in sections]
    assert found == wanted


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_runs_from_the_source_with_its_item(name: str) -> None:
    item = f" --item {ITEM[name]}" if name in ITEM else ""
    wanted = [f"PYTHONPATH=src python -m carryover run {each}{item}" for each in ran_by(name)]
    given = stage(name)["cmd"]
    assert ([given] if isinstance(given, str) else given) == wanted
    assert bool(stages.STAGES[name].results) == (name in ITEM)


@pytest.mark.parametrize("name", [name for name in NAMES if name in ITEM])
def test_an_items_results_lie_where_the_code_says(name: str) -> None:
    folders = (stages.STAGES[name].results, *stages.STAGES[name].beside)
    assert outs(name) == [folder.replace("{item}", ITEM[name]) for folder in folders]


def test_nothing_persists_and_no_path_starts_with_a_dot() -> None:
    text = (REPOSITORY / "dvc.yaml").read_text()
    assert "persist" not in text
    assert "./" not in text


def test_every_dependency_that_is_no_source_is_made_by_a_stage() -> None:
    values = {"${item.name}": "X", "${key}": "X", "${item.setting}": "X"}
    values |= {"${item.dataset}": "X", "${cuts.dataset}": "X", "${cuts.pretrained}": "X"}
    values |= {"${clusters.dataset}": "X", "${clusters.pretrained}": "X"}
    values |= {"${item.way}": "X", "${adapt.encoder}": "X", "${item.trained}": "X"}
    values |= {"${sequence.encoder}": "X", "${item.model}": "X", "${retrieval.dataset}": "X"}

    def plain(path: str) -> str:
        for name, value in values.items():
            path = path.replace(name, value)
        return path

    made = {plain(out) for name in NAMES for out in outs(name)}
    made |= {str(Path(out).parent) for out in made}
    needed = {plain(dep) for name in NAMES for dep in stage(name)["deps"]}
    in_git = {dep for dep in needed if dep.startswith(KEPT)}
    assert needed - in_git <= made
    for dep in in_git:
        assert (REPOSITORY / dep).exists()


def test_results_that_git_keeps_are_not_cached_and_the_others_are() -> None:
    for name in NAMES:
        for out in [*stage(name).get("outs", []), *stage(name).get("metrics", [])]:
            options = {} if isinstance(out, str) else next(iter(out.values()))
            kept = (out if isinstance(out, str) else next(iter(out))).startswith("reports/")
            assert (options.get("cache") is False) == kept, out


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_expands_to_few_stages_with_plain_names(checkout: Checkout, preset: str) -> None:
    params = config.parse(presets.tree(preset), preset)
    names = list(stages.expanded(params))
    assert len(names) - (preset != "mini") * len(params.data.names) <= 40  # twelve tasks are sets
    assert len(set(names)) == len(names)
    for name in names:
        assert all(SLUG.fullmatch(part) for part in name.split("@")), name


def test_presets_were_found() -> None:
    assert "mini" in PRESETS


def test_dvc_expands_to_the_names_of_the_code(checkout: Checkout) -> None:
    from dvc.repo import Repo

    checkout.git("init", "--quiet", ".")
    with Repo(str(checkout.root)) as repo:
        found = {str(stage.name) for stage in repo.index.stages}
    assert found == set(stages.expanded(config.read(stages.PARAMS)))


def test_the_lock_has_no_stage_that_is_not_listed() -> None:
    lock = YAML(typ="safe", pure=True).load((REPOSITORY / "dvc.lock").read_text())
    listed = set(stages.expanded(config.read(REPOSITORY / "params.yaml")))
    assert set(lock["stages"]) <= listed


def test_every_stage_has_its_function() -> None:
    for entry in stages.STAGES.values():
        path = PACKAGE.joinpath(*entry.module.split(".")[1:]).with_suffix(".py")
        assert "\ndef stage(" in path.read_text()
