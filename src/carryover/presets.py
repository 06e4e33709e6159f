"""Presets: named sets of values for ``params.yaml``."""

from __future__ import annotations

import copy
import functools
import io
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

from carryover.config import params as config
from carryover.config import reader
from carryover.errors import ConfigError, listed
from carryover.files import write_text
from carryover.stages import PARAMS, STAGES, expanded

PRESETS = Path("presets")
LOCK = Path("dvc.lock")
BASE = "mini"
WHOLE = (  # mappings of names that a preset replaces, not merges
    "data.sources",
    *(f"continual.{key}" for key in ("streams", "protocols", "heads", "arms", "logistic.sets")),
    *("sequence.orders", "sequence.methods", "sequence.lr_factors"),
    *(f"retrieval.{key}" for key in ("ks", "controls", "starts")),
)


def names() -> list[str]:
    """Known presets: the files of ``presets/`` and its folders (``published/fashion-mnist``)."""
    found = (path.relative_to(PRESETS).with_suffix("") for path in PRESETS.rglob("*.yaml"))
    return sorted(path.as_posix() for path in found)


def tree(name: str) -> dict[str, Any]:
    """All values of a preset: those of its ``base`` (mini where it names none), with its changes.

    Networks, encoders and sets that no study uses then are left out.

    Raises:
        ConfigError: no preset of this name.
    """
    if name not in names():
        raise ConfigError(f"preset: expected one of {listed(names())}, got {name!r}")
    return _whole(name) if name == BASE else _used(_whole(name))


def _whole(name: str) -> dict[str, Any]:
    path = PRESETS / f"{name}.yaml"
    changes = copy.deepcopy(_parsed(path.absolute(), path.read_bytes()))
    if name == BASE:
        return changes
    return _merged(_whole(changes.pop("base", BASE)), changes, "")


@functools.cache
def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    """What a file holds, read once as long as that is its content: most presets build on one."""
    return reader.load(path)


