"""Our rows of the cut study as the original's result files, for its own notebooks and scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.config import params as config
from carryover.config import reader
from carryover.config.params import Params
from carryover.errors import DataError, listed, pick
from carryover.files import write_text
from carryover.original_sets import choice_of, folder_of
from carryover.originals import FLAGS, IMAGES, LINEAR, PER_CENT, SCORES, SUFFIXES
from carryover.rows import Row, read_rows
from carryover.stages import PARAMS, STAGES

Element = dict[str, Any]

DATASETS = {ours: theirs for theirs, ours in IMAGES.items()}
TUNED = {"pretrain": "pretrained", "finetune": "finetuned"}
ACTIVATIONS = {"relu": "ReLU", "tanh": "Tanh", "gelu": "GELU"}


def export(study: str, folder: Path) -> list[Path]:
    """Write the rows under ``reports/`` as the original's files; returns the files.

    Raises:
        ConfigError: a study whose original left no such files.
        DataError: the study has no rows, or has rows of other parameters than `PARAMS` holds.
    """
    own, others = pick(STUDIES, study, "export-original")
    paths = sorted(Path().glob(own))
    if not paths:
        raise DataError(
            f"export-original: expected rows in {own}, found none; run `carryover reproduce "
            f"{study}` first"
        )
    rows = [row for path in (*paths, *Path().glob(others)) for row in read_rows(path)]
    params = config.read(PARAMS)
    values = reader.load(PARAMS)
    made_from = {
        name: reader.digest_of(values, *STAGES[name].sections, without=STAGES[name].grid)
        for name in {row.study for row in rows}
    }
    for row in rows:
        if row.params != made_from[row.study]:
            raise DataError(
                f"export-original: expected rows of the parameters in {PARAMS}, got "
                f"{row.study} {row.item} of others; run `carryover reproduce {row.study}` first"
            )
    return write_original(rows, parameters(params), folder)


def parameters(params: Params) -> Element:
    """Element 0 of a file of runs: our parameters under the original's keys.

    What the original has no key for (the limit of updates, how images are sampled) is left out.
    """
    study = params.cuts
    source = params.network(study.pretrained)
    assert source is not None  # the reader of parameters refuses others
    network = source.network
    return {
        "depth": network.depth,
        "num_channels": network.channels,
        "two_linear_layers": network.hidden > 0,
        "hidden_dim_lin": network.hidden,
        "activation_function": (
            f"<class 'torch.nn.modules.activation.{ACTIVATIONS[network.activation]}'>"
        ),
        "kernel_size": network.kernel,
        "lr_pretrain": source.lr,
        "lr_fine_tune": study.lr,
        "lr_fine_tune_reinit": study.lr,
        "lr_fine_tune_no_reinit": study.lr_kept,
        "num_train": study.epochs,
        **({"early_stop_patience": study.patience} if study.patience else {}),  # missing: never
        "save_best": False,
        "save_checkpoints": False,
        "is_cnn": True,
        "is_debug": False,
        "classification_report_flag": False,
        "batch_size": study.batch_size,
        "pre_train_classes": list(source.classes),
        "fine_tune_classes": list(study.classes),
        "val_split": study.validation_fraction,
        "num_workers": 0,
        "generate_dataset_seed": (
            params.seed if study.validation_seed is None else study.validation_seed
        ),
        "percentages": list(study.fractions),
        "use_pooling": network.pool_every > 0,
        "pooling_every_n_layers": network.pool_every,
        "pooling_stride": network.pool_stride,
        "reinit_both_dense": study.reinit_both_dense,
    }


def write_original(rows: Iterable[Row], params: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write rows of the studies ``cuts`` and ``clusters`` as the original's result files.

    ``baselines_<split>_classes.json``, ``cuts_<split>_classes_<FR|F|R|none|FT>.json``,
    ``<split>_classes_cluster.json`` (agglomerative) and, as in the seed era,
    ``ari_scores_<pretrained|finetuned>.json`` (K-means): straight in `folder` where the rows are
    of one pair, else in a folder for each, named as the original's. ``<split>`` is ``regular``
    unless the pair's name ends in ``-random`` or ``-reverse``. Rows of splits and metrics that the
    original's files have no place for are left out.

    Args:
        params: element 0 of a file of runs, under the original's keys; ``freeze``, ``reinit`` and
            ``truncate`` are set for its setting.
    Returns:
        The files, in the order of the rows.
    Raises:
        DataError: no row that has a place, or a run or clustering that lacks one of its numbers.
    """
    files: dict[tuple[str, str], _File] = {}
    for row in rows:
        if place := _place(row):
            name, head, number = place
            file = files.setdefault((row.cell["pair"], name), _File(head, {}, {}))
            key = json.dumps(row.cell)
            file.cells[key] = row.cell
            file.numbers.setdefault(key, {})[number] = row.value
    if not files:
        raise DataError(
            "export-original: expected train and test accuracies of the study cuts or scores of "
            "clusters, found none; run their stages first"
        )
    several = len({folder_of(pair) for pair, _ in files}) > 1
    paths = []
    for (pair, name), file in files.items():
        path = (folder / folder_of(pair) if several else folder) / name
        elements = [_with_flags(params, file.item)] if file.item else []
        for key, cell in file.cells.items():
            make = _run if file.item else _clustering
            elements.append(make(cell, file.numbers[key], params, path))
        write_text(path, "[" + ",\n ".join(json.dumps(e) for e in elements) + "]\n")
        paths.append(path)
    return paths


