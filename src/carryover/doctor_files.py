"""Are the files of this checkout what their digests say? Each damaged one is named, and mended.

Nothing that is good is touched. What differs from DVC's lock but cannot be told from a new result
is put aside, not deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from carryover import bank_files, bank_out, consistent, run, snapshots
from carryover.data import store
from carryover.doctor_cache import (
    LOCK,
    Finding,
    Out,
    listing_of,
    locked,
    md5_of,
    md5_of_folder,
    object_of,
    objects,
)
from carryover.errors import KitError
from carryover.files import cannot_write, write_bytes
from carryover.models import saved

ASIDE = "replaced"  # folder of the scratch folder

Damage = tuple[Path, str]  # a file or folder, and what was expected and came


def digests(fix: bool) -> Iterator[Finding]:
    """Every object of DVC's cache, result, shard of the bank, snapshot, and the lock file.

    Args:
        fix: mend what is damaged, or delete it so that it is computed again.
    Raises:
        KitError: something cannot be deleted or written.
    """
    outs, whole = [], True
    try:
        outs = locked() if LOCK.exists() else []
    except KitError as error:
        yield False, f"{error}; `git checkout {LOCK}` brings back the committed one"
    try:
        for good, said in _of_files(outs, fix):
            whole = whole and good
            yield good, said
    except OSError as error:
        raise cannot_write(Path(error.filename or "."), error) from error
    if outs and Path(".git").exists() and (whole or fix):  # DVC drops damaged objects unasked
        yield from _steps()


def _of_files(outs: list[Out], fix: bool) -> Iterator[Finding]:
    yield from objects(outs, fix)
    yield from _results(outs, fix)
    yield from _computed_again("bank", "bank/**/*.safetensors", bank_files.fault, fix)
    yield from _computed_again("snapshots", "*/*/*.pt", _snapshot_fault, fix)


# --- results -------------------------------------------------------------------------------------


def _results(outs: list[Out], fix: bool) -> Iterator[Finding]:
    """Folders that hold digests of their own, then all results against the lock."""
    by_path = {out.path: out for out in outs}
    damaged = set()
    for pattern, check in OWN.items():
        for folder in _folders(pattern):
            try:
                check(folder)
            except KitError as error:
                damaged.add(folder)
                yield False, f"{error}{_result_mended(folder, by_path.get(folder), fix)}"
            else:
                yield True, f"{folder} is what its digests say"
    here = [out for out in outs if out.path not in damaged and out.path.exists()]
    good = 0
    for out in here:
        wrong = list(_differing(out))
        good += not wrong
        for path, said in wrong:
            yield False, f"{path}: {said}{'' if fix else _advice(out)}"
        if wrong and fix:
            yield False, f"{out.path}{_put_aside(out)}"
    if here:
        yield True, f"{good} of {len(here)} results are those of {LOCK}"


def _folders(pattern: str) -> list[Path]:
    """Folders of a pattern, without what killed runs left (``.digits.partial``)."""
    return sorted(p for p in Path().glob(pattern) if p.is_dir() and p.name[0] != ".")


OWN: dict[str, Callable[[Path], object]] = {
    "data/sets/*": store.check,
    "data/models/*": saved.read_card,
    "data/embeddings/*": bank_out.check,
}


def _differing(out: Out) -> Iterator[Damage]:
    """Files of a result that are not those of the lock."""
    files = out.files()
    if files is None:  # nothing lists them: the folder as a whole can be compared
        found = md5_of_folder(listing_of(out.path))
        if found != out.md5:
            yield out.path, f"expected the files of md5 {out.md5}, got {found}"
        return
    for path, md5 in files.items():
        if not path.is_file():
            yield path, f"expected a file of md5 {md5}, found none"
        elif (found := md5_of(path)) != md5:
            yield path, f"expected the bytes of md5 {md5}, got {found}"


def _advice(out: Out) -> str:
    if _cached(out):
        return "; `carryover doctor --verify --fix` takes it from DVC's cache"
    return f"; `dvc repro {out.stage}` makes it again"


def _cached(out: Out) -> dict[Path, str] | None:
    """A result's files where DVC's cache has them all, whole; else None."""
    files = out.files()
    if files is None or not all(_is_whole(md5) for md5 in files.values()):
        return None
    return files


def _is_whole(md5: str) -> bool:
    return object_of(md5).is_file() and md5_of(object_of(md5)) == md5


def _result_mended(folder: Path, out: Out | None, fix: bool) -> str:
    """Take a damaged folder from DVC's cache, or leave its place empty; what to say about it."""
    if not fix:
        return "; `carryover doctor --verify --fix` mends it"
    aside = _moved_aside(folder)
    files = _cached(out) if out else None
    if files is None:
        return f"; moved to {aside}: `dvc repro {_stage_of(folder)}` makes it again"
    _write(files)
    return f"; moved to {aside}, and taken from DVC's cache again"


def _stage_of(folder: Path) -> str:
    stage = {"sets": "data", "models": "pretrain", "embeddings": "embed"}[folder.parent.name]
    return f"{stage}@{folder.name}"


def _put_aside(out: Out) -> str:
    """Move a result that differs out of the way and take the lock's; what to say about it."""
    files = _cached(out)
    if files is None:
        return f": left as it is; `dvc repro {out.stage}` makes it again"
    aside = _moved_aside(out.path)
    _write(files)
    return f": moved to {aside}, and taken from DVC's cache again"


def _moved_aside(path: Path) -> Path:
    """Move a result out of the way, beside what was moved there before; where it is now.

    Nothing is deleted: what could not be read may be whole, and what differs may be new.
    """
    aside, number = run.scratch_root() / ASIDE / path, 0
    while aside.exists():
        number += 1
        aside = aside.with_name(f"{path.name}.{number}")
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, aside)
    return aside


def _write(files: Mapping[Path, str]) -> None:
    for path, md5 in files.items():
        write_bytes(path, object_of(md5).read_bytes())


# --- what is computed again ----------------------------------------------------------------------


def _computed_again(
    what: str, pattern: str, fault: Callable[[Path], str], fix: bool
) -> Iterator[Finding]:
    """Files of the scratch folder: a damaged one is dropped, and computed when it is needed."""
    paths = sorted(run.scratch_root().glob(pattern))
    wrong = {path: said for path in paths if (said := fault(path))}
    for path, said in wrong.items():
        advice = "; `carryover doctor --verify --fix` deletes it"
        if fix:
            path.unlink()
            advice = "; deleted, it is computed again when it is needed"
        yield False, f"{path}: expected the bytes that were written, {said}{advice}"
    if paths:
        yield True, f"{what}: {len(paths) - len(wrong)} of {len(paths)} files are whole"


def _snapshot_fault(path: Path) -> str:
    return "" if snapshots.is_whole(path) else "got others"


# --- the lock file -------------------------------------------------------------------------------


def _steps() -> Iterator[Finding]:
    """Whether results, code and parameters are those that the lock file records."""
    try:
        found, told = consistent.examined()
    except KitError as error:
        yield False, str(error)
        return
    for fault in found:
        yield False, f"{LOCK} is out of step: {fault}; `dvc repro` brings it into step"
    if not found:
        yield True, f"{LOCK} is in step: {told}"
