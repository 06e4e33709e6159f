"""Tables of the continual study: a line an arm, protocol and strategy."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from carryover.measure.statistics import Interval
from carryover.report import continual_intervals, continual_published
from carryover.report.cells import DASH, bounds, in_parts, told_p, told_percent
from carryover.report.continual_gains import Gain
from carryover.report.continual_scores import (
    FEATURES,
    At,
    Run,
    Scores,
    chance,
    last,
    numbers,
    runs,
    seeds,
    variant,
)
from carryover.report.tables import Table, percent, to_csv

KEYS = ("stream", "protocol", "trains", "head", "strategy")
ENDS = {  # measures of the whole stream
    "average_accuracy": "average",
    "forgetting": "forgetting",
    "backward_transfer": "BWT",
    "forward_transfer": "FWT",
    "stream_forgetting": "stream forgetting",
}
TRAINING = {
    "train_accuracy_current": "train, current",
    "train_accuracy_replayed": "train, replayed",
    "train_accuracy": "train, all shown",
}
OVER = {  # what intervals of differences are over
    "seeds, images": "seeds and test images, paired by both",
    "seeds": "seeds on the same test images, paired (what other images would change is not in it)",
    "images": "test images, paired (1 seed)",
    "images, unpaired": "test images (1 seed), as if on different ones, which is too wide",
}
WIDE = 5  # columns of numbers beside the keys, on paper


def results(scores: Scores) -> Table:
    """One line a run: the end of the stream, what training said, and what it was made from."""
    header = [*KEYS, "accuracy", "chance", *ENDS.values(), *TRAINING.values()]
    lines = []
    for run in runs(scores):
        end = continual_intervals.accuracy(scores, run, last(scores, run))
        guess = chance(scores, run)
        cells = ["" if end is None else percent(end), "" if guess is None else f"{100 * guess:.1f}"]
        cells += [_told(continual_intervals.end(scores, run, metric), metric) for metric in ENDS]
        cells += [_plain(continual_intervals.mean(scores, run, "train", m)) for m in TRAINING]
        lines.append([*keys(run), *cells, *_made(scores, run)])
    title = (
        f"Preset {scores.preset}: after the last experience, per cent; accuracy on all test images "
        f"of the stream with its 95 % interval over {_over(scores)}. Forgetting and transfer with "
        "theirs over seeds; stream forgetting is Avalanche's. Training accuracies are of the last "
        "epoch while it trained. One class, diverged: share of seeds that name one class for all "
        "test images, and whose loss was not finite."
    )
    return Table(title, [*header, "one class", "diverged", "lr", "test images", "seeds"], lines)


def keys(run: Run) -> list[str]:
    """The columns that tell runs apart."""
    head = f"{variant(run)} ({run.encoder})" if run.encoder else variant(run)
    return [run.stream, run.protocol, run.item, head, run.strategy]


def _made(scores: Scores, run: Run) -> list[str]:
    """One class, diverged, learning rate, test images and seeds."""
    constant = continual_intervals.mean(scores, run, "test", "is_constant")
    diverged = continual_intervals.mean(scores, run, "train", "diverged")
    rate = continual_intervals.mean(scores, run, "train", "lr")
    return [
        DASH if constant is None else f"{constant:.2g}",
        DASH if diverged is None else f"{diverged:.2g}",
        DASH if rate is None else f"{rate:.4g}",
        str(_images(scores, run)),
        str(len(seeds(scores, run))),
    ]


def _images(scores: Scores, run: Run) -> int:
    final = list(numbers(scores, run, "test", "accuracy").values())[-1]
    return max(each.n for each in final.values())


def _told(found: Interval | None, metric: str) -> str:
    """In per cent, with bounds where there are any; a change has its sign."""
    return told_percent(found, signed=metric not in ("accuracy", "average_accuracy"))


def _plain(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}"


def _over(scores: Scores) -> str:
    return continual_intervals.over(scores, runs(scores))


def differences(scores: Scores, found: Sequence[Gain], axis: str) -> Table:
    """Accuracy at the end minus that of the frozen encoder, or of naive training."""
    other = "the frozen encoder" if axis == "item" else "naive training"
    shown = [gain for gain in found if gain.axis == axis]
    over = [OVER[name] for name in OVER if any(gain.over == name for gain in shown)]
    return Table(
        f"Preset {scores.preset}: accuracy at the end minus that of {other}, all else equal; "
        f"points with the 95 % interval, which is over {'; or over '.join(over)}. p: after Holm's "
        "correction over this table.",
        [*KEYS, "difference", "p", "interval over"],
        [
            [
                *keys(gain.run),
                percent(gain.difference, signed=True),
                told_p(gain.p_holm),
                gain.over,
            ]
            for gain in shown
        ],
    )


def logistic(scores: Scores, published: Scores) -> Table:
    """Logistic regression on features, ours and the original's; nothing of an encoder trains."""
    lines = []
    for name, origin in (("ours", scores), ("published", published)):
        for run, found in origin.numbers.items():
            if run.item == FEATURES:
                for (split, metric), every in found.items():
                    values = [list(values.values()) for values in every.values()][-1]
                    told = continual_intervals.of(origin, run, split, metric, list(every)[-1])
                    if metric == "accuracy" and told:
                        place = [name, run.stream, run.encoder, run.features, split]
                        lines.append([*place, _told(told, metric), str(values[0].n)])
    title = (
        "Logistic regression on features of the encoder as loaded, accuracy in per cent with its "
        "95 % interval over images. A probe with labelled images, not zero-shot."
    )
    return Table(
        title, ["origin", "data", "encoder", "features", "images of", "accuracy", "n"], lines
    )