@dataclass(frozen=True)
class _File:
    """What goes into one file: the setting of its runs, "" for clusterings; cells and numbers."""

    item: str
    cells: dict[str, Element]
    numbers: dict[str, dict[str, float]]


def _place(row: Row) -> tuple[str, str, str] | None:
    """The file that has a place for a row, its setting, and what the number is there."""
    split = choice_of(row.cell["pair"])
    if row.study == "cuts" and row.metric == "accuracy" and row.split in ("train", "test"):
        name = f"baselines_{split}_classes.json"
        if row.item != "baseline":
            name = f"cuts_{split}_classes_{pick(SUFFIXES, row.item, 'item')}.json"
        return name, row.item, f"{row.split}_acc"
    if row.study == "clusters" and row.metric in SCORES.values():
        return f"{split}_classes_cluster.json", "", row.metric
    if row.study == "clusters" and row.metric in PER_CENT.values():
        return f"ari_scores_{TUNED[row.cell['images']]}.json", "", row.metric
    return None


def _with_flags(params: Mapping[str, Any], item: str) -> Element:
    """Parameters with the flags of a setting; ``truncate`` only where it is on, as released."""
    freeze, reinit, truncate = FLAGS["fr" if item == "baseline" else item]
    rest = {key: value for key, value in params.items() if key != "truncate"}
    return rest | {"freeze": freeze, "reinit": reinit} | ({"truncate": True} if truncate else {})


def _run(
    cell: Mapping[str, Any], numbers: Mapping[str, float], params: Mapping[str, Any], path: Path
) -> Element:
    return {
        "lr": cell.get("lr", params.get("lr_fine_tune")),
        "sampled_percentage": cell["fraction"],
        "sampled_cut_point": cell["cut"],
        "repeat": cell["repeat"],
        **{key: _number(numbers, key, cell, path) for key in ("train_acc", "test_acc")},
    }


def _clustering(
    cell: Mapping[str, Any], numbers: Mapping[str, float], _: Mapping[str, Any], path: Path
) -> Element:
    axes = {"Percentage": cell["fraction"], "Repeat": cell["repeat"]}
    tail = {"Dataset": DATASETS[cell["images"]], "Split": "Train"}
    if "num_samples" in cell:
        scores = {k: 100 * _number(numbers, ours, cell, path) for k, ours in PER_CENT.items()}
        layer = cell["layer"].replace(*LINEAR)
        return axes | {"Num Samples": cell["num_samples"], "Layer": layer} | scores | tail
    scores = {key: _number(numbers, ours, cell, path) for key, ours in SCORES.items()}
    return axes | {"Layer": cell["layer"]} | scores | tail


def _number(numbers: Mapping[str, float], key: str, cell: Mapping[str, Any], path: Path) -> float:
    if key not in numbers:
        raise DataError(
            f"{path}: expected {key} of {dict(cell)}, got {listed(numbers)} alone; run its stage "
            "again"
        )
    return numbers[key]


STUDIES = {"cuts": ("reports/cuts/runs/*/rows.jsonl", "reports/clusters/runs/all/rows.jsonl")}
