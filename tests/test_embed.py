from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from carryover import bank, bank_out, embed, run
from carryover.config import params as config
from carryover.config.encoders import EncoderEntry
from carryover.config.reader import build
from carryover.data import store
from carryover.errors import ConfigError, DataError
from carryover.models import encoders
from carryover.models.encoders import Encoder, features
from carryover.models.features import Feature
from carryover.models.prompts import class_prompts
from carryover.models.weights import digest, load_, read
from conftest import Checkout
from tiny_clip import clip

OUT = Path("data/embeddings/tiny")
ENTRY: dict[str, Any] = {
    "source": "open-clip:tiny",
    "weights": None,
    "precision": "float32",
    "batch_size": 64,
    "resize": "crop",
    "normalise": True,
    "grey": False,
    "rescale_twice": False,
    "prompts": "own",
    "tokens": "bfloat16",
    "kinds": ["projected"],
    "layers": ["block0"],
    "datasets": ["digits"],
    "threads": 1,
}


def entry(**changes: Any) -> tuple[Any, list[str]]:
    faults: list[str] = []
    found = build(EncoderEntry, ENTRY | changes, "encoders.tiny", faults)
    return found, faults


def params(**changes: Any) -> config.Params:
    """The tiny checkout's, with one encoder."""
    found = config.read(Path("params.yaml"))
    object.__setattr__(found, "encoders", {"tiny": entry(**changes)[0]})
    return found


def stage(refuse: Any = lambda: None, **changes: Any) -> None:
    embed.stage(params(**changes), "tiny", run.Context("embed@tiny", "p", "s", refuse))


