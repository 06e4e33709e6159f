"""The arms of the retrieval study: what each changes in the model, its memory or its training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from carryover.config.retrieval import STARTED, Access, Part, Retrieval
from carryover.errors import pick

SIZED = "memory-"  # memory-20: 20 images a class


@dataclass(frozen=True)
class Control:
    """How an arm differs from the plain one of its access.

    Attributes:
        access: which entries its model is handed; none: a model without retrieval.
        contents: what is handed out in the place of the true entries; see ``solve.store``.
        stored: the images that have an entry: the study's choice, or the training images with or
            without a query's own among its neighbours, or those of another set.
        keys, values: what attention is made from; "" as the study has it.
        entry_zero: every draw is entry 0.
        reshaped: the map is scrambled, see ``models.cross_attention.MapRetrieval``.
        widened: a plain model with as many parameters as one with retrieval.
        more_images: the memory's images are training images too.
        start: from the weights of an encoder.
        trains: False where features alone decide.
    """

    access: Access = "knn"
    contents: Literal["", "zeros", "shuffled", "single"] = ""
    stored: Literal["", "others-training", "training", "other"] = ""
    keys: Part | Literal[""] = ""
    values: Part | Literal[""] = ""
    entry_zero: bool = False
    reshaped: bool = False
    widened: bool = False
    more_images: bool = False
    start: bool = False
    trains: bool = True


@dataclass(frozen=True)
class Cell:
    """One arm with one seed.

    Attributes:
        k: entries that an image is handed; 0 where it is handed none.
        control: "none", or the one thing that differs; memory-20: 20 images a class.
        lr: the rate tried, on held out images; 0 for the run that is reported.
    """

    access: Access
    k: int
    control: str
    seed: int
    lr: float = 0.0

    @property
    def name(self) -> str:
        """Its name in the scratch file."""
        tried = f"/{self.lr:g}" if self.lr else ""
        return f"{self.access}/{self.k}/{self.control}/{self.seed}{tried}"


def control_of(study: Retrieval, cell: Cell) -> Control:
    """What a cell changes; the published faults that are on belong to every plain arm."""
    if cell.control.startswith(SIZED):
        return plain(study, "knn")
    if cell.control == "none":
        return plain(study, cell.access)
    found = CONTROLS[cell.control]
    faults = plain(study, found.access)
    return replace(found, reshaped=found.reshaped or faults.reshaped)


def plain(study: Retrieval, access: Access) -> Control:
    """The arm of an access with nothing changed but the published faults that are on."""
    faults = study.faults_of_original
    return Control(
        access,
        entry_zero=faults.entry_zero and access == "sampled",
        reshaped=faults.reshaped_tokens and access != "none",
    )


def per_class(study: Retrieval, cell: Cell) -> int:
    """Images of each class in a cell's memory."""
    if cell.control.startswith(SIZED):
        return int(cell.control.removeprefix(SIZED))
    return study.memory.per_class


def rate_of(cell: Cell) -> str:
    """What a cell's rate is chosen for: its access, or the pretrained weights it starts from."""
    return cell.control if cell.control in STARTED else cell.access


def lrs_of(study: Retrieval, item: str, rate: str) -> tuple[float, ...]:
    """The rates that are tried: by access, and one list for all pretrained weights."""
    return study.training[item].lrs["start" if rate in STARTED else rate]


def cells(study: Retrieval, item: str) -> tuple[list[Cell], list[Cell]]:
    """Runs that choose a rate for each access and pretrained start, and the runs to report.

    Rates of an access are tried on its plain arm, those of pretrained weights on the arm itself.
    """
    arms = list(dict.fromkeys(_arms(study, item)))
    first: dict[str, tuple[Access, int, str]] = {}
    for access in study.accesses:
        first[access] = (access, study.k if access != "none" else 0, "none")
    for arm in arms:
        if CONTROLS.get(arm[2], Control()).trains:
            first.setdefault(rate_of(Cell(*arm, 0)), arm)
    tried = [
        Cell(*arm, 0, lr)
        for rate, arm in first.items()
        for lr in lrs_of(study, item, rate)
        if len(lrs_of(study, item, rate)) > 1
    ]
    return tried, [Cell(*arm, seed) for arm in arms for seed in range(study.seeds)]


def _arms(study: Retrieval, item: str) -> list[tuple[Access, int, str]]:
    """Access, k and control of every arm of an item."""
    others = (study.ks or {}).get(item, ())
    found: list[tuple[Access, int, str]] = []
    for access in study.accesses:
        found.append((access, study.k if access != "none" else 0, "none"))
        found += [(access, k, "none") for k in others if access == "knn"]
    for name in study.controls.get(item, ()):
        if name == "clean-query":
            continue  # the plain arm, tested in another way
        if name == "memory-sizes":
            found += [("knn", study.k, f"{SIZED}{size}") for size in study.memory.sizes or ()]
            continue
        access = pick(CONTROLS, name, "retrieval.controls").access
        ks = (study.k, *others) if name == "vote" else (study.k,)
        found += [(access, k if access != "none" else 0, name) for k in ks]
    return found


CONTROLS = {
    "zeros": Control(contents="zeros"),
    "shuffled": Control(contents="shuffled"),
    "single": Control(contents="single"),
    "other-memory": Control(stored="other"),
    "leave-one-out": Control(stored="others-training"),
    "itself": Control(stored="training"),
    "labels": Control(keys="both", values="both"),
    "labels-as-keys": Control(keys="labels", values="features"),
    "labels-as-values": Control(keys="features", values="labels"),
    "entry-0": Control("sampled", entry_zero=True),
    "reshaped": Control(reshaped=True),
    "parameters": Control("none", widened=True),
    "more-images": Control("none", more_images=True),
    "corpus": Control("none", start=True),
    "simclr": Control("none", start=True),
    "vote": Control(trains=False),
    "probe": Control("none", trains=False),
}
