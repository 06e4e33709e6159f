"""What the continual study starts from: encoders, and the images of its streams by row number."""

from __future__ import annotations

import ctypes
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from mmap import PAGESIZE
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover import bank, bank_out, run
from carryover.adapt_start import of_pixels, sized
from carryover.config.continual import Continual
from carryover.config.continual_arms import Arm
from carryover.continual_pools import Pool, load_pool
from carryover.data.images import Images
from carryover.data.streams import Stream
from carryover.data.transforms import to_rgb
from carryover.embed import EMBEDDINGS, prepared
from carryover.errors import DataError
from carryover.models.encoders import Encoder, features
from carryover.models.features import Feature, Kind
from carryover.models.preprocess import Preprocess

if TYPE_CHECKING:
    from carryover.config.params import Params

RESIDENT = 2**30  # bytes of inputs that are kept in memory; more are read row by row
TOUCHED = 2**26  # bytes read of files that are mapped before their pages are let go
MADV_DONTNEED = 4  # Linux's mman-common.h
AT_ONCE = 256  # images encoded together where nothing is stored

Finish = Callable[[Tensor], Tensor]


class Inputs:
    """What networks take of rows: stored parts, in memory or read row by row, then finished.

    Args:
        parts: of all rows in order; memory mapped ones stay on the disk where all together are
            more than `RESIDENT` bytes.
        finish: of a part, what is still to be done with some of its rows.
        mapped: the parts are files mapped into memory, which nothing writes to. Of those that stay
            on the disk no more than about `TOUCHED` bytes are held at a time.
    """

    def __init__(
        self,
        parts: Sequence[Tensor],
        finish: Sequence[Finish],
        device: torch.device,
        mapped: bool = False,
    ) -> None:
        small = sum(part.numel() * part.element_size() for part in parts) <= RESIDENT
        self.device = device
        self.lets_go, self.touched = mapped and not small, 0
        self.parts = [part.to(device) if small else part for part in parts]
        self.finish = list(finish)
        kinds = {
            (part.shape[1:], part.dtype, done) for part, done in zip(parts, finish, strict=True)
        }
        if small and len(kinds) == 1:  # one look-up for all
            self.parts, self.finish = [torch.cat(self.parts)], self.finish[:1]
        ends = torch.tensor([len(part) for part in self.parts]).cumsum(0)
        self.ends, self.starts = ends, torch.cat([ends.new_zeros(1), ends[:-1]])

    def __call__(self, rows: Int64[Tensor, " b"]) -> Float[Tensor, "b ..."]:
        found = self._read(rows)
        if self.lets_go:
            self.touched += found.numel() * found.element_size()
            if self.touched > TOUCHED:
                for part in self.parts:
                    _let_go(part)
                self.touched = 0
        return found

    def _read(self, rows: Int64[Tensor, " b"]) -> Float[Tensor, "b ..."]:
        if len(self.parts) == 1:
            part = self.parts[0]
            return self.finish[0](part[rows.to(part.device)].to(self.device))
        rows = rows.cpu()
        places = torch.bucketize(rows, self.ends, right=True)
        found: Tensor | None = None
        for place in places.unique().tolist():
            where = (places == place).nonzero()[:, 0]
            part = self.parts[place]
            x = part[(rows[where] - self.starts[place]).to(part.device)].to(self.device)
            x = self.finish[place](x)
            if found is None:
                found = x.new_empty(len(rows), *x.shape[1:])
            found[where.to(self.device)] = x
        assert found is not None
        return found


def _let_go(mapped: Tensor) -> None:
    """Take the pages of a mapped file out of this process; the system may keep them (Linux only).

    Pages that were read count as this process's memory until then, in the end the whole file.
    """
    try:
        advise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return
    first = -(-mapped.data_ptr() // PAGESIZE) * PAGESIZE  # whole pages of this tensor alone
    last = (mapped.data_ptr() + mapped.numel() * mapped.element_size()) // PAGESIZE * PAGESIZE
    if sys.platform == "linux" and last > first:
        advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_DONTNEED)


def load_encoder(params: Params, name: str, device: torch.device) -> Encoder:
    """An encoder of the parameters, refused where its stored embeddings are of another.

    Raises:
        DataError: embeddings of other weights or of another preprocessing.
    """
    encoder = prepared(params.encoders[name])
    torch.set_num_threads(1)  # set by the encoder's entry; here processes share the cores
    encoder.image.to(device)
    facts = bank_out.manifest(EMBEDDINGS / name)
    if (facts["weights"], facts["preprocess"]) != (encoder.weights, encoder.preprocess.digest()):
        raise stale(name)
    return encoder


def pixels_of(pool: Pool, encoder: Encoder, device: torch.device) -> Inputs:
    """Images as the encoder takes them."""

    def finish(preprocess: Preprocess) -> Finish:
        return lambda x: preprocess(to_rgb(x.float() / 255))

    parts = [sized(images, encoder) for images in pool.parts]
    left = [of_pixels(images, encoder) for images in pool.parts]
    known = {preprocess: finish(preprocess) for preprocess in left}
    return Inputs(parts, [known[preprocess] for preprocess in left], device)


