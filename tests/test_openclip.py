from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import open_clip
import pytest
import torch
from open_clip import factory, pretrained
from safetensors.torch import save_file
from torch import Tensor

from carryover import zeroshot
from carryover.errors import ConfigError, DataError
from carryover.models import openclip, saved, weights
from carryover.models.encoders import Encoder, Feature, features, load

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
VISION = {
    "tiny": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "tiny-average": {
        "image_size": 16,
        "layers": 2,
        "width": 16,
        "head_width": 8,
        "patch_size": 8,
        "pool_type": "avg",
        "final_ln_after_pool": True,
    },
    "tiny-resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
}
NAMES = ["tiny", "tiny-average", "tiny-resnet"]
QUICK = "https://github.com/mlfoundations/open_clip/releases/download/v0/tiny-quickgelu-{}.pt"


@pytest.fixture(autouse=True)
def tiny_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Small architectures and tags among open_clip's, and empty caches."""
    for name, vision in VISION.items():
        config = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": TEXT}
        monkeypatch.setitem(factory._MODEL_CONFIGS, name, config)
    monkeypatch.setitem(
        factory._MODEL_CONFIGS,
        "tiny-quickgelu",
        factory._MODEL_CONFIGS["tiny"] | {"quick_gelu": True},
    )
    quick = pretrained._pcfg(QUICK.format("00000000"), "kit/tiny.openai/", quick_gelu=True)
    plain = pretrained._slpcfg("", "kit/tiny.plain/")
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"openai": quick, "plain": plain})
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-quickgelu", {"openai": quick})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        open_clip, "download_pretrained", lambda *a, **k: pytest.fail("a download was tried")
    )


