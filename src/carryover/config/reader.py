"""Strict reading of YAML into frozen dataclasses: every fault at once, under its dotted path."""

from __future__ import annotations

import dataclasses
import math
import re
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from carryover.errors import ConfigError, listed
from carryover.files import digest

SLUG = re.compile(r"[a-z0-9-]+")
WHOLE = 2**63 - 1  # what torch takes as a seed or a size
SMALLEST, GREATEST = 1e-30, 1e30  # beyond them float32 loses numbers to 0 or infinity
THREADS = 1024  # at most
# beside its own error the parser raises these: for bytes, days or numbers that do not exist
NOT_YAML = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def load(path: Path) -> dict[str, Any]:
    """The YAML tree of a file, numbers as DVC reads them (``1e-5`` is a number).

    Raises:
        ConfigError: no such file, not YAML, or not a mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if not path.is_file():
        raise ConfigError(
            f"{path}: expected this file, found none; call carryover from the top folder "
            "of a checkout"
        )
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text())
    except (YAMLError, *NOT_YAML) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: expected YAML, got: {reason}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {_kind(tree)}")
    return tree


def section_digest(path: Path, *sections: str) -> str:
    """Digest of some sections of a file as they stand now; dots lead into a section."""
    return digest_of(load(path), *sections)


def digest_of(tree: dict[str, Any], *sections: str, without: tuple[str, ...] = ()) -> str:
    """Digest of some sections of a tree; dots lead into a section.

    Args:
        without: keys left out of a section that is a mapping; dots lead deeper, ``*`` is any key.
    """
    return digest({name: _less(_at(tree, name), without) for name in sections})


def _less(value: Any, without: tuple[str, ...]) -> Any:
    if not isinstance(value, dict) or not without:
        return value
    deeper = [name.partition(".")[::2] for name in without if "." in name]
    return {
        key: _less(child, tuple(rest for first, rest in deeper if first in (key, "*")))
        for key, child in value.items()
        if key not in without
    }


def _at(tree: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def refuse_edited(path: Path, before: str, *sections: str) -> None:
    """Stop before results are written when the sections changed while a stage ran.

    Args:
        before: `section_digest` of the same sections at the stage's start.
    Raises:
        ConfigError: they differ now. DVC would record the new values for results of the old.
    """
    if section_digest(path, *sections) != before:
        raise ConfigError(
            f"{path}: expected {listed(sections)} to stay as they were when this stage started, "
            "they were edited meanwhile; nothing was written, run again"
        )


def build(kind: Any, value: Any, path: str, faults: list[str]) -> Any:
    """`value` as a `kind`; what does not fit is added to `faults`."""
    if kind is Any:
        return value
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [arg for arg in args if arg is not type(None)]
        return build(_chosen(kinds, value, path, faults), value, path, faults)
    if dataclasses.is_dataclass(kind):
        return _build_section(kind, value, path, faults)
    if origin is Literal:
        if value not in args or isinstance(value, bool):
            faults.append(f"{path}: expected one of {listed(map(str, args))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list) or not value:
            found = "an empty one" if value == [] else _kind(value)
            faults.append(f"{path}: expected a list with at least one entry, got {found}")
            return ()
        return tuple(build(args[0], v, f"{path}[{i}]", faults) for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            faults.append(f"{path}: expected a mapping of names, got {_kind(value)}")
            return {}
        faults += [f"{path}: expected names, got {_kind(k)}" for k in value if type(k) is not str]
        names = {k: v for k, v in value.items() if type(k) is str}
        return {k: build(args[1], v, f"{path}.{k}", faults) for k, v in names.items()}
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (isinstance(value, kind) or (kind is float and whole)) or (
        isinstance(value, bool) and kind is not bool
    ):
        faults.append(f"{path}: expected {TYPE_NAMES[kind]}, got {_kind(value)}")
    elif kind is int and abs(value) > WHOLE:
        faults.append(f"{path}: expected a whole number of -2^63 + 1 to 2^63 - 1, got {value}")
    elif kind is float and value and not SMALLEST <= abs(value) <= GREATEST:
        faults.append(
            f"{path}: expected 0 or a number of {SMALLEST:g} to {GREATEST:g} in size, which "
            f"float32 holds, got {value}"
        )
    elif kind is float:
        return float(value)
    return value


def _chosen(kinds: list[Any], value: Any, path: str, faults: list[str]) -> Any:
    """Of several sections the one whose ``objective`` is the value's."""
    if len(kinds) == 1 or not isinstance(value, dict):
        return kinds[0]
    known = {get_args(get_type_hints(kind)["objective"])[0]: kind for kind in kinds}
    asked = value.get("objective")
    if not isinstance(asked, str) or asked not in known:
        faults.append(f"{path}.objective: expected one of {listed(known)}, got {asked!r}")
        return Any
    return known[asked]


