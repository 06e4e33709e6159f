"""The embeddings of one encoder in a folder: what stage ``embed@ENCODER`` hands to the studies.

One file a split with all features, labels and ids, one for the class prompts of a data set, and a
manifest with the SHA-256 of each. Nothing in it names a library version or a machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover.bank_files import mapped, written
from carryover.errors import DataError, listed
from carryover.files import digest
from carryover.models.features import Feature

Precision = Literal["float32", "bfloat16"]

TEXT = "text"  # name of the file of class prompts
ROWS_AT_ONCE = 256  # copied at a time
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """One feature of the images of one split, one image a row.

    Attributes:
        shards: the rows in order, memory mapped, in one or more parts.
        labels: class ids 0..C-1.
        ids: row of each image in its source.
        data: digest of the images.
        encoder: digest of the encoder's weights.
        key: digest of all that the values depend on.
    """

    shards: tuple[Float[Tensor, ...], ...]
    labels: Int64[Tensor, " n"]
    ids: Int64[Tensor, " n"]
    data: str
    encoder: str
    feature: Feature
    precision: Precision
    key: str

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def values(self) -> Float[Tensor, "n ..."]:
        """All rows: memory mapped where there is one shard, else copied into memory."""
        return self.shards[0] if len(self.shards) == 1 else torch.cat(self.shards)


def name_of(feature: Feature) -> str:
    """What a feature is called in files: ``projected``, ``block2/pooled``."""
    return f"{feature.layer}/{feature.kind}" if feature.layer else feature.kind


def write_split(folder: Path, split: str, found: Mapping[Feature, Embeddings]) -> dict[str, Any]:
    """Write all features of a split to ``<split>.safetensors``; what the manifest says of it."""
    first = next(iter(found.values()))
    parts: dict[str, tuple[Tensor, ...]] = {"labels": (first.labels,), "ids": (first.ids,)}
    # the widest numbers first, so that each tensor starts at a multiple of its numbers' size
    ordered = sorted(found.values(), key=lambda one: -one.shards[0].itemsize)
    parts |= {name_of(one.feature): one.shards for one in ordered}
    layout = {
        name: (shards[0].dtype, (len(first), *shards[0].shape[1:]))
        for name, shards in parts.items()
    }
    path = folder / f"{split}.safetensors"
    with written(path, layout, {}) as stream:
        for shards in parts.values():
            for rows in (rows for shard in shards for rows in shard.split(ROWS_AT_ONCE)):
                stream.add(rows)
    return {
        "images": len(first),
        "digest": first.data,
        "features": {name_of(one.feature): one.precision for one in ordered},
        "sha256": _sha256(path),
    }


def write_text(folder: Path, prompts: Float[Tensor, "c k d"]) -> dict[str, Any]:
    """Write the class prompts of a data set; what the manifest says of them."""
    path = folder / f"{TEXT}.safetensors"
    with written(path, {TEXT: (prompts.dtype, tuple(prompts.shape))}, {}) as stream:
        stream.add(prompts)
    return {"shape": list(prompts.shape), "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest(folder: Path) -> dict[str, Any]:
    """What a folder of embeddings says of itself: encoder, data sets, splits and digests.

    Raises:
        DataError: the stage has not run, or the manifest was altered.
    """
    path = folder / "manifest.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
        if facts["digest"] != manifest_digest(facts):
            raise ValueError("its digest differs")
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: expected embeddings, found none; run `dvc repro embed@{folder.name}`"
        ) from error
    except UNREADABLE as error:
        raise _altered(path, folder) from error
    return facts


def manifest_digest(facts: Mapping[str, Any]) -> str:
    """Digest of all that a manifest says but of itself."""
    return digest({key: value for key, value in facts.items() if key != "digest"})


def read(folder: Path, dataset: str, split: str, feature: Feature) -> Embeddings:
    """One feature of one split, memory mapped, after its file was verified.

    Args:
        folder: ``data/embeddings/<encoder>``.
    Raises:
        DataError: not embedded, or the file was altered.
    """
    facts = manifest(folder)
    about = _of_dataset(facts, folder, dataset)["splits"]
    if split not in about:
        raise DataError(f"{folder}: {dataset}: expected a split among {listed(about)}, got {split}")
    name, known = name_of(feature), about[split]["features"]
    if name not in known:
        raise DataError(
            f"{folder}: {dataset}/{split}: expected a feature among {listed(known)}, got {name}; "
            f"add it to encoders.{folder.name} and run `dvc repro embed@{folder.name}`"
        )
    tensors = _verified(folder, f"{dataset}/{split}.safetensors", about[split]["sha256"])
    data, precision = about[split]["digest"], known[name]
    return Embeddings(
        (tensors[name],),
        tensors["labels"].clone(),
        tensors["ids"].clone(),
        data,
        facts["weights"],
        feature,
        precision,
        digest([facts["weights"], facts["preprocess"], data, name, precision]),
    )


def read_text(folder: Path, dataset: str) -> Float[Tensor, "c k d"]:
    """Embeddings of a data set's class prompts, of unit length: classes x templates.

    Raises:
        DataError: not embedded, an encoder without text, or the file was altered.
    """
    about = _of_dataset(manifest(folder), folder, dataset)
    if about[TEXT] is None:
        raise DataError(
            f"{folder}: expected embeddings of class prompts of {dataset}, there are none: "
            f"{folder.name} has no text network, or was not trained on these words; name another "
            "encoder, or leave out what needs them (zero-shot, a head of texts)"
        )
    return _verified(folder, f"{dataset}/{TEXT}.safetensors", about[TEXT]["sha256"])[TEXT]


def has_text(folder: Path, dataset: str) -> bool:
    """Whether there are embeddings of a data set's class prompts."""
    return _of_dataset(manifest(folder), folder, dataset)[TEXT] is not None


def _of_dataset(facts: Mapping[str, Any], folder: Path, dataset: str) -> dict[str, Any]:
    found: dict[str, Any] = facts["datasets"]
    if dataset not in found:
        raise DataError(
            f"{folder}: expected a data set among {listed(found)}, got {dataset!r}; add it to "
            f"encoders.{folder.name}.datasets and run `dvc repro embed@{folder.name}`"
        )
    return dict(found[dataset])


def check(folder: Path) -> None:
    """Compare every file of a folder of embeddings with its digest.

    Raises:
        DataError: something differs; the message names the file.
    """
    for name, about in manifest(folder)["datasets"].items():
        files = {split: each["sha256"] for split, each in about["splits"].items()}
        if about[TEXT] is not None:
            files[TEXT] = about[TEXT]["sha256"]
        for file, expected in files.items():
            _verified(folder, f"{name}/{file}.safetensors", expected)


def _verified(folder: Path, name: str, expected: str) -> dict[str, Tensor]:
    path = folder / name
    try:
        if _sha256(path) != expected:
            raise _altered(path, folder)
    except OSError as error:
        raise _altered(path, folder) from error
    return mapped(path)


def _altered(path: Path, folder: Path) -> DataError:
    return DataError(
        f"{path}: expected the bytes that were written, got others or none; run "
        f"`dvc repro -f embed@{folder.name}`"
    )
