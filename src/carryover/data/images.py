"""Images before and after preparation, and how the bytes of an image file become pixels."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from carryover.data.transforms import resize
from carryover.errors import DataError
from carryover.files import DIGEST_LETTERS, digest

PIXEL_LIMIT = 2**26  # 67 million pixels: a larger image is taken for a decompression bomb
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # no format that starts a program
SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
GREY_MODES = ("1", "L", "LA", "La")
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


@dataclass(frozen=True, eq=False)
class Encoded:
    """Source bytes of images, decoded on access.

    Attributes:
        blobs: the bytes of many images in a row, one tensor a shard.
        spans: of each image: its blob, first byte and end byte.
        channels: 1 when all images of the set are grey, else 3.
    """

    blobs: tuple[UInt8[Tensor, " _"], ...]
    spans: Int64[Tensor, "n 3"]
    channels: int


@dataclass(frozen=True, eq=False)
class Images:
    """The images of one split, in file order.

    Attributes:
        labels: class ids 0..C-1.
        class_names: the name of each class id.
        ids: row of each image in its source, kept by every subset.
        columns: what else the source says of each image (``domain``, ``file``).
        digest: of labels and pixels in order; a subset has its own.
        pixels: raw when all images of the set have one small size, else the source's bytes.
    """

    labels: Int64[Tensor, " n"]
    class_names: tuple[str, ...]
    ids: Int64[Tensor, " n"]
    columns: dict[str, list[Any]]
    digest: str
    pixels: UInt8[Tensor, "n c h w"] | Encoded

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """1 when all images of the set are grey, else 3."""
        return self.pixels.channels if isinstance(self.pixels, Encoded) else self.pixels.shape[1]

    def image(self, row: int) -> UInt8[Tensor, "c h w"]:
        """One image in its own size, 0..255."""
        if isinstance(self.pixels, Tensor):
            return self.pixels[row]
        blob, start, end = self.pixels.spans[row].tolist()
        content = self.pixels.blobs[blob][start:end].numpy().tobytes()
        return as_channels(decode(content, f"image {int(self.ids[row])}"), self.pixels.channels)

    def floats(
        self, index: Int64[Tensor, " b"], size: int | None = None
    ) -> Float[Tensor, "b c h w"]:
        """A batch of images, values in 0..1.

        Args:
            index: rows of the images wanted.
            size: px; scale the shorter side to it and crop the centre. Without it the images
                must have one size.
        Raises:
            DataError: the images differ in size and `size` is not given.
        """
        if isinstance(self.pixels, Tensor):
            x = self.pixels[index].float() / 255
            return x if size is None else resize(x, size)
        images = [self.image(row).float() / 255 for row in index.tolist()]
        if size is not None:
            images = [resize(x[None], size)[0] for x in images]
        shapes = sorted({tuple(x.shape[1:]) for x in images})
        if len(shapes) > 1:
            found = ", ".join(f"{h}x{w}" for h, w in shapes[:3])
            raise DataError(f"expected images of one size, got {found} px; give a size to crop to")
        return torch.stack(images) if images else torch.zeros(0, self.channels, 0, 0)

    def rows_digest(self) -> str:
        """Digest of labels and pixels in order, whatever the shards they were read from."""
        pixels = self.pixels
        state = hashlib.sha256(self.labels.numpy().tobytes())
        if isinstance(pixels, Encoded):
            state.update(f"encoded {pixels.channels}".encode())
            state.update((pixels.spans[:, 2] - pixels.spans[:, 1]).numpy().tobytes())
            parts: tuple[Tensor, ...] = pixels.blobs
        else:
            state.update(f"raw {tuple(pixels.shape)}".encode())
            parts = (pixels,)
        for part in parts:
            state.update(part.contiguous().numpy().data)
        return state.hexdigest()[:DIGEST_LETTERS]

    def select(self, index: Int64[Tensor, " m"]) -> Images:
        """The images of these rows, in this order."""
        rows = index.tolist()
        if isinstance(self.pixels, Tensor):
            pixels: Tensor | Encoded = self.pixels[index]
        else:
            pixels = replace(self.pixels, spans=self.pixels.spans[index])
        return Images(
            labels=self.labels[index],
            class_names=self.class_names,
            ids=self.ids[index],
            columns={name: [values[row] for row in rows] for name, values in self.columns.items()},
            digest=digest([self.digest, hashlib.sha256(index.numpy().tobytes()).hexdigest()]),
            pixels=pixels,
        )

    def of_classes(self, classes: Sequence[int], path: str = "classes") -> Images:
        """The images of some classes in file order, labels 0..K-1 by sorted class id.

        Args:
            path: the parameter that names the classes, for messages.
        Raises:
            DataError: no class asked for, one outside 0..C-1, or one without images here.
        """
        wanted = sorted(set(classes))
        strange = [label for label in wanted if not 0 <= label < len(self.class_names)]
        if strange or not wanted:
            found = ", ".join(map(str, strange)) or "none"
            raise DataError(
                f"{path}: expected classes among 0..{len(self.class_names) - 1}, got {found}; "
                "name class ids of this data set"
            )
        kept = self.select(torch.isin(self.labels, torch.tensor(wanted)).nonzero()[:, 0])
        missing = sorted(set(wanted) - set(kept.labels.tolist()))
        if missing:
            raise DataError(
                f"{path}: expected images of each class, found none of class {missing[0]} "
                f"({self.class_names[missing[0]]!r}) in this split; leave that class out"
            )
        return replace(
            kept,
            labels=torch.searchsorted(torch.tensor(wanted), kept.labels),
            class_names=tuple(self.class_names[label] for label in wanted),
            digest=digest([kept.digest, wanted]),
        )


@dataclass(frozen=True, eq=False)
class Table:
    """The images of a source, in its order, not yet decoded; the row is an image's id.

    Attributes:
        origin: where they come from, for messages.
        images: bytes of an image file, or its path, or pixels.
        labels: class ids 0..C-1.
        splits: ``train``, ``validation`` or ``test`` of each image.
        class_names: the name of each class id.
        columns: what else the source says of each image.
    Raises:
        DataError: fewer than two classes, a label outside 0..C-1, or a class without images.
    """

    origin: str
    images: list[bytes] | list[Path] | UInt8[Tensor, "n c h w"]
    labels: list[int]
    splits: list[str]
    class_names: tuple[str, ...]
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, found = len(self.class_names), set(self.labels)
        if len(found) < 2:
            raise DataError(
                f"{self.origin}: expected images of at least two classes, got {len(found)}; "
                "add another class"
            )
        for row, label in enumerate(self.labels):
            if not 0 <= label < count:
                raise DataError(
                    f"{self.place(row)}: expected labels 0..{count - 1} for {count} classes, got "
                    f"{label}; number the classes from 0 without gaps"
                )
        missing = sorted(set(range(count)) - found)
        if missing:
            raise DataError(
                f"{self.origin}: expected images of all {count} classes, got none of class "
                f"{missing[0]} ({self.class_names[missing[0]]!r}); add some or leave no gap"
            )

    def place(self, row: int) -> str:
        """What to call an image in messages: its path, or its row."""
        image = self.images[row]
        return str(image) if isinstance(image, Path) else f"{self.origin}: row {row}"

    def content(self, row: int) -> bytes:
        """Bytes of an image file.

        Raises:
            DataError: the file cannot be read.
        """
        image = self.images[row]
        if isinstance(image, bytes):
            return image
        assert isinstance(image, Path)
        try:
            return image.read_bytes()
        except OSError as error:
            raise DataError(
                f"{image}: expected a file to read, got {error.strerror!r}; mend its permissions"
            ) from error


def decode(content: bytes, name: str) -> UInt8[Tensor, "c h w"]:
    """Pixels of an image file: 1 channel for a grey image, else RGB.

    The orientation tag is applied, transparency is laid over white, 16 bits become 8 (values
    divided by 257), of an animation the first frame is taken.

    Args:
        content: bytes of a PNG, JPEG, BMP, GIF, WebP, TIFF or PPM file.
        name: what to call the image in messages.
    Raises:
        DataError: the bytes are no such file, are damaged, or hold too many pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise _too_large(name, f"{image.width}x{image.height}")
            values = np.array(_grey_or_rgb(image))
    except BOMBS as error:
        raise _too_large(name, "far more") from error
    except DAMAGE as error:
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(
            f"{name}: expected an image that decodes, got {len(content)} bytes that do not "
            f"({reason}); copy the file again or take it out"
        ) from error
    pixels = torch.from_numpy(values)
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def _too_large(name: str, found: str) -> DataError:
    return DataError(
        f"{name}: expected an image of at most {PIXEL_LIMIT:,} pixels, got {found}; "
        "shrink it or take it out"
    )


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "L" and "transparency" not in image.info and image.format == "PNG":
        image.load()  # the common case of small grey sets, without a look at the EXIF table
        if "exif" not in image.info:
            return image
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in SIXTEEN_BIT:
        return _from_16_bit(image)
    grey = image.mode in GREY_MODES
    if not image.has_transparency_data:
        return image.convert("L" if grey else "RGB")
    with_alpha = image.convert("LA" if grey else "RGBA")
    canvas = Image.new("L" if grey else "RGB", image.size, "white")
    canvas.paste(with_alpha.convert(canvas.mode), mask=with_alpha.getchannel("A"))
    return canvas


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"values {values.min()}..{values.max()} are not of 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def as_channels(image: UInt8[Tensor, "_ h w"], channels: int) -> UInt8[Tensor, "c h w"]:
    """A grey image repeated to `channels` channels; one that has them already as it is."""
    return image if len(image) == channels else image.expand(channels, -1, -1)
