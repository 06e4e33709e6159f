"""Commands about data sets and claims; heavy packages are imported inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add(app: typer.Typer) -> None:
    """Add ``data …`` and ``claims …`` to the command line."""
    data = typer.Typer(help="Data sets: list, check, prepare.", no_args_is_help=True)
    for name, command in (("list", data_list), ("check", data_check), ("prepare", data_prepare)):
        data.command(name)(command)
    app.add_typer(data, name="data")
    claims = typer.Typer(help="Published claims: list, verify, accept.", no_args_is_help=True)
    claims.command("list")(claims_list)
    claims.command("verify")(claims_verify)
    claims.command("accept")(claims_accept)
    app.add_typer(claims, name="claims")


def data_list() -> None:
    """Counts, classes and digests of the known data sets."""
    from carryover.overview import data_table

    print(data_table())


def data_check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Sets, folder:PATH or parquet:PATH; all of params.")
    ] = None,
) -> None:
    """Check sets against their digests and known counts; refuse a short or altered copy."""
    from carryover.overview import check_data

    for line in check_data(names or []):
        print(line)


def data_prepare(
    names: Annotated[list[str], typer.Argument(help="Sets to prepare under data/sets.")],
    download: Annotated[
        bool, typer.Option("--download", help="Fetch them with torchvision if they are absent.")
    ] = False,
) -> None:
    """Decode, count, digest and write sets."""
    from carryover.overview import prepare_data

    for line in prepare_data(names, download):
        print(line)


def claims_list(study: Annotated[str, typer.Option(help="Only this study.")] = "") -> None:
    """Every claim of the ledger with what decides it."""
    from carryover.claims.shown import listing

    print(listing(Path(), study))


def claims_verify(
    study: Annotated[str, typer.Option(help="Only this study.")] = "",
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Decide every claim from stored rows; exit 1 where a verdict is not the accepted one."""
    from carryover.claims.shown import verdicts

    text, same = verdicts(Path(), study, json_)
    print(text)
    raise typer.Exit(0 if same else 1)


def claims_accept() -> None:
    """Take the verdicts as they are now as the accepted ones: claims/verdicts.yaml."""
    from carryover.claims.verify import ACCEPTED, accept

    print(f"{accept(Path())} verdicts changed; {ACCEPTED}")
