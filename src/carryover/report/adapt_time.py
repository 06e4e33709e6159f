"""Seconds that an epoch of each way of adapting takes, as measured by the benchmark."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from carryover.errors import DataError
from carryover.report.figures import COLUMN, below, panels, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


WHOLE = ", in all"  # ends the name of a method without epochs: its seconds are those until done


@dataclass(frozen=True)
class Timed:
    """Epochs of each method.

    Attributes:
        seconds: of each turn, by method.
        images: training images of an epoch, by method; 0 where none trains.
        machine, what: in words; what was adapted to what.
    """

    seconds: dict[str, list[float]]
    images: dict[str, int]
    machine: str
    what: str


def read(path: Path) -> Timed:
    """Times of ``{"methods": {NAME: {"seconds_per_epoch": [...], "images": N}}, "machine": TEXT}``.

    Raises:
        DataError: no such file, another form, or a method without turns.
    """
    try:
        found = json.loads(path.read_text())
        methods = found["methods"]
        timed = Timed(
            seconds={
                name: [float(s) for s in m["seconds_per_epoch"]] for name, m in methods.items()
            },
            images={name: int(m["images"]) for name, m in methods.items()},
            machine=str(found["machine"]),
            what=f"{found['encoder']} adapted to {found['dataset']}",
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: expected seconds_per_epoch and images of each method, and the machine, got "
            f"{error!r}; run `make bench`"
        ) from error
    if not timed.seconds or not all(timed.seconds.values()):
        raise DataError(f"{path}: expected one turn or more of each method; run `make bench`")
    return timed


def time(timed: Timed) -> Figure:
    """Median seconds of an epoch, from the fastest turn to the slowest, a line a method."""
    names = sorted(timed.seconds, key=lambda name: median(timed.seconds[name]))
    with style():
        figure, (axis,) = panels(1, 1, 0.21 * len(names) + 0.4, width=COLUMN)
        for place, name in enumerate(names):
            turns = timed.seconds[name]
            middle = median(turns)
            axis.plot([min(turns), max(turns)], [place, place], color="#0072b2", linewidth=1.4)
            axis.plot(middle, place, "o", color="#0072b2", markersize=4)
            axis.annotate(
                f"{middle:.2g} s",
                (max(turns), place),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        low = min(min(turns) for turns in timed.seconds.values())
        high = max(max(turns) for turns in timed.seconds.values())
        axis.set_xlim(low / 1.6, high * max(2.5, (high / low) ** 0.3))
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(-0.6, len(names) - 0.4)
        axis.grid(axis="x")
        sizes = sorted(set(timed.images.values()) - {0})
        counts = sorted({len(turns) for turns in timed.seconds.values()})
        figure.supxlabel(
            below(
                "seconds an epoch (logarithmic)",
                f"dot: median of {_range(counts)} turns, line: fastest to slowest; "
                f"n = {_range(sizes)} images an epoch"
                + ("; in all: without epochs" if any(n.endswith(WHOLE) for n in names) else ""),
                f"{timed.what}; {timed.machine}",
                width=COLUMN,
            )
        )
        return figure


def _range(counts: list[int]) -> str:
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
