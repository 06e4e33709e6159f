"""Handmade rows of the adaptation study."""

from __future__ import annotations

from typing import Any

from carryover.rows import Row

SETS = {"digits": 400, "shapes": 250, "letters": 500}  # the first is adapted to; test images
PARTITIONS = (0.1, 0.5, 1.0)
IMAGES = {0.1: 100, 0.5: 500, 1.0: 1000}
ITEMS = {
    "probe": ("zero-shot", "probe", "probe-logistic", "probe-missing-class", "probe-extra-class"),
    "unfreeze": ("unfreeze-norm", "unfreeze-all", "unfreeze-last-2"),
    "llrd": ("llrd",),
}
OFF = (0.02, -0.02, 0.0)  # of each seed
MEANS = {  # accuracy at each partition
    "probe": (0.60, 0.70, 0.80),
    "probe-logistic": (0.60, 0.70, 0.80),
    "probe-missing-class": (0.60, 0.50, 0.40),
    "probe-extra-class": (0.60, 0.70, 0.40),
    "unfreeze-norm": (0.65, 0.75, 0.80),
    "unfreeze-all": (0.50, 0.75, 0.90),
    "unfreeze-last-2": (0.60, 0.75, 0.85),
    "llrd": (0.65, 0.75, 0.85),
}
ZERO_SHOT = {"digits": 0.35, "shapes": 0.80, "letters": 0.60}
FAULT_FROM = {"probe-missing-class": 0.5, "probe-extra-class": 1.0}


def row(item: str, cell: dict[str, Any], split: str, metric: str, value: float, n: int) -> Row:
    return Row(
        study="adapt",
        item=item,
        preset="tiny",
        cell={"dataset": "digits", "encoder": "clip-nano", **cell},
        split=split,
        metric=metric,
        value=round(value, 6),
        n=n,
        data="d",
        weights="w",
        params="p",
        source="s",
        precision="float32",
    )


def rows(item: str, seeds: int = 3) -> list[Row]:
    """Rows of one item; the seeds lie 0.02 about the means."""
    found: list[Row] = []
    for method in ITEMS[item]:
        if method == "zero-shot":
            cell = {"method": method}
            for metric, value in (("accuracy", 0.35), ("nll", 2.0), ("ece", 0.2), ("brier", 0.7)):
                found.append(row(item, cell, "test", metric, value, SETS["digits"]))
            found.append(row(item, cell | {"partition": 1.0}, "train", "accuracy", 0.33, 1000))
            for name, n in SETS.items():
                here = cell | {"dataset": name}
                found.append(row(item, here, "test", "zeroshot_accuracy", ZERO_SHOT[name], n))
            continue
        for partition, mean in zip(PARTITIONS, MEANS[method], strict=True):
            images = IMAGES[partition]
            if partition >= FAULT_FROM.get(method, 2.0):
                images = round(images * (0.9 if method == "probe-missing-class" else 1.1))
            for seed, off in enumerate(OFF[:seeds]):
                cell = {"method": method, "partition": partition, "seed": seed}
                test = {"accuracy": mean + off, "nll": 1 - mean, "ece": 0.1 - off, "brier": 0.3}
                for metric, value in test.items():
                    found.append(row(item, cell, "test", metric, value, SETS["digits"]))
                train = {"accuracy": 0.99, "loss": 0.1, "updates": 60, "lr": 0.001}
                for metric, value in train.items():
                    found.append(row(item, cell, "train", metric, value, images))
                for name, n in SETS.items() if item != "probe" else ():
                    value = ZERO_SHOT[name] - 0.2 * partition + off
                    here = cell | {"dataset": name}
                    found.append(row(item, here, "test", "zeroshot_accuracy", value, n))
    return found


def everything(seeds: int = 3) -> list[Row]:
    """Rows of all items."""
    return [row for item in ITEMS for row in rows(item, seeds)]
