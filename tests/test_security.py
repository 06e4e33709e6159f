"""What comes in a file, a name or a variable is not run or unpacked, and stays in its folder."""

from __future__ import annotations

import ast
import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from carryover import run, snapshots
from carryover.bank_files import fault
from carryover.errors import ConfigError, KitError
from carryover.stages import run_stage
from conftest import PACKAGE, REPOSITORY, Checkout
from image_files import encoded, picture, pictures, write_folder, write_parquet
from test_cli import Cli, carryover, refused

__all__ = ["carryover"]  # the fixture

MARK = Path("was-run")
CLASSIFY = ("classify", "--encoder", "clip-nano")


class Evil:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {MARK.absolute()}",)


def evil_pickle() -> bytes:
    return pickle.dumps({"weight": Evil()})


def evil_zip() -> bytes:
    """As torch writes files, with a pickle of something else."""
    buffer = io.BytesIO()
    torch.save({"weight": Evil()}, buffer)
    return buffer.getvalue()


def evil_tar() -> bytes:
    """PyTorch's oldest format, an archive that is unpacked to be read."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("storages", "tensors", "pickle", "../was-run", str(MARK.absolute())):
            entry = tarfile.TarInfo(name)
            entry.size = len(evil_pickle())
            archive.addfile(entry, io.BytesIO(evil_pickle()))
        for name, kind in (("link", tarfile.SYMTYPE), ("device", tarfile.CHRTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc"
            archive.addfile(entry)
    return buffer.getvalue()


def climbing_zip() -> bytes:
    """An archive with members outside of it, and a link."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("../was-run", str(MARK.absolute()), "a/data.pkl", "a/../../was-run"):
            archive.writestr(name, evil_pickle())
        link = zipfile.ZipInfo("a/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    return buffer.getvalue()


EVIL = [evil_pickle, evil_zip, evil_tar, climbing_zip]
evil = pytest.mark.parametrize("make", EVIL, ids=lambda make: make.__name__)


def untouched() -> None:
    assert not MARK.exists()
    assert not Path("..", MARK).exists()


# --- what the code calls -------------------------------------------------------------------------

UNPICKLES = ("pickle.load", "pickle.loads", "joblib.load", "marshal.loads", "shelve.open")
UNPACKS = ("extractall", "unpack_archive", "tarfile.open")
RUNS = ("eval", "exec", "os.system", "os.popen", "yaml.load", "torch.hub.load", "torch.jit.load")


def calls() -> list[tuple[str, str, ast.Call]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                found.append((path.relative_to(PACKAGE).as_posix(), ast.unparse(node.func), node))
    assert len(found) > 5000
    return found


def test_nothing_is_unpickled_unpacked_or_run() -> None:
    names = {(path, name) for path, name, _ in calls()}
    wrong = {
        (path, name)
        for path, name in names
        if name in (*UNPICKLES, *RUNS) or name.split(".")[-1] in UNPACKS or name in UNPACKS
    }
    assert wrong == {
        ("models/archives.py", "torch.jit.load"),  # after its sha256 was that of OpenAI's
        ("presets.py", "yaml.load"),  # of ruamel's round trip, which makes no objects
    }


def test_torch_and_numpy_load_nothing_but_arrays_and_no_shell_is_called() -> None:
    loads = [(path, name, node) for path, name, node in calls() if name == "torch.load"]
    assert {path for path, _, _ in loads} == {"models/weights.py", "snapshots.py"}
    for _, _, node in loads:
        assert {k.arg: ast.unparse(k.value) for k in node.keywords}["weights_only"] == "True"
    for path, name, node in calls():
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert given.get("shell") in (None, "False"), path
        assert given.get("allow_pickle") in (None, "False"), path
        assert name not in ("np.load", "numpy.load"), path
        assert given.get("trust_remote_code") in (None, "False"), path


def test_every_reader_of_yaml_is_the_safe_one() -> None:
    kinds = {
        (path, ast.unparse(node)) for path, name, node in calls() if name.split(".")[-1] == "YAML"
    }
    assert {text for _, text in kinds} == {"YAML(typ='safe', pure=True)", "YAML()"}
    round_trip = {path for path, text in kinds if text == "YAML()"}  # which makes no objects
    assert round_trip == {"presets.py", "reference.py"}


# --- weights, shards, snapshots ------------------------------------------------------------------


@evil
@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.pth", "w.npz", "w.safetensors"])
def test_a_file_posing_as_weights_is_refused_unrun(
    carryover: Cli, embedded: Checkout, name: str, make: Callable[[], bytes]
) -> None:
    Path(name).write_bytes(make())
    embedded.edit(**{"encoders.evil": embedded.tree()["encoders"]["clip-nano"]})
    embedded.edit(**{"encoders.evil.source": "open-clip:ViT-B-32", "encoders.evil.weights": name})
    before = embedded.files()
    for command in (
        ("weights", "convert", name),
        ("weights", "convert", name, "--basis", "joint"),
        ("zeroshot", "clip-nano", "digits", "--weights", name),
        (*CLASSIFY, "params.yaml", "--dataset", "digits", "--weights", name),
    ):
        refused(carryover(*command), f"{name}: expected ")
        untouched()
    assert embedded.files() == before


@evil
def test_weights_of_an_encoder_posing_as_such_are_refused_by_embed(
    carryover: Cli, embedded: Checkout, make: Callable[[], bytes]
) -> None:
    Path("w.pt").write_bytes(make())
    entry = embedded.tree()["encoders"]["clip-nano"]
    changes = {"source": "cifar-resnet:20", "weights": "w.pt", "kinds": ["pooled"]}
    embedded.edit(**{"encoders.evil": entry | changes})
    refused(carryover("embed", "evil", "digits"), "w.pt: expected ")
    untouched()


@evil
def test_a_shard_posing_as_such_is_computed_again_unrun(
    embedded: Checkout, capsys: pytest.CaptureFixture[str], make: Callable[[], bytes]
) -> None:
    run_stage("embed", "clip-nano")
    shards = sorted(Path(".scratch/bank").rglob("*.safetensors"))
    before = {path: path.read_bytes() for path in shards}
    for path in shards:
        path.write_bytes(make())
        assert fault(path)
    run_stage("embed", "clip-nano")
    assert {path: path.read_bytes() for path in shards} == before
    assert "these embeddings are computed again" in capsys.readouterr().err
    untouched()


@evil
def test_a_snapshot_posing_as_such_is_not_opened(
    tiny: Checkout, capsys: pytest.CaptureFixture[str], make: Callable[[], bytes]
) -> None:
    import hashlib

    path = Path("a.pt")
    path.write_bytes(make())
    assert snapshots.read(path, torch.device("cpu")) is None
    assert "a.pt: expected the bytes that were written, got others" in capsys.readouterr().err
    path.write_bytes(make() + hashlib.sha256(make()).digest())  # by one who knows the format
    with pytest.raises((pickle.UnpicklingError, RuntimeError, IndexError, UserWarning)):
        snapshots.read(path, torch.device("cpu"))
    untouched()


@pytest.mark.parametrize("length", [0, 7, 2**31, 2**63])
def test_a_header_that_claims_any_length_is_refused(
    carryover: Cli, tiny: Checkout, length: int
) -> None:
    Path("w.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    refused(
        carryover("zeroshot", "open-clip:RN50", "digits", "--weights", "w.safetensors"),
        "w.safetensors: expected",
    )


# --- images --------------------------------------------------------------------------------------


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        found = kind + content
        return struct.pack(">I", len(content)) + found + struct.pack(">I", zlib.crc32(found))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = zlib.compress(bytes(10_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content)


BOMB = "expected an image of at most 67,108,864 pixels, got"


@pytest.mark.parametrize("size", [(50_000, 50_000), (9_000, 9_000), (2**31 - 1, 1)])
def test_an_image_that_claims_too_many_pixels_is_refused(
    carryover: Cli, embedded: Checkout, size: tuple[int, int]
) -> None:
    bomb = claiming(*size)
    files = {f"{name}/{i}.png": encoded(picture(i)) for name in "ab" for i in range(4)}
    write_folder(Path("pets"), files | {"a/bomb.png": bomb})
    write_parquet(Path("pets.parquet"), [*pictures(7), bomb], [0, 1] * 4)
    before = embedded.files()
    refused(carryover("data", "check", "folder:pets"), "a/bomb.png: ", BOMB)
    refused(carryover("data", "check", "parquet:pets.parquet"), "row 7", BOMB)
    refused(
        carryover("classify", "pets/a/bomb.png", "--encoder", "clip-nano", "--dataset", "digits"),
        "pets/a/bomb.png: ",
        BOMB,
    )
    assert embedded.files() == before


# --- names and places ----------------------------------------------------------------------------

CLIMBING = ["../x", "/etc", "a/b", "..", ".", "", "a b", "-x", "A", "x;touch", "$(touch x)", "x\n"]


@pytest.mark.parametrize("name", CLIMBING)
def test_the_name_of_a_set_cannot_leave_its_folder(
    carryover: Cli, embedded: Checkout, name: str
) -> None:
    before = embedded.files()
    for command in (
        ("data", "check", "--", name),
        ("data", "prepare", "--", name),
        ("embed", "--", "clip-nano", name),
        ("zeroshot", "--", "clip-nano", name),
    ):
        refused(carryover(*command), "expected a name of a-z, 0-9 and single dashes, got")
    refused(
        carryover("classify", "x.png", "--encoder", "clip-nano", f"--dataset={name}"), "expected"
    )
    assert embedded.files() == before


def test_a_link_out_of_a_folder_that_was_named_is_followed(carryover: Cli, tiny: Checkout) -> None:
    files = {f"{name}/{i}.png": encoded(picture(i)) for name in "ab" for i in range(4)}
    write_folder(Path("../elsewhere"), files)
    Path("pets").mkdir()
    for name in "ab":
        Path("pets", name).symlink_to(Path("../elsewhere", name).resolve())
    assert carryover("data", "check", "folder:pets")[0] == 0


def looping() -> None:
    Path("pets/a/again").symlink_to(Path("pets").resolve())


def pipe() -> None:
    os.mkfifo("pets/a/9.png")


def device() -> None:
    Path("pets/a/9.png").symlink_to("/dev/zero")


@pytest.mark.parametrize("spoil", [looping, pipe, device], ids=lambda spoil: spoil.__name__)
def test_what_has_no_end_is_refused(
    carryover: Cli, tiny: Checkout, spoil: Callable[[], None]
) -> None:
    files = {f"{name}/{i}.png": encoded(picture(i)) for name in "ab" for i in range(4)}
    write_folder(Path("pets"), files)
    spoil()
    refused(carryover("data", "check", "folder:pets"), "pets/a/", "take it out")


@pytest.mark.parametrize(
    "command",
    [
        ("weights", "convert", "/dev/zero", "--out", "x"),
        ("weights", "convert", "/dev/zero", "--out", "x", "--basis", "joint"),
        ("classify", "/dev/zero", "--encoder", "clip-nano", "--dataset", "digits"),
        ("classify", "params.yaml", "--encoder", "clip-nano", "--labels", "/dev/zero"),
        ("zeroshot", "clip-nano", "digits", "--weights", "/dev/zero"),
        ("data", "check", "parquet:/dev/zero"),
        ("data", "check", "folder:/dev/zero"),
    ],
    ids=" ".join,
)
def test_a_device_is_no_file(carryover: Cli, embedded: Checkout, command: tuple[str, ...]) -> None:
    refused(carryover(*command), "/dev/zero: expected ")


# --- parameters ----------------------------------------------------------------------------------

SHELL = ["a; touch was-run", "$(touch was-run)", "`touch was-run`", "a && b", "a|b", "../a", "A'"]
PIPELINE = YAML(typ="safe", pure=True).load((REPOSITORY / "dvc.yaml").read_text())["stages"]


def interpolated() -> set[str]:
    """What DVC puts into commands of the pipeline, by the parameters that it comes from."""
    found = set()
    for stage in PIPELINE.values():
        command = stage.get("do", stage)["cmd"]
        if "${" in command:
            found |= set(map(str, stage.get("matrix", {}).values())) or {str(stage["foreach"])}
    return found


def test_every_parameter_in_a_command_is_one_that_is_tried_here() -> None:
    assert interpolated() == {
        "${data.names}",
        "${pretrain}",
        "${encoders}",
        *(f"${{{study}.items}}" for study in ("adapt", "continual", "sequence", "retrieval")),
        "${cuts.settings}",
    }


@pytest.mark.parametrize("text", SHELL)
@pytest.mark.parametrize("place", sorted(interpolated()))
def test_a_name_that_a_shell_would_run_is_refused_before_dvc_sees_it(
    carryover: Cli, tiny: Checkout, place: str, text: str
) -> None:
    path = place.strip("${}")
    value = tiny.tree()
    for key in path.split("."):
        value = value[key]
    if isinstance(value, dict):
        tiny.edit(**{path: value | {text: next(iter(value.values()))}})
    else:
        tiny.edit(**{path: [*value, text]})
    for command in (["check"], ["reproduce"], ["run", "data", "--item", text], ["list"]):
        code, _, err = carryover(*command)
        assert code == 2
        assert f"params.yaml: {path}" in err
        assert "Traceback" not in err
    untouched()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch was-run']",
        "!!python/name:os.system",
        "!!js/function 'x'",
    ],
)
def test_a_tag_of_yaml_makes_no_object(carryover: Cli, tiny: Checkout, text: str) -> None:
    with tiny.params.open("a") as file:
        file.write(f"more: {text}\n")
    for command in (("check",), ("preset", "--check"), ("run", "data", "--item", "digits")):
        refused(carryover(*command), "params.yaml: expected YAML")
    untouched()


# --- variables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "2;touch", "1e3", " 2"])
def test_a_number_of_processes_that_is_none_is_refused(
    tiny: Checkout, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("CARRYOVER_WORKERS", text)
    with pytest.raises(ConfigError, match="CARRYOVER_WORKERS: expected a number of processes"):
        run.workers()


@pytest.mark.parametrize("text", ["x", "1", "3/2", "1/0", "-1/2", "0/1/2", "a/b", "1 /2", "²/3"])
def test_a_share_that_is_none_is_refused(
    carryover: Cli, pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("CARRYOVER_SHARE", text)
    refused(
        carryover("run", "cuts", "--item", "fr"), "CARRYOVER_SHARE: expected i/n with 0 <= i < n"
    )


@pytest.mark.parametrize("text", ["tpu", "cpu;touch was-run", "cuda:0"])
def test_a_device_that_is_none_is_refused(
    carryover: Cli, pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("CARRYOVER_DEVICE", text)
    refused(carryover("run", "cuts", "--item", "fr"), "--device: expected one of auto, cpu, cuda")
    untouched()


@pytest.mark.parametrize("place", ["params.yaml", "params.yaml/x", "/proc/nothing", "/dev/null/x"])
def test_a_scratch_folder_that_cannot_be_is_refused(
    carryover: Cli, pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("CARRYOVER_SCRATCH", place)
    refused(carryover("run", "cuts", "--item", "fr"), f"{place.split('/x')[0]}", "expected to")


@pytest.mark.parametrize("name", ["CARRYOVER_PROGRESS", "CARRYOVER_ERROR"])
def test_a_file_to_tell_that_cannot_be_written_stops_nothing(
    carryover: Cli, pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pretrained.edit(**{"cuts.max_updates": 1})
    monkeypatch.setenv(name, "/proc/nothing")
    assert carryover("run", "cuts", "--item", "baseline")[0] == 0
    with pytest.raises(KitError):
        run_stage("cuts", "none")
