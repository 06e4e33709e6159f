from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models
from torchvision.transforms.functional import pil_to_tensor

from carryover import encoders_cli
from carryover.data.transforms import normalise
from carryover.errors import ConfigError, DataError
from carryover.models import openclip, saved
from carryover.models.cifar_resnet import CifarResNet
from carryover.models.cnn import cnn
from carryover.models.encoders import Encoder, Feature, features, load
from conftest import REPOSITORY, TINY
from tiny_clip import clip

SHARED = REPOSITORY.parent / "shared"


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 40, 44, generator=torch.Generator().manual_seed(0))


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=1e-6)


def at_end(encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
    wanted = [Feature(kind) for kind in encoder.kinds]
    with torch.no_grad():
        return {f.kind: value for f, value in features(encoder, x, wanted).items()}


# --- timm --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kinds", "equal"),
    [
        ("test_vit", ("cls", "pooled", "tokens"), "cls"),
        ("test_resnet", ("pooled", "tokens"), "pooled"),
        ("test_convnext", ("pooled", "tokens", "projected"), "projected"),
        ("test_efficientnet", ("pooled", "tokens", "projected"), "pooled"),
    ],
)
def test_a_timm_network_gives_what_timm_gives(
    name: str, kinds: tuple[str, ...], equal: str, tmp_path: Path
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = timm.create_model(name).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    encoder = load(f"timm:{name}", "model.safetensors", base=tmp_path)
    assert encoder.kinds == kinds
    found = at_end(encoder, images())
    x = encoder.preprocess(images())
    with torch.no_grad():
        tokens = theirs.forward_features(x)
        near(found[equal], theirs.forward_head(tokens, pre_logits=True))
        near(encoder.image(x), theirs.forward_head(tokens, pre_logits=True))
        near(encoder.model(x), theirs(x))
    near(found["tokens"], tokens if tokens.ndim == 3 else tokens.flatten(2).transpose(1, 2))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "model.pth")
    assert load(f"timm:{name}", "model.pth", base=tmp_path).weights == encoder.weights


def test_inner_layers_of_a_timm_transformer_are_its_intermediates() -> None:
    encoder = load("timm:test_vit")
    x = encoder.preprocess(images())
    blocks = [group for group in encoder.groups if group.startswith("block")]
    wanted = [Feature("tokens", block) for block in blocks]
    network: Any = encoder.image
    with torch.no_grad():
        found = features(encoder, images(), wanted)
        theirs = network.forward_intermediates(
            x, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
        )
    for feature, (patches, prefix) in zip(wanted, theirs, strict=True):
        near(found[feature], torch.cat([prefix, patches], 1))


def test_an_unknown_timm_name_lists_what_is_near() -> None:
    with pytest.raises(
        ConfigError, match=r"a model of timm, got 'resnet18zz'; near it: .*resnet18"
    ):
        load("timm:resnet18zz")


# --- torchvision -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind", "width"), [("resnet18", "pooled", 512)])
def test_a_torchvision_resnet_gives_what_torchvision_gives(
    name: str, kind: str, width: int, tmp_path: Path
) -> None:
    theirs = models.get_model(name).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18-f37072fd.pth")
    encoder = load(f"torchvision:{name}", "resnet18-f37072fd.pth", base=tmp_path)
    assert encoder.kinds == ("pooled", "tokens")
    assert encoder.preprocess.shorter == 256
    x = encoder.preprocess(images())
    with torch.no_grad():
        near(encoder.model(x), theirs(x))
        assert encoder.image(x).shape == (2, width)
        near(at_end(encoder, images())[kind], encoder.image(x))


def test_alexnet_gives_every_layer_after_its_activation(tmp_path: Path) -> None:
    encoder = load("torchvision:alexnet")
    assert list(encoder.groups) == [*(f"conv{i}" for i in range(5)), "linear0", "linear1"]
    wanted = [Feature("tokens", "conv0"), Feature("tokens", "conv4"), Feature("pooled", "linear0")]
    network: Any = encoder.image
    with torch.no_grad():
        found = features(encoder, images(), [*wanted, Feature("projected"), Feature("tokens")])
        x = encoder.preprocess(images())
        maps = [network.features[:3](x), network.features(x)]
        first = network.classifier[:3](network.avgpool(maps[1]).flatten(1))
    for feature, expected in zip(wanted, maps, strict=False):
        near(found[feature], expected.flatten(2).transpose(1, 2))
    near(found[Feature("tokens")], found[wanted[1]])
    near(found[wanted[2]], first)
    assert found[Feature("projected")].shape == (2, 4096)


