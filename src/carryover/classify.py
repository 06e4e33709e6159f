"""What an encoder calls single images: ``carryover classify``."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from carryover.data import store
from carryover.data.images import decode
from carryover.data.transforms import to_rgb
from carryover.embed import SETS
from carryover.errors import ConfigError, DataError
from carryover.models.encoders import features
from carryover.models.prompts import class_prompts, zero_shot_logits
from carryover.zeroshot import PROJECTED, Model, bank_of, head_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
LONGEST = 200  # letters of a class name


@dataclass(frozen=True)
class Named:
    """What an image is called: class names with their probabilities, the likeliest first."""

    path: Path
    names: tuple[tuple[str, float], ...]


def classify(
    model: Model, images: Sequence[Path], names: Sequence[str], dataset: str, top: int
) -> Iterator[Named | DataError]:
    """Name images one by one; one that does not decode gives its error, the others go on.

    Args:
        names: the classes to choose from.
        dataset: whose prompts to take; "" for a generic one.
        top: names an image, at most.
    """
    with bank_of(model) as root:
        W = head_of(model, class_prompts(dataset, names), root).to(model.device)
    encoder = model.encoder
    for path in images:
        try:
            pixels = decode(path.read_bytes(), str(path))
        except OSError as error:
            yield DataError(f"{path}: expected a file to read, got {error.strerror!r}")
            continue
        except DataError as error:
            yield error
            continue
        with torch.no_grad():
            x = to_rgb(pixels[None].float() / 255).to(model.device)
            z = features(encoder, x, [PROJECTED])[PROJECTED]
            shares = zero_shot_logits(z.float(), W, encoder.logit_scale).softmax(1)[0]
        best = shares.topk(min(top, len(names)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        yield Named(path, tuple((names[i], share) for i, share in pairs))


def image_files(path: Path) -> list[Path]:
    """An image file, or all below a folder, by name.

    Raises:
        DataError: no such file, or a folder without images.
    """
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise DataError(
                f"{path}: expected image files ({', '.join(SUFFIXES)}), found none; name another "
                "folder"
            )
        return found
    if not path.is_file():
        raise DataError(f"{path}: expected an image file or a folder of them, found none")
    return [path]


def class_names(dataset: str, labels: Path | None) -> tuple[str, ...]:
    """The classes to choose from: a prepared set's, or the lines of a file.

    Raises:
        ConfigError: both or neither given.
        DataError: the set is not prepared, or the file has not two different names, or one with
            control characters or beyond `LONGEST`.
    """
    if bool(dataset) == bool(labels):
        raise ConfigError("classify: expected one of --dataset and --labels; say which names")
    if labels is None:
        return tuple(store.manifest(store.prepared(SETS, dataset, "--dataset"))["class_names"])
    if labels.exists() and not labels.is_file():
        raise DataError(f"{labels}: expected a text file with a class name a line, got none")
    try:
        lines = labels.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{labels}: expected a text file with a class name a line, cannot read it ({error})"
        ) from error
    names = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(names) < 2:
        raise DataError(f"{labels}: expected two class names or more, one a line, got {len(names)}")
    for name in names:
        if len(name) > LONGEST or any(unicodedata.category(c) == "Cc" for c in name):
            raise DataError(
                f"{labels}: expected class names of at most {LONGEST} letters without control "
                f"characters, got {name[:LONGEST]!r}; mend that line"
            )
    return names
