"""CKA between encoders of two arms at the end of a stream: one partly frozen, one not at all.

The arms of one training differ in what is frozen alone. Their stages know nothing of each other,
so each keeps what its layers make of the compared images, and the report compares. A frozen encoder
is the one as loaded, which each arm's own rows have it compared with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carryover import run
from carryover.config.continual import Similarity
from carryover.continual_layers import FOLDER, read_layers
from carryover.errors import DataError
from carryover.measure.similarity import cka_of_told
from carryover.measure.similarity_batches import cka_bands

Number = tuple[str, dict[str, int], float, int]  # metric, axes, value, n
Pair = tuple[dict[str, Any], str, list[Number]]  # cell, digest of the images, numbers

PAIR = ("partly", "unfrozen")


def between(cka: Similarity, checkpoints: Path, seed: int) -> Iterator[Pair]:
    """CKA of each layer of a partly frozen encoder with each of its unfrozen twin, first seed.

    Args:
        checkpoints: with a folder an item, of which each has a folder of layers.
        seed: of the draws for the bands of equal layers, each pair's its own: those of others stay
            what they are where one is added or left out.
    Yields:
        By training that both arms have: its axes with what is frozen, and numbers; none of a layer
        that makes the same of all images.
    Raises:
        DataError: layers that cannot be read, or of other images in one arm than in the other.
    """
    partly, unfrozen = (_found(checkpoints / item / FOLDER) for item in PAIR)
    for path, cell, data in partly:
        wanted = {axis: value for axis, value in cell.items() if axis != "freeze"}
        twin = next((each for each in unfrozen if each[1] == wanted), None)
        if twin is None:
            continue
        if twin[2] != data:
            raise DataError(
                f"{twin[0]}: expected layers of the images of {path}, got those of others; run "
                "`dvc repro continual`"
            )
        a, b = read_layers(path)[0], read_layers(twin[0])[0]
        n = len(a[0])
        pairs = cka_of_told(a, b, cka.kind, cka.debiased, cka.sigma)
        found: list[Number] = [
            ("cka_between", {"layer": layer, "other": other}, float(value), n)
            for layer, values in enumerate(pairs.tolist())
            for other, value in enumerate(values)
            if math.isfinite(value)
        ]
        told = pairs.diagonal().isfinite().nonzero()[:, 0].tolist()
        if cka.draws and told:
            a, b = ([layers[layer] for layer in told] for layers in (a, b))
            bands = cka_bands(
                *(a, b, cka.kind, cka.debiased),
                draws=cka.draws,
                generator=run.generator(seed, f"continual/between/{_told(cell)}"),
                sigma=cka.sigma,
            )
            for layer, band in zip(told, bands, strict=True):
                found.append(("cka_between_low", {"layer": layer}, band.low, n))
                found.append(("cka_between_high", {"layer": layer}, band.high, n))
        yield cell, data, found


def _told(cell: dict[str, Any]) -> str:
    """``protocol=ni-3/stream=s-digits/…``, in whatever order the axes stand."""
    return "/".join(f"{axis}={value}" for axis, value in sorted(cell.items()))


def _found(folder: Path) -> list[tuple[Path, dict[str, Any], str]]:
    """Files of layers in order, of which training and of which images each is."""
    made = []
    for path in sorted(folder.glob("*.safetensors")):
        about = read_layers(path)[1]
        made.append((path, about["cell"], about["data"]))
    return made
