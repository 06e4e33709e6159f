"""The cut study's released results as two compact tables, read as rows like ours.

``claims/released/cuts.csv`` has one line a training run, ``clusters.csv`` one a clustering. They
are facts transcribed from result files of ``tusharmanekar/mp-tl-study`` (final state 8c95619,
seed-era state 02c3591); no file of the original is kept here. A folder of those files, laid out as
`sources` has them, gives the tables again::

    python -c "import sys; from pathlib import Path; from carryover.claims.released import make; \
make(Path(sys.argv[1]), Path('claims/released'))" FOLDER

Accuracies are stored as correct images among all: every released accuracy but the rounded ones
below is exactly such a quotient.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from carryover import originals
from carryover.errors import DataError
from carryover.files import write_text
from carryover.report.tables import to_csv
from carryover.rows import Row

CUT_HEADER = (
    *("state", "pair", "setting", "fraction", "cut", "repeat", "train_correct", "train_images"),
    *("test_correct", "test_images", "tested_on", "batch_size"),
)
CLUSTER_HEADER = (
    *("state", "pair", "fraction", "repeat", "layer", "images"),
    *("precision", "recall", "accuracy", "ari"),
)

FINAL = {  # pair: the folder's settings beside the baseline
    "MNIST": ("FR",),
    "FashionMNIST": ("FR", "F", "FT"),
    "CIFAR": ("FR", "FT"),
    "MNIST_to_FashionMNIST": ("FR",),
    "FashionMNIST_to_MNIST": ("FR",),
}
# The seed-era MNIST table (depth 3, 10 channels, kernel 5) is made of the "fattest_run" files. They
# are merges: some rows were rounded to four decimals, which still fixes the count among 4861; 34
# rows of another learning rate are left out. FashionMNIST's (depth 5, 30 channels) is whole.
SEED_ERA = (
    "seed_era/FashionMNIST/results/baselines_freeze_True_pool_False_lr_0.001_fat_run.json",
    "seed_era/FashionMNIST/results/results_freeze_True_reinit_True_pool_False_lr_0.001_fat_run.json",
    "seed_era/MNIST/results/baselines_freeze_True_pool_False_lr_0.001_fattest_run.json",
    "seed_era/MNIST/results/results_freeze_True_reinit_True_pool_False_lr_0.001_fattest_run.json",
)
CLUSTERS = "final/FashionMNIST/regular_classes_cluster.json"
COMMITS = {"final": originals.FINAL, "seed-era": originals.SEED_ERA}


def sources() -> list[tuple[str, str]]:
    """State and path of every released file that the table of runs is made from."""
    names = {
        folder: ["baselines_regular_classes", *(f"cuts_regular_classes_{s}" for s in settings)]
        for folder, settings in FINAL.items()
    }
    final = [("final", f"final/{folder}/{n}.json") for folder, each in names.items() for n in each]
    return final + [("seed-era", path) for path in SEED_ERA]


def make(released: Path, folder: Path) -> None:
    """Write ``cuts.csv`` and ``clusters.csv`` from the released JSON files.

    Raises:
        DataError: a file is missing or holds something else; or its accuracies are over no known
            set of images.
    """
    lines = [line for state, path in sources() for line in _cut_lines(released / path, state)]
    write_text(folder / "cuts.csv", to_csv(CUT_HEADER, sorted(lines)))
    write_text(folder / "clusters.csv", to_csv(CLUSTER_HEADER, _cluster_lines(released / CLUSTERS)))


def _cut_lines(path: Path, state: str) -> list[tuple[Any, ...]]:
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in originals.read_original(path):
        if "lr" not in row.cell:
            pair = row.cell["pair"] + ("-seed-era" if state == "seed-era" else "")
            cell = (row.cell["fraction"], row.cell["cut"], row.cell["repeat"])
            found.setdefault((state, pair, row.item, *cell), {})[row.split] = row
    batch_size = json.loads(path.read_text())[0]["batch_size"]
    lines = []
    for key, run in found.items():
        tested_on = run["test"].data.split()[0]
        if tested_on not in ("train", "test"):
            raise DataError(f"{path}: expected accuracies over a known set, got {run['test'].data}")
        counts = [(round(run[s].value * run[s].n), run[s].n) for s in ("train", "test")]
        lines.append((*key, *counts[0], *counts[1], tested_on, batch_size))
    return lines


def _cluster_lines(path: Path) -> list[tuple[Any, ...]]:
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in originals.read_original(path):
        cell = (row.cell["fraction"], row.cell["repeat"], row.cell["layer"])
        found.setdefault(("final", row.cell["pair"], *cell), {})[row.metric] = row
    metrics = ("pair_precision", "pair_recall", "cluster_accuracy", "ari")
    return [(*key, run["ari"].n, *(run[m].value for m in metrics)) for key, run in found.items()]


def rows(path: Path) -> list[Row]:
    """The runs of ``cuts.csv`` as rows: train and test accuracy of each.

    The seed era's pair is ``mnist-seed-era``. A row's `data` says which images were tested on, its
    `n` how many: the final state has test accuracies on training images for all but CIFAR-10's
    baseline and FR.

    Raises:
        DataError: no such file, or not such a table.
    """
    return [
        Row(
            study="cuts",
            item=line["setting"],
            preset="original",
            cell={
                "pair": line["pair"],
                "fraction": float(line["fraction"]),
                "cut": int(line["cut"]),
                "repeat": int(line["repeat"]),
            },
            split=split,
            metric="accuracy",
            value=int(line[f"{split}_correct"]) / int(line[f"{split}_images"]),
            n=int(line[f"{split}_images"]),
            data=f"{line['tested_on'] if split == 'test' else 'train'} images",
            weights="",
            params=f"batch_size {line['batch_size']}",
            source=f"tusharmanekar/mp-tl-study {COMMITS[line['state']]}",
            precision="float32",
        )
        for line in _lines(path, CUT_HEADER)
        for split in ("train", "test")
    ]


def cluster_rows(path: Path) -> list[Row]:
    """The clusterings of ``clusters.csv`` as rows of metric ``ari``, on images of the target.

    Raises:
        DataError: no such file, or not such a table.
    """
    return [
        Row(
            study="clusters",
            item="all",
            preset="original",
            cell={
                "pair": line["pair"],
                "method": "agglomerative",
                "images": "finetune",
                "fraction": float(line["fraction"]),
                "repeat": int(line["repeat"]),
                "layer": line["layer"],
            },
            split="train",
            metric="ari",
            value=float(line["ari"]),
            n=int(line["images"]),
            data="train images",
            weights="",
            params="",
            source=f"tusharmanekar/mp-tl-study {COMMITS['final']}",
            precision="float32",
        )
        for line in _lines(path, CLUSTER_HEADER)
    ]


def _lines(path: Path, header: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.exists():
        raise DataError(f"{path}: expected the released results, found no file; restore it by git")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != header:
            raise DataError(
                f"{path}: expected the columns {', '.join(header)}, got "
                f"{', '.join(reader.fieldnames or ())}; restore the file by git"
            )
        return list(reader)
