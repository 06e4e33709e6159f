"""What is said of classes, and the zero-shot head made of it."""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from carryover.data import layouts_imagenet
from carryover.data.catalog import DATASETS
from carryover.data.rendered import RENDERED
from carryover.data.templates import NAMES
from carryover.errors import DataError
from carryover.models import prompts
from carryover.models.nano import Text

PUBLISHED = Path(__file__).parents[2] / "shared" / "reference" / "published" / "mtil"
OURS = {
    **{"aircraft": "Aircraft", "caltech101": "Caltech101", "cars": "StanfordCars", "dtd": "DTD"},
    **{"cifar10": "CIFAR10", "eurosat": "EuroSAT", "flowers": "Flowers", "food-101": "Food"},
    **{"mnist": "MNIST", "oxford-pet": "OxfordPet", "sun397": "SUN397"},
}


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


def test_a_set_can_be_told_by_the_sentences_of_another() -> None:
    found = prompts.class_prompts("textures", ["fine_grid"], sentences_of="shapes")
    assert found == [["a fine grid", "a photo of a fine grid", "an image of a fine grid"]]


def test_names_have_spaces_for_underscores_or_are_said_otherwise() -> None:
    assert prompts.class_prompts("pets", ["sea_lion"]) == [["A photo of sea lion."]]
    found = prompts.class_prompts("caltech101", ["Faces", "ceiling_fan"])
    assert [group[0] for group in found] == [
        "a photo of a off-center face.",
        "a photo of a ceiling fan.",
    ]
    assert [len(group) for group in found] == [34, 34]
    found = prompts.class_prompts("mnist", [str(value) for value in range(10)])
    assert found[3] == ['a photo of the number: "3 - three".']


def test_all_sets_of_mtil_but_three_have_the_published_sentences() -> None:
    own = {"digits", "letters", "shapes", "textures", "colours"}
    without = {"fmow", "iwildcam", "ytbb-robust"}
    captions_and_more = {"celeba", "conceptual-captions", "fashion-mnist"}  # not of MTIL's classes
    parts = {"cars196": "cars", "dtd10": "dtd", "flowers89": "flowers", "food10": "food-101"}
    assert {*prompts.TEMPLATES} == {*DATASETS, *own, *parts} - without - captions_and_more
    assert all(prompts.TEMPLATES[part] == prompts.TEMPLATES[name] for part, name in parts.items())
    assert all(each.count("{}") == 1 for group in prompts.TEMPLATES.values() for each in group)
    counts = {"aircraft": 2, "caltech101": 34, "cars": 9, "cifar10": 18, "cifar100": 18, "dtd": 8}
    counts |= {"eurosat": 3, "flowers": 1, "food-101": 1, "mnist": 1, "oxford-pet": 1, "sun397": 2}
    assert {name: len(prompts.TEMPLATES[name]) for name in counts} == counts


def test_imagenet_has_the_sentences_of_open_clip_the_trained_one_first() -> None:
    metadata = runpy.run_path(str(layouts_imagenet._package("open_clip") / "zero_shot_metadata.py"))
    theirs = [template("{}") for template in metadata["OPENAI_IMAGENET_TEMPLATES"]]
    ours = list(prompts.TEMPLATES["imagenet"])
    assert ours[0] == "a photo of a {}."
    assert sorted(ours) == sorted(theirs)
    assert len(set(ours)) == 80


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published lists are not here")
def test_sentences_and_names_are_the_published_ones() -> None:
    theirs = json.loads((PUBLISHED / "prompt_templates.json").read_text())["templates"]
    for name, published in OURS.items():
        assert list(prompts.TEMPLATES[name]) == theirs[published]
    names = json.loads((PUBLISHED / "class_names.json").read_text())["class_names"]
    assert layouts_imagenet.imagenet_names() == names["ImageNet"]
    said = [group[0] for group in prompts.class_prompts("eurosat", sorted(NAMES["eurosat"]))]
    assert said == [f"a centered satellite photo of {name}." for name in names["EuroSAT"]]
    assert {*NAMES["caltech101"].values()} <= {*names["Caltech101"]}


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


def test_generic_prompts_leave_the_sets_own_out() -> None:
    assert prompts.class_prompts("shapes", ["disc", "star"], generic=True) == [
        ["A photo of disc."],
        ["A photo of star."],
    ]
