"""A trained network on disk: ``weights.safetensors`` and ``card.json``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from torch import nn

from carryover.errors import DataError
from carryover.files import digest_of_files, write_bytes, write_json


def save(folder: Path, network: nn.Module, card: dict[str, Any]) -> None:
    """Write weights and the card with their digest; the folder appears whole or stays as it was."""
    from safetensors.torch import save as to_bytes

    weights = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    work = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    try:
        write_bytes(work / "weights.safetensors", to_bytes(weights))
        found = digest_of_files([work / "weights.safetensors"])
        write_json(work / "card.json", card | {"weights": found})
        shutil.rmtree(folder, ignore_errors=True)
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read_fields(path: Path) -> dict[str, Any]:
    """What a JSON file says under its names.

    Raises:
        DataError: no such file, or not JSON with names.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: expected JSON, cannot read it ({error}); fetch it again, see docs/encoders.md"
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"{path}: expected JSON with names and values, got {type(found).__name__}; fetch it "
            "again, see docs/encoders.md"
        )
    return found


def read_card(folder: Path) -> dict[str, Any]:
    """What a network is, what it was trained on and the digest of its weights.

    Raises:
        DataError: no card, or weights that are not the card's.
    """
    try:
        card: dict[str, Any] = json.loads((folder / "card.json").read_text())
        expected = card["weights"]
        found = digest_of_files([folder / "weights.safetensors"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{folder}: expected weights.safetensors and card.json, cannot read them ({error}); "
            f"run `dvc repro pretrain@{folder.name}`"
        ) from error
    if found != expected:
        raise DataError(
            f"{folder}/weights.safetensors: expected digest {expected}, got {found}: "
            f"the file was altered; run `dvc repro -f pretrain@{folder.name}`"
        )
    return card


def load_(folder: Path, network: nn.Module) -> None:
    """Load weights into a network of the same architecture."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(folder / "weights.safetensors"))
