"""What a model makes of images: embeddings, layers, and answers that nobody taught it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover.adapt.distill import unit_texts
from carryover.measure.survival import in_row_space, standardised
from carryover.models.depth import depth_of
from carryover.models.features import Feature, read
from carryover.solve.neighbours import majority, neighbours
from carryover.solve.ridge import ridge
from carryover.survival_start import Model, Origin, Part, Shown, mean_texts

AT_ONCE = 128  # images a forward pass
EMBEDDING = "embedding"  # a layer beside the groups

Number = tuple[str, dict[str, Any], float, int]  # metric, axes, value, n


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model makes of all images of its origin.

    Attributes:
        own: logits by set that is answered untaught.
        train, test: embeddings of images to teach a probe on and of those to name, by role.
        worse: of corrupted images; `layers` by layer group, of the same images for all models.
    """

    own: dict[str, Float[Tensor, "_ _"]]
    train: dict[str, Float[Tensor, "_ _"]]
    test: dict[str, Float[Tensor, "_ _"]]
    worse: dict[str, Float[Tensor, "_ _"]]
    layers: dict[str, Float[Tensor, "_ _"]]


def look(origin: Origin, model: Model) -> Seen:
    """Show a model everything."""
    parts = taught(origin)
    return Seen(
        answers(origin, model),
        {role: embedded(model.image, part.train) for role, part in parts.items() if part.train},
        {role: embedded(model.image, part.test) for role, part in parts.items()},
        {kind: embedded(model.image, images) for kind, images in origin.worse.items()},
        layers_of(model.image, origin.layered),
    )


def taught(origin: Origin) -> dict[str, Part]:
    """The sets that probes are taught, by role."""
    return ({"source": origin.source} if origin.source else {}) | {"target": origin.target}


def embedded(image: nn.Module, shown: Shown) -> Float[Tensor, "n d"]:
    """What an image network gives of images."""
    with torch.no_grad():
        parts = torch.arange(len(shown)).split(AT_ONCE)
        return torch.cat([image(shown.inputs(rows)).float() for rows in parts])


def layers_of(image: nn.Module, shown: Shown) -> dict[str, Float[Tensor, "_ _"]]:
    """What each layer group makes of images, the mean over patches, and the embedding."""
    depth = depth_of(image)
    names = [*depth.taps, *(name for name in depth.groups if name == "output")]
    wanted = [Feature("pooled", name) for name in names]
    found: dict[str, list[Tensor]] = {name: [] for name in [*names, EMBEDDING]}
    with torch.no_grad():
        for rows in torch.arange(len(shown)).split(AT_ONCE):
            x = shown.inputs(rows)
            some = read(image, depth, x, wanted)
            for name, feature in zip(names, wanted, strict=True):
                found[name].append(some[feature].float())
            found[EMBEDDING].append(image(x).float())
    return {name: torch.cat(parts) for name, parts in found.items()}


def answers(origin: Origin, model: Model) -> dict[str, Float[Tensor, "_ _"]]:
    """Logits of the sets that a model answers untaught, by its text or the start's classifier.

    None where the classifier takes other features than a cut network gives.
    """
    found = {}
    for part in origin.own:
        z = embedded(model.image, part.test)
        if part.texts is not None:
            W = class_texts(model, part) if model.own_text else part.texts
            logits = origin.encoder.logit_scale * F.normalize(z, dim=-1) @ W.T
            found[part.dataset] = logits
        elif origin.head is not None and z.shape[1] == origin.head.in_features:
            with torch.no_grad():
                found[part.dataset] = origin.head(z)
    return found


def class_texts(model: Model, part: Part) -> Float[Tensor, "c d"]:
    """A zero-shot head of a text network that has trained."""
    assert part.prompts is not None
    with torch.no_grad():
        return mean_texts(unit_texts(model.whole, part.prompts), part.templates)


def by_probe(
    z: Float[Tensor, "m d"], part: Part, other: Float[Tensor, "n d"], l2: float
) -> Int64[Tensor, " n"]:
    """Classes by a ridge probe that is taught on training images."""
    assert part.train is not None
    train, test = in_row_space(*standardised(z, other))
    rows = torch.arange(len(z), device=z.device)
    probe = ridge(train, part.train.labels, [rows], [l2], part.classes)
    return (test @ probe.class_weights[0, 0].T + probe.biases[0, 0]).argmax(1)


def by_neighbours(
    z: Float[Tensor, "m d"], part: Part, other: Float[Tensor, "n d"], k: int
) -> Int64[Tensor, " n"]:
    """Classes by the most of the nearest training images, by cosine."""
    assert part.train is not None
    found = neighbours(other, z, min(k, len(z)), "cosine")
    return majority(found, part.train.labels, part.classes)


def share(predicted: Int64[Tensor, " n"], labels: Int64[Tensor, " n"]) -> float:
    """Accuracy."""
    return float((predicted == labels).double().mean())
