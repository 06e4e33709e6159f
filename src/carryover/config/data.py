"""The ``data`` section."""

from __future__ import annotations

from dataclasses import dataclass

from carryover.config.reader import at_least, between, each_slug


@dataclass(frozen=True)
class Data:
    """Where images come from and how sets without an official split are divided."""

    root: str | None
    names: tuple[str, ...]
    sources: dict[str, str]
    digits_size: int
    rendered_size: int
    rendered_share: float
    test_fraction: float

    def faults(self) -> list[str]:
        return (
            each_slug(self.names, "names")
            + each_slug(tuple(self.sources), "sources")
            + between(self.test_fraction, "test_fraction", above=0.0, below=1.0)
            + at_least(self.digits_size, "digits_size", 8)
            + at_least(self.rendered_size, "rendered_size", 8)
            + between(self.rendered_share, "rendered_share", above=0.0, below=1.000001)
        )
