"""The files of one split of a prepared set: shards of images, and a table of their columns."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from safetensors.torch import save
from torch import Tensor

from carryover.data.images import Images, Table
from carryover.errors import DataError
from carryover.files import DIGEST_LETTERS, write_bytes

SHARD_BYTES = 128 * 2**20


def write(
    table: Table,
    rows: list[int],
    pixels: UInt8[Tensor, "n c h w"] | None,
    channels: int,
    split: str,
    folder: Path,
) -> dict[str, Any]:
    """Write the images of one split.

    Args:
        rows: of the table.
        pixels: of all images of the table; None to write their source bytes, of which one shard at
            a time is in memory, however large the set is.
        channels: of the set.
    Returns:
        What the manifest says of the split: counts, digest (`Images.rows_digest`) and files.
    Raises:
        DataError: a file cannot be read, or has changed on the way.
    """
    if pixels is None:
        return _write_encoded(table, rows, channels, split, folder)
    return _write_raw(_images(table, rows, pixels), split, folder)


def _images(table: Table, rows: list[int], pixels: UInt8[Tensor, "n c h w"]) -> Images:
    index = torch.tensor(rows)
    images = Images(
        labels=torch.tensor(table.labels)[index],
        class_names=table.class_names,
        ids=index,
        columns=_columns_of(table, rows),
        digest="",
        pixels=pixels[index],
    )
    return replace(images, digest=images.rows_digest())


def _columns_of(table: Table, rows: list[int]) -> dict[str, list[Any]]:
    return {name: [values[row] for row in rows] for name, values in table.columns.items()}


def _write_raw(images: Images, split: str, folder: Path) -> dict[str, Any]:
    assert isinstance(images.pixels, Tensor)
    step = max(1, SHARD_BYTES // images.pixels[0].numel())
    files: dict[str, str] = {}
    for number, start in enumerate(range(0, len(images), step)):
        part = slice(start, start + step)
        shard = {"labels": images.labels[part], "ids": images.ids[part]}
        content = save(shard | {"pixels": images.pixels[part]})
        files |= _written(folder / f"{split}-{number:05d}.safetensors", content)
    files |= _write_columns(images.columns, split, folder)
    return _about(images.labels, len(images.class_names), images.digest, files)


def _write_encoded(
    table: Table, rows: list[int], channels: int, split: str, folder: Path
) -> dict[str, Any]:
    """As `_write_raw`, of source bytes: one shard is in memory at a time, however large the set."""
    labels = torch.tensor([table.labels[row] for row in rows])
    lengths = torch.tensor([_length(table, row) for row in rows])
    state = hashlib.sha256(labels.numpy().tobytes())  # as `Images.rows_digest`
    state.update(f"encoded {channels}".encode())
    state.update(lengths.numpy().tobytes())
    files: dict[str, str] = {}
    for number, (start, end) in enumerate(_bounds(lengths.tolist())):
        content = b"".join(_content(table, rows[i], int(lengths[i])) for i in range(start, end))
        state.update(content)
        shard = {
            "labels": labels[start:end],
            "ids": torch.tensor(rows[start:end]),
            "bytes": torch.frombuffer(bytearray(content), dtype=torch.uint8),
            "ends": lengths[start:end].cumsum(0),
        }
        files |= _written(folder / f"{split}-{number:05d}.safetensors", save(shard))
    files |= _write_columns(_columns_of(table, rows), split, folder)
    return _about(labels, len(table.class_names), state.hexdigest()[:DIGEST_LETTERS], files)


def _length(table: Table, row: int) -> int:
    image = table.images[row]
    return image.stat().st_size if isinstance(image, Path) else len(table.content(row))


def _bounds(lengths: list[int]) -> Iterator[tuple[int, int]]:
    """First and end image of each shard."""
    start, filled = 0, 0
    for row, length in enumerate(lengths):
        if row > start and filled + length > SHARD_BYTES:
            yield start, row
            start, filled = row, 0
        filled += length
    yield start, len(lengths)


def _content(table: Table, row: int, length: int) -> bytes:
    content = table.content(row)
    if len(content) != length:
        raise DataError(
            f"{table.place(row)}: expected {length} bytes, as a moment ago, got {len(content)}; "
            "leave the files alone while they are prepared, and start again"
        )
    return content


def _written(path: Path, content: bytes) -> dict[str, str]:
    write_bytes(path, content)
    return {path.name: hashlib.sha256(content).hexdigest()}


def _write_columns(columns: dict[str, list[Any]], split: str, folder: Path) -> dict[str, str]:
    if not columns:
        return {}
    return _written(folder / f"{split}-columns.parquet", _columns_bytes(columns))


def _about(
    labels: Int64[Tensor, " n"], classes: int, found: str, files: dict[str, str]
) -> dict[str, Any]:
    return {
        "images": len(labels),
        "per_class": per_class(labels, classes),
        "digest": found,
        "files": files,
    }


def per_class(labels: Int64[Tensor, " n"], classes: int) -> list[int]:
    """Images of each class."""
    return torch.bincount(labels, minlength=classes).tolist()


def _columns_bytes(columns: dict[str, list[Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()
