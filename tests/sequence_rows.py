"""Handmade rows of the sequence study."""

from __future__ import annotations

from typing import Any

import numpy as np

from carryover.measure import streams
from carryover.rows import Row

SETS = ("colours", "digits", "letters", "shapes", "textures")
ORDERS = {"1": SETS, "2": SETS[::-1]}
IMAGES = {
    "colours": 200,
    "digits": 898,
    "letters": 260,
    "shapes": 240,
    "textures": 300,
    "world": 500,
}
START = {
    "colours": 0.7,
    "digits": 0.2,
    "letters": 0.1,
    "shapes": 0.6,
    "textures": 0.5,
    "world": 0.6,
}
OFF = (0.0, 0.01, -0.01)  # of each seed
METHODS = {  # item: method: gained when trained, lost a set later, lost of zero-shot a set
    "plain": {"zero-shot": (0, 0, 0), "finetune": (0.3, 0.08, 0.06), "joint": (0.3, 0, 0)},
    "distill": {
        "lwf": (0.27, 0.06, 0.04),
        "zscl": (0.26, 0.02, 0.005),
        "zscl-star": (0.28, 0.03, 0.02),
    },
    "lora": {"zscl-lora": (0.22, 0.01, 0.003)},
    "average": {"wise-ft": (0.24, 0.05, 0.03)},
}


def row(item: str, cell: dict[str, Any], split: str, metric: str, value: float, n: int) -> Row:
    return Row(
        study="sequence",
        item=item,
        preset="tiny",
        cell=cell,
        split=split,
        metric=metric,
        value=round(float(value), 6),
        n=n,
        data="d",
        weights="w",
        params="p",
        source="s",
        precision="float32",
    )


def matrix(item: str, method: str, sets: tuple[str, ...], off: float = 0.0) -> Any:
    """Accuracy by sets trained and task."""
    gained, lost, drift = METHODS[item][method]
    t = len(sets)
    found = np.zeros((t + 1, t))
    for task, name in enumerate(sets):
        for after in range(t + 1):
            past = after - task - 1  # sets since it was trained
            value = (
                START.get(name, 0.5) - drift * after
                if past < 0
                else START.get(name, 0.5) + gained - lost * past
            )
            found[after, task] = min(max(value + off * (after > 0), 0.0), 1.0)
    if method == "joint":
        found[1:] = found[-1] = [START.get(name, 0.5) + gained for name in sets]
    return found


def run(
    item: str,
    method: str,
    order: str = "1",
    seeds: int = 3,
    outside: tuple[str, ...] = (),
    sets: tuple[str, ...] = (),
) -> list[Row]:
    """Rows of one run: every metric that the study writes.

    Args:
        outside: tested sets that the order has not.
        sets: in place of the order's.
    """
    sets = sets or ORDERS[order]
    t, found = len(sets), []
    for seed, off in enumerate(OFF[:seeds]):
        cell = {"method": method, "order": order, "seed": seed}
        known = matrix(item, method, sets, 0.0 if method == "zero-shot" else off)
        times = {"zero-shot": [0], "joint": [0, t]}.get(method, list(range(t + 1)))
        for after in times:
            here = cell | {"after": after}
            for task, name in enumerate(sets, start=1):
                at, n = here | {"task": task, "dataset": name}, IMAGES.get(name, 1000)
                value = round(known[after, task - 1] * n) / n
                found += [
                    row(item, at, "test", "accuracy", value, n),
                    row(item, at, "test", "top5_accuracy", min(value + 0.2, 1.0), n),
                    row(item, at, "test", "per_class_accuracy", value - 0.01, n),
                ]
            for name in outside:
                at, n = here | {"dataset": name}, IMAGES[name]
                found.append(
                    row(item, at, "test", "other_accuracy", START.get(name, 0.5) - 0.01 * after, n)
                )
            whole = sum(IMAGES.get(name, 1000) for name in sets)
            found.append(row(item, here, "test", "accuracy_all", known[after].mean(), whole))
            found.append(row(item, here, "test", "accuracy_trained", known[after].mean(), whole))
        found.append(row(item, cell, "test", "last", known[-1].mean(), whole))
        if method != "joint":
            for name in ("transfer", "average", "learned", "forgetting"):
                value = float(getattr(streams, name)(known))
                found.append(row(item, cell, "test", name, value, whole))
        if method != "zero-shot":
            train = {"updates": 200, "images_seen": 6400, "trained_numbers": 50000, "lr": 0.001}
            found += [row(item, cell, "train", name, v, 6400) for name, v in train.items()]
    return found


def mixed(item: str = "average", method: str = "wise-ft", seeds: int = 2) -> list[Row]:
    """Tests of mixed weights after three sets."""
    found = []
    for seed in range(seeds):
        for mix in (0.0, 0.25, 0.5, 0.75, 1.0):
            for task, name in enumerate(SETS, start=1):
                cell = {"method": method, "order": "1", "seed": seed, "after": 3, "task": task}
                value = START.get(name, 0.5) + (0.25 * mix if task <= 3 else -0.1 * mix**2)
                value += OFF[seed] * mix
                at = cell | {"dataset": name, "mix": mix}
                found.append(row(item, at, "test", "mixed_accuracy", value, IMAGES[name]))
    return found


def on_the_way(item: str, method: str, seeds: int = 2, updates: int = 40) -> list[Row]:
    """Tests every ten updates of each of five sets."""
    found = []
    for seed in range(seeds):
        known = matrix(item, method, SETS, OFF[seed])
        for after in range(len(SETS)):
            for step in range(0 if after == 0 else 10, updates + 1, 10):
                for task, name in enumerate(SETS, start=1):
                    share = step / updates
                    value = (1 - share) * known[after, task - 1] + share * known[
                        after + 1, task - 1
                    ]
                    cell = {"method": method, "order": "1", "seed": seed, "after": after}
                    cell |= {"task": task, "dataset": name, "step": step}
                    found.append(
                        row(item, cell, "test", "accuracy_on_the_way", value, IMAGES[name])
                    )
    return found


def rows(item: str, seeds: int = 3) -> list[Row]:
    """Rows of one item, as its file has them."""
    return [
        each
        for method in METHODS[item]
        for order in ORDERS
        for each in run(item, method, order, seeds)
    ]


def everything(seeds: int = 3) -> list[Row]:
    """Rows of all items."""
    return [each for item in METHODS for each in rows(item, seeds)]
