"""SimCLR's ImageNet networks from files of others: torchvision's ResNets in one of two layouts.

The official weights, converted to PyTorch, have torchvision's names and a classifier ``fc``, and
take pixels as they are (the evaluation of tonylins/simclr-converter at 59bee34 has no mean and no
deviation). Training libraries put ``backbone.`` or ``encoder.`` before the names, keep the
projection beside them and normalise by ImageNet's mean and deviation.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from carryover.errors import DataError, pick
from carryover.models import weights
from carryover.models.encoders import Encoder, Wanted, assemble
from carryover.models.preprocess import Preprocess, from_torchvision

PREFIXES = ("backbone.", "encoder.")
HEAD = "fc"  # torchvision's classifier, or the projection that stands in its place
NUMBERED = {  # a network saved as the sequence of torchvision's children without the classifier
    **{"0": "conv1", "1": "bn1"},
    **{str(i + 3): f"layer{i}" for i in range(1, 5)},
}
RESNETS = {"resnet18": 512, "resnet50": 2048}  # and the width of their embeddings
CLASSES = 1000


def build(wanted: Wanted) -> Encoder:
    """The encoder of a file; with a classifier where the file has one of ImageNet's classes.

    Raises:
        ConfigError: a network that is not in `RESNETS`.
        DataError: weights of another network, or in neither layout.
    """
    from torchvision import models

    image, width = network(wanted.name), RESNETS[wanted.name]
    usual = models.get_model_weights(wanted.name).DEFAULT.transforms()
    preprocess, head = from_torchvision(usual), None
    if wanted.path is not None:
        found = weights.read(wanted.path).tensors
        tensors, inside = encoder_tensors(found, wanted.path)
        weights.load_(image, tensors, wanted.path)
        if not inside:
            preprocess = as_they_are(preprocess)
            head = _classifier(found, width)
    model = nn.Sequential(OrderedDict(image=image, head=head)) if head else None
    return assemble(wanted.source, image, preprocess, ["simclr", wanted.name], model=model)


def network(name: str) -> nn.Module:
    """torchvision's ResNet without its classifier, with new weights.

    Raises:
        ConfigError: a network that is not in `RESNETS`.
    """
    from torchvision import models

    pick(RESNETS, name, "encoder: simclr")
    image: nn.Module = models.get_model(name, weights=None)
    image.set_submodule(HEAD, nn.Identity())
    return image


def as_they_are(preprocess: Preprocess) -> Preprocess:
    """The same without mean and deviation: pixels in 0..1."""
    return dataclasses.replace(preprocess, mean=(), std=())


def encoder_tensors(
    tensors: Mapping[str, Tensor], origin: Path | str
) -> tuple[dict[str, Tensor], bool]:
    """The tensors of the network without its last layers, under torchvision's names.

    Returns:
        The tensors, and whether they stood behind a prefix.
    Raises:
        DataError: neither torchvision's names nor a prefix.
    """
    prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in tensors)), "")
    inner = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    if "0.weight" in inner:
        parts = {name: name.partition(".") for name in inner}
        inner = {
            f"{NUMBERED.get(first, first)}.{rest}": inner[name]
            for name, (first, _, rest) in parts.items()
        }
    if "conv1.weight" not in inner:
        raise DataError(
            f"{origin}: expected a ResNet by torchvision's names, or behind one of "
            f"{', '.join(PREFIXES)}, got {weights.first(tensors) or 'nothing'}; convert the file"
        )
    kept = {name: t for name, t in inner.items() if not name.startswith(f"{HEAD}.")}
    return kept, bool(prefix)


def _classifier(tensors: Mapping[str, Tensor], width: int) -> nn.Linear | None:
    """The classifier that a file has, None for a projection in its place or nothing."""
    found = {name: tensors.get(f"{HEAD}.{name}") for name in ("weight", "bias")}
    weight, bias = found["weight"], found["bias"]
    if weight is None or bias is None or weight.shape != (CLASSES, width):
        return None
    head = nn.Linear(width, CLASSES)
    head.load_state_dict({"weight": weight, "bias": bias})
    return head
