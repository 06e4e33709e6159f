"""OGD's bases as files, by ``carryover weights``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from carryover.adapt import ogd
from carryover.cli import app
from carryover.config import params as config
from carryover.errors import ConfigError
from carryover.sequence_basis import write_basis
from carryover.stages import PARAMS
from conftest import Checkout


def test_a_basis_of_a_set_is_written_and_extended(embedded: Checkout) -> None:
    one, two = Path("one.safetensors"), Path("two.safetensors")
    said = CliRunner().invoke(app, ["weights", "basis", "clip-nano", "digits", "--out", str(one)])
    assert said.exit_code == 0
    assert said.stdout == "one.safetensors: 6 directions of digits, 6 in all\n"
    more = ["weights", "basis", "clip-nano", "letters", "--out", str(two), "--earlier", str(one)]
    assert CliRunner().invoke(app, more).stdout == (
        "two.safetensors: 6 directions of letters, 12 in all\n"
    )
    first, both = ogd.load(one), ogd.load(two)
    assert (len(first), len(both), both.scope) == (6, 12, "joint")
    assert "logit_scale" not in both.directions
    rows = {name: tensor[0] for name, tensor in first.directions.items()}
    left = both.project(rows)  # what the first basis keeps the second keeps too
    assert max(float(part.abs().max()) for part in left.values()) < 1e-5


def test_a_basis_of_another_scope_or_of_a_head_is_refused(embedded: Checkout) -> None:
    params = config.read(PARAMS)
    write_basis(params, "clip-nano", "letters", Path("one.safetensors"), None)
    study = params.sequence
    tensor = replace(params, sequence=replace(study, ogd=replace(study.ogd, scope="tensor")))
    with pytest.raises(ConfigError, match=r"earlier basis of sequence\.ogd\.scope tensor, got one"):
        write_basis(tensor, "clip-nano", "letters", Path("b.safetensors"), Path("one.safetensors"))
    headed = replace(params, sequence=replace(study, train_mode="fc"))
    with pytest.raises(ConfigError, match=r"without heads .* got clip-nano and fc; change one"):
        write_basis(headed, "clip-nano", "letters", Path("b.safetensors"), None)
    with pytest.raises(ConfigError, match="weights basis: expected one of clip-nano"):
        write_basis(params, "clip", "letters", Path("b.safetensors"), None)


def test_raw_gradients_become_a_basis(tmp_path: Path) -> None:
    raw = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.save({"module.a.weight": raw, "b.weight": list(raw)}, tmp_path / "grad_DTD.pth")
    given = ["weights", "convert", str(tmp_path / "grad_DTD.pth"), "--basis", "joint"]
    said = CliRunner().invoke(app, given)
    assert said.exit_code == 0
    basis = ogd.load(tmp_path / "grad_DTD.safetensors")
    assert (len(basis), sorted(basis.directions)) == (3, ["a.weight", "b.weight"])
    left = basis.project({"a.weight": raw[1], "b.weight": raw[1]})
    assert float(left["a.weight"].norm()) < 1e-5
    assert CliRunner().invoke(app, [*given[:-1], "both"]).exit_code != 0
