"""DVC's remotes: what one checkout pushed, a fresh clone has without computing it again.

The remotes are a folder and an S3 server on loopback (`s3_server`) that checks who asks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from carryover.data import store
from carryover.stages import run_stage
from conftest import REPOSITORY, TINY, Checkout, make_checkout
from image_files import encoded, picture, write_folder
from test_launch import CUTS

pytestmark = pytest.mark.slow  # DVC takes a second or two a command

MADE = ["data@digits", "data@letters", "data@world", "embed@clip-nano", "cuts@fr"]
MADE += ["pretrain@cnn6-digits-0-4", "pretrain@clip-nano"]
RESULTS = ("data", "reports")


@dataclass(frozen=True)
class Remote:
    """Where to push to, what `dvc remote modify` says of it, and who is asking."""

    url: str
    settings: dict[str, str]
    variables: dict[str, str]


@dataclass(frozen=True)
class Clone:
    """A checkout with DVC's results; `dvc` is run there."""

    root: Path

    def dvc(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.root,
            env=os.environ | {"DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"} | variables,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def must(self, *arguments: str, **variables: str) -> str:
        done = self.dvc(*arguments, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "gc.auto=0")
        command = ["git", *who, *arguments]
        return subprocess.run(
            command, cwd=self.root, check=True, capture_output=True, text=True
        ).stdout

    def clone(self, place: Path) -> Clone:
        """As another person has it: what git holds, no cache, no results of DVC."""
        self.git("clone", "--quiet", str(self.root), str(place))
        return Clone(place)

    def results(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for folder in RESULTS
            for path in sorted((self.root / folder).rglob("*"))
            if path.is_file() and path.name != ".gitignore"
        }


@pytest.fixture(scope="module")
def recorded_once(tmp_path_factory: pytest.TempPathFactory, embedded_once: Path) -> Clone:
    """The tiny checkout after seven stages, in git, with DVC's lock and cache."""
    found = make_checkout(tmp_path_factory.mktemp("recorded") / "checkout", TINY)
    shutil.copy(REPOSITORY / ".dvc" / ".gitignore", found.root / ".dvc" / ".gitignore")
    shutil.copytree(embedded_once, found.root / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.root)
        patch.setenv("CARRYOVER_QUIET", "1")
        patch.setenv("CARRYOVER_DEVICE", "cpu")
        patch.setenv("CARRYOVER_WORKERS", "0")
        found.edit(**CUTS)
        run_stage("cuts", "fr")
        found.commit()
    made = Clone(found.root)
    made.must("commit", "--quiet", "--force", *MADE)
    made.git("add", "-A", ".")
    made.git("commit", "--quiet", "-m", "made")
    return made


@pytest.fixture
def recorded(recorded_once: Clone, tmp_path: Path) -> Clone:
    shutil.copytree(recorded_once.root, tmp_path / "recorded", symlinks=True)
    return Clone(tmp_path / "recorded")


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The server's endpoint, a bucket, and a key that may use it."""
    command = [sys.executable, str(Path(__file__).with_name("s3_server.py"))]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        yield json.loads(process.stdout.readline())


@pytest.fixture(params=["folder", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    if request.param == "folder":
        return Remote(str(tmp_path / "remote of mine"), {}, {})
    return on(request.getfixturevalue("s3"), "round-trip")


def on(s3: dict[str, str], prefix: str) -> Remote:
    """A place in the server's bucket, with the key that opens it."""
    names = {"AWS_ACCESS_KEY_ID": s3["key"], "AWS_SECRET_ACCESS_KEY": s3["secret"]}
    names |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1"}
    return Remote(f"s3://{s3['bucket']}/{prefix}", {"endpointurl": s3["endpoint"]}, names)


def add(checkout: Clone, remote: Remote) -> None:
    """Name the default remote in ``.dvc/config``, and commit that."""
    checkout.must("remote", "add", "--quiet", "--default", "store", remote.url)
    for key, value in remote.settings.items():
        checkout.must("remote", "modify", "--quiet", "store", key, value)
    checkout.git("commit", "--quiet", "--all", "-m", "a remote")


def without_python(place: Path) -> str:
    """A PATH on which a stage's command fails and says that it was run."""
    place.mkdir()
    (place / "python").write_text(f"#!/bin/sh\ntouch '{place}/ran'\nexit 1\n")
    (place / "python").chmod(0o755)
    return f"{place}{os.pathsep}{os.environ['PATH']}"


def test_a_fresh_clone_has_every_result_without_computing_one(
    recorded: Clone, remote: Remote, tmp_path: Path
) -> None:
    add(recorded, remote)
    recorded.must("push", "--quiet", *MADE, **remote.variables)
    assert "Everything is up to date" in recorded.must("push", *MADE, **remote.variables)

    fresh = recorded.clone(tmp_path / "fresh")
    assert not (fresh.root / "data/models/clip-nano").exists()
    path = without_python(tmp_path / "bin")
    said = fresh.must("repro", "--pull", *MADE, PATH=path, **remote.variables)
    assert "Running stage" not in said
    assert not (tmp_path / "bin" / "ran").exists()
    assert fresh.results() == recorded.results()
    assert fresh.git("status", "--porcelain") == ""

    second = recorded.clone(tmp_path / "second")
    second.must("pull", "--quiet", "pretrain@clip-nano", **remote.variables)
    assert {name for name in second.results() if name.startswith("data/")} == {
        "data/models/clip-nano/card.json",
        "data/models/clip-nano/weights.safetensors",
    }
    assert second.results().items() <= recorded.results().items()


def test_a_stage_whose_code_changed_is_not_taken_from_the_remote(
    recorded: Clone, tmp_path: Path
) -> None:
    add(recorded, Remote(str(tmp_path / "remote"), {}, {}))
    recorded.must("push", "--quiet", "cuts@fr", "data@digits", "pretrain@cnn6-digits-0-4")
    fresh = recorded.clone(tmp_path / "fresh")
    found = Checkout(fresh.root)
    found.edit(**{"cuts.lr": found.tree()["cuts"]["lr"] * 2})
    path = without_python(tmp_path / "bin")
    done = fresh.dvc("repro", "--pull", "cuts@fr", PATH=path)
    assert done.returncode == 255
    assert (tmp_path / "bin" / "ran").exists()
    assert "Running stage 'cuts@fr'" in done.stdout
    assert "Running stage 'pretrain" not in done.stdout


def test_a_wrong_key_is_refused_and_leaves_nothing_behind(
    recorded: Clone, s3: dict[str, str], tmp_path: Path
) -> None:
    remote = on(s3, "refused")
    add(recorded, remote)
    wrong = remote.variables | {"AWS_SECRET_ACCESS_KEY": "not it"}
    done = recorded.dvc("push", "data@digits", **wrong)
    assert done.returncode == 255
    assert "Forbidden" in done.stderr
    pushed = recorded.must("push", "data@digits", **remote.variables)
    assert "4 files pushed" in pushed  # two shards, a manifest, the list of the three
    fresh = recorded.clone(tmp_path / "fresh")
    done = fresh.dvc("pull", "data@digits", **wrong)
    assert done.returncode != 0
    assert "Forbidden" in done.stderr
    assert not (fresh.root / "data/sets/digits").exists()
    fresh.must("pull", "--quiet", "data@digits", **remote.variables)
    store.check(fresh.root / "data/sets/digits")


# --- from another repository ----------------------------------------------------------------------


def test_images_of_another_repository_are_imported_studied_and_updated(
    tmp_path: Path, tiny: Checkout
) -> None:
    other = Clone(tmp_path / "other")
    images = {f"{kind}/{i}.png": encoded(picture(i)) for kind in ("crow", "robin") for i in (1, 2)}
    write_folder(other.root / "birds", images)
    other.git("init", "--quiet")
    other.must("init", "--quiet")
    other.must("add", "--quiet", "birds")
    other.git("add", "-A", ".")
    other.git("commit", "--quiet", "-m", "birds")
    first = other.git("rev-parse", "HEAD").strip()

    shutil.copy(REPOSITORY / ".dvc" / ".gitignore", ".dvc/.gitignore")
    tiny.commit()
    ours = Clone(tiny.root)
    ours.must("import", "--quiet", str(other.root), "birds")
    assert first in Path("birds.dvc").read_text()
    tiny.edit(**{"data.names": ["digits", "letters", "world", "birds"]})
    tiny.edit(**{"data.sources": {"birds": "folder:birds"}})
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours.must("repro", "--quiet", "data@birds", PATH=path)
    made = store.manifest(Path("data/sets/birds"))
    assert made["class_names"] == ["crow", "robin"]
    assert sum(part["images"] for part in made["splits"].values()) == 4

    write_folder(other.root / "birds", {"robin/3.png": encoded(picture(3))})
    other.must("add", "--quiet", "birds")
    other.git("commit", "--quiet", "--all", "-m", "a third robin")
    ours.must("update", "--quiet", "birds.dvc")
    assert Path("birds/robin/3.png").read_bytes() == encoded(picture(3))
    ours.must("repro", "--quiet", "--force", "data@birds", PATH=path)
    again = store.manifest(Path("data/sets/birds"))
    assert sum(part["images"] for part in again["splits"].values()) == 5
    assert again["source"] != made["source"]


def test_another_project_imports_a_set_and_a_network_of_this_one(
    recorded_once: Clone, tmp_path: Path
) -> None:
    theirs = Clone(tmp_path / "theirs")
    theirs.root.mkdir()
    theirs.git("init", "--quiet")
    theirs.must("init", "--quiet")
    for path in ("data/sets/digits", "data/models/clip-nano"):
        theirs.must("import", "--quiet", str(recorded_once.root), path)
    store.check(theirs.root / "digits")
    ours = (recorded_once.root / "data/models/clip-nano/weights.safetensors").read_bytes()
    assert (theirs.root / "clip-nano/weights.safetensors").read_bytes() == ours
