"""Contrastive models of open_clip: any architecture it knows, with weights from a file or a tag."""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from carryover.errors import ConfigError, DataError
from carryover.models import origins, saved, weights
from carryover.models.encoders import Encoder, TextTower, Wanted, assemble
from carryover.models.preprocess import from_card, from_open_clip

FOLDER_FILES = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    *("open_clip_pytorch_model.bin", "model.safetensors"),
)
HUB = "hf_model_name"  # of a text network that is not open_clip's own
UNUSED = ("visual.", "logit_scale", "logit_bias")  # of the whole state, in embedding a text


def build(wanted: Wanted) -> Encoder:
    """The model and both its towers.

    Raises:
        ConfigError: an unknown architecture or tag, or one whose activation is not that of the
            weights.
        DataError: weights that cannot be read, are not there or are of another model.
    """
    architecture = wanted.name.replace("/", "-")
    config = _config(architecture)
    quick = bool(config.get("quick_gelu", False))
    fields = _usual_preprocess(architecture)
    state = None
    if wanted.weights is not None:
        path, config_beside, origin = _found(wanted, architecture)
        origins.refuse_other_activation(architecture, quick, origin, path)
        state = weights.read(path)
        if origin is origins.UNKNOWN:
            origin = origins.of_file(state, config_beside)
            origins.refuse_other_activation(architecture, quick, origin, path)
        if origin.quickgelu is None:
            print(origins.by_choice(architecture, quick, path), file=sys.stderr)
        fields |= origin.preprocess or {}
    model = create(config, architecture)
    if state is not None:
        weights.load_(model, _own_names(model, state.tensors), state.path)
    return _encoder(
        wanted.source,
        model,
        from_open_clip(fields, _side(model)),
        {"vision": config["vision_cfg"], "quick_gelu": quick},
        {"text": config["text_cfg"], "quick_gelu": quick},
        _tokenizer(architecture, config),
    )


def nano_encoder(source: str, folder: Path, card: dict[str, Any]) -> Encoder:
    """The model that the pipeline trained on the captioned corpus, from its folder and card."""
    from carryover.models import nano

    model: Any = nano.build(card)
    saved.load_(folder, model)
    config = card["open_clip"]
    quick = bool(config.get("quick_gelu", False))
    return _encoder(
        source,
        model,
        from_card(card["preprocess"]),
        {"vision": config["vision_cfg"], "quick_gelu": quick},
        {
            "text": config["text_cfg"],
            "quick_gelu": quick,
            "vocabulary": card["vocabulary"],
        },
        nano.tokenizer(card),
    )


def _encoder(
    source: str,
    model: Any,
    preprocess: Any,
    image_form: Any,
    text_form: Any,
    tokenize: Callable[[Sequence[str]], Tensor],
) -> Encoder:
    if getattr(model.visual, "output_tokens", False):
        model.visual.output_tokens = False  # CoCa's decoder takes them; embeddings need none
    text = {n: t for n, t in model.state_dict().items() if not n.startswith(UNUSED)}
    return assemble(
        source,
        model.visual,
        preprocess,
        image_form,
        text=TextTower(
            tokenize,
            model.encode_text,
            getattr(model, "text", None),  # the older form keeps its parts in the model itself
            weights.digest(text, text_form),
        ),
        logit_scale=float(model.logit_scale.detach().exp()),
        model=model,
    )


def _config(architecture: str) -> dict[str, Any]:
    """An architecture's config; ``-quickgelu`` behind any name turns QuickGELU on.

    Raises:
        ConfigError: open_clip has no such architecture; the message lists the nearest.
    """
    import open_clip

    plain = architecture.removesuffix(origins.QUICK)
    every = open_clip.list_models()
    known = next((name for name in (architecture, plain) if name in every), None)
    if known is None:
        names = architectures()
        near = difflib.get_close_matches(architecture, names, 5, 0.4)
        raise ConfigError(
            f"encoder: expected open-clip:ARCHITECTURE with one of open_clip's {len(names)}, got "
            f"{architecture!r}; near it: {', '.join(near) or 'none'}"
        )
    config: dict[str, Any] = open_clip.get_model_config(known)
    if known != architecture:
        config["quick_gelu"] = True
    return config


def architectures() -> list[str]:
    """Those of open_clip's architectures that `create` takes."""
    import open_clip

    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    return [name for name, config in configs.items() if HUB not in config["text_cfg"]]


