"""Handmade rows of the retrieval study."""

from __future__ import annotations

import math
from typing import Any

from carryover.rows import Row

N = 898  # test images
STEPS = (0, 5, 10, 20, 40, 80, 120, 160, 240)
NOISE = (0.0, 0.1, 0.2, 0.3, 0.5)
CORRUPTIONS = ("brightness", "contrast", "gaussian-blur", "jpeg")
SEVERITIES = (1, 3, 5)
OFF = (0.0, 0.01, -0.015)  # of each seed
ARMS: dict[tuple[str, int | None, str], tuple[float, float, float]] = {
    # accuracy at the end, steps to learn, accuracy lost by a noise of 0.5
    ("none", None, "none"): (0.93, 60.0, 0.5),
    ("none", None, "parameters"): (0.93, 55.0, 0.5),
    ("none", None, "corpus"): (0.95, 25.0, 0.45),
    ("none", None, "probe"): (0.9, 0.0, 0.4),
    ("knn", 5, "none"): (0.94, 14.0, 0.38),
    ("knn", 10, "none"): (0.945, 12.0, 0.36),
    ("knn", 30, "none"): (0.942, 12.0, 0.35),
    ("knn", 5, "vote"): (0.88, 0.0, 0.3),
    ("knn", 10, "vote"): (0.89, 0.0, 0.3),
    ("knn", 30, "vote"): (0.87, 0.0, 0.3),
    ("knn", 10, "zeros"): (0.925, 70.0, 0.5),
    ("knn", 10, "shuffled"): (0.92, 75.0, 0.5),
    ("knn", 10, "single"): (0.92, 68.0, 0.5),
    ("knn", 10, "other-memory"): (0.9, 65.0, 0.5),
    ("knn", 10, "labels"): (0.95, 8.0, 0.33),
    ("knn", 10, "clean-query"): (0.945, 12.0, 0.1),
    ("knn", 10, "memory-5"): (0.91, 20.0, 0.4),
    ("knn", 10, "memory-20"): (0.93, 15.0, 0.38),
    ("knn", 10, "reshaped"): (0.8, 80.0, 0.5),
    ("sampled", 10, "none"): (0.91, 70.0, 0.5),
    ("sampled", 10, "entry-0"): (0.905, 72.0, 0.5),
}
NEVER = ("reshaped", "shuffled")  # to 0.8, in some seed


def row(item: str, cell: dict[str, Any], split: str, metric: str, value: float, n: int = N) -> Row:
    return Row(
        study="retrieval",
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


def counted(value: float) -> float:
    """As a share of the test images."""
    return round(min(max(value, 0.0), 1.0) * N) / N


def run(item: str, access: str, k: int | None, control: str, seeds: int = 3) -> list[Row]:
    """Rows of one arm: every metric that the study writes."""
    end, slow, lost = ARMS[access, k, control]
    slow *= 1.5 if item == "perceiver" else 1.0
    found = []
    for seed, off in enumerate(OFF[:seeds]):
        cell: dict[str, Any] = {"dataset": "digits", "access": access}
        cell |= {} if k is None else {"k": k}
        cell |= {"control": control, "seed": seed}
        last = end + off * 0.5
        for noise in NOISE:
            value = counted(0.1 + (last - 0.1) * (1 - lost * 2 * noise))
            found.append(row(item, cell | {"noise": noise}, "test", "accuracy", value))
        clean = cell | {"noise": 0.0}
        found.append(row(item, clean, "test", "nll", 1.5 * (1 - last)))
        found.append(row(item, clean, "test", "ece", 0.3 * (1 - last)))
        for i, corruption in enumerate(CORRUPTIONS):
            for severity in SEVERITIES:
                value = counted(last - lost * 0.08 * severity * (1 + i / 4))
                at = cell | {"corruption": corruption, "severity": severity}
                found.append(row(item, at, "test", "corrupted_accuracy", value))
        if not slow:
            continue
        curve = [0.1 + (last - 0.1) * (1 - math.exp(-step / (slow * (1 + off)))) for step in STEPS]
        for step, value in zip(STEPS, curve, strict=True):
            at = clean | {"step": step}
            found.append(row(item, at, "test", "curve_accuracy", counted(value)))
            found.append(row(item, at, "test", "running_max_accuracy", counted(value + 0.012)))
            if step:
                found.append(row(item, at, "train", "curve_loss", 2.3 * (1 - value) + 0.02, 64))
        there = [step for step, value in zip(STEPS, curve, strict=True) if counted(value) >= 0.8]
        reached = bool(there) and not (control in NEVER and seed)
        first = there[0] if reached else STEPS[-1]
        found.append(row(item, clean, "test", "steps_to_080", first))
        found.append(row(item, clean, "test", "reached_080", float(reached)))
        area = sum(
            (b - a) * (x + y) / 2
            for a, b, x, y in zip(STEPS, STEPS[1:], curve, curve[1:], strict=False)
        )
        found.append(row(item, clean, "test", "area", area / STEPS[-1]))
        train = {"updates": 240, "trained_numbers": 700000 + 300000 * bool(k), "lr": 0.05}
        found += [row(item, cell, "train", name, v, 898) for name, v in train.items()]
    return found


def rows(item: str, seeds: int = 3) -> list[Row]:
    """Rows of one item, as its file has them."""
    return [each for arm in ARMS for each in run(item, *arm, seeds)]


def everything(seeds: int = 3) -> list[Row]:
    """Rows of both items."""
    return [each for item in ("resnet18", "perceiver") for each in rows(item, seeds)]
