"""The ``data@NAME`` stages: images from wherever they are to ``data/sets/NAME``.

``dvc repro data@digits`` takes 2 s.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from carryover import run
from carryover.config.data import Data
from carryover.data import catalog
from carryover.errors import ConfigError, DataError
from carryover.scratch import alone

if TYPE_CHECKING:
    from carryover.config.params import Params
    from carryover.data.images import Table

SETS = Path("data/sets")


def stage(params: Params, item: str, context: run.Context) -> None:
    """Prepare one data set: decode every image once, count, digest, write."""
    prepare(params.data, item, params.seed, download=False)
    try:
        context.refuse_edited()
    except ConfigError:
        shutil.rmtree(SETS / item)
        raise


def prepare(data: Data, name: str, seed: int, download: bool, out: Path | None = None) -> None:
    """Prepare a set under ``data/sets`` or at `out`; `download` allows torchvision to fetch it."""
    from carryover.data import store  # imports torch

    digests = run.scratch_root() / "digests"
    if out:
        source = find(data, name)
        store.prepare(name, source, read(data, name, source, seed, download), out, digests)
        return
    with alone(f"data@{name}.lock", f"process that prepares {name}"):
        source = find(data, name, download)
        table = read(data, name, source, seed, download)
        store.prepare(name, source, table, SETS / name, digests)


def read(data: Data, name: str, source: catalog.Source, seed: int, download: bool) -> Table:
    """The images of a source, not yet decoded, with a test part held out where they have none."""
    from carryover.data import layouts, parquet, rendered, sources

    if source.kind == "digits":
        return sources.digits(data.digits_size, data.test_fraction, seed)
    if source.kind == "rendered":
        return rendered.table(catalog.slug(name), data.rendered_size, seed, data.rendered_share)
    assert source.path is not None
    if source.kind == "torchvision":
        return sources.torchvision_files(source.path, source.torchvision_class, download)
    if source.kind == "official":
        if download and not (source.path / source.folder).exists():
            layouts.fetch(source.torchvision_class, source.path)
        return layouts.read(catalog.slug(name), source.path / source.folder)
    reader = sources.folder if source.kind == "folder" else parquet.read
    try:
        return reader(source.path, data.test_fraction, seed)
    except DataError as error:
        official = source.kind == "folder" and catalog.lacks(name, source.path)
        if official:
            raise DataError(f"{error}; as official files they lack {official}") from error
        raise


def find(data: Data, name: str, download: bool = False) -> catalog.Source:
    """Where a set's images are, by ``data.sources`` and ``data.root``."""
    return catalog.resolve(name, data.root, data.sources, run.home(), download)


def source_here(data: Data, name: str) -> catalog.Source | None:
    """Where a set's images are; None where they are not on this machine (the set was pulled)."""
    try:
        source = find(data, name)
    except DataError:
        return None
    here = source.path is None or (source.path / source.folder).exists()
    return source if here else None


def refuse_stale(data: Data, name: str) -> None:
    """Stop when the images that a set was prepared from have changed since.

    Where they are not on this machine the set stands for itself.

    Raises:
        DataError: the external file's digest is not the one in the set's manifest.
    """
    from carryover.data import store  # imports torch

    source = source_here(data, name)
    if source and store.is_stale(SETS / name, source, run.scratch_root() / "digests"):
        raise DataError(
            f"{SETS / name}: expected the images it was prepared from, the file behind {name!r} "
            f"has changed since; run `dvc repro -f data@{name}` to take the new one"
        )
