"""Mean accuracy over fraction and cut: a heat map of what was measured, a surface between."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from carryover.errors import DataError
from carryover.report.cut_scores import TITLES, CutScores, columns, cuts, repeats, share
from carryover.report.figures import below, counts_note, fraction_axis, panels, per_cent, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = 100  # of the surface's grid in each direction


def heat_map(scores: CutScores, settings: Sequence[str]) -> Figure:
    """Mean accuracy in every cell; a panel a setting, one colour scale for all."""
    with style():
        fractions = list(scores.images)
        means = [
            np.array([[fmean(v) for v in columns(scores, s, f).values()] for f in fractions])
            for s in settings
        ]
        low, high = min(float(m.min()) for m in means), max(float(m.max()) for m in means)
        figure, axes = panels(len(settings), 2, 0.5 + 0.24 * len(fractions), sharey=True)
        for axis, setting, mean in zip(axes, settings, means, strict=True):
            image = axis.imshow(mean, cmap="viridis", vmin=low, vmax=high, aspect="auto")
            for (row, column), value in np.ndenumerate(mean):
                dark = value < low + 0.55 * (high - low)
                axis.text(
                    column,
                    row,
                    f"{100 * value:.1f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if dark else "black",
                )
            axis.grid(visible=False)
            axis.spines[:].set_visible(False)
            axis.tick_params(length=0)
            axis.set_xticks(range(mean.shape[1]), ["scr", *map(str, cuts(scores, setting))])
            axis.set_yticks(
                range(len(fractions)), [f"{share(f)} ({scores.images[f]})" for f in fractions]
            )
            axis.set_title(TITLES[setting])
        figure.colorbar(
            image,
            ax=axes,
            label=f"mean {scores.measured}, %",
            shrink=0.8,
            aspect=30,
            format=per_cent(),
        )
        several = ", ".join(f"{repeats(scores, f)} at {share(f)}" for f in fractions)
        figure.supxlabel(
            below(
                "cut: first convolutions kept; scr: from scratch",
                f"repeats: {several}; n = {scores.n} images",
            )
        )
        figure.supylabel("share (training images)")
        figure.suptitle(scores.pair, fontsize=8)
        return figure


def surface(scores: CutScores, settings: Sequence[str]) -> Figure:
    """Mean accuracy over fraction and cut, cubic between the measured points; a panel a setting."""
    from matplotlib.ticker import MaxNLocator

    with style():
        fractions = list(scores.images)
        grids: list[Any] = []
        for setting in settings:
            found = cuts(scores, setting)
            mean = np.array(
                [[fmean(scores.values[setting, f, cut]) for cut in found] for f in fractions]
            )
            grids.append(interpolated(np.log10(fractions), np.array(found, dtype=float), mean))
        heights = np.concatenate([grid[2].ravel() for grid in grids])
        levels = MaxNLocator(12).tick_values(heights.min(), heights.max())
        figure, axes = panels(len(settings), 2, 2.0, sharex=True, sharey=True)
        for axis, setting, (x, y, z) in zip(axes, settings, grids, strict=True):
            filled = axis.contourf(10**x, y, z.T, levels=levels, cmap="viridis", antialiased=True)
            filled.set(edgecolor="white", linewidth=0.3)
            fraction_axis(axis, fractions)
            places = [(f, cut) for f in fractions for cut in cuts(scores, setting)]
            axis.plot(
                [f for f, _ in places],
                [cut for _, cut in places],
                "o",
                markersize=3,
                markerfacecolor="white",
                markeredgecolor="black",
                markeredgewidth=0.6,
                clip_on=False,
                zorder=3,  # above the axes' lines
            )
            axis.set_yticks(cuts(scores, setting))
            axis.grid(visible=False)
            axis.set_title(TITLES[setting])
        figure.colorbar(
            filled,
            ax=axes,
            label=f"mean {scores.measured}, %",
            shrink=0.8,
            aspect=30,
            format=per_cent(),
        )
        counts = counts_note(scores.images, {f: repeats(scores, f) for f in fractions})
        figure.supxlabel(
            below(
                "share of the target training images (%)",
                "circles: measured; between them cubic interpolation without new extremes (only "
                f"whole cuts exist); {counts}; n = {scores.n} images",
            )
        )
        figure.supylabel("cut: first convolutions kept")
        figure.suptitle(scores.pair, fontsize=8)
        return figure


def interpolated(
    x: Float[np.ndarray, " f"], y: Float[np.ndarray, " k"], values: Float[np.ndarray, "f k"]
) -> tuple[Float[np.ndarray, " g"], Float[np.ndarray, " g"], Float[np.ndarray, "g g"]]:
    """A fine grid through values on a coarse one, by monotone cubic pieces along y, then along x.

    It meets the measured values and has no peak or hollow between them that they do not have.

    Args:
        x, y: places of the rows and columns of `values`, ascending.
    Raises:
        DataError: fewer than two rows or columns.
    Source: Fritsch and Butland 1984, as in ``scipy.interpolate.PchipInterpolator``.
    """
    from scipy.interpolate import PchipInterpolator

    if min(values.shape) < 2:
        raise DataError(
            f"expected two or more fractions and cuts to draw a surface, got {values.shape[0]} "
            f"and {values.shape[1]}; leave the surface out"
        )
    fine_x, fine_y = (np.linspace(axis[0], axis[-1], LINES) for axis in (x, y))
    along_y = PchipInterpolator(y, values, axis=1)(fine_y)
    return fine_x, fine_y, PchipInterpolator(x, along_y, axis=0)(fine_x)
