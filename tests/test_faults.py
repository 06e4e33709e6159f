"""Kills, full disks, closed folders, two at once, odd places: what a run survives.

A run that was killed and run again must leave the bytes of one that nothing disturbed. Moments are
drawn from a seed; CARRYOVER_KILLS=3 kills every stage so often, and DVC (the long form).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from carryover import scratch
from carryover.scratch import alone
from carryover.stages import run_stage
from conftest import REPOSITORY, SRC, TINY, Checkout, make_checkout
from image_files import encoded, picture, write_folder
from test_launch import ADAPT, CLUSTERS, CONTINUAL, CUTS, RETRIEVAL, SEQUENCE

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KILLS = int(os.environ.get("CARRYOVER_KILLS", "0"))  # a stage, in the long form
long_form = pytest.mark.skipif(not KILLS, reason="minutes: CARRYOVER_KILLS=3 asks for them")
STAGES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "cuts": (["cuts", "fr"], CUTS | {"cuts.epochs": 100, "cuts.max_updates": 100}),
    "pretrain": (["pretrain", "clip-nano"], {"pretrain.clip-nano.epochs": 20}),
    "sequence": (["sequence", "plain"], SEQUENCE),
    "distill": (
        ["sequence", "distill"],
        SEQUENCE
        | {"sequence.items": ["distill"], "sequence.methods": {"distill": ["zscl", "icarl"]}}
        | {"sequence.updates": 20},
    ),
    "clusters": (["clusters", ""], CLUSTERS),
    "adapt": (["adapt", "probe"], ADAPT),
    "continual": (["continual", "frozen"], CONTINUAL),
    "retrieval": (["retrieval", "resnet18"], RETRIEVAL),
    "embed": (["embed", "clip-nano"], {}),
    "survival": (["survival", ""], CUTS | {"survival.origins": ["cuts"]}),
}
QUICK = ("cuts", "pretrain", "sequence")  # of every test run, two kills each


@dataclass
class Ended:
    """A command that came to its end, or was killed: minus the signal."""

    code: int
    out: str
    err: str

    def refused(self, *said: str) -> None:
        """Exit code 2 with one sentence that holds these parts, no traceback."""
        assert self.code == 2, (self.code, self.err)
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("carryover: ")]
        assert len(lines) == 1, self.err
        for part in said:
            assert part in lines[0], self.err


def hear_interrupts() -> None:
    """A shell in the background hands on that SIGINT is ignored, which Python leaves so."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Forks:
    """The process that runs commands: see ``forks.py``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outs: dict[int, Path] = {}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forks.py"))],
            env=os.environ | {"PYTHONPATH": str(SRC), "DVC_NO_ANALYTICS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=hear_interrupts,
        )
        assert self._answer() == "ready"

    def start(self, *arguments: str, folder: Path | None = None, **others: Any) -> int:
        out = self.folder / str(len(self.outs))
        job = {
            "arguments": arguments,
            "folder": str(folder or Path.cwd()),
            "out": str(out),
            "environment": {"CARRYOVER_QUIET": "1", "CARRYOVER_WORKERS": "2"},
            "fsize": None,
            "bound": False,
        }
        self._say(job | others)
        number = int(self._answer())
        self.outs[number] = out
        return number

    def wait(self, number: int) -> Ended:
        self._say({"wait": number})
        code, out = int(self._answer()), self.outs[number]
        return Ended(code, out.read_text(), out.with_name(f"{out.name}.err").read_text())

    def run(self, *arguments: str, **others: Any) -> Ended:
        return self.wait(self.start(*arguments, **others))

    def _say(self, job: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def _answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    found = Forks(tmp_path_factory.mktemp("said"))
    yield found
    found.process.kill()
    found.process.communicate()


def made() -> dict[str, bytes]:
    """Every result, by path; data that were there before do not change."""
    return {
        str(path): path.read_bytes()
        for folder in ("reports", "data")
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def afresh(stage: str, item: str) -> None:
    """Take away what a stage made, and all that it has kept."""
    made_by = {"pretrain": f"data/models/{item}", "embed": f"data/embeddings/{item}"}
    made_by["survival"] = "reports/survival"
    places = [".scratch", made_by.get(stage, "data/predictions")]
    places += [] if stage == "survival" else ["reports", "data/checkpoints"]  # others' models
    for place in places:
        shutil.rmtree(place, ignore_errors=True)


def left_running(group: int) -> list[str]:
    """Processes of a group that have not ended."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = place.read_text().rpartition(")")
        except OSError:
            continue
        state, _, of = rest.split()[:3]
        if int(of) == group and state != "Z":
            found.append(name)
    return found


def command(stage: str, item: str) -> list[str]:
    return ["run", stage, *(["--item", item] if item else [])]