def bare(name: str) -> Any:
    """A model of an architecture with new weights.

    Raises:
        ConfigError: open_clip has none of this name.
    """
    architecture = name.replace("/", "-")
    return create(_config(architecture), architecture)


def create(config: dict[str, Any], name: str) -> Any:
    """A model of a config with new weights from torch's generator; nothing is fetched.

    Raises:
        ConfigError: the config names a text network whose own config is on the network.
    """
    from open_clip import CLIP, CoCa, CustomTextCLIP

    fields = {key: value for key, value in config.items() if key != "custom_text"}
    if HUB in config["text_cfg"]:
        raise ConfigError(
            f"encoder: expected an architecture whose text network is open_clip's own, got {name} "
            f"with {config['text_cfg'][HUB]}; take another architecture"
        )
    if "timm_model_name" in config["vision_cfg"]:  # whose own weights open_clip could fetch
        fields["vision_cfg"] = config["vision_cfg"] | {"timm_model_pretrained": False}
    if not config.get("custom_text", False):
        return CLIP(**fields)
    return CoCa(**fields) if "multimodal_cfg" in fields else CustomTextCLIP(**fields)


def _found(wanted: Wanted, architecture: str) -> tuple[Path, dict[str, Any] | None, Any]:
    """The file of weights, the config beside it, and what its tag says."""
    path, tag = wanted.path, wanted.weights
    assert path is not None
    assert tag is not None
    if not path.exists() and "/" not in tag and not path.suffix:
        entry, origin = origins.of_tag(architecture, tag)
        quick = bool(_config(architecture).get("quick_gelu", False))
        origins.refuse_other_activation(architecture, quick, origin, tag)
        return origins.fetched(entry, tag, download=wanted.download), None, origin
    if path.is_dir():
        files = [path / name for name in FOLDER_FILES if (path / name).exists()]
        if not files:
            raise DataError(f"{path}: expected {' or '.join(FOLDER_FILES)}, found none of them")
        path = files[0]
    beside = path.parent / origins.CONFIG
    config = saved.read_fields(beside) if beside.exists() else None
    return path, config, origins.UNKNOWN


def _own_names(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors under the names of the model that open_clip builds today."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    found = {n: t for n, t in tensors.items() if n not in origins.OPENAI_KEYS}
    found = convert_state_dict(model, found)
    if "positional_embedding" in found and not hasattr(model, "positional_embedding"):
        found = convert_to_custom_text_state_dict(found)
    for name in ("logit_scale", "logit_bias"):  # a number in some files, one entry in others
        own = getattr(model, name, None)
        if name in found and own is not None and found[name].numel() == 1:
            found[name] = found[name].reshape(own.shape)
    return found


def _usual_preprocess(architecture: str) -> dict[str, Any]:
    """What all pretrained tags of an architecture share; OpenAI's values where they differ."""
    import open_clip
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    keys = ("mean", "std", "interpolation", "resize_mode")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    entries = [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]
    usual = {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD}
    for key in keys:
        values = {entry[key] for entry in entries}
        if len(values) == 1:
            usual[key] = values.pop()
    return usual


def _side(model: Any) -> int:
    size = model.visual.image_size
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise ConfigError(f"encoder: expected an architecture for square images, got {size}")
    return sides.pop()


def _tokenizer(
    architecture: str, config: dict[str, Any]
) -> Callable[[Sequence[str]], Int64[Tensor, "n length"]]:
    """open_clip's tokenizer, made when first used: some need files from the network's cache."""

    @functools.cache
    def made() -> Any:
        import open_clip

        names = open_clip.list_models()
        plain = architecture.removesuffix(origins.QUICK)
        name = architecture if architecture in names else plain
        hugging_face = config["text_cfg"].get("hf_tokenizer_name")
        try:
            only = {"local_files_only": True} if hugging_face else {}
            return open_clip.get_tokenizer(name, **only)
        except Exception as error:  # tokenizers raise no other kind for a damaged file
            raise DataError(
                f"open-clip:{architecture}: expected its tokenizer {hugging_face} in Hugging "
                "Face's cache, found no whole one; fetch it with `hf download`"
            ) from error

    def tokenize(sentences: Sequence[str]) -> Int64[Tensor, "n length"]:
        return torch.as_tensor(made()(list(sentences)), dtype=torch.int64)

    return tokenize
