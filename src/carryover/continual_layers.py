"""What layer groups of encoders make of the same images, kept on the disk to be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from carryover.errors import DataError
from carryover.files import write_bytes

Layers = Sequence[Float[Tensor, "n _"]]

FOLDER = "layers"  # of the files, below the weights of the same trainings


def write_layers(path: Path, layers: Layers, about: Mapping[str, Any]) -> None:
    """Layers, input to output, as safetensors.

    Args:
        about: of which encoder and images they are.
    """
    from safetensors.torch import save

    named = {f"{place:03d}": layer.cpu().contiguous() for place, layer in enumerate(layers)}
    write_bytes(path, save(named, metadata={"about": json.dumps(about)}))


def read_layers(path: Path) -> tuple[list[Tensor], dict[str, Any]]:
    """What `write_layers` wrote: layers, input to output, and of which encoder they are.

    Raises:
        DataError: not such a file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about: dict[str, Any] = json.loads(file.metadata()["about"])
            layers = [file.get_tensor(name) for name in sorted(file.keys())]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: expected layers of an encoder, got {error}; run `dvc repro continual`"
        ) from error
    return [torch.as_tensor(layer) for layer in layers], about
