"""The container's parts, checked without an engine; slow tests run a built image."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import SRC, TINY, make_checkout
from image_files import pictures, write_parquet

REPOSITORY = Path(__file__).parents[1]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
ENTRYPOINT = REPOSITORY / "docker" / "entrypoint"
WHOLE = ("src", "presets", "claims", "reports", "results", "requirements", "docker")
SINGLE = {
    *("dvc.yaml", "dvc.lock", "params.yaml", "pyproject.toml", "requirements.lock"),
    *(".dvc/config", ".dvc/plots.html", ".dvc/.gitignore", ".dvcignore", ".gitignore"),
    *("LICENSE", "README.md", "CITATION.cff", "Dockerfile"),
}

# --- the build context ----------------------------------------------------------------------------


def rules() -> list[tuple[bool, re.Pattern[str]]]:
    """Lines of .dockerignore as (lets through, pattern); a pattern also means all below it."""
    found = []
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = re.escape(line.removeprefix("!"))
            pattern = pattern.replace(r"\*\*/", "(.*/)?").replace(r"\*\*", ".*")
            pattern = pattern.replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
            pattern = re.sub(r"\\\[(\w+)\\\]", r"[\1]", pattern)
            found.append((line.startswith("!"), re.compile(f"{pattern}(/.*)?")))
    return found


def enters(path: str) -> bool:
    """Whether a file is sent to the engine: the last line that matches decides."""
    return [lets for lets, pattern in rules() if pattern.fullmatch(path)][-1]


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("this is no git checkout, so nothing says which files belong to it")
    return [name for name in done.stdout.split("\0") if name]


def test_context_holds_every_tracked_file_that_the_image_needs() -> None:
    needed = [n for n in tracked() if n.split("/")[0] in WHOLE or n in SINGLE]
    assert len(needed) > 50
    assert [name for name in needed if not enters(name)] == []


@pytest.mark.parametrize(
    "path",
    [
        ".venv/bin/python",
        ".git/config",
        ".dvc/cache/files/md5/00/1122",
        ".dvc/tmp/rwlock",
        ".dvc/config.local",
        ".scratch/reproduced",
        ".env",
        "data/sets/digits/manifest.json",
        "data/models/cnn6-digits-0-4/weights.safetensors",
        "out/reports/index.html",
        "tests/test_container.py",
        "anything-else",
        "src/carryover/__pycache__/run.cpython-311.pyc",
        "src/carryover.egg-info/PKG-INFO",
        "params.yaml~",
    ],
)
def test_context_holds_nothing_else(path: str) -> None:
    assert not enters(path)


def test_every_bound_file_is_in_the_context() -> None:
    sources = re.findall(r"type=bind,source=([^,]+),", DOCKERFILE)
    assert "requirements.lock" in sources
    assert [s for s in sources if not (enters(s) and (REPOSITORY / s).exists())] == []


# --- the Dockerfile -------------------------------------------------------------------------------


def test_base_image_can_be_chosen_and_has_the_cuda_of_the_wheels() -> None:
    first = next(line for line in DOCKERFILE.splitlines() if line and not line.startswith("#"))
    assert re.fullmatch(r"ARG BASE_IMAGE=nvidia/cuda:13\.0\.\d+-base-ubuntu24\.04", first)
    assert "FROM ${BASE_IMAGE} AS os" in DOCKERFILE


def test_no_front_end_is_pulled() -> None:
    assert not re.search(r"^# *syntax *=", DOCKERFILE, re.MULTILINE)


def test_packages_come_from_the_locks_by_hash_alone() -> None:
    commands = DOCKERFILE.replace("\\\n", " ")
    installs = re.findall(r"(?:pip install|pip sync)[^&\n]*", commands)
    assert len(installs) == 2
    assert all("--require-hashes" in command for command in installs)
    assert re.search(
        r"pip sync .*--build-constraints \S+build\.lock +\S+requirements\.lock", commands
    )


def test_image_runs_without_root_and_by_number() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["1000:1000"]


# --- the entrypoint -------------------------------------------------------------------------------

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="the entrypoint uses GNU tools and mountpoint, as in the image"
)


def test_entrypoint_is_executable_bash() -> None:
    assert os.access(ENTRYPOINT, os.X_OK)
    assert ENTRYPOINT.read_text().startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n", str(ENTRYPOINT)], check=True)


@dataclass
class Box:
    """What stands in for a container: its three folders and its environment."""

    app: Path
    work: Path
    out: Path
    environment: dict[str, str]

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """The entrypoint as head of its own process group, as under ``tini -g``."""
        return subprocess.Popen(
            [str(ENTRYPOINT), *command],
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # a shell in the background hands on that SIGINT is ignored, which no trap undoes
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *command: str, **variables: str) -> tuple[int, str, str]:
        """Exit code, output and messages of a command."""
        with self.start(*command, **variables) as process:
            output, messages = process.communicate(timeout=60)
        return process.returncode, output, messages


@pytest.fixture
def box(tmp_path: Path) -> Box:
    app, out = tmp_path / "app", tmp_path / "out"
    for name, text in {
        "dvc.yaml": "stages: {}\n",
        "dvc.lock": "schema: '2.0'\n",
        "params.yaml": "seed: 0\n",
        "reports/index.html": "committed\n",
        "src/part.py": "VALUE = 1\n",
    }.items():
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(text)
    out.mkdir()
    home = tmp_path / "home"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "USER": "nobody"}
    folders = {"APP": str(app), "WORK": str(home / "work"), "OUT": str(out)}
    return Box(app, home / "work", out, environment | folders)


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@on_linux
def test_command_runs_in_a_committed_copy_of_the_checkout(box: Box) -> None:
    before = files(box.app)
    code, output, _ = box.run(
        "bash", "-c", "pwd; echo $PYTHONPATH; git status --porcelain; git rev-list --count HEAD"
    )
    assert code == 0
    assert output.splitlines() == [str(box.work), str(box.work / "src"), "1"]
    assert files(box.app) == before


@on_linux
def test_code_of_the_command_is_kept_and_results_copied_after_a_failure(box: Box) -> None:
    code, _, _ = box.run("bash", "-c", "echo new > reports/index.html; exit 7")
    assert code == 7
    assert files(box.out) == {
        "reports/index.html": "new\n",
        "dvc.lock": "schema: '2.0'\n",
        "params.yaml": "seed: 0\n",
    }


@on_linux
def test_results_that_lie_there_already_are_kept_when_they_differ(box: Box) -> None:
    box.run("true")
    box.run("true")
    assert sorted(path.name for path in box.out.iterdir()) == ["dvc.lock", "params.yaml", "reports"]
    box.run("bash", "-c", "echo new > reports/index.html")
    assert (box.out / "reports" / "index.html").read_text() == "new\n"
    assert (box.out / "reports.~1~" / "index.html").read_text() == "committed\n"


@on_linux
def test_nothing_runs_when_the_mounted_folder_cannot_take_results(box: Box) -> None:
    code, _, messages = box.run("true", OUT="/proc")  # mounted, and closed even to root
    assert code == 2
    assert "expected /proc to be writable" in messages
    assert "--user" in messages
    assert not box.work.exists()


def scripted(folder: Path, name: str, text: str) -> str:
    """A PATH on which a command is this script."""
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@on_linux
def test_mounted_folder_that_takes_no_result_at_the_end_is_told(box: Box, tmp_path: Path) -> None:
    path = scripted(tmp_path / "bin", "mountpoint", "exit 0")
    spoil = f"rmdir {box.out} && ln -s /proc {box.out}"  # as where it became full
    code, _, messages = box.run("bash", "-c", spoil, PATH=path)
    assert code == 1
    assert f"expected {box.out} to take the results still" in messages


@on_linux
def test_stop_while_the_checkout_is_copied_is_no_full_disk(box: Box, tmp_path: Path) -> None:
    started = tmp_path / "started"
    path = scripted(tmp_path / "bin", "cp", f"touch {started}; exec sleep 20")
    with box.start("true", PATH=path) as process:
        deadline = time.monotonic() + 30
        while not started.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGTERM)
        _, messages = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "free some space" not in messages


@on_linux
def test_folder_that_is_not_mounted_is_told(box: Box) -> None:
    _, _, messages = box.run("dvc", "repro", "--help")
    assert f"no folder is mounted at {box.out}" in messages
    assert box.run("true")[2] == ""


@on_linux
def test_working_copy_that_cannot_be_made_is_told(box: Box) -> None:
    code, _, messages = box.run("true", WORK="/proc/work")
    assert code == 2
    assert "expected /proc/work to be writable" in messages


@on_linux
def test_what_is_no_command_is_one_of_carryover(box: Box, tmp_path: Path) -> None:
    path = scripted(tmp_path / "bin", "carryover", 'echo carryover "$@"')
    code, output, messages = box.run("reproduce", "--preset", "lab", PATH=path)
    assert (code, output) == (0, "carryover reproduce --preset lab\n")
    assert "no folder is mounted" in messages
    assert box.run("echo", "reproduce", PATH=path)[1] == "reproduce\n"


@on_linux
def test_no_command_is_told(box: Box) -> None:
    code, _, messages = box.run()
    assert code == 2
    assert "expected a command" in messages


@on_linux
def test_working_copy_is_used_again_and_other_code_in_it_told(box: Box) -> None:
    box.run("bash", "-c", "echo kept > mine")
    (box.app / "src" / "part.py").write_text("VALUE = 2\n")
    code, output, messages = box.run("cat", "mine", "src/part.py")
    assert (code, output) == (0, "kept\nVALUE = 1\n")
    assert "holds other code than this image" in messages


@on_linux
def test_lock_of_a_killed_dvc_goes_and_that_of_another_container_stays(box: Box) -> None:
    assert box.run("true")[0] == 0
    rwlock = box.work / ".dvc/tmp/rwlock"
    rwlock.write_text("{}")
    with box.start("sleep", "20") as at_work:
        for _ in range(100):  # until it has made its way to the command
            if not rwlock.exists():
                break
            time.sleep(0.1)
        assert not rwlock.exists()
        rwlock.write_text("{}")
        code, _, messages = box.run("true")
        assert (code, "another container seems to be at work" in messages) == (0, True)
        assert rwlock.exists()
        os.killpg(at_work.pid, signal.SIGKILL)
    assert box.run("true")[0] == 0
    assert not rwlock.exists()


@on_linux
def test_copy_that_was_cut_short_is_made_again(box: Box) -> None:
    box.work.mkdir(parents=True)
    for name in ("dvc.yaml", ".copying"):
        (box.work / name).touch()
    code, output, _ = box.run("cat", "dvc.yaml", "src/part.py")
    assert (code, output) == (0, "stages: {}\nVALUE = 1\n")
    assert not (box.work / ".copying").exists()


STOPPABLE = """
trap 'sleep 0.2; echo stopped > reports/index.html; exit $((128 + number))' $name
touch started
while :; do sleep 0.05; done
"""


@on_linux
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_the_command_end_then_copies_results(box: Box, sign: signal.Signals) -> None:
    variables = {"name": sign.name, "number": str(int(sign))}
    with box.start("bash", "-c", STOPPABLE, **variables) as process:
        deadline = time.monotonic() + 30
        while not (box.work / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, sign)
        try:
            process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + sign
    assert (box.out / "reports" / "index.html").read_text() == "stopped\n"


# --- a built image --------------------------------------------------------------------------------

IMAGE = os.environ.get("CARRYOVER_IMAGE", "")
USER = 4321  # has no entry in the image's list of users
CLOSED = ("--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
READ_ONLY = ("--read-only", "--tmpfs", "/tmp:exec")
LEFT = ("*.whl", "ensurepip")  # by what pip would come back
SECRETS = (".netrc", "pip.conf", "id_rsa*", "id_ed25519*", ".git-credentials", "*.key", ".env")
SECRETS += ("credentials",)
TOOLS = ("uv", "pip", "gcc", "cc", "g++", "make", "cmake", "ld", "curl", "wget", "ssh")


@dataclass(frozen=True)
class Engine:
    """A container engine that holds the built image; `place` is a folder that it can mount."""

    place: Path

    def run(
        self, *command: str, options: tuple[str, ...] = (), user: int = USER
    ) -> subprocess.CompletedProcess[str]:
        """A command in a container without network, capabilities and a writable root."""
        return docker("run", "--rm", *self.options(options, user), IMAGE, *command)

    def options(self, more: tuple[str, ...], user: int) -> tuple[str, ...]:
        return (*CLOSED, *READ_ONLY, "--user", f"{user}:{user}", *more)

    def folder(self, name: str, owner: int, mode: int = 0o755) -> Path:
        made = self.place / name
        made.mkdir()
        made.chmod(mode)
        if os.getuid() == 0:
            os.chown(made, owner, owner)
        elif owner != os.getuid():
            pytest.skip("only root can make a folder of another user's")
        return made


@pytest.fixture
def engine() -> Iterator[Engine]:
    if not IMAGE:
        pytest.skip("CARRYOVER_IMAGE names no image; `make image`, then CARRYOVER_IMAGE=carryover")
    if not shutil.which("docker") or docker("version").returncode:
        pytest.skip("no docker engine answers")
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Engine(Path(place))


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=1800, check=False
    )


@pytest.mark.slow
def test_image_works_for_any_user_on_a_read_only_root_without_network(engine: Engine) -> None:
    script = "id -u; python -m carryover --version; carryover check && dvc metrics show && "
    script += "git status --porcelain && carryover diff HEAD"
    done = engine.run("bash", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{USER}\n")
    assert "reports/cuts/summary.json" in done.stdout


@pytest.mark.slow
def test_image_says_what_it_is_of(engine: Engine) -> None:
    labels = json.loads(docker("inspect", IMAGE, "--format", "{{json .Config.Labels}}").stdout)
    named = {key.removeprefix("org.opencontainers.image."): text for key, text in labels.items()}
    assert named["licenses"] == "MIT"
    assert re.fullmatch(r"[0-9a-f]{40}", named["revision"]), "build with REVISION (make image)"
    assert named["version"]
    assert named["base.name"]
    assert docker("inspect", IMAGE, "--format", "{{.Config.User}}").stdout.strip() == "1000:1000"


@pytest.mark.slow
def test_image_holds_the_packages_of_the_lock_and_lists_them(engine: Engine) -> None:
    done = engine.run("cat", "/opt/packages.txt")
    pins = re.findall(
        r"^([a-z0-9_.-]+==[^\s\\;]+)", (REPOSITORY / "requirements.lock").read_text(), re.M
    )
    assert len(pins) > 150
    listed = done.stdout.split()
    assert [package for package in listed if package not in pins] == []
    script = "import importlib.metadata as m; [print(f'{d.name}=={d.version}'.lower()"
    script += ".replace('_', '-').replace('.', '-')) for d in m.distributions()]"
    found = engine.run("python", "-c", script).stdout.split()
    assert sorted(set(found)) == sorted(
        p.lower().replace("_", "-").replace(".", "-") for p in listed
    )
    system = engine.run("cat", "/opt/packages-system.txt").stdout
    assert re.search(r"^git=", system, re.MULTILINE)
    assert re.search(r"^tini=", system, re.MULTILINE)


@pytest.mark.slow
def test_image_keeps_no_build_tool_cache_or_secret(engine: Engine) -> None:
    tools = f"for tool in {' '.join(TOOLS)}; do command -v $tool; done; true"
    assert engine.run("bash", "-c", tools).stdout == ""
    left = (
        "find /var/lib/apt/lists /var/cache/apt /var/cache/uv /opt/uv /root/.cache /home/*/.cache "
    )
    left += "/tmp /var/tmp /app/.git /app/.dvc/cache /app/data -mindepth 1 2>/dev/null; true"
    inside = ("--entrypoint", "bash", "--read-only", *CLOSED, "--user", "0:0")
    assert docker("run", "--rm", *inside, IMAGE, "-c", left).stdout == ""
    names = " -o ".join(f"-name '{name}'" for name in (*SECRETS, *LEFT))
    secrets = f"find / -xdev '(' {names} ')'"
    found = docker("run", "--rm", *inside, IMAGE, "-c", f"{secrets} 2>/dev/null; true").stdout
    assert found == ""
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE).stdout
    assert not re.search(r"token|password|secret|://[^ ]*@|_proxy=", history, re.IGNORECASE)
    environment = docker("inspect", IMAGE, "--format", "{{json .Config.Env}}").stdout
    assert not re.search(r"KEY|TOKEN|SECRET|PASSWORD|PROXY", environment, re.IGNORECASE)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["/out", "/work"])
def test_image_refuses_a_folder_of_another_user_before_it_works(engine: Engine, place: str) -> None:
    folder = engine.folder("theirs", owner=USER + 1)
    options = ("-v", f"{folder}:{place}", "-e", "WORK=/work" if place == "/work" else "X=")
    began = time.monotonic()
    done = engine.run("carryover", "reproduce", options=options)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if "expected" in line]
    assert len(said) == 1
    assert f"expected {place} to be writable for user {USER}:{USER}, it is not" in said[0]
    assert "--user" in said[0]
    assert list(folder.iterdir()) == []
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_image_refuses_what_another_user_left_in_a_volume(engine: Engine) -> None:
    folder = engine.folder("shared", owner=USER, mode=0o1777)
    options = ("-v", f"{folder}:/work", "-e", "WORK=/work")
    assert engine.run("true", options=options).returncode == 0
    done = engine.run("true", options=options, user=USER + 1)
    assert done.returncode == 2
    assert "expected /work/.dvc to be writable" in done.stderr


@pytest.mark.slow
def test_image_works_in_a_checkout_that_is_mounted(engine: Engine) -> None:
    folder = engine.folder("checkout", owner=USER)
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(clone)], check=True)
    (clone / "src/carryover/mine.py").write_text("SAID = 'of the checkout'\n")
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(clone)], check=True)
    options = ("-v", f"{clone}:/work", "-e", "WORK=/work")
    script = "from carryover import mine; print(mine.SAID)"
    done = engine.run("python", "-c", script, options=options)
    assert done.stdout == "of the checkout\n", done.stderr
    assert "/work holds other code than this image" in done.stderr
    done = engine.run("bash", "-c", "carryover check && git log --oneline", options=options)
    assert done.returncode == 0, done.stderr
    head = ["git", "-c", "safe.directory=*", "log", "--oneline"]
    log = subprocess.run(head, cwd=clone, capture_output=True, text=True, check=True).stdout
    assert done.stdout.endswith(log)  # its own history, no commit of the image's


@pytest.mark.slow
def test_image_stops_in_seconds_and_goes_on_where_it_stopped(engine: Engine) -> None:
    work, out = engine.folder("work", owner=USER), engine.folder("out", owner=USER)
    options = ("-v", f"{work}:/work", "-e", "WORK=/work", "-v", f"{out}:/out")
    name = f"carryover-test-{os.getpid()}"
    command = ["docker", "run", "--rm", "--name", name, *engine.options(options, USER), IMAGE]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("stage 2 of"):
                break
        began = time.monotonic()
        docker("stop", "--time", "60", name)
        process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 143
    assert (out / "reports" / "index.html").exists()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = [process.stderr.readline()]
        while not said[-1].startswith("stage 2 of"):
            assert said[-1], said
            said.append(process.stderr.readline())
        docker("stop", "--time", "60", name)
        process.communicate(timeout=60)
    assert any("going on with a run that was stopped: 39 stages are left" in line for line in said)
    assert said[-1].split()[-1] != "data@digits"


@pytest.mark.slow
def test_image_runs_an_experiment_and_compares_its_metrics(engine: Engine) -> None:
    found = make_checkout(engine.folder("tiny", owner=USER) / "checkout", TINY)
    (found.root / "src").unlink()
    shutil.copytree(SRC, found.root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / ".dvc" / ".gitignore", found.root / ".dvc" / ".gitignore")
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(found.root)], check=True)
    options = ("-v", f"{found.root}:/work", "-e", "WORK=/work")
    script = "dvc repro -q cuts-report && git add -A && git commit -qm made && "
    script += "dvc exp run -q cuts-report -S cuts.lr=0.2 && dvc metrics diff --json"
    done = engine.run("bash", "-c", script, options=options)
    assert done.returncode == 0, done.stdout + done.stderr
    changes = json.loads(done.stdout)
    assert any(value["diff"] for value in changes["reports/cuts/summary.json"].values())


@pytest.mark.slow
def test_image_reads_real_sets_from_a_volume(engine: Engine) -> None:
    data = engine.folder("data", owner=0)
    write_parquet(data / "mnist.parquet", pictures(4), [0, 1, 0, 1])
    options = (
        "-v",
        f"{data}:/data:ro",
    )
    done = engine.run("reproduce", "--preset", "lab", "--data", "/data", options=options)
    assert done.returncode == 2  # these are not MNIST's 70,000 images
    assert "params.yaml now holds preset lab with data.root /data" in done.stderr
    assert re.search(r"carryover: .*expected ", done.stderr)
    assert "Traceback" not in done.stderr
