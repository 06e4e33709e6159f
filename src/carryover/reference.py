"""``docs/reference.md``, made from the code: every command with its options, every parameter.

``python -m carryover.reference`` writes it (``make docs``); a test holds the committed file
against what this makes. Imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from carryover.config.params import Params
from carryover.config.reader import load
from carryover.files import write_text

PAGE, PARAMS, PIPELINE = Path("docs/reference.md"), Path("params.yaml"), Path("dvc.yaml")
NAMED = "NAME"  # stands for what the user names: a network, an encoder, an arm
EMPTY, OR_EMPTY = type(None), " or empty"
TYPES = {int: "whole number", float: "number", str: "text", bool: "true or false"}
VALUES = {int: "whole number", float: "number", Path: "path"}  # of options; else text
CODES = (
    ("0", "good"),
    ("1", "a check said no: `check`, `diff`, `doctor`, `claims verify`, `preset --check`"),
    ("2", "yours to mend: one sentence on standard error says what"),
    ("3", "a fault of carryover's, with its traceback"),
)
INTRO = """\
# Reference

Made from the code by `make docs`; do not edit it. How to use what stands here:
[tutorial](tutorial.md), [how-to](how-to.md); why: [protocols](protocols.md).

## Commands

`carryover OPTIONS COMMAND …`; `carryover COMMAND --help` prints the same.
"""
PARAMS_INTRO = """\
## Parameters

Every key of `params.yaml`, with its type, the comment that stands beside it there, and the
stages of `dvc.yaml` that read it: a change of its value makes DVC run these stages, and those
behind them, again. The values are those of the file. `NAME` stands for a name of your choice.
"or empty" says that a key may have no value, a bracket behind a type which objectives have the key.
"""


def page(root: Path) -> str:
    """The whole page for a checkout."""
    sections = [INTRO, *_commands(), _table(("exit code", "means"), CODES), PARAMS_INTRO]
    kinds = dict(keys(Params, ""))
    comments = comments_of(root / PARAMS)
    readers = readers_of(load(root / PIPELINE))
    for name in dict.fromkeys(key.partition(".")[0] for key in kinds):
        lines = [
            (f"`{key}`", kinds[key], _cell(_less(comment, kinds[key])), ", ".join(readers(key)))
            for key, comment in (comments | {k: "" for k in kinds if k not in comments}).items()
            if key.partition(".")[0] == name
        ]
        sections += [f"### {name}\n", _table(("key", "type", "meaning", "read by"), lines)]
    return "\n".join(sections)


# --- commands ----------------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    """A section a command, the options of all first."""
    from carryover.cli import app

    assert app.registered_callback is not None
    yield f"### Options of all commands\n\n{_options(app.registered_callback.callback)}"
    for name, command in sorted(_flat(app, "")):
        yield f"### carryover {name}\n\n{_paragraphs(inspect.getdoc(command) or '')}\n"
        if inspect.signature(command).parameters:
            yield _options(command)


def _flat(app: Any, before: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Commands by their full names, those of groups too."""
    for info in app.registered_commands:
        yield f"{before}{info.name or info.callback.__name__.replace('_', '-')}", info.callback
    for group in app.registered_groups:
        yield from _flat(group.typer_instance, f"{before}{group.name} ")


def _options(command: Any) -> str:
    hints = get_type_hints(command, include_extras=True)
    lines = [
        _option(name, parameter.default, *get_args(hints[name])[:2])
        for name, parameter in inspect.signature(command).parameters.items()
    ]
    return _table(("argument or option", "value", "by default", "meaning"), lines)


def _option(name: str, default: Any, kind: Any, info: Any) -> tuple[str, str, str, str]:
    """How it is written, what it takes, what it is when left out, what it is for."""
    argument = "Argument" in type(info).__name__
    dashed = name.replace("_", "-")
    said = [part for part in (info.default, *(info.param_decls or ())) if str(part)[:1] == "-"]
    written = dashed.upper() if argument else ", ".join(said or [f"--{dashed}"])
    inner = next(part for part in _parts(kind) if part is not EMPTY)
    several = "…" if get_origin(inner) is list else ""
    value = "" if argument or inner is bool else info.metavar or VALUES.get(inner, "text")
    required = default is inspect.Parameter.empty
    shown = "" if default in (None, "", False) else f"`{default}`"
    return f"`{written}{several}`", _cell(value), "required" if required else shown, info.help


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


# --- parameters --------------------------------------------------------------------------------


