from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from carryover import files
from carryover.errors import KitError
from carryover.models import saved


def network(value: float) -> nn.Linear:
    found = nn.Linear(2, 1)
    nn.init.constant_(found.weight, value)
    nn.init.constant_(found.bias, 0.0)
    return found


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    saved.save(tmp_path / "net", network(2.0), {"name": "net"})
    card = saved.read_card(tmp_path / "net")
    assert card["name"] == "net"
    again = network(0.0)
    saved.load_(tmp_path / "net", again)
    assert torch.equal(again.weight, torch.tensor([[2.0, 2.0]]))
    assert sorted(bytes_in(tmp_path)) == ["net/card.json", "net/weights.safetensors"]


def test_a_new_network_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    saved.save(tmp_path / "net", network(1.0), {"name": "old"})
    (tmp_path / "net" / "more").touch()
    saved.save(tmp_path / "net", network(2.0), {"name": "new"})
    assert saved.read_card(tmp_path / "net")["name"] == "new"
    assert sorted(bytes_in(tmp_path)) == ["net/card.json", "net/weights.safetensors"]


@pytest.mark.parametrize("written", [0, 1], ids=["weights", "card"])
def test_the_old_network_stays_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    saved.save(tmp_path / "net", network(1.0), {"name": "old"})
    before, replace, done = bytes_in(tmp_path), files.os.replace, []

    def full(source: str, target: Path) -> None:
        if len(done) == written:
            raise OSError(28, "No space left on device")
        done.append(target)
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(KitError, match="expected to write this file, got 'No space left on device"):
        saved.save(tmp_path / "net", network(2.0), {"name": "new"})
    assert bytes_in(tmp_path) == before


def test_what_a_killed_save_left_does_not_enter_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".net.partial"
    left.mkdir()
    (left / "stray").touch()
    saved.save(tmp_path / "net", network(1.0), {})
    assert sorted(bytes_in(tmp_path)) == ["net/card.json", "net/weights.safetensors"]
