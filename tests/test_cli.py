"""The command line: exit codes, and one clear sentence for everything that the user can mend."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from carryover import cli, errors, run
from carryover.config import params as config
from carryover.errors import DataError
from carryover.files import write_text
from carryover.reproduce import alone_with_parameters, stale_sets
from carryover.rows import Row
from carryover.stages import PARAMS
from carryover.studies import cuts
from conftest import ABSENT, SRC, Checkout
from image_files import encoded, picture, pictures, write_folder, write_parquet

Answer = tuple[int, str, str]  # exit code, standard output, standard error
Cli = Callable[..., Answer]


@pytest.fixture
def carryover(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line here; `main` ends every command by leaving."""

    def answer(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["carryover", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return answer


def refused(answer: Answer, *said: str) -> None:
    """Exit code 2, one sentence that holds these parts in order, no traceback."""
    code, out, err = answer
    assert code == 2, err
    assert out == ""
    assert err.startswith("carryover: ")
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1, err
    place = 0
    for part in said:
        assert part in err[place:], f"{part!r} is not in {err!r}"
        place = err.index(part, place) + len(part)


# --- help --------------------------------------------------------------------------------------


def test_help_imports_no_torch_and_is_quick() -> None:
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    command = [sys.executable, "-X", "importtime", "-m", "carryover", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "carryover.cli" in imported
    assert not {"torch", "numpy", "dvc", "yaml", "ruamel.yaml", "matplotlib"} & imported
    for name in ("reproduce", "run", "preset", "keep", "data", "list", "check", "doctor", "diff"):
        assert f"\n  {name} " in done.stdout
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "carryover", "--help"],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        seconds.append(time.perf_counter() - started)
    assert min(seconds) <= 0.3


def test_the_version_is_printed(carryover: Cli) -> None:
    from carryover import __version__

    assert carryover("--version") == (0, f"{__version__}\n", "")


def test_a_fault_of_ours_keeps_its_traceback(carryover: Cli, tiny: Checkout) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("carryover.overview.overview", lambda: 1 / 0)
        code, _, err = carryover("list")
    assert code == 3
    assert "ZeroDivisionError" in err


def test_the_message_is_handed_to_the_reproduce_that_waits(
    carryover: Cli, tiny: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARRYOVER_ERROR", str(tiny.root / "told"))
    refused(
        carryover("run", "cutz"),
        "carryover run: expected one of data, pretrain, embed, cuts,",
        "'cutz'",
    )
    assert Path("told").read_text().startswith("carryover run: expected one of")


# --- bad parameters ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"cuts.learning": 1},
            ["params.yaml: cuts.learning: unknown key, expected", "take it out"],
        ),
        ({"cuts.lr": "x"}, ["params.yaml: cuts.lr: expected a number, got text ('x')"]),
        ({"cuts": ABSENT}, ["params.yaml: cuts: expected this section, it is missing; add it"]),
        (
            {"cuts.fractions": [0, 1.0]},
            ["params.yaml: cuts.fractions[0]: expected a share", "above 0 and at most 1, got 0.0"],
        ),
        (
            {"cuts.fractions": [0.5, 1.5]},
            ["params.yaml: cuts.fractions[1]: expected a share", "above 0 and at most 1, got 1.5"],
        ),
        (
            {"cuts.classes": [4, 5, 6]},
            ["params.yaml: cuts.classes: expected none of", "got 4 in both; take them out of one"],
        ),
    ],
)
@pytest.mark.parametrize(
    "command",
    [["check"], ["run", "cuts", "--item", "fr"], ["reproduce"], ["list"], ["preset", "--check"]],
    ids=lambda command: command[0],
)
def test_faulty_parameters_are_refused_by_every_command(
    carryover: Cli, tiny: Checkout, changes: dict[str, Any], said: list[str], command: list[str]
) -> None:
    tiny.edit(**changes)
    before = tiny.files()
    refused(carryover(*command), *said)
    assert tiny.files() == before
    assert not Path("reports").exists()


def test_all_faults_come_at_once(carryover: Cli, tiny: Checkout) -> None:
    tiny.edit(**{"cuts.lr": "x", "cuts.epochs": 0, "seed": "y"})
    code, _, err = carryover("check")
    assert code == 2
    assert [line.split(": ")[-2] for line in err.splitlines()][1:]
    for path in ("cuts.lr", "seed"):
        assert f"params.yaml: {path}: expected" in err