def _used(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the networks, encoders and sets that their studies use, and no others."""
    studies = [values[name] for name in _studies(values)]
    named = [each.get("encoder") for each in studies]
    inner = [arm for each in studies for arm in each.get("arms", {}).values()]
    inner += [each["logistic"] for each in studies if "logistic" in each]
    encoders = _named(values["encoders"], [*named, *(part["encoder"] for part in inner)])
    sources = [entry["source"] for entry in encoders.values()]
    sources += [source for each in studies for source in _sources(each)]
    networks = _named(
        values["pretrain"],
        [each.get("pretrained") for each in studies]
        + [source.removeprefix("pretrain:") for source in sources if ":" in source],
    )
    sets = [name for each in [*studies, *networks.values()] for name in _sets(each)]
    sets += [name for entry in encoders.values() for name in entry["datasets"]]
    order = dict.fromkeys([*values["data"]["names"], *sets])
    data = values["data"] | {"names": [name for name in order if name in sets]}
    return values | {"data": data, "pretrain": networks, "encoders": encoders}


def _studies(values: dict[str, Any]) -> list[str]:
    return [key for key, value in values.items() if isinstance(value, dict) and "preset" in value]


def _sources(section: Any) -> list[str]:
    """Sources of encoders that a study names itself, wherever it does."""
    if not isinstance(section, dict):
        return []
    inner = [source for child in section.values() for source in _sources(child)]
    return [*([section["source"]] if isinstance(section.get("source"), str) else []), *inner]


def _sets(section: dict[str, Any]) -> list[str]:
    """Data sets that a study or a network names."""
    several = section.get("datasets") or []
    distill = section.get("distill", {})
    memory = section.get("memory")  # of the continual study a number
    other = memory.get("other") if isinstance(memory, dict) else None
    one = [section.get("dataset"), distill.get("reference"), distill.get("sentences_of"), other]
    one.append(section.get("pretrained_on"))
    return [name for name in [*one, *several] if name]


def _named(entries: dict[str, Any], names: list[str | None]) -> dict[str, Any]:
    return {name: entries[name] for name in dict.fromkeys(names) if name in entries}


def _merged(base: dict[str, Any], changes: dict[str, Any], path: str) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for key, value in changes.items():
        here = f"{path}.{key}" if path else key
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value, here) if both and here not in WHOLE else value
    return merged


def apply(name: str, study: str, root: str = "") -> str:
    """Write a preset, or its part for one study, into ``params.yaml``; comments stay.

    Lock entries and folders of items that are no longer listed are removed.

    Args:
        name: "" for the values as they stand.
        root: folder with the data sets, in place of the preset's; "" for that one.
    Returns:
        What was done, in a sentence.
    Raises:
        ConfigError: an unknown preset or study, or a result that `config` refuses.
    """
    wanted = tree(name) if name else reader.load(PARAMS)
    if study:
        wanted = _with_study(reader.load(PARAMS), wanted, name, study)
    if root:
        wanted = wanted | {"data": wanted["data"] | {"root": root}}
    config.parse(wanted, f"preset {name}" if name else str(PARAMS))
    yaml = _yaml()
    document = yaml.load(_commented().read_text())
    _assign_(document, wanted, yaml.load((PRESETS / f"{BASE}.yaml").read_text()))
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    _lock()
    write_text(PARAMS, buffer.getvalue())
    removed = prune(config.read(PARAMS))
    held = [f"preset {name}" + (f" for {study}" if study else "")] if name else []
    held += [f"data.root {root}"] if root else []
    what = f"{PARAMS} now holds {' with '.join(held)}"
    back = "`git checkout reports dvc.lock && dvc checkout` brings them back"
    return what + (f"; removed the results of {listed(removed)} ({back})" if removed else "")


def _yaml() -> Any:
    """Keeps comments, and writes small numbers as 0.00003: PyYAML reads 3e-05 as text."""
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import RoundTripRepresenter

    class Decimals(RoundTripRepresenter):
        pass

    def decimal(representer: Any, value: float) -> Any:
        text = f"{Decimal(repr(value)):f}" if 0 < abs(value) < 1e-4 else repr(value)
        return representer.represent_scalar("tag:yaml.org,2002:float", text)

    Decimals.add_representer(float, decimal)
    yaml = YAML()
    yaml.Representer = Decimals
    return yaml


def _commented() -> Path:
    """The file whose comments are kept: ``params.yaml``, or mini's where that cannot be read."""
    try:
        reader.load(PARAMS)
    except ConfigError:
        return PRESETS / f"{BASE}.yaml"
    return PARAMS


def _with_study(
    now: dict[str, Any], preset: dict[str, Any], name: str, study: str
) -> dict[str, Any]:
    """The current values with one study's section, and the networks, encoders and sets it needs."""
    if study not in _studies(preset):
        raise ConfigError(f"--study: expected one of {listed(_studies(preset))}, got {study!r}")
    _refuse_taken(name, study)
    wanted = copy.deepcopy(now) | {study: preset[study]}
    others = set(_studies(preset)) - {study}
    needed = _used({name: value for name, value in preset.items() if name not in others})
    for key in ("pretrain", "encoders"):
        wanted[key] = now[key] | needed[key]
    return _used(wanted)


def _refuse_taken(name: str, study: str) -> None:
    """Stop where a preset says nothing of a study, whose values are then another preset's."""
    changes = reader.load(PRESETS / f"{name}.yaml")
    if study in changes:
        return
    base, own = changes.get("base", BASE), [key for key in _studies(tree(name)) if key in changes]
    raise ConfigError(
        f"--study: expected one of {listed(own)}, which preset {name} sets, got {study!r}, whose "
        f"values are those of {base}; run `carryover preset {base} --study {study}`"
    )


def _assign_(document: Any, values: dict[str, Any], commented: Any) -> None:
    """Set a commented mapping to `values`, touching only what differs.

    Args:
        commented: the same mapping of mini: what is new takes its comments from there.
    """
    for key in values:
        if key not in document and isinstance(values[key], dict):
            document[key] = copy.deepcopy(_like(values[key], key, commented))
    for key in [key for key in document if key not in values]:
        del document[key]
    for key, value in values.items():
        old = document.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and old:
            _assign_(old, value, commented.get(key) or _like(value, key, commented))
        elif isinstance(value, list) and isinstance(old, list):
            _assign_list_(old, value)
        elif old != value or type(old) is not type(value) or key not in document:
            document[key] = value
    for key in values if list(document) != list(values) else ():
        document.move_to_end(key)


def _like(value: dict[str, Any], key: str, commented: Any) -> Any:
    """Mini's entry of this name, or else the one that has most of the value's keys."""
    entries = [entry for entry in commented.values() if isinstance(entry, dict)]
    alike = max(entries, key=lambda entry: len(set(entry) & set(value)), default={})
    return commented.get(key) or alike


def _assign_list_(old: Any, new: list[Any]) -> None:
    """Change a commented list in place; what follows its last entry stays last."""
    if list(old) == new:
        return
    following = old.ca.items.pop(len(old) - 1, None)
    old[:] = new
    if following is not None:
        old.ca.items[len(new) - 1] = following


def prune(params: config.Params) -> list[str]:
    """Remove lock entries and result folders of items that the parameters no longer list."""
    listed_now = set(expanded(params))
    document = _lock()
    stages = document.get("stages") or {}
    removed = [n for n in stages if n.split("@")[0] in STAGES and n not in listed_now]
    for name in removed:
        del stages[name]
    if removed:
        from dvc.utils.serialize import dumps_yaml

        write_text(LOCK, dumps_yaml(document))
    for name, stage in STAGES.items():
        places = [Path(place).parent for place in (stage.results, *stage.beside) if place]
        for folder in [folder for place in places for folder in place.glob("*/")]:
            label = f"{name}@{folder.name}"
            if label not in listed_now:
                shutil.rmtree(folder)
                removed += [label] if label not in removed else []
    return removed


def _lock() -> dict[str, Any]:
    return reader.load(LOCK) if LOCK.exists() else {}


def describe() -> tuple[str, bool]:
    """Which preset ``params.yaml`` equals; else the nearest and what differs from it."""
    config.read(PARAMS)
    now = _flat(reader.load(PARAMS))
    told = {}
    for name in names():
        flat = _flat(tree(name))
        keys = [key for key in {**now, **flat} if now.get(key, _NONE) != flat.get(key, _NONE)]
        if not keys:
            return f"{PARAMS} equals preset {name}", True
        told[name] = [f"  {key}: {flat.get(key, _NONE)} -> {now.get(key, _NONE)}" for key in keys]
    nearest, lines = min(told.items(), key=lambda each: len(each[1]))
    heading = f"{PARAMS} is nearest to preset {nearest} ({len(lines)} differing)"
    return "\n".join([heading, *lines]), False


_NONE = "(absent)"


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {
        key: leaf
        for name, child in value.items()
        for key, leaf in _flat(child, f"{path}.{name}" if path else str(name)).items()
    }
