from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from carryover import encoders_cli
from carryover.errors import DataError
from carryover.models import archives, weights


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def written(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def prefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def test_one_state_has_one_digest_in_every_format(tmp_path: Path) -> None:
    own = dict(network().state_dict())
    files = {
        "a.safetensors": own,
        "b.pt": own,
        "c.pt": {"state_dict": prefixed(own), "epoch": 3, "best": 0.5},
        "d.pth": {"model": own},
        "e.th": {"state_dict": prefixed(own), "best_prec1": 91.0},
    }
    expected = weights.digest(own, ["relu"])
    for name, content in files.items():
        state = weights.read(written(tmp_path / name, content))
        assert set(state.tensors) == set(own), name
        assert weights.digest(state.tensors, ["relu"]) == expected, name
        fresh = network(1)
        weights.load_(fresh, state.tensors, name)
        assert weights.digest(fresh.state_dict(), ["relu"]) == expected, name


def test_the_digest_sees_values_names_shapes_and_form_but_not_counters() -> None:
    own = dict(network().state_dict())
    expected = weights.digest(own, "relu")
    assert weights.digest(dict(reversed(own.items())), "relu") == expected
    assert weights.digest(own | {"1.num_batches_tracked": torch.tensor(9)}, "relu") == expected
    changed = own["0.bias"].clone()
    changed[0] += 1e-7
    others = [
        weights.digest(own | {"0.bias": changed}, "relu"),
        weights.digest(own | {"0.bias": own["0.bias"][:, None]}, "relu"),
        weights.digest(own | {"0.bias": own["0.bias"].double()}, "relu"),
        weights.digest({f"x{name}": tensor for name, tensor in own.items()}, "relu"),
        weights.digest(own, "gelu"),
    ]
    assert len({expected, *others}) == 6


def test_half_precision_is_widened_and_counters_may_be_absent() -> None:
    own = {n: t for n, t in network().state_dict().items() if "num_batches" not in n}
    fresh = network(1)
    weights.load_(fresh, {name: tensor.half() for name, tensor in own.items()}, "file")
    assert fresh[0].weight.dtype == torch.float32
    assert torch.equal(fresh[0].weight, own["0.weight"].half().float())


def test_missing_unexpected_and_misshapen_tensors_are_named() -> None:
    own = dict(network().state_dict())
    wrong = {f"layer{i}": torch.zeros(1) for i in range(5)} | {"0.bias": torch.zeros(7)}
    wrong |= {name: own[name] for name in own if name not in ("0.bias", "0.weight")}
    with pytest.raises(
        DataError,
        match=r"w\.pt: expected the 7 tensors of Sequential, got 1 missing \(0\.weight\), "
        r"5 unexpected \(layer0, layer1, layer2, \.\.\.\), "
        r"1 of another shape \(0\.bias \(7,\) for \(4,\)\); name the architecture",
    ):
        weights.load_(network(), wrong, "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("kept", [0, 10, 300])
def test_a_truncated_file_is_one_sentence(tmp_path: Path, name: str, kept: int) -> None:
    path = written(tmp_path / name, dict(network().state_dict()))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"expected .*; (fetch it again|save its state dict)") as e:
        weights.read(path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("kept", [-1, 20, 8])
def test_damaged_safetensors_are_one_sentence_whatever_they_are_taken_for(
    tmp_path: Path, kept: int
) -> None:
    path = written(tmp_path / "w.safetensors", dict(network().state_dict()))
    bare = tmp_path / ".safetensors"  # a name that has no ending, for pathlib
    for place in (path, bare):
        place.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match="expected nothing but tensors, got a pickle that holds"):
        weights.unpickled(path)
    with pytest.raises(DataError, match=r"expected a whole \.safetensors file, cannot read it"):
        weights.read(bare)


def test_a_pytorch_file_is_one_by_its_bytes_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "gradients.safetensors"
    torch.save({"a": torch.tensor([1.0, 2.0])}, path)
    assert weights.unpickled(path)["a"].tolist() == [1.0, 2.0]


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.pt: expected a file of weights, found none"):
        weights.read(tmp_path / "none.pt")


class Harmful:
    """What unpickling would run."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('it ran')",)


@pytest.mark.parametrize("name", ["evil.pt", "evil.pkl"])
def test_a_pickle_of_anything_but_tensors_is_refused_unrun(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = {"state_dict": Harmful()}
    path.write_bytes(pickle.dumps(content)) if name == "evil.pkl" else torch.save(content, path)
    with pytest.raises(DataError, match="expected nothing but tensors, got a pickle"):
        weights.read(path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1.0}, torch.zeros(2)])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DataError, match="expected a state dict"):
        weights.read(written(tmp_path / "w.pt", content))


# --- archives ----------------------------------------------------------------------------------


class Archived(nn.Module):
    """A program with tensors, as OpenAI's archives are."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Linear(3, 2)
        self.register_buffer("input_resolution", torch.tensor(16))
        self.register_buffer("context_length", torch.tensor(4))
        self.register_buffer("vocab_size", torch.tensor(9))

    def forward(self, x: Tensor) -> Tensor:
        return self.visual(x)


def archive(path: Path) -> str:
    """Write one, half precision; its sha256."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.trace(Archived(), torch.zeros(1, 3)).half(), buffer)
    path.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def test_an_archive_with_a_pinned_digest_becomes_float32_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = archive(tmp_path / "RN7.pt")
    monkeypatch.setattr(archives, "pinned", lambda: {sha256: "RN7-quickgelu"})
    out = encoders_cli.convert(tmp_path / "RN7.pt", tmp_path)
    assert out == tmp_path / "RN7.safetensors"
    state = weights.read(out)
    assert {name: str(t.dtype) for name, t in state.tensors.items()} == {
        "visual.weight": "torch.float32",
        "visual.bias": "torch.float32",
    }
    with safe_open(out, framework="pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "architecture": "RN7-quickgelu",
            "quickgelu": "true",
            "source_sha256": sha256,
        }


def test_any_other_archive_is_refused_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(tmp_path / "RN50.pt")
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: pytest.fail("it was opened"))
    with pytest.raises(DataError, match=r"one of OpenAI's 9 archives by their sha256.*not opened"):
        archives.convert(tmp_path / "RN50.pt", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(DataError, match=r"cannot read it \(No such file"):
        archives.convert(tmp_path / "none.pt", tmp_path)


def test_an_archive_given_as_weights_points_to_convert(tmp_path: Path) -> None:
    archive(tmp_path / "RN50.pt")
    with pytest.raises(DataError, match=r"TorchScript archive.*`carryover weights convert`"):
        weights.read(tmp_path / "RN50.pt")


def test_the_pinned_digests_are_open_clips_own() -> None:
    known = archives.pinned()
    assert set(known.values()) == {
        f"{name}-quickgelu"
        for name in (
            *("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"),
            *("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336"),
        )
    }
    assert all(len(sha256) == 64 and int(sha256, 16) for sha256 in known)
    assert set(known.values()) <= set(open_clip.list_models())


@pytest.mark.parametrize(
    ("tensor", "form"),
    [
        (torch.eye(2).to_sparse(), "sparse_coo"),
        (torch.empty(2, device="meta"), "meta, without values"),
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
    ],
)
def test_tensors_that_no_network_takes_are_refused_by_name(
    tensor: Tensor, form: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "w.pt", {"a.weight": torch.zeros(1), "b.weight": tensor})
    with pytest.raises(
        DataError, match=rf"w\.pt: expected dense tensors .*got 1 others \(b\.weight: {form}\)"
    ):
        weights.read(path)
