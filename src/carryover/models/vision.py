"""Image networks without text: timm's, torchvision's, and the CIFAR ResNets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn

from carryover.errors import ConfigError, listed, pick
from carryover.models import weights
from carryover.models.cifar_resnet import CifarResNet
from carryover.models.encoders import Encoder, Wanted, assemble
from carryover.models.preprocess import Preprocess, from_timm, from_torchvision

# of the published CIFAR ResNets, akamaster/pytorch_resnet_cifar10 at d5489e8
CIFAR_PREPROCESS = Preprocess(32, "crop", "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR_CLASSES = 10


def build(wanted: Wanted) -> Encoder:
    """The network with its weights; its classifier becomes the ``head`` of the whole model.

    Raises:
        ConfigError: a name that the library does not have.
        DataError: weights of another network.
    """
    family = wanted.source.partition(":")[0]
    network, preprocess, take_head = BUILDERS[family](wanted.name)
    if wanted.path is not None:
        weights.load_(network, weights.read(wanted.path).tensors, wanted.path)
    form = [family, wanted.name.partition(".")[0]]  # timm puts the name of weights behind a dot
    head = take_head(network)
    model = nn.Sequential(OrderedDict(image=network, head=head)) if head else None
    return assemble(wanted.source, network, preprocess, form, model=model)


Built = tuple[nn.Module, Preprocess, Callable[[Any], nn.Module | None]]


def _timm(name: str) -> Built:
    import timm
    from timm.data import resolve_data_config

    if not timm.is_model(name):
        near = timm.list_models(f"*{name[:8]}*")[:5]
        raise ConfigError(
            f"encoder: expected timm:NAME with a model of timm, got {name!r}"
            + (f"; near it: {', '.join(near)}" if near else "")
        )
    architecture, _, tag = name.partition(".")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ConfigError(
            f"encoder: expected timm:{architecture}, or one of its weights behind a dot "
            f"({listed(tags)}), got {name!r}; weights are what the file says"
        )
    network = timm.create_model(name, pretrained=False)
    return network, from_timm(resolve_data_config({}, model=network)), _timm_head


def _timm_head(network: Any) -> nn.Module | None:
    """Take the classifier off where it is one layer, as it is but in a few networks."""
    head = network.get_classifier()
    network.reset_classifier(0)
    return head if isinstance(head, nn.Linear) else None


def _torchvision(name: str) -> Built:
    from torchvision import models

    path = pick(TORCHVISION, name, "encoder: torchvision")
    network = models.get_model(name, weights=None)
    transform = models.get_model_weights(name).DEFAULT.transforms()
    return network, from_torchvision(transform), lambda network: _without(network, path)


def _cifar(depth: str) -> Built:
    if not (depth.isascii() and depth.isdecimal() and len(depth) <= 4):
        raise ConfigError(f"encoder: expected cifar-resnet:DEPTH (20, 32, ...), got {depth!r}")
    network = CifarResNet(int(depth), CIFAR_CLASSES)
    return network, CIFAR_PREPROCESS, lambda network: _without(network, "linear")


def _without(network: nn.Module, path: str) -> nn.Module:
    """Take a network's classifier off; returns it."""
    head = network.get_submodule(path)
    network.set_submodule(path, nn.Identity())
    return head


TORCHVISION = {"resnet18": "fc", "alexnet": "classifier.6"}  # and where the classifier is

BUILDERS: dict[str, Callable[[str], Built]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "cifar-resnet": _cifar,
}
