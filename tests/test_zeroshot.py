from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from carryover import checkpoints, run, zeroshot
from carryover.adapt.distill import unit_images, unit_texts
from carryover.checkpoints import Checkpoint
from carryover.classify import Named, class_names, classify, image_files
from carryover.cli import app
from carryover.data import store
from carryover.errors import ConfigError, DataError
from carryover.files import digest
from carryover.models import prompts
from carryover.models.prompts import class_prompts
from conftest import Checkout
from test_embed import loaded, params
from tiny_clip import clip, noise

__all__ = ["loaded"]


@pytest.fixture(autouse=True)
def short_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts that differ in the seven letters that the tiny CLIP reads."""
    monkeypatch.setitem(prompts.TEMPLATES, "digits", ("{}", "a {}"))
    monkeypatch.setattr(prompts, "GENERIC", ("{}",))


def adapted(file: Path) -> Any:
    """The tiny CLIP after some training, its state in a file."""
    network = clip().model
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=random)
    save_file(network.state_dict(), file)
    return network


def by_hand(network: Any, encoder: Any) -> tuple[float, float]:
    """Accuracy on digits as the sequence study tests a network, and the mean over classes."""
    images = store.load(Path("data/sets/digits"), "test")
    groups = class_prompts("digits", images.class_names)
    tokens = encoder.text.tokenize([prompt for group in groups for prompt in group])
    with torch.no_grad():
        W = unit_texts(network, tokens).unflatten(0, (len(groups), -1))
        x = encoder.preprocess(images.floats(torch.arange(len(images))).expand(-1, 3, -1, -1))
        best = (unit_images(network, x) @ F.normalize(W.mean(1), dim=-1).T).argmax(1)
    right = (best == images.labels).double()
    classes = [right[images.labels == c].mean() for c in range(10)]
    return float(right.mean()), float(torch.stack(classes).mean())


def test_an_encoder_scores_what_its_class_prompts_give(loaded: list[Any]) -> None:
    encoder = clip()
    score = zeroshot.evaluate(zeroshot.load(params(), "tiny"), "digits")
    top1, per_class = by_hand(encoder.model, encoder)
    assert (score.top1, score.per_class) == (pytest.approx(top1), pytest.approx(per_class))
    assert score.n == len(store.load(Path("data/sets/digits"), "test"))
    assert score.top1 <= score.top5 <= 1
    assert not score.generic
    assert f"{100 * top1:.1f} %" in score.line()


def test_adapted_weights_score_as_inside_training_and_leave_no_embeddings(
    loaded: list[Any], tmp_path: Path
) -> None:
    file = tmp_path / "adapted.safetensors"
    network = adapted(file)
    model = zeroshot.load(params(), "tiny", file)
    score = zeroshot.evaluate(model, "digits")
    assert score.top1 == pytest.approx(by_hand(network, model.encoder)[0])
    assert score.top1 != pytest.approx(by_hand(clip().model, clip())[0])
    assert not (run.scratch_root() / "bank").exists()
    assert model.encoder.weights != clip().weights


def test_weights_that_are_not_finite_are_refused(loaded: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "adapted.safetensors"
    state = adapted(file).state_dict()
    save_file(state | {"visual.proj": state["visual.proj"] * float("nan")}, file)
    with pytest.raises(DataError, match=r"finite weights, got visual\.proj with nan or inf; take"):
        zeroshot.load(params(), "tiny", file)


def test_a_set_without_prompts_of_its_own_says_so() -> None:
    score = zeroshot.Score("mine", 0.5, 1.0, 0.5, 10, True)
    assert score.line() == (
        "mine: 50.0 % [23.7, 76.3], top-5 100.0, mean over classes 50.0; n = 10; prompt: "
        "A photo of {}."
    )


def test_metrics_files_have_the_originals_columns_and_replace_a_row(tmp_path: Path) -> None:
    first = zeroshot.Score("digits", 0.5, 0.9, 0.5, 10, False)
    zeroshot.metrics_csv(tmp_path, [first], 1000)
    zeroshot.metrics_csv(tmp_path, [dataclasses.replace(first, top1=0.25)], 0)
    (path,) = zeroshot.metrics_csv(tmp_path, [dataclasses.replace(first, top1=0.75)], 1000)
    assert path == tmp_path / "metrics_digits.csv"
    assert list(csv.reader(path.read_text().splitlines())) == [
        ["iteration", "top1", "top5"],
        ["0", "25.0000", "90.0000"],
        ["1000", "75.0000", "90.0000"],
    ]
    path.write_text("epoch,loss\n1,2\n")
    with pytest.raises(DataError, match="expected columns iteration,top1,top5"):
        zeroshot.metrics_csv(tmp_path, [first], 0)
    assert path.read_text() == "epoch,loss\n1,2\n"
    with pytest.raises(DataError, match=r"metrics_digits\.csv: expected columns"):
        zeroshot.metrics_rows(tmp_path, "digits")  # told before anything is tested
    with pytest.raises(DataError, match=r"expected a folder for metrics_digits\.csv, got a file"):
        zeroshot.metrics_rows(path, "digits")


def test_what_cannot_be_tested_is_refused(loaded: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of tiny, or a source"):
        zeroshot.load(params(), "clip")
    model = zeroshot.load(params(), "tiny")
    with pytest.raises(DataError, match="carryover data prepare food-101"):
        zeroshot.evaluate(model, "food-101")
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(DataError, match=r"expected the \d+ tensors of CLIP"):
        zeroshot.load(params(), "tiny", other)


def kept(file: Path, **changes: Any) -> Path:
    """What a study keeps of the tiny CLIP where training moved the logit scale alone."""
    encoder = clip()
    assert encoder.text is not None
    given = {
        "study": "sequence",
        "item": "plain",
        "cell": {"method": "finetune"},
        "network": "tiny",
        "start": digest([encoder.weights, encoder.text.digest]),
        "what": "model",
        "tensors": {"logit_scale": torch.tensor(2.0)},
    }
    checkpoints.write(file, Checkpoint(**given | changes))  # type: ignore[arg-type]
    return file


def test_a_kept_model_is_the_start_but_for_what_training_changed(
    loaded: list[Any], tmp_path: Path
) -> None:
    model = zeroshot.load(params(), "tiny", kept(tmp_path / "one.safetensors"))
    before, after = clip().model.state_dict(), model.encoder.model.state_dict()
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"logit_scale"}
    assert model.encoder.logit_scale == pytest.approx(7.389056)  # e squared
    assert model.adapted


def test_a_kept_model_of_another_kind_or_start_is_refused(
    loaded: list[Any], tmp_path: Path
) -> None:
    other = kept(tmp_path / "other.safetensors", start="0123456789abcdef")
    with pytest.raises(DataError, match=r"began from the weights \w+, got .* 0123456789abcdef"):
        zeroshot.load(params(), "tiny", other)
    image = kept(tmp_path / "image.safetensors", study="adapt", what="image")
    with pytest.raises(DataError, match=r"expected a model with its text, .* of adapt without"):
        zeroshot.load(params(), "tiny", image)
    foreign = kept(tmp_path / "foreign.safetensors", tensors={"more": torch.zeros(1)})
    with pytest.raises(DataError, match=r"1 unexpected \(more\)"):
        zeroshot.load(params(), "tiny", foreign)


def images_in(folder: Path) -> list[Path]:
    """Two images that decode and one that does not."""
    folder.mkdir()
    pixels = noise().pixels
    assert isinstance(pixels, torch.Tensor)
    for i in range(2):
        Image.fromarray(pixels[i, 0].numpy()).save(folder / f"{i}.png")
    (folder / "broken.PNG").write_bytes(b"\x89PNG and no more")
    (folder / "notes.txt").write_text("no image")
    return image_files(folder)


def test_images_are_named_in_order_and_a_broken_one_stops_no_other(
    loaded: list[Any], tmp_path: Path
) -> None:
    files = images_in(tmp_path / "some")
    assert [file.name for file in files] == ["0.png", "1.png", "broken.PNG"]
    names = ("cat", "dog", "ape")
    found = list(classify(zeroshot.load(params(), "tiny"), files, names, "", 2))
    assert isinstance(found[2], DataError)
    assert "broken.PNG: expected an image that decodes" in str(found[2])
    encoder = clip()
    assert encoder.text is not None
    with torch.no_grad():
        tokens = encoder.text.tokenize(names)
        W = unit_texts(encoder.model, tokens)
        pixels = noise().pixels
        assert isinstance(pixels, torch.Tensor)
        x = encoder.preprocess(pixels[1:2].expand(-1, 3, -1, -1).float() / 255)
        shares = (encoder.logit_scale * unit_images(encoder.model, x) @ W.T).softmax(1)[0]
    named = found[1]
    assert isinstance(named, Named)
    assert [name for name, _ in named.names] == [names[i] for i in shares.topk(2).indices]
    assert named.names[0][1] == pytest.approx(float(shares.max()), rel=1e-4)


def test_classes_come_from_a_set_or_a_file(pretrained: Checkout, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("cat\n\n dog \ncat\n")
    assert class_names("", file) == ("cat", "dog")
    assert len(class_names("digits", None)) == 10
    with pytest.raises(ConfigError, match="one of --dataset and --labels"):
        class_names("digits", file)
    with pytest.raises(DataError, match=r"got .nothing.; add a set of your own"):
        class_names("nothing", None)
    file.write_text("cat\n")
    with pytest.raises(DataError, match="two class names or more, one a line, got 1"):
        class_names("", file)
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="cannot read it"):
        class_names("", file)


def test_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected image files"):
        image_files(tmp_path)
    with pytest.raises(DataError, match="found none"):
        image_files(tmp_path / "absent.png")


def test_the_commands_print_lines_or_json(loaded: list[Any], tmp_path: Path) -> None:
    files, known = images_in(tmp_path / "some"), params()
    patch = pytest.MonkeyPatch()
    patch.setattr("carryover.config.params.read", lambda path: known)
    try:
        out = CliRunner().invoke(app, ["zeroshot", "tiny", "digits", "--json"])
        assert json.loads(out.stdout)[0]["dataset"] == "digits"
        out = CliRunner().invoke(app, ["zeroshot", "tiny", "digits", "food-101"])
        assert isinstance(out.exception, DataError)
        assert "%" not in out.stdout  # refused before the first set is tested
        asked = ["classify", str(files[0]), "--encoder", "tiny", "--dataset", "digits", "--json"]
        out = CliRunner().invoke(app, asked)
        assert len(json.loads(out.stdout)["names"]) == 5
        asked = ["classify", str(files[0].parent), "--encoder", "tiny", "--dataset", "digits"]
        out = CliRunner().invoke(app, asked)
        assert out.stdout.count("%") == 10
        assert isinstance(out.exception, DataError)
        assert "1 of 3 images were left out" in str(out.exception)
    finally:
        patch.undo()