def beside(scores: Scores, published: Scores) -> Table:
    """Ours and the original's after every experience, where stream, arm and strategy are the same.

    Encoder and protocol faults may differ: the title says what ours are.
    """
    lines = []
    for run in runs(scores):
        other = continual_published.beside(published, scores, run)
        for time in range(last(scores, run) + 1) if other else ():
            cells = []
            for origin, each in ((scores, run), (published, other)):
                test = continual_intervals.accuracy(origin, each, time) if each else None
                train = numbers(origin, each, "train", "train_accuracy") if each else {}
                seen = train.get(At(time), {})
                shown = fmean(n.value for n in seen.values()) if seen else None
                cells += [DASH if test is None else percent(test), _plain(shown)]
            lines.append([*keys(run), str(time), *cells])
    title = (
        f"Preset {scores.preset} beside the original's logs (flava-full unless named; one run, "
        "interval over images): accuracy after each experience on test images, and in the last "
        "epoch on the images shown, per cent."
    )
    names = ["ours, test", "ours, training", "published, test", "published, training"]
    return Table(title, [*KEYS, "experience", *names], lines)


def for_paper(table: Table) -> list[Table]:
    """The table in parts as wide as a page; the columns that tell its lines apart are in each."""
    own = [i for i, name in enumerate(table.header) if name in (*KEYS, "experience")]
    return in_parts(table, own, WIDE if own else len(table.header))


# --- CSV ---------------------------------------------------------------------------------------


def results_csv(every: Sequence[Scores]) -> str:
    """Lines of `results` as plain numbers in 0..1, of several presets below each other."""
    header = ["preset", "stream", "protocol", "item", "encoder", "features", "head", "rest"]
    header += ["strategy", "seeds", "test_images", "experiences", "chance"]
    for name in ("accuracy", *ENDS):
        header += [name, f"{name}_low", f"{name}_high"]
    header += [*TRAINING, "loss", "is_constant", "diverged", "lr", "updates", "trained_parameters"]
    lines: list[list[object]] = []
    for scores in every:
        for run in runs(scores):
            guess = chance(scores, run)
            line: list[object] = [scores.preset, *run]
            line += [len(seeds(scores, run)), _images(scores, run), last(scores, run) + 1]
            line += ["" if guess is None else round(guess, 6)]
            line += bounds(continual_intervals.accuracy(scores, run, last(scores, run)))
            for metric in ENDS:
                line += bounds(continual_intervals.end(scores, run, metric))
            for split, metric in (
                *(("train", name) for name in (*TRAINING, "loss")),
                ("test", "is_constant"),
                *(("train", name) for name in ("diverged", "lr", "updates", "trained_parameters")),
            ):
                value = continual_intervals.mean(scores, run, split, metric)
                line.append("" if value is None else round(value, 6))
            lines.append(line)
    return to_csv(header, lines)
