"""The original cut study's result files, read as rows. (`carryover.export` writes such files.)

A released file is a JSON list. Element 0 is the parameter dictionary (some files have none), the
others are runs, or clusterings of one layer's features. What a file leaves open is settled so:

- The pair of source and target comes from the folder, a random or reversed choice of classes from
  the file's name (``cifar10-random``); in a folder of another name the class lists decide.
- The setting comes from the parameters ``freeze``, ``reinit`` and ``truncate``, else from the
  file's name. Where a name says otherwise, the runs agree with the parameters.
- What a file calls ``test_acc`` is split ``test`` here too, but in most files it was measured on
  **training** images, those that were trained on among them. A row's `data` says which: ``test
  images``, ``train images``, or ``unknown images`` where no known set fits.
- A run whose learning rate is not the parameters' has ``lr`` in its cell; one that repeats a run
  of the same file has ``trial`` (1, 2, ...), since some early files hold a repeat several times.
- Seed-era K-means scores become ``ari_max`` and ``ari_mean`` in 0..1 (per cent in the file). They
  are not the adjusted Rand indices they are called: channel numbers went into the maximum and the
  mean, so they compare with rows of ``channel_in_scores: true`` alone.
- Clusterings labelled ``Pretrain`` used the target's images as well; the label is kept.

Source: ``tusharmanekar/mp-tl-study`` at 8c95619 (final state) and 02c3591 (seed era).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carryover.errors import DataError, listed
from carryover.files import digest
from carryover.original_sets import Sets, sets_of
from carryover.rows import Row

REPOSITORY = "tusharmanekar/mp-tl-study"
FINAL, SEED_ERA = "8c95619", "02c3591"
FINAL_NAME = re.compile(r"(baselines|cuts)_[a-z]+_classes(_\w+)?\.json|\w+_cluster\.json")
BASELINE_CUT = -1

RUN = ("lr", "sampled_percentage", "sampled_cut_point", "repeat", "train_acc", "test_acc")
CLUSTERING = ("Percentage", "Repeat", "Layer", "Dataset", "Split")
LINEAR = ("linear", "fc")  # the last layer, here and in files of K-means
SCORES = {  # key in the final state's clusterings: our metric
    "Precision": "pair_precision",
    "Recall": "pair_recall",
    "Accuracy": "cluster_accuracy",
    "ARI": "ari",
}
PER_CENT = {"Max ARI Score": "ari_max", "Avg ARI Score": "ari_mean"}  # the same in the seed era's
IMAGES = {"Pretrain": "pretrain", "Finetune": "finetune"}
FLAGS = {  # setting: freeze, reinit, truncate
    "fr": (True, True, False),
    "f": (True, False, False),
    "r": (False, True, False),
    "none": (False, False, False),
    "ft": (True, True, True),
}
SUFFIXES = {"fr": "FR", "f": "F", "r": "R", "none": "none", "ft": "FT"}
# Neither parameters nor name say: cut 0 equals the baseline in the first, nowhere in the others.
UNSAID = {
    "results_freeze_True_pool_False_lr_0.001_random_subsamples": "fr",
    "results_freeze_True_pool_False_lr_0.001_random_subsamples_run3": "f",
    "results_freeze_True_pool_False_lr_0.001_random_subsamples__with_tiny_perc": "f",
}


def read_original(path: Path) -> list[Row]:
    """Rows of one released result file, in its order.

    A run gives its train and its test accuracy, a clustering each of its scores.

    Raises:
        DataError: no such file, or not a list of runs or clusterings as the original wrote them;
            the message names the element.
    """
    elements = _load(path)
    known = {*RUN, *CLUSTERING}
    first = next((i for i, e in enumerate(elements) if known & e.keys()), len(elements))
    runs = {f"{path}: element {i}": e for i, e in enumerate(elements) if i >= first}
    if not runs:
        raise DataError(
            f"{path}: expected runs after the parameters, got none; give a whole result file"
        )
    parameters = elements[0] if first else {}
    era = FINAL if FINAL_NAME.fullmatch(path.name) else SEED_ERA
    made_from = {
        "preset": "original",
        "weights": "",  # not released
        "params": digest(parameters),
        "source": f"{REPOSITORY} {era}",
        "precision": "float32",
    }
    if "Percentage" in elements[first]:
        return _clusterings(runs, sets_of(path, parameters, ()), made_from)
    return _runs(path, parameters, runs, made_from)


def _load(path: Path) -> list[dict[str, Any]]:
    try:
        elements = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: expected a JSON file of results, got {error}; give one of the original's"
        ) from error
    if not isinstance(elements, list) or not all(isinstance(e, dict) for e in elements):
        raise DataError(
            f"{path}: expected a list of parameters and runs, got {str(elements)[:60]!r}; give a "
            "file of results"
        )
    return elements


def _runs(
    path: Path,
    parameters: Mapping[str, Any],
    runs: Mapping[str, Mapping[str, Any]],
    made_from: Mapping[str, str],
) -> list[Row]:
    cells = _cells(runs, parameters.get("lr_fine_tune"))
    baseline = {cell["cut"] for cell in cells} == {BASELINE_CUT}
    setting = "baseline" if baseline else _setting(path, parameters)
    accuracies = {
        split: [_number(run, f"{split}_acc", where) for where, run in runs.items()]
        for split in ("train", "test")
    }
    sets = sets_of(path, parameters, accuracies["test"])
    tested, part = sets.tested(accuracies["test"])
    by_fraction: dict[float, list[float]] = {}
    for cell, accuracy in zip(cells, accuracies["train"], strict=True):
        by_fraction.setdefault(cell["fraction"], []).append(accuracy)
    trained = {fraction: sets.trained(fraction, found) for fraction, found in by_fraction.items()}
    return [
        Row(
            study="cuts",
            item="baseline" if cell["cut"] == BASELINE_CUT else setting,
            cell={"pair": sets.name, **cell},
            split=split,
            metric="accuracy",
            value=accuracies[split][i],
            n=tested if split == "test" else trained[cell["fraction"]],
            data=part if split == "test" else "train images",
            **made_from,
        )
        for i, cell in enumerate(cells)
        for split in ("train", "test")
    ]


def _cells(runs: Mapping[str, Mapping[str, Any]], lr: float | None) -> list[dict[str, Any]]:
    """The cell of each run; `lr` is the parameters', which a cell does not repeat."""
    cells = []
    seen: Counter[tuple[Any, ...]] = Counter()
    for where, run in runs.items():
        cell: dict[str, Any] = {
            "fraction": _number(run, "sampled_percentage", where),
            "cut": _whole(run, "sampled_cut_point", where, BASELINE_CUT),
            "repeat": _whole(run, "repeat", where),
        }
        if (own := _number(run, "lr", where)) != lr:
            cell["lr"] = own
        key = tuple(cell.items())
        if seen[key]:
            cell["trial"] = seen[key]
        seen[key] += 1
        cells.append(cell)
    return cells


