"""What the adaptation study starts from: an encoder, stored embeddings, pixels, prompts."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import PIL
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from carryover import bank_out, run
from carryover.data import store
from carryover.data.images import Images
from carryover.data.transforms import to_rgb
from carryover.embed import EMBEDDINGS, prepared
from carryover.errors import ConfigError, DataError
from carryover.files import cannot_write, digest, digest_of_files
from carryover.models.encoders import Encoder
from carryover.models.features import Feature
from carryover.models.preprocess import Preprocess
from carryover.prepare import SETS, refuse_stale
from carryover.provenance import source_digest
from carryover.scratch import alone

if TYPE_CHECKING:
    from carryover.config.params import Params

PROJECTED = Feature("projected")  # what the published heads take, not of unit length


@dataclass(frozen=True, eq=False)
class Examples:
    """Images with labels: what a probe takes of them, and what an encoder that trains takes.

    Attributes:
        embeddings: stored ones; on the device.
        pixels: of the whole split, 0..255, in their own size or at the encoder's; on the CPU. None
            where no encoder trains.
        rows: which of the pixels are these images'.
        preprocess: what is still to be done with the pixels.
    """

    embeddings: Float[Tensor, "n d"]
    labels: Int64[Tensor, " n"]
    pixels: UInt8[Tensor, "whole c h w"] | None
    rows: Int64[Tensor, " n"]
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, index: Int64[Tensor, " b"]) -> Float[Tensor, "b 3 size size"]:
        """Some of them as the encoder takes them, on the device."""
        assert self.pixels is not None
        x = self.pixels[self.rows[index.cpu()]].to(self.labels.device)
        return self.preprocess(to_rgb(x.float() / 255))

    def take(
        self, index: Int64[Tensor, " m"], labels: Int64[Tensor, " m"] | None = None
    ) -> Examples:
        """Some of them, with other labels where they are given; pixels are not copied."""
        return Examples(
            self.embeddings[index],
            self.labels[index] if labels is None else labels.to(self.labels.device),
            self.pixels,
            self.rows[index.cpu()],
            self.preprocess,
        )


@dataclass(frozen=True, eq=False)
class Start:
    """Everything before any training.

    Attributes:
        train, test: of the data set adapted to; `data` is the digest of its training images.
        others: test images of the other sets.
        class_weights: zero-shot heads by data set, one unit-length text embedding a class; the set
            adapted to has none where the encoder does not know its words.
        embedded: digest of the folder of embeddings.
    """

    encoder: Encoder
    train: Examples
    test: Examples
    others: dict[str, Examples]
    class_weights: dict[str, Float[Tensor, "c d"]]
    class_names: tuple[str, ...]
    data: str
    embedded: str


def load_start(params: Params, device: torch.device, pixels: bool) -> Start:
    """The encoder, the sets and their embeddings.

    Args:
        pixels: whether the encoder will train, so that images are needed too.
    Raises:
        DataError: embeddings of another encoder or of other images than those that are here, or
            class names that the encoder has no text for where that is needed.
        ConfigError: `fault_class` is none of the set's classes.
    """
    study = params.adapt
    encoder = prepared(params.encoders[study.encoder])
    torch.set_num_threads(1)  # set by the encoder's entry; here processes share the cores
    encoder.image.to(device)
    folder = EMBEDDINGS / study.encoder
    facts = bank_out.manifest(folder)
    made = (facts["weights"], facts["preprocess"])
    if made != (encoder.weights, encoder.preprocess.digest()):
        raise _stale(folder, study.encoder)
    found: dict[str, Examples] = {}
    weights = {}
    others = study.others or ()
    for name in (study.dataset, *others):
        refuse_stale(params.data, name)
        needed = name in others or study.head == "text"
        needed |= "zero-shot" in study.probe and not others  # it would have no rows at all
        if needed or bank_out.has_text(folder, name):
            text = bank_out.read_text(folder, name)
            weights[name] = F.normalize(text.mean(1), dim=-1).to(device)
        for split in ("train", "test") if name == study.dataset else ("test",):
            images = store.load(SETS / name, split)
            stored = bank_out.read(folder, name, split, PROJECTED)
            if stored.data != images.digest:
                raise _stale(folder, study.encoder)
            found[f"{name}/{split}"] = Examples(
                stored.values.float().to(device),
                images.labels.to(device),
                sized(images, encoder) if pixels else None,
                torch.arange(len(images)),
                of_pixels(images, encoder),
            )
            if split == "train":
                names, data = images.class_names, images.digest
    if study.fault_class >= len(names):
        raise ConfigError(
            f"adapt.fault_class: expected a class of {study.dataset}, 0 to {len(names) - 1}, got "
            f"{study.fault_class}"
        )
    encoder = replace(
        encoder, preprocess=of_pixels(store.load(SETS / study.dataset, "test"), encoder)
    )
    return Start(
        encoder,
        found[f"{study.dataset}/train"],
        found[f"{study.dataset}/test"],
        {name: found[f"{name}/test"] for name in others},
        weights,
        names,
        data,
        facts["digest"],
    )


def _stale(folder: Path, encoder: str) -> DataError:
    return DataError(
        f"{folder}: expected embeddings of the weights, preprocessing and images that are here, "
        f"got those of others; run `dvc repro embed@{encoder}`"
    )


def sized(images: Images, encoder: Encoder) -> UInt8[Tensor, "n c h w"]:
    """Pixels for an encoder that trains, decoded once.

    Sets stored as pixels keep their own size. Others are brought to the encoder's size (values
    rounded to 8 bits, as an image file would hold them) in a file of the scratch folder, which is
    mapped into memory and may be deleted at any time.

    Raises:
        KitError: the disk is full, or another process decodes them now.
    """
    if isinstance(images.pixels, Tensor):
        return images.pixels
    to_size = encoder.preprocess.sizing()
    shape = (len(images), 3, to_size.size, to_size.size)
    versions = [torch.__version__, PIL.__version__]
    name = digest([images.digest, to_size.digest(), *versions, decoding_code()])
    path = run.scratch_root() / "pixels" / f"{name}.bin"

    def decoded(row: int) -> Tensor:
        x = to_size(to_rgb(images.image(row)[None].float() / 255))
        return (x[0] * 255).round().to(torch.uint8)

    with alone(f"pixels-{name}.lock", "process that decodes these images", wait=True):
        if not path.exists():
            partial = path.with_suffix(".partial")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with partial.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, math.prod(shape))
            except OSError as error:
                partial.unlink(missing_ok=True)
                raise cannot_write(path, error) from error
            values = _mapped(partial, shape, shared=True)
            with (
                run.progress(f"decoding {len(images)} images", len(images)) as advance,
                ThreadPoolExecutor(max(1, run.workers())) as threads,
            ):
                for row, pixels in enumerate(threads.map(decoded, range(len(images)))):
                    values[row] = pixels
                    advance()
            try:
                with partial.open("rb") as written:  # what is mapped too
                    os.fsync(written.fileno())
                partial.replace(path)
            except OSError as error:
                partial.unlink(missing_ok=True)
                raise cannot_write(path, error) from error
    return _mapped(path, shape, shared=False)


def decoding_code() -> list[str]:
    """Digests of the code that decodes and resizes, and of this file, which rounds."""
    made_by = source_digest("carryover.data.images", "carryover.models.preprocess")
    return [made_by, digest_of_files([Path(__file__)])]


def of_pixels(images: Images, encoder: Encoder) -> Preprocess:
    """What is left to do with the pixels of `sized`: nothing is cropped a second time."""
    done = not isinstance(images.pixels, Tensor)
    return replace(encoder.preprocess, shorter=0) if done else encoder.preprocess


def _mapped(path: Path, shape: tuple[int, ...], shared: bool) -> UInt8[Tensor, "n c h w"]:
    size = math.prod(shape)
    values = torch.from_file(str(path), shared=shared, size=size, dtype=torch.uint8)
    return values.view(shape)
