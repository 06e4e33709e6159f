"""A small image-text network with a vocabulary of words, and its tokenizer, from a card."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover.errors import DataError, listed

Tokenize = Callable[[Sequence[str]], Int64[Tensor, "n length"]]

WORD = re.compile(r"[a-z0-9]+")
SPECIAL = 3  # ids beside the words': padding 0, start and end, the two highest
CLIP_IDS = 49408  # of CLIP's byte pairs, the start and end of a sentence among them


def build(card: Mapping[str, Any]) -> Any:
    """The network that a card describes, its weights drawn from torch's own stream.

    It has ``encode_image``, ``encode_text`` and, of both, open_clip's output by name.

    Args:
        card: holds the config of one architecture, under that architecture's key.
    Raises:
        DataError: it holds none.
    """
    form = _form(card)
    return form.build(card[form.key])


def words(sentence: str) -> list[str]:
    """Runs of letters and digits, lower case."""
    return WORD.findall(sentence.lower())


def vocabulary(sentences: Sequence[str]) -> list[str]:
    """Every word of some sentences, sorted."""
    return sorted({word for sentence in sentences for word in words(sentence)})


def tokenizer(card: Mapping[str, Any]) -> Tokenize:
    """What turns sentences into ids: start, words, end (the highest id), padding.

    Args:
        card: ``vocabulary`` lists the words, or is "clip" for CLIP's byte pairs; the config says
            how many ids a sentence takes.
    Returns:
        A function of sentences; it raises UnknownWords for a word outside the vocabulary, which the
        network cannot tell from any other, and DataError for too long a sentence.
    """
    form = _form(card)
    length = form.context(card[form.key])
    if card["vocabulary"] == "clip":
        return _byte_pairs(length)
    known = {word: number for number, word in enumerate(card["vocabulary"], start=1)}
    start, end = len(known) + 1, len(known) + 2

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


def _byte_pairs(length: int) -> Tokenize:
    """CLIP's own tokenizer, which cuts nothing off."""
    from open_clip.tokenizer import SimpleTokenizer

    made = SimpleTokenizer()

    def tokenize(sentences: Sequence[str]) -> Int64[Tensor, "n length"]:
        for sentence in sentences:
            count = len(made.encode(sentence))
            if count > length - 2:
                raise DataError(
                    f"{sentence!r}: expected at most {length - 2} tokens, got {count}; shorten it, "
                    "or pretrain with a larger text.context"
                )
        ids: Tensor = made(list(sentences), context_length=length)
        return ids

    return tokenize


class UnknownWords(DataError):
    """A sentence has words that a network was not trained on; the message names them."""


@dataclass(frozen=True, eq=False)
class Text:
    """The text side of a network: sentences to ids, ids to embeddings (not of unit length)."""

    tokenize: Tokenize
    encode: Callable[[Int64[Tensor, "n length"]], Float[Tensor, "n d"]]


def text(network: Any, card: Mapping[str, Any]) -> Text:
    """The text side of a built network."""
    return Text(tokenizer(card), network.encode_text)


@dataclass(frozen=True)
class Form:
    """An architecture: the key of a card that holds its config, and what is read from that.

    Args:
        build: a network of a config.
        context: ids of a sentence by a config, with start and end.
    """

    key: str
    build: Callable[[Mapping[str, Any]], Any]
    context: Callable[[Mapping[str, Any]], int]


def _form(card: Mapping[str, Any]) -> Form:
    """The architecture whose config a card holds."""
    for form in FORMS.values():
        if form.key in card:
            return form
    raise DataError(
        f"card: expected a config under {listed(form.key for form in FORMS.values())}, got "
        f"{listed(card)}; pretrain the network again"
    )


def _clip(config: Mapping[str, Any]) -> Any:
    from open_clip.model import CLIP

    return CLIP(**config, output_dict=True)


def _flava(config: Mapping[str, Any]) -> Any:
    from carryover.models.flava_pair import FlavaPair

    return FlavaPair(config)


FORMS: dict[str, Form] = {
    "clip": Form("open_clip", _clip, lambda config: config["text_cfg"]["context_length"]),
    "flava": Form("flava", _flava, lambda c: c["text_config"]["max_position_embeddings"]),
}
