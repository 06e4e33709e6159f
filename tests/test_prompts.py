"""What is said of classes, and the zero-shot head made of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from carryover.data.rendered import RENDERED
from carryover.errors import DataError
from carryover.models import prompts
from carryover.models.nano import Text


def test_digits_are_spoken_as_words() -> None:
    found = prompts.class_prompts("digits", [str(value) for value in range(10)])
    assert found[3][0] == "the digit three"
    assert [len(group) for group in found] == [4] * 10


def test_a_letter_and_a_digit_of_letters_are_told_apart() -> None:
    found = prompts.class_prompts("letters", tuple(RENDERED["letters"].images["train"]))
    assert [found[0][0], found[26][0]] == ["the letter a", "the digit zero"]
    assert len({tuple(group) for group in found}) == 36


def test_other_sets_have_the_published_template() -> None:
    assert prompts.class_prompts("food", ["pizza", "ramen"]) == [
        ["A photo of pizza."],
        ["A photo of ramen."],
    ]


def test_texts_for_another_number_of_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"digits: expected 10 classes, .*got 2"):
        prompts.class_prompts("digits", ["0", "1"])


def test_class_weights_are_unit_means_of_unit_embeddings() -> None:
    table = {"a": [3.0, 0.0], "b": [0.0, 9.0], "c": [-1.0, 0.0]}

    def tokenize(sentences: Sequence[str]) -> Tensor:
        return torch.tensor([list(table).index(sentence) for sentence in sentences])[:, None]

    def encode(ids: Tensor) -> Tensor:
        return torch.tensor([list(table.values())[i] for i in ids[:, 0].tolist()])

    weights = prompts.class_weights(Text(tokenize, encode), [["a", "b"], ["c"]])
    half = 0.5**0.5
    torch.testing.assert_close(weights, torch.tensor([[half, half], [-1.0, 0.0]]))


def test_zero_shot_logits_are_scaled_cosines() -> None:
    found = prompts.zero_shot_logits(torch.tensor([[0.0, 5.0]]), torch.eye(2), 10.0)
    assert found.tolist() == [[0.0, 10.0]]
