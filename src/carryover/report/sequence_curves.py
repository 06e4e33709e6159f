"""Line plots of the sequence study: accuracy by share of tuned weights, and over updates."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carryover.measure.statistics import Interval
from carryover.report.adapt_intervals import Outcome
from carryover.report.blocks import Block, across, blocks, key, legend, notes, nothing, reach
from carryover.report.figures import per_cent, ramp, style
from carryover.report.sequence_grid import families, look, method_keys
from carryover.report.sequence_intervals import told
from carryover.report.sequence_scores import At, BySeed, Run, Scores, by_order, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = ("mixed_accuracy", "accuracy_on_the_way")
KINDS: dict[str, dict[str, Any]] = {
    "trained": {"linestyle": "-", "marker": "o"},
    "not trained": {"linestyle": "--", "marker": "s"},
}
MOST = 3  # panels in a row


def mixing(scores: Scores) -> Figure:
    """Accuracy on trained and on other sets by the share of the tuned weights; a panel a method."""
    known = [run for run in scores.numbers if _mixed(scores, run)]
    if not known:
        return nothing("no tests of mixed weights")
    groups = by_order(known)
    times = sorted({after for run in known for after, _ in _mixed(scores, run)})
    colours = dict(zip(times, ramp(len(times), 0.1), strict=True))
    with style():
        columns = across(map(len, groups.values()), MOST)
        figure, made = blocks(
            [Block(f"order {order}", [run.name for run in each]) for order, each in groups.items()],
            columns,
            [1.9] * len(groups),
        )
        for axis, run in _each(made, groups.values()):
            for (after, kind), curve in _mixed(scores, run).items():
                looks = KINDS[kind] | {"color": colours[after]}
                _line(axis, list(curve), list(curve.values()), looks)
            axis.set_ylim(bottom=0)
            axis.yaxis.set_major_formatter(per_cent())
        legend(
            figure,
            [
                *(
                    key(f"sets {name}", color="black", markersize=4, **k)
                    for name, k in KINDS.items()
                ),
                *(key(f"after {time} sets", color=c, linewidth=2) for time, c in colours.items()),
            ],
        )
        figure.supylabel("mean accuracy, %")
        notes(
            figure,
            "mix: share of the tuned weights, 0 the start, 1 as trained",
            f"bars: 95 % interval over {_over(scores, known)}; "
            "the mix is shown, not chosen, on test images",
        )
        return figure


def _over(scores: Scores, known: Iterable[Run]) -> str:
    """What intervals are over."""
    counts = sorted({len(each) for run in known for each in _values(scores, run)})
    several = f"test images and {' or '.join(map(str, counts))} seeds"
    return "test images (1 seed)" if counts == [1] else several


def _values(scores: Scores, run: Run) -> list[BySeed]:
    return [
        found
        for metric in METRICS
        for at, found in numbers(scores, run, "test", metric).items()
        if at.mix is not None or at.step is not None
    ]


def _mixed(scores: Scores, run: Run) -> dict[tuple[int, str], dict[float, Interval]]:
    """Mean accuracy by sets trained, kind of set, and mix."""
    found: dict[tuple[int, str], dict[float, list[BySeed]]] = {}
    last = len(scores.orders.get(run.order, ()))
    for metric in METRICS:
        for at, seeds in numbers(scores, run, "test", metric).items():
            if at.mix is not None:
                after = last if at.after is None else at.after
                kind = "trained" if at.task is not None and at.task <= after else "not trained"
                found.setdefault((after, kind), {}).setdefault(at.mix, []).append(seeds)
    return {
        (after, kind): {mix: _mean(sets) for mix, sets in sorted(found[after, kind].items())}
        for after in sorted({after for after, _ in found})
        for kind in KINDS
        if (after, kind) in found
    }


def _mean(sets: Sequence[BySeed]) -> Interval:
    """Mean over sets, over test images and the seeds that all of them have."""
    shared = sorted(set.intersection(*(set(each) for each in sets)))
    return told(
        [
            [(Outcome(*each[seed], f"set {i}"), 1 / len(sets)) for i, each in enumerate(sets)]
            for seed in shared
        ]
    )


def steps(scores: Scores) -> Figure:
    """Accuracy on each set over the updates of all sets; one line a method."""
    known = [run for run in scores.numbers if _over_steps(scores, run)]
    if not known:
        return nothing("no tests between the ends of sets")
    shown = [
        (order, name, found)
        for order, every in by_order(known).items()
        for name, found in families(every)
    ]
    with style():
        sets = [_sets(scores, found) for _, _, found in shown]
        columns = across(map(len, sets), MOST)
        figure, made = blocks(
            [
                Block(f"order {order}" + (f": {name}" if name else ""), names)
                for (order, name, _), names in zip(shown, sets, strict=True)
            ],
            columns,
            [1.55] * len(shown),
        )
        for axes, names, (_, _, found) in zip(made, sets, shown, strict=True):
            for axis, name in zip(axes, names, strict=True):
                _panel(axis, scores, found, name)
        legend(figure, method_keys(run for *_, found in shown for run in found))
        figure.supylabel("accuracy, %")
        notes(
            figure,
            "updates since the start; grey: while the panel's own set trains",
            f"bands: 95 % interval over {_over(scores, known)}",
        )
        return figure


def _sets(scores: Scores, found: Iterable[Run]) -> list[str]:
    """Sets that are tested on the way, those of the order first."""
    found = list(found)
    names = {at.dataset or "" for run in found for at, _ in _on_the_way(scores, run)}
    known = [name for name in scores.orders.get(found[0].order, ()) if name in names]
    return [*known, *sorted(names - set(known))]


def _on_the_way(scores: Scores, run: Run) -> list[tuple[At, BySeed]]:
    return [
        (at, found)
        for metric in METRICS
        for at, found in numbers(scores, run, "test", metric).items()
        if at.step is not None and at.mix is None
    ]


def _over_steps(scores: Scores, run: Run) -> dict[str, dict[float, Interval]]:
    """Accuracy by set and updates since the start."""
    begun = _starts(scores, run)
    found: dict[str, dict[float, Interval]] = {}
    for at, seeds in _on_the_way(scores, run):
        place = begun[at.after or 0] + (at.step or 0)
        found.setdefault(at.dataset or "", {})[place] = _mean([seeds])
    return {name: dict(sorted(curve.items())) for name, curve in found.items()}


def _starts(scores: Scores, run: Run) -> dict[int, float]:
    """Updates before the training that each count of sets is of."""
    times = sorted({at.after or 0 for at, _ in _on_the_way(scores, run)})
    return dict(zip(times, _bounds(scores, run), strict=False))


def _bounds(scores: Scores, run: Run) -> list[float]:
    """Updates since the start at which each set's training begins, and at which the last ends."""
    longest: dict[int, int] = {}
    for at, _ in _on_the_way(scores, run):
        longest[at.after or 0] = max(longest.get(at.after or 0, 0), at.step or 0)
    return [0.0, *map(float, itertools.accumulate(longest[time] for time in sorted(longest)))]


