"""Handmade rows of the continual study."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from carryover.measure import streams
from carryover.report.continual_paired import Answers, Place, Tests
from carryover.rows import Row

OFF = (0.0, 0.02, -0.02)  # of each seed
CLASSES = {"s-digits": 10, "s-letters": 36, "s-mnist": 10}
IMAGES = {"s-digits": 360, "s-letters": 720, "s-mnist": 10000}  # test images
TRAINED = {"s-digits": 1437, "s-letters": 1440, "s-mnist": 60000}
ARMS = {  # item: features, head, freeze
    "frozen": (("tokens", "mlp", ""), ("cls", "mlp", "")),
    "partly": (("tokens", "mlp", "children-2"), ("tokens", "mlp", "embed..block1")),
    "unfrozen": (("tokens", "mlp", ""),),
}
STRATEGIES = ("naive", "ewc", "replay", "joint")
LEVEL = {"frozen": 0.70, "partly": 0.78, "unfrozen": 0.82}  # accuracy right after training
FORGOTTEN = {"naive": 0.12, "ewc": 0.08, "replay": 0.04, "joint": 0.0}  # a task
EPOCHS, LAYERS = 2, 3


def row(item: str, cell: dict[str, Any], split: str, metric: str, value: float, n: int) -> Row:
    return Row(
        study="continual",
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


def matrix(item: str, protocol: str, strategy: str, tasks: int, off: float) -> Any:
    """Accuracy by experience (row 0: before any) and task; chunks share one test set."""
    level, lost = LEVEL[item] + off, FORGOTTEN[strategy] * (1.5 if item == "unfrozen" else 1.0)
    if protocol.startswith("ni"):
        return np.array([[0.1], *([level - 0.1 + 0.05 * time] for time in range(tasks))])
    found = np.full((tasks + 1, tasks), 0.1)
    for task in range(tasks):
        for time in range(task, tasks):
            found[time + 1, task] = max(level - lost * (time - task), 0.0)
    return found


def run(
    item: str,
    stream: str,
    protocol: str,
    strategy: str,
    arm: tuple[str, str, str] = ("tokens", "mlp", ""),
    seeds: int = 3,
    encoder: str = "flava-nano",
) -> list[Row]:
    """Rows of one run: every metric the study has."""
    found: list[Row] = []
    count = int(protocol.rsplit("-", 1)[-1])
    experiences = [count - 1] if strategy == "joint" else list(range(count))
    whole = IMAGES[stream]
    axes = {"stream": stream, "protocol": protocol, "strategy": strategy}
    axes |= {"features": arm[0], "head": arm[1], "encoder": encoder}
    axes |= {"freeze": arm[2]} if arm[2] else {}
    for seed, off in enumerate(OFF[:seeds]):
        cell: dict[str, Any] = axes | {"seed": seed}
        known = matrix(item, protocol, strategy, count, off - 0.2 * (arm[0] == "cls"))
        tasks = known.shape[1]
        for time in [-1, *experiences]:
            here, accuracies = cell | {"experience": time}, known[time + 1]
            mean = accuracies.mean()
            test = {"accuracy": mean, "is_constant": float(mean <= 0.1), "nll": 1.0, "ece": 0.1}
            if time > 0 and strategy != "joint":
                seen = range(1 if tasks == 1 else time)
                lost = [known[task + 1, task] - known[time + 1, task] for task in seen]
                test["stream_forgetting"] = np.mean(lost)
            found += [row(item, here, "test", name, value, whole) for name, value in test.items()]
            found.append(row(item, here, "test", "Top1_Acc_Stream", mean, 0))
            for task, value in enumerate(accuracies if tasks > 1 else ()):
                n = whole // tasks
                found.append(row(item, here | {"task": task}, "test", "task_accuracy", value, n))
            if time < 0:
                continue
            current, replayed = min(known[time + 1].max() + 0.02, 1.0), 0.99
            shown = replay = strategy == "replay" and time > 0
            train = {"train_accuracy": 0.5 * (current + replayed) if shown else current}
            train |= {"train_accuracy_current": current, "loss": 1.6 - 0.1 * time}
            train |= {"train_accuracy_replayed": replayed} if replay else {}
            train |= {"updates": 30}
            n = TRAINED[stream] // count
            found += [row(item, here, "train", name, value, n) for name, value in train.items()]
            for epoch in range(EPOCHS):
                at = here | {"epoch": epoch}
                done = (epoch + 1) / EPOCHS
                loss = (1 - done) * math.log(CLASSES[stream]) + done * train["loss"] + off
                found.append(row(item, at, "train", "epoch_loss", loss, n))
                found.append(row(item, at, "train", "epoch_accuracy", done * current, n))
        for name, value in {"trained_parameters": 1000, "diverged": 0, "lr": 0.05}.items():
            found.append(row(item, cell, "train", name, value, 0))
        if tasks > 1:
            found.append(row(item, cell, "test", "average_accuracy", streams.last(known), whole))
        if tasks > 1 and strategy != "joint":
            ends = {
                "forgetting": streams.forgetting(known),
                "backward_transfer": streams.backward_transfer(known),
                "forward_transfer": np.mean([known[j, j] - known[0, j] for j in range(1, tasks)]),
            }
            found += [row(item, cell, "test", name, v, whole) for name, v in ends.items()]
        found += similarities(cell, experiences, seed) if item != "frozen" else []
    return found


def similarities(cell: dict[str, Any], times: list[int], seed: int) -> list[Row]:
    """CKA with the encoder as it was; bands and pairs of layers of the first seed alone."""
    found, item = [], "unfrozen" if "freeze" not in cell else "partly"
    for time in times:
        for layer in range(LAYERS):
            value = 1 - 0.06 * (time + 1) * layer / LAYERS * (1 + 0.1 * seed)
            at = cell | {"experience": time, "layer": layer}
            found.append(row(item, at, "test", "cka", value, 256))
            if seed == 0:
                found.append(row(item, at, "test", "cka_low", value - 0.02, 256))
                found.append(row(item, at, "test", "cka_high", min(value + 0.02, 1), 256))
    for layer in range(LAYERS) if seed == 0 else ():
        for other in range(LAYERS):
            at = cell | {"layer": layer, "other": other}
            found.append(row(item, at, "test", "cka_pair", 1 - 0.2 * abs(layer - other), 256))
    return found


def between() -> list[Row]:
    """CKA of a partly frozen encoder with an unfrozen one, by layer and other layer."""
    cell = {"stream": "s-digits", "protocol": "ci-5", "strategy": "naive", "features": "tokens"}
    cell |= {"head": "mlp", "encoder": "flava-nano", "freeze": "children-2", "seed": "0"}
    found = []
    for layer in range(LAYERS):
        for other in range(LAYERS):
            value = 0.9 - 0.1 * layer - 0.2 * abs(layer - other)
            at = cell | {"with": "unfrozen", "layer": layer, "other": other}
            found.append(row("partly", at, "test", "cka_between", value, 256))
        for name, reach in (("low", -0.05), ("high", 0.03)):
            at = cell | {"with": "unfrozen", "layer": layer}
            value = 0.9 - 0.1 * layer + reach
            found.append(row("partly", at, "test", f"cka_between_{name}", value, 256))
    return found


def untrained() -> list[Row]:
    """Two encoders as loaded: CKA, and what was published in its place."""
    cell = {"stream": "s-digits", "protocol": "untrained", "encoder": "flava-nano"}
    found = []
    for layer, value in enumerate((0.8, 0.5, 0.4)):
        at = cell | {"layer": layer}
        found.append(row("partly", at, "test", "cka", 1.0, 256))
        found.append(row("partly", at, "train", "published_cka", value, 1))
    return found


def features() -> list[Row]:
    """Logistic regression on features, of a held-out part and of the test images."""
    cell = {"stream": "digits", "encoder": "flava-nano", "features": "cls", "head": "logistic"}
    pairs = (("train", 0.95, 1150), ("validation", 0.9, 287), ("test", 0.875, 360))
    return [row("features", cell, split, "accuracy", value, n) for split, value, n in pairs]


PLACES = (("s-digits", "ni-3"), ("s-digits", "ci-5"), ("s-letters", "rotated-2"))


def rows(item: str, seeds: int = 3) -> list[Row]:
    """Rows of one item, as its file has them."""
    found = [
        each
        for stream, protocol in PLACES
        for arm in ARMS[item]
        for strategy in STRATEGIES
        for each in run(item, stream, protocol, strategy, arm, seeds)
    ]
    if item == "partly":
        found += untrained()
    return found + (features() if item == "frozen" else [])


def everything(seeds: int = 3) -> list[Row]:
    """Rows of all items."""
    return [each for item in ARMS for each in rows(item, seeds)]


def answers_of(
    rows: Iterable[Row], tasks: int = 1, nested: bool = True, mixed: bool = False
) -> Tests:
    """Answers with the rows' accuracies, after each experience.

    Args:
        tasks: that each show all photographs.
        nested: the same photographs are the easy ones for every training.
        mixed: in another order for every training.
    """
    found = {}
    for i, each in enumerate(rows):
        if (each.split, each.metric) == ("test", "accuracy"):
            cell, random = dict(each.cell), np.random.default_rng(i)
            seed, experience = int(cell.pop("seed")), int(cell.pop("experience"))
            place = Place(item=each.item, freeze="", seed=seed, experience=experience, **cell)
            right = np.arange(each.n) < round(each.value * each.n)
            right = right if nested else random.permutation(right)
            ids, order = np.arange(each.n) // tasks, np.arange(each.n)
            order = random.permutation(order) if mixed else order
            labels = ids % CLASSES["s-digits"]
            answers = Answers(np.arange(each.n) % tasks, ids, labels, right)
            found[place] = Answers(*(part[order] for part in answers))
    return found
