"""Accuracies on Food-101 that the original of the adaptation study published."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from carryover.errors import DataError
from carryover.measure.statistics import Interval, wilson

DATASET = "food-101"
CLIP = "clip-vit-b-32"
MODELS = {  # encoder and method in the table: what figures call it
    (CLIP, "probe"): "CLIP, frozen probe",
    (CLIP, "llrd"): "CLIP, norms, LLRD",
    ("xception", "unstated"): "Xception",
    ("densenet201", "pretrained"): "DenseNet-201, pretrained",
    ("densenet201", "scratch"): "DenseNet, from scratch",
}


@dataclass(frozen=True)
class Published:
    """What was published: one run each.

    Attributes:
        curves: of each of `MODELS` the accuracy by partition; bounds are Wilson's over the test
            images, and what rounding or flooring may hide beyond them.
        zero_shot: of CLIP on the test images.
        n: test images.
    """

    curves: dict[tuple[str, str], dict[float, Interval]]
    zero_shot: Interval
    n: int


def read(path: Path) -> Published:
    """Test accuracies of the README's table and the zero-shot notebook.

    Raises:
        DataError: not that table, or no accuracies on the set in it.
    """
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    try:
        cells = [_cell(line["cell"]) for line in lines]
        found = [
            (cell, float(line["value"]), int(line["n"]), float(line["plus_minus"]))
            for line, cell in zip(lines, cells, strict=True)
            if (line["split"], line["metric"], cell["dataset"]) == ("test", "accuracy", DATASET)
        ]
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: expected released accuracies, got {error}; restore it") from error
    curves = {
        model: {
            float(cell["partition"]): _sure(value, n, blur)
            for cell, value, n, blur in found
            if (cell["encoder"], cell["method"], cell["protocol"]) == (*model, "readme")
        }
        for model in MODELS
    }
    zero_shot = [each for each in found if each[0]["method"] == "zero-shot"]
    if not zero_shot or not all(curves.values()):
        raise DataError(f"{path}: expected accuracies of each model on {DATASET}; restore it")
    _, value, n, blur = zero_shot[0]
    return Published(curves, _sure(value, n, blur), n)


def _cell(text: str) -> dict[str, str]:
    return dict(axis.split("=") for axis in text.split(";"))


def _sure(value: float, n: int, blur: float) -> Interval:
    found = wilson(round(value * n), n)
    return Interval(value, found.low - blur, found.high + blur)


def partitions(published: Published) -> list[float]:
    """Partitions of any model, ascending."""
    every: Iterable[dict[float, Interval]] = published.curves.values()
    return sorted({partition for curve in every for partition in curve})
