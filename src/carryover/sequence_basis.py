"""OGD's basis of one data set as a file, by the ``sequence`` section's settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from carryover import run
from carryover.adapt import distill, ogd, parts
from carryover.adapt.freeze import freeze_
from carryover.data import store
from carryover.embed import prepared
from carryover.errors import ConfigError, pick
from carryover.models.prompts import class_prompts
from carryover.prepare import SETS, refuse_stale
from carryover.sequence_start import examples_of

if TYPE_CHECKING:
    from carryover.config.params import Params


def write_basis(params: Params, name: str, dataset: str, out: Path, earlier: Path | None) -> str:
    """Write the directions that keep what an encoder says of a set; says how many there are.

    Gradients of ``sequence.ogd.gradients`` on ``sequence.ogd.images`` drawn training images, by
    the parameters that ``sequence.train_mode`` trains; each image compared with the first prompt
    of each class.

    Args:
        name: an encoder of ``params.yaml``: the network after the set was trained.
        earlier: a basis of sets trained before, which the new one extends.
    Raises:
        ConfigError: an encoder without text, or a train mode with heads.
        DataError: a set that is not prepared, or an earlier basis of other tensors or scope.
    """
    study = params.sequence
    if out.suffix != ".safetensors":
        raise ConfigError(f"weights basis --out: expected a .safetensors file, got {str(out)!r}")
    encoder = prepared(pick(params.encoders, name, "weights basis"))
    if encoder.text is None or not hasattr(encoder.model, "visual") or study.headed:
        raise ConfigError(
            "weights basis: expected a CLIP, and a sequence.train_mode without heads (whole, "
            f"image, text), got {name} and {study.train_mode}; change one of them"
        )
    refuse_stale(params.data, dataset)
    images = store.load(SETS / dataset, "train")
    random = run.generator(params.seed, f"sequence/basis/{dataset}")
    rows = torch.randperm(len(images), generator=random)[: study.ogd.images]
    model = encoder.model
    names = parts.trained(model, study.train_mode, "sequence.train_mode")
    freeze_(model, names)
    trained = dict(model.named_parameters())
    prompts = [group[0] for group in class_prompts(dataset, images.class_names)]
    ids, scale = encoder.text.tokenize(prompts), encoder.logit_scale

    def logits(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        return scale * distill.unit_images(model, x) @ distill.unit_texts(model, ids).T

    unused = torch.empty(len(images), 0)
    x = examples_of(images, encoder, unused, torch.device("cpu")).images(rows)
    parameters = {each: trained[each] for each in names}
    found = ogd.gradients_of(study.ogd.gradients, logits, parameters, x, images.labels[rows])
    basis = ogd.Basis(study.ogd.scope) if earlier is None else ogd.load(earlier)
    if basis.scope != study.ogd.scope:
        raise ConfigError(
            f"weights basis: expected an earlier basis of sequence.ogd.scope {study.ogd.scope}, "
            f"got one of {basis.scope}; change the scope"
        )
    before = len(basis)
    basis.add_(found, energy=study.ogd.energy)
    ogd.save(out, basis)
    return f"{out}: {len(basis) - before} directions of {dataset}, {len(basis)} in all"
