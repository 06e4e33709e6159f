"""Figures of the clustering study: scores by layer, what they predict, maps, effective ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from math import comb
from statistics import median
from typing import TYPE_CHECKING

from carryover.measure.ranks import letters
from carryover.measure.statistics import smallest_signed_rank_p
from carryover.report.cluster_summary import (
    NAMES,
    ClusterScores,
    Prediction,
    by_layer,
    clustered,
    decimals,
    fractions,
)
from carryover.report.figures import COLUMN, GREY, MARKERS, below, box_plot, panels, ramp, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from carryover.report.cluster_summary import Repeats

ALPHA = 0.05  # of the letters
MINUS = "\N{MINUS SIGN}"
TITLES = {"pretrain": "source images", "finetune": "target images"}
Points = Mapping[
    tuple[str, str], Sequence[tuple[str, float, float]]
]  # (images, layer): class, x, y


def boxes(scores: ClusterScores, method: str, metric: str) -> Figure:
    """A score by layer: a panel a fraction, a box and dots over repeats.

    Source and target images stand side by side where both are there.
    """
    sets = [name for name in TITLES if any(place.images == name for place in scores.values)]
    rows = fractions(scores)
    with style():
        beside = "row" if len(sets) > 1 else False
        figure, axes = panels(len(sets) * len(rows), 2, 1.45, sharey=beside, sharex=True)
        for i, axis in enumerate(axes):
            fraction, images = rows[i // len(sets)], sets[i % len(sets)]
            layers = by_layer(scores, method, metric, images, fraction)
            _draw(axis, layers)
            head = f"{TITLES[images]}\n" if i < 2 else ""
            n = clustered(scores, method, images, fraction)
            repeats = len(next(iter(layers.values())))
            axis.set_title(f"{head}{100 * fraction:.4g} %: {n} images, {repeats} repeats", pad=24)
        fewest = min(len(of) for of in scores.values.values())
        pairs = comb(len(by_layer(scores, method, metric, sets[0], rows[0])), 2)
        needed = next(n for n in count(1) if pairs * smallest_signed_rank_p(n) < ALPHA)
        figure.supxlabel(
            below(
                "above: median, letters; box: quartiles, median; whiskers: within 1.5 box "
                "lengths; dots: repeats; dotted: chance",
                "letters: layers that share one do not differ significantly (signed ranks, Holm), "
                "the colour shows the first"
                + (f"; fewer than {needed} repeats tell none apart" if fewest < needed else ""),
            )
        )
        figure.supylabel("adjusted Rand index (1: clusters are the classes)")
        figure.suptitle(f"{scores.pair}: {NAMES[method, metric]}", fontsize=9)
        return figure


def _draw(axis: Axes, layers: Mapping[str, Repeats]) -> None:
    values = {name: [of[repeat] for repeat in sorted(of)] for name, of in layers.items()}
    found = letters(values, ALPHA)
    colours = dict(zip("fedcba", ramp(6, darkest=0.2), strict=True))
    places = range(len(values))
    drawn = box_plot(axis, list(values.values()))
    up = axis.get_xaxis_transform()
    for place, (name, box) in enumerate(zip(values, drawn["boxes"], strict=True)):
        box.set(facecolor=colours.get(found[name][0], GREY), linewidth=0.7)
        spread = [place + 0.3 + 0.05 * (i % 3 - 1) for i in range(len(values[name]))]
        axis.plot(spread, values[name], ".", color="black", markersize=2.0, alpha=0.8)
        for height, text in (
            (14, decimals(median(values[name])).replace("-", MINUS)),
            (5, found[name]),
        ):
            axis.annotate(
                text,
                (place, 1.0),
                (0, height),
                xycoords=up,
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=7,
                annotation_clip=False,
            )
    axis.axhline(0, color=GREY, linewidth=0.9, linestyle=":")
    axis.set_xticks(list(places), list(values))


def predicted(made: Sequence[Prediction], pair: str, n: int, tested: str) -> Figure:
    """Median score against mean FR accuracy, a dot a layer; a panel a score and fraction.

    Args:
        n: images that accuracies are of.
        tested: what these are: test or training images.
    """
    fractions = len({each.fraction for each in made})
    with style():
        figure, axes = panels(len(made), fractions if fractions <= 4 else 3, 1.75)
        for i, (axis, each) in enumerate(zip(axes, made, strict=True)):
            colours = ramp(len(each.layers))
            for j, (name, (score, accuracy)) in enumerate(each.layers.items()):
                axis.plot(
                    score,
                    100 * accuracy,
                    MARKERS[j % len(MARKERS)],
                    color=colours[j],
                    markersize=5.5,
                    markeredgecolor="white",
                    markeredgewidth=0.4,
                    label=name if i == 0 else None,
                )
            rho = each.correlation
            axis.set_title(
                f"{NAMES[each.method, each.metric]}\n{100 * each.fraction:.4g} %: {each.images} "
                f"images\n$\\rho$ = {rho.value:+.2f} [{rho.low:+.2f}, {rho.high:+.2f}]".replace(
                    "-", MINUS
                ),
                fontsize=7,
            )
            axis.margins(0.15)
            axis.tick_params(labelbottom=True)
            axis.locator_params(axis="x", nbins=3)
            axis.locator_params(axis="y", nbins=4)
        repeats = {each.fraction: each.repeats for each in made}
        counts = ", ".join(f"{100 * f:.4g} %: {count}" for f, count in repeats.items())
        figure.supxlabel(
            below(
                "median adjusted Rand index of the layer on target images (over repeats)",
                f"FR accuracy: of the cut that keeps the layer last (n = {n} {tested})",
                f"$\\rho$: rank correlation over layers, 95 % bootstrap over repeats ({counts})",
            )
        )
        figure.supylabel("mean FR accuracy, %")
        figure.legend(loc="outside upper center", ncols=6, title=f"{pair}: last kept layer")
        return figure


def maps(points: Points, pair: str) -> Figure:
    """t-SNE maps: a row a set of images, a column a layer, a dot an image in its class's colour."""
    from matplotlib import colormaps

    layers = list(dict.fromkeys(layer for _, layer in points))
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    with style():
        figure, axes = panels(len(points), len(layers), 1.7)
        for i, (axis, ((images, layer), dots)) in enumerate(zip(axes, points.items(), strict=True)):
            classes = sorted({name for name, _, _ in dots})
            for j, name in enumerate(classes):
                axis.scatter(
                    [x for label, x, _ in dots if label == name],
                    [y for label, _, y in dots if label == name],
                    s=9,
                    linewidths=0.3,
                    edgecolors="white",
                    color=colours[j % len(colours)],
                    marker=MARKERS[j % len(MARKERS)],
                    label=name,
                )
            axis.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
            axis.spines[:].set(visible=True, color="#c9c9c9")
            axis.set_title(layer)
            if i % len(layers) == 0:
                axis.set_ylabel(f"{TITLES[images]} (n = {len(dots)})")
            if i % len(layers) == len(layers) - 1:
                axis.legend(
                    loc="center left", bbox_to_anchor=(1, 0.5), title="class", handletextpad=0.1
                )
        figure.supxlabel(
            below(
                "t-SNE (perplexity 30) of each layer's outputs before activation, all channels; "
                "axes have no unit, distances between far groups mean nothing"
            )
        )
        figure.suptitle(pair, fontsize=8)
        return figure


def rank_bars(ranks: Mapping[str, tuple[float, float]], title: str) -> Figure:
    """Effective rank of each weight tensor beside the largest that its shape allows."""
    with style():
        figure, (axis,) = panels(1, 1, 0.25 * len(ranks) + 0.5, width=COLUMN)
        places = range(len(ranks))
        largest = [limit for _, limit in ranks.values()]
        found = [rank for rank, _ in ranks.values()]
        axis.barh(places, largest, 0.7, color="white", edgecolor=GREY, label="largest possible")
        axis.barh(places, found, 0.7, color=ramp(3)[1], label="effective rank")
        for place, rank, limit in zip(places, found, largest, strict=True):
            axis.annotate(
                f"{rank:.2f} of {limit:.0f}",
                (limit, place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
        axis.set_yticks(list(places), list(ranks))
        axis.invert_yaxis()
        axis.grid(False)
        axis.set_xlim(0, 1.35 * max(largest))
        axis.locator_params(axis="x", nbins=5)
        axis.set_xlabel("effective rank of the weights as a matrix [out, rest]")
        figure.legend(loc="outside upper center", ncols=2, title=title)
        return figure