def killed_and_run_again(forks: Forks, stage: str, item: str, count: int, seed: str) -> int:
    """Kill a stage `count` times at work, the next run going on each time; the kills tried."""
    afresh(stage, item)
    begun = time.monotonic()
    assert forks.run(*command(stage, item)).code == 0
    seconds, expected = time.monotonic() - begun, made()
    chosen, met, tried = random.Random(seed), 0, 0
    first = chosen.randrange(3)
    afresh(stage, item)
    while met < count:
        tried += 1
        assert tried <= 5 * count, f"{stage} ends before it can be killed"
        sign = SIGNALS[(met + first) % 3]
        number = forks.start(*command(stage, item))
        time.sleep(seconds * chosen.uniform(0.05, 0.9) / (1 + met % 3))
        os.kill(number, sign)
        ended = forks.wait(number)
        assert ended.code in (0, -sign, 130), ended.err
        assert "Traceback" not in ended.err
        until = time.monotonic() + 10
        while left_running(number):
            assert time.monotonic() < until, f"workers go on: {left_running(number)}"
            time.sleep(0.02)
        if ended.code:
            met += 1
        else:  # it was faster this time
            seconds *= 0.7
            afresh(stage, item)
    again = forks.run(*command(stage, item))
    assert again.code == 0, again.err
    assert made() == expected
    return tried


@pytest.mark.parametrize("stage", QUICK)
def test_a_killed_stage_leaves_the_bytes_of_an_undisturbed_one(
    embedded: Checkout, forks: Forks, stage: str
) -> None:
    (name, item), changes = STAGES[stage]
    embedded.edit(**changes)
    assert killed_and_run_again(forks, name, item, 2, stage) >= 2


@pytest.mark.slow
@long_form
@pytest.mark.parametrize("stage", list(STAGES))
def test_every_stage_killed_again_and_again_leaves_the_same_bytes(
    embedded: Checkout, forks: Forks, stage: str
) -> None:
    (name, item), changes = STAGES[stage]
    embedded.edit(**changes)
    if name == "survival":  # of these models
        run_stage("cuts", "fr")
    tried = killed_and_run_again(forks, name, item, KILLS, f"slow/{stage}")
    print(f"{stage}: {KILLS} of {tried} kills met it at work; the bytes are the same")
    assert tried >= KILLS


def test_a_kill_while_finished_cells_are_forgotten_loses_nothing(
    embedded: Checkout, forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name, item), changes = STAGES["sequence"]
    embedded.edit(**changes)
    assert forks.run(*command(name, item)).code == 0
    expected = made()
    afresh(name, item)

    delete = shutil.rmtree

    def half(folder: Path, ignore_errors: bool = False) -> None:
        if ".scratch" not in folder.resolve().parts:
            return delete(folder, ignore_errors=ignore_errors)
        state = sorted(folder.glob("*.pt"))
        assert state
        state[0].unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scratch.shutil, "rmtree", half)
        with pytest.raises(KeyboardInterrupt):
            run_stage(name, item)
    again = forks.run(*command(name, item))
    assert again.code == 0, again.err
    assert made() == expected


@pytest.mark.slow
@long_form
def test_dvc_killed_while_it_runs_stages_ends_with_the_same_lock(tiny: Checkout) -> None:
    from ruamel.yaml import YAML

    def stages() -> dict[str, Any]:
        found: dict[str, Any] = YAML(typ="safe", pure=True).load(Path("dvc.lock").read_text())
        return found["stages"]

    def repro() -> list[str]:
        return [sys.executable, "-m", "dvc", "repro", "cuts@fr", "data@letters"]

    tiny.commit()
    environment = tiny.environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    begun = time.monotonic()
    subprocess.run(repro(), env=environment, check=True, capture_output=True, timeout=900)
    seconds, expected, files = time.monotonic() - begun, stages(), made()
    chosen = random.Random("dvc")
    met, tried = 0, 0
    while met < len(SIGNALS):
        sign, tried = SIGNALS[met], tried + 1
        assert tried <= 5 * len(SIGNALS), "DVC ends before it can be killed"
        for place in ("data", "reports", ".dvc/cache", ".dvc/tmp", ".scratch"):
            shutil.rmtree(place, ignore_errors=True)
        Path("dvc.lock").unlink(missing_ok=True)
        with subprocess.Popen(
            repro(),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=hear_interrupts,
        ) as process:
            time.sleep(seconds * chosen.uniform(0.2, 0.9))
            if sign == signal.SIGINT:  # Ctrl-C reaches the stage too, and DVC alone ignores it
                os.killpg(process.pid, sign)
            else:
                process.send_signal(sign)
        if process.returncode == 0:  # it was faster this time
            seconds *= 0.7
            continue
        met += 1
        until = time.monotonic() + 900
        while True:  # a stage that a killed DVC started goes on, and is waited for
            again = subprocess.run(
                repro(), env=environment, check=False, capture_output=True, text=True, timeout=900
            )
            if again.returncode == 0:
                break
            assert "Traceback" not in again.stderr + again.stdout
            assert time.monotonic() < until, again.stderr
            time.sleep(1)
        assert stages() == expected
        assert made() == files
    print(f"dvc: {met} of {tried} kills met it at work; the lock and the files are the same")


