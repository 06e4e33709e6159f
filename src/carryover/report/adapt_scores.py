"""What the adaptation study's tables and figures are made of: numbers by method and partition."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from carryover.errors import DataError
from carryover.report.adapt_paired import Place as Test
from carryover.report.adapt_paired import Right
from carryover.rows import Row

T = TypeVar("T")

BySeed = Mapping[int, float]
Place = tuple[str, float, str]  # method, partition, and metric or tested set

ZERO_SHOT, PROBE, SOLVER = "zero-shot", "probe", "probe-logistic"
FAULTS = ("probe-missing-class", "probe-without-class", "probe-extra-class")
CORRECT = "correct partitions"
KINDS = ("norm", "attention", "mlp", "embedding", "projection", "all")
TITLES = {
    ZERO_SHOT: "zero-shot",
    PROBE: "probe",
    SOLVER: "probe by a solver",
    "probe-missing-class": "a class folder missing",
    "probe-without-class": "that class missing, labels right",
    "probe-extra-class": "a class folder too many",
    "unfreeze-norm": "norms",
    "unfreeze-attention": "attention",
    "unfreeze-mlp": "MLP",
    "unfreeze-embedding": "embedding",
    "unfreeze-projection": "projection",
    "unfreeze-all": "all",
    "llrd": "norms, LLRD",
    "llrd-blocks": "all, LLRD",
}
HELD_AGAINST = {PROBE: "the frozen probe", SOLVER: "the frozen probe by the solver"}
HEADS = {"accuracy": "trained", "zeroshot_accuracy": "text"}  # that an accuracy is of
HALF = 0.5  # of an image
FAMILIES = {  # of methods, as panels show them; a method is in the first that fits
    "encoder frozen": re.compile(r"probe|probe-logistic"),
    "partition fault": re.compile("|".join(FAULTS)),
    "unfrozen by depth": re.compile(r"unfreeze-last-\d+"),
    "norms, falling rates": re.compile(r"llrd"),
    "embedding or everything": re.compile(r"unfreeze-(embedding|all)|llrd-blocks"),
    "unfrozen by kind": re.compile(r".*"),
}


@dataclass(frozen=True, eq=False)
class AdaptScores:
    """Numbers of one encoder adapted to one data set.

    Attributes:
        dataset, encoder: what was adapted to what.
        images: training images of each partition, ascending; of the correct ones, where methods
            with a partition fault stand beside others.
        seeds: the seeds that every method has at every partition.
        n: test images.
        tested: numbers on the test images by method, partition and metric.
        trained: numbers of the training (``accuracy``, ``loss``, ``updates``, ``lr``), likewise.
        zero_shot: of the encoder before adapting, by metric, on the test images.
        kept: zero-shot accuracy after adapting by method, partition and tested set; empty where
            `before` is.
        before: zero-shot accuracy before, by set: the one adapted to first.
        sets: test images of each set in `before`.
        fault_from: of each method with a partition fault, the first partition that it changes.
        right: which test images each test had right; empty where some are not at hand.
    """

    dataset: str
    encoder: str
    images: Mapping[float, int]
    seeds: tuple[int, ...]
    n: int
    tested: Mapping[Place, BySeed]
    trained: Mapping[Place, BySeed]
    zero_shot: Mapping[str, float]
    kept: Mapping[Place, BySeed]
    before: Mapping[str, float]
    sets: Mapping[str, int]
    fault_from: Mapping[str, float]
    right: Right = field(default_factory=dict)


def from_rows(rows: Iterable[Row], right: Right | None = None) -> AdaptScores:
    """Numbers of the study's rows.

    Args:
        right: which images the tests had right, as far as predictions are at hand.
    Raises:
        DataError: no trained method; several encoders, sets adapted to, or numbers of images of
            one kind; methods or partitions with different seeds; or predictions that are not those
            that the accuracies are of.
    """
    rows = list(rows)
    own = [row for row in rows if row.metric != "zeroshot_accuracy"]
    other = [row for row in rows if row.metric == "zeroshot_accuracy"]
    runs = [row for row in own if row.cell["method"] != ZERO_SHOT]
    dataset = _one({str(row.cell["dataset"]) for row in own}, "data set adapted to")
    encoder = _one({str(row.cell["encoder"]) for row in rows}, "encoder")
    n = _one({row.n for row in own if row.split == "test"}, "number of test images")
    tested = _by_place(runs, "test")
    accuracies = [values for (*_, metric), values in tested.items() if metric == "accuracy"]
    seeds = _one({tuple(sorted(values)) for values in accuracies}, "set of seeds")
    sizes: dict[tuple[str, float], set[int]] = {}
    for row in runs:
        if row.split == "train":
            place = str(row.cell["method"]), float(row.cell["partition"])
            sizes.setdefault(place, set()).add(row.n)
    methods = {method for method, _, _ in tested}
    correct = [method for method in methods if method not in FAULTS] or list(methods)
    images = {
        partition: _one(
            {n for method in correct for n in sizes.get((method, partition), ())},
            f"number of training images at partition {partition:g}",
        )
        for partition in sorted({partition for _, partition, _ in tested})
    }
    adapted = [row for row in other if row.cell["method"] != ZERO_SHOT]
    before = {
        str(row.cell["dataset"]): row.value for row in other if row.cell["method"] == ZERO_SHOT
    }
    order = sorted(before, key=lambda name: name != dataset)
    return AdaptScores(
        dataset=dataset,
        encoder=encoder,
        images=images,
        seeds=seeds,
        n=n,
        tested=tested,
        trained=_by_place(runs, "train"),
        zero_shot={
            row.metric: row.value
            for row in own
            if row.cell["method"] == ZERO_SHOT and row.split == "test"
        },
        kept=_by_place(adapted if before else [], "test", True),
        before={name: before[name] for name in order},
        sets={name: _images_of(other, name) for name in order},
        fault_from={
            method: min(changed)
            for method in FAULTS
            if (
                changed := [p for p in images if sizes.get((method, p), {images[p]}) != {images[p]}]
            )
        },
        right=_of_accuracies(rows, right or {}),
    )


def _of_accuracies(rows: Iterable[Row], right: Right) -> Right:
    """The tests that the rows' accuracies are of; none where one of them is not at hand."""
    found = {}
    for row in rows:
        if row.split != "test" or row.metric not in HEADS:
            continue
        cell, head = row.cell, HEADS[row.metric]
        place = Test(str(cell["method"]), 1.0, 0, str(cell["dataset"]), "text")
        if cell["method"] != ZERO_SHOT:
            at = float(cell["partition"]), int(cell["seed"])
            place = place._replace(partition=at[0], seed=at[1], head=head)
        if place not in right:
            return {}
        if len(right[place]) != row.n or abs(right[place].sum() - row.value * row.n) > HALF:
            raise DataError(
                f"adapt: expected predictions with an accuracy of {row.value:.4f} on {row.n} "
                f"images ({', '.join(map(str, place))}), got {right[place].mean():.4f} on "
                f"{len(right[place])}; run `dvc repro adapt`"
            )
        found[place] = right[place]
    return found


