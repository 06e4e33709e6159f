"""Errors of the machine: said in a sentence, told from faults of the kit."""

from __future__ import annotations

import pytest
import torch

from carryover.errors import of_machine


def test_memory_that_there_is_not_is_said() -> None:
    with pytest.raises(RuntimeError) as ours:
        torch.empty(2**60, dtype=torch.uint8)
    for error in (ours.value, MemoryError()):
        assert "make batches, networks or sets smaller" in str(of_machine(error))
    assert of_machine(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
