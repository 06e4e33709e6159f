"""CKA between encoders of two arms, and the numbers that are kept apart from the rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from carryover import run as runner
from carryover.config import params as config
from carryover.config.continual import Continual
from carryover.continual_between import between
from carryover.continual_drawn import Number, is_drawn, write_drawn
from carryover.continual_layers import read_layers, write_layers
from carryover.errors import DataError
from carryover.measure.similarity import linear_cka
from carryover.studies import continual_report
from conftest import TINY

CELL = {"stream": "s-digits", "protocol": "ni-2", "strategy": "naive", "seed": 0}


def study(**changes: Any) -> Continual:
    made = config.read(TINY).continual
    return replace(made, cka=replace(made.cka, images=40, draws=50, debiased=True), **changes)


def layers(seed: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    shared = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    return [shared + 0.5 * torch.randn(40, 6, generator=random) for _ in range(2)]


def wrote(
    folder: Path, item: str, freeze: str = "", data: str = "d", seed: int = 1, dead: bool = False
) -> Path:
    path = folder / item / "layers" / f"{freeze or item}.safetensors"
    cell = CELL | ({"freeze": freeze} if freeze else {})
    made = layers(seed)
    made[0] = torch.full_like(made[0], 0.3) if dead else made[0]
    write_layers(path, made, {"item": item, "cell": cell, "data": data})
    return path


def pairs(folder: Path) -> list[Any]:
    return list(between(study().cka, folder, 0))


def test_layers_come_back_as_they_were(tmp_path: Path) -> None:
    found, about = read_layers(wrote(tmp_path, "partly", "children-1"))
    assert all(torch.equal(a, b) for a, b in zip(found, layers(1), strict=True))
    assert about["cell"]["freeze"] == "children-1"
    (tmp_path / "other").write_text("no layers")
    with pytest.raises(DataError, match=r"expected layers of an encoder, got .*; run `dvc repro"):
        read_layers(tmp_path / "other")


def test_every_layer_of_one_arm_is_compared_with_every_layer_of_its_twin(tmp_path: Path) -> None:
    wrote(tmp_path, "partly", "children-1", seed=1)
    wrote(tmp_path, "unfrozen", seed=2)
    ((cell, data, found),) = pairs(tmp_path)
    assert (cell, data) == (CELL | {"freeze": "children-1"}, "d")
    a, b = layers(1), layers(2)
    values = {(at["layer"], at["other"]): v for metric, at, v, _ in found if "other" in at}
    assert len(values) == 4
    for (i, j), value in values.items():
        assert value == pytest.approx(float(linear_cka(a[i], b[j], debiased=True)))
    low, high = ([v for m, _, v, _ in found if m == f"cka_between_{n}"] for n in ("low", "high"))
    assert all(x < values[i, i] < y for i, (x, y) in enumerate(zip(low, high, strict=True)))
    assert {n for *_, n in found} == {40}


def test_a_layer_that_makes_the_same_of_all_images_has_no_numbers(tmp_path: Path) -> None:
    wrote(tmp_path, "partly", "children-1", seed=1, dead=True)
    wrote(tmp_path, "unfrozen", seed=2)
    ((_, _, found),) = pairs(tmp_path)
    assert [(metric, at) for metric, at, *_ in found] == [
        ("cka_between", {"layer": 1, "other": 0}),
        ("cka_between", {"layer": 1, "other": 1}),
        ("cka_between_low", {"layer": 1}),
        ("cka_between_high", {"layer": 1}),
    ]
    wrote(tmp_path / "alive", "partly", "children-1", seed=1)
    wrote(tmp_path / "alive", "unfrozen", seed=2)
    ((_, _, whole),) = pairs(tmp_path / "alive")
    assert all(number in whole for number in found)


def test_arms_without_a_twin_are_left_out_and_other_images_refused(tmp_path: Path) -> None:
    wrote(tmp_path, "partly", "children-1")
    assert pairs(tmp_path) == []
    wrote(tmp_path, "unfrozen", data="others")
    with pytest.raises(DataError, match=r"expected layers of the images of .*, got those"):
        pairs(tmp_path)


def test_a_pair_more_leaves_the_bands_of_others_as_they_were(tmp_path: Path) -> None:
    wrote(tmp_path, "partly", "children-2", seed=1)
    wrote(tmp_path, "unfrozen", seed=2)
    alone = pairs(tmp_path)
    wrote(tmp_path, "partly", "children-1", seed=3)  # before it, by name
    assert pairs(tmp_path)[1:] == alone
    low = [value for metric, _, value, _ in alone[0][2] if metric == "cka_between_low"]
    other = list(between(study().cka, tmp_path, 1))[1][2]
    assert low != [value for metric, _, value, _ in other if metric == "cka_between_low"]


def test_rows_between_arms_say_what_was_frozen_and_with_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote(tmp_path, "partly", "children-1", seed=1)
    wrote(tmp_path, "unfrozen", seed=2)
    monkeypatch.setattr(continual_report, "CHECKPOINTS", tmp_path)
    context = runner.Context("continual-report", "p", "s", lambda: None)
    params = replace(config.read(TINY), continual=study())
    rows = continual_report.rows_between(params, context)
    assert len(rows) == 4 + 2 * 2
    assert {(row.item, row.cell["with"], row.cell["freeze"]) for row in rows} == {
        ("partly", "unfrozen", "children-1")
    }
    assert rows == continual_report.rows_between(params, context)
    alone = replace(params, continual=study(items=("frozen",)))
    assert continual_report.rows_between(alone, context) == []


def test_what_figures_read_comes_back_as_rows_would_say(tmp_path: Path) -> None:
    path = tmp_path / "runs/frozen/drawn.jsonl"
    numbers: list[Number] = [
        ("train", "epoch_loss", {"experience": 0, "epoch": 0}, 2.0, 30),
        ("train", "epoch_loss", {"experience": 0, "epoch": 1}, 1.00000049, 30),
        ("test", "cka_pair", {"layer": 1, "other": 0}, 0.5, 40),
    ]
    write_drawn(path, [(CELL, numbers), (CELL | {"seed": 1}, [])])
    assert len(path.read_text().splitlines()) == 2
    rows = continual_report.drawn_of(study(), path)
    found = [(r.split, r.metric, r.cell, r.value, r.n) for r in rows]
    assert found == [
        ("train", "epoch_loss", CELL | {"experience": 0, "epoch": 0}, 2.0, 30),
        ("train", "epoch_loss", CELL | {"experience": 0, "epoch": 1}, 1.0, 30),
        ("test", "cka_pair", CELL | {"layer": 1, "other": 0}, 0.5, 40),
    ]
    assert {row.preset for row in rows} == {"tiny"}
    path.write_text('{"cell": {}}\n')
    with pytest.raises(DataError, match="expected numbers to draw, got"):
        continual_report.drawn_of(study(), path)
    path.unlink()
    with pytest.raises(DataError, match="expected numbers, found no file"):
        continual_report.drawn_of(study(), path)


def test_numbers_of_the_end_and_of_accuracy_stay_rows() -> None:
    def drawn(metric: str, at: dict[str, int]) -> bool:
        return is_drawn(("test", metric, at, 1.0, 1), 4)

    assert drawn("cka", {"experience": 3, "layer": 0})
    assert not drawn("cka", {"experience": 4, "layer": 0})
    assert not drawn("task_accuracy", {"experience": 0, "task": 0})
    assert drawn("cka_pair", {"layer": 0, "other": 1})
