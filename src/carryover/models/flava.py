"""FLAVA of transformers, from a folder in Hugging Face's layout or pretrained by the pipeline.

Source: Singh et al. 2022. Its linear probe takes the class token of the image encoder's last
hidden state, after the final norm: neither the pooler nor the projection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover.errors import DataError
from carryover.files import digest_of_files
from carryover.models import nano, preprocess, saved, weights
from carryover.models.encoders import Encoder, TextTower, Wanted, assemble
from carryover.models.flava_pair import encode_text

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEX = "model.safetensors.index.json"
VOCABULARY = ("tokenizer.json", "vocab.txt")
MODEL_NAME = r"[\w-][\w.-]*/[\w-][\w.-]*"  # of Hugging Face
TEXT_LENGTH = 77  # tokens of a sentence in training (FlavaProcessor's max_length)
IMAGE_FORM = ("hidden_act", "num_attention_heads", "layer_norm_eps", "patch_size", "image_size")
TEXT_FORM = ("hidden_act", "num_attention_heads", "layer_norm_eps", "pad_token_id")
PRETRAINING = ("image_codebook.", "mim_head.", "mlm_head.", "itm_head.", "mmm_", "global_contr")


class FlavaImage(nn.Module):
    """The image encoder of a FLAVA model, sharing its modules: images to one vector each.

    Gives the projection of the class token, or the class token where there is no projection. The
    pooler, which neither takes, is left out.
    """

    def __init__(self, image_model: Any, projection: nn.Module | None) -> None:
        super().__init__()
        self.embeddings = image_model.embeddings
        self.encoder = image_model.encoder
        self.layernorm = image_model.layernorm
        self.projection = projection

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        tokens = self.layernorm(self.encoder(self.embeddings(x), return_dict=True)[0])
        return tokens[:, 0] if self.projection is None else self.projection(tokens[:, 0])


def build(wanted: Wanted) -> Encoder:
    """`FlavaModel` for ``flava``, `FlavaImageModel` for ``flava-image``.

    Raises:
        DataError: a folder without the files, or weights of another model.
    """
    from transformers import FlavaConfig, FlavaImageConfig, FlavaImageModel, FlavaModel

    folder = _folder(wanted)
    whole = wanted.source == "flava"
    if folder is not None and not (folder / CONFIG).is_file():
        raise DataError(
            f"{folder / CONFIG}: expected a folder in Hugging Face's layout ({CONFIG}, "
            f"{WEIGHTS[0]}), found none; see docs/encoders.md"
        )
    fields = {} if folder is None else saved.read_fields(folder / CONFIG)
    if whole:
        model: Any = FlavaModel(FlavaConfig.from_dict(fields))
    else:
        model = FlavaImageModel(FlavaImageConfig.from_dict(fields.get("image_config", fields)))
    if folder is not None:
        weights.load_(model, _tensors(folder, whole), folder)
    image = FlavaImage(model.image_model, model.image_projection) if whole else None
    config = model.config.image_config if whole else model.config
    return assemble(
        wanted.source,
        image or FlavaImage(model, None),
        _preprocess(folder, config.image_size),
        _said(config, IMAGE_FORM),
        text=_text(model, folder) if whole else None,
        logit_scale=float(model.logit_scale.detach().exp()) if whole else 1.0,
        model=model,
    )


def _folder(wanted: Wanted) -> Path | None:
    """The folder of the weights, or that of a model's name (``facebook/flava-full``) in the cache.

    Raises:
        DataError: it is no folder, and no such model is in Hugging Face's cache.
    """
    path, name = wanted.path, wanted.weights
    if path is None or name is None or path.exists() or not re.fullmatch(MODEL_NAME, name):
        return path
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=not wanted.download))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{name}: expected a folder in Hugging Face's layout (config.json, {WEIGHTS[0]}), or "
            f"the name of a model in its cache, found neither; fetch it: hf download {name}"
        ) from error


def nano_encoder(source: str, folder: Path, card: dict[str, Any]) -> Encoder:
    """The model that the pipeline trained on the captioned corpus, from its folder and card."""
    pair: Any = nano.build(card)
    saved.load_(folder, pair)
    text_form = [*_said(pair.config.text_config, TEXT_FORM), card["vocabulary"]]
    return assemble(
        source,
        FlavaImage(pair.image_model, pair.image_projection),
        preprocess.from_card(card["preprocess"]),
        _said(pair.config.image_config, IMAGE_FORM),
        text=TextTower(
            nano.tokenizer(card), pair.encode_text, pair.text_model, _digest(pair, text_form)
        ),
        logit_scale=float(pair.logit_scale.detach().exp()),
        model=pair,
    )


def _said(config: Any, keys: Sequence[str]) -> list[Any]:
    """What a config says that tensors do not."""
    return [getattr(config, key) for key in keys]


def _digest(model: Any, form: list[Any]) -> str:
    """Of the text side of a model."""
    state = model.text_model.state_dict(prefix="text_model.")
    state |= model.text_projection.state_dict(prefix="text_projection.")
    return weights.digest(state, form)


def _tensors(folder: Path, whole: bool) -> dict[str, Tensor]:
    """The model's tensors under its own names, from its checkpoint or that of pretraining.

    The pretraining checkpoint (``facebook/flava-full``) has them below ``flava.`` with the heads
    of its losses beside; old ones hold the counted positions too, which are no weights.
    """
    if (folder / INDEX).exists():
        files = sorted(
            {folder / name for name in saved.read_fields(folder / INDEX)["weight_map"].values()}
        )
    else:
        files = [folder / name for name in WEIGHTS if (folder / name).exists()][:1]
    if not files:
        raise DataError(f"{folder}: expected {' or '.join(WEIGHTS)}, found neither; see docs")
    found: dict[str, Tensor] = {}
    for file in files:
        found |= weights.read(file).tensors
    tensors = {
        name.removeprefix("flava."): tensor
        for name, tensor in found.items()
        if not name.startswith(PRETRAINING) and not name.endswith("embeddings.position_ids")
    }
    part = "image_model."
    if not whole and any(name.startswith(part) for name in tensors):
        tensors = {n.removeprefix(part): t for n, t in tensors.items() if n.startswith(part)}
    return tensors


def _preprocess(folder: Path | None, size: int) -> preprocess.Preprocess:
    """From the folder's ``preprocessor_config.json``, or transformers' defaults for FLAVA.

    Raises:
        DataError: the file is for images of another size than the network takes.
    """
    path = folder / "preprocessor_config.json" if folder is not None else None
    if path is not None and path.exists():
        found = preprocess.from_hugging_face(saved.read_fields(path))
        if found.size != size:
            raise DataError(
                f"{path}: expected images of {size} pixels, as config.json has it, got "
                f"{found.size}; fetch both files again"
            )
        return found
    from transformers.models.flava.image_processing_flava import FlavaImageProcessor

    keys = ("resample", "image_mean", "image_std")
    fields = {key: getattr(FlavaImageProcessor, key) for key in keys}
    return preprocess.from_hugging_face({**fields, "size": size, "crop_size": size})


def _text(model: Any, folder: Path | None) -> TextTower | None:
    """The text side, where the folder has its vocabulary."""
    files = [folder / name for name in VOCABULARY if (folder / name).exists()] if folder else []
    if not files:
        return None
    form = [*_said(model.config.text_config, TEXT_FORM), digest_of_files(files)]
    return TextTower(
        _tokenizer(str(folder)),
        lambda ids: encode_text(model.text_model, model.text_projection, ids),
        model.text_model,
        _digest(model, form),
    )


def _tokenizer(folder: str) -> Callable[[Sequence[str]], Int64[Tensor, "n length"]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def tokenize(sentences: Sequence[str]) -> Int64[Tensor, "n length"]:
        ids = tokenizer(
            list(sentences), padding="max_length", max_length=TEXT_LENGTH, truncation=True
        )["input_ids"]
        return torch.tensor(ids)

    return tokenize
