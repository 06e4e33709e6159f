"""The stages ``embed@ENCODER``, and ``carryover embed``: images through the bank.

``dvc repro embed@clip-nano`` writes ``data/embeddings/clip-nano/``: the features that ``encoders``
of ``params.yaml`` asks for, of all splits of its data sets, with the class prompts where the
encoder has text.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from carryover import bank, bank_out, run
from carryover.bank_out import Precision
from carryover.config.encoders import EncoderEntry
from carryover.data import store
from carryover.errors import pick
from carryover.files import write_json
from carryover.models import encoders
from carryover.models.encoders import Encoder
from carryover.models.features import Feature
from carryover.models.nano import UnknownWords
from carryover.models.prompts import class_prompts
from carryover.scratch import alone

if TYPE_CHECKING:
    from carryover.config.params import Params

SETS, EMBEDDINGS = Path("data/sets"), Path("data/embeddings")


def stage(params: Params, item: str, context: run.Context) -> None:
    """Embed the data sets of one encoder; its folder appears whole or stays as it was."""
    entry = pick(params.encoders, item, "encoders")
    with alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"):
        _write(entry, item, context)


def _write(entry: EncoderEntry, item: str, context: run.Context) -> None:
    encoder = prepared(entry)
    out = EMBEDDINGS / item
    work = out.parent / f".{out.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    try:
        facts = {
            "encoder": item,
            "source": entry.source,
            "weights": encoder.weights,
            "preprocess": encoder.preprocess.digest(),
            "precision": entry.precision,
            "logit_scale": encoder.logit_scale,
            "datasets": {name: _dataset(encoder, entry, name, work) for name in entry.datasets},
        }
        facts["digest"] = bank_out.manifest_digest(facts)
        write_json(work / "manifest.json", facts)
        context.refuse_edited()
        shutil.rmtree(out, ignore_errors=True)
        work.replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def prepared(entry: EncoderEntry) -> Encoder:
    """An entry's encoder with the preprocessing that the entry asks for."""
    torch.set_num_threads(entry.threads)
    weights = entry.weights
    if weights and (run.home() / weights).exists():  # a path; otherwise a tag
        weights = str(run.home() / weights)
    encoder = encoders.load(entry.source, weights)
    times = 1 / 255 if entry.rescale_twice else 1.0
    preprocess = replace(encoder.preprocess, resize=entry.resize, grey=entry.grey, times=times)
    if not entry.normalise:
        preprocess = replace(preprocess, mean=(), std=())
    return replace(encoder, preprocess=preprocess)


def wanted(entry: EncoderEntry) -> list[Feature]:
    """The features an entry asks for: kinds at the end, then pooled ones of inner layers."""
    inner = [Feature("pooled", layer) for layer in entry.layers or ()]
    return [Feature(kind) for kind in entry.kinds] + inner


def _dataset(encoder: Encoder, entry: EncoderEntry, name: str, work: Path) -> dict[str, Any]:
    about = store.manifest(SETS / name)
    splits = {}
    for split in about["splits"]:
        found, _ = _embedded(encoder, entry, name, split)
        splits[split] = bank_out.write_split(work / name, split, found)
    prompts, text = None, None
    if encoder.text is not None:
        prompts = class_prompts(name, about["class_names"], entry.prompts == "generic")
        flat = [prompt for group in prompts for prompt in group]
        root = run.scratch_root() / "bank"
        try:
            values = bank.text_embeddings(encoder, flat, root=root, precision=entry.precision)
        except UnknownWords:  # its images are embedded all the same
            prompts = None
        else:
            unit = F.normalize(values, dim=-1).unflatten(0, (len(prompts), -1))
            text = bank_out.write_text(work / name, unit)
    return {
        "class_names": about["class_names"],
        "data": about["digest"],
        "splits": splits,
        "prompts": prompts,
        bank_out.TEXT: text,
    }


def _embedded(
    encoder: Encoder, entry: EncoderEntry, dataset: str, split: str
) -> tuple[dict[Feature, bank.Embeddings], int]:
    """What the bank holds of a split now, and how many images had to be computed for it."""
    images = store.load(SETS / dataset, split)
    computed = 0
    left = -(-len(images) // entry.batch_size)  # batches
    with run.progress(f"{dataset} {split}", left) as advance:

        def count(rows: int) -> None:
            nonlocal computed, left
            computed += rows
            done = 1 if rows else min(left, max(1, bank.SHARD_ROWS // entry.batch_size))
            left -= done
            for _ in range(done):
                advance()

        found = bank.embed(
            encoder,
            images,
            wanted(entry),
            root=run.scratch_root() / "bank",
            precision=entry.precision,
            tokens=entry.tokens,
            batch_size=entry.batch_size,
            shard_rows=bank.SHARD_ROWS,
            device=run.device(run.chosen_device()),
            advance=count,
        )
    return found, computed


def embed_one(params: Params, name: str, dataset: str, split: str = "", precision: str = "") -> str:
    """Bring one data set of an encoder into the working bank; images a second, a line a split.

    Args:
        name: an encoder of ``params.yaml``.
        split: "" for all.
        precision: "" for the encoder's own.
    Raises:
        ConfigError: an unknown encoder or precision.
        DataError: the set is not prepared or has no such split.
    """
    entry = pick(params.encoders, name, "carryover embed")
    if precision:
        known: dict[str, Precision] = {"float32": "float32", "bfloat16": "bfloat16"}
        entry = replace(entry, precision=pick(known, precision, "--precision"))
    dataset = store.prepared(SETS, dataset, "carryover embed").name
    encoder = prepared(entry)
    lines = []
    for part in [split] if split else list(store.manifest(SETS / dataset)["splits"]):
        started = time.perf_counter()
        found, computed = _embedded(encoder, entry, dataset, part)
        seconds = time.perf_counter() - started
        rows = len(next(iter(found.values())))
        speed = (
            f"{computed} computed, {computed / seconds:.0f} images/s" if computed else "none new"
        )
        lines.append(f"{dataset} {part}: {rows} images, {len(found)} features; {speed}")
    return "\n".join(lines)
