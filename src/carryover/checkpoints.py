"""Adapted weights on disk: what of a trained model differs from the one it began as.

``data/checkpoints/STUDY/ITEM/*.safetensors``, one file a model. The tensors lie under their own
names, those of the start that training left as they were are left out; the file's metadata says
whose model it is and which start it needs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from carryover.errors import DataError
from carryover.files import cannot_write, write_bytes

FOLDER = Path("data/checkpoints")
ABOUT = "about"  # the metadata's one key
What = Literal["image", "model", "adapted", "head"]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An adapted model.

    Attributes:
        study, item: whose it is; `cell` its axes there.
        network: what it began as, an encoder of the parameters or a source (``pretrain:NAME``).
        start: digest of those weights.
        what: the names are those of the encoder's image network, of the whole model with its
            text, of an image network below a head (``image.`` and ``head.``), or of a head alone,
            where the encoder stayed as it was.
        tensors: those that differ from the start's.
        form: what else tells how it is built and what it is shown: ``modules`` that are left of a
            cut network; ``size``, ``mean`` and ``std`` of its images.
    """

    study: str
    item: str
    cell: dict[str, Any]
    network: str
    start: str
    what: What
    tensors: dict[str, Tensor]
    form: dict[str, Any] = field(default_factory=dict)

    @property
    def encoder_tensors(self) -> dict[str, Tensor]:
        """Those that are not a head's; of an image network below one, by its own names."""
        if self.what == "head":
            return {}
        if self.what != "adapted":
            return self.tensors
        names = [name for name in self.tensors if name.startswith("image.")]
        return {name.removeprefix("image."): self.tensors[name] for name in names}


FACTS = {each.name for each in fields(Checkpoint)} - {"tensors"}


def changed(tensors: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that are not, bit for bit, those of the start."""
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name not in start
        or start[name].dtype != tensor.dtype
        or not torch.equal(start[name], tensor)
    }


def write(path: Path, found: Checkpoint) -> None:
    """Write a model, whole or not at all; equal models give equal bytes.

    Raises:
        KitError: the file cannot be written.
    """
    from safetensors.torch import save

    facts = {name: value for name, value in vars(found).items() if name != "tensors"}
    kept = {name: t.detach().cpu().clone().contiguous() for name, t in found.tensors.items()}
    write_bytes(path, save(kept, metadata={ABOUT: json.dumps(facts, sort_keys=True)}))


def read(path: Path, whole: bool = True) -> Checkpoint:
    """What `write` wrote.

    Args:
        whole: False leaves the tensors in the file.
    Raises:
        DataError: no such file, a damaged one, or one of something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})[ABOUT])
            tensors = {
                name: file.get_tensor(name) for name in (sorted(file.keys()) if whole else ())
            }
        if set(facts) != FACTS or facts["what"] not in get_args(What):
            raise ValueError("another account")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        said = "no account of a model" if isinstance(error, KeyError) else error
        raise DataError(
            f"{path}: expected the weights of an adapted model, got a file that cannot be read as "
            f"one ({said}); run `dvc repro -f {_stage_of(path)}`"
        ) from error
    return Checkpoint(**facts, tensors=tensors)


def _stage_of(path: Path) -> str:
    parts = path.parts[-3:-1]
    return "@".join(parts) if len(parts) == 2 else "STUDY"


def keep(files: Iterable[Path], study: str, item: str) -> Path:
    """Bring the models of an item to where the pipeline keeps them; what was there goes.

    Raises:
        KitError: the folder cannot be written.
    """
    folder = FOLDER / study / item
    fresh = FOLDER / f".{study}-{item}.new"
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for path in files:
            shutil.copy(path, fresh / path.name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True)
        fresh.replace(folder)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise cannot_write(folder, error) from error
    return folder


def listed(study: str) -> list[Path]:
    """The files of all items of a study, in order of their names.

    Raises:
        DataError: the study has not run.
    """
    folder = FOLDER / study
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected the models that {study} has adapted, found no folder; run "
            f"`dvc repro {study}`"
        )
    return sorted(folder.glob("*/*.safetensors"))
