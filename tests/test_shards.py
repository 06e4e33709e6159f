"""The files of a prepared split: written shard by shard, the same whatever the shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from carryover.data import shards
from carryover.data.images import Table
from carryover.errors import DataError
from image_files import encoded, picture, write_folder


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Six images of two sizes in two classes, as files."""
    files = {f"{i}.png": encoded(picture(i, "RGB", (6, 6 + i % 2))) for i in range(6)}
    folder = write_folder(tmp_path / "set", files)
    images = [folder / name for name in files]
    return Table("set", images, [0, 1] * 3, ["train"] * 6, ("a", "b"), {"row": list(range(6))})


def test_shards_hold_the_bytes_of_the_files_and_where_each_ends(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = [len(table.content(row)) for row in range(6)]
    monkeypatch.setattr(shards, "SHARD_BYTES", sum(lengths[:3]))
    about = shards.write(table, [0, 1, 2, 4, 5], None, 3, "train", tmp_path / "out")
    names = [name for name in about["files"] if name.endswith("safetensors")]
    parts = [load_file(tmp_path / "out" / name) for name in names]
    assert torch.cat([part["ids"] for part in parts]).tolist() == [0, 1, 2, 4, 5]
    assert torch.cat([part["labels"] for part in parts]).tolist() == [0, 1, 0, 0, 1]
    assert parts[0]["ends"].tolist() == [sum(lengths[: n + 1]) for n in range(3)]
    start, end = parts[0]["ends"][:2].tolist()
    assert parts[0]["bytes"][start:end].numpy().tobytes() == table.content(1)
    assert about["per_class"] == [3, 2]


def test_one_shard_is_written_before_the_next_is_read(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    read, write = shards._content, shards._written

    def reading(table: Table, row: int, length: int) -> bytes:
        seen.append(f"read {row}")
        return read(table, row, length)

    def writing(path: Path, content: bytes) -> dict[str, str]:
        seen.append("write")
        return write(path, content)

    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    monkeypatch.setattr(shards, "_content", reading)
    monkeypatch.setattr(shards, "_written", writing)
    shards.write(table, [0, 1, 2], None, 3, "train", tmp_path / "out")
    assert seen == ["read 0", "write", "read 1", "write", "read 2", "write", "write"]


def test_the_digest_is_that_of_the_images_in_memory(table: Table, tmp_path: Path) -> None:
    from carryover.data.images import Encoded, Images

    about: dict[str, Any] = shards.write(table, [0, 2, 3], None, 3, "train", tmp_path / "out")
    part = load_file(tmp_path / "out" / "train-00000.safetensors")
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), part["ends"][:-1]])
    spans = torch.stack([torch.zeros(3, dtype=torch.int64), starts, part["ends"]], 1)
    pixels = Encoded((part["bytes"],), spans, 3)
    images = Images(part["labels"], ("a", "b"), part["ids"], {}, "", pixels)
    assert about["digest"] == images.rows_digest()


def test_a_file_that_changes_while_it_is_prepared_is_named(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_length", lambda table, row: 7)
    with pytest.raises(
        DataError, match=r"0\.png: expected 7 bytes, as a moment ago, got \d+; leave"
    ):
        shards.write(table, [0, 1], None, 3, "train", tmp_path / "out")
