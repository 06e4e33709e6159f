"""The cut study's released results as two compact tables, read as rows like ours.

``claims/released/cuts.csv`` has one line a training run, ``clusters.csv`` one a clustering. They
are facts transcribed from result files of ``tusharmanekar/mp-tl-study`` (final state 8c95619,
seed-era state 02c3591); no file of the original is kept here. A folder of those files, laid out as
``SOURCES`` has them, gives the tables again::

    python -c "import sys; from pathlib import Path; from carryover.claims.released import make; \
make(Path(sys.argv[1]), Path('claims/released'))" FOLDER

Accuracies are stored as correct images among all: every released accuracy but the rounded ones
below is exactly such a quotient.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from carryover.errors import DataError
from carryover.files import write_text
from carryover.report.tables import to_csv
from carryover.rows import Row

State = Literal["final", "seed-era"]

COMMITS = {"final": "8c95619", "seed-era": "02c3591"}
LR = 0.001  # fine-tuning; 34 seed-era runs at 5 % have a stray 0.0001 and are left out
CUT_HEADER = (
    *("state", "pair", "setting", "fraction", "cut", "repeat", "train_correct", "train_images"),
    *("test_correct", "test_images", "tested_on", "batch_size"),
)
CLUSTER_HEADER = (
    *("state", "pair", "fraction", "repeat", "layer", "images"),
    *("precision", "recall", "accuracy", "ari"),
)


@dataclass(frozen=True)
class Source:
    """One released result file.

    Attributes:
        state, pair, setting: what it holds.
        path: below the released folder.
        test_images: the smallest count that every accuracy of the file is a multiple of.
        tested_on: ``train`` where that is the number of training images of the target classes.
    """

    state: State
    pair: str
    setting: str
    path: str
    test_images: int
    tested_on: Literal["train", "test"]


def _sources() -> list[Source]:
    found = []
    for pair, folder, settings, images in (
        ("mnist", "MNIST", ("fr",), 29404),
        ("fashion-mnist", "FashionMNIST", ("fr", "f", "ft"), 18000),
        ("cifar10", "CIFAR", ("fr", "ft"), 6000),
        ("mnist-to-fashion-mnist", "MNIST_to_FashionMNIST", ("fr",), 60000),
        ("fashion-mnist-to-mnist", "FashionMNIST_to_MNIST", ("fr",), 60000),
    ):
        for setting in ("baseline", *settings):
            name = "baselines_regular_classes" if setting == "baseline" else "cuts_regular_classes"
            tail = "" if setting == "baseline" else f"_{setting.upper()}"
            real = pair == "cifar10" and setting != "ft"
            n = 30000 if (pair, setting) == ("cifar10", "ft") else images
            path = f"final/{folder}/{name}{tail}.json"
            found.append(Source("final", pair, setting, path, n, "test" if real else "train"))
    return found


# The seed-era MNIST table (depth 3, 10 channels, kernel 5) is made of the "fattest_run" files. They
# are merges: some rows were rounded to four decimals, which still fixes the count among 4861.
SEED_ERA = "seed_era/MNIST/results/"
SOURCES = (
    *_sources(),
    *(
        Source(
            "seed-era",
            "mnist-seed-era",
            setting,
            f"{SEED_ERA}{name}_fattest_run.json",
            4861,
            "test",
        )
        for setting, name in (
            ("baseline", "baselines_freeze_True_pool_False_lr_0.001"),
            ("fr", "results_freeze_True_reinit_True_pool_False_lr_0.001"),
        )
    ),
)
CLUSTERS = "final/FashionMNIST/regular_classes_cluster.json"

# Training images of the target classes less the validation tenth, their classes, and what is left
# at 100 % where a class has fewer images than its share.
TRAIN_IMAGES = {
    "mnist": (26464, 5, 26038),
    "mnist-seed-era": (26464, 5, 26038),
    "fashion-mnist": (16200, 3, 16196),
    "cifar10": (27000, 6, 26946),
    "mnist-to-fashion-mnist": (54000, 10, 53897),
    "fashion-mnist-to-mnist": (54000, 10, 53006),
}


def train_images(pair: str, fraction: float) -> int:
    """Images of the balanced training subset: the same number from each class."""
    images, classes, whole = TRAIN_IMAGES[pair]
    return whole if fraction == 1 else int(images * fraction / classes) * classes


def make(released: Path, folder: Path) -> None:
    """Write ``cuts.csv`` and ``clusters.csv`` from the released JSON files.

    Raises:
        DataError: a file is missing, or an accuracy is no count among its images.
    """
    lines = [line for source in SOURCES for line in _cut_lines(released / source.path, source)]
    write_text(folder / "cuts.csv", to_csv(CUT_HEADER, sorted(lines)))
    write_text(folder / "clusters.csv", to_csv(CLUSTER_HEADER, _cluster_lines(released / CLUSTERS)))


def _cut_lines(path: Path, source: Source) -> list[tuple[Any, ...]]:
    parameters, *runs = _load(path)
    lines = []
    for run in runs:
        if run["lr"] != LR:
            continue
        fraction = float(run["sampled_percentage"])
        n = train_images(source.pair, fraction)
        lines.append(
            (
                *(source.state, source.pair, source.setting, fraction),
                *(run["sampled_cut_point"], run["repeat"]),
                *(_count(run["train_acc"], n, path), n),
                *(_count(run["test_acc"], source.test_images, path), source.test_images),
                *(source.tested_on, parameters["batch_size"]),
            )
        )
    return lines


def _count(accuracy: float, n: int, path: Path) -> int:
    """Correct images among n, exactly or as rounded to four decimals in the original."""
    count = round(accuracy * n)
    if accuracy not in (count / n, round(count / n, 4)):
        raise DataError(
            f"{path}: expected accuracies over {n} images, got {accuracy}; correct the number of "
            "images in SOURCES or TRAIN_IMAGES"
        )
    return count


def _cluster_lines(path: Path) -> list[tuple[Any, ...]]:
    lines = []
    for run in _load(path):
        fraction = float(run["Percentage"])
        lines.append(
            (
                *("final", "fashion-mnist", fraction, run["Repeat"], run["Layer"]),
                train_images("fashion-mnist", fraction),
                *(run["Precision"], run["Recall"], run["Accuracy"], run["ARI"]),
            )
        )
    return lines


def _load(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        raise DataError(f"{path}: expected a released result file, found none; name their folder")
    return json.loads(path.read_text())


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
