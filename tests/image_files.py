"""Tiny image files and data sets for tests, made from a seed."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SHARED = Path(__file__).parents[2] / "shared" / "data"


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(seed: int, mode: str = "L", size: tuple[int, int] = (6, 6)) -> Image.Image:
    """Noise of the given mode; `size` is width, height."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def pictures(count: int, mode: str = "L", size: tuple[int, int] = (6, 6)) -> list[bytes]:
    return [encoded(picture(seed, mode, size)) for seed in range(count)]


def write_parquet(path: Path, images: Sequence[Any], labels: Sequence[Any], **columns: Any) -> Path:
    pq.write_table(pa.table({"image": images, "label": labels, **columns}), path)
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_mnist(root: Path, train: int = 20, test: int = 10) -> Path:
    """Files of MNIST's format with noise, labels 0..9 in turn."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("t10k", test)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = bytes(row % 10 for row in range(count))
        header = struct.pack(">IIII", 2051, count, 28, 28)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels)
    return raw


def write_cifar(root: Path) -> None:
    """Files of CIFAR-10's and CIFAR-100's format with noise, a training image of each class."""
    parts: dict[str, dict[str, list[int]]] = {
        "cifar-10-batches-py": {f"data_batch_{i}": [2 * i - 2, 2 * i - 1] for i in range(1, 6)},
        "cifar-100-python": {"train": list(range(100))},
    }
    for folder, files in parts.items():
        small = folder == "cifar-10-batches-py"
        key, meta, test = (
            ("label", "batches.meta", "test_batch") if small else ("fine_label", "meta", "test")
        )
        names = [f"class {i}" for i in range(10 if small else 100)]
        found = {meta: pickle.dumps({f"{key}_names": names})}
        for name, labels in (files | {test: [3, 0]}).items():
            pixels = np.random.default_rng(len(name)).integers(0, 256, (len(labels), 3072))
            content = {"data": pixels.astype(np.uint8), f"{key}s": labels}
            found[name] = pickle.dumps(content)
        write_folder(root / folder, found)
