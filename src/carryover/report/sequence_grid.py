"""How a method of the sequence study looks, and which are drawn together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from carryover.report.blocks import key
from carryover.report.figures import GREY
from carryover.report.sequence_scores import FINETUNE, METHODS, ZERO_SHOT, Run, Scores, images

COLOURS = {  # of families
    "black": (ZERO_SHOT,),
    "#d55e00": (FINETUNE, "finetune-lora", "joint"),
    "#8c6d31": ("ncm", "ridge", "wc"),
    "#e69f00": ("lwf", "lwf-vr", "icarl"),
    "#0072b2": ("zscl", "zscl-star", "zscl-plain", "feature-mse", "image-similarity"),
    "#cc79a7": ("zscl-ogd", "ogd", "zscl-sfao"),
    "#009e73": ("zscl-lora", "zscl-lora-shared", "zscl-lora-shared-split"),
    "#56b4e9": (
        *("wise-ft", "wise-at-test", "running-mean", "running-mean-wise"),
        *("moving-average", "ema", "task-mean"),
    ),
}
SHAPES = ("o", "s", "^", "D", "v", "<", ">")
DASHES = ("-", "--", "-.", ":", (0, (6, 1)), (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))
LOOKS: dict[str, dict[str, Any]] = {
    name: {"color": colour, "marker": SHAPES[i], "linestyle": DASHES[i]}
    for colour, names in COLOURS.items()
    for i, name in enumerate(names)
}
OTHER: Any = {"color": GREY, "marker": "P", "linestyle": "-"}  # a method that is not listed
TOGETHER = 8  # methods that one panel has room for
FAMILIES = ("plain", "distill", "ogd", "lora", "average")


def heading(scores: Scores, order: str, found: Sequence[Run]) -> str:
    """An order and its test images, ``order 1: 5 sets of 36 to 898 test images``."""
    counts = images(scores, found)
    n = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"order {order}: {len(scores.orders[order])} sets of {n} test images"


def look(method: str) -> dict[str, Any]:
    """Colour, marker and line of a method."""
    return LOOKS.get(method, OTHER)


def families(found: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Runs of one order together, or, if many, by item with zero-shot and fine-tuning in each."""
    if len(found) <= TOGETHER:
        return [("", list(found))]
    always = [run for run in found if run.method in (ZERO_SHOT, FINETUNE)]
    rest = [run for run in found if run not in always]
    known = [item for item in FAMILIES if any(run.item == item for run in rest)]
    items = [*known, *sorted({run.item for run in rest} - set(FAMILIES))]
    return [(item, [*always, *(run for run in rest if run.item == item)]) for item in items]


def method_keys(found: Iterable[Run], **more: Any) -> list[Any]:
    """Legend entries of the methods, in their order."""
    names = {run.method for run in found}
    known = [*(n for n in METHODS if n in names), *sorted(names - set(METHODS))]
    return [key(name, **{"linewidth": 0.9, "markersize": 4} | look(name) | more) for name in known]