def _setting(path: Path, parameters: Mapping[str, Any]) -> str:
    """FR, F, R, none or FT, from the parameters, else from the name."""
    if "freeze" in parameters:
        truncated = bool(parameters.get("truncate", False))
        flags = (bool(parameters["freeze"]), bool(parameters.get("reinit", False)))
        return next(
            setting
            for setting, (freeze, reinit, truncate) in FLAGS.items()
            if truncate == truncated and (truncate or (freeze, reinit) == flags)
        )
    name = path.stem.lower()
    for setting, suffix in SUFFIXES.items():
        if FINAL_NAME.fullmatch(path.name) and path.stem.endswith(f"_{suffix}"):
            return setting
    if re.search("reinit_(true|false)|no_reinit", name):
        return "fr" if "reinit_true" in name else "f"
    if path.stem in UNSAID:
        return UNSAID[path.stem]
    raise DataError(
        f"{path}: expected the setting in the parameters (freeze, reinit, truncate) or at the end "
        "of the name (cuts_regular_classes_FR.json), got neither; name the file so"
    )


def _clusterings(
    runs: Mapping[str, Mapping[str, Any]], sets: Sets, made_from: Mapping[str, str]
) -> list[Row]:
    rows = []
    for where, run in runs.items():
        fraction = _number(run, "Percentage", where)
        agglomerative = "Num Samples" not in run
        method = "agglomerative" if agglomerative else "kmeans"
        cell: dict[str, Any] = {
            "pair": sets.name,
            "method": method,
            "images": _images(run, where),
            "fraction": fraction,
            "repeat": _whole(run, "Repeat", where),
            "layer": str(_value(run, "Layer", where)).replace(LINEAR[1], LINEAR[0]),
        }
        n = sets.trained(fraction)
        if agglomerative:
            scores = {ours: _number(run, key, where, low=-1) for key, ours in SCORES.items()}
        else:
            cell["num_samples"] = _whole(run, "Num Samples", where)
            n = min(n, cell["num_samples"] or n)
            scores = {
                ours: _number(run, key, where, low=-100, high=100) / 100
                for key, ours in PER_CENT.items()
            }
        rows += [
            Row(
                study="clusters",
                item="all",
                cell=cell,
                split=str(_value(run, "Split", where)).lower(),
                metric=metric,
                value=value,
                n=n,
                data="train images",
                **made_from,
            )
            for metric, value in scores.items()
        ]
    return rows


def _images(run: Mapping[str, Any], where: str) -> str:
    """Which images the file says were clustered."""
    label = _value(run, "Dataset", where)
    if label not in IMAGES:
        raise DataError(
            f"{where}: Dataset: expected one of {listed(IMAGES)}, got {label!r}; correct the file"
        )
    return IMAGES[label]


def _value(run: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in run:
        raise DataError(
            f"{where}: expected the key {key!r}, got {listed(run)}; give a file of results as the "
            "original wrote it"
        )
    return run[key]


def _number(run: Mapping[str, Any], key: str, where: str, low: float = 0, high: float = 1) -> float:
    value = _value(run, key, where)
    if type(value) not in (int, float) or not low <= value <= high:
        raise DataError(
            f"{where}: {key}: expected a number from {low} to {high}, got {value!r}; correct the "
            "file"
        )
    return float(value)


def _whole(run: Mapping[str, Any], key: str, where: str, low: int = 0) -> int:
    value = _value(run, key, where)
    if type(value) is not int or value < low:
        raise DataError(
            f"{where}: {key}: expected a whole number from {low}, got {value!r}; correct the file"
        )
    return value
