"""A killed stream goes on to the same result."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from carryover.adapt.avalanche import (
    STRATEGIES,
)
from row_streams import chunks, classes, equal, go, network


class Killed(Exception):
    pass


@pytest.mark.parametrize("strategy", [*STRATEGIES])
def test_a_killed_run_goes_on_to_the_same_result_bit_for_bit(strategy: str, tmp_path: Path) -> None:
    kept: Callable[[int], dict[str, Any]] = lambda i: {"half": torch.tensor(i / 2)}  # noqa: E731
    nets = network(), network(), network()
    whole = go(chunks(), nets[0], strategy=strategy, options={"after_task": kept})
    path = tmp_path / "state.pt"

    def kill(experience: int) -> dict[str, Any]:
        if experience == 2:
            raise Killed
        return kept(experience)

    with pytest.raises(Killed):
        go(chunks(), nets[1], strategy=strategy, options={"snapshot": path, "after_task": kill})
    called: list[int] = []

    def count(experience: int) -> dict[str, Any]:
        called.append(experience)
        return kept(experience)

    random.seed(strategy)
    found = go(
        chunks(), nets[2], strategy=strategy, options={"snapshot": path, "after_task": count}
    )
    assert called == [2]
    assert equal(found, whole)
    assert [float(after.kept["half"]) for after in found] == [a.experience / 2 for a in whole]
    states = nets[0].state_dict(), nets[2].state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    again = go(chunks(), network(), strategy=strategy, options={"snapshot": path})
    assert equal(again, whole)  # a finished one is only read


def test_a_killed_distillation_by_heads_goes_on_to_the_same_result(tmp_path: Path) -> None:
    stream, options = classes(labels=True), {"snapshot": tmp_path / "state.pt"}

    def kill(experience: int) -> None:
        if experience == 1:
            raise Killed

    whole = go(stream, strategy="lwf")
    with pytest.raises(Killed):
        go(stream, strategy="lwf", options=options | {"after_task": kill})
    assert equal(go(stream, strategy="lwf", options=options), whole)
    assert not equal(go(stream, strategy="lwf", lwf_alpha=0.0), whole)


def test_a_killed_run_that_forgets_its_momentum_goes_on_to_the_same_result(tmp_path: Path) -> None:
    options = {"snapshot": tmp_path / "state.pt"}

    def kill(experience: int) -> None:
        if experience == 2:
            raise Killed

    whole = go(chunks(), optimiser_state="reset")
    with pytest.raises(Killed):
        go(chunks(), optimiser_state="reset", options=options | {"after_task": kill})
    assert equal(go(chunks(), optimiser_state="reset", options=options), whole)


def test_a_snapshot_of_another_run_is_not_gone_on_from(tmp_path: Path) -> None:
    options = {"snapshot": tmp_path / "state.pt"}
    go(classes(), options=options)
    for changes in (
        {"batch_size": 8},
        {"seed": 1},
        {"strategy": "replay"},
        {"optimiser_state": "reset"},
    ):
        assert equal(go(classes(), options=options, **changes), go(classes(), **changes))
    assert equal(go(chunks(), options=options), go(chunks()))
