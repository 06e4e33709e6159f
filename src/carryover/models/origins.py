"""Where a file of CLIP weights comes from, and what that says about its activation.

A state dict does not say whether it was trained with QuickGELU, and a network built with the other
activation loads it without a word and computes something else. What can be known: the tag, the
name or the cached repository of the file in open_clip's own table, the config beside the file, the
keys that OpenAI's archives carry, and what `carryover weights convert` writes down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.errors import ConfigError, DataError, listed
from carryover.models.weights import State, first

OPENAI_KEYS = ("input_resolution", "context_length", "vocab_size")  # of its archives' state
QUICK = "-quickgelu"  # end of the names of architectures with QuickGELU
CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class Origin:
    """What is known about weights.

    Args:
        quickgelu: whether they were trained with it; None where nothing says so.
        preprocess: fields of open_clip's preprocessing; None where unknown.
        told_by: what said it.
    """

    quickgelu: bool | None
    preprocess: dict[str, Any] | None
    told_by: str


UNKNOWN = Origin(None, None, "")


def of_tag(architecture: str, tag: str) -> tuple[dict[str, Any], Origin]:
    """A pretrained tag's entry in open_clip's table, and what it says.

    Raises:
        ConfigError: the architecture has no such tag; the message lists those it has.
    """
    import open_clip

    plain = architecture.removesuffix(QUICK)
    for name in (architecture, plain):
        entry = open_clip.get_pretrained_cfg(name, tag)
        if entry:
            return dict(entry), _of_entry(entry, f"open_clip's tag {tag}")
    tags = open_clip.list_pretrained_tags_by_model(plain)
    raise ConfigError(
        f"encoder: expected a file of weights or a tag of {plain} ({listed(tags)}), got {tag!r}: "
        "no such file or tag"
    )


def of_file(state: State, config: dict[str, Any] | None) -> Origin:
    """What a file's metadata, keys, config and name say, in this order.

    Args:
        config: of ``open_clip_config.json`` beside it, where there is one.
    Raises:
        DataError: it has the name of a released file but not its content.
    """
    said = state.metadata.get("quickgelu")
    if said is not None:
        return Origin(said == "true", None, "its metadata")
    if any(key in state.tensors for key in OPENAI_KEYS):
        return Origin(True, None, "keys of OpenAI's archives")
    if config is not None:
        quick = bool(config.get("model_cfg", {}).get("quick_gelu", False))
        return Origin(quick, config.get("preprocess_cfg"), CONFIG)
    for entry in _entries():
        if _is_release(state.path, entry) or _is_cached(state.path, entry):
            return _of_entry(entry, "open_clip's table of released files")
    return UNKNOWN


def by_choice(architecture: str, quickgelu: bool, path: Any) -> str:
    """That nothing says which activation some weights were trained with, and which is taken."""
    other = architecture.removesuffix(QUICK) if quickgelu else f"{architecture}{QUICK}"
    return (
        f"{path}: nothing says whether these weights were trained with QuickGELU; taken as "
        f"{architecture} has it, {'with' if quickgelu else 'without'} (the other: {other})"
    )


def refuse_other_activation(architecture: str, quickgelu: bool, origin: Origin, path: Any) -> None:
    """Refuse an architecture whose activation is not the one that weights were trained with.

    Raises:
        ConfigError: the message names the architecture to take.
    """
    if origin.quickgelu is None or origin.quickgelu == quickgelu:
        return
    plain = architecture.removesuffix(QUICK)
    right = plain + QUICK if origin.quickgelu else plain
    has, lacks = ("QuickGELU", "GELU") if origin.quickgelu else ("GELU", "QuickGELU")
    raise ConfigError(
        f"{path}: expected an architecture with {has}, as these weights were trained with it "
        f"(by {origin.told_by}), got open-clip:{architecture} with {lacks}; "
        f"use open-clip:{right}"
    )


def _entries() -> Iterator[dict[str, Any]]:
    import open_clip

    for name, tag in open_clip.list_pretrained():
        yield open_clip.get_pretrained_cfg(name, tag)


def _of_entry(entry: dict[str, Any], told_by: str) -> Origin:
    return Origin(bool(entry.get("quick_gelu", False)), entry, told_by)


def _is_release(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a file has the name of a release on GitHub, which ends in the start of its sha256."""
    name = str(entry.get("url", "")).rsplit("/", 1)[-1]
    if "mlfoundations" not in str(entry.get("url")) or path.name != name:
        return False
    expected = path.stem.rsplit("-", 1)[-1]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise DataError(
            f"{path}: expected a sha256 that starts with {expected}, as its name says, got "
            f"{found[: len(expected)]}; fetch it again"
        )
    return True


def _is_cached(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a file lies in the Hugging Face cache of the entry's repository."""
    repository = str(entry.get("hf_hub", "")).rpartition("/")[0]
    return bool(repository) and f"models--{repository.replace('/', '--')}" in path.parts


def cached(entry: dict[str, Any]) -> Path | None:
    """A tag's file in open_clip's own caches, without a network; None where it is in neither."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, _, name = str(entry.get("hf_hub", "")).rpartition("/")
    name = name or HF_WEIGHTS_NAME
    safe = (
        HF_SAFE_WEIGHTS_NAME
        if name == HF_WEIGHTS_NAME
        else f"{name.rpartition('.')[0]}.safetensors"
    )
    for candidate in (safe, name) if repository else ():
        found = try_to_load_from_cache(repository, candidate)
        if isinstance(found, str):
            return Path(found)
    url = str(entry.get("url", ""))
    path = Path("~/.cache/clip").expanduser() / url.rsplit("/", 1)[-1]
    return path if url and path.is_file() else None


def fetched(entry: dict[str, Any], tag: str, *, download: bool) -> Path:
    """A tag's file: cached, or downloaded by open_clip where that is allowed.

    Raises:
        DataError: not cached and not to be downloaded; the message says where it is.
    """
    import open_clip

    found = cached(entry)
    if found is not None:
        return found
    repository = str(entry.get("hf_hub", "")).rpartition("/")[0]
    places = [f"https://huggingface.co/{repository}"] if repository else []
    places += [str(entry["url"])] if entry.get("url") else []
    if not download:
        raise DataError(
            f"weights: expected the file of tag {tag} in open_clip's cache, found none; fetch it "
            f"from {first(places)} and name the file"
        )
    try:
        return Path(open_clip.download_pretrained(entry))
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"weights: expected to download tag {tag} from {first(places)}, cannot ({error}); "
            "fetch it and name the file"
        ) from error
