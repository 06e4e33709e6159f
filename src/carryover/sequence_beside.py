"""What the sequence study looks at beside tests after whole sets, on first order and seeds.

Weights mixed with the start's (the mixing curve), tests on the way in a set's training, and the
embeddings of a few test images, whose map is drawn.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carryover import run
from carryover.config.sequence import Sequence
from carryover.files import write_bytes
from carryover.measure.tsne import tsne
from carryover.sequence_carried import Answers, Carried, Cell, Moment
from carryover.sequence_distilling import embedded
from carryover.sequence_handed import Tested, tuned_share
from carryover.sequence_measures import Number, accuracy_of, answers
from carryover.sequence_start import Start
from carryover.sequence_training import Look

if TYPE_CHECKING:
    from carryover.config.params import Params

METRICS = {"mix": "mixed_accuracy", "step": "accuracy_on_the_way"}
MAP_SEED = 0
MAP_COLUMNS = ("order", "method", "seed", "dataset", "id", "label", "x", "y")


def looked_at(study: Sequence, cell: Cell) -> bool:
    """Whether a run to report is of the first order and one of the first seeds."""
    first = cell.order == next(iter(study.orders)) and cell.seed < study.curves.seeds
    return first and not cell.lr


def on_the_way(study: Sequence, start: Start, cell: Cell) -> Look | None:
    """What to call every `curves.eval_every` updates of a set's training; None for most methods."""
    how = study.curves
    if not (how.eval_every and cell.method in how.eval_methods and looked_at(study, cell)):
        return None

    def look(network: nn.Module, tested: Tested) -> Answers:
        network.load_state_dict(tested.weights)
        return answers(start, network, study.precision, tested.heads)

    return look


def mixed(
    study: Sequence, start: Start, cell: Cell, after: int, tested: Tested
) -> dict[Moment, Answers]:
    """Answers of mixed weights; the ends, 0 and 1, are tested anyway."""
    how, found = study.curves, {}
    if cell.method in how.mix_methods and after in how.mix_after and looked_at(study, cell):
        network = copy.deepcopy(start.encoder.model)
        for mix in how.mixes:
            if 0 < mix < 1:
                share = tuned_share(start, tested, mix)
                network.load_state_dict(share.weights)
                found[after, "mix", mix] = answers(start, network, study.precision, share.heads)
    return found


def curves(
    study: Sequence,
    start: Start,
    cell: Cell,
    by_after: Mapping[int, Answers],
    found: Mapping[Moment, Answers],
) -> dict[Moment, Answers]:
    """Those that were computed, and beside them the ends, which tests after whole sets give."""
    how, whole = study.curves, dict(found)
    if not looked_at(study, cell):
        return whole
    if cell.method in how.mix_methods:
        for after in how.mix_after:
            for mix, time in ((0.0, 0), (1.0, after)):
                if mix in how.mixes and time in by_after:
                    whole[after, "mix", mix] = by_after[time]
    if how.eval_every and cell.method in how.eval_methods:
        whole[0, "step", 0.0] = by_after[0]
        for after, name in enumerate(study.orders[cell.order]):
            updates = study.updates_of(len(start.tasks[name].train))
            # with `extra_step` the student was tested there, as at every other step
            whole.setdefault((after, "step", float(updates)), by_after[after + 1])
    return dict(sorted(whole.items()))


def curve_numbers(
    start: Start, order: tuple[str, ...], found: Mapping[Moment, Answers]
) -> Iterator[Number]:
    """Accuracy on each set at each moment of the curves."""
    places = {name: place for place, name in enumerate(order, start=1)}
    for (after, kind, at), of_sets in found.items():
        where = {"mix": at} if kind == "mix" else {"step": int(at)}
        for name, each in of_sets.items():
            labels = start.tasks[name].test.labels
            value, place = accuracy_of(each, labels), places.get(name)
            yield Number(METRICS[kind], value, len(labels), after, place, name, **where)


def drawn(params: Params, start: Start) -> dict[str, Tensor]:
    """Rows of the test images that are mapped, by set; the same for all methods."""
    count = params.sequence.curves.map_images
    return {
        name: torch.randperm(
            len(task.test), generator=run.generator(params.seed, f"sequence/map/{name}")
        )[:count]
        for name, task in start.tasks.items()
        if count
    }


def features(params: Params, start: Start, cell: Cell, network: nn.Module) -> dict[str, Tensor]:
    """Unit embeddings of the drawn test images by a network, for the first seed and order."""
    study = params.sequence
    if cell.seed or not looked_at(study, cell):
        return {}  # one map a method is enough
    return {
        name: embedded(
            network,
            start.tasks[name].test.take(rows.to(start.device)),
            study.precision,
            start.ranks,
        ).cpu()
        for name, rows in drawn(params, start).items()
    }


def write_features(
    path: Path, params: Params, start: Start, runs: Mapping[Cell, Carried | None]
) -> list[list[object]]:
    """Write the drawn images' embeddings as Parquet; a map of each network's, a line an image.

    Args:
        runs: what a run ended with; None for zero-shot, whose embeddings are stored.
    Returns:
        Lines of `MAP_COLUMNS`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = drawn(params, start)
    columns: dict[str, list[object]] = {name: [] for name in (*MAP_COLUMNS[:6], "embedding")}
    lines: list[list[object]] = []
    for cell, carried in runs.items():
        if cell.seed or not looked_at(params.sequence, cell):
            continue
        found = stored(start, rows) if carried is None else carried.features
        if not found:
            continue
        points = iter(tsne(torch.cat([*found.values()]), MAP_SEED).tolist())
        for name, z in found.items():
            task, own = start.tasks[name], rows[name]
            ids, labels = task.ids[own].tolist(), task.test.labels.cpu()[own].tolist()
            for i, label, values in zip(ids, labels, z.tolist(), strict=True):
                each = (cell.order, cell.method, cell.seed, name, i, label, values)
                for column, value in zip(columns.values(), each, strict=True):
                    column.append(value)
                x, y = next(points)
                lines.append([*each[:6], f"{x:.3f}", f"{y:.3f}"])
    types = [pa.string(), pa.string(), pa.int16(), pa.string(), pa.int64(), pa.int16()]
    schema = pa.schema(list(zip(columns, [*types, pa.list_(pa.float32())], strict=True)))
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())
    return lines


def stored(start: Start, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Unit embeddings of some test images by the start."""
    return {
        name: F.normalize(start.tasks[name].test.embeddings.cpu()[own], dim=-1)
        for name, own in rows.items()
    }
