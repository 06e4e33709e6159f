"""Figure of the continual study: similarity of encoders that froze all, part or none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from carryover.report.blocks import Block, key, legend, notes, nothing
from carryover.report.continual_grid import ARMS, across, blocks, heading, share_y, whole_numbers
from carryover.report.continual_scores import Number, Run, Scores, last, numbers, places
from carryover.report.figures import per_cent, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 4
LOOKS: dict[str, dict[str, Any]] = {
    "frozen and partly frozen": {"color": ARMS["partly"], "marker": "s"},
    "frozen and unfrozen": {"color": ARMS["unfrozen"], "marker": "^"},
    "partly frozen and unfrozen": {"color": "#6b3fa0", "marker": "o"},
}
WITH = ", with unfrozen"  # how the rows of a pair name its second encoder


class Point(NamedTuple):
    """CKA of one layer, with bounds over images where there are any."""

    value: float
    low: float
    high: float


Curve = dict[int, Point]  # by layer


def between(scores: Scores, pairs: Scores | None, how: str = "") -> Figure:
    """CKA of equal layers of two arms' encoders at the end; a panel a partly frozen training.

    Args:
        pairs: of partly frozen with unfrozen encoders; None where there are none.
        how: which CKA it is, ``linear, debiased``.
    """
    known = {
        run: curves
        for run in (pairs.numbers if pairs else ())
        if pairs and (curves := _curves(scores, pairs, run))
    }
    if not pairs or not known:
        return nothing("no partly frozen encoder that an unfrozen one was trained like")
    with style():
        groups = places(known)
        columns = across((len(members) for members in groups.values()), MOST)
        figure, made = blocks(
            [
                Block(heading(members[0]), [_named(run) for run in members])
                for members in groups.values()
            ],
            columns,
            0.9,
        )
        for axes, members in zip(made, groups.values(), strict=True):
            share_y(axes, columns)
            for axis, run in zip(axes, members, strict=True):
                for name, curve in known[run].items():
                    _line(axis, curve, LOOKS[name])
                axis.yaxis.set_major_formatter(per_cent())
                whole_numbers(axis, 6)
            low, high = axes[0].get_ylim()
            axes[0].set_ylim(min(low, 0.9), max(1.005, high))
        used = {name for curves in known.values() for name in curves}
        legend(
            figure, [key(n, linewidth=0.9, markersize=4, **LOOKS[n]) for n in LOOKS if n in used]
        )
        counts = sorted({each.n for run in known for each in _numbers(pairs, run)})
        said = f"CKA{f' ({how})' if how else ''} of equal layers after the stream"
        notes(
            figure,
            "layer, from the input",
            f"{said}, same images, same first seed; the frozen encoder is the one as loaded",
            f"bands: 95 % interval over images (bootstrap); n = {' or '.join(map(str, counts))} "
            "test images; 1 seed",
        )
        figure.supylabel("CKA, %")
        return figure


def _named(run: Run) -> str:
    return f"{run.rest.removesuffix(WITH).removeprefix('freeze ')}, {run.strategy}"


def _numbers(pairs: Scores, run: Run) -> list[Number]:
    every = numbers(pairs, run, "test", "cka_between").values()
    return [each for values in every for each in values.values()]


def _curves(scores: Scores, pairs: Scores, run: Run) -> dict[str, Curve]:
    """The three comparisons of one training; those there are no rows of are left out."""
    partly = run._replace(rest=run.rest.removesuffix(WITH))
    unfrozen = run._replace(item="unfrozen", rest="")
    found = {
        "frozen and partly frozen": _own(scores, partly),
        "frozen and unfrozen": _own(scores, unfrozen),
        "partly frozen and unfrozen": _curve(pairs, run, "cka_between", None),
    }
    return {name: curve for name, curve in found.items() if curve}


def _own(scores: Scores, run: Run) -> Curve:
    """Of an arm's encoder with the one as loaded, at the end."""
    if run not in scores.numbers:
        return {}
    return _curve(scores, run, "cka", last(scores, run))


def _curve(scores: Scores, run: Run, metric: str, time: int | None) -> Curve:
    """The first seed's values of equal layers at one time."""
    bounds = {
        name: {at.layer: values for at, values in every.items() if at.experience == time}
        for name in ("low", "high")
        if (every := numbers(scores, run, "test", f"{metric}_{name}"))
    }
    found = {}
    for at, values in numbers(scores, run, "test", metric).items():
        if at.experience == time and at.layer is not None and at.other in (None, at.layer):
            seed, number = next(iter(values.items()))
            known = [bounds.get(name, {}).get(at.layer, {}) for name in ("low", "high")]
            low, high = (each[seed].value if seed in each else number.value for each in known)
            found[at.layer] = Point(number.value, low, high)
    return found


def _line(axis: Axes, curve: Curve, looks: dict[str, Any]) -> None:
    layers = list(curve)
    values = [point.value for point in curve.values()]
    axis.plot(layers, values, linewidth=0.9, markersize=2.6, markeredgewidth=0, **looks)
    axis.fill_between(
        layers,
        [point.low for point in curve.values()],
        [point.high for point in curve.values()],
        color=looks["color"],
        alpha=0.15,
        linewidth=0,
    )