@pytest.mark.parametrize("arguments", [("preset", "big"), ("keep", "big")])
def test_an_unknown_preset_is_refused(carryover: Cli, tiny: Checkout, arguments: list[str]) -> None:
    before = tiny.files()
    refused(carryover(*arguments), "preset: expected one of ", "mini", "got 'big'")
    assert tiny.files() == before


def test_a_class_that_the_data_lacks_is_refused(carryover: Cli, pretrained: Checkout) -> None:
    pretrained.edit(**{"cuts.classes": [5, 12]})
    said = "params.yaml: cuts.classes: expected classes of digits, 0 to 9, got 12"
    refused(carryover("check"), said)
    refused(carryover("run", "cuts", "--item", "fr"), "classes: expected classes among 0..9", "12")
    assert not Path("reports").exists()
    shutil.rmtree("data")  # known without its data too
    refused(carryover("check"), said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"adapt.fault_class": 10},
            "adapt.fault_class: expected a class of digits, 0 to 9, got 10",
        ),
        (
            {"adapt.unfreeze": ["norm", "last-9"]},
            "adapt.unfreeze: expected one of the 2 blocks that the encoder has, got the last 9",
        ),
        (
            {"adapt.blocks_from": 3},
            "adapt.blocks_from: expected one of the 2 blocks that the encoder has, got block 3",
        ),
        (
            {
                "encoders.clip-nano.source": "open-clip:ViT-B-32",
                "adapt.unfreeze": ["last-17"],
            },
            "adapt.unfreeze: expected one of the 12 blocks that the encoder has, got the last 17",
        ),
        (
            {"sequence.template": "imagnet"},
            "sequence.template: expected one of aircraft, caltech101, ",
        ),
        (
            {"sequence.lora.targets": ["attn", "mlp.up"]},
            "sequence.lora.targets: expected ends of names of linear layers or attentions, such as",
        ),
        (
            {
                "encoders.clip-nano.source": "open-clip:ViT-B-32",
                "sequence.lora.targets": ["mlp.c_fc.weight"],
            },
            "sequence.lora.targets: expected ends of names of linear layers or attentions, such as",
        ),
    ],
)
def test_what_a_study_names_and_its_set_or_encoder_lacks_is_refused_before_any_stage(
    carryover: Cli, tiny: Checkout, changes: dict[str, Any], said: str
) -> None:
    tiny.edit(**changes)
    refused(carryover("check"), f"params.yaml: {said}")


def test_layers_of_the_text_tower_alone_pass_the_check(carryover: Cli, tiny: Checkout) -> None:
    tiny.edit(**{"sequence.lora.targets": ["3.mlp.c_fc"], "sequence.template": "imagenet"})
    tiny.edit(**{"encoders.clip-nano.source": "open-clip:RN50", "adapt.unfreeze": ["norm"]})
    _, _, said = carryover("check")  # a ResNet has no class token, and no layer of this name
    assert "encoders.clip-nano.kinds: expected a feature among pooled" in said
    assert "sequence." not in said


def test_what_cannot_be_known_without_the_weights_passes_the_check(
    carryover: Cli, tiny: Checkout
) -> None:
    source = "timm:vit_tiny_patch16_224"
    tiny.edit(**{"encoders.clip-nano.source": source, "adapt.unfreeze": ["last-99"]})
    _, _, said = carryover("check")  # of its blocks: that it projects nothing is known
    assert "encoders.clip-nano.kinds: expected a feature among cls, pooled, tokens" in said
    assert "adapt.unfreeze" not in said


def test_an_item_that_is_not_listed_is_refused(carryover: Cli, tiny: Checkout) -> None:
    refused(
        carryover("run", "cuts", "--item", "f"),
        "carryover run cuts --item: expected one of fr, ft, baseline, got 'f'",
    )


def test_a_stage_before_its_data_says_what_to_run(carryover: Cli, tiny: Checkout) -> None:
    refused(
        carryover("run", "pretrain", "--item", "cnn6-digits-0-4"),
        "data/sets/digits/manifest.json: expected a prepared data set, found none; run `dvc repro",
    )
    refused(carryover("run", "cuts", "--item", "fr"), "data/sets/digits", "run `dvc repro data@di")


