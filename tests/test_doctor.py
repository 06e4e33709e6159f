"""What the doctor finds, names and mends: each kind of file with a byte flipped, cut or deleted."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from carryover import doctor, snapshots
from carryover.doctor_cache import listing_of, md5_of, object_of
from carryover.errors import ConfigError
from carryover.stages import run_stage
from conftest import TINY, Checkout, make_checkout

Damage = Callable[[Path], None]
SETS, MODEL = Path("data/sets"), Path("data/models/clip-nano")
BANK = Path(".scratch/bank")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    written(path, bytes(content))


def cut(path: Path) -> None:
    written(path, path.read_bytes()[:-7])


def deleted(path: Path) -> None:
    path.unlink()


def written(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


DAMAGES = [flipped, cut, deleted]


@pytest.fixture(scope="module")
def whole_once(tmp_path_factory: pytest.TempPathFactory, embedded_once: Path) -> Path:
    """Sets, networks, embeddings, predictions, DVC's lock and cache, a bank and a snapshot."""
    found = make_checkout(tmp_path_factory.mktemp("whole") / "checkout", TINY)
    shutil.copytree(embedded_once, found.root / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.root)
        patch.setenv("CARRYOVER_QUIET", "1")
        patch.setenv("CARRYOVER_DEVICE", "cpu")
        run_stage("embed", "clip-nano")  # leaves its shards in the bank
        fill()
    return found.root


@pytest.fixture
def whole(tiny: Checkout, whole_once: Path) -> Checkout:
    """A checkout of its own with these."""
    source = shutil.ignore_patterns("src")
    shutil.copytree(whole_once, tiny.root, dirs_exist_ok=True, ignore=source)
    return tiny


def fill() -> None:
    snapshots.write(Path(".scratch/cuts-fr/0123/a.pt"), {"x": torch.ones(3)})
    for name in ("a", "b"):
        Path("data/predictions/cuts/fr").mkdir(parents=True, exist_ok=True)
        Path("data/predictions/cuts/fr", name).write_bytes(name.encode() * 100)
    lock: dict[str, object] = {}
    for stage, out in (
        ("data@digits", "data/sets/digits"),
        ("pretrain@clip-nano", "data/models/clip-nano"),
        ("embed@clip-nano", "data/embeddings/clip-nano"),
        ("cuts@fr", "data/predictions/cuts/fr"),
    ):
        lock[stage] = {"cmd": "", "outs": [{"path": out, "md5": cached(Path(out))}]}
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": lock}))


def cached(folder: Path) -> str:
    """Put a folder into DVC's cache as DVC does; the digest that the lock has."""
    listing = listing_of(folder)
    for entry in json.loads(listing):
        kept(entry["md5"], (folder / entry["relpath"]).read_bytes())
    name = hashlib.md5(listing).hexdigest() + ".dir"
    kept(name, listing)
    return name


