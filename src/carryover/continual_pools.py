"""The images of a stream by row number, and the experiences that a protocol makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from carryover import run
from carryover.config.continual_arms import Protocol
from carryover.data import store, streams
from carryover.data.images import Images
from carryover.data.splits import expect_each, hold_out
from carryover.data.streams import Stream
from carryover.errors import ConfigError, DataError
from carryover.files import digest
from carryover.prepare import SETS, refuse_stale

if TYPE_CHECKING:
    from carryover.config.params import Params

DOMAIN = "domain"  # column of a set that says which domain an image is of


@dataclass(frozen=True, eq=False)
class Pool:
    """The images of a stream, each with a row number: part after part.

    Attributes:
        parts: images of one set, split and change of pixels.
        stored: of each part the set and split whose stored embeddings are its own; None where
            pixels were changed.
        domain: of each row, from 0.
        test: whether a row is a test image.
    """

    parts: tuple[Images, ...]
    stored: tuple[tuple[str, str] | None, ...]
    labels: Int64[Tensor, " rows"]
    ids: Int64[Tensor, " rows"]
    domain: Int64[Tensor, " rows"]
    test: Bool[Tensor, " rows"]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.parts[0].class_names

    @property
    def data(self) -> str:
        """Digest of all its images."""
        return digest([part.digest for part in self.parts])

    def rows(self, test: bool, domain: int | None = None) -> Int64[Tensor, " n"]:
        """Row numbers of training or test images, of one domain or all."""
        here = self.test == test
        return (here if domain is None else here & (self.domain == domain)).nonzero()[:, 0]


def load_pool(params: Params, stream: str, protocol: Protocol, name: str) -> Pool:
    """The images of a stream under a protocol.

    Args:
        name: of the protocol: permutations are drawn for it, or with its own seed if it has one.
    Raises:
        DataError: a set that is not prepared, sets of other classes, or, where pixels are changed,
            images that differ in size.
        ConfigError: no domains, or another number of them than the protocol says.
    """
    sets = params.continual.streams[stream]
    found: list[tuple[Images, tuple[str, str] | None, int, bool]] = []
    for place, dataset in enumerate(sets):
        refuse_stale(params.data, dataset)
        for split in ("train", "test"):
            images = store.load(SETS / dataset, split)
            if protocol.repeats:
                random = _random(params, protocol, name)
                for number, each in enumerate(_changed(images, protocol, random)):
                    plain = (dataset, split) if each is images else None
                    found.append((each, plain, number, split == "test"))
            else:
                found.append((images, (dataset, split), place, split == "test"))
    parts = tuple(part for part, *_ in found)
    if len({part.class_names for part in parts}) > 1:
        raise DataError(
            f"continual.streams.{stream}: expected sets of the same classes, got others in "
            f"{', '.join(sets)}; take sets of one list of classes"
        )
    sizes = [len(part) for part in parts]
    domain = torch.tensor([place for _, _, place, _ in found]).repeat_interleave(
        torch.tensor(sizes)
    )
    if protocol.kind == "domains" and len(sets) == 1:
        domain = _domains(parts, stream)
    if protocol.kind == "domains" and int(domain.max()) + 1 != protocol.experiences:
        raise ConfigError(
            f"continual.protocols.{name}.experiences: expected the {int(domain.max()) + 1} domains "
            f"of {stream}, got {protocol.experiences}; mend the number"
        )
    return Pool(
        parts,
        tuple(plain for _, plain, _, _ in found),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.ids for part in parts]),
        domain,
        torch.tensor([test for *_, test in found]).repeat_interleave(torch.tensor(sizes)),
    )


def _random(params: Params, protocol: Protocol, name: str) -> torch.Generator:
    """What draws the permutations: the same for every set and split."""
    if protocol.seed is None:
        return run.generator(params.seed, f"domains/{name}")
    return torch.Generator().manual_seed(protocol.seed)


def _changed(images: Images, protocol: Protocol, random: torch.Generator) -> list[Images]:
    """The images as every domain has them; the first of a permutation as they are."""
    if not isinstance(images.pixels, Tensor):
        raise DataError(
            f"continual.protocols: expected images of one small size for {protocol.kind} pixels, "
            "got image files of their own; take another protocol"
        )
    if protocol.kind == "permuted":
        changed = streams.permuted(images.pixels, protocol.experiences, random)
    else:
        changed = streams.rotated(images.pixels, protocol.degrees or ())
    found = []
    for pixels in changed:
        other = replace(images, pixels=pixels, digest="")
        found.append(
            images if pixels is images.pixels else replace(other, digest=other.rows_digest())
        )
    return found


def _domains(parts: Sequence[Images], stream: str) -> Int64[Tensor, " rows"]:
    """The domain of each image, numbered in the order that training images have them."""
    if any(DOMAIN not in part.columns for part in parts):
        raise ConfigError(
            f"continual.streams.{stream}: expected several sets, or one with a column {DOMAIN!r}, "
            "got one without; list a set for each domain"
        )
    names = dict.fromkeys(name for part in parts for name in part.columns[DOMAIN])
    numbers = {name: i for i, name in enumerate(names)}
    return torch.tensor([numbers[name] for part in parts for name in part.columns[DOMAIN]])


def stream_of(
    pool: Pool, protocol: Protocol, seed: int, held_out: tuple[float, torch.Generator] | None = None
) -> Stream:
    """The experiences of a stream.

    Args:
        seed: draws chunks or the order of classes where the protocol shuffles.
        held_out: share of the training images of the whole stream to test on in place of the test
            images, and what draws it. A photograph that several domains show is held out of all.
    Raises:
        DataError: as `data.streams`.
        ConfigError: no image is held out, or all of a class and domain are.
    """
    rows = pool.rows(test=False), pool.rows(test=True)
    if held_out is not None:
        rows = _held_out(pool, rows[0], protocol.repeats, *held_out)
    seed = seed if protocol.seed is None else protocol.seed
    given = (rows[0], pool.labels[rows[0]], rows[1], pool.labels[rows[1]])
    if protocol.kind == "ni":
        return streams.iid_chunks(*given, protocol.experiences, seed=seed, shuffle=protocol.shuffle)
    if protocol.kind == "classes":
        made = streams.class_tasks(
            *given,
            protocol.experiences,
            seed=seed,
            shuffle=protocol.shuffle,
            task_labels=protocol.task_labels,
        )
        return replace(made, masked=protocol.mask)
    domains = list(range(protocol.experiences))
    if protocol.shuffle:
        domains = torch.randperm(
            len(domains), generator=torch.Generator().manual_seed(seed)
        ).tolist()
    return streams.domain_tasks(
        [(r[0], r[1]) for r in ([part[pool.domain[part] == d] for part in rows] for d in domains)],
        range(len(pool.class_names)),
    )


def _held_out(
    pool: Pool, rows: Int64[Tensor, " n"], repeats: bool, fraction: float, random: torch.Generator
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
    """Training rows to train on and rows held out, both in order.

    Drawn by domain and class, so that every experience has held-out images of its own; where
    domains repeat photographs, drawn in the first domain for all.
    """
    shown = pool.ids[rows] if repeats else rows
    drawn = (pool.domain[rows] == 0).nonzero()[:, 0] if repeats else torch.arange(len(rows))
    places = pool.domain[rows[drawn]] * len(pool.class_names) + pool.labels[rows[drawn]]
    kept, held = hold_out(places, fraction, random, stratified=True)
    expect_each(places, kept, held, "continual.validation_fraction")
    out = torch.isin(shown, shown[drawn[held]])
    return rows[~out], rows[out]
