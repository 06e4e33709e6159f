"""What to say of a class, and the zero-shot classifier made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from carryover.data.templates import NAMES, NUMBERS, OF_PHOTOS
from carryover.errors import DataError

GENERIC = ("A photo of {}.",)  # of the published adaptation study, for every set


@runtime_checkable
class Text(Protocol):
    """The text side of an encoder."""

    @property
    def tokenize(self) -> Callable[[Sequence[str]], Any]:
        """Sentences to what `encode` takes."""

    @property
    def encode(self) -> Callable[[Any], Any]:
        """To embeddings, one a sentence, of any length."""


def class_prompts(
    dataset: str, class_names: Sequence[str], generic: bool = False, sentences_of: str = ""
) -> list[list[str]]:
    """Sentences of each class, one a template; a set without its own has the general template.

    A class is called by its name in the set, with spaces for underscores, or as `NAMES` and
    `CLASS_TEXTS` have it.

    Args:
        generic: leave the templates of the set out, as if it had none.
        sentences_of: another set, whose templates are taken; "" for its own.
    Raises:
        DataError: the set's texts are for another number of classes.
    """
    said = NAMES.get(dataset, {})
    plain = tuple(said.get(name, name.replace("_", " ")) for name in class_names)
    texts = CLASS_TEXTS.get(dataset, plain)
    if len(texts) != len(class_names):
        raise DataError(
            f"{dataset}: expected {len(texts)} classes, as its prompts have it, got "
            f"{len(class_names)}; give the set another name, or name all its classes"
        )
    sentences = GENERIC if generic else TEMPLATES.get(sentences_of or dataset, GENERIC)
    return [[sentence.format(text) for sentence in sentences] for text in texts]


def class_weights(text: Text, prompts: Sequence[Sequence[str]]) -> Float[Tensor, "c d"]:
    """The zero-shot head: for each class the mean of its prompts' unit embeddings, made unit.

    Source: Radford et al. 2021, section 3.1.4.
    """
    sentences = [sentence for group in prompts for sentence in group]
    unit = F.normalize(text.encode(text.tokenize(sentences)).float(), dim=-1)
    means = [part.mean(0) for part in unit.split([len(group) for group in prompts])]
    return F.normalize(torch.stack(means), dim=-1)


def zero_shot_logits(
    embeddings: Float[Tensor, "n d"], class_weights: Float[Tensor, "c d"], scale: float
) -> Float[Tensor, "n c"]:
    """Scaled cosine of each image with each class; `class_weights` are of unit length."""
    return scale * F.normalize(embeddings, dim=-1) @ class_weights.T


CLASS_TEXTS: dict[str, tuple[str, ...]] = {
    "digits": NUMBERS,
    "letters": tuple(f"letter {letter}" for letter in "abcdefghijklmnopqrstuvwxyz")
    + tuple(f"digit {number}" for number in NUMBERS),
}

TEMPLATES: dict[str, tuple[str, ...]] = OF_PHOTOS | {
    "digits": ("the digit {}", "the number {}", "the blurred digit {}", "a photo of the digit {}"),
    "letters": ("the {}", "a photo of the {}", "an image of the {}"),
    "shapes": ("a {}", "a photo of a {}", "an image of a {}"),
    "textures": ("a {} pattern", "a {} texture", "a {} surface", "a photo of a {} texture"),
    "colours": ("something {}", "a {} shape", "a photo of something {}"),
}
