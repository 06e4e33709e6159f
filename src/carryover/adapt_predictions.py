"""Every prediction of the adaptation study on test images, so that differences can be paired."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from carryover.adapt_measures import Embedded, Named, by_text, outputs_of
from carryover.adapt_start import Start
from carryover.adapt_training import Trained
from carryover.config.adapt import Adapt
from carryover.files import write_bytes
from carryover.models.heads import Adapted

PREDICTIONS = Path("data/predictions/adapt")
FILE = "predictions.parquet"


def named(study: Adapt, start: Start, trained: Trained, seen: Embedded) -> Named:
    """The class that a trained network names for each test image.

    Args:
        seen: what `adapt_measures.embeddings_by_set` gives.
    Returns:
        By data set and head: ``trained``, and where the encoder has trained ``text``.
    """
    with torch.no_grad():
        logits = trained.head(seen[study.dataset])
    finite = bool(logits.isfinite().all())
    outputs = outputs_of(logits, trained.softmax, study.test_batch) if finite else logits
    found = {(study.dataset, "trained"): outputs.argmax(1)}
    if isinstance(trained.network, Adapted) and bool(seen[study.dataset].isfinite().all()):
        found |= by_text(start, seen)
    return found


def untrained(study: Adapt, start: Start) -> Named:
    """The same by the text head before any training."""
    tested = {study.dataset: start.test, **start.others}
    return by_text(start, {name: each.embeddings for name, each in tested.items()})


def write(path: Path, study: Adapt, start: Start, cell: Mapping[str, object], made: Named) -> None:
    """One training's predictions as Parquet, whole or not at all: a line an image, set and head.

    Args:
        cell: method, partition and seed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for (dataset, head), classes in made.items():
        labels = (start.test if dataset == study.dataset else start.others[dataset]).labels
        same = {**cell, "dataset": dataset, "head": head}
        columns = {
            name: pa.array([value] * len(labels)).dictionary_encode()
            for name, value in same.items()
        }
        columns["row"] = pa.array(np.arange(len(labels), dtype=np.int32))  # in the set's test part
        columns["label"] = pa.array(labels.cpu().numpy().astype(np.int16))
        columns["prediction"] = pa.array(classes.cpu().numpy().astype(np.int16))
        tables.append(pa.table(columns))
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(tables).unify_dictionaries(), buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def keep(paths: Iterable[Path], item: str) -> None:
    """Bring the trainings' files to where the pipeline keeps them, as one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pa.concat_tables([pq.read_table(path) for path in paths]).unify_dictionaries()
    buffer = io.BytesIO()
    pq.write_table(whole, buffer, compression="zstd")
    write_bytes(PREDICTIONS / item / FILE, buffer.getvalue())
