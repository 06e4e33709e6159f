"""Encoders of every source behind one interface: load one, and read its features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover.errors import ConfigError, DataError, KitError, of_machine, pick
from carryover.models.depth import depth_of
from carryover.models.features import Feature, Kind, check, kinds, read
from carryover.models.layers import parameter_groups
from carryover.models.preprocess import Preprocess
from carryover.models.weights import digest

RANDOM_SEED = 0  # of weights that come from no file
OWN = Path("data/models")  # folder of the networks that the pipeline trained
SAID = 200  # letters of a library's message


@dataclass(frozen=True, eq=False)
class TextTower:
    """The text side of an encoder.

    Args:
        tokenize: sentences to token ids.
        encode: token ids to embeddings, differentiable and not of unit length.
        module: the module that owns the text's parameters; None where the whole model does.
        digest: of the tower's tensors and form.
    """

    tokenize: Callable[[Sequence[str]], Int64[Tensor, "n length"]]
    encode: Callable[[Tensor], Float[Tensor, "n d"]]
    module: nn.Module | None
    digest: str


@dataclass(frozen=True, eq=False)
class Encoder:
    """An image network with all that studies ask of it.

    Args:
        name: the source that it was loaded from.
        image: images ``[b, 3, s, s]`` as `preprocess` gives them to embeddings ``[b, d]``.
        groups: parameter names of `image` by depth, each in one group.
        kinds: the features it has at its end.
        weights: digest of the image network's tensors and of its form.
        text: None for encoders without text.
        logit_scale: exponential of the learned scale; 1 without text.
        model: `image` with its text side, or with the classifier its file holds (``image`` and
            ``head``); else `image`.
    """

    name: str
    image: nn.Module
    preprocess: Preprocess
    groups: dict[str, list[str]]
    kinds: tuple[Kind, ...]
    weights: str
    text: TextTower | None
    logit_scale: float
    model: nn.Module


def assemble(
    name: str,
    image: nn.Module,
    preprocess: Preprocess,
    form: Any,
    *,
    text: TextTower | None = None,
    logit_scale: float = 1.0,
    model: nn.Module | None = None,
) -> Encoder:
    """An encoder in evaluation mode, with what the image network says of itself.

    Args:
        form: as for `weights.digest`.
    """
    model = model or image
    model.eval()
    return Encoder(
        name,
        image.eval(),
        preprocess,
        parameter_groups(image),
        kinds(depth_of(image)),
        digest(image.state_dict(), form),
        text,
        logit_scale,
        model,
    )


def load(
    source: str, weights: str | None = None, *, base: Path = Path(), download: bool = False
) -> Encoder:
    """An encoder in evaluation mode, float32, on the CPU.

    Args:
        source: ``open-clip:ARCHITECTURE``, ``flava``, ``flava-image``, ``timm:NAME``,
            ``torchvision:NAME``, ``simclr:NAME``, ``cifar-resnet:DEPTH`` or ``pretrain:NAME``.
        weights: a file or folder in the source's official format, or a tag of open_clip; None
            for weights drawn from a fixed seed (``pretrain`` has its own).
        base: folder that relative paths and ``data/models`` are below.
        download: whether a tag that is not in open_clip's cache may be fetched.
    Raises:
        ConfigError: an unknown source, architecture or tag.
        DataError: weights, or files beside them, that cannot be read or are not of this
            architecture.
    """
    family, name = parsed(source, "encoder")
    known, wanted = SOURCES[family], Wanted(source, name, weights, base, download)
    files = wanted.path or (base / OWN / name if family == "pretrain" else None)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            return known.build(wanted)
    except (KitError, MemoryError):
        raise
    except Exception as error:  # libraries raise any kind for what they find in a file
        if files is None or (isinstance(error, OSError) and of_machine(error)):
            raise
        said = (str(error).splitlines() or [""])[0][:SAID]
        raise DataError(
            f"{files}: expected {source} ({known.formats}), cannot make it of what is there "
            f"({type(error).__name__}: {said}); fetch or make it again"
        ) from error


def parsed(source: str, path: str) -> tuple[str, str]:
    """Family and name of a source.

    Raises:
        ConfigError: an unknown family, or one with a name that takes none, or without.
    """
    family, colon, name = source.partition(":")
    known = pick(SOURCES, family, path)
    if bool(colon) != bool(known.argument) or bool(name) != bool(known.argument):
        form = f"{family}:{known.argument}" if known.argument else family
        raise ConfigError(f"{path}: expected {form}, got {source!r}")
    return family, name


def features(
    encoder: Encoder, x: Float[Tensor, "b 3 h w"], wanted: Sequence[Feature]
) -> dict[Feature, Tensor]:
    """Features of images, all from one forward pass; with gradients where they are on.

    Args:
        x: pixels in 0..1 of any size, on the encoder's device.
    Returns:
        ``[b, d]`` each, ``[b, p, d]`` for tokens.
    Raises:
        ConfigError: a kind or a layer that this encoder does not have.
    """
    depth = depth_of(encoder.image)
    check(encoder.name, depth, wanted)
    return read(encoder.image, depth, encoder.preprocess(x), wanted)


@dataclass(frozen=True)
class Wanted:
    """What `load` was asked for, for the function that builds it."""

    source: str
    name: str
    weights: str | None
    base: Path
    download: bool

    @property
    def path(self) -> Path | None:
        """The weights as a path below `base`."""
        return None if self.weights is None else self.base / Path(self.weights).expanduser()


@dataclass(frozen=True)
class Source:
    """A family of encoders.

    Args:
        argument: what follows its name and a colon; "" for nothing.
        formats: official formats of its weights, for people.
    """

    argument: str
    formats: str
    build: Callable[[Wanted], Encoder]


def _open_clip(wanted: Wanted) -> Encoder:
    from carryover.models import openclip

    return openclip.build(wanted)


def _flava(wanted: Wanted) -> Encoder:
    from carryover.models import flava

    return flava.build(wanted)


def _vision(wanted: Wanted) -> Encoder:
    from carryover.models import vision

    return vision.build(wanted)


def _simclr(wanted: Wanted) -> Encoder:
    from carryover.models import simclr

    return simclr.build(wanted)


def _pretrained(wanted: Wanted) -> Encoder:
    from carryover.models import pretrained

    return pretrained.build(wanted)


SOURCES: dict[str, Source] = {
    "open-clip": Source(
        "ARCHITECTURE",
        ".safetensors, state dict (.pt, .bin), a Hugging Face folder, or a tag",
        _open_clip,
    ),
    "flava": Source("", "Hugging Face folder: config.json, model.safetensors", _flava),
    "flava-image": Source("", "the same; the image network alone", _flava),
    "timm": Source("NAME", ".safetensors or state dict (.pth, .bin)", _vision),
    "torchvision": Source("NAME", "official state dict (.pth)", _vision),
    "simclr": Source("NAME", "state dict (.pth), torchvision's names or a prefix", _simclr),
    "cifar-resnet": Source("DEPTH", "state dict (.th)", _vision),
    "pretrain": Source("NAME", "data/models/NAME, made by the pipeline", _pretrained),
}
