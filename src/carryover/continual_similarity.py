"""How alike an encoder stays to itself while it trains: CKA by layer group and experience."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover import run
from carryover.adapt.avalanche import AfterTask
from carryover.adapt.children import left_by
from carryover.adapt.freeze import freeze_
from carryover.config.continual import Similarity
from carryover.continual_drawn import Number
from carryover.continual_pools import Pool
from carryover.continual_start import Inputs, Start
from carryover.continual_training import Cell
from carryover.errors import ConfigError
from carryover.measure.similarity import cka_of_told, published_cka
from carryover.measure.similarity_batches import cka_bands
from carryover.models.depth import depth_of
from carryover.models.features import Feature, read
from carryover.models.heads import Adapted

if TYPE_CHECKING:
    from carryover.config.params import Params

Layers = list[Float[Tensor, "n _"]]

AT_ONCE = 64  # images a forward pass
INDICES = 4  # the published figure's, whatever the depth


def layers_of(image: nn.Module, inputs: Inputs, rows: Int64[Tensor, " n"]) -> Layers:
    """What every layer group makes of images, input to output: the mean over patches."""
    depth = depth_of(image)
    names = [*depth.taps, *(name for name in depth.groups if name == "output")]
    wanted = [Feature("pooled", name) for name in names]
    with torch.no_grad():
        parts = [read(image, depth, inputs(some), wanted) for some in rows.split(AT_ONCE)]
    return [torch.cat([part[feature].float() for part in parts]) for feature in wanted]


def compared_rows(pool: Pool, cka: Similarity) -> Int64[Tensor, " n"]:
    """The test images that layers are compared on, spread over all of them; the same always.

    Raises:
        ConfigError: fewer images than are asked for.
    """
    rows = pool.rows(test=True)
    if cka.images > len(rows):
        raise ConfigError(
            f"continual.cka.images: expected at most the {len(rows)} test images of a stream that "
            f"encoders train on, got {cka.images}; lower it"
        )
    return rows[torch.arange(cka.images) * len(rows) // cka.images]


def along(
    cka: Similarity,
    before: Layers,
    inputs: Inputs,
    rows: Int64[Tensor, " n"],
    cell: Cell,
    seed: int,
    last: int,
    network: nn.Module,
    experience: int,
) -> dict[str, Any]:
    """CKA of a trained encoder with itself before any training; bands for the first seed.

    Nothing of an encoder with a value that is not finite; not a number for a layer that makes the
    same of all images.

    Args:
        before: `layers_of` the encoder as loaded, on the same rows.
        last: the stream's last experience, after which all pairs of layers are compared.
    """
    if experience < 0:
        return {}
    assert isinstance(network, Adapted)
    now = layers_of(network.image, inputs, rows)
    if not all(bool(layer.isfinite().all()) for layer in now):
        return {}
    pairs = cka_of_told(now, before, cka.kind, cka.debiased, cka.sigma)
    found: dict[str, Any] = {"cka": pairs.diagonal().tolist()}
    told = pairs.diagonal().isfinite().nonzero()[:, 0].tolist()
    if cell.seed == 0 and cka.draws and told:
        random = run.generator(seed, "continual/cka")
        bands = cka_bands(
            [now[layer] for layer in told],
            [before[layer] for layer in told],
            cka.kind,
            cka.debiased,
            draws=cka.draws,
            generator=random,
            sigma=cka.sigma,
        )
        for name in ("low", "high"):
            bounds = [math.nan] * len(now)
            for layer, band in zip(told, bands, strict=True):
                bounds[layer] = getattr(band, name)
            found[f"cka_{name}"] = bounds
    if cell.seed == 0 and experience == last:
        found["cka_pair"] = pairs.tolist()
    return found


def similarities(after: Sequence[AfterTask], n: int) -> list[Number]:
    """What `along` kept, as numbers; the pairs have no experience: they are of the end."""
    found: list[Number] = []
    for seen in after:
        for metric, values in seen.kept.items():
            for layer, value in enumerate(values):
                at = {"layer": layer}
                if metric == "cka_pair":
                    cells = [({**at, "other": other}, each) for other, each in enumerate(value)]
                else:
                    cells = [({"experience": seen.experience, **at}, value)]
                told = [(place, each) for place, each in cells if math.isfinite(each)]
                found += [("test", metric, place, each, n) for place, each in told]
    return found


def untrained(params: Params, start: Start, stream: str, arm_name: str) -> list[Number]:
    """A partly frozen encoder against the frozen one before any training, which are the same.

    CKA of every layer group, and the original's element-wise score, which is no CKA: on one random
    training image, of each layer's tokens or (as published) of the last hidden state at every
    index, for a new image each time.
    """
    study = params.continual
    arm = study.arms[arm_name]
    encoder = start.encoders[study.encoder_of(arm)]
    pool = start.pool(study, stream, arm.protocols[0])
    inputs = start.inputs_of(study, arm, stream, arm.protocols[0])
    other = copy.deepcopy(encoder.image)
    path = f"continual.arms.{arm_name}.freeze"
    freeze_(other, left_by(arm.freeze or "", other, encoder.groups, path))
    rows = compared_rows(pool, study.cka)
    loaded, frozen = (layers_of(image, inputs, rows) for image in (encoder.image, other))
    cka = study.cka
    values = cka_of_told(loaded, frozen, cka.kind, cka.debiased, cka.sigma).diagonal().tolist()
    found: list[Number] = [
        ("test", "cka", {"layer": i}, value, len(rows))
        for i, value in enumerate(values)
        if math.isfinite(value)
    ]
    depth = depth_of(other)
    names = [*depth.taps, *(name for name in depth.groups if name == "output")]
    wanted = [Feature("tokens", n) for n in (names if cka.published == "each" else INDICES * [""])]
    random = run.generator(params.seed, "continual/published-cka")
    train = pool.rows(test=False)
    for i, feature in enumerate(wanted):
        if i == 0 or cka.published == "last":
            row = train[torch.randint(len(train), (1,), generator=random)]
        with torch.no_grad():
            x = inputs(row)
            a, b = (
                read(image, depth, x, [feature])[feature][0].float()
                for image in (encoder.image, other)
            )
        found.append(("train", "published_cka", {"layer": i}, float(published_cka(a, b)), 1))
    return found
