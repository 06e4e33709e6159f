"""The command line. Heavy packages are imported inside the commands that need them."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from carryover import __version__, cli_encoders, cli_launch, cli_stored, cli_zeroshot
from carryover.errors import KitError, of_machine, pick, printable

app = typer.Typer(
    name="carryover",
    help="What does a pretrained vision representation carry over to the next task?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cli_encoders.add(app)
cli_zeroshot.add(app)
cli_launch.add(app)
cli_stored.add(app)

DEVICES = ("auto", "cpu", "cuda")
OURS = 3  # exit code of a fault that is ours
INTERRUPTED = 130  # as shells have it
USAGE: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Run the command line; turn errors into the documented exit codes."""
    try:
        code = app(prog_name="carryover", standalone_mode=False)
        if code == INTERRUPTED:
            print("stopped; run again to go on from here", file=sys.stderr)
        sys.exit(code)
    except KitError as error:
        _refuse(str(error))
    except USAGE as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        _refuse(f"{_usage(error)}; {_help(error)} lists what it takes")
    except Exception as error:
        told = of_machine(error)
        if told:
            _refuse(str(told))
        import traceback

        traceback.print_exc()
        sys.exit(OURS)


def _refuse(said: str) -> NoReturn:
    message = printable(said)
    _record_error(message)
    print(f"carryover: {message}", file=sys.stderr)
    sys.exit(2)


def _usage(error: Any) -> str:
    """What typer says of a wrong option, and what was given where it does not say that."""
    said = " ".join(error.format_message().split()).rstrip(".")
    found: list[Any] = getattr(error.__cause__, "errors", list)()
    return f"{said}, got {found[0]['input']!r}" if found else said


def _help(error: Any) -> str:
    """The command that explains the one that was called wrongly."""
    context = getattr(error, "ctx", None)
    return f"`{context.command_path if context else 'carryover'} --help`"


def _record_error(message: str) -> None:
    """Hand a stage's message to the `reproduce` that started it."""
    told = os.environ.get("CARRYOVER_ERROR")
    if told:
        with contextlib.suppress(OSError):  # the message is on stderr too
            Path(told).write_text(message)


def _version(asked: bool) -> bool:
    if asked:
        print(__version__)
        raise typer.Exit
    return asked


@app.callback()
def options(
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="auto: a GPU if there is one.")
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Options of every command; they reach the stages that DVC starts by the environment."""
    if device:
        os.environ["CARRYOVER_DEVICE"] = pick({d: d for d in DEVICES}, device, "--device")
    if quiet:
        os.environ["CARRYOVER_QUIET"] = "1"


@app.command()
def reproduce(
    studies: Annotated[list[str] | None, typer.Argument(help="Studies; all by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run every stage again.")] = False,
    once: Annotated[
        bool, typer.Option("--once", help="With --fresh: not if these params were finished.")
    ] = False,
    preset: Annotated[str, typer.Option(help="Write this preset into params.yaml before.")] = "",
    data: Annotated[
        str, typer.Option(help="Folder with data sets: data.root of params.yaml.")
    ] = "",
) -> None:
    """Run the pipeline through DVC, compare with the committed results, print the summary."""
    from carryover.reproduce import reproduce as work

    if data and not Path(data).is_dir():
        raise KitError(
            f"--data: expected a folder, got {data!r}; name or mount the one with the sets"
        )
    raise typer.Exit(work(studies or [], fresh=fresh, once=once, preset=preset, data=data))


@app.command()
def run(
    stage: Annotated[str, typer.Argument(help="Stage of dvc.yaml, without its item.")],
    item: Annotated[str, typer.Option(help="Item of the stage.")] = "",
) -> None:
    """Run one stage: what dvc.yaml calls."""
    from carryover.parallel import keep_freed_memory
    from carryover.stages import run_stage

    keep_freed_memory()
    run_stage(stage, item)


@app.command()
def preset(
    name: Annotated[str, typer.Argument(help="Preset to write into params.yaml.")] = "",
    study: Annotated[str, typer.Option(help="Only this study's part.")] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Say which preset params.yaml equals; exit 1 if none.")
    ] = False,
) -> None:
    """Write a preset into params.yaml, keeping its comments, or say which one it holds."""
    from carryover import presets

    if check:
        text, equal = presets.describe()
        print(text)
        raise typer.Exit(0 if equal else 1)
    if not name:
        raise KitError(f"preset: expected one of {', '.join(presets.names())}, or --check")
    from carryover.reproduce import alone_with_parameters

    with alone_with_parameters():
        print(presets.apply(name, study))


@app.command()
def keep(name: Annotated[str, typer.Argument(help="Preset whose rows these are.")]) -> None:
    """Add rows to results/PRESET/STUDY/, in git, and compare them with released ones."""
    from carryover.keep import keep as work

    for folder in work(name):
        print(folder)


@app.command("list")
def list_() -> None:
    """List studies, stages, presets, data sets and networks."""
    from carryover.overview import overview

    print(overview())


@app.command()
def check() -> None:
    """Read params.yaml strictly; run nothing."""
    from carryover.overview import check as work

    print(work())


@app.command()
def doctor(
    verify: Annotated[bool, typer.Option("--verify", help="Check every digest.")] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="With --verify: mend, or clear the way to make it again.")
    ] = False,
) -> None:
    """Check the environment, with --verify every digest too; exit 1 where something is bad.

    Digests are of results, models, embeddings, DVC's cache, the bank and snapshots.
    """
    import contextlib

    from carryover.doctor import examine
    from carryover.reproduce import alone_with_parameters

    with alone_with_parameters() if fix else contextlib.nullcontext():
        text, good = examine(verify=verify, fix=fix)
    print(text)
    raise typer.Exit(0 if good else 1)


@app.command()
def report(
    only: Annotated[str, typer.Option(help="Only this study.")] = "",
) -> None:
    """Make the tables, figures and page again from the rows."""
    from carryover.reproduce import report as work

    print(work(only))


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="Revision or experiment.")] = "HEAD",
    after: Annotated[str, typer.Argument(help="The same; the working tree by default.")] = "",
    absolute: Annotated[
        float | None, typer.Option("--abs", help="Change to let pass, of every metric.")
    ] = None,
    relative: Annotated[
        float | None, typer.Option("--rel", help="The same, as a share of the value.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a table for a pull request.")
    ] = False,
) -> None:
    """Compare rows of two revisions with intervals; exit 1 on a significant change.

    Smaller ones than the tolerances of params.yaml pass; --abs and --rel replace those.
    """
    from carryover.overview import compare_revisions

    if json_ and markdown:
        raise KitError("diff: expected --json or --markdown, got both; leave one out")
    form: Literal["text", "json", "markdown"]
    form = "json" if json_ else "markdown" if markdown else "text"
    text, significant = compare_revisions(before, after or None, absolute, relative, form)
    print(text)
    raise typer.Exit(1 if significant else 0)


@app.command("export-original")
def export_original(
    study: Annotated[str, typer.Argument(help="Study whose original left result files: cuts.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write the files in.")],
) -> None:
    """Write our rows in the original study's own file format."""
    from carryover.export import export

    for path in export(study, folder):
        print(path)