def _by_place(rows: Iterable[Row], split: str, by_set: bool = False) -> dict[Place, BySeed]:
    found: dict[Place, dict[int, float]] = {}
    for row in rows:
        if row.split == split:
            what = str(row.cell["dataset"]) if by_set else row.metric
            place = str(row.cell["method"]), float(row.cell["partition"]), what
            found.setdefault(place, {})[int(row.cell["seed"])] = row.value
    return {place: dict(sorted(values.items())) for place, values in found.items()}


def _images_of(rows: Iterable[Row], dataset: str) -> int:
    counts = {row.n for row in rows if row.cell["dataset"] == dataset}
    return _one(counts, f"number of test images of {dataset}")


def _one(values: set[T], name: str) -> T:
    if len(values) != 1:
        raise DataError(
            f"adapt: expected rows with one {name}, got {sorted(map(str, values))}; take rows that "
            "belong together"
        )
    return next(iter(values))


def methods(scores: AdaptScores) -> list[str]:
    """Trained methods: frozen, by kind, all, by depth, falling rates, then those with a fault."""
    names = ["encoder frozen", "unfrozen by kind", "embedding or everything", "unfrozen by depth"]
    order = {name: i for i, name in enumerate([*names, "norms, falling rates", "partition fault"])}
    found = {method for method, _, _ in scores.tested}
    return sorted(found, key=lambda method: (order[family(method)], *_within(method)))


def _within(method: str) -> tuple[int, str]:
    """Place of a method in its family: kinds as listed, depths by their number."""
    last = method.rsplit("-", 1)[-1]
    if last.isdigit():
        return int(last), method
    if method in FAULTS:
        return FAULTS.index(method), method
    return (KINDS.index(last), method) if last in KINDS else (0, method)


def family(method: str) -> str:
    """The family of a method."""
    return next(name for name, fits in FAMILIES.items() if fits.fullmatch(method))


def title(method: str) -> str:
    """A method in words for figures; its own name where it has no others."""
    depth = re.fullmatch(r"unfreeze-last-(\d+)", method)
    return f"last {depth[1]}" if depth else TITLES.get(method, method)


def others(scores: AdaptScores) -> list[str]:
    """The sets that were not adapted to and have a zero-shot accuracy."""
    return [name for name in scores.before if name != scores.dataset]


def tuned(scores: AdaptScores) -> list[str]:
    """Methods that change the encoder and so its zero-shot accuracy."""
    found = {method for method, _, _ in scores.kept}
    return [method for method in methods(scores) if method in found]


def share(partition: float) -> str:
    """A partition in per cent, ``10 %``."""
    return f"{100 * partition:.4g} %"
