"""Which data sets there are, and where the files of one lie. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from carryover.errors import DataError
from carryover.files import digest, write_json

Kind = Literal["digits", "rendered", "parquet", "folder", "torchvision", "food101"]


@dataclass(frozen=True)
class Dataset:
    """Facts of a known data set; a copy that differs from them is refused.

    Attributes:
        images: all splits together.
        classes: class ids are 0..classes-1.
        source: who made it, and its terms.
        splits: official images per split; empty where the split is ours.
        shape: channels, height and width; None where the size is chosen.
        torchvision_class: name in ``torchvision.datasets``, or none.
        folder: where that class looks below its root.
        present: a file below the root that shows that the set is there.
    """

    images: int
    classes: int
    source: str
    splits: Mapping[str, int] = field(default_factory=dict)
    shape: tuple[int, int, int] | None = None
    torchvision_class: str = ""
    folder: str = ""
    present: str = ""


@dataclass(frozen=True)
class Source:
    """Where the images of a data set come from.

    Attributes:
        kind: how to read it.
        path: file or folder; for torchvision the root that its classes take; none for embedded sets
        folder: torchvision only, the set's own folder below the root.
        torchvision_class: torchvision only.
    """

    kind: Kind
    path: Path | None = None
    folder: str = ""
    torchvision_class: str = ""

    @property
    def embedded(self) -> bool:
        """Whether the images come with the kit, so that no file can change."""
        return self.path is None


def resolve(
    name: str,
    root: str | None,
    sources: Mapping[str, str],
    base: Path,
    download: bool = False,
) -> Source:
    """Where the images of a data set are, by the first rule that fits.

    `name` may be ``folder:PATH`` or ``parquet:PATH``; else an entry of `sources` counts, then the
    embedded sets, then ``ROOT/NAME.parquet`` (dashes or underscores), torchvision's files below
    ROOT, and the folder ``ROOT/NAME``.

    Args:
        name: of the data set; underscores mean dashes.
        root: ``data.root``, None where there is none.
        sources: ``data.sources``, names and ``folder:PATH`` or ``parquet:PATH``.
        base: what relative paths are relative to.
        download: accept torchvision's root although its files are not there yet.
    Raises:
        DataError: the name is no slug, a source is not of that form, or nothing was found.
    """
    if name.startswith(("folder:", "parquet:")):
        return _named_source(name, "data set", base)
    name = slug(name)
    entries = {key.replace("_", "-"): value for key, value in sources.items()}
    if name in entries:
        return _named_source(entries[name], f"data.sources.{name}", base)
    if name == "digits":
        return Source("digits")
    if name in RENDERED:
        return Source("rendered")
    known = DATASETS.get(name)
    looked: list[str] = []
    if root:
        place = base / Path(root).expanduser()
        for file in dict.fromkeys([f"{name}.parquet", f"{name.replace('-', '_')}.parquet"]):
            looked.append(str(place / file))
            if (place / file).is_file():
                return Source("parquet", place / file)
        if known and known.torchvision_class:
            looked.append(str(place / known.present))
            if download or (place / known.present).exists():
                return Source("torchvision", place, known.folder, known.torchvision_class)
        if name == "food-101":
            looked.append(str(place / name / "meta"))
            if download or (place / name / "meta").exists():
                return Source("food101", place / name)
        for folder in dict.fromkeys([name, name.replace("-", "_")]):
            looked.append(str(place / folder))
            if (place / folder).is_dir():
                packed = any((place / folder).glob("*.parquet"))
                return Source("parquet" if packed else "folder", place / folder)
    fetch = f", or `carryover data prepare {name} --download`" if known and not download else ""
    raise DataError(
        f"data set {name!r}: expected its files, found none ("
        f"{'looked for ' + ', '.join(looked) if looked else 'data.root is not set'}); set "
        f"data.root to the folder that holds it, add {name}: folder:PATH or {name}: parquet:PATH "
        f"to data.sources{fetch}"
    )


def slug(name: str) -> str:
    """A data set's name with dashes for underscores.

    Raises:
        DataError: other characters than a-z, 0-9 and dashes, such as those of a path.
    """
    plain = name.replace("_", "-")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", plain):
        raise DataError(
            f"data set: expected a name of a-z, 0-9 and single dashes, got {name!r}; "
            "for files elsewhere write folder:PATH or parquet:PATH"
        )
    return plain


def _named_source(text: str, place: str, base: Path) -> Source:
    kind, _, path = text.partition(":")
    if kind not in ("folder", "parquet") or not path:
        raise DataError(f"{place}: expected folder:PATH or parquet:PATH, got {text!r}; write one")
    return Source("folder" if kind == "folder" else "parquet", base / Path(path).expanduser())


def files_below(folder: Path) -> list[Path]:
    """Every file in a folder and its sub-folders, sorted; hidden ones are left out."""
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(found)


def source_digest(source: Source, cache_folder: Path) -> str:
    """Short digest of a source's files: their names and bytes.

    A file is read once: its digest is remembered in `cache_folder` for as long as its path, size
    and time of change stay the same.

    Raises:
        DataError: the source is not there.
    """
    if source.path is None:
        known = {"digits": DATASETS["digits"].source, "rendered": "drawn here"}
        return digest([source.kind, known[source.kind]])
    top = source.path / source.folder
    files = [top] if top.is_file() else files_below(top)
    if not files:
        raise DataError(f"{top}: expected the files of a data set, found none; mend the path")
    remembered = cache_folder / f"{digest(str(top.resolve()))}.json"
    old = _remembered(remembered)
    new = {}
    for file in files:
        try:
            facts = file.stat()
            key = f"{file.relative_to(top)}|{facts.st_size}|{facts.st_mtime_ns}"
            new[key] = old.get(key) or _sha256(file)
        except OSError as error:
            raise DataError(
                f"{file}: expected a file to read, got {error.strerror!r}; mend its permissions "
                "or take it out"
            ) from error
    if new != old:
        write_json(remembered, new)
    # a single file may be renamed or moved without being another file
    names = [""] if top.is_file() else [file.relative_to(top).as_posix() for file in files]
    return digest(list(zip(names, new.values(), strict=True)))


def _remembered(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}  # a cache that cannot be read only costs reading the files again


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def expect_known(
    name: str,
    origin: str,
    counts: Mapping[str, int],
    classes: int,
    shape: Sequence[int] | None = None,
) -> None:
    """Compare a copy of a known data set with the facts; other names pass.

    Args:
        origin: where the copy lies, for the message.
        counts: its images per split.
        classes: how many it has.
        shape: channels, height and width where they are known already.
    Raises:
        DataError: a number differs.
    """
    known = DATASETS.get(name)
    if known is None:
        return
    wanted = dict(known.splits) or {"": known.images}
    found = dict(counts) if known.splits else {"": sum(counts.values())}
    facts: list[tuple[str, Any, Any]] = [
        (f"{number} {split} images".replace("  ", " "), number, found.get(split, 0))
        for split, number in wanted.items()
    ]
    facts += [(f"no {split} images", 0, found[split]) for split in found if split not in wanted]
    facts += [(f"{known.classes} classes", known.classes, classes)]
    if known.shape and shape is not None:
        facts += [(f"{known.shape} channels, height, width", known.shape, tuple(shape))]
    for what, expected, got in facts:
        if expected != got:
            raise DataError(
                f"{name}: expected {what}, got {got} in {origin}; the copy is not the known set: "
                "fetch it again, or give a set of your own another name"
            )


RENDERED = ("letters", "shapes", "textures", "colours", "world")  # drawn by `data.rendered`

DATASETS: dict[str, Dataset] = {
    "digits": Dataset(
        images=1797,
        classes=10,
        source="handwritten digits of 8x8 px from UCI, shipped with scikit-learn (BSD-3-Clause)",
    ),
    "mnist": Dataset(
        images=70_000,
        classes=10,
        source="LeCun, Cortes, Burges; usually cited as CC BY-SA 3.0",
        splits={"train": 60_000, "test": 10_000},
        shape=(1, 28, 28),
        torchvision_class="MNIST",
        folder="MNIST",
        present="MNIST/raw",
    ),
    "fashion-mnist": Dataset(
        images=70_000,
        classes=10,
        source="Zalando Research; MIT",
        splits={"train": 60_000, "test": 10_000},
        shape=(1, 28, 28),
        torchvision_class="FashionMNIST",
        folder="FashionMNIST",
        present="FashionMNIST/raw",
    ),
    "cifar10": Dataset(
        images=60_000,
        classes=10,
        source="Krizhevsky 2009; no formal licence, free for research",
        splits={"train": 50_000, "test": 10_000},
        shape=(3, 32, 32),
        torchvision_class="CIFAR10",
        folder="cifar-10-batches-py",
        present="cifar-10-batches-py",
    ),
    "food-101": Dataset(
        images=101_000,
        classes=101,
        source="Bossard, Guillaumin, Van Gool 2014; images of Foodspotting, scientific fair use",
        splits={"train": 75_750, "test": 25_250},
    ),
    "cifar100": Dataset(
        images=60_000,
        classes=100,
        source="Krizhevsky 2009; no formal licence, free for research",
        splits={"train": 50_000, "test": 10_000},
        shape=(3, 32, 32),
        torchvision_class="CIFAR100",
        folder="cifar-100-python",
        present="cifar-100-python",
    ),
}
