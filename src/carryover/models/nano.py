"""A small CLIP with a vocabulary of words: an open_clip network and its tokenizer, from a card."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover.errors import DataError, listed

if TYPE_CHECKING:
    from open_clip.model import CLIP

Tokenize = Callable[[Sequence[str]], Int64[Tensor, "n length"]]

WORD = re.compile(r"[a-z0-9]+")
SPECIAL = 3  # ids beside the words': padding 0, start and end, the two highest


def build(card: Mapping[str, Any]) -> CLIP:
    """The network that a card describes, weights as open_clip draws them from torch's own stream.

    Args:
        card: ``open_clip`` holds the arguments of open_clip's ``CLIP``.
    """
    from open_clip.model import CLIP

    return CLIP(**card["open_clip"], output_dict=True)


def words(sentence: str) -> list[str]:
    """Runs of letters and digits, lower case."""
    return WORD.findall(sentence.lower())


def vocabulary(sentences: Sequence[str]) -> list[str]:
    """Every word of some sentences, sorted."""
    return sorted({word for sentence in sentences for word in words(sentence)})


def tokenizer(card: Mapping[str, Any]) -> Tokenize:
    """What turns sentences into ids: start, words, end (the highest id), padding.

    Args:
        card: ``vocabulary`` lists the words, ``open_clip`` says how many ids a sentence takes.
    Returns:
        A function of sentences; it raises UnknownWords for a word outside the vocabulary, which the
        network cannot tell from any other, and DataError for too long a sentence.
    """
    known = {word: number for number, word in enumerate(card["vocabulary"], start=1)}
    start, end = len(known) + 1, len(known) + 2
    length: int = card["open_clip"]["text_cfg"]["context_length"]

    def tokenize(sentences: Sequence[str]) -> Int64[Tensor, "n length"]:
        ids = torch.zeros(len(sentences), length, dtype=torch.int64)
        for row, sentence in enumerate(sentences):
            found = words(sentence)
            strange = sorted({word for word in found if word not in known})
            if strange:
                raise UnknownWords(
                    f"{sentence!r}: expected words that the network was trained on, got "
                    f"{listed(strange)}; name the classes in its words, or take an encoder with a "
                    "larger vocabulary"
                )
            if len(found) > length - 2:
                raise DataError(
                    f"{sentence!r}: expected at most {length - 2} words, got {len(found)}; "
                    "shorten it"
                )
            values = [start, *(known[word] for word in found), end]
            ids[row, : len(values)] = torch.tensor(values)
        return ids

    return tokenize


class UnknownWords(DataError):
    """A sentence has words that a network was not trained on; the message names them."""


@dataclass(frozen=True, eq=False)
class Text:
    """The text side of a network: sentences to ids, ids to embeddings (not of unit length)."""

    tokenize: Tokenize
    encode: Callable[[Int64[Tensor, "n length"]], Float[Tensor, "n d"]]


def text(network: CLIP, card: Mapping[str, Any]) -> Text:
    """The text side of a built network."""
    return Text(tokenizer(card), network.encode_text)
