"""What survived: how much of what a pretrained model could do is left in the adapted ones?

Every study keeps models that it has adapted. Each is set beside the one that it began as: what it
still answers untaught, what a probe and its neighbours read from its features, how alike its layers
are (CKA), how far its weights have moved, and what lies on the line between the two. ``dvc repro
survival`` writes ``reports/survival/``: ``runs/all/rows.jsonl``, tables, figures and summary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from carryover import checkpoints, run
from carryover.checkpoints import Checkpoint
from carryover.errors import DataError, listed
from carryover.files import digest_of_files
from carryover.parallel import compute
from carryover.report.survival_files import FOLDER, write_report
from carryover.report.survival_summary import headline
from carryover.rows import Row, write_rows
from carryover.scratch import Scratch, alone
from carryover.survival_looks import Number, Seen, look
from carryover.survival_measures import accuracies, of_model
from carryover.survival_origins import Place, expect_start, load_origin, place_of
from carryover.survival_start import Origin, start_model

if TYPE_CHECKING:
    from carryover.config.params import Params

__all__ = ["FOLDER", "headline", "stage"]

ROWS = FOLDER / "runs" / "all" / "rows.jsonl"
START, FROZEN, SCRATCH = "start", "frozen", "scratch"  # methods that adapt nothing


@dataclass(frozen=True, eq=False)
class Subject:
    """One adapted model.

    Attributes:
        about: what its file says of it, without tensors.
        place: what it has in common with the models of its kind.
    """

    path: Path
    about: Checkpoint
    place: Place

    @property
    def name(self) -> str:
        """Its name in the scratch file."""
        return "/".join((self.about.study, self.about.item, self.path.stem))


def stage(params: Params, item: str, context: run.Context) -> None:
    """Look at every adapted model; write the rows, and the report of them."""
    torch.set_num_threads(1)
    study = params.survival
    device = run.device(run.chosen_device())
    subjects = list(adapted_models(params))
    origins: dict[Place, Origin] = {}
    starts: dict[Place, Seen] = {}
    for each in subjects:
        if each.place in origins:
            expect_start(origins[each.place], each.about)
        else:
            origins[each.place] = load_origin(params, each.about, device)
            starts[each.place] = look(origins[each.place], start_model(origins[each.place]))
    made_from = {
        "params": context.params,
        "source": context.source,
        "models": digest_of_files(each.path for each in subjects),
        "starts": ["/".join((*place, o.data, o.weights)) for place, o in origins.items()],
    }
    scratch = Scratch(
        context.stage, made_from | {"torch": torch.__version__, "device": device.type}
    )
    processes = run.workers() if device.type == "cpu" else 0

    def work(subject: Subject) -> list[Number]:
        found, place = checkpoints.read(subject.path), subject.place
        return of_model(origins[place], study, found, starts[place])

    with alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"):
        started = time.monotonic()
        largest_first = sorted(subjects, key=lambda each: -each.path.stat().st_size)
        with run.progress(context.stage, len(subjects)) as advance:
            found = compute(largest_first, work, scratch, processes, advance)
        told = [
            (place, start_axes(place), accuracies(origin, study, starts[place]))
            for place, origin in origins.items()
        ]
        told += [(each.place, axes(each), found[each.name]) for each in subjects]
        rows = [
            Row(
                study="survival",
                item="all",
                preset=study.preset,
                cell=cell | at,
                split="test",
                metric=metric,
                value=value,
                n=n,
                data=origins[place].data,
                weights=origins[place].weights,
                params=context.params,
                source=context.source,
                precision="float32",
            )
            for place, cell, numbers in told
            for metric, at, value, n in numbers
        ]
        context.refuse_edited()
        write_rows(ROWS, rows)
        write_report(rows, study.preset)
        scratch.clear()
        seconds = time.monotonic() - started
        facts = {"device": device.type, "torch": torch.__version__}
        run.log(context.stage, {"cells": len(subjects), "seconds": seconds, **facts})


def adapted_models(params: Params) -> Iterator[Subject]:
    """The models of all studies; encoders that heads left as they were stand once for all heads.

    Raises:
        DataError: no model at all, a study that has not run, or a file that holds no model.
    """
    seen: set[Place] = set()
    none = True
    for study in params.survival.origins:
        for path in checkpoints.listed(study):
            about = checkpoints.read(path, whole=False)
            subject = Subject(path, about, place_of(params, about))
            if about.what == "head":
                if subject.place in seen:
                    continue
                seen.add(subject.place)
            none = False
            yield subject
    if none:
        raise DataError(
            f"{checkpoints.FOLDER}: expected models of {listed(params.survival.origins)}, found "
            "none; run `dvc repro` for them"
        )


def start_axes(place: Place) -> dict[str, Any]:
    """The axes of a start's rows."""
    origin, network, target, *more = place
    method = " ".join([network, *more])
    return {"origin": origin, "way": START, "method": method, "target": target}


def axes(subject: Subject) -> dict[str, Any]:
    """The axes of a model's rows."""
    about, cell = subject.about, subject.about.cell
    found = {"origin": about.study, "way": about.item, "method": method_of(about)}
    found["target"] = subject.place[2]
    seed = cell.get("seed", cell.get("repeat"))
    return found if about.what == "head" else found | {"seed": seed}


def method_of(about: Checkpoint) -> str:
    """How a model was adapted, in the words of its study."""
    cell = about.cell
    if about.what == "head":
        return FROZEN
    if "cut" in cell:
        return SCRATCH if cell["cut"] < 0 else f"cut {cell['cut']}"
    if "arm" in cell:
        return " ".join((cell["arm"], cell["protocol"], cell["strategy"]))
    return str(cell.get("method", cell.get("control")))