def _panel(axis: Axes, scores: Scores, found: Sequence[Run], name: str) -> None:
    for run in found:
        curve = _over_steps(scores, run).get(name, {})
        looks = look(run.method) | {"markersize": 2.4, "markeredgewidth": 0}
        values = list(curve.values())
        axis.plot(list(curve), [each.value for each in values], linewidth=0.8, **looks)
        axis.fill_between(
            list(curve),
            [each.low for each in values],
            [each.high for each in values],
            color=looks["color"],
            alpha=0.12,
            linewidth=0,
        )
    sets = scores.orders.get(found[0].order, ())
    bounds = _bounds(scores, found[0])
    if name in sets and sets.index(name) + 1 < len(bounds):
        place = sets.index(name)
        axis.axvspan(bounds[place], bounds[place + 1], color="#ececec", linewidth=0, zorder=0)
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(per_cent())


def _each(
    made: Sequence[Sequence[Axes]], groups: Iterable[Sequence[Run]]
) -> Iterable[tuple[Axes, Run]]:
    for axes, found in zip(made, groups, strict=True):
        yield from zip(axes, found, strict=True)


def _line(
    axis: Axes, places: Sequence[float], values: Sequence[Interval], looks: Mapping[str, Any]
) -> None:
    axis.errorbar(
        places,
        [each.value for each in values],
        yerr=reach(values),
        linewidth=0.9,
        elinewidth=0.7,
        **{"markersize": 3.2, "markeredgewidth": 0} | dict(looks),
    )
