"""Which data sets there are, and where the files of one lie. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from carryover.data.known import RENDERED as RENDERED  # both are read from here
from carryover.data.known import SMALL, Dataset, Kind
from carryover.data.known_photos import OTHERS, TASKS
from carryover.errors import DataError
from carryover.files import digest, write_json


@dataclass(frozen=True)
class Source:
    """Where the images of a data set come from.

    Attributes:
        kind: how to read it.
        path: file or folder; the root for the official files; none for embedded sets.
        folder: of the official files below the root.
        torchvision_class: what reads or fetches them, or none.
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
    embedded sets, then ``ROOT/NAME.parquet`` (dashes or underscores), the official files below
    ROOT, and the folder ``ROOT/NAME``.

    Args:
        name: of the data set; underscores mean dashes.
        root: ``data.root``, None where there is none.
        sources: ``data.sources``, names and ``folder:PATH`` or ``parquet:PATH``.
        base: what relative paths are relative to.
        download: accept the root although the official files are not there yet.
    Raises:
        DataError: the name is no slug, a source is not of that form, or nothing was found, and
            with `download` that the set has to be got by hand.
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
        if known and known.kind:
            official = _official(known, place, looked)
            if official is None and download and not known.get:
                official = known.places[0]
            if official is not None:
                return Source(known.kind, place, official, known.torchvision_class)
        for folder in dict.fromkeys([name, name.replace("-", "_")]):
            looked.append(str(place / folder))
            if (place / folder).is_dir():
                packed = any((place / folder).glob("*.parquet"))
                return Source("parquet" if packed else "folder", place / folder)
    places = ", ".join(dict.fromkeys(looked))
    raise DataError(
        f"data set {name!r}: expected its files, found none ("
        f"{'looked for ' + places if root else 'data.root is not set'}); {way_to(name, root)}, "
        f"or add {name}: folder:PATH or {name}: parquet:PATH to data.sources"
    )


def way_to(name: str, root: str | None) -> str:
    """How to get a set that is not there, for a refusal.

    Args:
        name: with dashes.
        root: ``data.root``, None where there is none.
    """
    known = DATASETS.get(name)
    if known and known.get:
        return known.get if root else f"{known.get}, and set data.root to the folder above it"
    if known and known.torchvision_class:
        fetch = f"`carryover data prepare {name} --download`"
        if root:
            return f"lay them there or let {fetch} fetch them"
        return f"set data.root to the folder that holds them, or that {fetch} is to fill"
    near = [] if known else get_close_matches(name, DATASETS, 1)
    meant = f"write {near[0]} if that is meant, " if near else ""
    return meant + ("lay them there" if root else "set data.root to the folder that holds them")


def _official(known: Dataset, root: Path, looked: list[str]) -> str | None:
    """The first of a set's places that holds its files; each is added to `looked`."""
    for folder in known.places:
        for entry in known.present:
            looked.append(str(root / folder / entry))
            if (root / folder / entry).exists():
                return folder
    return None


def lacks(name: str, folder: Path) -> str:
    """What a folder of a known set's name lacks to be its official files; "" if it is no such."""
    known = DATASETS.get(name.replace("_", "-"))
    if (
        known is None
        or not known.kind
        or folder.name not in {p.split("/")[0] for p in known.places}
    ):
        return ""
    return " or ".join(entry for entry in known.present if entry)


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
    """Every file in a folder and its sub-folders, sorted; hidden ones are left out.

    Links are followed, wherever they lead: who names a folder means what is in it.

    Raises:
        DataError: a link to a folder above it, a pipe or device, which has no end, or a name that
            is not UTF-8.
    """
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            inner = Path(place, name)
            if inner.is_symlink() and Path(place).resolve().is_relative_to(inner.resolve()):
                raise DataError(
                    f"{inner}: expected a folder, got a link to one that it lies in; take it out"
                )
        found += [Path(place, name) for name in files if not name.startswith(".")]
    for file in found:
        if file.exists() and not file.is_file():
            raise DataError(f"{file}: expected a file, got a pipe or device; take it out")
        if bytes(file).decode(errors="ignore") != str(file):
            raise DataError(f"{file}: expected a name in UTF-8, got other bytes; rename it")
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
    found = dict(counts)
    if any(found == images and classes == number for images, number in known.copies):
        return
    facts: list[tuple[str, Any, Any]] = []
    if not known.splits and known.images is not None:
        facts += [(f"{known.images} images", known.images, sum(found.values()))]
    for split, number in known.splits.items():
        if split != "validation" or split in found:
            facts += [(f"{number} {split} images", number, found.get(split, 0))]
    if known.splits:
        facts += [(f"no {split} images", 0, found[split]) for split in found.keys() - known.splits]
    if known.classes is not None:
        facts += [(f"{known.classes} classes", known.classes, classes)]
    if known.shape and shape is not None:
        facts += [(f"{known.shape} channels, height, width", known.shape, tuple(shape))]
    for what, expected, got in facts:
        if expected != got:
            raise DataError(
                f"{name}: expected {what}, got {got} in {origin}; the copy is not the known set: "
                "fetch it again, or give a set of your own another name"
            )


DATASETS: dict[str, Dataset] = SMALL | TASKS | OTHERS
