"""The command that computes a study in shares; heavy packages are imported inside it."""

from __future__ import annotations

from typing import Annotated

import typer


def add(app: typer.Typer) -> None:
    """Add ``launch`` to the command line."""
    app.command()(launch)


def launch(
    study: Annotated[str, typer.Argument(help="Study: cuts, adapt, sequence, ...")],
    on: Annotated[str, typer.Option(metavar="local|slurm", help="Where workers run.")] = "local",
    shards: Annotated[
        int, typer.Option(help="Shares; by default one a core, on a cluster 8.", min=0)
    ] = 0,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Compute this share alone, and no rows.")
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="Compute no cell, write the rows; exit 1 if some wait.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be started, start nothing.")
    ] = False,
    time: Annotated[int, typer.Option(help="Minutes a task may take on the cluster.", min=1)] = 60,
    partition: Annotated[str, typer.Option(help="Partition of the cluster.")] = "",
    cpus: Annotated[int | None, typer.Option(help="Cores of a task.", min=1)] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs of a task.", min=1)] = None,
    at_once: Annotated[int | None, typer.Option(help="Tasks to run at one time.", min=1)] = None,
    sbatch: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Any option of sbatch.")
    ] = None,
) -> None:
    """Compute a study's cells in shares, here or on a cluster, and write its rows."""
    from carryover import launch as work
    from carryover.errors import ConfigError
    from carryover.launch_slurm import Request

    if shard is not None:
        work.share_of(shard)  # an unset variable of a job script is no share
    request = Request(time, partition, cpus, gpus, at_once, tuple(sbatch or ()))
    more = (shard is not None, shards, on != "local", dry_run, request != Request())
    if rows and any(more):
        raise ConfigError("launch: expected --rows alone, got it with another option")
    if rows:
        raise typer.Exit(work.write_rows(study))
    raise typer.Exit(work.launch(study, on, shards, shard or "", dry_run, request))
