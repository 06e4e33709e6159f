from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from carryover import checkpoints
from carryover.checkpoints import Checkpoint
from carryover.errors import DataError, KitError


def small(**changes: object) -> Checkpoint:
    given: dict[str, object] = {
        "study": "adapt",
        "item": "unfreeze",
        "cell": {"method": "unfreeze-norm", "seed": 1},
        "network": "clip-nano",
        "start": "0123456789abcdef",
        "what": "image",
        "tensors": {"b": torch.tensor([1.5, -2.0]), "a": torch.ones(2, 3)},
        "form": {"size": 8},
    }
    return Checkpoint(**given | changes)  # type: ignore[arg-type]


OTHER = {"what": "text"}


def path_of(folder: Path) -> Path:
    return folder / "adapt" / "unfreeze" / "one.safetensors"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = path_of(tmp_path)
    checkpoints.write(path, small())
    found = checkpoints.read(path)
    assert (found.study, found.item, found.network, found.what) == (
        *("adapt", "unfreeze"),
        *("clip-nano", "image"),
    )
    assert found.cell == {"method": "unfreeze-norm", "seed": 1}
    assert (found.start, found.form) == ("0123456789abcdef", {"size": 8})
    assert list(found.tensors) == ["a", "b"]
    assert found.tensors["b"].tolist() == [1.5, -2.0]


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    tensors = small().tensors
    backwards = dict(reversed(list(tensors.items())))
    checkpoints.write(tmp_path / "1", small())
    checkpoints.write(tmp_path / "2", small(tensors=backwards))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_model_that_is_its_start_has_no_tensors(tmp_path: Path) -> None:
    path = path_of(tmp_path)
    checkpoints.write(path, small(tensors={}))
    assert checkpoints.read(path).tensors == {}
    assert path.stat().st_size < 500


def test_tensors_stay_in_the_file_where_they_are_not_asked_for(tmp_path: Path) -> None:
    path = path_of(tmp_path)
    checkpoints.write(path, small())
    assert checkpoints.read(path, whole=False).tensors == {}
    assert checkpoints.read(path, whole=False).cell["seed"] == 1


def test_only_what_differs_from_the_start_is_kept() -> None:
    start = {"a": torch.zeros(2), "b": torch.ones(2), "c": torch.ones(2), "d": torch.ones(3)}
    tuned = start | {"b": torch.tensor([1.0, 2.0]), "c": torch.ones(2).half(), "d": torch.ones(2)}
    found = checkpoints.changed(tuned | {"new": torch.zeros(1)}, start)
    assert list(found) == ["b", "c", "d", "new"]
    assert checkpoints.changed(start, start) == {}


@pytest.mark.parametrize(
    ("what", "names"), [("image", ["image.x", "head.w"]), ("adapted", ["x"]), ("head", [])]
)
def test_a_head_is_none_of_the_encoder(what: str, names: list[str]) -> None:
    given = {"image.x": torch.ones(1), "head.w": torch.ones(1)}
    assert list(small(what=what, tensors=given).encoder_tensors) == names


def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = path_of(tmp_path)
    checkpoints.write(path, small())
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(
        DataError, match=r"expected the weights of an adapted model.*adapt@unfreeze"
    ):
        checkpoints.read(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"about": "no json"},
        {"about": "[]"},
        {"about": json.dumps({"study": "adapt"})},
        {"about": json.dumps({k: v for k, v in vars(small()).items() if k != "tensors"} | OTHER)},
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = path_of(tmp_path)
    path.parent.mkdir(parents=True)
    save_file({"a": torch.ones(1)}, path, metadata=metadata)
    with pytest.raises(DataError, match="got a file that cannot be read as one"):
        checkpoints.read(path)


def test_a_missing_file_names_its_stage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `dvc repro -f adapt@unfreeze`"):
        checkpoints.read(path_of(tmp_path))


def test_kept_models_replace_those_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("old", "new"):
        checkpoints.write(tmp_path / name / "a.safetensors", small(start=name))
    checkpoints.write(tmp_path / "old" / "b.safetensors", small())
    checkpoints.keep(sorted((tmp_path / "old").iterdir()), "adapt", "unfreeze")
    assert [path.name for path in checkpoints.listed("adapt")] == [
        "a.safetensors",
        "b.safetensors",
    ]
    folder = checkpoints.keep([tmp_path / "new" / "a.safetensors"], "adapt", "unfreeze")
    assert folder == Path("data/checkpoints/adapt/unfreeze")
    (path,) = checkpoints.listed("adapt")
    assert checkpoints.read(path).start == "new"
    checkpoints.keep([], "adapt", "unfreeze")
    assert folder.is_dir()
    assert checkpoints.listed("adapt") == []


def test_a_model_that_is_not_there_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints.write(tmp_path / "a.safetensors", small())
    folder = checkpoints.keep([tmp_path / "a.safetensors"], "adapt", "unfreeze")
    with pytest.raises(KitError, match="expected to write this file"):
        checkpoints.keep([tmp_path / "none.safetensors"], "adapt", "unfreeze")
    assert [path.name for path in folder.iterdir()] == ["a.safetensors"]  # those of before
    assert [path.name for path in checkpoints.FOLDER.iterdir()] == ["adapt"]


def test_a_study_that_has_not_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="models that adapt has adapted, found no folder"):
        checkpoints.listed("adapt")