# --- bad data ----------------------------------------------------------------------------------


def whole_folder() -> Path:
    files = {f"{name}/{i}.png": encoded(picture(i)) for name in "ab" for i in range(4)}
    return write_folder(Path("pets"), files)


def empty_folder() -> str:
    Path("pets").mkdir()
    return "folder:pets"


def one_class() -> str:
    shutil.rmtree(whole_folder() / "b")
    return "folder:pets"


def corrupt_image() -> str:
    path = whole_folder() / "a" / "1.png"
    path.write_bytes(path.read_bytes()[:40])
    return "folder:pets"


def truncated_parquet() -> str:
    path = write_parquet(Path("pets.parquet"), pictures(8), [0, 1] * 4)
    path.write_bytes(path.read_bytes()[:-100])
    return "parquet:pets.parquet"


def without_label() -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": pictures(4), "y": [0, 1, 0, 1]}), "pets.parquet")
    return "parquet:pets.parquet"


def strange_label() -> str:
    write_parquet(Path("pets.parquet"), pictures(4), [0, 1, 0, 7])
    return "parquet:pets.parquet"


BAD_DATA = {
    empty_folder: ["pets: expected class folders with images, found none; add them"],
    one_class: ["pets: expected images of at least two classes, got 1; add another class"],
    corrupt_image: ["pets/a/1.png: expected an image that decodes, got 40 bytes", "copy the file"],
    truncated_parquet: ["pets.parquet: expected a whole Parquet file, got", "copy the file again"],
    without_label: ["pets.parquet: expected the columns image and label, got image, y; rename or"],
    strange_label: ["pets.parquet: row 3: expected labels 0..2 for 3 classes, got 7; number the"],
}


@pytest.mark.parametrize("make", list(BAD_DATA), ids=lambda make: make.__name__)
def test_bad_data_is_refused_by_the_check_and_by_the_stage(
    carryover: Cli, tiny: Checkout, make: Callable[[], str]
) -> None:
    source = make()
    before = tiny.files()
    refused(carryover("data", "check", source), *BAD_DATA[make])
    assert tiny.files() == before
    tiny.edit(
        **{"data.names": ["digits", "letters", "world", "pets"], "data.sources": {"pets": source}}
    )
    before = tiny.files()
    refused(carryover("run", "data", "--item", "pets"), *BAD_DATA[make])
    refused(carryover("data", "prepare", "pets"), *BAD_DATA[make])
    assert tiny.files() == before
    assert not [path for path in tiny.root.rglob("*partial*") if "src" not in path.parts]


def test_data_that_is_nowhere_says_how_to_give_it(carryover: Cli, tiny: Checkout) -> None:
    refused(
        carryover("data", "check", "mnist"),
        "data set 'mnist': expected its files, found none (data.root is not set); set data.root",
    )
    refused(
        carryover("data", "check", "folder:absent"), "absent: expected a folder of class folders"
    )


def test_a_path_with_underscores_stays_as_it_is(carryover: Cli, tiny: Checkout) -> None:
    whole_folder().rename("my_pets")
    assert carryover("data", "check", "folder:my_pets")[0] == 0


@pytest.mark.parametrize("name", ["folder:pets", "folder:../checkout/pets", "../pets"])
def test_only_a_plain_name_is_prepared(carryover: Cli, tiny: Checkout, name: str) -> None:
    whole_folder()
    before = tiny.files()
    said = "expected a name to keep it under" if ":" in name else "expected a name of a-z, 0-9"
    refused(carryover("data", "prepare", name), said, f"got {name!r}")
    assert tiny.files() == before
    assert not Path("data").exists()