def keys(kind: Any, path: str) -> Iterator[tuple[str, str]]:
    """Dotted keys with their types in words; a section's own key comes before what is in it."""
    parts = [part for part in _parts(kind) if part is not EMPTY]
    empty = OR_EMPTY if len(parts) < len(_parts(kind)) else ""
    origin, args = get_origin(parts[0]), get_args(parts[0])
    if origin is dict:
        inner = list(keys(args[1], f"{path}.{NAMED}"))
        leaf = f" to {inner[0][1]}" if len(inner) == 1 else ""
        yield path, f"mapping of names{leaf}{empty}"
        yield from [] if leaf else inner
        return
    if origin is tuple and dataclasses.is_dataclass(args[0]):
        yield path, "list of sections"
        yield from keys(args[0], f"{path}[]")
        return
    sections = [part for part in parts if dataclasses.is_dataclass(part)]
    if not sections:
        yield path, _words(parts[0]) + empty
        return
    if path and not path.endswith((NAMED, "[]")):
        yield path, f"section{empty}"
    seen: dict[str, dict[str, str]] = {}  # by key and objective: several have keys of their own
    for section in sections:
        hints = get_type_hints(section)
        objective = str(get_args(hints["objective"])[0]) if len(sections) > 1 else ""
        for field in dataclasses.fields(section):
            for key, words in keys(hints[field.name], f"{path}.{field.name}".lstrip(".")):
                seen.setdefault(key, {})[objective] = words
    for key, found in seen.items():
        of = f" ({', '.join(found)})" if len(found) < len(sections) else ""
        yield key, " or ".join(dict.fromkeys(found.values())) + of


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return f"list of {_words(inner)}{'s' if inner in TYPES else ''}"
    return TYPES.get(kind, "any")


def comments_of(path: Path) -> dict[str, str]:
    """The comment of each key that a file holds, in its order; "" for none.

    Those beside the entries of a key's list come after its own. Names of the user's own become
    `NAME`: of a key that several entries have, the first comment counts.
    """
    from ruamel.yaml import YAML

    text = path.read_text()
    known = dict(keys(Params, ""))
    found: dict[str, str] = {}
    for dotted, lines in _lines(YAML().load(text), ()):
        key = _as_known(dotted, known)
        if key in known:
            said = [_comment(text.splitlines()[line]) for line in lines]
            found[key] = found.get(key) or " ".join(filter(None, said))
    return found


def _less(comment: str, kind: str) -> str:
    """A comment, but none that only lists choices, which the type does."""
    choices = re.findall(r"`([^`]+)`", kind)
    return "" if all(part.strip() in choices for part in comment.split(",")) else comment


def _lines(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    """Every key with the line that it stands on and those of its list's plain entries."""
    for key, child in node.items():
        here, lines = (*path, str(key)), [node.lc.key(key)[0]]
        entries = child if isinstance(child, list) else []
        lines += [child.lc.item(i)[0] for i, entry in enumerate(entries) if _plain(entry)]
        yield here, list(dict.fromkeys(lines))
        if isinstance(child, Mapping):
            yield from _lines(child, here)
        for entry in entries:
            if isinstance(entry, Mapping):
                yield from _lines(entry, (*path, f"{key}[]"))


def _plain(value: Any) -> bool:
    return not isinstance(value, Mapping | list)


def _as_known(path: tuple[str, ...], known: Iterable[str]) -> str:
    """The key that a path is of, with names as `NAME`; "" for none."""
    found = ""
    for part in path:
        options = (f"{found}.{part}".lstrip("."), f"{found}.{NAMED}")
        found = next((key for key in options if _begins(key, known)), "")
        if not found:
            return ""
    return found


def _begins(key: str, known: Iterable[str]) -> bool:
    return any(each == key or each.startswith((f"{key}.", f"{key}[]")) for each in known)


def _comment(line: str) -> str:
    found = re.search(r"(?:^|\s)#\s+(.*)$", line)
    return found[1].strip() if found else ""


def readers_of(pipeline: Mapping[str, Any]) -> Any:
    """A function from a key to the stages that read it."""
    read = {
        name: [
            re.sub(r"\$\{.*?\}", NAMED, param) for param in stage.get("do", stage).get("params", [])
        ]
        for name, stage in pipeline["stages"].items()
    }

    def readers(key: str) -> list[str]:
        inside = (f"{key}.", f"{key}[]")
        return [
            name
            for name, params in read.items()
            if any(key == p or key.startswith((f"{p}.", f"{p}[]")) for p in params)
            or any(p.startswith(inside) for p in params)
        ]

    return readers


# --- Markdown ----------------------------------------------------------------------------------


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(header: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [header, ("---",) * len(header), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    write_text(PAGE, page(Path()))