def kept(md5: str, content: bytes) -> None:
    path = object_of(md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(content)
        path.chmod(0o444)


def found(fix: bool = False) -> tuple[list[str], bool]:
    """Findings about files that are bad, and whether all of the files are good."""
    text, _ = doctor.examine(verify=True, fix=fix)
    bad = [line for line in text.splitlines() if line.startswith("BAD ")]
    bad = [line for line in bad if "/" in line and "checkout:" not in line]
    return bad, not bad


def state() -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for folder in ("data", ".dvc/cache", ".scratch")
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def aside() -> dict[str, bytes]:
    """What was put aside, by where it lay."""
    start = ".scratch/replaced/"
    return {p.removeprefix(start): b for p, b in state().items() if p.startswith(start)}


def test_a_second_result_is_put_beside_the_first(whole: Checkout) -> None:
    path = Path("data/predictions/cuts/fr/b")
    for text in (b"new", b"newer"):
        path.write_bytes(text)
        found(fix=True)
    kept = {p: b for p, b in aside().items() if p.endswith("/b")}
    assert kept == {str(path): b"new", "data/predictions/cuts/fr.1/b": b"newer"}


def test_dvc_names_a_folder_as_the_doctor_does(whole: Checkout) -> None:
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree

    tree, folder = Tree(), Path("data/sets/digits")
    for path in folder.iterdir():
        tree.add((path.name,), Meta(), HashInfo("md5", md5_of(path)))
    tree.digest()
    assert tree.as_bytes() == listing_of(folder)


def test_nothing_is_found_in_a_whole_checkout_and_nothing_is_touched(whole: Checkout) -> None:
    before = state()
    for fix in (False, True):
        assert found(fix) == ([], True)
        assert state() == before


def test_mending_without_looking_is_refused(whole: Checkout) -> None:
    with pytest.raises(ConfigError, match="expected --fix with --verify, got it alone"):
        doctor.examine(verify=False, fix=True)


FILES = {
    "images of a set": "data/sets/digits/train-00000.safetensors",
    "the manifest of a set": "data/sets/digits/manifest.json",
    "weights": "data/models/clip-nano/weights.safetensors",
    "embeddings": "data/embeddings/clip-nano/digits/test.safetensors",
    "embeddings of prompts": "data/embeddings/clip-nano/digits/text.safetensors",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", list(FILES.values()), ids=list(FILES))
def test_a_damaged_result_is_named_and_taken_from_the_cache(
    whole: Checkout, name: str, damage: Damage
) -> None:
    before, path = state(), Path(name)
    damage(path)
    damaged = state()
    bad, _ = found()
    assert len(bad) == 1
    folder = Path(*path.parts[:3])
    assert str(folder) in bad[0]
    if path.suffix == ".safetensors" and (damage is flipped or path.name != "weights.safetensors"):
        assert name in bad[0]
    assert bad[0].endswith("; `carryover doctor --verify --fix` mends it")
    assert state() == damaged  # to look changes nothing
    bad, _ = found(fix=True)
    assert len(bad) == 1
    assert bad[0].endswith(", and taken from DVC's cache again")
    assert aside() == {p: b for p, b in damaged.items() if p.startswith(f"{folder}/")}
    shutil.rmtree(".scratch/replaced")
    assert state() == before
    assert found() == ([], True)


@pytest.mark.parametrize("name", list(FILES.values()), ids=list(FILES))
def test_what_no_cache_holds_is_put_aside_and_the_stage_that_makes_it_is_named(
    whole: Checkout, name: str
) -> None:
    before, folder = state(), Path(*Path(name).parts[:3])
    flipped(Path(name))
    shutil.rmtree(".dvc/cache")
    damaged = {p: b for p, b in state().items() if p.startswith(f"{folder}/")}
    bad, _ = found(fix=True)
    stage = {"sets": "data", "models": "pretrain", "embeddings": "embed"}[folder.parts[1]]
    assert bad[0].endswith(f": `dvc repro {stage}@{folder.name}` makes it again")
    assert aside() == damaged
    shutil.rmtree(".scratch/replaced")
    left = {
        path: content
        for path, content in before.items()
        if not path.startswith((f"{folder}/", ".dvc"))
    }
    assert state() == left


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_result_without_digests_is_held_against_the_lock_and_put_aside(
    whole: Checkout, damage: Damage
) -> None:
    before, path = state(), Path("data/predictions/cuts/fr/b")
    damage(path)
    left = path.read_bytes() if path.exists() else None
    bad, _ = found()
    assert [line.startswith(f"BAD  {path}: expected ") for line in bad] == [True]
    bad, _ = found(fix=True)
    aside = Path(".scratch/replaced").resolve() / path
    assert f"moved to {aside.parent}, and taken from DVC's" in bad[-1]
    assert (aside.read_bytes() if aside.exists() else None) == left
    shutil.rmtree(".scratch/replaced")
    assert state() == before
    assert found() == ([], True)


def test_what_a_manifest_has_no_digest_of_is_held_against_the_lock(whole: Checkout) -> None:
    path = Path("data/sets/letters/manifest.json")
    lock = json.loads(Path("dvc.lock").read_text())
    out = {"path": "data/sets/letters", "md5": cached(path.parent)}
    lock["stages"]["data@letters"] = {"cmd": "", "outs": [out]}
    Path("dvc.lock").write_text(json.dumps(lock))
    before = state()
    facts = json.loads(path.read_text())
    facts["class_names"][0] += "x"
    path.write_text(json.dumps(facts))
    bad, _ = found()
    assert [line.startswith(f"BAD  {path}: expected the bytes of md5 ") for line in bad] == [True]
    found(fix=True)
    shutil.rmtree(".scratch/replaced")
    assert state() == before


def test_a_new_result_that_no_cache_has_another_version_of_is_left_alone(whole: Checkout) -> None:
    path = Path("data/predictions/cuts/fr/b")
    shutil.rmtree(".dvc/cache")
    path.write_bytes(b"new")
    bad, _ = found(fix=True)
    assert bad[-1].endswith("left as it is; `dvc repro cuts@fr` makes it again")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("what", ["file", "list"])
def test_a_damaged_object_of_the_cache_is_named_and_written_again(
    whole: Checkout, what: str, damage: Damage
) -> None:
    before = state()
    md5 = md5_of(Path("data/sets/digits/manifest.json"))
    path = object_of(cached(Path("data/sets/digits")) if what == "list" else md5)
    damage(path)
    bad, good = found()
    if what == "list" and damage is deleted:
        assert good  # as in a checkout whose results were never pulled
        return
    assert [str(path) in line for line in bad] == [True]
    bad, _ = found(fix=True)
    origin = "data/sets/digits" if what == "list" else "data/sets/digits/manifest.json"
    assert bad[0].endswith(f"; written again from {origin}")
    assert state() == before
    assert found() == ([], True)


def test_the_cache_is_where_dvc_was_told_to_have_it(whole: Checkout, tmp_path: Path) -> None:
    settings, elsewhere = Path(".dvc/config.local"), tmp_path / "elsewhere"
    settings.write_text(f"[cache]\n    dir = {elsewhere}\n['remote \"s\"']\n    url = s3://a%b\n")
    bad, _ = found()
    assert "as cache.dir says, found no folder" in bad[0]
    shutil.copytree(".dvc/cache", elsewhere)
    assert found() == ([], True)
    path = object_of(md5_of(Path("data/sets/digits/manifest.json")))
    assert path.is_relative_to(elsewhere)
    path.chmod(0o644)
    flipped(path)
    bad, _ = found()
    assert [str(path) in line for line in bad] == [True]
    settings.write_text("no settings")
    with pytest.raises(ConfigError, match=r"config\.local: expected settings of DVC"):
        found()
    settings.unlink()


def test_a_folder_among_the_objects_is_told_and_the_rest_examined(whole: Checkout) -> None:
    odd = object_of("ab" + "c" * 30)
    odd.mkdir(parents=True)
    bad, _ = found()
    assert bad == [f"BAD  {odd}: expected an object of DVC's cache, got 'Is a directory'"]
    odd.rmdir()


def test_an_object_whose_result_is_gone_is_deleted(whole: Checkout) -> None:
    path = object_of(md5_of(Path("data/sets/digits/manifest.json")))
    flipped(path)
    shutil.rmtree("data/sets/digits")
    bad, _ = found(fix=True)
    assert "deleted: `dvc repro` makes it again, `dvc pull` fetches it" in bad[0]
    assert not path.exists()


@pytest.mark.parametrize("damage", [flipped, cut])
@pytest.mark.parametrize("pattern", ["bank/images/*/*.safetensors", "bank/text/*", "*/*/*.pt"])
def test_a_damaged_shard_or_snapshot_is_named_and_dropped(
    whole: Checkout, pattern: str, damage: Damage
) -> None:
    here = sorted(Path(".scratch").resolve().glob(pattern))
    path = next(path for path in here if path.suffix != ".lock")
    before = state()
    damage(path)
    bad, _ = found()
    assert [line.startswith(f"BAD  {path}: expected the bytes that were") for line in bad] == [True]
    bad, _ = found(fix=True)
    assert bad[0].endswith("; deleted, it is computed again when it is needed")
    del before[str(path.relative_to(Path.cwd()))]
    assert state() == before
    assert found() == ([], True)
    if "bank" in pattern:
        run_stage("embed", "clip-nano")
        assert path.exists()


def test_a_shard_in_the_place_of_another_is_found(whole: Checkout) -> None:
    first, second = sorted(BANK.glob("images/*/00000.safetensors"))[:2]
    shutil.copy(first, second)
    bad, _ = found()
    assert [str(second) in line for line in bad] == [True]


def test_a_lock_that_is_no_yaml_is_told(whole: Checkout) -> None:
    Path("dvc.lock").write_text("stages: [")
    bad, _ = found()
    assert "dvc.lock: expected YAML" in doctor.examine(verify=True, fix=False)[0]
    for text in ("stages: [1]", "stages: {a: 3}", "stages: {a: {outs: [{path: data/x}]}}"):
        Path("dvc.lock").write_text(text)
        assert "dvc.lock: expected stages with outs" in doctor.examine(verify=True, fix=False)[0]
    outside = "stages: {a: {outs: [{path: data/../../etc, md5: x}]}}"
    Path("dvc.lock").write_text(outside)
    assert "dvc.lock: expected results below data/" in doctor.examine(verify=True, fix=True)[0]
    assert not [line for line in bad if "data/" in line]


def test_a_list_that_leads_out_of_its_folder_writes_nothing_there(whole: Checkout) -> None:
    lock = json.loads(Path("dvc.lock").read_text())
    listing = [{"md5": md5_of(Path("params.yaml")), "relpath": "../../../x"}]
    content = json.dumps(listing, sort_keys=True).encode()
    md5 = hashlib.md5(content).hexdigest() + ".dir"
    kept(md5, content)
    kept(listing[0]["md5"], Path("params.yaml").read_bytes())
    lock["stages"]["data@digits"]["outs"][0]["md5"] = md5
    Path("dvc.lock").write_text(json.dumps(lock))
    flipped(Path("data/sets/digits/manifest.json"))
    bad, _ = found(fix=True)
    assert ": `dvc repro data@digits` makes it again" in bad[0]
    assert not list(Path().glob("x"))


@pytest.mark.slow  # DVC starts twice
def test_a_lock_out_of_step_is_told(pretrained: Checkout) -> None:
    pretrained.commit()
    (pretrained.root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  cuts@gone:\n    cmd: x\n    outs:\n"
        "    - path: data/predictions/x\n      md5: 0.dir\n"
    )
    text, good = doctor.examine(verify=True, fix=False)
    assert not good
    assert "dvc.lock is out of step: dvc.lock: cuts@gone is no longer a stage" in text
    assert "dvc.lock is out of step: dvc.lock: cuts@fr was never run; `dvc repro` brings" in text
