from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    FlavaConfig,
    FlavaForPreTraining,
    FlavaImageModel,
    FlavaModel,
    FlavaTextModel,
)

from carryover.errors import ConfigError, DataError
from carryover.models.encoders import Feature, features, load

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "cat", "dog", "two"]
CONFIG = {
    "image_config": SMALL | {"image_size": 16, "patch_size": 8},
    "text_config": SMALL | {"vocab_size": len(WORDS), "max_position_embeddings": 80},
    "multimodal_config": SMALL,
    "hidden_size": 16,
    "projection_dim": 12,
    "image_codebook_config": {"num_groups": 1, "hidden_size": 4, "num_blocks_per_group": 1},
}


def drawn(network: Any) -> Any:
    """The network in evaluation mode with every parameter drawn, so that each matters."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim:
                parameter.normal_(0.1, 0.3, generator=generator)
    return network.eval()


@pytest.fixture(scope="module")
def model() -> Any:
    return drawn(FlavaModel(FlavaConfig(**CONFIG)))


@pytest.fixture
def folder(model: Any, tmp_path: Path) -> Path:
    """A folder in Hugging Face's layout, with its vocabulary."""
    model.save_pretrained(tmp_path / "flava")
    (tmp_path / "flava" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (tmp_path / "flava" / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    fields = {"size": {"height": 16, "width": 16}, "crop_size": {"height": 16, "width": 16}}
    fields |= {"resample": 3, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "flava" / "preprocessor_config.json").write_text(json.dumps(fields))
    return tmp_path / "flava"


def images() -> Tensor:
    return torch.rand(3, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=1e-6)


def test_features_are_those_of_transformers(model: Any, folder: Path) -> None:
    encoder = load("flava", "flava", base=folder.parent)
    assert encoder.kinds == ("cls", "pooled", "tokens", "projected")
    assert encoder.preprocess.std == (0.25, 0.25, 0.25)
    wanted = [Feature(kind) for kind in encoder.kinds]
    wanted += [Feature("tokens", layer) for layer in ("embed", "block0", "block1")]
    found = features(encoder, images(), wanted)
    x = encoder.preprocess(images())
    theirs = model.image_model(x, output_hidden_states=True)
    near(found[Feature("tokens")], theirs.last_hidden_state)
    near(found[Feature("cls")], theirs.last_hidden_state[:, 0])
    near(found[Feature("pooled")], theirs.last_hidden_state[:, 1:].mean(1))
    projected = model.get_image_features(x).pooler_output[:, 0]
    near(found[Feature("projected")], projected)
    near(encoder.image(x), projected)
    for layer, hidden in zip(("embed", "block0", "block1"), theirs.hidden_states, strict=True):
        near(found[Feature("tokens", layer)], hidden)


def test_the_image_model_alone_has_no_projection(model: Any, tmp_path: Path) -> None:
    model.image_model.save_pretrained(tmp_path)
    encoder = load("flava-image", str(tmp_path))
    assert isinstance(encoder.model, FlavaImageModel)
    assert encoder.kinds == ("cls", "pooled", "tokens")
    assert encoder.text is None
    found = features(encoder, images(), [Feature("cls")])[Feature("cls")]
    x = encoder.preprocess(images())
    near(found, model.image_model(x, interpolate_pos_encoding=False).last_hidden_state[:, 0])
    with pytest.raises(ConfigError, match="among cls, pooled, tokens, got 'projected'"):
        features(encoder, images(), [Feature("projected")])


def test_the_image_part_is_found_in_a_whole_checkpoint(folder: Path) -> None:
    whole, part = (load(source, str(folder)) for source in ("flava", "flava-image"))
    for name, tensor in part.image.state_dict().items():
        assert torch.equal(tensor, whole.image.state_dict()[name]), name


def test_the_checkpoint_of_pretraining_loads_without_its_heads(tmp_path: Path) -> None:
    checkpoint = drawn(FlavaForPreTraining(FlavaConfig(**CONFIG)))
    checkpoint.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert any(name.startswith("flava.image_model") for name in tensors)
    assert any(name.startswith("image_codebook") for name in tensors)
    (tmp_path / "model.safetensors").unlink()
    old = {"flava.text_model.embeddings.position_ids": torch.arange(80)[None]}
    torch.save(tensors | old, tmp_path / "pytorch_model.bin")
    for source in ("flava", "flava-image"):
        encoder = load(source, str(tmp_path))
        x = torch.rand(2, 3, 16, 16)
        theirs = checkpoint.flava.image_model(encoder.preprocess(x)).last_hidden_state[:, 0]
        near(features(encoder, x, [Feature("cls")])[Feature("cls")], theirs)


def test_shards_are_read_together(folder: Path) -> None:
    expected = load("flava", str(folder)).weights
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert load("flava", str(folder)).weights == expected


def test_text_is_the_projected_class_token_and_padding_changes_nothing(
    model: Any, folder: Path
) -> None:
    encoder = load("flava", str(folder))
    assert encoder.text is not None
    assert isinstance(encoder.text.module, FlavaTextModel)
    ids = encoder.text.tokenize(["a photo of a cat", "two dog"])
    assert ids.shape == (2, 77)
    assert ids[1, :5].tolist() == [2, 10, 9, 3, 0]
    alone = model.get_text_features(ids[1:, :4]).pooler_output[:, 0]
    torch.testing.assert_close(encoder.text.encode(ids)[1:].detach(), alone.detach())
    assert encoder.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))