# --- CIFAR ResNets -----------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "count"), [(20, 269_722), (56, 853_018)])
def test_the_cifar_resnets_have_the_published_sizes(depth: int, count: int) -> None:
    network = CifarResNet(depth, 10)
    assert sum(p.numel() for p in network.parameters()) == count
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_a_shortcut_takes_every_second_pixel_and_pads_the_channels() -> None:
    network = CifarResNet(20, 10).eval()
    block: Any = network.get_submodule("layer2.0")
    torch.nn.init.zeros_(block.bn2.weight)  # the residual is nothing
    x = torch.rand(1, 16, 8, 8)
    found = block(x)
    assert found.shape == (1, 32, 4, 4)
    assert torch.equal(found[:, 8:24], x[:, :, ::2, ::2])
    assert int(found[:, :8].count_nonzero() + found[:, 24:].count_nonzero()) == 0


def test_another_depth_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a depth of 6 n \+ 2 .*got 21"):
        load("cifar-resnet:21")
    with pytest.raises(ConfigError, match=r"cifar-resnet:DEPTH .*got 'deep'"):
        load("cifar-resnet:deep")


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the shared folder is not here")
def test_published_weights_know_cifar10() -> None:
    encoder = load("cifar-resnet:20", str(SHARED / "weights" / "resnet20-12fca82f.th"))
    table = pq.read_table(
        SHARED / "data" / "cifar10.parquet", filters=[("split", "==", "test")]
    ).slice(0, 500)
    pictures = [pil_to_tensor(_opened(row)) for row in table["image"].to_pylist()]
    labels = torch.tensor(table["label"].to_pylist())
    x = torch.stack(pictures) / 255
    with torch.no_grad():
        logits = encoder.model(encoder.preprocess(x))
    accuracy = float((logits.argmax(1) == labels).float().mean())
    assert 0.70 < accuracy < 0.92


def _opened(image: Any) -> Image.Image:
    return Image.open(io.BytesIO(image["bytes"] if isinstance(image, dict) else image))


# --- the kit's own -----------------------------------------------------------------------------

NETWORK = {
    "depth": 2,
    "channels": 4,
    "kernel": 3,
    "activation": "tanh",
    "pool_every": 2,
    "pool_stride": 2,
}


@pytest.mark.parametrize("hidden", [0, 6])
def test_a_cnn_of_the_pipeline_loads_by_its_card(hidden: int, tmp_path: Path) -> None:
    shape = (1, 8, 8)
    theirs = cnn(
        **NETWORK,
        hidden=hidden,
        image_shape=shape,
        classes=5,
        generator=torch.Generator().manual_seed(1),
    )
    card = {
        "network": NETWORK | {"hidden": hidden},
        "image_shape": shape,
        "classes": [0, 1, 2, 3, 4],
    }
    saved.save(tmp_path / "data/models/cnn2-x", theirs, card)
    encoder = load("pretrain:cnn2-x", base=tmp_path)
    grey = torch.rand(3, 1, 8, 8)
    x = normalise(grey, (0.5,), (0.5,))
    rgb = encoder.preprocess(grey.expand(-1, 3, -1, -1))
    near(encoder.model(rgb), theirs(x))
    assert list(encoder.groups) == ["conv0", "conv1", *(["output"] if hidden else [])]
    found = at_end(encoder, grey.expand(-1, 3, -1, -1))
    maps = theirs[:5](x)
    near(found["pooled"], maps.mean((2, 3)))
    near(found["tokens"], maps.flatten(2).transpose(1, 2))
    near(found["projected"], theirs[:-1](x))
    assert found["projected"].shape == (3, hidden or 64)
    relu = card | {"network": NETWORK | {"hidden": hidden, "activation": "relu"}}
    saved.save(tmp_path / "data/models/other", theirs, relu)
    assert load("pretrain:other", base=tmp_path).weights != encoder.weights


def test_an_altered_or_absent_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected weights\.safetensors and card\.json"):
        load("pretrain:none", base=tmp_path)
    with pytest.raises(ConfigError, match=r"expected pretrain:none without weights, got 'w\.pt'"):
        load("pretrain:none", "w.pt", base=tmp_path)
    folder = tmp_path / "data/models/odd"
    saved.save(folder, torch.nn.Linear(1, 1), {})
    with pytest.raises(
        DataError, match="expected a network or a config of open_clip or flava, got none"
    ):
        load("pretrain:odd", base=tmp_path)
    shutil.copy(folder / "card.json", folder / "weights.safetensors")
    with pytest.raises(DataError, match="the file was altered"):
        load("pretrain:odd", base=tmp_path)


# --- all ---------------------------------------------------------------------------------------


