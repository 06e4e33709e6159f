"""The ``encoders`` section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carryover.config.reader import at_least, distinct, threads


@dataclass(frozen=True)
class EncoderEntry:
    """One encoder, and the data sets that it embeds."""

    source: str
    weights: str | None
    precision: Literal["float32", "bfloat16"]
    batch_size: int
    resize: Literal["crop", "squash"]
    normalise: bool
    grey: bool
    rescale_twice: bool
    prompts: Literal["own", "generic"]
    kinds: tuple[Literal["cls", "pooled", "tokens", "projected"], ...]
    tokens: Literal["float32", "bfloat16"]
    layers: tuple[str, ...] | None
    datasets: tuple[str, ...]
    threads: int

    def faults(self) -> list[str]:
        return (
            at_least(self.batch_size, "batch_size", 1)
            + threads(self.threads)
            + distinct(self.kinds, "kinds")
            + distinct(self.layers or (), "layers")
            + distinct(self.datasets, "datasets")
        )
