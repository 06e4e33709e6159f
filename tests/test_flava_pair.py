"""The pipeline's own FLAVA: the parts that contrast trains, and the encoder made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import FlavaConfig, FlavaModel

from carryover.models import nano, saved
from carryover.models.encoders import Encoder, Feature, features, load
from carryover.models.flava_pair import FlavaPair

BLOCKS = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
CONFIG: dict[str, Any] = {
    "projection_dim": 8,
    "image_config": BLOCKS
    | {"num_hidden_layers": 2, "image_size": 16, "patch_size": 8, "mask_token": False},
    "text_config": BLOCKS | {"num_hidden_layers": 1, "vocab_size": 8, "max_position_embeddings": 6},
    "multimodal_config": BLOCKS | {"num_hidden_layers": 0},
}
CARD = {
    "flava": CONFIG,
    "vocabulary": ["blue", "circle", "red"],
    "preprocess": {
        "size": 16,
        "resize": "squash",
        "interpolation": "bilinear",
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "shorter": 0,
    },
}
IDS = torch.tensor([[4, 3, 2, 5, 0, 0], [4, 1, 5, 0, 0, 0]])  # start, words, end, padding


@pytest.fixture(scope="module")
def pair() -> FlavaPair:
    """With every parameter drawn, so that each matters."""
    random = torch.Generator().manual_seed(3)
    made = FlavaPair(CONFIG)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim:
                parameter.normal_(0.1, 0.3, generator=random)
    return made.eval()


@pytest.fixture
def encoder(pair: FlavaPair, tmp_path: Path) -> Encoder:
    saved.save(tmp_path / "data/models/flava-nano", pair, CARD)
    return load("pretrain:flava-nano", base=tmp_path)


def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_embeddings_are_those_of_transformers(pair: FlavaPair) -> None:
    whole = FlavaModel(FlavaConfig(**CONFIG)).eval()
    missing, unexpected = whole.load_state_dict(pair.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {
        *("image_model", "text_model", "multimodal_model"),
        *("image_to_mm_projection", "text_to_mm_projection"),
    }
    assert all("pooler" in name for name in missing if name.startswith(("image_model", "text_m")))
    with torch.inference_mode():
        x = images()
        theirs = whole.get_image_features(x).pooler_output[:, 0]
        torch.testing.assert_close(pair.encode_image(x), theirs)
        mask = (IDS != 0).long()
        text = whole.get_text_features(IDS, attention_mask=mask).pooler_output[:, 0]
        torch.testing.assert_close(pair.encode_text(IDS), text)


def test_padding_does_not_change_a_sentence(pair: FlavaPair) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(pair.encode_text(IDS)[1:], pair.encode_text(IDS[1:, :3]))
        assert not torch.allclose(pair.encode_text(IDS)[0], pair.encode_text(IDS)[1])


def test_the_loss_reaches_every_parameter(pair: FlavaPair) -> None:
    out = pair(images()[:2], IDS)
    assert out["image_features"].norm(dim=1).tolist() == pytest.approx([1, 1])
    assert out["text_features"].norm(dim=1).tolist() == pytest.approx([1, 1])
    products = out["logit_scale"] * out["image_features"] @ out["text_features"].T
    torch.nn.functional.cross_entropy(products, torch.arange(2)).backward()
    untouched = [name for name, p in pair.named_parameters() if p.grad is None]
    assert untouched == []


def test_the_network_loads_by_its_card(pair: FlavaPair, encoder: Encoder) -> None:
    assert encoder.kinds == ("cls", "pooled", "tokens", "projected")
    assert encoder.preprocess.std == (0.25,) * 3
    assert list(encoder.groups) == ["embed", "block0", "block1", "output"]
    assert encoder.logit_scale == pytest.approx(float(pair.logit_scale.detach().exp()))
    found = features(encoder, images(), [Feature(kind) for kind in encoder.kinds])
    tokens = pair.image_model(encoder.preprocess(images()))[0]
    torch.testing.assert_close(found[Feature("tokens")], tokens)
    torch.testing.assert_close(found[Feature("cls")], tokens[:, 0])
    projected = pair.encode_image(encoder.preprocess(images()))
    torch.testing.assert_close(found[Feature("projected")], projected)
    text = encoder.text
    assert text is not None
    ids = text.tokenize(["red circle", "blue"])
    assert torch.equal(ids, IDS)
    torch.testing.assert_close(text.encode(ids), nano.text(pair, CARD).encode(ids))


def test_its_digests_are_of_its_own_side(pair: FlavaPair, encoder: Encoder, tmp_path: Path) -> None:
    other = FlavaPair(CONFIG)
    other.load_state_dict(pair.state_dict())
    with torch.no_grad():
        other.text_projection.weight[0, 0] += 1
    saved.save(tmp_path / "data/models/other", other, CARD)
    changed = load("pretrain:other", base=tmp_path)
    assert changed.weights == encoder.weights
    assert changed.text is not None
    assert encoder.text is not None
    assert changed.text.digest != encoder.text.digest
