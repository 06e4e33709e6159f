"""Commands that test an encoder by prompts; heavy packages are imported inside them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def add(app: typer.Typer) -> None:
    """Add ``zeroshot`` and ``classify`` to the command line."""
    for command in (zeroshot, classify):
        app.command()(command)


def zeroshot(
    encoder: Annotated[str, typer.Argument(help="Encoder of params.yaml, or a source.")],
    datasets: Annotated[list[str], typer.Argument(help="Prepared data sets.")],
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the whole model, or what a study keeps of it.")
    ] = None,
    split: Annotated[str, typer.Option(help="The images to test on.")] = "test",
    csv: Annotated[
        Path | None, typer.Option(help="Folder for metrics_DATASET.csv, as the original has it.")
    ] = None,
    iteration: Annotated[int, typer.Option(help="Of the row in these files.", min=0)] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Test an encoder on data sets by their class prompts; nothing is trained."""
    from dataclasses import asdict

    from carryover.config import params as config
    from carryover.data import store
    from carryover.embed import SETS
    from carryover.stages import PARAMS
    from carryover.zeroshot import evaluate, load, metrics_csv, metrics_rows

    model = load(config.read(PARAMS), encoder, weights)
    for dataset in datasets:  # all, before the first is tested
        store.prepared(SETS, dataset, "zeroshot")
        if csv:
            metrics_rows(csv, dataset)
    scores = []
    for dataset in datasets:
        scores.append(evaluate(model, dataset, split))
        if not json_:
            print(scores[-1].line())
    if json_:
        print(json.dumps([asdict(score) for score in scores]))
    if csv:
        for path in metrics_csv(csv, scores, iteration):
            print(path, file=sys.stderr if json_ else sys.stdout)


def classify(
    image: Annotated[Path, typer.Argument(help="Image file, or a folder of them.")],
    encoder: Annotated[str, typer.Option(help="Encoder of params.yaml, or a source.")],
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the whole model, or what a study keeps of it.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="Prepared set whose classes to choose from.")] = "",
    labels: Annotated[Path | None, typer.Option(help="Text file, a class name a line.")] = None,
    top: Annotated[int, typer.Option(help="Names an image.", min=1)] = 5,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, a line an image.")] = False,
) -> None:
    """Name what is on an image, or on each of a folder, with probabilities."""
    from carryover.classify import class_names, image_files
    from carryover.classify import classify as work
    from carryover.config import params as config
    from carryover.errors import DataError
    from carryover.stages import PARAMS
    from carryover.zeroshot import load

    files, names = image_files(image), class_names(dataset, labels)
    model = load(config.read(PARAMS), encoder, weights)
    broken = []
    for found in work(model, files, names, dataset, top):
        if isinstance(found, DataError):
            broken.append(found)
        elif json_:
            print(json.dumps({"image": str(found.path), "names": dict(found.names)}))
        else:
            shown = "  ".join(f"{name} {100 * share:.1f} %" for name, share in found.names)
            print(f"{found.path}: {shown}")
    if len(files) == 1 and broken:
        raise broken[0]
    if broken:
        lines = "\n".join(map(str, broken))
        raise DataError(f"{len(broken)} of {len(files)} images were left out:\n{lines}")
