"""Our cells of the cut study next to the released ones, and the claims as both decide them.

Repeats are not paired: repeat 3 of ours and repeat 3 of theirs share an index, but neither weights
nor, in general, training images (another generator, another split). Welch's interval then has the
right width; where published seeding makes some images equal it is at worst wider than need be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from carryover.claims.cuts import CLAIMS, verdicts
from carryover.claims.runs import Cell, Key, gather, share
from carryover.claims.verdicts import Verdict
from carryover.errors import DataError, listed
from carryover.files import write_text
from carryover.measure.equivalence import equivalence_p, welch_difference
from carryover.measure.statistics import Interval
from carryover.report.tables import Table, markdown, percent, to_csv
from carryover.rows import Row

UNKNOWN = ("test images", "images")
MARGIN = 0.02  # two points of accuracy
IMAGES = {
    "test": "test images",
    "train": "training images of the target (those fine-tuned on among them)",
}
ALPHA = 0.05
HEADER = (
    *("pair", "setting", "fraction", "cut", "ours", "theirs", "difference", "low", "high"),
    *("equivalence_p", "reading", "repeats_ours", "repeats_theirs", "images_ours", "images_theirs"),
)

Images = Mapping[tuple[str, str], tuple[str, str]]  # by pair and setting: ours and theirs


@dataclass(frozen=True)
class Difference:
    """Test accuracy of one cell, ours and theirs.

    Attributes:
        key: pair, setting, fraction and cut.
        ours, theirs: the cells, None where there are no runs.
        interval: ours minus theirs with its 95 % interval, None with fewer than two repeats.
        p: of the equivalence test at the margin; None as above.
        reading: ``same`` (equivalent at the margin), ``different`` (the 95 % interval lies outside
            of it), ``open`` (too few repeats to tell), ``not run`` or ``not published``.
    """

    key: Key
    ours: Cell | None
    theirs: Cell | None
    interval: Interval | None
    p: float | None
    reading: str


def comparison(
    ours: Iterable[Row], theirs: Iterable[Row], margin: float = MARGIN
) -> list[Difference]:
    """Every cell of the pairs in our rows, by pair, setting, fraction and cut.

    Args:
        ours, theirs: rows; only test accuracies of the cut study count.
        margin: largest difference of two accuracies that does not matter.
    Raises:
        DataError: two values for one repeat, or a margin that is not positive.
    """
    mine, other = gather(ours), gather(theirs)
    pairs = mine.pairs()
    keys = {*mine.test, *(key for key in other.test if key.pair in pairs)}
    return [
        _difference(key, mine.test.get(key), other.test.get(key), margin) for key in sorted(keys)
    ]


def _difference(key: Key, ours: Cell | None, theirs: Cell | None, margin: float) -> Difference:
    if ours is None or theirs is None:
        reading = "not run" if ours is None else "not published"
        return Difference(key, ours, theirs, None, None, reading)
    a, b = list(ours.values.values()), list(theirs.values.values())
    if min(len(a), len(b)) < 2:
        return Difference(key, ours, theirs, None, None, "open")
    steps = (1 / ours.n, 1 / theirs.n)
    interval = welch_difference(a, b, steps=steps)
    p = equivalence_p(a, b, margin, steps)
    apart = interval.low > margin or interval.high < -margin
    reading = "same" if p < ALPHA else "different" if apart else "open"
    return Difference(key, ours, theirs, interval, p, reading)


def write(
    folder: Path,
    ours: Sequence[Row],
    theirs: Sequence[Row],
    margin: float = MARGIN,
    not_run: Sequence[str] = (),
    tested_on: str = "test",
    seeding: str = "repeat",
) -> None:
    """Write ``comparison.csv``, ``comparison.md`` and ``verdicts.md`` into a folder.

    Args:
        not_run: what of the grid is missing and what it would take, a line each.
        tested_on: part of the data set that our test accuracies are over; released rows say it.
        seeding: `cuts.seeding` of our rows. With ``purpose`` training from scratch has draws of its
            own, so that T10, which calls it the same experiment as cut 0, is not asked of them.
    Raises:
        DataError: our rows hold no test accuracy of the cut study; and as `comparison`.
    """
    found = comparison(ours, theirs, margin)
    if not found:
        raise DataError(
            f"{folder}: expected rows of the cut study to compare, got none; run its stages first"
        )
    write_text(folder / "comparison.csv", to_csv(HEADER, [_line(cell) for cell in found]))
    images = {
        (row.cell["pair"], row.item): (IMAGES[tested_on], IMAGES[row.data.split()[0]])
        for row in _tested(theirs)
    }
    tables = cell_tables(found, images)
    write_text(
        folder / "comparison.md",
        "\n".join([reading(found, margin, images), *_missing(not_run), *map(markdown, tables)]),
    )
    decided = [each for each in verdicts(ours) if seeding == "repeat" or each.claim != "T10"]
    write_text(folder / "verdicts.md", verdict_page(decided, verdicts(theirs)))


def _tested(rows: Iterable[Row]) -> list[Row]:
    """Released rows of test accuracies, whose data name the part of the set they are over."""
    return [row for row in rows if (row.study, row.split) == ("cuts", "test")]


def _missing(lines: Sequence[str]) -> list[str]:
    bullets = "\n".join(f"- {line}" for line in lines)
    return [
        f"Not run (hours: float32 on the machine of reports/bench/cuts.json):\n\n{bullets}\n"
    ] * bool(lines)


def _line(cell: Difference) -> list[object]:
    interval = cell.interval
    bounds = [interval.value, interval.low, interval.high] if interval else []
    sides = (cell.ours, cell.theirs)
    return [
        *(cell.key.pair, cell.key.setting, cell.key.fraction, cell.key.cut),
        *(round(fmean(side.values.values()), 6) if side else "" for side in sides),
        *(round(bound, 6) for bound in bounds),
        *("" for _ in range(3 - len(bounds))),
        *("" if cell.p is None else f"{cell.p:.3g}", cell.reading),
        *(len(side.values) if side else 0 for side in sides),
        *(side.n if side else "" for side in sides),
    ]


def reading(found: Sequence[Difference], margin: float, images: Images) -> str:
    """How to read the tables, and how many cells agree."""
    counts = {
        name: sum(cell.reading == name for cell in found)
        for name in ("same", "different", "open", "not run", "not published")
    }
    others = sorted(
        {
            (cell.key.pair, cell.key.setting, cell.ours.n, cell.theirs.n)
            for cell in found
            if cell.ours and cell.theirs and cell.ours.n != cell.theirs.n
        }
    )
    other = "".join(
        f"\n\nNOT the same images for {setting} on {pair}: ours {n} {mine}, theirs {m} {released}; "
        "the difference is one of images too."
        for pair, setting, n, m in others
        for mine, released in [images[pair, setting]]
    )
    return (
        "# Ours and the released results\n\nAccuracy in per cent, mean over repeats: ours / "
        "theirs, then ours minus theirs in points with Welch's 95 % interval (repeats are not "
        f"paired: equal indices share no weights). `=`: equivalent at {100 * margin:g} points by "
        "two one-sided tests at 5 %; `!`: the interval lies outside that margin; `?`: too few "
        "repeats to tell. Intervals are not adjusted for their number. One source network each: "
        "its own scatter is in every difference and in no interval.\n\n"
        f"Of {len(found)} cells "
        + ", ".join(f"{n} {name}" for name, n in counts.items() if n)
        + f".{other}\n"
    )


def cell_tables(found: Sequence[Difference], images: Images) -> list[Table]:
    """A table for each pair and setting, fraction by cut; from scratch first."""
    cells = {cell.key: cell for cell in found}
    places = dict.fromkeys(k[:2] for k in cells if k.setting != "baseline")
    return [_cell_table(cells, *place, images.get(place, UNKNOWN)) for place in places]


def _cell_table(
    cells: dict[Key, Difference], pair: str, setting: str, images: tuple[str, str]
) -> Table:
    some = [key for key in cells if key[:2] in ((pair, setting), (pair, "baseline"))]
    columns = dict.fromkeys(key[1::2] for key in sorted(some, key=lambda key: key.cut))
    lines = []
    for fraction in sorted({key.fraction for key in some}):
        row = [cells.get(Key(pair, name, fraction, cut)) for name, cut in columns]
        lines.append([share(fraction), _repeats(row), *(_text(cell) for cell in row)])
    heads = ["from scratch" if name == "baseline" else f"cut {cut}" for name, cut in columns]
    held = [cells[key] for key in some]
    counts = [
        listed(dict.fromkeys(str(cell.n) for cell in side if cell))
        for side in ([cell.ours for cell in held], [cell.theirs for cell in held])
    ]
    title = (
        f"{pair}, {setting}. Accuracy over: ours {counts[0]} {images[0]}, theirs {counts[1]} "
        f"{images[1]}."
    )
    return Table(title, ["data", "repeats", *heads], lines)


def _repeats(row: Sequence[Difference | None]) -> str:
    """``25 / 25``, ranges where cells of a line differ."""
    texts = []
    for side in ("ours", "theirs"):
        held = [getattr(cell, side) for cell in row if cell]
        counts = sorted({len(cell.values) if cell else 0 for cell in held})
        texts.append("-".join(map(str, dict.fromkeys([counts[0], counts[-1]]))))
    return " / ".join(texts)


def _text(cell: Difference | None) -> str:
    if cell is None or cell.ours is None:
        return "not run"
    mean = f"{100 * fmean(cell.ours.values.values()):.1f}"
    if cell.theirs is None:
        return f"{mean} / not published"
    both = f"{mean} / {100 * fmean(cell.theirs.values.values()):.1f}"
    if cell.interval is None:
        return f"{both} ?"
    mark = {"same": "=", "different": "!", "open": "?"}[cell.reading]
    return f"{both}, {percent(cell.interval, signed=True)} {mark}"


def verdict_page(ours: Sequence[Verdict], theirs: Sequence[Verdict]) -> str:
    """Claims as the released results and our rows decide them in Markdown, then why."""
    released = {(verdict.claim, verdict.pair): verdict for verdict in theirs}
    lines, why = [], []
    for mine in ours:
        other = released.get((mine.claim, mine.pair))
        said = other.verdict if other else "no released rows"
        places = CLAIMS[mine.claim].pairs
        mark = "*" if places and mine.pair not in places else ""
        lines.append([f"{mine.claim}{mark}", mine.pair, mine.statement, said, mine.verdict])
        why.append(f"\n## {mine.claim}, {mine.pair}: {mine.verdict}\n\n{_reasons(mine, other)}")
    pairs = dict.fromkeys(verdict.pair for verdict in ours)
    table = Table(
        f"{len({verdict.claim for verdict in ours})} claims on {listed(pairs)}, from the released "
        "results (theirs: by the estimate, the reason says `open` where its interval settles "
        "nothing) and from our rows (inconclusive where it is open). `*`: not claimed for this "
        "pair by the original. Intervals in square brackets are 95 %, n counts repeats; below: the "
        "numbers.",
        ["claim", "pair", "statement", "theirs", "ours"],
        lines,
    )
    return "".join(["# Claims of the cut study\n\n", markdown(table), *why])


def _reasons(ours: Verdict, theirs: Verdict | None) -> str:
    sides = [("Ours", ours), *([("Theirs", theirs)] if theirs else [])]
    return "".join(
        f"- {name}{f' ({side.test})' if side.test else ''}: {side.reason}.\n"
        for name, side in sides
    )