def test_random_weights_are_equal_and_leave_torchs_stream_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (load("cifar-resnet:20") for _ in range(2))
    assert first.weights == second.weights
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not first.image.training
    assert not first.model.training


def test_a_source_is_checked_against_the_table() -> None:
    with pytest.raises(ConfigError, match=r"encoder: expected one of open-clip, flava, .*'clip'"):
        load("clip:ViT-B-32")
    with pytest.raises(ConfigError, match="expected timm:NAME, got 'timm'"):
        load("timm")
    with pytest.raises(ConfigError, match="expected flava, got 'flava:full'"):
        load("flava:full")
    with pytest.raises(ConfigError, match="torchvision: expected one of resnet18, alexnet, got"):
        load("torchvision:vgg16")


def test_a_file_of_another_network_is_one_sentence(tmp_path: Path) -> None:
    torch.save(CifarResNet(32, 10).state_dict(), tmp_path / "w.th")
    with pytest.raises(DataError, match=r"72 unexpected \(layer1\.3\.conv1\.weight, .*architect"):
        load("cifar-resnet:20", "w.th", base=tmp_path)


def test_the_table_names_every_source(tmp_path: Path) -> None:
    (tmp_path / "data/models/cnn9").mkdir(parents=True)
    (tmp_path / "data/models/cnn9/card.json").write_text("{}")
    shutil.copy(TINY, tmp_path / "params.yaml")
    sources, own = encoders_cli.table(tmp_path).split("\n\n")
    assert own.splitlines()[1].split() == ["clip-nano", "pretrain:clip-nano", "digits,", "letters"]
    lines = sources.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [
        *("open-clip:ARCHITECTURE", "flava", "flava-image", "timm:NAME"),
        *("torchvision:NAME", "simclr:NAME", "cifar-resnet:DEPTH", "pretrain:NAME"),
    ]
    assert lines[-2].endswith("made by the pipeline                                 cnn9")
    assert lines[-1].startswith("without weights: random ones from seed 0")


def test_layers_are_listed_by_group_by_parameter_and_by_linear_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups = encoders_cli.layers("cifar-resnet:20", groups=True).splitlines()
    assert groups[0].split() == ["group", "tensors", "parameters", "convolution", "norm"]
    assert groups[1].split() == ["stem", "3", "464", "432", "32"]
    assert groups[-1] == "269,072 parameters; features: pooled, tokens"
    assert encoders_cli.layers("cifar-resnet:20").splitlines() == groups
    rows = encoders_cli.layers("cifar-resnet:20", params=True).splitlines()
    assert rows[1].split(maxsplit=3) == [
        *("conv1.weight", "stem", "convolution", "16 x 3 x 3 x 3   432")
    ]
    assert len(rows) == 1 + 57
    linear = encoders_cli.layers("timm:test_vit", linear_only=True).splitlines()
    assert linear[1].split() == ["blocks.0.attn.qkv", "192", "x", "64"]
    monkeypatch.setattr(encoders_cli, "load", lambda source: clip())
    linear = encoders_cli.layers("open-clip:tiny", linear_only=True).splitlines()
    assert linear[1].split() == ["transformer.resblocks.0.attn.in_proj_weight", "48", "x", "16"]
    assert linear[-1].split() == ["proj", "12", "x", "16"]  # a matrix that is no layer of its own
    with pytest.raises(ConfigError, match="expected one of --groups, --linear-only, --params"):
        encoders_cli.layers("cifar-resnet:20", groups=True, params=True)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("cifar-resnet:\N{SUPERSCRIPT TWO}", "cifar-resnet:DEPTH .*got '\N{SUPERSCRIPT TWO}'"),
        ("cifar-resnet:9998", r"up to 1202, got 9998"),
        ("timm:resnet18.zzz", r"expected timm:resnet18, or one of .*a1_in1k.*got 'resnet18\.zzz'"),
        ("flava:", "expected flava, got 'flava:'"),
        ("timm:", "expected timm:NAME, got 'timm:'"),
    ],
)
def test_a_name_that_is_none_is_refused(source: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(source)


def test_a_card_that_says_no_network_names_its_folder(tmp_path: Path) -> None:
    saved.save(tmp_path / "data/models/odd", CifarResNet(8, 10), {"network": {"depth": "deep"}})
    with pytest.raises(DataError, match=r"data/models/odd: expected pretrain:odd .*cannot make it"):
        load("pretrain:odd", base=tmp_path)


def test_the_table_counts_the_architectures_that_load() -> None:
    names = openclip.architectures()
    assert "ViT-B-32" in names
    assert "roberta-ViT-B-32" not in names
    assert f"{len(names)} architectures, ViT-B-32" in encoders_cli.table(Path("nowhere"))
