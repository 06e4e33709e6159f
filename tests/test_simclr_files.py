"""SimCLR's ImageNet networks from files in the layouts of others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from carryover.errors import ConfigError, DataError
from carryover.models.encoders import Encoder, load
from carryover.models.simclr import NUMBERED, encoder_tensors


@pytest.fixture(scope="module")
def whole() -> nn.Module:
    from torchvision import models

    torch.manual_seed(1)
    network: nn.Module = models.resnet18(weights=None).eval()
    return network


def written(folder: Path, content: object) -> Encoder:
    torch.save(content, folder / "simclr.pth")
    return load("simclr:resnet18", "simclr.pth", base=folder)


def body(network: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}


def logits(encoder: Encoder, x: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = encoder.model(x)
    return out


def test_converted_official_weights_take_pixels_as_they_are(
    tmp_path: Path, whole: nn.Module
) -> None:
    encoder = written(tmp_path, {"state_dict": whole.state_dict()})
    photo = torch.rand(2, 3, 256, 256)
    x = encoder.preprocess(photo)
    with torch.no_grad():
        wanted = whole(x)
    assert torch.equal(x, photo[..., 16:240, 16:240])
    assert torch.allclose(logits(encoder, x), wanted, atol=1e-5)
    assert encoder.kinds == ("pooled", "tokens")
    assert next(iter(encoder.groups)) == "stem"


@pytest.mark.parametrize("prefix", ["backbone.", "encoder.", "module.backbone."])
def test_a_training_librarys_projection_is_left_out(
    tmp_path: Path, whole: nn.Module, prefix: str
) -> None:
    beside = prefix.replace("backbone.", "").replace("encoder.", "") + "projector.0.weight"
    content = {f"{prefix}{name}": tensor for name, tensor in body(whole).items()}
    content |= {f"{prefix}fc.0.weight": torch.zeros(512, 512), beside: torch.zeros(4, 512)}
    encoder = written(tmp_path, {"state_dict": content})
    assert encoder.preprocess.mean == (0.485, 0.456, 0.406)
    assert encoder.model is encoder.image
    found = encoder.image.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in body(whole).items())
    assert logits(encoder, torch.rand(1, 3, 32, 32)).shape == (1, 512)


def test_children_by_number_get_their_names(whole: nn.Module) -> None:
    numbers = {name: number for number, name in NUMBERED.items()}
    content = {}
    for name, tensor in body(whole).items():
        first, _, rest = name.partition(".")
        content[f"backbone.{numbers[first]}.{rest}"] = tensor
    found, inside = encoder_tensors(content, "x")
    assert inside
    assert found.keys() == body(whole).keys()
    assert torch.equal(found["layer4.1.conv2.weight"], whole.state_dict()["layer4.1.conv2.weight"])


def test_a_file_without_a_classifier_has_none(tmp_path: Path, whole: nn.Module) -> None:
    encoder = written(tmp_path, body(whole))
    assert encoder.model is encoder.image


def test_files_of_other_networks_are_refused(tmp_path: Path, whole: nn.Module) -> None:
    with pytest.raises(DataError, match="expected a ResNet by torchvision's names, or behind one"):
        written(tmp_path, {"trunk.weight": torch.zeros(1)})
    short = body(whole)
    del short["bn1.weight"]
    with pytest.raises(DataError, match=r"got 1 missing \(bn1.weight\)"):
        written(tmp_path, {f"backbone.{name}": tensor for name, tensor in short.items()})
    with pytest.raises(ConfigError, match="simclr: expected one of resnet18, resnet50, got 'vgg'"):
        load("simclr:vgg")
