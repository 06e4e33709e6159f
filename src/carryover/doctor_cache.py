"""Results that DVC's lock names and the objects of its cache: is each what its digest says?"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.config import reader
from carryover.errors import ConfigError, listed
from carryover.files import write_bytes

SETTINGS = (".dvc/config", ".dvc/config.local")
LOCK = Path("dvc.lock")
DATA = "data/"  # what DVC's cache holds; git holds the other results

Finding = tuple[bool, str]  # good or not, and what was found


@dataclass(frozen=True)
class Out:
    """A result that DVC's cache holds, by its object there, which for a folder lists its files."""

    path: Path
    stage: str
    md5: str

    def files(self) -> dict[Path, str] | None:
        """Digest of every file; None where the list of the folder is not here or damaged."""
        if not self.md5.endswith(".dir"):
            return {self.path: self.md5}
        listing = object_of(self.md5)
        if not listing.exists() or md5_of(listing) != self.md5.removesuffix(".dir"):
            return None
        files = {Path(e["relpath"]): e["md5"] for e in json.loads(listing.read_bytes())}
        if any(name.is_absolute() or ".." in name.parts for name in files):
            return None  # no list of DVC's leaves its folder
        return {self.path / name: md5 for name, md5 in files.items()}


def locked() -> list[Out]:
    """What the lock file says of the results that DVC's cache holds.

    Raises:
        ConfigError: the lock file is no YAML, or not as DVC writes it.
    """
    stages: Mapping[str, Any] = reader.load(LOCK).get("stages", {})
    try:
        found = [
            Out(Path(out["path"]), name, str(out["md5"]))
            for name, stage in stages.items()
            for out in stage.get("outs", [])
            if out["path"].startswith(DATA)
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{LOCK}: expected stages with outs that have a path and an md5, got another form "
            f"({error!r}); `git checkout {LOCK}` restores it"
        ) from error
    outside = [str(out.path) for out in found if ".." in out.path.parts]
    if outside:
        raise ConfigError(
            f"{LOCK}: expected results below {DATA}, got {listed(outside)}; `git checkout {LOCK}` "
            "restores it"
        )
    return found


def cache() -> Path:
    """The folder of DVC's objects: below `cache.dir` of its settings, where that is set.

    Raises:
        ConfigError: settings that DVC cannot read either.
    """
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        settings.read(SETTINGS)
    except (configparser.Error, UnicodeDecodeError) as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(
            f"{listed(SETTINGS)}: expected settings of DVC, got {first!r}; mend or delete the file"
        ) from error
    named = settings.get("cache", "dir", fallback="cache").strip("\"'")
    return Path(os.path.normpath(Path(".dvc", named, "files", "md5")))


def object_of(md5: str) -> Path:
    """Where DVC's cache keeps what has this digest."""
    return cache() / md5[:2] / md5[2:]


def md5_of(path: Path) -> str:
    """The digest that DVC names a file's bytes by."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def objects(outs: list[Out], fix: bool) -> Iterator[Finding]:
    """Objects whose bytes are not those of their name, and such as a folder's list has not here."""
    if not cache().exists() and cache().parts[0] != ".dvc":
        yield False, f"{cache()}: expected DVC's cache here, as cache.dir says, found no folder"
    here, damaged = [], {}
    for path in sorted(cache().glob("??/*")):
        try:
            found = md5_of(path)
        except OSError as error:
            yield False, f"{path}: expected an object of DVC's cache, got {error.strerror!r}"
            continue
        here.append(path)
        if found != path.parent.name + path.name.removesuffix(".dir"):
            damaged[path] = f"expected the bytes of md5 {path.parent.name}{path.name}, got {found}"
    for out in outs:
        for md5 in (out.files() or {}).values() if object_of(out.md5).exists() else ():
            if not object_of(md5).exists():
                damaged[object_of(md5)] = f"expected an object of {out.path}, found none"
    for path, said in damaged.items():
        yield False, f"{path}: {said}{_object_mended(path, outs, fix)}"
    whole = len(set(here) - set(damaged))
    yield True, f"{whole} of {len(here)} objects of DVC's cache are whole"


def _object_mended(path: Path, outs: list[Out], fix: bool) -> str:
    """Take the object from the result in the checkout where that is whole, else drop it."""
    md5 = path.parent.name + path.name
    if not fix:
        return "; `carryover doctor --verify --fix` mends it"
    content, origin = _content_of(md5, outs)
    path.unlink(missing_ok=True)
    if content is None:
        return "; deleted: `dvc repro` makes it again, `dvc pull` fetches it from a remote"
    write_bytes(path, content)
    path.chmod(0o444)  # as DVC has them
    return f"; written again from {origin}"


def _content_of(md5: str, outs: list[Out]) -> tuple[bytes | None, Path | None]:
    """The bytes of this digest, from the results in the checkout."""
    for out in outs:
        if out.md5 == md5 and md5.endswith(".dir") and out.path.is_dir():
            found = listing_of(out.path)
            if md5_of_folder(found) == md5:
                return found, out.path
        for path, each in (out.files() or {}).items():
            if each == md5 and path.is_file() and md5_of(path) == md5:
                return path.read_bytes(), path
    return None, None


def listing_of(folder: Path) -> bytes:
    """A folder's files as DVC lists them in the folder's object."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = [{"md5": md5_of(folder / name), "relpath": name} for name in names]
    return json.dumps(files, sort_keys=True).encode()


def md5_of_folder(listing: bytes) -> str:
    """The digest that DVC names a folder by."""
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"
