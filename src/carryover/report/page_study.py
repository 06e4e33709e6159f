"""What the page needs to know of a study."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """A figure of a study: what it is a picture of, and what it shows."""

    alt: str
    caption: str


@dataclass(frozen=True)
class Fault:
    """One fault of an original's protocol, and what a corrected run does in its place."""

    matter: str
    published: str
    corrected: str


@dataclass(frozen=True)
class Study:
    """A study on the page.

    Attributes:
        title: its short name.
        question: one sentence.
        origin: whose claims are judged.
        figures: by file name below ``reports/STUDY``; none for a study without a report, whose
            section has claims only.
        faults: what the original's protocol does, beside what a corrected run does.
        stage: what makes its report, where it is not ``NAME-report``.
    """

    title: str
    question: str
    origin: str
    figures: dict[str, Shown]
    faults: tuple[Fault, ...]
    stage: str = ""
