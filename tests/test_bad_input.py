"""Bad input over the whole command line: one sentence, exit code 2, nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from carryover.launch_slurm import Request
from conftest import ABSENT, REPOSITORY, TINY, Checkout, make_checkout
from image_files import encoded, picture, pictures, write_folder, write_parquet
from test_cli import Cli, carryover, refused

__all__ = ["carryover"]  # the fixture

CLASSIFY = ("classify", "a.png", "--encoder", "clip-nano")


@pytest.fixture(scope="module")
def place_once(tmp_path_factory: pytest.TempPathFactory, embedded_once: Path) -> Checkout:
    """A checkout with data and a small CLIP, and files to name."""
    found = make_checkout(tmp_path_factory.mktemp("place") / "checkout", TINY)
    shutil.copytree(embedded_once, found.root / "data")
    shutil.copytree(REPOSITORY / "claims", found.root / "claims")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.root)
        Path("a.png").write_bytes(encoded(picture(0)))
        Path("text.txt").write_text("two\nlines\n")
        Path("one.txt").write_text("one\n")
        Path("control.txt").write_bytes(b"a\x00b\nc\n")
        Path("latin.txt").write_bytes("Bär\nWür\n".encode("latin-1"))
        Path("empty").mkdir()
        Path("short.png").write_bytes(encoded(picture(0))[:30])
        Path("nul.pt").write_bytes(b"")
        torch.save({"x": 1}, "plain.pt")
        torch.save({"x": torch.zeros(2)}, "other.pt")
    return found


@pytest.fixture
def place(tiny: Checkout, place_once: Checkout, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """The same one for every test: nothing that is refused writes."""
    monkeypatch.chdir(place_once.root)
    return place_once


COMMANDS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    # options and names of commands
    (("no-such",), ("No such command", "'no-such'", "`carryover --help` lists what it takes")),
    (("--no-such", "list"), ("No such option", "--no-such", "`carryover --help`")),
    (("launch", "cuts", "--shards", "x"), ("--shards", "'x'", "`carryover launch --help`")),
    (("launch", "cuts", "--shards", "-1"), ("--shards", "-1", "`carryover launch --help`")),
    (("launch", "cuts", "--time", "0"), ("--time", "0", "`carryover launch --help`")),
    (("launch",), ("Missing argument", "study", "`carryover launch --help`")),
    (("data", "no-such"), ("No such command", "`carryover data --help`")),
    (("data", "prepare"), ("Missing argument", "names", "`carryover data prepare --help`")),
    (("list", "extra"), ("unexpected extra argument", "extra", "`carryover list --help`")),
    (("diff", "--abs", "x"), ("--abs", "'x'", "`carryover diff --help`")),
    (("--device", "tpu", "list"), ("--device: expected one of auto, cpu, cuda, got 'tpu'",)),
    (("doctor", "--fix"), ("expected --fix with --verify, got it alone; add --verify",)),
    (("diff", "--json", "--markdown"), ("expected --json or --markdown, got both; leave one out",)),
    # stages and studies
    (("run", "no-such"), ("carryover run: expected one of data, pretrain,", "got 'no-such'")),
    (("run", "cuts"), ("carryover run cuts --item: expected one of fr, ft, baseline, got ''",)),
    (("run", "data", "--item", "x"), ("--item: expected one of digits, letters, world, got 'x'",)),
    (("run", "cuts", "--item", "FR"), ("--item: expected one of fr, ft, baseline, got 'FR'",)),
    (("reproduce", "cut"), ("reproduce: expected a study of cuts,", "got 'cut'")),
    (("report", "--only", "cut"), ("--only: expected one of cuts,", "got 'cut'")),
    (("launch", "digits"), ("launch: expected one of cuts,", "got 'digits'")),
    (("launch", "cuts", "--on", "moon"), ("--on: expected one of local, slurm, got 'moon'",)),
    (("launch", "cuts", "--shard", "2/2"), ("--shard: expected i/n with 0 <= i < n", "'2/2'")),
    (
        ("launch", "cuts", "--on", "slurm", "--sbatch", "account", "--dry-run"),
        ("--sbatch: expected NAME=VALUE, such as qos=long, got 'account'",),
    ),
    (
        ("launch", "cuts", "--on", "slurm", "--sbatch", "account=", "--dry-run"),
        ("--sbatch: expected NAME=VALUE, such as qos=long, got 'account='",),
    ),
    (
        ("launch", "cuts", "--partition", "gpu", "--dry-run"),
        ("expected --partition, --cpus, --gpus and --at-once with --on slurm alone", "or add"),
    ),
    (
        ("launch", "cuts", "--sbatch", "a=b", "--dry-run"),
        ("expected --sbatch with --on slurm alone, got it with --on local; leave it out",),
    ),
    (("launch", "cuts", "--rows", "--shards", "2"), ("expected --rows alone",)),
    (("launch", "cuts", "--rows", "--dry-run"), ("expected --rows alone",)),
    (("launch", "cuts", "--rows", "--time", "5"), ("expected --rows alone",)),
    (("run", "claims", "--item", "fr"), ("run claims --item: expected none, got 'fr'",)),
    (("weights", "convert", ""), ("expected",)),
    (("weights", "basis", "clip-nano", "digits", "--out", "x.txt"), ("expected a .safetensors",)),
    (("classify", "a" * 300, "--encoder", "clip-nano"), ("File name too long",)),
    (("export-original", "no-such", "x"), ("expected", "'no-such'")),
    (("claims", "list", "--study", "cut"), ("expected", "'cut'")),
    (("claims", "verify", "--study", "cut"), ("expected", "'cut'")),
    # presets
    (("preset", "big"), ("preset: expected one of ", "mini", "got 'big'")),
    (("preset", "../mini"), ("preset: expected one of ", "got '../mini'")),
    (("preset",), ("preset: expected one of ", "or --check")),
    (("preset", "lab", "--study", "cut"), ("--study: expected one of cuts,", "got 'cut'")),
    (
        ("preset", "lab/cifar10", "--study", "cuts"),
        (
            "--study: expected one of adapt, retrieval, which preset lab/cifar10 sets, got 'cuts'",
            "whose values are those of lab; run `carryover preset lab --study cuts`",
        ),
    ),
    (("keep", "big"), ("preset: expected one of ", "got 'big'")),
    (("keep", "mini"), ("reports/*/runs: expected rows to keep, found none; run `dvc repro`",)),
    # data sets
    (("data", "check", "cats"), ("data set 'cats': expected its files, found none", "data.root")),
    (("data", "check", "mnits"), ("'mnits': expected its files", "write mnist if that is meant")),
    (
        ("data", "prepare", "mnist", "--download"),
        ("data.root is not set", "--download` is to fill"),
    ),
    (("data", "check", "Cats"), ("expected a name of a-z, 0-9 and single dashes, got 'Cats'",)),
    (("data", "check", "folder:"), ("expected folder:PATH or parquet:PATH, got 'folder:'",)),
    (("data", "check", "folder:nowhere"), ("nowhere: expected a folder of class folders",)),
    (("data", "check", "folder:empty"), ("empty: expected class folders with images, found none",)),
    (("data", "check", "parquet:nowhere"), ("nowhere: expected a Parquet file, found none",)),
    (("data", "check", "parquet:text.txt"), ("text.txt: expected a whole Parquet file, got 10",)),
    (("data", "prepare", "cats"), ("data set 'cats': expected its files, found none",)),
    (("data", "prepare", "objectnet", "--download"), ("'objectnet': expected its files",)),
    # encoders, weights, images
    (("layers", "no-such"), ("expected", "'no-such'")),
    (("layers", "pretrain:no-such"), ("expected", "no-such")),
    (("layers", "open-clip:no-such"), ("expected", "no-such")),
    (("layers", "timm:no-such"), ("expected", "no-such")),
    (("layers", "torchvision:no-such"), ("expected", "no-such")),
    (("layers", "cifar-resnet:21"), ("expected", "21")),
    (("layers", "clip-nano", "--groups", "--params"), ("expected one of --groups", "got several")),
    (
        ("embed", "no-such", "digits"),
        ("carryover embed: expected one of clip-nano, got 'no-such'",),
    ),
    (
        ("embed", "clip-nano", "cats"),
        (
            "carryover embed: expected a prepared set (digits, letters, world) or one of",
            "got 'cats'; add a set of your own to data.sources, then prepare it",
        ),
    ),
    (
        ("embed", "clip-nano", "mnist"),
        ("expected a prepared set under data/sets, got 'mnist', which is not; prepare it with",),
    ),
    (("embed", "clip-nano", "digits", "--split", "x"), ("expected a split among", "got 'x'")),
    (
        ("embed", "clip-nano", "digits", "--precision", "half"),
        ("--precision: expected one of float32, bfloat16, got 'half'",),
    ),
    (("zeroshot", "no-such", "digits"), ("encoder: expected one of clip-nano, or a source such",)),
    (("zeroshot", "cifar-resnet:20", "digits"), ("expected one with text, cifar-resnet:20 has",)),
    (("zeroshot", "clip-nano", "cats"), ("zeroshot: expected a prepared set", "got 'cats'")),
    (("zeroshot", "clip-nano", "digits", "--split", "x"), ("expected a split among", "got 'x'")),
    (
        ("zeroshot", "clip-nano", "digits", "--weights", "nowhere.pt"),
        ("nowhere.pt: expected a file of weights, found none",),
    ),
    (
        ("zeroshot", "clip-nano", "digits", "--weights", "text.txt"),
        ("text.txt: expected a whole PyTorch file, cannot read it; fetch it again",),
    ),
    (
        ("zeroshot", "clip-nano", "digits", "--weights", "nul.pt"),
        ("nul.pt: expected a whole PyTorch file, cannot read it",),
    ),
    (
        ("zeroshot", "clip-nano", "digits", "--weights", "plain.pt"),
        ("plain.pt: expected a state dict (names to tensors), got dict",),
    ),
    (
        ("zeroshot", "clip-nano", "digits", "--weights", "other.pt"),
        ("other.pt: expected the", "missing", "1 unexpected (x)"),
    ),
    (("weights", "convert", "nowhere.pt"), ("nowhere.pt: expected an archive of OpenAI's",)),
    (("weights", "convert", "text.txt"), ("text.txt: expected one of OpenAI's", "was not opened")),
    (
        ("weights", "convert", "text.txt", "--basis", "joint"),
        ("text.txt: expected a whole PyTorch file, cannot read it; fetch it again",),
    ),
    (
        ("weights", "convert", "text.txt", "--basis", "round"),
        ("weights convert --basis: expected one of joint, tensor, got 'round'",),
    ),
    (
        ("weights", "convert", "nowhere.pth", "--basis", "joint"),
        ("nowhere.pth: expected a PyTorch file of gradients, found none; mend the path",),
    ),
    (
        ("weights", "convert", "plain.pt", "--basis", "joint"),
        ("plain.pt: expected gradients by name", "got x; write it anew"),
    ),
    (CLASSIFY, ("classify: expected one of --dataset and --labels; say which names",)),
    ((*CLASSIFY, "--dataset", "cats"), ("--dataset: expected a prepared set", "got 'cats'")),
    ((*CLASSIFY, "--labels", "nowhere"), ("nowhere: expected a text file with a class name a",)),
    ((*CLASSIFY, "--labels", "empty"), ("empty: expected a text file with a class name a line",)),
    (
        (*CLASSIFY, "--labels", "control.txt"),
        ("control.txt: expected class names of at most 200 letters without control", r"'a\x00b'"),
    ),
    ((*CLASSIFY, "--labels", "one.txt"), ("one.txt: expected two class names or more", "got 1")),
    ((*CLASSIFY, "--labels", "latin.txt"), ("latin.txt: expected a text file", "cannot read it")),
    (
        (*CLASSIFY, "--dataset", "digits", "--top", "0"),
        ("--top", "0", "`carryover classify --help`"),
    ),
    (
        ("classify", "nowhere.png", "--encoder", "clip-nano", "--dataset", "digits"),
        ("nowhere.png: expected an image file or a folder of them, found none",),
    ),
    (
        ("classify", "empty", "--encoder", "clip-nano", "--dataset", "digits"),
        ("empty: expected image files", "found none; name another folder"),
    ),
    (
        ("classify", "short.png", "--encoder", "clip-nano", "--dataset", "digits"),
        ("short.png: expected an image that decodes, got 30 bytes", "copy the file again"),
    ),
    (("classify", "a.png", "--dataset", "digits"), ("Missing option", "--encoder")),
    (
        ("reproduce", "--data", "nowhere"),
        ("--data: expected a folder, got 'nowhere'; name or mount the one with the sets",),
    ),
    # revisions
    (("diff", "no-such"), ("expected a git checkout", "run this in the folder that was cloned")),
]


@pytest.mark.parametrize(("arguments", "said"), COMMANDS, ids=[" ".join(a) for a, _ in COMMANDS])
def test_a_bad_argument_is_refused_in_one_sentence(
    carryover: Cli, place: Checkout, arguments: tuple[str, ...], said: tuple[str, ...]
) -> None:
    before = place.files()
    answer = carryover(*arguments)
    refused(answer, *said)
    assert "\x1b" not in answer[2]
    assert place.files() == before


def test_there_are_many() -> None:
    assert len(COMMANDS) + len(VALUES) + len(TEXTS) >= 100
    assert len({arguments for arguments, _ in COMMANDS}) == len(COMMANDS)


VALUES: list[tuple[dict[str, Any], str]] = [
    ({"seed": -1}, "seed: expected at least 0, got -1"),
    ({"seed": "0"}, "seed: expected a whole number, got text ('0')"),
    ({"seed": 0.5}, "seed: expected a whole number, got a number (0.5)"),
    ({"seed": True}, "seed: expected a whole number, got true or false (True)"),
    ({"seed": None}, "seed: expected a whole number, got nothing"),
    ({"seed": ABSENT}, "seed: expected this key, it is missing; add it"),
    ({"more": 1}, "more: unknown key, expected"),
    ({"data": []}, "data: expected a mapping, got a list"),
    ({"data.names": []}, "data.names: expected a list with at least one entry, got an empty one"),
    ({"data.names": "digits"}, "data.names: expected a list with at least one entry, got text"),
    ({"data.names": ["Digits"]}, "data.names: expected names of a-z, 0-9 and -, got 'Digits'"),
    ({"data.root": 3}, "data.root: expected text, got a whole number (3)"),
    ({"data.root": []}, "data.root: expected text, got a list"),
    ({"data.sources": {"a": 3}}, "data.sources.a: expected text, got a whole number (3)"),
    ({"data.sources": {3: "folder:x"}}, "data.sources: expected names, got a whole number (3)"),
    ({"pretrain": {3: {}}}, "pretrain: expected names, got a whole number (3)"),
    ({"data.test_fraction": 1}, "data.test_fraction: expected a number above 0 and below 1"),
    ({"data.digits_size": 4}, "data.digits_size: expected at least 8, got 4"),
    ({"encoders.clip-nano.precision": "half"}, "encoders.clip-nano.precision: expected one of"),
    ({"encoders.clip-nano.batch_size": 0}, "encoders.clip-nano.batch_size: expected at least 1"),
    ({"encoders.clip-nano.datasets": ["x"]}, "encoders.clip-nano.datasets[0]: expected one of"),
    ({"encoders.clip-nano.source": "pretrain:x"}, "encoders.clip-nano.source: expected pretrain:"),
    ({"pretrain.clip-nano.objective": "magic"}, "pretrain.clip-nano.objective: expected one of"),
    ({"pretrain.clip-nano.objective": []}, "pretrain.clip-nano.objective: expected one of"),
    (
        {"pretrain.cnn6-digits-0-4.network.depth": 10**9},
        "pretrain.cnn6-digits-0-4.network.depth: expected a number above 0 and at most 1000",
    ),
    ({"cuts.settings": ["fr"]}, "cuts.settings: expected 'baseline' among them"),
    ({"cuts.settings": ["fr", "fr", "baseline"]}, "cuts.settings: expected each entry once"),
    ({"cuts.cuts": [9]}, "cuts.cuts[0]: expected 0 to 6 (the depth of cnn6-digits-0-4), got 9"),
    ({"cuts.lr": ".inf"}, "cuts.lr: expected a number, got text ('.inf')"),
    ({"cuts.lr": float("nan")}, "cuts.lr: expected 0 or a number of 1e-30"),
    ({"cuts.lr": -1.0}, "cuts.lr: expected a number above 0"),
    ({"cuts.pretrained": "x"}, "cuts.pretrained: expected one of"),
    ({"cuts.dataset": "x"}, "cuts.dataset: expected one of digits, letters, world, got 'x'"),
    ({"adapt.encoder": "x"}, "adapt.encoder: expected one of clip-nano, got 'x'"),
    ({"adapt.partitions": [2.0]}, "adapt.partitions[0]: expected a share"),
    ({"sequence.methods.plain": ["magic"]}, "sequence.methods.plain[0]: expected one of"),
    ({"retrieval.items": ["magic"]}, "retrieval.items[0]: expected one of"),
    ({"diff.level": 2.0}, "diff.level: expected a number above 0 and below 1, got 2"),
]


@pytest.mark.parametrize(("changes", "said"), VALUES, ids=[said[:60] for _, said in VALUES])
def test_a_bad_value_is_refused_under_its_path(
    carryover: Cli, tiny: Checkout, changes: dict[str, Any], said: str
) -> None:
    tiny.edit(**changes)
    before = tiny.files()
    for command in (("check",), ("run", "data", "--item", "digits")):
        code, out, err = carryover(*command)
        assert (code, out) == (2, "")
        assert err.startswith("carryover: params.yaml: ")
        assert f"params.yaml: {said}" in err
        assert "Traceback" not in err
    assert tiny.files() == before


TEXTS: list[tuple[bytes, str]] = [
    (b"", "params.yaml: expected a mapping of sections, got nothing"),
    (b"- 1\n", "params.yaml: expected a mapping of sections, got a list"),
    (b"text", "params.yaml: expected a mapping of sections, got text ('text')"),
    (b"a: [1", "params.yaml: expected YAML, got: "),
    (b"a: 1\na: 2\n", "params.yaml: expected YAML, got: "),
    (b"\ta: 1\n", "params.yaml: expected YAML, got: "),
    (b"a: \x00\n", "params.yaml: expected YAML, got: "),
    (b"a: \xff\xfe\n", "params.yaml: expected YAML, got: "),
    (b"a: *b\n", "params.yaml: expected YAML, got: "),
    (b"[" * 1200, "params.yaml: expected YAML, got: "),
    (b"a: 1\n---\nb: 2\n", "params.yaml: expected YAML, got: "),
    (b"a: 2026-02-30\n", "params.yaml: expected YAML, got: "),
    (b"a: !!int x\n", "params.yaml: expected YAML, got: "),
    (b"a: 2026-01-01T25:00:00\n", "params.yaml: expected YAML, got: "),
]


@pytest.mark.parametrize(("content", "said"), TEXTS, ids=[f"{c[:20]!r}" for c, _ in TEXTS])
def test_a_file_of_parameters_that_is_none_is_refused(
    carryover: Cli, tiny: Checkout, content: bytes, said: str
) -> None:
    tiny.params.write_bytes(content)
    for command in (("check",), ("list",), ("preset", "--check"), ("reproduce",)):
        refused(carryover(*command), said)
    assert tiny.params.read_bytes() == content


def test_no_parameters_at_all_are_told(carryover: Cli, tiny: Checkout) -> None:
    tiny.params.unlink()
    said = "params.yaml: expected this file, found none; call carryover from the top folder of a"
    for command in (("check",), ("list",), ("run", "data", "--item", "digits"), ("reproduce",)):
        refused(carryover(*command), said)


def test_a_preset_that_is_no_yaml_is_named(carryover: Cli, tiny: Checkout) -> None:
    Path("presets/lab.yaml").write_text("a: [")
    refused(carryover("preset", "lab"), "presets/lab.yaml: expected YAML, got: ")


def test_sets_that_need_a_folder_are_named_by_the_check(
    carryover: Cli, tiny: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carryover.presets.describe", lambda: ("as it is", True))  # seconds
    names = ["digits", "letters", "world", "mnist", "cats"]
    tiny.edit(**{"data.names": names})
    refused(
        carryover("check"),
        "params.yaml: data.root: expected the folder that holds mnist, cats, got none; set it",
    )
    tiny.edit(**{"data.sources": {"mnist": "folder:x", "cats": "folder:y"}})
    assert carryover("check")[0] == 0
    tiny.edit(**{"data.sources": {}, "data.root": "raw"})
    assert carryover("check")[0] == 0


def test_sets_that_are_got_by_hand_are_not_said_to_be_downloaded(
    carryover: Cli, tiny: Checkout
) -> None:
    code, out, _ = carryover("data", "list")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line[0] != " "}
    assert "carryover data prepare mnist --download" in lines["mnist"]
    assert "--download" not in lines["objectnet"]
    assert "set data.root to the folder above it" in lines["objectnet"]
    assert "    60,000 images, 100 classes; Krizhevsky 2009; no licence found" in out
    assert out.count("size not sourced; ") == 3


def emptied(path: Path) -> None:
    path.write_text("")


def nested(path: Path) -> None:
    path.write_text("[" * 100_000)


@pytest.mark.parametrize(
    "path", ["data/sets/digits/manifest.json", "data/models/clip-nano/card.json"]
)
@pytest.mark.parametrize("spoil", [emptied, nested], ids=lambda spoil: spoil.__name__)
def test_a_spoilt_manifest_or_card_is_named(
    carryover: Cli, embedded: Checkout, path: str, spoil: Callable[[Path], None]
) -> None:
    spoil(Path(path))
    refused(carryover("embed", "clip-nano", "digits"), str(Path(path).parent), "run `dvc repro")


def test_a_row_that_is_none_is_named(carryover: Cli, tiny: Checkout) -> None:
    path = Path("reports/cuts/runs/fr/rows.jsonl")
    path.parent.mkdir(parents=True)
    path.write_text("{}\n")
    refused(carryover("report", "--only", "cuts"), f"{path}:1: expected a row, got '{{}}'")
    refused(carryover("keep", "mini"), f"{path}:1: expected a row, got '{{}}'")


def test_images_of_a_parquet_file_that_are_none_are_named(carryover: Cli, tiny: Checkout) -> None:
    write_parquet(Path("pets.parquet"), [*pictures(3), b"no image"], [0, 1, 0, 1])
    refused(carryover("data", "check", "parquet:pets.parquet"), "row 3", "copy the file again")
    write_folder(Path("pets"), {"a/1.png": b"", "b/1.png": encoded(picture(0))})
    refused(carryover("data", "check", "folder:pets"), "pets/a/1.png: expected an image", "0 bytes")


def test_an_option_of_the_cluster_without_a_value_is_refused() -> None:
    from carryover.errors import ConfigError

    with pytest.raises(ConfigError, match="expected NAME=VALUE"):
        Request(others=("account=",)).parameters()