@pytest.fixture
def loaded(pretrained: Checkout, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A checkout whose encoder is the tiny CLIP; what it was loaded with."""
    asked: list[Any] = []

    def load(source: str, weights: str | None = None) -> Encoder:
        asked.append((source, weights))
        found = clip()
        if weights and Path(weights).suffix == ".safetensors":
            load_(found.model, read(Path(weights)).tensors, weights)
            found = dataclasses.replace(found, weights=digest(found.model.state_dict(), weights))
        return found

    monkeypatch.setattr(encoders, "load", load)
    return asked


def test_the_stage_writes_features_and_prompts_of_every_split(loaded: list[Any]) -> None:
    stage()
    encoder, images = clip(), store.load(Path("data/sets/digits"), "test")
    projected, inner = Feature("projected"), Feature("pooled", "block0")
    with torch.no_grad():
        x = images.floats(torch.arange(64)).expand(-1, 3, -1, -1)
        expected = features(encoder, x, [projected, inner])
    for feature in (projected, inner):
        found = bank_out.read(OUT, "digits", "test", feature)
        assert torch.equal(found.values[:64], expected[feature])
        assert torch.equal(found.labels, images.labels)
        assert (len(found), found.data) == (len(images), images.digest)
    assert len(bank_out.read(OUT, "digits", "train", projected)) == len(
        store.load(Path("data/sets/digits"), "train")
    )
    facts = bank_out.manifest(OUT)
    prompts = class_prompts("digits", images.class_names)
    assert facts["datasets"]["digits"]["prompts"] == prompts
    assert facts["logit_scale"] == pytest.approx(1 / 0.07)
    text = bank_out.read_text(OUT, "digits")
    assert encoder.text is not None
    with torch.no_grad():
        last = encoder.text.encode(encoder.text.tokenize([prompts[9][-1]]))
    assert torch.allclose(text[9, -1], F.normalize(last, dim=-1)[0], atol=1e-6)
    assert loaded == [("open-clip:tiny", None)]


def test_the_same_bytes_come_from_the_bank_and_from_nothing(loaded: list[Any]) -> None:
    def content() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(OUT.rglob("*")) if p.is_file()}

    stage()
    first = content()
    stage()
    assert content() == first
    shutil.rmtree(run.scratch_root() / "bank")
    stage()
    assert content() == first
    assert len(first) == 4  # two splits, prompts, manifest
    assert torch.__version__ not in json.dumps(bank_out.manifest(OUT))


def test_a_failed_stage_leaves_the_old_folder(loaded: list[Any]) -> None:
    stage()
    before = (OUT / "manifest.json").read_bytes()

    def refuse() -> None:
        raise ConfigError("edited")

    with pytest.raises(ConfigError, match="edited"):
        stage(refuse, normalise=False)
    assert (OUT / "manifest.json").read_bytes() == before
    assert [path.name for path in OUT.parent.iterdir()] == ["tiny"]


def test_the_entry_overrides_preprocessing(loaded: list[Any], tmp_path: Path) -> None:
    squashed = embed.prepared(entry(resize="squash", normalise=False)[0])
    assert (squashed.preprocess.resize, squashed.preprocess.mean) == ("squash", ())
    usual = embed.prepared(entry()[0])
    assert usual.preprocess == clip().preprocess
    weights = tmp_path / "checkout" / "weights.pt"
    weights.write_bytes(b"")
    embed.prepared(entry(weights="weights.pt")[0])
    embed.prepared(entry(weights="openai")[0])
    assert [asked[1] for asked in loaded[-2:]] == [str(weights), "openai"]


def test_the_command_tells_images_a_second_and_what_the_bank_had(loaded: list[Any]) -> None:
    text = embed.embed_one(params(), "tiny", "digits", "train")
    count = len(store.load(Path("data/sets/digits"), "train"))
    assert text.startswith(f"digits train: {count} images, 2 features; {count} computed, ")
    assert text.endswith(" images/s")
    again = embed.embed_one(params(), "tiny", "digits")
    test, train = again.splitlines()
    assert "computed" in test
    assert train == f"digits train: {count} images, 2 features; none new"
    other = embed.embed_one(params(), "tiny", "digits", "train", "bfloat16")
    assert f"{count} computed" in other


def test_what_the_command_does_not_know_is_named(loaded: list[Any]) -> None:
    with pytest.raises(ConfigError, match="carryover embed: expected one of tiny, got 'huge'"):
        embed.embed_one(params(), "huge", "digits")
    with pytest.raises(ConfigError, match="--precision: expected one of float32, bfloat16"):
        embed.embed_one(params(), "tiny", "digits", precision="half")
    with pytest.raises(DataError, match="expected a split among test, train"):
        embed.embed_one(params(), "tiny", "digits", "validation")


def test_a_faulty_entry_is_refused_with_every_fault() -> None:
    found, faults = entry()
    assert faults == []
    assert embed.wanted(found) == [Feature("projected"), Feature("pooled", "block0")]
    assert embed.wanted(dataclasses.replace(found, layers=None)) == [Feature("projected")]
    _, faults = entry(batch_size=0, threads=0, kinds=["cls", "cls"])
    assert faults == [
        "encoders.tiny.batch_size: expected at least 1, got 0",
        "encoders.tiny.threads: expected at least 1, got 0",
        "encoders.tiny.kinds: expected each entry once, got cls twice",
    ]
    assert entry(resize="stretch")[1] == [
        "encoders.tiny.resize: expected one of crop, squash, got 'stretch'"
    ]


def test_the_progress_of_a_filled_bank_ends_at_its_end(
    loaded: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bank, "SHARD_ROWS", 200)  # three batches a shard
    told = tmp_path / "progress"
    monkeypatch.setenv("CARRYOVER_PROGRESS", str(told))
    for _ in range(2):  # computed, then from the bank
        embed.embed_one(params(), "tiny", "digits", "test")
        done, total = told.read_text().split()
        assert done == total == str(-(-1258 // 64))


def test_a_set_that_no_stage_prepares_is_told_how_it_is_prepared(loaded: list[Any]) -> None:
    said = "expected a prepared set .*digits.*, got 'pets'; add a set of your own to data.sources"
    with pytest.raises(DataError, match=said):
        embed.embed_one(params(), "tiny", "pets")
    assert loaded == []
