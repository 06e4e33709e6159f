"""Imports point one way: a module imports its own layer or a lower one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import PACKAGE, SRC

LAYERS = (  # highest first; a folder stands for all its modules
    ("reference",),
    ("cli", "__main__"),
    ("cli_encoders", "cli_zeroshot", "cli_launch", "cli_stored"),
    ("launch",),
    ("launch_slurm",),
    ("classify",),
    ("zeroshot",),
    ("doctor",),
    ("doctor_files", "doctor_cache"),
    ("reproduce", "reproduced", "overview", "consistent", "encoders_cli"),
    ("study_faults",),
    ("afresh",),
    ("keep",),
    ("keep_parts",),
    ("presets", "export"),
    ("stages",),
    ("claims",),
    ("studies", "report"),
    ("survival_measures",),
    ("survival_line",),
    ("survival_looks", "survival_origins"),
    ("survival_start", "survival_sources"),
    ("continual_similarity", "continual_features", "continual_rates", "continual_between"),
    ("continual_measures",),
    ("continual_training", "continual_layers", "continual_drawn"),
    ("continual_start",),
    ("retrieval_measures",),
    ("retrieval_training",),
    ("retrieval_answers",),
    ("retrieval_models",),
    ("retrieval_lookup",),
    ("retrieval_start",),
    ("sequence_runs", "sequence_basis"),
    ("sequence_bounds", "sequence_beside"),
    ("sequence_training", "sequence_measures"),
    ("sequence_losses",),
    ("sequence_handed",),
    ("sequence_seams", "sequence_distilling"),
    ("sequence_carried",),
    ("sequence_heads",),
    ("sequence_start",),
    ("adapt_predictions",),
    ("transfer", "subsets", "adapt_start", "adapt_training", "adapt_measures", "continual_pools"),
    ("sequence_methods", "retrieval_arms"),
    ("embed",),
    ("pretrain",),
    ("prepare",),
    ("prefix", "stacked"),
    ("bank", "bank_out", "bank_key", "bank_files"),
    ("train", "parallel", "solve", "sequence_resume", "distributed"),
    ("adapt", "measure"),
    ("models", "data"),
    ("config",),
    ("scratch",),
    ("run", "shares"),
    ("originals", "original_sets"),
    ("retrieval_predictions",),
    ("rows", "provenance", "checkpoints"),
    ("snapshots",),
    ("files",),
    ("errors", ""),  # "" is the package itself, which holds the version
)
MAY_READ_CONFIG = {
    *(
        "cli",
        "reproduce",
        "reproduced",
        "overview",
        "doctor",
        "doctor_cache",
        "presets",
        "export",
        "keep",
    ),
    *("stages", "launch", "reference", "study_faults"),
    *("studies", "pretrain", "prepare", "transfer", "config", "embed", "encoders_cli"),
    *(
        "adapt_start",
        "adapt_training",
        "adapt_measures",
        "adapt_predictions",
        "cli_encoders",
        "cli_zeroshot",
        "zeroshot",
    ),
    *("continual_pools", "continual_start", "continual_training", "continual_measures"),
    *("continual_similarity", "continual_features", "continual_rates", "continual_between"),
    *("sequence_start", "sequence_training", "sequence_seams", "sequence_distilling"),
    *("sequence_bounds", "sequence_methods", "sequence_beside", "sequence_handed"),
    *("sequence_runs", "sequence_basis"),
    *("retrieval_arms", "retrieval_start", "retrieval_training", "retrieval_answers"),
    "claims",  # the reader of YAML alone
}


def area(module: str) -> str:
    """``studies`` for ``carryover.studies.cuts``, "" for the package."""
    return f"{module}.".split(".")[1]


def layer(module: str) -> int:
    return next(i for i, names in enumerate(reversed(LAYERS)) if area(module) in names)


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path
    return found


def imports(path: Path, known: dict[str, Path], runs: bool = False) -> Iterator[str]:
    """Modules of the package that a file imports anywhere, for type checking too unless `runs`."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if runs and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in below]
        yield from (name for name in names if name in known)


def test_every_module_has_a_layer() -> None:
    assert len(modules()) > 30
    named = {name for names in LAYERS for name in names}
    assert {area(module) for module in modules()} == named


@pytest.mark.parametrize("module", list(modules()))
def test_a_module_imports_no_higher_layer(module: str) -> None:
    known = modules()
    for imported in imports(known[module], known):
        assert layer(imported) <= layer(module), f"{module} imports {imported}"


def test_only_the_top_and_what_runs_stages_imports_the_parameters() -> None:
    known = modules()
    readers = {
        area(module)
        for module, path in known.items()
        if any(area(imported) == "config" for imported in imports(path, known, runs=True))
    }
    assert readers
    assert readers <= MAY_READ_CONFIG


def test_no_study_imports_another_study() -> None:
    known = modules()
    studies = [module for module in known if area(module) == "studies"]
    assert len(studies) > 2
    for module in studies:
        others = {name for name in imports(known[module], known) if area(name) == "studies"}
        assert others <= {module, "carryover.studies"}, module


def test_environment_variables_are_read_in_few_modules() -> None:
    readers = {
        module
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    # cli writes its options there for the stages, shares what a launch deals out; reproduce and
    # launch hand it to what they start
    started = {"carryover.reproduce", "carryover.launch", "carryover.launch_slurm"}
    assert readers == {"carryover.run", "carryover.shares", "carryover.cli"} | started


def test_torch_is_not_imported_where_help_passes() -> None:
    top = {
        name
        for path in (PACKAGE / "cli.py", PACKAGE / "errors.py", PACKAGE / "__init__.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [n.name for n in node.names]
        )
    }
    assert "typer" in top
    assert top <= {
        *("__future__", "contextlib", "errno", "os", "sys", "pathlib", "typing", "collections.abc"),
        *("typer", "carryover", "carryover.errors"),
    }