def _build_section(kind: Any, value: Any, path: str, faults: list[str]) -> Any:
    dot = f"{path}." if path else ""
    if not isinstance(value, dict):
        faults.append(f"{path}: expected a mapping, got {_kind(value)}")
        return None
    hints = get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in value:
        if key not in known:
            faults.append(f"{dot}{key}: unknown key, expected {listed(known)}; take it out")
    for key in known:
        if key not in value:
            what = "section" if dataclasses.is_dataclass(hints[key]) else "key"
            faults.append(f"{dot}{key}: expected this {what}, it is missing; add it")
    count = len(faults)
    built = {k: build(hints[k], value[k], f"{dot}{k}", faults) for k in known if k in value}
    if len(faults) > count or len(built) < len(known):
        return None
    section = kind(**built)
    faults += [f"{dot}{fault}" for fault in section.faults()]
    return section


TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    names = {dict: "a mapping", list: "a list"} | TYPE_NAMES
    name = names.get(type(value), type(value).__name__)
    return name if isinstance(value, dict | list) else f"{name} ({value!r})"


# --- rules -------------------------------------------------------------------------------------


def at_least(value: int, name: str, least: int) -> list[str]:
    """Fault of a number below its least value."""
    return [] if value >= least else [f"{name}: expected at least {least}, got {value}"]


def between(
    value: float, name: str, above: float, below: float = math.inf, most: float = math.inf
) -> list[str]:
    if above < value < below and value <= most:
        return []
    upper = "" if below == math.inf else f" and below {below:g}"
    upper += "" if most == math.inf else f" and at most {most:g}"
    return [f"{name}: expected a number above {above:g}{upper}, got {value}"]


def distinct(values: tuple[Any, ...], name: str) -> list[str]:
    """Fault of a list that holds an entry twice; of numbers six digits count, as in names."""
    shown = [f"{v:g}" if isinstance(v, float) else v for v in values]
    twice = sorted({str(v) for v in shown if shown.count(v) > 1})
    if not twice:
        return []
    near = "" if len(set(values)) < len(values) else " by their first six digits"
    return [f"{name}: expected each entry once, got {listed(twice)} twice{near}"]


def threads(count: int) -> list[str]:
    """Fault of a number of threads that no machine has."""
    if count <= THREADS:
        return at_least(count, "threads", 1)
    return [f"threads: expected 1 to {THREADS}, got {count}"]


def each_slug(names: tuple[str, ...], where: str) -> list[str]:
    """Faults of names that cannot be part of a stage name."""
    wrong = [name for name in names if not SLUG.fullmatch(name)]
    return [f"{where}: expected names of a-z, 0-9 and -, got {name!r}" for name in wrong]


def known(name: str, names: tuple[str, ...], path: str) -> list[str]:
    """Fault of a name that is not listed."""
    if name in names:
        return []
    return [f"{path}: expected one of {listed(names)}, got {name!r}; add it to data.names"]