def model(name: str = "tiny", seed: int = 7) -> Any:
    """A model of open_clip's own making, norms drawn too so that they matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = open_clip.create_model(name)
        for parameter in found.parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, 1.0, 0.3)
    return found.eval()


def state(name: str = "tiny") -> dict[str, Tensor]:
    return {n: tensor.clone() for n, tensor in model(name).state_dict().items()}


def of(name: str, folder: Path) -> tuple[Encoder, Any]:
    """An encoder loaded from a file of a model, and that model."""
    save_file(state(name), folder / "w.safetensors")
    return load(f"open-clip:{name}", "w.safetensors", base=folder), model(name)


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


# --- features ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_projected_is_what_open_clip_encodes(name: str, tmp_path: Path) -> None:
    encoder, theirs = of(name, tmp_path)
    with torch.no_grad():
        found = features(encoder, images(), [Feature("projected")])[Feature("projected")]
        expected = theirs.encode_image(encoder.preprocess(images()))
    assert found.shape == (3, 12)
    near(found, expected)
    near(encoder.image(encoder.preprocess(images())).detach(), expected)


def test_a_transformer_gives_its_tokens_after_the_last_norm(tmp_path: Path) -> None:
    encoder, theirs = of("tiny", tmp_path)
    assert encoder.kinds == ("cls", "pooled", "tokens", "projected")
    wanted = [Feature(kind) for kind in encoder.kinds]
    visual = theirs.visual
    with torch.no_grad():
        found = features(encoder, images(), wanted)
        tokens = visual.ln_post(visual.transformer(visual._embeds(encoder.preprocess(images()))))
    assert found[Feature("tokens")].shape == (3, 5, 16)
    near(found[Feature("tokens")], tokens)
    near(found[Feature("cls")], tokens[:, 0])
    near(found[Feature("pooled")], tokens[:, 1:].mean(1))
    near(found[Feature("cls")] @ visual.proj, found[Feature("projected")])


def test_a_norm_behind_pooling_still_norms_the_tokens(tmp_path: Path) -> None:
    encoder, theirs = of("tiny-average", tmp_path)
    visual = theirs.visual
    with torch.no_grad():
        found = features(encoder, images(), [Feature("tokens"), Feature("tokens", "block1")])
        last = visual.transformer(visual._embeds(encoder.preprocess(images())))
    near(found[Feature("tokens")], visual.ln_post(last).detach())
    near(found[Feature("tokens", "block1")], last)


def test_a_resnet_gives_pixels_as_tokens_and_has_no_class_token(tmp_path: Path) -> None:
    encoder, theirs = of("tiny-resnet", tmp_path)
    assert encoder.kinds == ("pooled", "tokens", "projected")
    wanted = [Feature("pooled"), Feature("tokens"), Feature("tokens", "stem")]
    with torch.no_grad():
        found = features(encoder, images(), wanted)
        stem = theirs.visual.stem(encoder.preprocess(images()))
        maps = stem
        for i in range(1, 5):
            maps = theirs.visual.get_submodule(f"layer{i}")(maps)
    near(found[Feature("pooled")], maps.mean((2, 3)))
    near(found[Feature("tokens")], maps.flatten(2).transpose(1, 2))
    near(found[Feature("tokens", "stem")], stem.flatten(2).transpose(1, 2))
    with pytest.raises(ConfigError, match="a feature among pooled, tokens, projected, got 'cls'"):
        features(encoder, images(), [Feature("cls")])


@pytest.mark.parametrize("name", NAMES)
def test_inner_layers_are_open_clips_intermediates(name: str, tmp_path: Path) -> None:
    encoder, theirs = of(name, tmp_path)
    x = encoder.preprocess(images())
    groups = [g for g in encoder.groups if g.startswith(("block", "layer"))]
    wanted = [Feature("pooled", group) for group in groups]
    with torch.no_grad():
        found = features(encoder, images(), wanted)
        maps = theirs.visual.forward_intermediates(x)["image_intermediates"][-len(groups) :]
    for feature, expected in zip(wanted, maps, strict=True):
        near(found[feature], expected.mean((2, 3)))


def test_a_tower_of_timm_gives_what_its_trunk_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    vision = {"timm_model_name": "test_vit", "timm_model_pretrained": True, "image_size": 160}
    config = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": TEXT, "custom_text": True}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-tower", config)
    encoder = load("open-clip:tiny-tower")  # nothing is fetched, whatever the config says
    assert encoder.kinds == ("cls", "pooled", "tokens", "projected")
    assert list(encoder.groups)[-1] == "output"
    assert "head.proj.weight" in encoder.groups["output"]
    wanted = [Feature("tokens"), Feature("projected"), Feature("tokens", "block0")]
    network: Any = encoder.model
    with torch.no_grad():
        found = features(encoder, images(), wanted)
        x = encoder.preprocess(images())
        near(found[wanted[0]], network.visual.trunk.forward_features(x))
        near(found[wanted[1]], network.encode_image(x))
    assert found[wanted[2]].shape == found[wanted[0]].shape


def test_all_features_come_from_one_forward_pass(tmp_path: Path) -> None:
    encoder, _ = of("tiny", tmp_path)
    passes = []
    encoder.image.register_forward_hook(lambda *_: passes.append(1))
    wanted = [Feature(kind) for kind in encoder.kinds]
    wanted += [Feature(kind, layer) for kind in ("cls", "tokens") for layer in encoder.groups]
    found = features(encoder, images(), wanted)
    assert passes == [1]
    assert list(found) == wanted
    near(found[Feature("cls", "output")], found[Feature("cls")])
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in encoder.image.modules())
    assert hooks == 1  # the test's own


def test_an_unknown_layer_and_a_kind_of_the_end_are_refused(tmp_path: Path) -> None:
    encoder, _ = of("tiny", tmp_path)
    with pytest.raises(
        ConfigError, match="a layer among embed, block0, block1, output, got 'block2'"
    ):
        features(encoder, images(), [Feature("cls", "block2")])
    with pytest.raises(ConfigError, match="cls, pooled, tokens at block0, got 'projected'"):
        features(encoder, images(), [Feature("projected", "block0")])


def test_gradients_reach_the_image_network(tmp_path: Path) -> None:
    encoder, _ = of("tiny", tmp_path)
    features(encoder, images(), [Feature("cls", "block0")])[
        Feature("cls", "block0")
    ].sum().backward()
    given = {name for name, p in encoder.image.named_parameters() if p.grad is not None}
    assert given == {*encoder.groups["embed"], *encoder.groups["block0"]}


# --- text --------------------------------------------------------------------------------------


def test_text_is_what_open_clip_encodes_and_has_a_digest_of_its_own(tmp_path: Path) -> None:
    encoder, theirs = of("tiny", tmp_path)
    assert encoder.text is not None
    ids = encoder.text.tokenize(["a photo of a cat", "two dogs"])
    assert ids.dtype == torch.int64
    assert torch.equal(ids, open_clip.get_tokenizer("ViT-B-32")(["a photo of a cat", "two dogs"]))
    near(encoder.text.encode(ids).detach(), theirs.encode_text(ids).detach())
    assert encoder.logit_scale == pytest.approx(float(theirs.logit_scale.detach().exp()))
    for name, same in (("visual.proj", (False, True)), ("ln_final.bias", (True, False))):
        tensors = state() | {name: state()[name] + 1}
        save_file(tensors, tmp_path / "other.safetensors")
        other = load("open-clip:tiny", "other.safetensors", base=tmp_path)
        assert other.text is not None
        assert (other.weights == encoder.weights, other.text.digest == encoder.text.digest) == same


# --- files -------------------------------------------------------------------------------------


def write_safetensors(folder: Path, tensors: dict[str, Tensor]) -> str:
    save_file(tensors, folder / "a.safetensors")
    return "a.safetensors"


def write_state_dict(folder: Path, tensors: dict[str, Tensor]) -> str:
    torch.save(tensors, folder / "b.pt")
    return "b.pt"


def write_training_checkpoint(folder: Path, tensors: dict[str, Tensor]) -> str:
    wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"epoch": 31, "name": "run", "state_dict": wrapped}, folder / "epoch_32.pt")
    return "epoch_32.pt"


def write_hub_folder(folder: Path, tensors: dict[str, Tensor]) -> str:
    (folder / "hub").mkdir()
    save_file(tensors, folder / "hub" / "open_clip_model.safetensors")
    fields = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash", "size": 16}
    config = {"model_cfg": {"quick_gelu": True}, "preprocess_cfg": fields}
    (folder / "hub" / "open_clip_config.json").write_text(json.dumps(config))
    return "hub"


def write_openai_state(folder: Path, tensors: dict[str, Tensor]) -> str:
    sizes = {"input_resolution": 16, "context_length": 77, "vocab_size": 49408}
    numbers = {name: torch.tensor(size) for name, size in sizes.items()}
    torch.save(tensors | numbers, folder / "openai.pt")
    return "openai.pt"


def write_converted(folder: Path, tensors: dict[str, Tensor]) -> str:
    save_file(tensors, folder / "c.safetensors", {"quickgelu": "true"})
    return "c.safetensors"


UNTOLD = [write_safetensors, write_state_dict, write_training_checkpoint]
TOLD = [write_hub_folder, write_openai_state, write_converted]
Write = Callable[[Path, dict[str, Tensor]], str]


@pytest.mark.parametrize("write", UNTOLD + TOLD)
def test_every_format_loads_to_one_digest(write: Write, tmp_path: Path) -> None:
    encoder = load("open-clip:tiny-quickgelu", write(tmp_path, state()), base=tmp_path)
    expected, _ = of("tiny", tmp_path)
    near(encoder.image.proj.detach(), state()["visual.proj"])
    assert encoder.weights != expected.weights  # the same tensors with another activation
    save_file(state(), tmp_path / "w.safetensors")
    same = load("open-clip:tiny-quickgelu", "w.safetensors", base=tmp_path)
    assert encoder.weights == same.weights
    assert (encoder.preprocess.resize, encoder.preprocess.mean[0]) == (
        ("squash", 0.5) if write is write_hub_folder else ("crop", 0.48145466)
    )


@pytest.mark.parametrize("write", TOLD)
def test_weights_known_to_need_quickgelu_are_refused_without_it(
    write: Write, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError,
        match=r"expected an architecture with QuickGELU, .* got open-clip:tiny with GELU; "
        r"use open-clip:tiny-quickgelu",
    ):
        load("open-clip:tiny", write(tmp_path, state()), base=tmp_path)


def test_zero_shot_with_weights_of_a_file_refuses_another_activation_too(tmp_path: Path) -> None:
    file = tmp_path / "c.safetensors"
    save_file(state(), file, {"quickgelu": "true"})
    params: Any = SimpleNamespace(encoders={})
    with pytest.raises(ConfigError, match="use open-clip:tiny-quickgelu"):
        zeroshot.load(params, "open-clip:tiny", file)
    found = zeroshot.load(params, "open-clip:tiny-quickgelu", file).encoder
    assert found.weights == load("open-clip:tiny-quickgelu", "c.safetensors", base=tmp_path).weights


def test_weights_known_to_need_gelu_are_refused_with_quickgelu(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "c.safetensors", {"quickgelu": "false"})
    with pytest.raises(
        ConfigError, match=r"architecture with GELU.*quickgelu with QuickGELU; use open-clip:tiny$"
    ):
        load("open-clip:tiny-quickgelu", "c.safetensors", base=tmp_path)
    with pytest.raises(ConfigError, match=r"use open-clip:tiny$"):
        load("open-clip:tiny-quickgelu", "plain")


@pytest.mark.parametrize("write", UNTOLD)
def test_where_nothing_tells_the_architecture_says_it(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write(tmp_path, state())
    plain, quick = (load(f"open-clip:tiny{end}", name, base=tmp_path) for end in ("", "-quickgelu"))
    told = capsys.readouterr().err.splitlines()
    assert [line.rsplit(";", 1)[1] for line in told] == [
        " taken as tiny has it, without (the other: tiny-quickgelu)",
        " taken as tiny-quickgelu has it, with (the other: tiny)",
    ]
    assert plain.weights != quick.weights
    assert plain.text is not None
    assert quick.text is not None
    assert plain.text.digest != quick.text.digest
    given = features(plain, images(), [Feature("projected")])[Feature("projected")]
    other = features(quick, images(), [Feature("projected")])[Feature("projected")]
    assert float((given - other).abs().max().detach()) > 1e-4


def test_quickgelu_can_be_put_behind_any_architecture(tmp_path: Path) -> None:
    save_file(state("tiny-average"), tmp_path / "c.safetensors", {"quickgelu": "true"})
    with pytest.raises(ConfigError, match="use open-clip:tiny-average-quickgelu"):
        load("open-clip:tiny-average", "c.safetensors", base=tmp_path)
    encoder = load("open-clip:tiny-average-quickgelu", "c.safetensors", base=tmp_path)
    kinds = {type(m).__name__ for m in encoder.image.modules()}
    assert "QuickGELU" in kinds
    assert "GELU" not in kinds


def test_a_released_file_is_known_by_its_name_and_its_sha256(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state_dict(tmp_path, state())
    sha256 = hashlib.sha256((tmp_path / "b.pt").read_bytes()).hexdigest()
    url = QUICK.format(sha256[:8])
    monkeypatch.setitem(
        pretrained._PRETRAINED, "tiny", {"ours": pretrained._pcfg(url, quick_gelu=True)}
    )
    path = (tmp_path / "b.pt").rename(tmp_path / url.rsplit("/", 1)[-1])
    with pytest.raises(ConfigError, match=r"by open_clip's table.*use open-clip:tiny-quickgelu"):
        load("open-clip:tiny", str(path))
    assert load("open-clip:tiny-quickgelu", str(path)).name == "open-clip:tiny-quickgelu"
    torch.save(state() | {"logit_scale": torch.tensor(0.0)}, path)
    with pytest.raises(DataError, match=r"expected a sha256 that starts with .{8}, as its name"):
        load("open-clip:tiny-quickgelu", str(path))


def test_a_file_of_another_model_names_its_tensors(tmp_path: Path) -> None:
    save_file(state("tiny-resnet"), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"missing \(visual\.class_embedding, .*unexpected \(vis"):
        load("open-clip:tiny", "w.safetensors", base=tmp_path)


def test_a_truncated_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / write_safetensors(tmp_path, state())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"expected a whole \.safetensors file"):
        load("open-clip:tiny", str(path))


# --- tags --------------------------------------------------------------------------------------


def test_a_tag_that_is_not_cached_says_where_its_file_is(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"tag plain in open_clip's cache, found none; .*huggingface\.co/kit/tiny"
    ):
        load("open-clip:tiny", "plain", base=tmp_path)
    with pytest.raises(ConfigError, match=r"with QuickGELU.*tag openai.*use open-clip:tiny-quick"):
        load("open-clip:tiny", "openai", base=tmp_path)
    with pytest.raises(ConfigError, match=r"or a tag of tiny \(openai, plain\), got 'laion2b'"):
        load("open-clip:tiny", "laion2b", base=tmp_path)


def test_a_cached_tag_loads_with_its_own_preprocessing(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub/models--kit--tiny.plain/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    save_file(state(), snapshot / "open_clip_model.safetensors")
    encoder = load("open-clip:tiny", "plain")
    assert (encoder.preprocess.resize, encoder.preprocess.mean) == ("squash", (0.5, 0.5, 0.5))
    with pytest.raises(ConfigError, match=r"use open-clip:tiny$"):  # the file itself says so too
        load("open-clip:tiny-quickgelu", str(snapshot / "open_clip_model.safetensors"))


def test_a_tag_is_downloaded_only_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / write_state_dict(tmp_path, state())
    monkeypatch.setattr(open_clip, "download_pretrained", lambda entry: str(path))
    assert load("open-clip:tiny", "plain", download=True).preprocess.resize == "squash"
    monkeypatch.setattr(open_clip, "download_pretrained", lambda entry: Path("/none").read_text())
    with pytest.raises(DataError, match=r"expected to download tag plain .*name the file"):
        load("open-clip:tiny", "plain", download=True)


# --- architectures -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "width", "size"),
    [
        ("ViT-B-32", 512, 224),
        ("ViT-B/16", 512, 224),
        ("RN50", 1024, 224),
        ("RN101-quickgelu", 512, 224),
        ("RN50x4", 640, 288),
        ("RN50x16-quickgelu", 768, 384),
    ],
)
def test_the_published_architectures_are_there(name: str, width: int, size: int) -> None:
    with torch.device("meta"):
        found = openclip.create(openclip._config(name.replace("/", "-")), name)
    assert (found.visual.output_dim, found.visual.image_size) in [
        (width, size),
        (width, (size, size)),
    ]


def test_random_weights_of_the_real_one_come_from_a_fixed_seed() -> None:
    before = torch.random.get_rng_state()
    encoder = load("open-clip:ViT-B-32")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert sum(p.numel() for p in encoder.image.parameters()) == 87_849_216
    assert load("open-clip:tiny").weights == load("open-clip:tiny").weights


def test_what_open_clip_lacks_is_refused_with_what_is_near() -> None:
    with pytest.raises(ConfigError, match=r"got 'ViT-B-33'; near it: .*ViT-B-32"):
        load("open-clip:ViT-B-33")
    with pytest.raises(ConfigError, match="text network is open_clip's own, got roberta-ViT-B-32"):
        load("open-clip:roberta-ViT-B-32")


def test_a_network_of_the_pipelines_own_loads_by_its_card(tmp_path: Path) -> None:
    text = {"context_length": 6, "vocab_size": 8, "width": 8, "heads": 2, "layers": 1}
    config = {"embed_dim": 12, "vision_cfg": VISION["tiny"], "text_cfg": text}
    fields = {"size": 16, "resize": "squash", "interpolation": "bilinear"}
    card = {
        "open_clip": config,
        "vocabulary": ["blue", "circle", "red"],
        "preprocess": fields | {"mean": [0.5] * 3, "std": [0.5] * 3, "shorter": 0},
    }
    theirs = open_clip.CLIP(**config).eval()
    saved.save(tmp_path / "data/models/clip-nano", theirs, card)
    encoder = load("pretrain:clip-nano", base=tmp_path)
    assert encoder.preprocess.resize == "squash"
    x = encoder.preprocess(images())
    near(encoder.image(x).detach(), theirs.encode_image(x).detach())
    assert encoder.text is not None
    ids = encoder.text.tokenize(["red circle", "blue"])
    assert ids.shape == (2, 6)
    near(encoder.text.encode(ids).detach(), theirs.encode_text(ids).detach())
    assert encoder.weights == weights.digest(
        theirs.visual.state_dict(), {"vision": VISION["tiny"], "quick_gelu": False}
    )


@pytest.mark.parametrize("content", ["{", "[1]", '{"model_cfg": 3}', '{"preprocess_cfg": 3}'])
def test_a_damaged_config_beside_the_weights_is_one_sentence(tmp_path: Path, content: str) -> None:
    save_file(state(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(DataError, match=rf"^{tmp_path}.*: expected .*(cannot|got)"):
        load("open-clip:tiny", str(tmp_path))
