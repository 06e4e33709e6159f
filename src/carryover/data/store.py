"""The prepared form of a data set: shards of images and a manifest, whole or absent."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from safetensors.torch import load_file
from torch import Tensor

from carryover import run
from carryover.data import shards
from carryover.data.catalog import (
    DATASETS,
    RENDERED,
    Source,
    expect_known,
    slug,
    source_digest,
)
from carryover.data.images import Encoded, Images, Table, as_channels, decode
from carryover.errors import DataError, listed
from carryover.files import digest, write_json

RAW_LIMIT = 64 * 64 * 3  # values an image; larger ones are smaller on disk as their source bytes
ORDER = ("train", "validation", "test")
KEYS = ("name", "kind", "source", "class_names", "channels", "shape", "layout")  # of a manifest
SPLIT_KEYS = {"images", "per_class", "digest", "files"}
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def prepare(
    name: str, source: Source, table: Table, out: Path, cache_folder: Path
) -> dict[str, Any]:
    """Check a data set and write its prepared form; equal inputs give equal bytes.

    Every image is decoded once. `out` is replaced as a whole, or left as it is on failure.

    Args:
        name: a known name's counts and shape are asserted.
        source: where the table was read from.
        cache_folder: where digests of the source's files are remembered.
    Returns:
        The manifest.
    Raises:
        DataError: the source cannot be used; `out` is untouched.
    """
    counts = {split: table.splits.count(split) for split in ORDER if split in table.splits}
    expect_known(name, table.origin, counts, len(table.class_names))
    pixels, channels, shape = _decoded(table)
    expect_known(name, table.origin, counts, len(table.class_names), (channels, *shape))
    work = out.parent / f".{out.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    try:
        splits = {}
        for split in counts:
            rows = [row for row, part in enumerate(table.splits) if part == split]
            splits[split] = shards.write(table, rows, pixels, channels, split, work)
        facts = {
            "name": name,
            "kind": source.kind,
            "source": source_digest(source, cache_folder),
            "class_names": list(table.class_names),
            "channels": channels,
            "shape": [channels, *shape] if shape else "mixed",
            "layout": "encoded" if pixels is None else "raw",
            "splits": splits,
            "digest": _set_digest(splits),
        }
        write_json(work / "manifest.json", facts)
        shutil.rmtree(out, ignore_errors=True)
        work.replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return facts


def _decoded(table: Table) -> tuple[UInt8[Tensor, "n c h w"] | None, int, tuple[int, ...]]:
    """Pixels when all images have one small size, channels of the set, and (h, w) or ()."""
    if isinstance(table.images, Tensor):
        return table.images, table.images.shape[1], tuple(table.images.shape[2:])
    kept: list[Tensor] = []
    channels, sizes, small = 1, set(), True
    for row in _progress(len(table.images), f"decoding {table.origin}"):
        image = decode(table.content(row), table.place(row))
        channels = max(channels, len(image))
        sizes.add(tuple(image.shape[1:]))
        small = small and len(sizes) == 1 and channels * image[0].numel() <= RAW_LIMIT
        if small:
            kept.append(image)
        else:
            kept.clear()
    shape = sizes.pop() if len(sizes) == 1 else ()
    if not small:
        return None, channels, shape
    return torch.stack([as_channels(image, channels) for image in kept]), channels, shape


def _progress(count: int, what: str) -> Iterator[int]:
    from rich.console import Console
    from rich.progress import track

    hidden, console = run.quiet() or not sys.stderr.isatty(), Console(stderr=True)
    yield from track(range(count), what, console=console, transient=True, disable=hidden)


def _set_digest(splits: dict[str, Any]) -> str:
    return digest({split: facts["digest"] for split, facts in splits.items()})


def manifest(folder: Path) -> dict[str, Any]:
    """What a prepared set says of itself: names, counts and digests.

    Raises:
        DataError: the set is not prepared, or its manifest was altered.
    """
    path = folder / "manifest.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
        if _set_digest(facts["splits"]) != facts["digest"]:
            raise ValueError("the digest of its splits differs")
        missing = [key for key in KEYS if key not in facts]
        missing += [key for part in facts["splits"].values() for key in SPLIT_KEYS - part.keys()]
        if missing:
            raise KeyError(missing[0])
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: expected a prepared data set, found none; run `dvc repro data@{folder.name}`"
        ) from error
    except UNREADABLE as error:
        raise _altered(path) from error
    return facts


def prepared(sets: Path, name: str, path: str) -> Path:
    """The folder of a prepared set.

    Args:
        sets: folder of all sets.
        path: where the name was given, for the message.
    Raises:
        DataError: no name of a set, or of one that is not prepared; the message says whether it
            can be.
    """
    name = slug(name)
    if (sets / name / "manifest.json").exists():
        return sets / name
    if name in DATASETS or name in RENDERED:
        raise DataError(
            f"{path}: expected a prepared set under {sets}, got {name!r}, which is not; prepare it "
            f"with `carryover data prepare {name}`"
        )
    known = listed(sorted(each.parent.name for each in sets.glob("*/manifest.json")))
    raise DataError(
        f"{path}: expected a prepared set ({known}) or one of `carryover data list`, got {name!r}; "
        "add a set of your own to data.sources, then prepare it"
    )


def _altered(path: Path) -> DataError:
    return DataError(
        f"{path}: expected the file as it was prepared, got other bytes or none; run "
        f"`dvc repro -f data@{path.parent.name}`"
    )


def load(folder: Path, split: str) -> Images:
    """The images of one split of a prepared set.

    Raises:
        DataError: the set is not prepared, has no such split, or a file of it was altered.
    """
    facts = manifest(folder)
    if split not in facts["splits"]:
        raise DataError(
            f"{folder.name}: expected a split among {listed(facts['splits'])}, got {split!r}"
        )
    files = facts["splits"][split]["files"]
    for name, expected in files.items():
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _altered(folder / name) from error
        if found != expected:
            raise _altered(folder / name)
    parts = [load_file(folder / name) for name in sorted(files) if name.endswith(".safetensors")]
    return Images(
        labels=torch.cat([part["labels"] for part in parts]),
        class_names=tuple(facts["class_names"]),
        ids=torch.cat([part["ids"] for part in parts]),
        columns=_columns(folder / f"{split}-columns.parquet"),
        digest=facts["splits"][split]["digest"],
        pixels=_pixels(parts, facts["channels"]),
    )


def _columns(path: Path) -> dict[str, list[Any]]:
    import pyarrow.parquet as pq

    if not path.exists():
        return {}
    with pq.ParquetFile(path) as file:
        return dict(file.read().to_pydict())


def _pixels(parts: list[dict[str, Tensor]], channels: int) -> Tensor | Encoded:
    if "pixels" in parts[0]:
        pixels = [part["pixels"] for part in parts]
        return pixels[0] if len(pixels) == 1 else torch.cat(pixels)
    spans = []
    for number, part in enumerate(parts):
        ends = part["ends"]
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        spans.append(torch.stack([torch.full_like(ends, number), starts, ends], 1))
    return Encoded(tuple(part["bytes"] for part in parts), torch.cat(spans), channels)


def check(folder: Path) -> dict[str, Any]:
    """The manifest, after every file, count and digest of the set was compared with it.

    Raises:
        DataError: something differs; the message names it.
    """
    facts = manifest(folder)
    for split, about in facts["splits"].items():
        images = load(folder, split)
        per_class = shards.per_class(images.labels, len(images.class_names))
        said = (about["images"], about["per_class"], about["digest"])
        if said != (len(images), per_class, images.rows_digest()):
            raise _altered(folder / "manifest.json")
    counts = {split: about["images"] for split, about in facts["splits"].items()}
    shape = None if facts["shape"] == "mixed" else facts["shape"]
    expect_known(facts["name"], str(folder), counts, len(facts["class_names"]), shape)
    return facts


def is_stale(folder: Path, source: Source, cache_folder: Path) -> bool:
    """Whether the source's files are other ones than those the set was prepared from."""
    return bool(manifest(folder)["source"] != source_digest(source, cache_folder))