def test_without_a_vocabulary_there_is_no_text(folder: Path) -> None:
    (folder / "vocab.txt").unlink()
    assert load("flava", str(folder)).text is None


def test_groups_hold_every_parameter_that_the_features_use(folder: Path) -> None:
    encoder = load("flava", str(folder))
    assert list(encoder.groups) == ["embed", "block0", "block1", "output"]
    names = [name for group in encoder.groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in encoder.image.named_parameters())
    assert encoder.groups["output"] == [
        *("layernorm.weight", "layernorm.bias", "projection.weight", "projection.bias")
    ]
    assert not any("pooler" in name for name in names)


def test_weights_of_another_model_are_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["extra.weight"] = tensors.pop("image_projection.weight")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        DataError, match=r"1 missing \(image_projection\.weight\), 1 unexpected \(extra\.weight\)"
    ):
        load("flava", str(folder))


def test_preprocessing_for_another_size_is_refused(folder: Path) -> None:
    fields = json.loads((folder / "preprocessor_config.json").read_text())
    changed = fields | {"size": 32, "crop_size": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match=r"expected images of 16 pixels, as config.json .*got 32"):
        load("flava", str(folder))


def test_a_model_in_the_cache_is_loaded_by_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    with pytest.raises(DataError, match=r"^facebook/flava-full: .*hf download facebook/flava-full"):
        load("flava", "facebook/flava-full")
    repository = cache / "models--facebook--flava-full"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    assert load("flava", "facebook/flava-full").weights == load("flava", str(folder)).weights


def test_a_folder_without_the_files_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none/config\.json: expected a folder in Hugging Face's"):
        load("flava", str(tmp_path / "none"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"expected model\.safetensors or pytorch_model\.bin"):
        load("flava", str(folder))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", "[1, 2]", r"config\.json: expected JSON with names and values, got list"),
        ("config.json", "[" * 100_000, r"config\.json: expected JSON, cannot read it"),
        ("config.json", '{"image_config": 3}', r"flava: expected flava .*cannot make it of what"),
        ("config.json", '{"projection_dim": "wide"}', "flava: expected flava .*cannot make it"),
        ("preprocessor_config.json", "{", r"preprocessor_config\.json: expected JSON, cannot"),
        ("preprocessor_config.json", '{"image_mean": 0.5}', "flava: expected flava .*cannot make"),
        ("model.safetensors.index.json", "{}", "flava: expected flava .*KeyError: 'weight_map'"),
        ("model.safetensors.index.json", '{"weight_map": []}', "flava: expected flava .*cannot"),
        ("tokenizer.json", "{}", "flava: expected flava .*cannot make it of what is there"),
    ],
)
def test_a_damaged_file_beside_the_weights_is_named(
    folder: Path, file: str, content: str, said: str
) -> None:
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=said):
        load("flava", "flava", base=folder.parent)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image_std": [0.5, 0.0, 0.5]}, r"deviations above 0, got \[0\.5, 0\.5, 0\.5\] and \["),
        ({"image_mean": [float("nan")] * 3}, r"expected three finite means .* got \[nan, nan"),
        ({"image_mean": [0.5], "image_std": [0.5]}, r"expected three finite means"),
    ],
)
def test_preprocessing_that_no_image_survives_is_refused(
    folder: Path, fields: dict[str, Any], said: str
) -> None:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(DataError, match=rf"flava: expected flava .*{said}"):
        load("flava", "flava", base=folder.parent)
