"""What the retrieval study starts from: images in every form they are tested in, and who looks up.

Every image is brought to the study's size once and kept as 8-bit pixels, noisy and corrupted test
images too, as a file of them would hold them. The embeddings that are stored, and those that look
up, are made of these same pixels; they come from the working bank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from carryover import bank, run
from carryover.config.retrieval import Source
from carryover.data import store
from carryover.data.corruptions import corrupted, gaussian_noise
from carryover.data.images import Images
from carryover.errors import ConfigError, DataError
from carryover.files import digest
from carryover.models import encoders
from carryover.models.encoders import Encoder
from carryover.models.features import Feature
from carryover.prepare import SETS, refuse_stale

if TYPE_CHECKING:
    from carryover.config.params import Params

BLOCK = 1024  # images resized or made worse at once


@dataclass(frozen=True)
class View:
    """One form of the test images: noise of a deviation, or a corruption."""

    noise: float = 0.0
    corruption: str = ""
    severity: int = 0

    @property
    def name(self) -> str:
        return f"{self.corruption}/{self.severity}" if self.corruption else f"noise/{self.noise:g}"


CLEAN = View()


@dataclass(frozen=True, eq=False)
class Shown:
    """Images as models see them, with the embedding by which each looks up.

    Attributes:
        pixels: on the CPU, of the study's size.
        queries, labels: on the device.
        ids, source: of the images, as ``solve.store.Store`` has them.
    """

    pixels: UInt8[Tensor, "n c s s"]
    queries: Float[Tensor, "n d"]
    labels: Int64[Tensor, " n"]
    ids: Int64[Tensor, " n"]
    source: str

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Start:
    """Everything before any training.

    Attributes:
        encoder: whose embeddings are stored and looked up by.
        train: the training images; `tests` the test images by view; `other` those of the set of
            another memory, None where there is none.
        mean, std: of the training pixels, a number a channel; () where pixels stay as they are.
            Pretrained weights come with their own.
        starts: encoders by control whose weights a model starts from.
        classes: of the set.
        data, weights: digests of the images and of all encoders.
    """

    encoder: Encoder
    feature: Feature
    train: Shown
    tests: dict[View, Shown]
    other: Shown | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    starts: dict[str, Encoder]
    classes: int
    data: str
    weights: str
    device: torch.device


def load_start(params: Params, item: str, device: torch.device) -> Start:
    """The images, their embeddings, and the encoders that an item's models start from.

    Raises:
        ConfigError: an encoder that is not there, a feature that it does not have, or more
            neighbours than a memory has entries.
        DataError: a set that is not prepared, or whose source has changed, or that is too small
            for another memory.
    """
    study = params.retrieval
    memory = study.memory
    encoder, feature = loaded(memory.encoder), Feature(memory.kind)
    torch.set_num_threads(1)
    parts = {split: _images(params, study.dataset, split) for split in ("train", "test")}
    faults = study.memory_faults(len(parts["train"].class_names))
    if faults:
        raise ConfigError("\n".join(f"retrieval.{fault}" for fault in faults))
    train = _shown(params, encoder, parts["train"], device)
    tests = {
        view: _shown(params, encoder, _made_worse(params, parts["test"], view), device)
        for view in views(params)
    }
    other = None
    if memory.other and "other-memory" in study.controls.get(item, ()):
        parts["other"] = _images(params, memory.other, "train", parts["train"].channels)
        _expect_enough(params, parts["train"], parts["other"])
        other = _shown(params, encoder, parts["other"], device)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if study.normalise:
        pixels = train.pixels.float() / 255
        mean = tuple(pixels.mean((0, 2, 3)).tolist())
        std = tuple(pixels.std((0, 2, 3)).clamp(min=1e-3).tolist())
    starts = {
        control: loaded(source) for control, source in (study.starts or {}).get(item, {}).items()
    }
    torch.set_num_threads(1)
    return Start(
        encoder,
        feature,
        train,
        tests,
        other,
        mean,
        std,
        starts,
        len(parts["train"].class_names),
        digest([images.digest for images in parts.values()]),
        digest([encoder.weights, *(starts[name].weights for name in sorted(starts))]),
        device,
    )


def _expect_enough(params: Params, train: Images, other: Images) -> None:
    """Refuse a set of another memory that has fewer images than the memory has entries."""
    memory, classes = params.retrieval.memory, len(train.class_names)
    if len(other) < memory.per_class * classes:
        raise DataError(
            f"retrieval.memory.other: expected a set of {memory.per_class * classes} training "
            f"images or more, {memory.per_class} for each of the {classes} classes of "
            f"{params.retrieval.dataset}, got {memory.other} with {len(other)}; name a larger set "
            "or lower retrieval.memory.per_class"
        )


def loaded(source: Source) -> Encoder:
    """An encoder by its entry; a path of weights is relative to the checkout."""
    weights = source.weights
    if weights and (run.home() / weights).exists():  # a path; otherwise a tag
        weights = str(run.home() / weights)
    return encoders.load(source.source, weights, base=Path())


def views(params: Params) -> list[View]:
    """All forms of the test images that the study asks for, the clean one first."""
    study = params.retrieval
    noisy = [View(noise) for noise in sorted({0.0, *study.noises})]
    return noisy + [
        View(corruption=name, severity=severity)
        for name in study.corruptions or ()
        for severity in study.severities
    ]


def _images(params: Params, name: str, split: str, channels: int = 0) -> Images:
    """A split at the study's size, in 8 bits, of its own channels or of as many as asked for."""
    refuse_stale(params.data, name)
    images = store.load(SETS / name, split)
    size = params.retrieval.size
    rows = torch.arange(len(images))
    parts = [_bytes(images.floats(part, size)) for part in rows.split(BLOCK)]
    pixels = torch.cat(parts)
    if channels and channels != pixels.shape[1]:
        grey = channels == 1
        pixels = pixels.float().mean(1, keepdim=True).round().to(torch.uint8) if grey else pixels
        pixels = pixels.expand(-1, channels, -1, -1).contiguous()
    return _with(images, pixels)


def _made_worse(params: Params, images: Images, view: View) -> Images:
    """Test images in one view; the noise of an image is the same in every run."""
    if view == CLEAN:
        return images
    assert isinstance(images.pixels, Tensor)
    study, parts = params.retrieval, []
    for rows in torch.arange(len(images)).split(BLOCK):
        x = images.floats(rows)
        if view.corruption:
            x = corrupted(x, view.corruption, view.severity)
        else:
            x = gaussian_noise(
                x,
                images.ids[rows],
                view.noise,
                seed=params.seed,
                source=f"{study.dataset}/test",
                clip=True,  # 8-bit pixels hold no others
            )
        parts.append(_bytes(x))
    return _with(images, torch.cat(parts))


def _bytes(x: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def _with(images: Images, pixels: UInt8[Tensor, "n c h w"]) -> Images:
    """The same images with other pixels, and the digest of these."""
    found = replace(images, pixels=pixels, digest="")
    return replace(found, digest=found.rows_digest())


def _shown(params: Params, encoder: Encoder, images: Images, device: torch.device) -> Shown:
    study = params.retrieval
    feature = Feature(study.memory.kind)
    assert isinstance(images.pixels, Tensor)
    stored = bank.embed(
        encoder,
        images,
        [feature],
        root=run.scratch_root() / "bank",
        precision=study.precision,
        batch_size=study.eval_batch_size,
        device=device,
    )[feature]
    return Shown(
        images.pixels,
        stored.values.float().to(device),
        images.labels.to(device),
        images.ids.to(device),
        images.digest,
    )
