"""Shape checks on every call into the package, and a small working checkout to run it in.

`checkout` holds the committed parameters, `tiny` those of ``tests/params.yaml``, which take
seconds. Both leave the repository alone: stages write below a temporary folder.
"""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

REPOSITORY = Path(__file__).parents[1]
SRC = REPOSITORY / "src"
PACKAGE = SRC / "carryover"
TINY = REPOSITORY / "tests" / "params.yaml"

strict = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int passes for a float, as in mypy

install_import_hook("carryover", "conftest.strict")


def _module_names() -> list[str]:
    """Every module of the package but the one that runs it when imported."""
    paths = (path.relative_to(SRC).with_suffix("") for path in sorted(PACKAGE.rglob("*.py")))
    names = (".".join(path.parts).removesuffix(".__init__") for path in paths)
    return [name for name in names if not name.endswith("__main__")]


def _give_names_for_checking(name: str) -> None:
    """Run a module's imports under ``if TYPE_CHECKING:``, so that its annotations resolve."""
    module = importlib.import_module(name)
    for node in ast.parse(Path(module.__file__ or "").read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            imports = ast.Module(body=node.body, type_ignores=[])
            exec(compile(imports, name, "exec"), vars(module))


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads leave their core to others

MODULES = _module_names()
for _name in MODULES:
    _give_names_for_checking(_name)

import torch  # noqa: E402
from ruamel.yaml import YAML  # noqa: E402

torch.set_num_threads(1)  # as the stages have it; more would not survive their forks

ABSENT = object()  # a value that takes its key out
KIT_VARIABLES = ("DVC_ROOT", "CARRYOVER_DEVICE", "CARRYOVER_QUIET", "CARRYOVER_SCRATCH")
KIT_VARIABLES += ("CARRYOVER_WORKERS", "CARRYOVER_PROGRESS", "CARRYOVER_ERROR")


class Checkout:
    """A checkout in a temporary folder, which is also the current folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.params = root / "params.yaml"

    def tree(self) -> dict[str, Any]:
        """The parameters as they stand."""
        tree: dict[str, Any] = YAML(typ="safe", pure=True).load(self.params.read_text())
        return tree

    def edit(self, **changes: Any) -> None:
        """Set values by dotted path (``**{"cuts.lr": 0.1}``); `ABSENT` takes a key out."""
        tree = self.tree()
        for path, value in changes.items():
            *sections, key = path.split(".")
            section = tree
            for name in sections:
                section = section[name]
            if value is ABSENT:
                del section[key]
            else:
                section[key] = value
        with self.params.open("w") as file:
            YAML(typ="safe", pure=True).dump(tree, file)

    def environment(self, **variables: str) -> dict[str, str]:
        """What a subprocess of this checkout sees."""
        return os.environ | {"PYTHONPATH": "src", "CARRYOVER_QUIET": "1"} | variables

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "carryover", *arguments]

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """``carryover`` with these arguments in a process of its own."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def files(self) -> dict[str, bytes]:
        """Content of every file but the source and what git ignores for good reason."""
        skipped = ("src", ".scratch", ".logs")
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.relative_to(self.root).parts[0] not in skipped
        }

    def git(self, *arguments: str) -> None:
        """git, with a name and no settings of the user's."""
        options = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "gc.auto=0")
        subprocess.run(["git", *options, *arguments], check=True, capture_output=True)

    def commit(self) -> None:
        """Make it a git repository with everything committed."""
        self.git("init", "--quiet", ".")
        self.git("add", "-A", ".")
        self.git("commit", "--quiet", "-m", "all")


def make_checkout(root: Path, params: Path) -> Checkout:
    (root / ".dvc").mkdir(parents=True)
    shutil.copy(REPOSITORY / ".dvc" / "config", root / ".dvc" / "config")
    for name in ("dvc.yaml", ".gitignore"):
        shutil.copy(REPOSITORY / name, root / name)
    shutil.copy(params, root / "params.yaml")
    shutil.copytree(REPOSITORY / "presets", root / "presets")
    (root / "src").symlink_to(SRC)
    return Checkout(root)


@pytest.fixture
def enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Checkout]:
    """Make a checkout with the given parameters and go there."""

    def made(params: Path) -> Checkout:
        found = make_checkout(tmp_path / "checkout", params)
        monkeypatch.chdir(found.root)
        for name in KIT_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CARRYOVER_QUIET", "1")
        monkeypatch.setenv("CARRYOVER_WORKERS", "0")  # here, where calls are checked
        monkeypatch.setenv("CARRYOVER_DEVICE", "cpu")
        monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
        return found

    return made


@pytest.fixture
def checkout(enter: Callable[[Path], Checkout]) -> Checkout:
    """A checkout with the committed parameters; no stage has run."""
    return enter(REPOSITORY / "params.yaml")


@pytest.fixture
def tiny(enter: Callable[[Path], Checkout]) -> Checkout:
    """A checkout with ``tests/params.yaml``; no stage has run."""
    return enter(TINY)


@pytest.fixture(scope="session")
def data_and_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``data`` folder of the tiny checkout, made once by its stages."""
    from carryover.stages import run_stage

    found = make_checkout(tmp_path_factory.mktemp("made") / "checkout", TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.root)
        patch.setenv("CARRYOVER_QUIET", "1")
        patch.setenv("CARRYOVER_DEVICE", "cpu")
        run_stage("data", "digits")
        run_stage("pretrain", "cnn6-digits-0-4")
    return found.root / "data"


@pytest.fixture
def pretrained(tiny: Checkout, data_and_models: Path) -> Checkout:
    """The tiny checkout after its stages ``data`` and ``pretrain``."""
    shutil.copytree(data_and_models, tiny.root / "data")
    return tiny


@pytest.fixture(scope="session")
def embedded_once(tmp_path_factory: pytest.TempPathFactory, data_and_models: Path) -> Path:
    """The ``data`` folder of the tiny checkout with a small CLIP and its embeddings."""
    from carryover.stages import run_stage

    found = make_checkout(tmp_path_factory.mktemp("embedded") / "checkout", TINY)
    shutil.copytree(data_and_models, found.root / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.root)
        patch.setenv("CARRYOVER_QUIET", "1")
        patch.setenv("CARRYOVER_DEVICE", "cpu")
        for name in ("letters", "world"):
            run_stage("data", name)
        run_stage("pretrain", "clip-nano")
        run_stage("embed", "clip-nano")
    return found.root / "data"


@pytest.fixture
def embedded(tiny: Checkout, embedded_once: Path) -> Checkout:
    """The tiny checkout after its stages ``data``, ``pretrain`` and ``embed``."""
    shutil.copytree(embedded_once, tiny.root / "data")
    return tiny