# --- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 100, 5000])
@pytest.mark.parametrize("stage", ["cuts", "pretrain", "embed", "data"])
def test_a_disk_that_is_full_is_told_and_the_next_run_goes_on(
    embedded: Checkout, forks: Forks, stage: str, size: int
) -> None:
    (name, item), changes = STAGES.get(stage, (["data", "digits"], {}))
    embedded.edit(**changes | {"cuts.max_updates": 5, "pretrain.clip-nano.epochs": 1})
    before = made()
    full = forks.run(*command(name, item), fsize=size)
    full.refused("expected to", "File too large", "then run again")
    assert "free space or mend" in full.err or "permissions or the space," in full.err
    assert made() == before
    again = forks.run(*command(name, item))
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("preset", "lab"),
        ("data", "prepare", "letters"),
        ("embed", "clip-nano", "digits"),
        ("claims", "accept"),
        ("report", "--only", "cuts"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_full_disk_is_told_by_the_other_commands(
    embedded: Checkout, forks: Forks, arguments: tuple[str, ...]
) -> None:
    shutil.copytree(REPOSITORY / "claims", "claims")
    before = embedded.files()
    forks.run(*arguments, fsize=0).refused("expected ")
    assert embedded.files() == before


# --- two at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["cuts", "pretrain", "embed", "data"])
def test_the_second_of_two_is_refused_and_the_first_is_not_disturbed(
    embedded: Checkout, forks: Forks, stage: str
) -> None:
    (name, item), changes = STAGES.get(stage, (["data", "digits"], {}))
    embedded.edit(**changes)
    with alone(f"{name}@{item}.lock", "test"):
        forks.run(*command(name, item)).refused(
            "expected to be the only", f"process {os.getpid()} is running; wait for it or stop it"
        )
    if stage == "cuts":
        first = forks.start(*command(name, item))
        lock = Path(".scratch/cuts@fr.lock")
        until = time.monotonic() + 30
        while not lock.exists() or lock.read_text() != str(first):
            assert time.monotonic() < until
            time.sleep(0.01)
        forks.run(*command(name, item)).refused(f"process {first} is running")
        assert forks.wait(first).code == 0
        assert Path("reports/cuts/runs/fr/rows.jsonl").exists()


# --- odd places -----------------------------------------------------------------------------------


def test_a_path_with_blanks_and_letters_of_any_language_is_one_like_others(
    embedded_once: Path, tmp_path: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for name in ("plain", "Größe & 'Maß' $(touch x) 数据; é"):
        found = make_checkout(tmp_path / name / "checkout", TINY)
        shutil.copytree(embedded_once, found.root / "data")
        monkeypatch.chdir(found.root)
        found.edit(**CUTS)
        ended = forks.run("run", "cuts", "--item", "fr")
        assert ended.code == 0, ended.err
        rows.append(Path("reports/cuts/runs/fr/rows.jsonl").read_bytes())
        assert not list(tmp_path.rglob("x"))
    assert rows[0] == rows[1]


def test_in_the_c_locale_names_of_any_language_are_read_and_written(tiny: Checkout) -> None:
    files = {f"{name}/{i}.png": encoded(picture(i)) for name in ("Bär", "猫") for i in range(4)}
    write_folder(Path("Tiere ö"), files)
    tiny.edit(**{"data.names": ["digits", "letters", "world", "tiere"]})
    tiny.edit(**{"data.sources": {"tiere": "folder:Tiere ö"}})
    done = tiny.run("data", "prepare", "tiere", LC_ALL="C", LANG="C")
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(Path("data/sets/tiere/manifest.json").read_text(encoding="utf-8"))
    assert facts["class_names"] == ["Bär", "猫"]


@pytest.fixture
def closed(embedded_once: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    """A checkout that its user can read and not write."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        found = make_checkout(Path(place) / "checkout", TINY)
        shutil.copytree(embedded_once, found.root / "data")
        shutil.copytree(REPOSITORY / "claims", found.root / "claims")
        places = [found.root, *(p for p in found.root.rglob("*") if not p.is_symlink())]
        for each in places:
            each.chmod(0o555 if each.is_dir() else 0o444)
        monkeypatch.chdir(found.root)
        yield found
        for each in places:
            each.chmod(0o755)


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        (("check",), {0}),
        (("list",), {0}),
        (("data", "list"), {0}),
        (("doctor",), {1}),
        (("run", "cuts", "--item", "fr"), {2}),
        (("run", "data", "--item", "digits"), {2}),
        (("run", "pretrain", "--item", "clip-nano"), {2}),
        (("run", "embed", "--item", "clip-nano"), {2}),
        (("reproduce",), {2}),
        (("report",), {2}),
        (("preset", "lab"), {2}),
        (("claims", "accept"), {2}),
        (("data", "prepare", "letters"), {2}),
        (("embed", "clip-nano", "digits"), {2}),
        (("launch", "cuts"), {2}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_in_a_closed_checkout_a_command_works_or_says_why_not(
    closed: Checkout, forks: Forks, arguments: tuple[str, ...], codes: set[int]
) -> None:
    before = closed.files()
    ended = forks.run(*arguments, bound=True)
    assert ended.code in codes, ended.err
    if ended.code == 2:  # without rows the page has nothing to write
        ended.refused("expected rows" if arguments == ("report",) else "Permission denied")
    assert "Traceback" not in ended.err
    assert closed.files() == before
