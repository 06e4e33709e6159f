"""Commands about encoders; heavy packages are imported inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add(app: typer.Typer) -> None:
    """Add ``encoders``, ``layers``, ``embed`` and ``weights …`` to the command line."""
    for command in (encoders, layers, embed):
        app.command()(command)
    weights = typer.Typer(help="Weights of encoders.", no_args_is_help=True)
    weights.command("convert")(weights_convert)
    weights.command("basis")(weights_basis)
    app.add_typer(weights, name="weights")


def encoders() -> None:
    """Sources of encoders, their features, and those of params.yaml."""
    from carryover.encoders_cli import table

    print(table())


def layers(
    encoder: Annotated[str, typer.Argument(help="Encoder of params.yaml, or a source.")],
    groups: Annotated[bool, typer.Option("--groups", help="Groups, input to output.")] = False,
    linear_only: Annotated[
        bool, typer.Option("--linear-only", help="Linear layers: what LoRA can adapt.")
    ] = False,
    params: Annotated[
        bool, typer.Option("--params", help="Every parameter: group, kind, shape.")
    ] = False,
) -> None:
    """The layers of an encoder, from input to output."""
    from carryover.encoders_cli import layers as work

    print(work(encoder, groups=groups, linear_only=linear_only, params=params))


def weights_convert(
    file: Annotated[Path, typer.Argument(help="OpenAI's archive, or a grad_NAME.pth.")],
    out: Annotated[Path | None, typer.Option(help="Where to; beside it by default.")] = None,
    basis: Annotated[
        str, typer.Option(help="The file holds OGD's raw gradients: joint or tensor.")
    ] = "",
) -> None:
    """Turn OpenAI's TorchScript archive, if its sha256 is the official one, into safetensors.

    With --basis: the original's raw gradients into an orthonormal basis (docs/ogd.md).
    """
    from carryover.encoders_cli import convert

    beside = file.with_suffix(".safetensors") if file.name else file
    print(convert(file, out or beside, basis))


def weights_basis(
    encoder: Annotated[str, typer.Argument(help="Encoder of params.yaml, as trained.")],
    dataset: Annotated[str, typer.Argument(help="Prepared data set that it was trained on.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    earlier: Annotated[Path | None, typer.Option(help="Basis of sets trained before.")] = None,
) -> None:
    """Write OGD's basis of a data set: directions that keep what an encoder says of it."""
    from carryover.config import params as config
    from carryover.sequence_basis import write_basis
    from carryover.stages import PARAMS

    print(write_basis(config.read(PARAMS), encoder, dataset, out, earlier))


def embed(
    encoder: Annotated[str, typer.Argument(help="Encoder of params.yaml.")],
    dataset: Annotated[str, typer.Argument(help="Prepared data set.")],
    split: Annotated[str, typer.Option(help="Only this split.")] = "",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16; as in params.yaml.")] = "",
) -> None:
    """Compute embeddings into the bank, those that are missing; prints images a second."""
    from carryover.config import params as config
    from carryover.embed import embed_one
    from carryover.parallel import keep_freed_memory
    from carryover.stages import PARAMS

    keep_freed_memory()
    print(embed_one(config.read(PARAMS), encoder, dataset, split, precision))