def embeddings_of(
    params: Params, pool: Pool, name: str, encoder: Encoder, kind: Kind, device: torch.device
) -> Inputs:
    """What a frozen encoder makes of the images: stored, or computed now and kept in the bank.

    Raises:
        DataError: stored embeddings of other images.
    """
    entry, found = params.encoders[name], list[Tensor]()
    for images, place in zip(pool.parts, pool.stored, strict=True):
        if place is None:
            made = bank.embed(
                encoder,
                images,
                [Feature(kind)],
                root=run.scratch_root() / "bank",
                precision=entry.precision,
                tokens=entry.tokens,
                batch_size=entry.batch_size,
                device=device,
            )[Feature(kind)]
        else:
            made = bank_out.read(EMBEDDINGS / name, *place, Feature(kind))
            if made.data != images.digest:
                raise stale(name)
        found += made.shards
    return Inputs(found, [Tensor.float] * len(found), device, mapped=True)


def encoded_again(pool: Pool, encoder: Encoder, kind: Kind, device: torch.device) -> Inputs:
    """As `embeddings_of`, but every batch goes through the encoder each time it is asked for."""
    feature = Feature(kind)

    def finish(images: Images) -> Finish:
        ready = replace(encoder, preprocess=of_pixels(images, encoder))

        def encoded(x: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.cat(
                    [
                        features(ready, to_rgb(some.float() / 255), [feature])[feature]
                        for some in x.split(AT_ONCE)
                    ]
                )

        return encoded

    parts = [sized(images, encoder) for images in pool.parts]
    return Inputs(parts, [finish(images) for images in pool.parts], device)


def stale(name: str) -> DataError:
    """What to say of stored embeddings of another encoder or of other images."""
    return DataError(
        f"{EMBEDDINGS / name}: expected embeddings of the weights, preprocessing and images that "
        f"are here, got those of others; run `dvc repro embed@{name}`"
    )


@dataclass(frozen=True, eq=False)
class Start:
    """Everything before any training, for the arms of one item.

    Attributes:
        encoders: by name; without weights where embeddings alone are read of them.
        pools: by stream and protocol; protocols that leave pixels as they are share one.
        inputs: by stream, protocol, encoder and feature; "" for the images themselves.
        streams: experiences by what they are made from; filled by trainings.
    """

    encoders: dict[str, Encoder]
    pools: dict[tuple[str, str], Pool]
    inputs: dict[tuple[str, str, str, str], Inputs]
    device: torch.device
    streams: dict[tuple[Any, ...], Stream] = field(default_factory=dict)

    def pool(self, study: Continual, stream: str, protocol: str) -> Pool:
        return self.pools[stream, pool_name(study, protocol)]

    def inputs_of(self, study: Continual, arm: Arm, stream: str, protocol: str) -> Inputs:
        feature = arm.features if arm.trains == "frozen" else ""
        name = pool_name(study, protocol)
        return self.inputs[stream, name, study.encoder_of(arm), feature]


def pool_name(study: Continual, protocol: str) -> str:
    """What tells a protocol's images from those of others: its name, where it changes or splits."""
    plain = study.protocols[protocol].kind in ("ni", "classes")
    return "" if plain else protocol


def load_start(params: Params, item: str, device: torch.device) -> Start:
    """Encoders, images and stored embeddings for the arms of one item.

    Where all that is asked of the encoders is stored, their weights are let go.

    Raises:
        DataError, ConfigError: as `load_pool`, `load_encoder` and `embeddings_of`.
    """
    study = params.continual
    start = Start({}, {}, {}, device)
    for arm in study.arms_of(item).values():
        name = study.encoder_of(arm)
        for stream, protocol in dict.fromkeys(cell[:2] for cell in arm.cells()):
            if name not in start.encoders:
                start.encoders[name] = load_encoder(params, name, device)
            encoder = start.encoders[name]
            place = (stream, pool_name(study, protocol))
            if place not in start.pools:
                start.pools[place] = load_pool(params, stream, study.protocols[protocol], protocol)
            pool = start.pools[place]
            feature = arm.features if item == "frozen" else ""
            if (*place, name, feature) in start.inputs:
                continue
            if item != "frozen":
                inputs = pixels_of(pool, encoder, device)
            elif study.bank:
                inputs = embeddings_of(params, pool, name, encoder, arm.features, device)
            else:
                inputs = encoded_again(pool, encoder, arm.features, device)
            start.inputs[*place, name, feature] = inputs
    if item == "frozen" and study.bank:
        start.encoders.update({name: _facts(each) for name, each in start.encoders.items()})
    return start


def _facts(encoder: Encoder) -> Encoder:
    """The encoder with no weights but those of its own classifier, where it has one."""
    image = model = nn.Module()
    if encoder.model is not encoder.image and hasattr(encoder.model, "head"):
        model = nn.Sequential(OrderedDict(head=encoder.model.get_submodule("head")))
    return replace(encoder, image=image, model=model, text=None)
