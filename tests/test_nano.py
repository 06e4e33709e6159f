"""The small image-text networks and their words."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from carryover.errors import DataError
from carryover.models import nano

CARD = {
    "vocabulary": ["a", "circle", "red", "the"],
    "open_clip": {
        "embed_dim": 8,
        "vision_cfg": {
            "image_size": 16,
            "patch_size": 8,
            "width": 16,
            "layers": 2,
            "head_width": 8,
        },
        "text_cfg": {"context_length": 6, "vocab_size": 7, "width": 16, "heads": 2, "layers": 1},
    },
}

BLOCKS = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
FLAVA = {
    "vocabulary": CARD["vocabulary"],
    "flava": {
        "projection_dim": 8,
        "image_config": BLOCKS
        | {"num_hidden_layers": 2, "image_size": 16, "patch_size": 8, "mask_token": False},
        "text_config": BLOCKS
        | {"num_hidden_layers": 1, "vocab_size": 7, "max_position_embeddings": 6},
        "multimodal_config": BLOCKS | {"num_hidden_layers": 0},
    },
}


def test_words_are_lower_case_runs_of_letters_and_digits() -> None:
    assert nano.words("A photo of the digit 3.") == ["a", "photo", "of", "the", "digit", "3"]
    assert nano.vocabulary(["the red circle", "A circle"]) == CARD["vocabulary"]


@pytest.mark.parametrize("card", [CARD, FLAVA])
def test_ids_are_start_words_end_padding(card: dict[str, Any]) -> None:
    found = nano.tokenizer(card)(["A red circle.", "the"])
    assert found.tolist() == [[5, 1, 3, 2, 6, 0], [5, 4, 6, 0, 0, 0]]


def test_a_strange_word_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"'a blue circle': expected words .* got blue"):
        nano.tokenizer(CARD)(["a red circle", "a blue circle"])


def test_too_long_a_sentence_is_refused() -> None:
    with pytest.raises(DataError, match="expected at most 4 words, got 5"):
        nano.tokenizer(CARD)(["a red red red circle"])


def test_the_network_has_the_shapes_of_the_card() -> None:
    network = nano.build(CARD)
    assert network.visual(torch.zeros(3, 3, 16, 16)).shape == (3, 8)
    assert network.visual.positional_embedding.shape == (5, 16)  # four patches and the class
    assert network.token_embedding.weight.shape == (7, 16)


def test_padding_does_not_change_a_sentence() -> None:
    network = nano.build(CARD).eval()
    text = nano.text(network, CARD)
    ids = text.tokenize(["the circle"])
    other = ids.clone()
    other[:, 4:] = 1  # after the end, which a causal network cannot see from there
    with torch.inference_mode():
        assert torch.equal(text.encode(ids), text.encode(other))
        assert not torch.equal(text.encode(ids), text.encode(text.tokenize(["the red"])))


def test_a_card_without_a_config_is_refused() -> None:
    with pytest.raises(DataError, match="a config under open_clip, flava, got vocabulary"):
        nano.build({"vocabulary": []})
