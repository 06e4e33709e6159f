"""Seconds of an epoch of each way of adapting: head on stored embeddings, or encoder in training.

``python benchmarks/adapt.py`` after ``carryover reproduce adapt``: the encoder, images and batches
of ``params.yaml``, one process of one thread, all training images. The solver's probe and zero-shot
have no epochs: theirs are the seconds until the head is there, with the choice of the penalty and
with the prompts' embeddings. The peer of the probe on stored
embeddings is the same probe that encodes its images anew in every epoch; both must end with equal
predictions. Writes ``reports/bench/adapt.json``, which the study's figure of times reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import turns
from carryover.adapt_measures import by_solver, embeddings_of
from carryover.adapt_start import Start, load_start
from carryover.adapt_training import Trained, train
from carryover.config import params as config
from carryover.config.adapt import Adapt
from carryover.errors import KitError
from carryover.models.prompts import class_prompts, class_weights
from carryover.report.adapt_time import WHOLE

LR = 0.001
REENCODED = "probe, encoding anew"
SOLVER, ZERO_SHOT = f"probe-logistic{WHOLE}", f"zero-shot{WHOLE}"


def main() -> None:
    options = turns.parser(__doc__, "not used: the images are those of params.yaml").parse_args()
    params = config.read(Path("params.yaml"))
    torch.set_num_threads(1)
    study = dataclasses.replace(
        params.adapt, epochs=dict.fromkeys(("probe", "unfreeze", "llrd"), 1), max_updates=0
    )
    try:
        start = load_start(params, torch.device("cpu"), pixels=True)
    except KitError as error:
        raise SystemExit(f"adapt: {error}") from error
    methods = ["probe", *study.methods("unfreeze"), *study.methods("llrd")]
    work: dict[str, Callable[[], Any]] = {
        method: lambda method=method: epoch(study, start, method) for method in methods
    }
    work[REENCODED] = lambda: reencoded(study, start)
    work |= without_epochs(study, start, params.encoders[study.encoder].prompts == "generic")
    ends = [predicted(work[name](), start) for name in ("probe", REENCODED)]
    same = float((ends[0] == ends[1]).double().mean())
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(options.turns):
        for name, run in work.items():
            seconds[name].append(turns.seconds(run))
    pairs = zip(seconds[REENCODED], seconds["probe"], strict=True)
    ratio = turns.spread([slow / fast for slow, fast in pairs])
    images = dict.fromkeys(work, len(start.train)) | {ZERO_SHOT: 0}
    threads = "one thread"
    path = turns.write(
        "adapt",
        {
            "machine": f"{turns.processor()}, {threads}",
            "encoder": study.encoder,
            "dataset": study.dataset,
            "batch_size": study.batch_size,
            "methods": {
                name: {"seconds_per_epoch": times, "images": images[name]}
                for name, times in seconds.items()
            },
            "stored_over_anew": ratio,
            "equal_predictions": same,
        },
    )
    for name, times in seconds.items():
        print(f"{name:24} {turns.said(turns.spread(times), 's an epoch')}")
    print(f"stored embeddings against encoding anew: {turns.said(ratio, 'x')}")
    print(f"{same:.1%} of predictions equal; {len(start.train)} images; {path}")


def predicted(trained: Trained, start: Start) -> Tensor:
    """The classes a trained head names on the test images."""
    with torch.no_grad():
        return trained.head(embeddings_of(trained, start.test)).argmax(1)


def epoch(study: Adapt, start: Start, method: str) -> Trained:
    """One epoch of a method."""
    random = torch.Generator().manual_seed(0)
    snapshot = Path(".scratch/bench-adapt.pt")
    return train(study, start, method, start.train, len(start.class_names), LR, random, snapshot)


def without_epochs(study: Adapt, start: Start, generic: bool) -> dict[str, Callable[[], Any]]:
    """The solver's probe; zero-shot, where the encoder knows the words of the classes."""
    text = start.encoder.text
    prompts = class_prompts(study.dataset, start.class_names, generic)
    random = torch.Generator().manual_seed(0)
    work = {SOLVER: lambda: by_solver(study, start, start.train, 1.0, random)}
    if text is not None and study.dataset in start.class_weights:
        with_text = text
        work[ZERO_SHOT] = lambda: class_weights(with_text, prompts)
    return work


def reencoded(study: Adapt, start: Start) -> Trained:
    """The probe's epoch where each batch of images goes through the frozen encoder first."""
    order = torch.randperm(len(start.train), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        parts = [start.encoder.image(start.train.images(i)) for i in order.split(study.batch_size)]
    embeddings = torch.cat(parts).float()[order.argsort()]
    stored = dataclasses.replace(start.train, embeddings=embeddings)
    return epoch(study, dataclasses.replace(start, train=stored), "probe")


if __name__ == "__main__":
    main()