@pytest.mark.parametrize("asked", [True, False])
def test_files_are_fetched_only_when_asked(
    carryover: Cli, tiny: Checkout, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    def fetch(root: Path, class_name: str, download: bool) -> Any:
        raise DataError(f"fetching {class_name} to {root.name}: {download}")

    monkeypatch.setattr("carryover.data.sources.torchvision_files", fetch)
    tiny.edit(**{"data.root": "raw"})
    answer = carryover("data", "prepare", "mnist", *(["--download"] if asked else []))
    refused(
        answer, "fetching MNIST to raw: True" if asked else "'mnist': expected its files, found"
    )


def test_an_altered_set_is_refused(carryover: Cli, pretrained: Checkout) -> None:
    path = Path("data/sets/digits/train-00000.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    before = pretrained.files()
    said = [
        "train-00000.safetensors: expected the file as it was prepared, got other bytes",
        "run `",
    ]
    refused(carryover("data", "check"), *said)
    refused(carryover("run", "cuts", "--item", "fr"), *said)
    assert pretrained.files() == before


def prepared_pets(carryover: Cli, tiny: Checkout) -> Path:
    """A set of one's own, prepared; its folder."""
    folder = whole_folder()
    tiny.edit(
        **{
            "data.names": ["digits", "letters", "world", "pets"],
            "data.sources": {"pets": "folder:pets"},
        }
    )
    assert carryover("run", "data", "--item", "pets")[0] == 0
    return folder


def test_an_altered_source_file_is_refused(carryover: Cli, tiny: Checkout) -> None:
    folder = prepared_pets(carryover, tiny)
    assert carryover("data", "check", "pets")[0] == 0
    (folder / "a" / "1.png").write_bytes(encoded(picture(99)))
    said = ["data/sets/pets: expected the images it was prepared from", "has changed since; run"]
    refused(carryover("data", "check", "pets"), *said)
    tiny.edit(**{"cuts.dataset": "pets", "cuts.classes": [0, 1]})
    refused(carryover("run", "cuts", "--item", "fr"), *said)


def test_a_set_whose_source_is_not_here_stands_for_itself(carryover: Cli, tiny: Checkout) -> None:
    folder = prepared_pets(carryover, tiny)
    (folder / "a" / "1.png").write_bytes(encoded(picture(99)))
    assert stale_sets(config.read(PARAMS)) == ["pets"]
    folder.rename("elsewhere")
    assert stale_sets(config.read(PARAMS)) == []
    assert carryover("data", "check", "pets")[0] == 0


# --- while a stage runs ------------------------------------------------------------------------


def test_a_full_disk_leaves_no_rows_and_the_finished_cells(
    carryover: Cli, pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained.edit(**{"cuts.max_updates": 2})
    real, written = os.fsync, cuts.write_rows

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(path: Path, rows: list[Row]) -> None:
        monkeypatch.setattr(os, "fsync", full)
        written(path, rows)

    monkeypatch.setattr(cuts, "write_rows", write)
    refused(
        carryover("run", "cuts", "--item", "baseline"),
        "reports/cuts/runs/baseline/rows.jsonl: expected to write this file, got 'No space left on",
        "nothing was changed: free space",
    )
    assert [p for p in Path("reports").rglob("*") if p.is_file()] == []
    monkeypatch.setattr(os, "fsync", real)
    monkeypatch.setattr(cuts, "write_rows", written)
    assert carryover("run", "cuts", "--item", "baseline")[0] == 0
    told = Path(".logs/cuts-baseline.jsonl").read_text().splitlines()
    assert [json.loads(line)["cells"] for line in told] == [0]  # the four were finished


@pytest.mark.parametrize("section", ["cuts.lr", "seed"])
def test_parameters_edited_while_cuts_runs_leave_no_rows(
    carryover: Cli, pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, section: str
) -> None:
    real = cuts.train

    def edit(*arguments: Any) -> Any:
        pretrained.edit(**{section: 1})
        return real(*arguments)

    monkeypatch.setattr(cuts, "train", edit)
    refused(
        carryover("run", "cuts", "--item", "baseline"),
        "params.yaml: expected seed, cuts to stay as they were when this stage started",
        "nothing was written, run again",
    )
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("stage", "item", "key"),
    [
        ("data", "digits", "data.test_fraction"),
        ("pretrain", "cnn6-digits-0-4", "pretrain.cnn6-digits-0-4.lr"),
    ],
)
def test_parameters_edited_while_another_stage_runs_leave_no_new_results(
    carryover: Cli,
    pretrained: Checkout,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    item: str,
    key: str,
) -> None:
    before = pretrained.files()
    real = run.generator

    def edit(*arguments: Any) -> Any:
        pretrained.edit(**{key: 0.25, "seed": 1})
        return real(*arguments)

    monkeypatch.setattr(run, "generator", edit)
    refused(carryover("run", stage, "--item", item), "to stay as they were when this stage started")
    left = {name: content for name, content in pretrained.files().items() if name != "params.yaml"}
    assert left.items() <= before.items()  # the old results or none, never new ones


def test_two_reproduce_at_once_are_refused(carryover: Cli, tiny: Checkout) -> None:
    before = tiny.files()
    with alone_with_parameters():
        for arguments in (["reproduce"], ["reproduce", "--preset", "lab"], ["preset", "lab"]):
            refused(
                carryover(*arguments),
                "expected to be the only `carryover reproduce` or change of preset here, process "
                f"{os.getpid()} is running",
                "wait for it or stop it",
            )
    assert tiny.files() == before


@pytest.mark.parametrize(
    "arguments",
    [("reproduce", "cutz"), ("reproduce", "cutz", "--preset", "lab"), ("report", "--only", "cutz")],
)
def test_an_unknown_study_is_refused(carryover: Cli, tiny: Checkout, arguments: list[str]) -> None:
    before = tiny.files()
    refused(carryover(*arguments), "expected ", "cuts", "got 'cutz'")
    assert tiny.files() == before


# --- device ------------------------------------------------------------------------------------


def test_an_unknown_device_is_refused(carryover: Cli, tiny: Checkout) -> None:
    refused(
        carryover("--device", "tpu", "list"), "--device: expected one of auto, cpu, cuda, got 't"
    )


@pytest.mark.parametrize(
    "arguments", [("run", "pretrain", "--item", "cnn6-digits-0-4"), ("reproduce",)]
)
def test_cuda_without_a_gpu_is_refused(
    carryover: Cli, pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = pretrained.files()
    refused(
        carryover("--device", "cuda", *arguments),
        "--device: expected a GPU for 'cuda', torch finds none; use --device cpu, or install",
    )
    assert pretrained.files() == before


# --- what works --------------------------------------------------------------------------------


def test_a_folder_and_a_parquet_file_are_checked(carryover: Cli, tiny: Checkout) -> None:
    whole_folder()
    write_parquet(Path("pets.parquet"), pictures(8), [0, 1] * 4)
    before = tiny.files()
    code, out, _ = carryover("data", "check", "folder:pets", "parquet:pets.parquet", "digits")
    assert code == 0
    first, second, third = out.splitlines()
    assert first.startswith("folder:pets: its files are good; train 2, test 6, 2 classes, digest")
    assert second.startswith("parquet:pets.parquet: its files are good; train 2, test 6, 2 classes")
    assert third.startswith("digits: its files are good; train 539, test 1258, 10 classes, digest")
    assert tiny.files() == before


def test_prepared_sets_are_listed_with_their_counts(carryover: Cli, pretrained: Checkout) -> None:
    code, out, _ = carryover("data", "list")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if line[0] != " ")
    assert code == 0
    assert lines["digits"].startswith("prepared train 539, test 1258, 10 classes, digest ")
    assert lines["mnist"].startswith(
        "absent: set data.root to the folder that holds them, or that "
    )
    assert {"fashion-mnist", "cifar10", "cifar100"} <= lines.keys()


def test_what_there_is_is_listed(carryover: Cli, tiny: Checkout) -> None:
    code, out, _ = carryover("list")
    assert code == 0
    assert "studies   cuts, clusters, adapt, continual, sequence, retrieval, survival\n" in out
    assert "networks  cnn6-digits-0-4, clip-nano\n" in out
    assert "  cuts@{fr,ft,baseline}\n" in out
    assert "\n  clusters\n  cuts-report\n  adapt@{probe,unfreeze,llrd}\n  adapt-report\n" in out
    assert "\n  sequence@{plain,distill,ogd,lora,average}\n" in out
    assert out.endswith("\n  claims\n  report\n")


def test_good_parameters_have_no_fault(carryover: Cli, checkout: Checkout) -> None:
    assert carryover("check") == (
        0,
        "params.yaml: no fault; params.yaml equals preset mini\n",
        "",
    )


def test_the_doctor_names_what_is_missing(carryover: Cli, tiny: Checkout) -> None:
    code, out, _ = carryover("doctor")
    assert code == 1
    assert "BAD  checkout: missing .git; run from a git checkout\n" in out
    assert "ok   Python 3.1" in out
    assert "ok   params.yaml has no fault\n" in out
    tiny.git("init", "--quiet", ".")
    code, out, _ = carryover("doctor")
    assert code == int("BAD" in out)
    assert "ok   checkout with DVC " in out


def test_the_doctor_finds_what_was_altered_and_puts_it_aside(
    carryover: Cli, pretrained: Checkout
) -> None:
    _, out, _ = carryover("doctor", "--verify")
    assert "ok   data/sets/digits is what its digests say\n" in out
    assert "ok   data/models/cnn6-digits-0-4 is what its digests say\n" in out
    path = Path("data/models/cnn6-digits-0-4/weights.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    code, out, _ = carryover("doctor", "--verify")
    assert code == 1
    assert "BAD  data/models/cnn6-digits-0-4/weights.safetensors: expected digest" in out
    assert path.exists()
    _, out, _ = carryover("doctor", "--verify", "--fix")
    assert "/cnn6-digits-0-4: `dvc repro pretrain@cnn6-digits-0-4` makes it again" in out
    assert not path.parent.exists()
    assert Path("data/sets/digits/manifest.json").exists()


def write_rows(values: list[float]) -> None:
    rows = [
        {
            **{"study": "cuts", "item": "fr", "preset": "tiny", "cell": {"cut": 0, "repeat": i}},
            **{"split": "test", "metric": "accuracy", "value": value, "n": 1000, "data": "d"},
            **{"weights": "w", "params": "p", "source": "s", "precision": "float32"},
        }
        for i, value in enumerate(values)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_text(Path("reports/cuts/runs/fr/rows.jsonl"), text)


def test_a_significant_change_ends_with_1(carryover: Cli, tiny: Checkout) -> None:
    write_rows([0.50, 0.51, 0.49, 0.50])
    tiny.commit()
    code, out, _ = carryover("diff")
    assert code == 0
    assert out.endswith("no significant change\n")
    write_rows([0.80, 0.82, 0.79, 0.80])
    code, out, _ = carryover("diff")
    assert code == 1
    assert out.endswith("\nsignificant change\n")
    assert "no significant" not in out
    code, out, _ = carryover("diff", "HEAD", "--json")
    assert code == 1
    assert json.loads(out)
    assert carryover("diff", "--abs", "0.5")[0] == 0
    code, out, _ = carryover("diff", "--markdown")
    assert code == 1
    assert out.startswith("**Significant change: 1 of 1 group of rows beyond tolerance")
    assert "| significant: beyond the tolerance of 0.005 and beyond chance |" in out
    refused(carryover("diff", "--json", "--markdown"), "diff: expected --json or --markdown, got")


def test_tolerances_of_the_parameters_let_changes_pass(carryover: Cli, tiny: Checkout) -> None:
    write_rows([0.50, 0.51, 0.49, 0.50])
    tiny.commit()
    write_rows([0.80, 0.82, 0.79, 0.80])
    wide = {"match": "cuts/*/accuracy", "absolute": 0.5, "relative": 0.0}
    tiny.edit(**{"diff.tolerances": [wide]})
    assert carryover("diff")[0] == 0
    assert carryover("diff", "--rel", "0.01")[0] == 1  # replaces them
    tiny.edit(**{"diff.tolerances": [wide | {"match": "clusters/*"}]})
    assert carryover("diff")[0] == 1


def test_revisions_without_rows_are_refused(carryover: Cli, tiny: Checkout) -> None:
    tiny.commit()
    refused(carryover("diff"), "diff: expected rows under reports/ in HEAD, found none")
    refused(carryover("diff", "no-such"), "no-such")


def test_a_message_shows_no_control_characters_and_no_endless_line() -> None:
    said = errors.printable("a\x00b\x1b[31m é\n" + "x" * 10_000)
    first, second = said.split("\n")
    assert first == "a\\x00b\\x1b[31m é"
    assert second.startswith("x" * 2000 + " [... 6000 letters] x")
